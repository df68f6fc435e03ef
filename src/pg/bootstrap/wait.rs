//! Waits for a database that is not up yet, as when a container or a machine starts both at the same time.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::error::describe;
use crate::pg::connect::login::Login;
use crate::pg::connect::open::ConnectError;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// The interval between two lines of the log.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Waits until each of these logins gets an answer, at most this long. An answer is also a refusal that a later try would
/// meet again, such as that of a wrong password: [`prepare`](super::prepare) reports it. The second login is not tried
/// before the first start has created it: a pooler answers as if the server were away, and remembers that.
pub async fn wait_until_up(owner: &mut Login, runtime: &mut Login, limit: Duration) {
    let (begin, mut logged) = (Instant::now(), None::<Instant>);
    let name = runtime.endpoint().config.get_user().unwrap_or_default().to_owned();
    let mut is_created = true;
    for login in [owner, runtime] {
        while is_created {
            let reason = match login.client().await {
                Ok(client) => {
                    is_created = exists(client, &name).await;
                    break;
                }
                Err(reason) if is_not_up(&reason) => reason,
                Err(_) => break,
            };
            if begin.elapsed() + PAUSE > limit {
                return;
            }
            if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
                logged = Some(Instant::now());
                tracing::warn!(
                    database = describe(&login.endpoint().config),
                    reason = %reason,
                    waited_s = begin.elapsed().as_secs(),
                    limit_s = limit.as_secs(),
                    "waiting for the database, which is not up yet (database.wait)"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    if logged.is_some() {
        tracing::info!(waited_s = begin.elapsed().as_secs(), "the database answers");
    }
}

/// Whether there is such a login; also where that cannot be read.
async fn exists(client: &Client, name: &str) -> bool {
    let sql = "SELECT FROM pg_catalog.pg_roles WHERE rolname = $1";
    let found = client.query_typed(sql, &[(&name, Type::TEXT)]).await;
    found.map_or(true, |rows| !rows.is_empty())
}

/// Whether a later try may succeed without a change by an operator.
fn is_not_up(error: &ConnectError) -> bool {
    match error {
        ConnectError::Late(_) => true,
        ConnectError::Refused(error) => match error.code() {
            Some(state) => is_transient(state),
            None => error.is_closed() || is_of_the_network(error),
        },
    }
}

fn is_transient(state: &SqlState) -> bool {
    // Starting, stopping or recovering; full; a pooler that does not reach the server.
    ["57", "53", "08"].iter().any(|class| state.code().starts_with(class))
}

/// Whether the network is the cause. A failed TLS handshake is `InvalidData`, a socket of another account
/// `PermissionDenied`; a host that has no address yet has a kind without a name.
fn is_of_the_network(error: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(error);
    cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()).is_some_and(|error| {
        !matches!(
            error.kind(),
            ErrorKind::InvalidData
                | ErrorKind::InvalidInput
                | ErrorKind::PermissionDenied
                | ErrorKind::Unsupported
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_starts_or_is_full_is_waited_for_and_a_wrong_login_is_not() {
        for (state, is_waited_for) in [
            (SqlState::CANNOT_CONNECT_NOW, true),
            (SqlState::ADMIN_SHUTDOWN, true),
            (SqlState::TOO_MANY_CONNECTIONS, true),
            (SqlState::CONNECTION_FAILURE, true),
            (SqlState::INVALID_PASSWORD, false),
            (SqlState::INVALID_AUTHORIZATION_SPECIFICATION, false),
            (SqlState::INVALID_CATALOG_NAME, false),
            (SqlState::INSUFFICIENT_PRIVILEGE, false),
            (SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, false),
        ] {
            assert_eq!(is_transient(&state), is_waited_for, "{}", state.code());
        }
    }
}
