//! The reasons why a backend or a server could not be built, each with its remedy.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::SettingsError;
use crate::domain::Error;
use crate::domain::rule::Rule;
#[cfg(feature = "embedded-postgres")]
use crate::embedded;
use crate::migrations::LoadError;
use crate::pg::bootstrap::BootstrapError;
use crate::pg::connect::tls::TlsError;
use crate::pg::connect::url::UrlError;
use crate::pg::schema::error::ApplyError;
use crate::service::lint::IsolationError;
use crate::service::signing_keys::SecretProblem;
use crate::telemetry::BadFilter;

/// The reason why a backend or a server could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The database URL cannot be used.
    #[error("the database URL cannot be used: {0}")]
    Url(#[from] UrlError),
    /// TLS to the database cannot be set up.
    #[error("TLS to the database cannot be set up: {0}")]
    Tls(#[from] TlsError),
    /// The embedded server did not start.
    #[cfg(feature = "embedded-postgres")]
    #[error(transparent)]
    Embedded(#[from] embedded::EmbeddedError),
    /// There is no embedded database yet, and this command does not create one.
    #[error(
        "there is no database in {} yet: `rowhouse serve` or `rowhouse migrate` creates one, --data-dir names \
         another folder, DATABASE_URL another server",
        .data_dir.display()
    )]
    NoData {
        /// The folder that was searched.
        data_dir: PathBuf,
    },
    /// No database URL was given, and this program was built without an embedded server.
    #[error("no database: set DATABASE_URL, or build with the feature embedded-postgres")]
    NoDatabase,
    /// The database cannot be used.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The migrations cannot be used.
    #[error(transparent)]
    Migrations(#[from] LoadError),
    /// What the migrations make in one tenant depends on the others.
    #[error(transparent)]
    NotIsolated(#[from] IsolationError),
    /// The list of expected drift cannot be read.
    #[error("cannot read drift.allow beside the tenant migrations: {0}")]
    ExpectedDrift(std::io::Error),
    /// What the application adds contradicts itself or ours.
    #[error("the application cannot be built: {0}")]
    Application(String),
    /// Some settings of the application are invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The tables that all tenants share cannot be migrated.
    #[error("the shared tables cannot be migrated: {0}")]
    Shared(ApplyError),
    /// A pool cannot be configured.
    #[error("a connection pool cannot be configured: {0}")]
    Pool(String),
    /// A root token is not a UUID.
    #[error("{variable} is not a UUID")]
    RootToken {
        /// The variable of the setting.
        variable: &'static str,
    },
    /// The secret key of the settings breaks a rule.
    #[error("ROWHOUSE_SECRET_KEY is not valid ({})", .0.code())]
    SecretKey(Rule),
    /// The secret key is not the one that the signing keys in the database are encrypted with.
    #[error(
        "{problem}. This server looked in {place}. Give every server on the database the same secret key: set \
         ROWHOUSE_SECRET_KEY or ROWHOUSE_SECRET_KEY_FILE, or copy the file secret-key from the data dir of the server \
         that created it. If that secret is lost, end each key that `rowhouse key list` shows by `rowhouse key retire \
         KID --now`: the next start creates another one, and users renew their access tokens as usual"
    )]
    OtherSecretKey {
        /// What is wrong.
        problem: SecretProblem,
        /// Where the secret key was looked for.
        place: String,
    },
    /// A file in the data directory cannot be read or written.
    #[error("cannot use {}: {source}", .path.display())]
    DataDir {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The server cannot listen on the address.
    #[error("cannot listen on {addr}: {source}; choose another with {setting}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What sets it.
        setting: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// The filter of the log is not valid.
    #[error(transparent)]
    LogFilter(#[from] BadFilter),
    /// A step of the start failed.
    #[error("{}", .0.chain())]
    Step(#[from] Error),
}

impl BuildError {
    /// Whether the database is away, so that the same call can succeed later.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        match self {
            Self::Bootstrap(BootstrapError::Connect { .. }) => true,
            Self::Step(error) => error.is_away(),
            _ => false,
        }
    }
}
