//! Says what a transaction waited for in vain, and which transactions have locks there.
//!
//! The server reports a lock that was not granted in time without the one who has it, and afterwards the waiting
//! transaction holds nothing and waits for nothing. But a transaction that kept a lock for that long is older than the
//! wait, and few others are. It is looked for on a connection of its own, because all connections of a pool may be
//! waiting for the same lock; there is at most one, and its answer serves all who waited in the same schema.

use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::domain::names::SchemaName;
use crate::pg::connect::open::connect;
use crate::pg::error::server_message;
use crate::pg::rules::Endpoint;

/// How many transactions are named.
const NAMED: i64 = 3;

/// The longest search. The caller waits for it, after it has waited for the lock.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an answer serves others who waited in the same schema.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// Finds the transactions that have locks in a schema. One for all pools of a process.
pub(in crate::pg) struct LockHolders {
    owner: Endpoint,
    last: Mutex<Option<Found>>,
}

/// The last answer.
struct Found {
    schema: String,
    at: Instant,
    holders: Vec<String>,
}

impl LockHolders {
    /// Looks with the login of the owner.
    pub(in crate::pg) const fn new(owner: Endpoint) -> Self {
        Self { owner, last: Mutex::const_new(None) }
    }

    /// Describes a wait of this length in a schema, or in `public`: where it was, and up to three transactions that
    /// are older than the wait and have locks there, those that are most likely in the way first. Names no statement,
    /// which may hold data.
    pub(in crate::pg) async fn describe(
        &self,
        schema: Option<&SchemaName>,
        error: &tokio_postgres::Error,
        waited: Duration,
    ) -> String {
        let name = schema.map_or("public", SchemaName::as_str);
        let place = match locked_relation(error) {
            Some(relation) => format!("it waited for {relation} in {name}"),
            None => format!("it waited in {name}"),
        };
        match tokio::time::timeout(SEARCH_TIMEOUT, self.find(name, waited)).await {
            Ok(Ok(holders)) if !holders.is_empty() => format!("{place}; {}", holders.join(", ")),
            Ok(Ok(_)) => place,
            Ok(Err(error)) => {
                tracing::debug!(error, "failed to find who has a lock");
                place
            }
            Err(_elapsed) => place,
        }
    }

    async fn find(&self, schema: &str, waited: Duration) -> Result<Vec<String>, String> {
        let mut last = self.last.lock().await;
        if let Some(found) = last.as_ref()
            && found.schema == schema
            && found.at.elapsed() < FRESH_FOR
        {
            return Ok(found.holders.clone());
        }
        let client = connect(&self.owner).await.map_err(|error| error.to_string())?;
        let rows = client
            .query_typed(
                SEARCH,
                &[
                    // The lock of a schema is a row of `public.locks`.
                    (&[schema, "public"].as_slice(), Type::TEXT_ARRAY),
                    (&schema, Type::TEXT),
                    (&waited.as_secs_f64(), Type::FLOAT8),
                    (&NAMED, Type::INT8),
                ],
            )
            .await
            .map_err(|error| server_message(&error))?;
        let holders: Vec<String> = rows.iter().map(describe).collect();
        let (schema, at) = (schema.to_owned(), Instant::now());
        *last = Some(Found { schema, at, holders: holders.clone() });
        Ok(holders)
    }
}

/// Selects the transactions that have had locks on tables of these schemas for longer than this. Only the one schema
/// counts, unless none has locks there. A lock that excludes little and a transaction that waits itself come last.
const SEARCH: &str = "
    WITH holders AS (
        SELECT l.pid, a.state, a.xact_start, a.usename::text AS login, a.application_name AS application,
               n.nspname = $2 AS is_here,
               bool_and(l.mode = 'AccessShareLock') AS only_reads,
               a.wait_event_type IS NOT DISTINCT FROM 'Lock' AS waits,
               (array_agg(DISTINCT c.relname::text ORDER BY c.relname::text))[1:3] AS tables
          FROM pg_locks l
          JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
          JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'm', 'v', 'S')
          JOIN pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE n.nspname = ANY ($1) AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
           AND (a.xact_start IS NULL OR a.xact_start <= clock_timestamp() - make_interval(secs => $3))
         GROUP BY l.pid, a.state, a.xact_start, a.usename, a.application_name, a.wait_event_type, n.nspname
    )
    SELECT pid, state, xact_start, login, application, tables
      FROM holders
     WHERE is_here OR NOT EXISTS (SELECT FROM holders WHERE is_here)
     ORDER BY only_reads, waits, xact_start, pid
     LIMIT $4";

/// Returns the table in whose row the server waited, if it says so; in English only.
fn locked_relation(error: &tokio_postgres::Error) -> Option<&str> {
    let context = error.as_db_error()?.where_()?;
    let line = context.lines().find(|line| line.starts_with("while "))?;
    let (_, rest) = line.split_once("relation \"")?;
    let (name, _) = rest.split_once('"')?;
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
    is_name.then_some(name)
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
    let mut known = Vec::new();
    known.extend(state);
    known.extend(since.map(|since| format!("its transaction began at {since}")));
    known.extend(row.get::<_, Option<String>>("login").map(|login| format!("login {login}")));
    let application: Option<String> = row.get("application");
    known.extend(
        application.filter(|name| !name.is_empty()).map(|name| format!("application {name:?}")),
    );
    let known = if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) };
    format!("server process {pid}{known} has locks on {tables}")
}
