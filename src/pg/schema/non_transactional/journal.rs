//! The progress of a file in one tenant: the rows of `public.migration_statements`.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::domain::names::TenantId;
use crate::migrations::digest;
use crate::migrations::statements::{Kind, Statement};
use crate::pg::Row;
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::scope::PublicTx;

/// A statement of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'a> {
    /// Its place in the file, from 1.
    pub(super) position: i32,
    pub(super) statement: &'a Statement,
    pub(super) text: &'a str,
}

/// A statement in the journal.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// Whether it is done; if not, it was started, and may have left an invalid index.
    pub(super) is_done: bool,
    /// Its digest; `None` if an older program wrote the entry.
    digest: Option<String>,
    /// Its text without literals.
    pub(super) summary: Option<String>,
    /// The index that it creates outside a transaction.
    pub(super) created_index: Option<String>,
    /// The index that it drops outside a transaction.
    pub(super) dropped_index: Option<String>,
}

impl Entry {
    /// Whether the statement's digest is known.
    pub(super) fn has_digest(&self) -> bool {
        self.digest.is_some()
    }

    /// Whether this is the statement that the entry is about. An entry of an older program has no digest, and is about
    /// the statement at its place.
    pub(super) fn is_about(&self, step: &Step<'_>) -> bool {
        self.digest.as_ref().is_none_or(|known| *known == digest::digest(step.text))
    }
}

/// The progress of a file in one tenant.
pub(super) struct Journal<'a> {
    pub(super) db: &'a Db,
    pub(super) tenant: TenantId,
    pub(super) version: i32,
    pub(super) now: OffsetDateTime,
}

impl Journal<'_> {
    /// Returns the statements that were started, by position.
    pub(super) async fn read(&self) -> Result<BTreeMap<i32, Entry>, Failure> {
        let tx = self.db.public().await?;
        let sql = "SELECT position, is_done, digest, summary, created_index, dropped_index
                     FROM migration_statements
                    WHERE tenant_id = $1 AND version = $2";
        let rows = tx.query_and_commit(sql, &[&self.tenant, &self.version]).await?;
        let entry = |row: &Row| {
            let entry = Entry {
                is_done: row.get("is_done"),
                digest: row.get("digest"),
                summary: row.get("summary"),
                created_index: row.get("created_index"),
                dropped_index: row.get("dropped_index"),
            };
            (row.get("position"), entry)
        };
        Ok(rows.iter().map(entry).collect())
    }

    /// Records that a statement starts. What was recorded of an earlier attempt stays.
    pub(super) async fn start(&self, tx: &PublicTx, step: Step<'_>) -> Result<(), Failure> {
        let (created, dropped) = match &step.statement.kind {
            Kind::CreateIndex { index } => (Some(index), None),
            Kind::DropIndex { index } => (None, Some(index)),
            Kind::Ordinary | Kind::CopyIn { .. } => (None, None),
        };
        let sql = "INSERT INTO migration_statements
                       (tenant_id, version, position, is_done, started_at, digest, summary,
                        created_index, dropped_index)
                   VALUES ($1, $2, $3, false, $4, $5, $6, $7, $8)
                   ON CONFLICT (tenant_id, version, position) DO NOTHING";
        let (digest, summary) = (digest::digest(step.text), digest::summary(step.text));
        tx.execute(
            sql,
            &[
                &self.tenant,
                &self.version,
                &step.position,
                &self.now,
                &digest,
                &summary,
                &created.cloned(),
                &dropped.cloned(),
            ],
        )
        .await
        .map(drop)
    }

    /// Records that a statement is done.
    pub(super) async fn done(&self, tx: &PublicTx, step: Step<'_>) -> Result<(), Failure> {
        let sql = "INSERT INTO migration_statements
                       (tenant_id, version, position, is_done, started_at, ended_at, digest, summary)
                   VALUES ($1, $2, $3, true, $4, $4, $5, $6)
                   ON CONFLICT (tenant_id, version, position)
                   DO UPDATE SET is_done = true, ended_at = excluded.ended_at,
                                 digest = excluded.digest, summary = excluded.summary";
        let (digest, summary) = (digest::digest(step.text), digest::summary(step.text));
        tx.execute(
            sql,
            &[&self.tenant, &self.version, &step.position, &self.now, &digest, &summary],
        )
        .await
        .map(drop)
    }

    /// Deletes the entry of a statement that was started and is known to have had no effect.
    pub(super) async fn withdraw(&self, position: i32) -> Result<(), Failure> {
        let tx = self.db.public().await?;
        let sql = "DELETE FROM migration_statements
                    WHERE tenant_id = $1 AND version = $2 AND position = $3 AND NOT is_done";
        let params: [&dyn crate::pg::scope::param::Param; 3] =
            [&self.tenant, &self.version, &position];
        tx.query_and_commit(sql, &params).await.map(drop)
    }

    /// Deletes the file's entries: from now on it is in the history.
    pub(super) async fn forget(&self, tx: &PublicTx) -> Result<(), Failure> {
        let sql = "DELETE FROM migration_statements WHERE tenant_id = $1 AND version = $2";
        tx.execute(sql, &[&self.tenant, &self.version]).await.map(drop)
    }
}
