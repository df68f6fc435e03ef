//! The columns that `public.archives` and `public.imports` share: work that a server does in the background.
//!
//! The server renews a lease, by the database's clock; when the lease has ended, the server is gone, and the work has
//! failed. Names are qualified, as the transaction of an import needs it.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// Why work failed whose server is gone.
pub(super) const GONE: &str = "the server that ran it is gone";

/// The code of that.
pub(super) const GONE_CODE: &str = "server_gone";

/// Work, by the row whose lease is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// An archive that is written.
    Archive(Uuid),
    /// An import.
    Import(Uuid),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// All tables, once they are known.
    pub tables: Option<i64>,
    /// Tables that are done.
    pub tables_done: i64,
    /// Rows.
    pub rows: i64,
    /// Bytes of CSV.
    pub raw_bytes: i64,
}

/// The table of one kind of work.
#[derive(Debug, Clone, Copy)]
pub(super) enum Table {
    Archives,
    Imports,
}

impl Table {
    const fn name(self) -> &'static str {
        match self {
            Self::Archives => "public.archives",
            Self::Imports => "public.imports",
        }
    }
}

impl Work {
    const fn row(self) -> (&'static str, Uuid) {
        match self {
            Self::Archive(id) => (Table::Archives.name(), id),
            Self::Import(id) => (Table::Imports.name(), id),
        }
    }
}

/// Records that the work failed whose server is gone.
pub(super) async fn fail_abandoned(
    tx: &PublicTx,
    table: Table,
    now: OffsetDateTime,
) -> Result<u64> {
    let sql = format!(
        "UPDATE {} SET state = 'failed', error_code = $1, error = $2, ended_at = $3
          WHERE state = 'running' AND lease_until <= now()",
        table.name()
    );
    tx.execute(&sql, &[&GONE_CODE, &GONE, &now]).await.during("fail abandoned work")
}

/// Renews the lease of running work and records how far it is; returns false if it runs no longer.
pub async fn renew(tx: PublicTx, work: Work, lease: Duration, progress: Progress) -> Result<bool> {
    let (table, id) = work.row();
    let sql = format!(
        "UPDATE {table} SET lease_until = now() + $2 * interval '1 second', table_count = $3, tables_done = $4,
                row_count = $5, raw_bytes = $6
          WHERE id = $1 AND state = 'running' RETURNING id"
    );
    let lease = lease.as_secs_f64();
    let Progress { tables, tables_done, rows, raw_bytes } = progress;
    let params: [&dyn crate::pg::Param; 6] =
        [&id, &lease, &tables, &tables_done, &rows, &raw_bytes];
    let rows = tx.query_and_commit(&sql, &params).await.during("renew a lease")?;
    Ok(!rows.is_empty())
}

/// Records that running work failed; returns false if it runs no longer.
pub async fn fail(
    tx: &PublicTx,
    work: Work,
    (code, why): (&str, &str),
    now: OffsetDateTime,
) -> Result<bool> {
    let (table, id) = work.row();
    let sql = format!(
        "UPDATE {table} SET state = 'failed', error_code = $2, error = $3, ended_at = $4
          WHERE id = $1 AND state = 'running'"
    );
    Ok(tx.execute(&sql, &[&id, &code, &why, &now]).await.during("record a failure")? == 1)
}

/// Cancels running work; returns false if it runs no longer. What is about to commit is waited for.
pub async fn cancel(tx: &PublicTx, work: Work, now: OffsetDateTime) -> Result<bool> {
    let (table, id) = work.row();
    let sql = format!(
        "UPDATE {table} SET state = 'cancelled', ended_at = $2
          WHERE id = $1 AND state = 'running' AND lease_until > now()"
    );
    Ok(tx.execute(&sql, &[&id, &now]).await.during("cancel background work")? == 1)
}
