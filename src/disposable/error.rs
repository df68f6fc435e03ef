//! Why there is no database or no server for a test, each with its remedy.

use crate::app::BuildError;
use crate::config::SettingsError;
use crate::domain::Error;
use crate::embedded::EmbeddedError;
use crate::pg::connect::open::ConnectError;
use crate::pg::connect::tls::TlsError;
use crate::pg::connect::url::UrlError;

/// Why there is no database or no server for a test.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The embedded server did not start.
    #[error("no PostgreSQL server for the tests: {} (for tests, TEST_DATABASE_URL names a running one)", chain(.0))]
    Embedded(#[from] EmbeddedError),
    /// `TEST_DATABASE_URL` cannot be used.
    #[error("TEST_DATABASE_URL cannot be used: {0}")]
    Url(#[from] UrlError),
    /// TLS to the server of `TEST_DATABASE_URL` cannot be set up.
    #[error("TLS to the server of TEST_DATABASE_URL cannot be set up: {0}")]
    Tls(#[from] TlsError),
    /// The server of the tests cannot be reached.
    #[error("cannot connect to {server}, the server of the tests: {source}")]
    Unreachable {
        /// The server and the database, without a password.
        server: String,
        /// The cause.
        source: ConnectError,
    },
    /// The login of `TEST_DATABASE_URL` has too few rights.
    #[error(
        "the login {login} of TEST_DATABASE_URL may not create databases and roles, which the tests need: run `ALTER \
         ROLE {login} CREATEDB CREATEROLE` as a superuser, or name another login"
    )]
    Rights {
        /// The login.
        login: String,
    },
    /// A statement on the server of the tests failed.
    #[error("cannot {during} on the server of the tests: {}", chain(.source))]
    Statement {
        /// The step, as a verb phrase.
        during: &'static str,
        /// The cause.
        source: tokio_postgres::Error,
    },
    /// A setting of the server is invalid.
    #[error("the settings of the test are invalid: {0}")]
    Settings(#[from] SettingsError),
    /// The server of the application did not start.
    #[error("the application does not start: {}", chain(.0))]
    Build(#[from] BuildError),
    /// A step inside the application's server failed.
    #[error("{}", .0.chain())]
    Step(#[from] Error),
    /// The same failure as that of an earlier test of this process.
    #[error("{0}")]
    Again(String),
    /// The work panicked.
    #[error("the work for a test panicked: {0}")]
    Panicked(tokio::task::JoinError),
}

/// Names the step in which a statement failed.
pub(super) trait During<T> {
    fn during(self, during: &'static str) -> Result<T, TestError>;
}

impl<T> During<T> for Result<T, tokio_postgres::Error> {
    fn during(self, during: &'static str) -> Result<T, TestError> {
        self.map_err(|source| TestError::Statement { during, source })
    }
}

/// Returns an error with its causes, without those that a message already contains.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !line.contains(&words) {
            line = format!("{line}: {words}");
        }
        cause = inner.source();
    }
    line
}
