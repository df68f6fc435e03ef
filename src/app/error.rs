//! Owns why the house could not be built: each says what stands in the way and what to do about it.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::domain::Error;
#[cfg(feature = "embedded-postgres")]
use crate::embedded;
use crate::migrations::LoadError;
use crate::pg::bootstrap::BootstrapError;
use crate::pg::connect::tls::TlsError;
use crate::pg::connect::url::UrlError;

/// Why the house could not be built.
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
    /// There is no embedded database yet, and the command is not one that makes it.
    #[error(
        "there is no database in {} yet: `rowhouse serve` and `rowhouse migrate` make one, --data-dir names \
         another folder, DATABASE_URL a server of your own",
        .data_dir.display()
    )]
    NoData {
        /// Where it was looked for.
        data_dir: PathBuf,
    },
    /// No database was named, and this program was built without an embedded one.
    #[error("no database: set DATABASE_URL, or build with the feature embedded-postgres")]
    NoDatabase,
    /// The database is not fit for use.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The migrations cannot be used.
    #[error(transparent)]
    Migrations(#[from] LoadError),
    /// A pool cannot be configured.
    #[error("a connection pool cannot be made: {0}")]
    Pool(String),
    /// The root token is no UUID.
    #[error("ROWHOUSE_ROOT_TOKEN is no UUID")]
    RootToken,
    /// A file of the data dir cannot be read or written.
    #[error("cannot use {}: {source}", .path.display())]
    DataDir {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}; choose another with --listen or ROWHOUSE_LISTEN")]
    Listen {
        /// Which address.
        addr: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A step of ours failed.
    #[error("{}", .0.chain())]
    Step(#[from] Error),
}
