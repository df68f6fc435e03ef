//! Snapshots of a database's contents, to tell whether a request changed anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_postgres::Client;

use super::TestApp;

/// The digest of the rows of each control-plane table, and the names of all schemas.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    tables: BTreeMap<String, (i64, String)>,
    schemas: BTreeSet<String>,
}

impl Snapshot {
    pub async fn of(app: &TestApp) -> Self {
        Self::take(&app.sql().await).await
    }

    pub async fn take(sql: &Client) -> Self {
        let names = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'audit_heads'";
        let mut tables = BTreeMap::new();
        for row in sql.query(names, &[]).await.expect("tables can be listed") {
            let name: String = row.get(0);
            // Left out: `last_used_at`, which any request with a token may update, and what the server adds to audit
            // events when it seals them, a moment after they are written.
            let rows = format!(
                "SELECT count(*), md5(coalesce(string_agg(r, E'\\n' ORDER BY r), ''))
                   FROM (SELECT (to_jsonb(t) - '{{last_used_at,position,seal}}'::text[])::text AS r FROM public.{name} t) rows"
            );
            let row = sql.query_one(&rows, &[]).await.expect("a table can be read");
            tables.insert(name, (row.get(0), row.get(1)));
        }
        let schemas = sql.query("SELECT nspname::text FROM pg_namespace", &[]).await;
        let schemas = schemas.expect("schemas can be listed");
        // `pg_temp_N` and `pg_toast_temp_N`: the server creates them when a session first needs them.
        let is_kept = |name: &String| !name.starts_with("pg_t");
        Self { tables, schemas: schemas.iter().map(|row| row.get(0)).filter(is_kept).collect() }
    }

    /// Returns the number of rows of a control-plane table.
    pub fn count(&self, table: &str) -> i64 {
        self.tables.get(table).unwrap_or_else(|| panic!("there is no table {table}")).0
    }

    /// Returns the names of the tables that differ, and of the schemas that were added or removed.
    pub fn changed_since(&self, before: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.tables.keys().chain(before.tables.keys()).collect();
        let differs = |name: &&String| self.tables.get(*name) != before.tables.get(*name);
        let tables = names.into_iter().filter(differs).cloned();
        tables.chain(self.schemas.symmetric_difference(&before.schemas).cloned()).collect()
    }

    /// Returns the number of tenant schemas.
    pub fn tenant_schemas(&self) -> usize {
        self.schemas.iter().filter(|name| name.starts_with("tenant_")).count()
    }
}

/// The tenant roles on which no object of any database depends.
///
/// Roles belong to the server, and other tests create and drop theirs at the same time. Only a role that
/// is new and stays is therefore a leftover.
pub struct StrayRoles(BTreeSet<String>);

impl StrayRoles {
    pub async fn of(app: &TestApp) -> Self {
        Self(stray_roles(&app.sql().await).await)
    }

    /// Fails if there is a stray role that was not there before.
    pub async fn assert_no_more(&self, app: &TestApp) {
        let sql = app.sql().await;
        let mut left = &stray_roles(&sql).await - &self.0;
        for _ in 0..100 {
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            left = &left & &stray_roles(&sql).await;
        }
        panic!("roles were left over: {left:?}");
    }
}

async fn stray_roles(sql: &Client) -> BTreeSet<String> {
    let rows = sql
        .query(
            r"SELECT rolname::text
                FROM pg_roles r
               WHERE rolname ~ '^tenant_[0-9a-f]{32}$'
                 AND NOT EXISTS (SELECT FROM pg_shdepend d
                                  WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.dbid <> 0)",
            &[],
        )
        .await;
    rows.expect("roles can be listed").iter().map(|row| row.get(0)).collect()
}
