//! Copies the rows of a tenant into a schema that the same transaction has built. The server alone reads and writes them.

use time::OffsetDateTime;

use crate::domain::Access;
use crate::domain::archive::SequenceState;
use crate::domain::error::Result;
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::Applied;
use crate::pg::db::Db;
use crate::pg::error::{During, Failure};
use crate::pg::portability::copy_in::Loading;
use crate::pg::portability::rebuild;
use crate::pg::portability::snapshot::{begin_with, sequence_states};
use crate::pg::portability::tables::{Table, tables};
use crate::pg::schema::history;
use crate::pg::scope::{PublicTx, leave_schema};

/// What is copied, with its tables locked against what would rewrite them.
pub struct Source {
    /// The transaction, which sees one moment of the database and is on the control plane.
    pub tx: PublicTx,
    /// The tables, each after those that it references. The types of the tenant's own have no schema.
    pub tables: Vec<Table>,
    /// The migrations that the schema has.
    pub history: Vec<Applied>,
}

/// Begins a transaction that copies a tenant.
///
/// # Errors
/// [`Failure`]; [`Failure::RowCount`] if the tables do not stop to change.
pub async fn begin(db: &Db, schema: &SchemaName) -> Result<Source, Failure> {
    let (tx, tables) = begin_with(db, schema, Access::Write).await?;
    let history = history::read(&tx, schema).await?;
    leave_schema(&tx, &db.rules().limits).await?;
    Ok(Source { tx, tables, history })
}

impl Loading<'_> {
    /// Copies the rows of some tables, each into the one of the same name, and the state of all sequences. Returns the
    /// number of rows of each. Indexes follow the rows of each table, which are then still in the caches.
    ///
    /// # Errors
    /// The table whose rows could not be stored; the transaction is then aborted.
    pub async fn copy_from(
        &mut self,
        source: &SchemaName,
        wanted: &[&str],
        mut on_table: impl FnMut(u64) + Send,
    ) -> Result<(), (String, Failure)> {
        let of_none = |failure| (String::from("the tenant"), failure);
        // Read again: inside of the new schema, a type of the source's own has the schema in front.
        for table in tables(self.tx, source).await.map_err(of_none)? {
            let made = self.tables.iter().find(|made| made.name == table.name);
            let Some(made) = made.filter(|made| wanted.contains(&made.name.as_str())) else {
                continue;
            };
            let (statement, made) = (insert(&table, made), made.oid);
            let copied = async {
                let rows = self.tx.execute(&statement, &[]).await?;
                rebuild::make_indexes(self.tx, &mut self.dropped, made).await?;
                Ok(rows)
            };
            on_table(copied.await.map_err(|failure| (table.name, failure))?);
        }
        let states: Vec<SequenceState> = sequence_states(self.tx, source).await.map_err(of_none)?;
        self.set_sequences(&states).await.map_err(of_none)
    }
}

/// Returns the statement that copies the rows of a table. Values of types that the tenants have of their own go through
/// their text.
fn insert(from: &Table, to: &Table) -> String {
    let mut values = Vec::with_capacity(to.columns.len());
    for (column, made) in from.columns.iter().zip(&to.columns) {
        let (value, kind) = (&column.quoted, &made.kind);
        values.push(if column.kind == *kind {
            value.clone()
        } else {
            format!("{value}::text::{kind}")
        });
    }
    format!(
        "INSERT INTO {}{} OVERRIDING SYSTEM VALUE SELECT {} FROM ONLY {}",
        to.quoted,
        to.list(),
        values.join(", "),
        from.quoted
    )
}

/// Makes the members of a tenant members of another one. Returns how many there are.
pub async fn copy_members(
    tx: &PublicTx,
    from: TenantId,
    to: TenantId,
    now: OffsetDateTime,
) -> Result<u64> {
    let sql = "INSERT INTO public.memberships
                   (tenant_id, user_id, role, created_at, accepted_at, predates_acceptance)
               SELECT $2, user_id, role, $3, accepted_at, predates_acceptance
                 FROM public.memberships WHERE tenant_id = $1";
    tx.execute(sql, &[&from, &to, &now]).await.during("copy the members of a tenant")
}
