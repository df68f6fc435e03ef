//! Starts the server again when it ends although nothing told it to: it crashed, or was killed.

use std::time::{Duration, Instant};

use crate::embedded::{EmbeddedError, Server, Settings};

/// How often a server is started again that does not stay.
const RESTARTS: u32 = 5;
/// The pause before the second restart; each further one doubles it. There is none before the first.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A server that ran this long stays: its end is a new fault.
const STAYS: Duration = Duration::from_mins(1);

impl Server {
    /// Starts the server again whenever it ends. Returns only if it does not stay up, with the reason.
    ///
    /// The connections to the old server break; new ones reach the new server by the same
    /// [`connect_config`](Server::connect_config).
    pub async fn keep_running(&mut self) -> EmbeddedError {
        let mut restarts = 0;
        loop {
            let since = Instant::now();
            let status = self.process.exited().await.to_string();
            tracing::error!(
                status,
                "the embedded PostgreSQL server ended by itself; starting it again"
            );
            if since.elapsed() >= STAYS {
                restarts = 0;
            }
            let log = self.paths.log_since(0);
            let mut reason = EmbeddedError::Exited { status, log };
            loop {
                if restarts == RESTARTS {
                    return EmbeddedError::GaveUp { restarts, reason: Box::new(reason) };
                }
                tokio::time::sleep(pause(restarts)).await;
                restarts += 1;
                match Server::start_to_stay(&self.same_settings()).await {
                    Ok(server) => {
                        *self = server;
                        break;
                    }
                    Err(error) => reason = error,
                }
                let error: &dyn std::error::Error = &reason;
                tracing::error!(
                    error,
                    restarts,
                    "failed to start the embedded PostgreSQL server again"
                );
            }
        }
    }

    /// The settings with which the same connections are possible again.
    fn same_settings(&self) -> Settings {
        Settings { listen_tcp: self.tcp_port(), ..self.settings.clone() }
    }
}

/// The pause before a restart, after this many earlier ones.
fn pause(restarts: u32) -> Duration {
    match restarts {
        0 => Duration::ZERO,
        more => FIRST_PAUSE * 2_u32.pow(more - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_cannot_be_started_again_is_given_up_within_half_a_minute() {
        let pauses: Duration = (0..RESTARTS).map(pause).sum();
        assert_eq!(pauses, Duration::from_secs(15));
        assert_eq!(pause(0), Duration::ZERO);
    }
}
