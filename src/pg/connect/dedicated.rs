//! Dedicated connections, outside every pool, and the test whether a connection is direct or goes through a pooler.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::domain::names::SchemaName;
use crate::pg::connect::cancelling::Cancelling;
use crate::pg::connect::open::{ConnectError, connect};
use crate::pg::error::{Failure, server_message};
use crate::pg::rules::{Endpoint, Rules, Tls};

/// Why a dedicated connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection goes through a pooler.
    #[error("database.url leads to a pooler, not to the server itself")]
    NotDirect,
    /// The server could not be reached, or refused the connection.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A dedicated connection, for statements of migrations that PostgreSQL runs only outside a transaction.
///
/// It has the role of migrations and sees one schema from start to end. Role and search path are startup parameters, no
/// session state is set, and the connection is closed after use. A pooler refuses or ignores the parameters, or takes the
/// search path alone; [`open`](Self::open) detects each.
///
/// Dropped while a statement runs, it cancels the statement.
pub(in crate::pg) struct DedicatedConnection {
    client: tokio_postgres::Client,
    tls: Tls,
    is_busy: AtomicBool,
}

impl DedicatedConnection {
    /// Connects.
    ///
    /// # Errors
    /// [`OpenError::NotDirect`] if the connection goes through a pooler.
    pub(in crate::pg) async fn open(
        endpoint: &Endpoint,
        schema: &SchemaName,
        rules: &Rules,
    ) -> Result<Self, OpenError> {
        let role = rules.migrator().map_or_else(String::new, |role| format!("-c role={role}"));
        let lock = rules.limits.lock.as_millis();
        let path = format!("-c search_path={schema},extensions,pg_temp");
        let limits = format!("-c statement_timeout=0 -c lock_timeout={lock}");
        Self::open_with(endpoint, &format!("{path} {role} {limits}")).await
    }

    /// Connects with these options too.
    async fn open_with(endpoint: &Endpoint, options: &str) -> Result<Self, OpenError> {
        match connect_marked(endpoint, options).await {
            Ok(Marked { client, is_direct: true }) => {
                Ok(Self { client, tls: endpoint.tls.clone(), is_busy: AtomicBool::new(false) })
            }
            Ok(Marked { is_direct: false, .. }) => Err(OpenError::NotDirect),
            Err(error) if error.code() == Some(&SqlState::PROTOCOL_VIOLATION) => {
                Err(OpenError::NotDirect)
            }
            Err(ConnectError::Refused(error)) => Err(Failure::from(error).into()),
            Err(ConnectError::Late(limit)) => Err(Failure::NoAnswer(limit).into()),
        }
    }

    /// Runs one statement in a message of its own.
    pub(in crate::pg) async fn run(&self, sql: &str) -> Result<(), Failure> {
        self.is_busy.store(true, Ordering::Relaxed);
        let ran = self.client.batch_execute(sql).await;
        // Not reached if the future is dropped before it is done.
        self.is_busy.store(false, Ordering::Relaxed);
        Ok(ran?)
    }
}

impl Drop for DedicatedConnection {
    fn drop(&mut self) {
        if !*self.is_busy.get_mut() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (cancel, tls) = (self.client.cancel_token(), self.tls.clone());
        let cancelling = Cancelling::begin();
        runtime.spawn(async move {
            if let Err(error) = cancel.cancel_query(tls).await {
                let error = server_message(&error);
                tracing::debug!(error, "failed to cancel an abandoned statement");
            }
            drop(cancelling);
        });
    }
}

/// A connection that was opened with options.
pub(super) struct Marked {
    pub(super) client: tokio_postgres::Client,
    /// Whether the options have reached the server, and not only a pooler, which serves the connection without them.
    pub(super) is_direct: bool,
}

/// Connects with these options, and with a mark that tells whether they have reached the server.
pub(super) async fn connect_marked(
    endpoint: &Endpoint,
    options: &str,
) -> Result<Marked, ConnectError> {
    // No pooler keeps a setting that it does not know, as some keep the search path of a client.
    let mark = Uuid::new_v4().simple().to_string();
    let before = endpoint.config.get_options().unwrap_or_default();
    let mut config = endpoint.config.clone();
    config.options(format!("{before} {options} -c rowhouse.connection={mark}"));
    let client = connect(&Endpoint { config, tls: endpoint.tls.clone() }).await?;
    let sql = "SELECT coalesce(current_setting('rowhouse.connection', true), '') AS mark";
    let asked = client.query_typed(sql, &[]);
    // A server that lets clients in may answer none.
    let found = match endpoint.config.get_connect_timeout() {
        Some(limit) => {
            timeout(*limit, asked).await.map_err(|_elapsed| ConnectError::Late(*limit))?
        }
        None => asked.await,
    }?;
    let is_direct = found.first().is_some_and(|row| row.get::<_, String>("mark") == mark);
    Ok(Marked { client, is_direct })
}

/// Whether the database is reached directly and not through a pooler. Files that run outside a transaction need
/// that, and so do cached prepared statements.
///
/// # Errors
/// [`OpenError::Failed`] if the server cannot be reached.
pub async fn is_direct(endpoint: &Endpoint) -> Result<bool, OpenError> {
    match DedicatedConnection::open_with(endpoint, "").await {
        Ok(_) => Ok(true),
        Err(OpenError::NotDirect) => Ok(false),
        Err(error) => Err(error),
    }
}
