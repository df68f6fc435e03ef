//! Says why the embedded server is not there, and what a person does about it.
//!
//! Every text is for whoever typed the command: it names the folder, the version or the process, and
//! ends with a way out. Sources stay in the chain and are printed once, at the edge.

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
        /// The one command that installs a server on this platform.
        install: String,
    },
    /// The folder that was named explicitly has no server in it.
    #[error("{folder} does not hold the programs postgres and initdb: correct the setting, or leave it out to search", folder = folder.display())]
    BinariesNotThere {
        /// The folder from [`Settings::bin_dir`](crate::embedded::Settings::bin_dir).
        folder: PathBuf,
    },
    /// Servers were found, and none is new enough.
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
        /// The one command that installs a server on this platform.
        install: String,
    },
    /// The data was written by another major version, whose programs are not here.
    #[error(
        "the data in {cluster} was made by PostgreSQL {made_by}, and the server in {folder} is {version}: \
         install PostgreSQL {made_by}, convert the data with pg_upgrade, \
         or start afresh in another folder with ROWHOUSE_DATA_DIR",
        cluster = cluster.display(), folder = folder.display()
    )]
    OtherMajorVersion {
        /// The data folder.
        cluster: PathBuf,
        /// The major version that made it.
        made_by: u32,
        /// The version of the server found.
        version: String,
        /// Where that server was found.
        folder: PathBuf,
    },
    /// A server is already at work on this data.
    #[error(
        "a PostgreSQL server (process {pid}) is already running on {cluster}: stop the rowhouse that it belongs to \
         (or, if that is gone, the server itself with `kill -INT {pid}`), or choose another folder with ROWHOUSE_DATA_DIR",
        cluster = cluster.display()
    )]
    AlreadyRunning {
        /// The process id of that server.
        pid: u32,
        /// The data folder.
        cluster: PathBuf,
    },
    /// Another process has been starting a server here for as long as we were willing to wait.
    #[error(
        "another rowhouse is starting a server in {data_dir}: wait for it, or choose another folder with ROWHOUSE_DATA_DIR",
        data_dir = data_dir.display()
    )]
    Busy {
        /// The folder that both want.
        data_dir: PathBuf,
    },
    /// The folder holds something, and it is no cluster.
    #[error("{path} is not a PostgreSQL data folder: move it away, or choose another folder with ROWHOUSE_DATA_DIR", path = path.display())]
    NotACluster {
        /// The folder.
        path: PathBuf,
    },
    /// PostgreSQL only runs as the owner of its data, and that is somebody else.
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
    /// Started by root, and there is nobody to become.
    #[error(
        "PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody` to run it as: create one with `useradd --system postgres`"
    )]
    NoAccount,
    /// The unprivileged account cannot get to the data.
    #[error(
        "the account that runs PostgreSQL (uid {uid}) may not enter {blocked_by}: \
         choose a folder that it can reach with ROWHOUSE_DATA_DIR, /var/lib/rowhouse say",
        blocked_by = blocked_by.display()
    )]
    Unreachable {
        /// The account.
        uid: u32,
        /// The first folder on the way that it may not enter.
        blocked_by: PathBuf,
    },
    /// No place for the socket.
    #[error("{path} cannot hold the server's socket, it belongs to somebody else: remove it, or set TMPDIR to a short path of your own", path = path.display())]
    SocketDir {
        /// The folder.
        path: PathBuf,
    },
    /// initdb did not make a cluster.
    #[error("initdb failed ({status}); it said:\n{log}")]
    Initdb {
        /// How it ended.
        status: String,
        /// Its last lines.
        log: String,
    },
    /// The server ended before it answered.
    #[error(
        "the PostgreSQL server ended while starting ({status}); the last lines of its log:\n{log}"
    )]
    Exited {
        /// How it ended.
        status: String,
        /// Its last lines.
        log: String,
    },
    /// The server runs and does not answer.
    #[error(
        "the PostgreSQL server did not answer within {seconds} s; the last lines of its log:\n{log}"
    )]
    NotReady {
        /// How long we waited.
        seconds: u64,
        /// Its last lines.
        log: String,
    },
    /// The server took neither the polite nor the firm signal.
    #[error(
        "the PostgreSQL server (process {pid}) does not stop: look at it, and end it with `kill -KILL {pid}` as the last resort"
    )]
    DoesNotStop {
        /// Its process id.
        pid: u32,
    },
    /// A statement that belongs to starting up failed.
    #[error("failed to {during}")]
    Query {
        /// What we were doing, in the present tense.
        during: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The operating system refused.
    #[error("failed to {during} {path}", path = path.display())]
    Io {
        /// What we were doing, in the present tense.
        during: &'static str,
        /// What we did it to.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// Adds what was being done, and to what, to an I/O error.
pub(super) trait Context<T> {
    fn context(self, during: &'static str, path: impl Into<PathBuf>) -> Result<T, EmbeddedError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, during: &'static str, path: impl Into<PathBuf>) -> Result<T, EmbeddedError> {
        self.map_err(|source| EmbeddedError::Io { during, path: path.into(), source })
    }
}
