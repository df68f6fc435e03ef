//! Errors of starting and stopping the embedded server.
//!
//! Every message is for the operator who ran the command: it names the folder, the version or the process,
//! and says what to do. Sources stay in the error chain and are printed once, where the error is reported.

use std::{io, path::PathBuf};

/// Why the embedded server did not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Neither PATH nor the usual folders hold `postgres` and `initdb`.
    #[error(
        "no PostgreSQL server found on PATH or in the usual folders: install one with `{install}`, \
         or name a running database in DATABASE_URL"
    )]
    BinariesNotFound {
        /// The command that installs a server on this machine.
        install: String,
    },
    /// The folder from the settings does not hold a server.
    #[error("{folder} does not hold the programs postgres and initdb: correct the setting, or leave it out to search", folder = folder.display())]
    BinariesNotThere {
        /// The folder from [`Settings::bin_dir`](crate::embedded::Settings::bin_dir).
        folder: PathBuf,
    },
    /// Servers were found, but none is new enough.
    #[error(
        "the PostgreSQL {version} in {folder} is too old, 15 or newer is needed: install one with `{install}`, \
         or name a running database in DATABASE_URL",
        folder = folder.display()
    )]
    TooOld {
        /// The newest version found.
        version: String,
        /// Where it was found.
        folder: PathBuf,
        /// The command that installs a server on this machine.
        install: String,
    },
    /// The data was created by another major version, whose programs were not found.
    #[error(
        "the data in {cluster} was created by PostgreSQL {made_by}, and the server in {folder} is {version}: \
         install PostgreSQL {made_by}, convert the data with pg_upgrade, \
         or start anew in another folder with ROWHOUSE_DATA_DIR",
        cluster = cluster.display(), folder = folder.display()
    )]
    OtherMajorVersion {
        /// The data folder.
        cluster: PathBuf,
        /// The major version that created it.
        made_by: u32,
        /// The version of the server found.
        version: String,
        /// Where that server was found.
        folder: PathBuf,
    },
    /// A server is already running on this data.
    #[error(
        "a PostgreSQL server (process {pid}) is already running on {cluster}: stop the rowhouse process that started \
         it (or, if that has ended, the server itself with `kill -INT {pid}`), \
         or choose another folder with ROWHOUSE_DATA_DIR",
        cluster = cluster.display()
    )]
    AlreadyRunning {
        /// The process id of that server.
        pid: u32,
        /// The data folder.
        cluster: PathBuf,
    },
    /// Another process was still starting or stopping a server here when the timeout ended.
    #[error(
        "another rowhouse process is starting or stopping a server in {data_dir}: wait for it, \
         or choose another folder with ROWHOUSE_DATA_DIR",
        data_dir = data_dir.display()
    )]
    Busy {
        /// The folder that both processes use.
        data_dir: PathBuf,
    },
    /// The folder is not empty and does not hold a cluster.
    #[error("{path} is not a PostgreSQL data folder: move it away, or choose another folder with ROWHOUSE_DATA_DIR", path = path.display())]
    NotACluster {
        /// The folder.
        path: PathBuf,
    },
    /// PostgreSQL only runs as the owner of its data, which is another account.
    #[error(
        "{path} belongs to another account (uid {owner}): start as that account or as root, \
         or choose a folder of your own with ROWHOUSE_DATA_DIR",
        path = path.display()
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Started by root, and there is no unprivileged account to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody` to run it as: create one with `useradd --system postgres`"
    )]
    NoAccount,
    /// The unprivileged account cannot reach the data.
    #[error(
        "the account that runs PostgreSQL (uid {uid}) may not enter {blocked_by}: \
         choose a folder that it can reach with ROWHOUSE_DATA_DIR, for example /var/lib/rowhouse",
        blocked_by = blocked_by.display()
    )]
    Unreachable {
        /// The account.
        uid: u32,
        /// The first folder of the path that it may not enter.
        blocked_by: PathBuf,
    },
    /// The folder of the socket cannot be used.
    #[error("{path} cannot hold the server's socket because it belongs to another account: remove it, or set TMPDIR to a short path of your own", path = path.display())]
    SocketDir {
        /// The folder.
        path: PathBuf,
    },
    /// initdb failed.
    #[error("initdb failed ({status}); its output:\n{log}")]
    Initdb {
        /// Its exit status.
        status: String,
        /// Its last lines of output.
        log: String,
    },
    /// The server exited before it answered.
    #[error(
        "the PostgreSQL server exited while starting ({status}); the last lines of its log:\n{log}"
    )]
    Exited {
        /// Its exit status.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// The server is running but does not answer.
    #[error(
        "the PostgreSQL server did not answer within {seconds} s; the last lines of its log:\n{log}"
    )]
    NotReady {
        /// The timeout in seconds.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },
    /// The server ended by itself, and does not stay up when it is started again.
    #[error(
        "the embedded PostgreSQL server ended by itself and was started again {restarts} times without success: {}",
        chain(.reason)
    )]
    GaveUp {
        /// How often it was started again.
        restarts: u32,
        /// Why it ended or did not start, the last time.
        reason: Box<EmbeddedError>,
    },
    /// The server ended neither after SIGINT nor after SIGQUIT.
    #[error(
        "the PostgreSQL server (process {pid}) does not stop: inspect it, and end it with `kill -KILL {pid}` as a last resort"
    )]
    DoesNotStop {
        /// Its process id.
        pid: u32,
    },
    /// A statement of the start failed.
    #[error("failed to {during}")]
    Query {
        /// The step that failed, as a verb phrase.
        during: &'static str,
        /// The server's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// An I/O operation failed.
    #[error("failed to {during} {path}", path = path.display())]
    Io {
        /// The operation, as a verb phrase.
        during: &'static str,
        /// The path that it concerned.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
}

/// Returns an error with its causes.
fn chain(error: &EmbeddedError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Adds the operation and its path to an I/O error.
pub(super) trait Context<T> {
    fn context(self, during: &'static str, path: impl Into<PathBuf>) -> Result<T, EmbeddedError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, during: &'static str, path: impl Into<PathBuf>) -> Result<T, EmbeddedError> {
        self.map_err(|source| EmbeddedError::Io { during, path: path.into(), source })
    }
}
