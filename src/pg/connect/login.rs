//! A login while a process starts: one connection serves all steps of the start, and tells whether it is direct.
//!
//! A connection costs the server several times what a step does with it.

use std::time::Duration;

use futures_util::future::join;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::dedicated::{Marked, connect_marked};
use super::open::{ConnectError, connect};
use crate::pg::rules::{Direct, Endpoint};

/// How often a server looks for the client of a query.
const CLIENT_CHECK: Duration = Duration::from_secs(1);

/// A login, with the connection that the steps of a start share.
pub struct Login {
    endpoint: Endpoint,
    session: Option<Session>,
}

struct Session {
    client: Client,
    is_direct: bool,
}

impl Login {
    /// A login at this server, which is not connected yet.
    #[must_use]
    pub const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, session: None }
    }

    /// Returns where it connects to.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Closes its connection, and returns where it connects to.
    #[must_use]
    pub fn into_endpoint(self) -> Endpoint {
        self.endpoint
    }

    /// Returns its connection, which is opened if there is none, and again if it has ended.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn client(&mut self) -> Result<&Client, ConnectError> {
        Ok(&self.session().await?.client)
    }

    async fn session(&mut self) -> Result<&Session, ConnectError> {
        let session = match self.session.take() {
            Some(session) if !session.client.is_closed() => session,
            _ => Session::open(&self.endpoint).await?,
        };
        Ok(self.session.insert(session))
    }

    /// Whether it reaches the server itself; false if that is unknown.
    async fn is_direct(&mut self) -> bool {
        self.session().await.is_ok_and(|session| session.is_direct)
    }
}

/// Which of two logins reach the server directly. One of which that is unknown does not count.
pub async fn direct(owner: &mut Login, runtime: &mut Login) -> Direct {
    let (owner, runtime) = join(owner.is_direct(), runtime.is_direct()).await;
    Direct { owner, runtime }
}

/// Returns how often the server is to look whether the client of a running query is still there: behind a pooler, which
/// closes its connection together with the client's, so that a query that was abandoned ends. None for direct connections,
/// and on a platform on which PostgreSQL cannot look.
pub async fn client_check(owner: &mut Login, direct: Direct) -> Option<Duration> {
    if direct.owner && direct.runtime {
        return None;
    }
    let client = owner.client().await.ok()?;
    let interval = CLIENT_CHECK.as_millis();
    let sql = format!("BEGIN; SET LOCAL client_connection_check_interval = {interval}; ROLLBACK");
    let tried = timeout(CLIENT_CHECK, client.batch_execute(&sql)).await;
    matches!(tried, Ok(Ok(()))).then_some(CLIENT_CHECK)
}

impl Session {
    async fn open(endpoint: &Endpoint) -> Result<Self, ConnectError> {
        match connect_marked(endpoint, "").await {
            Ok(Marked { client, is_direct }) => Ok(Self { client, is_direct }),
            // A pooler refuses what it does not know, each with a code of its own.
            Err(error) if may_be_about_the_mark(&error) => {
                Ok(Self { client: connect(endpoint).await?, is_direct: false })
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a connection without a mark might be let in: not where the login was refused (class 28), or the server starts,
/// stops or is full (57 and 53).
fn may_be_about_the_mark(error: &ConnectError) -> bool {
    let code = error.code().map_or("", |code| code.code());
    !code.is_empty() && !["28", "53", "57"].iter().any(|class| code.starts_with(class))
}
