//! Finds who has locks in a schema, to name it where a migration did not get one.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::names::SchemaName;
use crate::pg::Row;
use crate::pg::db::Db;
use crate::pg::error::Failure;

/// How many to name.
const NAMED: i64 = 3;

/// Describes the transactions that have locks on tables of the schema, the oldest first. Their statements are not told:
/// these may hold data.
///
/// # Errors
/// [`Failure`].
pub async fn find(db: &Db, schema: &SchemaName) -> Result<Vec<String>, Failure> {
    let tx = db.public().await?;
    let sql = "SELECT l.pid, a.state, a.xact_start,
                      (array_agg(DISTINCT c.relname::text ORDER BY c.relname::text))[1:3] AS tables
                 FROM pg_locks l
                 JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
                 JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'm', 'v', 'S')
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 LEFT JOIN pg_stat_activity a ON a.pid = l.pid
                WHERE n.nspname = $1 AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
                GROUP BY l.pid, a.state, a.xact_start
                ORDER BY a.xact_start, l.pid
                LIMIT $2";
    let rows = tx.query_and_commit(sql, &[&schema.as_str(), &NAMED]).await?;
    Ok(rows.iter().map(describe).collect())
}

fn describe(row: &Row) -> String {
    let tables: Vec<String> = row.get("tables");
    let tables = tables.join(", ");
    let Some(pid) = row.get::<_, Option<i32>>("pid") else {
        return format!("a prepared transaction has locks on {tables}");
    };
    let (state, since): (Option<String>, Option<OffsetDateTime>) =
        (row.get("state"), row.get("xact_start"));
    let since = since.and_then(|at| at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).ok());
    let state = match (state, since) {
        (Some(state), Some(since)) => format!(" ({state}, its transaction began at {since})"),
        _ => String::new(),
    };
    format!("server process {pid}{state} has locks on {tables}")
}
