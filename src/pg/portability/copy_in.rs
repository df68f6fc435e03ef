//! Loads rows into a schema that the same transaction has built.

use time::OffsetDateTime;

use crate::domain::archive::SequenceState;
use crate::domain::names::SchemaName;
use crate::migrations::MigrationSet;
use crate::pg::error::Failure;
use crate::pg::portability::rebuild::{self, Dropped};
use crate::pg::portability::tables::{Sequence, Table, sequences, tables};
use crate::pg::rules::Rules;
use crate::pg::schema::{self, error::ApplyError};
use crate::pg::scope::copy::{RowSink, RowSource};
use crate::pg::scope::{self, PublicTx};

/// A table with more rows gets its indexes and keys after the rows.
const LARGE: i64 = 10_000;

/// The detail of the first statistics of a large table. With the usual one of 100, `ANALYZE` of a million rows takes as
/// long as to store them. The server counts the rows as changed since, and its autovacuum analyzes them in full.
const FIRST_STATISTICS: u32 = 10;

/// A schema that is being loaded.
pub struct Loading<'a> {
    pub(super) tx: &'a PublicTx,
    schema: SchemaName,
    rules: &'a Rules,
    /// The tables, as the migrations make them.
    pub tables: Vec<Table>,
    /// The sequences, as the migrations make them.
    pub sequences: Vec<Sequence>,
    /// The tables that get many rows.
    large: Vec<i64>,
    pub(super) dropped: Dropped,
}

/// Creates a schema with its role and runs a set in it, in the caller's transaction.
///
/// # Errors
/// The file that failed; the transaction is then aborted.
pub async fn build(
    tx: &PublicTx,
    name: &SchemaName,
    set: &MigrationSet,
    rules: &Rules,
    server_version: u32,
    now: OffsetDateTime,
) -> Result<(), ApplyError> {
    schema::create_with_any_role(tx, name, rules, server_version).await?;
    schema::build(tx, name, set, rules, now).await
}

impl<'a> Loading<'a> {
    /// Enters a schema that was just built and reads its tables.
    ///
    /// # Errors
    /// [`Failure`]; the transaction is then aborted.
    pub async fn enter(
        tx: &'a PublicTx,
        schema: &SchemaName,
        rules: &'a Rules,
    ) -> Result<Self, Failure> {
        scope::enter_schema(tx, schema, &rules.limits).await?;
        tx.may_take_any_time();
        tx.batch(&scope::pin()).await?;
        Ok(Self {
            tx,
            schema: schema.clone(),
            rules,
            tables: tables(tx, schema).await?,
            sequences: sequences(tx, schema).await?,
            large: Vec::new(),
            dropped: Dropped::default(),
        })
    }

    /// Empties the tables, and makes them ready for rows in this order. `estimates` tells how many rows each table, by
    /// its name, will get.
    ///
    /// # Errors
    /// [`Failure`]; the transaction is then aborted.
    pub async fn prepare(&mut self, estimates: &[(&str, i64)]) -> Result<(), Failure> {
        let find = |name: &str| self.tables.iter().find(|table| table.name == name);
        let order: Vec<i64> =
            estimates.iter().filter_map(|(name, _)| Some(find(name)?.oid)).collect();
        let large = estimates.iter().filter(|(_, rows)| *rows > LARGE);
        let large: Vec<i64> = large.filter_map(|(name, _)| Some(find(name)?.oid)).collect();
        self.dropped = rebuild::drop_some(self.tx, &self.schema, &large, &order).await?;
        self.large = large;
        if !self.tables.is_empty() {
            let all: Vec<&Table> = self.tables.iter().collect();
            // All in one statement, because they reference each other.
            self.tx.batch(&format!("TRUNCATE TABLE {}", names(&all))).await?;
        }
        Ok(())
    }

    /// Loads the rows of a table.
    ///
    /// # Errors
    /// The inner error is the source's; the transaction is then aborted.
    pub async fn load<S: RowSource>(
        &self,
        table: &Table,
        source: &mut S,
    ) -> Result<Result<u64, S::Error>, Failure> {
        self.tx.copy_from(&table.copy_in(), source).await
    }

    /// Sets the sequences.
    ///
    /// # Errors
    /// [`Failure`]; the transaction is then aborted.
    pub async fn set_sequences(&self, states: &[SequenceState]) -> Result<(), Failure> {
        for state in states {
            let found = self.sequences.iter().find(|sequence| sequence.name == state.name);
            let Some(Sequence { quoted, .. }) = found else { continue };
            self.tx
                .query(
                    "SELECT setval($1::text::regclass, $2, $3)",
                    &[quoted, &state.last_value, &state.is_called],
                )
                .await?;
        }
        Ok(())
    }

    /// Makes again what was dropped, refreshes the materialized views and counts the rows for the planner.
    ///
    /// # Errors
    /// [`Failure`], also if the rows violate a key; the transaction is then aborted.
    pub async fn finish(&mut self) -> Result<(), Failure> {
        let dropped = std::mem::take(&mut self.dropped);
        rebuild::make_again(self.tx, &self.schema, dropped).await?;
        let (large, small): (Vec<&Table>, Vec<&Table>) =
            self.tables.iter().partition(|table| self.large.contains(&table.oid));
        if !small.is_empty() {
            self.tx.batch(&format!("ANALYZE {}", names(&small))).await?;
        }
        if !large.is_empty() {
            let analyze = format!(
                "SET LOCAL default_statistics_target = {FIRST_STATISTICS}; ANALYZE {};
                 SET LOCAL default_statistics_target TO DEFAULT",
                names(&large)
            );
            self.tx.batch(&analyze).await?;
        }
        Ok(())
    }

    /// Reads the rows of a table back.
    ///
    /// # Errors
    /// The inner error is the sink's.
    pub async fn read_back<S: RowSink>(
        &self,
        table: &Table,
        sink: &mut S,
    ) -> Result<Result<(), S::Error>, Failure> {
        self.tx.copy_out(&table.copy_out(), sink).await
    }

    /// Goes back to the control plane.
    ///
    /// # Errors
    /// [`Failure`]; the transaction is then aborted.
    pub async fn leave(self) -> Result<(), Failure> {
        self.tx.batch(&scope::unpin()).await?;
        scope::leave_schema(self.tx, &self.rules.limits).await
    }
}

/// Returns the names of tables as SQL needs them.
fn names(tables: &[&Table]) -> String {
    tables.iter().map(|table| table.quoted.as_str()).collect::<Vec<_>>().join(", ")
}
