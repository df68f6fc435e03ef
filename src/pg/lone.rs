//! Connections of their own, which no pool lends and nothing is set on; and whether they lead to the server itself.

use tokio_postgres::error::SqlState;

use super::error::Failure;
use super::migrations::MigrationError;
use super::pool::{Endpoint, TimeLimits};
use crate::domain::names::{SchemaName, TenantId};

/// A connection of its own for what PostgreSQL runs outside of a transaction alone, as the owner. It sees one
/// schema from its first moment to its last: the path is part of how it connects, nothing is set on it, and
/// it is closed rather than lent again. A pooler does not take the path, or does not keep it; both show.
pub(super) struct Lone(tokio_postgres::Client);

impl Lone {
    /// Connects.
    ///
    /// # Errors
    /// [`MigrationError::NotDirect`] where a pooler stands in between.
    pub(super) async fn open(
        endpoint: &Endpoint,
        schema: &SchemaName,
        limits: &TimeLimits,
    ) -> Result<Self, MigrationError> {
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
                return Err(MigrationError::NotDirect);
            }
            outcome => outcome.map_err(Failure::from)?,
        };
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection of its own broke");
            }
        });
        let row = client.query_typed("SELECT current_setting('search_path')", &[]).await;
        let found = row.map_err(Failure::from)?;
        let found = found.first().map(|row| row.get::<_, String>(0)).unwrap_or_default();
        if found.replace(' ', "") == path {
            Ok(Self(client))
        } else {
            Err(MigrationError::NotDirect)
        }
    }

    /// Runs one statement in a message of its own.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Failure> {
        Ok(self.0.batch_execute(sql).await?)
    }
}

/// Whether the database is reached directly, and not through a pooler: what a file needs that runs outside of a
/// transaction, and what lets prepared statements be cached without being asked for.
///
/// # Errors
/// Where it is not reached at all.
pub async fn is_direct(owner: &Endpoint, limits: &TimeLimits) -> Result<bool, MigrationError> {
    // Any name will do: a path may name what is not there.
    let schema = SchemaName::of(TenantId::generate());
    match Lone::open(owner, &schema, limits).await {
        Ok(_) => Ok(true),
        Err(MigrationError::NotDirect) => Ok(false),
        Err(error) => Err(error),
    }
}
