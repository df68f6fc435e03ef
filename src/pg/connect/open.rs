//! Opens a connection and drives it. Every connection of this process, pooled or not, is opened here.
//!
//! Promises: opening ends within the `connect_timeout` of the configuration, also where a server accepts the connection
//! and never answers; a connection that breaks is logged with the message of the server or of the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

use crate::pg::error::server_message;
use crate::pg::rules::{Endpoint, Tls};

/// The pause before another try where the server has no connection left.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server refused it, or the network did.
    #[error("{}", server_message(.0))]
    Refused(#[from] tokio_postgres::Error),
    /// The server did not answer in time.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Late(Duration),
}

impl ConnectError {
    /// Returns the SQLSTATE if the server answered.
    #[must_use]
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Refused(error) => error.code(),
            Self::Late(_) => None,
        }
    }
}

/// Opens one connection and drives it in the background until the client is dropped. While the server has no
/// connection left, tries again: an operator's command needs only one, and only for a moment.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(endpoint: &Endpoint) -> Result<Client, ConnectError> {
    let Some(limit) = endpoint.config.get_connect_timeout().copied() else {
        return Ok(open(&endpoint.config, &endpoint.tls, None).await?.0);
    };
    let (deadline, mut is_told) = (Instant::now() + limit, false);
    loop {
        let opening =
            tokio::time::timeout_at(deadline, open(&endpoint.config, &endpoint.tls, None));
        match opening.await {
            Ok(Ok((client, _driving))) => return Ok(client),
            Ok(Err(error))
                if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
                    && Instant::now() + PAUSE < deadline =>
            {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(
                        reason = %server_message(&error),
                        limit_s = limit.as_secs(),
                        "PostgreSQL has no connection left; waiting for one"
                    );
                }
                tokio::time::sleep(PAUSE).await;
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_elapsed) => return Err(ConnectError::Late(limit)),
        }
    }
}

/// Opens one connection, and returns the task that drives it.
async fn open(
    config: &Config,
    tls: &Tls,
    counted: Option<Counted>,
) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
    let (client, connection) = config.connect(tls.clone()).await?;
    let driving = tokio::spawn(async move {
        let _until_it_ends = counted;
        if let Err(error) = connection.await {
            tracing::warn!(error = %server_message(&error), "a database connection broke");
        }
    });
    Ok((client, driving))
}

/// The number of connections of all pools of this process: those that are open, and those that are being opened.
#[derive(Clone, Default)]
pub(in crate::pg) struct OpenCount(Arc<AtomicUsize>);

impl OpenCount {
    pub(in crate::pg) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(in crate::pg) fn begin(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

/// A connection that is counted until this is dropped.
pub(in crate::pg) struct Counted(OpenCount);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens the connections of a pool, which limits the time itself.
pub(in crate::pg) struct PoolConnect {
    pub(in crate::pg) tls: Tls,
    pub(in crate::pg) count: OpenCount,
}

impl Connect for PoolConnect {
    fn connect(
        &self,
        config: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let (config, tls, counted) = (config.clone(), self.tls.clone(), self.count.begin());
        async move { open(&config, &tls, Some(counted)).await }.boxed()
    }
}
