//! Restores all rows between two calls, so that each principal meets the same state.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tokio_postgres::Client;

use crate::support::bunker::schemas;

/// A copy of all rows of the control plane and of the tenants.
pub struct Saved {
    /// The statements that restore them.
    restore: String,
    /// The schemas of the tenants.
    schemas: BTreeSet<String>,
}

impl Saved {
    pub async fn of(sql: &Client) -> Self {
        let schemas = schemas(sql).await;
        let tables = "SELECT format('%I.%I', schemaname, tablename) AS name
                        FROM pg_tables
                       WHERE (schemaname = 'public' OR schemaname = ANY ($1))
                         AND tablename <> 'refinery_schema_history'";
        let tables = sql.query(tables, &[&schemas]).await.expect("tables can be listed");
        let mut save = "CREATE SCHEMA saved".to_owned();
        // In this role foreign keys are not checked, so the order of the tables does not matter. The server seals audit
        // events at any time: with the lock of the chain it waits until the rows are restored.
        let mut restore = "BEGIN; SET LOCAL session_replication_role = replica;
                           SELECT FROM public.locks WHERE name = 'audit chain' FOR UPDATE"
            .to_owned();
        for (number, row) in tables.iter().enumerate() {
            let name: &str = row.get("name");
            let _ = write!(save, "; CREATE TABLE saved.t{number} AS TABLE {name}");
            let _ =
                write!(restore, "; DELETE FROM {name}; INSERT INTO {name} TABLE saved.t{number}");
        }
        sql.batch_execute(&save).await.expect("rows can be copied");
        Self { restore: format!("{restore}; COMMIT"), schemas: schemas.into_iter().collect() }
    }

    /// Restores the rows, and drops the schemas of tenants that were made since.
    pub async fn restore(&self, sql: &Client) {
        sql.batch_execute(&self.restore).await.expect("rows can be restored");
        for schema in schemas(sql).await {
            if !self.schemas.contains(&schema) {
                let drop = format!(
                    "DROP SCHEMA {schema} CASCADE; GRANT {schema} TO CURRENT_USER; DROP OWNED BY {schema}; DROP ROLE {schema}"
                );
                sql.batch_execute(&drop).await.expect("the schema of a new tenant can be dropped");
            }
        }
    }
}
