//! Connections of their own, which no pool lends and nothing is set on; and whether they lead to the server itself.

use tokio_postgres::error::SqlState;

use crate::domain::names::{SchemaName, TenantId};
use crate::pg::error::Failure;
use crate::pg::rules::{Endpoint, TimeLimits};

/// Why a dedicated connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A pooler stands in between.
    #[error("database.url leads to a pooler, not to the server itself")]
    NotDirect,
    /// The server could not be reached, or refused.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A connection of its own for what PostgreSQL runs outside of a transaction alone, as the owner. It sees one
/// schema from its first moment to its last: the path is part of how it connects, nothing is set on it, and
/// it is closed rather than lent again. A pooler does not take the path, or does not keep it; both show.
pub(in crate::pg) struct Lone(tokio_postgres::Client);

impl Lone {
    /// Connects.
    ///
    /// # Errors
    /// [`OpenError::NotDirect`] where a pooler stands in between.
    pub(in crate::pg) async fn open(
        endpoint: &Endpoint,
        schema: &SchemaName,
        limits: &TimeLimits,
    ) -> Result<Self, OpenError> {
        let path = format!("{schema},extensions,pg_temp");
        let before = endpoint.config.get_options().unwrap_or_default();
        let mut config = endpoint.config.clone();
        config.options(format!(
            "{before} -c search_path={path} -c statement_timeout=0 -c lock_timeout={}",
            limits.lock.as_millis()
        ));
        let connecting = config.connect(endpoint.tls.clone());
        let (client, connection) = match connecting.await {
            Err(error) if error.code() == Some(&SqlState::PROTOCOL_VIOLATION) => {
                return Err(OpenError::NotDirect);
            }
            outcome => outcome.map_err(Failure::from)?,
        };
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection of its own broke");
            }
        });
        let row = client.query_typed("SELECT current_setting('search_path') AS path", &[]).await;
        let found = row.map_err(Failure::from)?;
        let found = found.first().map(|row| row.get::<_, String>("path")).unwrap_or_default();
        if found.replace(' ', "") == path { Ok(Self(client)) } else { Err(OpenError::NotDirect) }
    }

    /// Runs one statement in a message of its own.
    pub(in crate::pg) async fn run(&self, sql: &str) -> Result<(), Failure> {
        Ok(self.0.batch_execute(sql).await?)
    }
}

/// Whether the database is reached directly, and not through a pooler: what a file needs that runs outside of a
/// transaction, and what lets prepared statements be cached without being asked for.
///
/// # Errors
/// Where it is not reached at all.
pub async fn is_direct(owner: &Endpoint, limits: &TimeLimits) -> Result<bool, OpenError> {
    // Any name will do: a path may name what is not there.
    let schema = SchemaName::of(TenantId::generate());
    match Lone::open(owner, &schema, limits).await {
        Ok(_) => Ok(true),
        Err(OpenError::NotDirect) => Ok(false),
        Err(error) => Err(error),
    }
}
