//! Starts a PostgreSQL server from the system's server programs, and stops it when this process ends.
//!
//! Owns one server process and its data under one folder. Guarantees that the folder holds either a
//! complete cluster or none (initdb works in a temporary folder, which is then renamed), that only one server
//! runs on it, that only this account (and root) can reach the socket, and that the server stops when
//! this process ends, even when it is killed. Root may start it: the server then runs as an unprivileged account.
//!
//! Knows nothing of tenants, roles or migrations: it offers a superuser's connection to an existing
//! database `rowhouse`. On the socket every login is trusted, including the runtime login, because the
//! folder's permissions already restrict access; on TCP, which is off by default, a password is required.
//!
//! The modules:
//! - [`binaries`] finds the server's programs;
//! - [`paths`] decides folders and accounts;
//! - [`cluster`] creates the data and builds the command lines;
//! - [`process`] owns the child process;
//! - [`restart`] starts the server again when it ends by itself;
//! - [`stale_server`] waits for a server that still runs on the data;
//! - [`usage_lock`] keeps a server running while other processes use it;
//! - [`shared`] is one server for all processes of a test run;
//! - [`attach`] connects a command to a running server, or starts one;
//! - [`quote`] quotes for a shell and a URL;
//! - [`os`] has all unsafe calls.

mod attach;
mod binaries;
mod cluster;
mod error;
mod os;
mod paths;
mod process;
mod quote;
mod restart;
mod shared;
mod stale_server;
#[cfg(test)]
mod tests;
mod usage_lock;

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio_postgres::{Client, Config, NoTls, error::SqlState};

pub use crate::embedded::attach::{ServerHandle, attach_or_start, has_cluster, running};
use crate::embedded::binaries::Binaries;
use crate::embedded::error::Context;
pub use crate::embedded::error::EmbeddedError;
use crate::embedded::paths::Paths;
use crate::embedded::process::{Lifetime, Process};
pub use crate::embedded::shared::SharedServer;
pub use crate::embedded::usage_lock::UsageLock;
use crate::embedded::usage_lock::{EphemeralMarker, ExclusiveLock};

/// The superuser of the cluster.
const SUPERUSER: &str = "rowhouse";
/// The database that a start creates if it is missing.
const DATABASE: &str = "rowhouse";
/// The port in the socket's name when TCP is off. It cannot clash: the folder belongs to this server alone.
const SOCKET_PORT: u16 = 5432;
/// How often a start is tried that fails for a transient reason: for 30 s, because a process of a server that was killed
/// first ends its statement.
const ATTEMPTS: usize = 150;
/// The pause between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);
/// How long a server may stay silent while it starts. A start takes 40 ms, and longer on a machine that swaps. A
/// server that answers *starting up* is replaying its log; that is not counted.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
const READY_POLL: Duration = Duration::from_millis(3);
/// How long to wait for another process's start, which holds the lock for about a second, initdb included.
const LOCK_TIMEOUT: Duration = Duration::from_mins(1);
const LOCK_POLL: Duration = Duration::from_millis(20);
/// How long to wait for a fast shutdown. It writes a checkpoint, which takes seconds on a slow disk.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for an immediate shutdown, which only ends the server's processes.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings of an embedded server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data dir, for example `.rowhouse`. The cluster is in its subfolder `postgres`.
    pub data_dir: PathBuf,
    /// The folder with `postgres` and `initdb`; `None` searches for them.
    pub bin_dir: Option<PathBuf>,
    /// What a crash may lose.
    pub durability: Durability,
    /// The TCP port on 127.0.0.1; 0 picks a free one. `None` listens on the unix socket alone.
    pub listen_tcp: Option<u16>,
    /// The maximum number of connections, those reserved for superusers included.
    pub max_connections: u16,
}

/// What a crash may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed: PostgreSQL's default.
    Full,
    /// The whole cluster. For tests, whose data is not needed afterwards.
    None,
}

/// A running server. Dropping it sends a stop signal; [`Server::stop`] also waits until it has stopped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    paths: Paths,
    binaries: Binaries,
    port: u16,
    tcp: Option<Tcp>,
    settings: Settings,
    /// Set if the server was started for one command.
    ephemeral: Option<EphemeralMarker>,
}

/// How to connect over TCP.
struct Tcp {
    port: u16,
    password: String,
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts a server on the data dir, and returns when it accepts queries. Creates the cluster and the database
    /// if they do not exist.
    ///
    /// # Errors
    /// Each message says what to do. [`EmbeddedError::BinariesNotFound`] and
    /// [`EmbeddedError::AlreadyRunning`] are the common ones.
    pub async fn start(settings: &Settings) -> Result<Server, EmbeddedError> {
        Self::start_for(settings, Lifetime::OfThisProcess).await
    }

    /// As [`Server::start`], for a server that runs on when this process ends.
    async fn start_for(settings: &Settings, lifetime: Lifetime) -> Result<Server, EmbeddedError> {
        let begin = Instant::now();
        // Before anything is created: without the programs, no folder is left behind.
        let cluster = Paths::cluster_in(&settings.data_dir);
        let named = settings.bin_dir.clone();
        let binaries = blocking(move || binaries::find(named.as_deref(), &cluster)).await?;

        let (data_dir, lock) = Paths::open_lock(&settings.data_dir)?;
        acquire_start_lock(&lock, &data_dir).await?;
        let paths = Paths::resolve(data_dir, settings)?;
        stale_server::wait_until_free(&paths.cluster).await?;
        stale_server::free_socket(&paths.socket_dir)?;
        cluster::ensure(&paths, &binaries, settings.durability).await?;

        let mut attempts = 1;
        let server = loop {
            match Server::launch(&paths, &binaries, settings, lifetime).await {
                Err(EmbeddedError::Exited { log, .. })
                    if attempts < ATTEMPTS && is_transient(&log, settings) =>
                {
                    attempts += 1;
                    tokio::time::sleep(ATTEMPT_PAUSE).await;
                }
                launched => break launched?,
            }
        };
        tracing::info!(
            pid = server.process.pid(), version = server.version(), socket = %server.socket_dir().display(),
            duration_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
            "started the embedded PostgreSQL server"
        );
        Ok(server)
    }

    /// As [`Server::start`], for a long-running process: waits for an ephemeral server of another process to stop.
    ///
    /// # Errors
    /// Those of [`Server::start`].
    pub async fn start_to_stay(settings: &Settings) -> Result<Server, EmbeddedError> {
        loop {
            match Server::start(settings).await {
                Err(EmbeddedError::AlreadyRunning { .. })
                    if EphemeralMarker::wait_until_unset(&settings.data_dir).await? => {}
                outcome => return outcome,
            }
        }
    }

    /// Starts the server process, and waits until the database accepts queries.
    async fn launch(
        paths: &Paths,
        binaries: &Binaries,
        settings: &Settings,
        lifetime: Lifetime,
    ) -> Result<Server, EmbeddedError> {
        let tcp_port = settings.listen_tcp.map(free_port).transpose()?;
        let tcp = match tcp_port {
            Some(port) => Some(Tcp { port, password: cluster::password(paths)? }),
            None => None,
        };
        let port = tcp_port.unwrap_or(SOCKET_PORT);
        let (log, log_begin) = paths.open_log()?;
        let command = cluster::server_command(paths, binaries, settings, port, log)?;
        let program = binaries.program("postgres");
        let process = Process::spawn(command, lifetime).await.context("run", program)?;
        let mut server = Server {
            process,
            paths: paths.clone(),
            binaries: binaries.clone(),
            port,
            tcp,
            settings: settings.clone(),
            ephemeral: None,
        };
        let client = server.wait_until_ready(log_begin).await?;
        if let Some(tcp) = &server.tcp {
            cluster::set_password(&client, SUPERUSER, &tcp.password).await?;
        }
        Ok(server)
    }

    /// Waits until a connection to the database succeeds; creates the database if it is missing.
    async fn wait_until_ready(&mut self, log_begin: u64) -> Result<Client, EmbeddedError> {
        let mut silent_since = Instant::now();
        loop {
            if let Some(status) = self.process.exit_status() {
                // An operator may have started a server by hand meanwhile, which ignores our lock.
                stale_server::wait_until_free(&self.paths.cluster).await?;
                return Err(EmbeddedError::Exited {
                    status: status.to_string(),
                    log: self.paths.log_since(log_begin),
                });
            }
            let error = match connect(&self.connect_config(DATABASE)).await {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            match error.code() {
                None => {}
                Some(code) if *code == SqlState::CANNOT_CONNECT_NOW => {
                    silent_since = Instant::now();
                }
                Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
                    self.create_database().await?;
                }
                Some(_) => {
                    return Err(EmbeddedError::Query {
                        during: "connect to the embedded server",
                        source: error,
                    });
                }
            }
            if silent_since.elapsed() > READY_TIMEOUT {
                let seconds = READY_TIMEOUT.as_secs();
                return Err(EmbeddedError::NotReady {
                    seconds,
                    log: self.paths.log_since(log_begin),
                });
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    async fn create_database(&self) -> Result<(), EmbeddedError> {
        let during = "create the database rowhouse";
        let failed = |source| EmbeddedError::Query { during, source };
        let client = connect(&self.connect_config("postgres")).await.map_err(failed)?;
        client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await.map_err(failed)
    }

    /// Returns how to connect as the superuser over the unix socket, which exists with TCP as well and needs
    /// neither TLS nor a password. The password of TCP is included for callers that set another host.
    #[must_use]
    pub fn connect_config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.paths.socket_dir).port(self.port).user(SUPERUSER).dbname(database);
        if let Some(tcp) = &self.tcp {
            config.password(&tcp.password);
        }
        config
    }

    /// The folder that holds the unix socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.paths.socket_dir
    }

    /// The port in the socket's name, which is the TCP port if TCP is on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port on 127.0.0.1, if TCP is on.
    #[must_use]
    pub fn tcp_port(&self) -> Option<u16> {
        self.tcp.as_ref().map(|tcp| tcp.port)
    }

    /// The server's version, for example `15.18`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.binaries.version
    }

    /// Returns a psql command line to paste into a terminal. It holds no secret, because it uses the socket.
    #[must_use]
    pub fn psql_line(&self, database: &str) -> String {
        let psql = self.binaries.psql();
        format!(
            "{} -h {} -p {} -U {SUPERUSER} {}",
            quote::shell_word(&psql.to_string_lossy()),
            quote::shell_word(&self.paths.socket_dir.to_string_lossy()),
            self.port,
            quote::shell_word(database)
        )
    }

    /// Returns a connection URL for other programs: over TCP with the password if TCP is on, otherwise over the
    /// socket.
    #[must_use]
    pub fn database_url(&self, database: &str) -> String {
        let database = quote::percent_encoded(database);
        if let Some(Tcp { port, password }) = &self.tcp {
            return format!("postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}");
        }
        let host = quote::percent_encoded(&self.paths.socket_dir.to_string_lossy());
        format!("postgresql://{SUPERUSER}@/{database}?host={host}&port={}", self.port)
    }

    /// Stops the server and waits until it has stopped: first by a fast shutdown (sessions are ended, nothing is
    /// lost), then by an immediate one (the next start replays the log). Before that it waits for other processes
    /// that use the server. A process that wants to use it from then on waits, and starts its own.
    ///
    /// # Errors
    /// [`EmbeddedError::DoesNotStop`].
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        let pid = self.process.pid();
        // The server is stopped even if the lock fails.
        let exclusive = ExclusiveLock::acquire(&self.paths.data_dir).await;
        if let Err(error) = &exclusive {
            tracing::warn!(%error, "cannot determine whether other processes use the embedded PostgreSQL server");
        }
        for (signal, timeout) in [(libc::SIGINT, STOP_TIMEOUT), (libc::SIGQUIT, QUIT_TIMEOUT)] {
            self.process.signal(signal);
            if let Ok(status) = tokio::time::timeout(timeout, self.process.exited()).await {
                tracing::info!(pid, %status, "stopped the embedded PostgreSQL server");
                return Ok(());
            }
            tracing::warn!(pid, signal, "the embedded PostgreSQL server has not stopped in time");
        }
        Err(EmbeddedError::DoesNotStop { pid })
    }
}

/// Acquires the lock of a data dir. Closing the file releases it.
async fn acquire_start_lock(lock: &std::fs::File, data_dir: &Path) -> Result<(), EmbeddedError> {
    let begin = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(std::fs::TryLockError::Error(source)) => {
                return Err(source).context("lock", data_dir);
            }
            Err(std::fs::TryLockError::WouldBlock) if begin.elapsed() > LOCK_TIMEOUT => {
                return Err(EmbeddedError::Busy { data_dir: data_dir.to_path_buf() });
            }
            Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
        }
    }
}

/// Runs blocking work (the disk, another program) on a blocking thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EmbeddedError> + Send + 'static,
) -> Result<T, EmbeddedError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)).context("run", "a task"))
}

async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Whether the log of a failed start names a transient cause.
fn is_transient(log: &str, settings: &Settings) -> bool {
    // A port from bind(0) was free a moment ago, and may be in use when the server binds it.
    let port_was_taken =
        settings.listen_tcp == Some(0) && log.contains("could not create any TCP/IP sockets");
    // The server was killed, and one of its processes has not noticed yet.
    port_was_taken || log.contains("pre-existing shared memory block")
}

fn free_port(asked: u16) -> Result<u16, EmbeddedError> {
    if asked != 0 {
        return Ok(asked);
    }
    let bound =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).context("find a free port on", "127.0.0.1")
}
