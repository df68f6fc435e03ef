//! A snapshot of a tenant: its rows, and what the control plane knows of it, from one moment.

use time::OffsetDateTime;

use super::tables::{Sequence, Table, sequences, tables};
use crate::domain::Access;
use crate::domain::archive::SequenceState;
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::Applied;
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::schema::history;
use crate::pg::scope::PublicTx;
use crate::pg::scope::copy::RowSink;

/// How often a snapshot is begun again because migrations changed the tables meanwhile.
const TRIES: u32 = 20;

/// A snapshot. Dropped, it ends.
pub struct Snapshot {
    tx: PublicTx,
    tenant: TenantId,
    /// The tables, each after those that it references.
    pub tables: Vec<Table>,
}

/// Facts about the server and the types of a schema's columns.
#[derive(Debug)]
pub struct Facts {
    /// The version of the server.
    pub server_version: String,
    /// The encoding of the database.
    pub encoding: String,
    /// The time of the snapshot.
    pub at: OffsetDateTime,
    /// The extensions to which types of columns belong.
    pub extensions: Vec<String>,
    /// Columns that point at large objects, with their tables.
    pub large_objects: Vec<String>,
    /// Tables whose rows are on another server.
    pub foreign_tables: Vec<String>,
}

const FACTS: &str = "
    WITH relation AS (
        SELECT c.oid, c.relname, c.relkind
          FROM pg_catalog.pg_namespace n
          JOIN pg_catalog.pg_depend d
            ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
           AND d.classid = 'pg_catalog.pg_class'::regclass
          JOIN pg_catalog.pg_class c ON c.oid = d.objid
         WHERE n.nspname = $1
    )
    SELECT current_setting('server_version') AS server_version, current_setting('server_encoding') AS encoding,
           now() AS at,
           ARRAY(SELECT DISTINCT e.extname::text
                   FROM relation r
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
                   JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                   JOIN pg_catalog.pg_depend d
                     ON d.classid = 'pg_catalog.pg_type'::regclass AND d.deptype = 'e'
                    AND d.objid IN (t.oid, t.typelem)
                   JOIN pg_catalog.pg_extension e
                     ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND e.oid = d.refobjid
                  WHERE r.relkind IN ('r', 'p')
                  ORDER BY 1) AS extensions,
           ARRAY(SELECT format('%I.%I', r.relname, a.attname)
                   FROM relation r
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
                   JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                  WHERE r.relkind IN ('r', 'p') AND (t.oid = 'pg_catalog.oid'::regtype OR t.typname = 'lo')
                  ORDER BY 1) AS large_objects,
           ARRAY(SELECT quote_ident(relname) FROM relation WHERE relkind = 'f' ORDER BY 1) AS foreign_tables";

/// The audit events of a tenant, in the order in which they were written.
const AUDIT: &str = "SELECT position, at, actor, action, request_id, details \
    FROM public.audit_events WHERE tenant_id = '{tenant}' ORDER BY write_order";

/// Begins a snapshot of a tenant. A migration that rewrites a table waits until the snapshot ends, and the snapshot
/// waits for one that has begun, up to the lock timeout.
///
/// # Errors
/// [`Failure`]; [`Failure::RowCount`] if the tables do not stop to change.
pub async fn begin(db: &Db, tenant: TenantId) -> Result<Snapshot, Failure> {
    let (tx, tables) = begin_with(db, &SchemaName::of(tenant), Access::Read).await?;
    Ok(Snapshot { tx, tenant, tables })
}

/// Begins a transaction with the tables of a schema locked, and returns these tables.
pub(super) async fn begin_with(
    db: &Db,
    schema: &SchemaName,
    access: Access,
) -> Result<(PublicTx, Vec<Table>), Failure> {
    for _ in 0..TRIES {
        let listed = tables(&db.public().await?, schema).await?;
        let names: Vec<String> = listed.iter().map(|table| table.quoted.clone()).collect();
        let tx = db.snapshot(schema, &names, access).await?;
        let found = match tables(&tx, schema).await {
            Ok(found) => found,
            // A table was dropped or renamed before it was locked.
            Err(failure) if failure.is_undefined_table() => continue,
            Err(failure) => return Err(failure),
        };
        let oids = |tables: &[Table]| {
            let mut oids: Vec<i64> = tables.iter().map(|table| table.oid).collect();
            oids.sort_unstable();
            oids
        };
        if oids(&found) == oids(&listed) {
            return Ok((tx, found));
        }
    }
    Err(Failure::RowCount)
}

impl Snapshot {
    /// Returns the transaction, for statements on the control plane with qualified names.
    pub const fn tx(&self) -> &PublicTx {
        &self.tx
    }

    fn schema(&self) -> SchemaName {
        SchemaName::of(self.tenant)
    }

    /// Returns the migrations that the schema has.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn history(&self) -> Result<Vec<Applied>, Failure> {
        history::read(&self.tx, &self.schema()).await
    }

    /// Returns facts about the server and the schema.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn facts(&self) -> Result<Facts, Failure> {
        let row = self.tx.query_one(FACTS, &[&self.schema().as_str()]).await?;
        Ok(Facts {
            server_version: row.get("server_version"),
            encoding: row.get("encoding"),
            at: row.get("at"),
            extensions: row.get("extensions"),
            large_objects: row.get("large_objects"),
            foreign_tables: row.get("foreign_tables"),
        })
    }

    /// Reads the rows of a table.
    ///
    /// # Errors
    /// The inner error is the sink's.
    pub async fn copy_out<S: RowSink>(
        &self,
        table: &Table,
        sink: &mut S,
    ) -> Result<Result<(), S::Error>, Failure> {
        self.tx.copy_out(&table.copy_out(), sink).await
    }

    /// Reads the audit events of the tenant.
    ///
    /// # Errors
    /// The inner error is the sink's.
    pub async fn copy_audit<S: RowSink>(
        &self,
        sink: &mut S,
    ) -> Result<Result<(), S::Error>, Failure> {
        let query = AUDIT.replace("{tenant}", &self.tenant.to_string());
        self.tx.copy_out(&format!("COPY ({query}) TO STDOUT (FORMAT csv, HEADER)"), sink).await
    }

    /// Reads the sequences. Their values are those of now and not of the snapshot, and so not lower than any that is in
    /// a row.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn sequences(&self) -> Result<Vec<SequenceState>, Failure> {
        sequence_states(&self.tx, &self.schema()).await
    }
}

/// Reads the state of each sequence of a schema.
pub(super) async fn sequence_states(
    tx: &PublicTx,
    schema: &SchemaName,
) -> Result<Vec<SequenceState>, Failure> {
    let mut states = Vec::new();
    for Sequence { name, quoted } in sequences(tx, schema).await? {
        let state = format!("SELECT last_value, is_called FROM {quoted}");
        let row = tx.query_one(&state, &[]).await?;
        let (last_value, is_called) = (row.get("last_value"), row.get("is_called"));
        states.push(SequenceState { name, last_value, is_called });
    }
    Ok(states)
}
