//! Starts a PostgreSQL of our own from the system's server programs, and stops it with us.
//!
//! Owns one server process and its data under one folder. Promises that the data is either a whole
//! cluster or none (initdb works beside its place and is renamed into it), that only one server runs
//! on it, that nobody but this account (and root) reaches the socket, and that the server goes when
//! we go, even when we are killed. Root may start it: the server then runs as an unprivileged account.
//!
//! Knows nothing of tenants, roles or migrations: what it hands out is a superuser's connection to a
//! database `rowhouse` that exists. On the socket everyone is trusted, the runtime login included,
//! since the folder's rights have asked already; on TCP, opened only on request, a password decides.
//!
//! The rooms: [`binaries`] finds programs, [`places`] folders and accounts, [`holder`] whoever was
//! here before, [`guests`] whoever works on the server of another, [`reach`] one of the two servers to work
//! on, [`cluster`] makes the data and the command lines, [`process`] keeps the child, [`quote`] prints for
//! people, and [`os`] has the unsafe calls, all of them.

mod attach;
mod binaries;
mod cluster;
mod error;
mod os;
mod paths;
mod process;
mod quote;
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
use crate::embedded::process::Process;
pub use crate::embedded::usage_lock::UsageLock;
use crate::embedded::usage_lock::{EphemeralMarker, ExclusiveLock};

/// The superuser of the cluster.
const SUPERUSER: &str = "rowhouse";
/// The database that every start makes sure of.
const DATABASE: &str = "rowhouse";
/// Names the socket when no TCP port does. No clash is possible: the folder is the server's own.
const SOCKET_PORT: u16 = 5432;
/// How often, and how soon, a start is tried again whose obstacle passes by.
const ATTEMPTS: usize = 10;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);
/// A start takes 40 ms; a machine that swaps takes longer. Counted while the server says nothing at
/// all: one that answers *starting up* is replaying its log, and may take what it needs.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
const READY_POLL: Duration = Duration::from_millis(3);
/// A start by another process holds the lock for a second, initdb included.
const LOCK_TIMEOUT: Duration = Duration::from_mins(1);
const LOCK_POLL: Duration = Duration::from_millis(20);
/// A fast shutdown writes a checkpoint; a large one on a slow disk is a matter of seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// An immediate one only has to end its processes.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What to start and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our folder, `.rowhouse` say. The cluster lives in its subfolder `postgres`.
    pub data_dir: PathBuf,
    /// The folder with `postgres` and `initdb`; without it we search.
    pub bin_dir: Option<PathBuf>,
    /// What a crash may cost.
    pub durability: Durability,
    /// Listens on 127.0.0.1 too; 0 picks a free port. Without it there is only the unix socket.
    pub listen_tcp: Option<u16>,
    /// The ceiling for connections, those of superusers included.
    pub max_connections: u16,
}

/// What a crash may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed.
    Full,
    /// Everything: for tests, whose data nobody misses.
    None,
}

/// A running server. Dropped, it is told to stop; [`Server::stop`] also waits for it.
#[derive(Debug)]
pub struct Server {
    process: Process,
    paths: Paths,
    binaries: Binaries,
    port: u16,
    tcp: Option<Tcp>,
    /// Where it was started for one command.
    ephemeral: Option<EphemeralMarker>,
}

/// How the server is reached from outside its folder.
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
    /// Starts a server on the data dir, making the cluster and the database if they are not there,
    /// and returns when it answers.
    ///
    /// # Errors
    /// Each says what to do about it. [`EmbeddedError::BinariesNotFound`] and
    /// [`EmbeddedError::AlreadyRunning`] are the ones that users meet.
    pub async fn start(settings: &Settings) -> Result<Server, EmbeddedError> {
        let begin = Instant::now();
        // Before anything is created: without programs there shall be no trace of us.
        let looked_for = Paths::cluster_in(&settings.data_dir);
        let named = settings.bin_dir.clone();
        let binaries = blocking(move || binaries::find(named.as_deref(), &looked_for)).await?;

        let (data_dir, lock) = Paths::open_lock(&settings.data_dir)?;
        take(&lock, &data_dir).await?;
        let paths = Paths::settle(data_dir, settings)?;
        stale_server::wait_until_free(&paths.cluster).await?;
        stale_server::free_socket(&paths.socket_dir)?;
        cluster::ensure(&paths, &binaries, settings.durability).await?;

        let mut attempts = 1;
        let server = loop {
            match Server::launch(&paths, &binaries, settings).await {
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

    /// As [`Server::start`], for a server that stays: one that a command has started for itself is waited for.
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

    /// Starts the program, and waits until the database can be used.
    async fn launch(
        paths: &Paths,
        binaries: &Binaries,
        settings: &Settings,
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
        let process = Process::spawn(command).await.context("run", program)?;
        let mut server = Server {
            process,
            paths: paths.clone(),
            binaries: binaries.clone(),
            port,
            tcp,
            ephemeral: None,
        };
        let client = server.wait_until_ready(log_begin).await?;
        if let Some(tcp) = &server.tcp {
            cluster::set_password(&client, SUPERUSER, &tcp.password).await?;
        }
        Ok(server)
    }

    /// Ready means that somebody got in. The database is asked for by name, and made if it is missing.
    async fn wait_until_ready(&mut self, log_begin: u64) -> Result<Client, EmbeddedError> {
        let mut silent_since = Instant::now();
        loop {
            if let Some(status) = self.process.exit_status() {
                // One started by hand may have come in between, past our lock.
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

    /// How to connect as the superuser: over the unix socket, which is there with TCP as well and
    /// needs neither TLS nor a handshake. The password, where there is one, comes along for callers
    /// that set another host.
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

    /// The port that names the socket, and the TCP port where there is one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port on 127.0.0.1, if TCP was asked for.
    #[must_use]
    pub fn tcp_port(&self) -> Option<u16> {
        self.tcp.as_ref().map(|tcp| tcp.port)
    }

    /// The server's version, `15.18` say.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.binaries.version
    }

    /// What a person pastes into a terminal. Holds no secret: it goes over the socket.
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

    /// A URL for other programs: over TCP with the password where TCP was asked for, else over the socket.
    #[must_use]
    pub fn database_url(&self, database: &str) -> String {
        let database = quote::percent_encoded(database);
        if let Some(Tcp { port, password }) = &self.tcp {
            return format!("postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}");
        }
        let host = quote::percent_encoded(&self.paths.socket_dir.to_string_lossy());
        format!("postgresql://{SUPERUSER}@/{database}?host={host}&port={}", self.port)
    }

    /// Stops the server and waits for it: politely first (sessions are ended, nothing is lost), then
    /// at once (the next start replays the log). Before, it waits for the commands of other processes that work on
    /// the server; whoever comes then waits for the end, and starts one anew.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        let pid = self.process.pid();
        // Without the lock it is stopped all the same.
        let exclusive = ExclusiveLock::acquire(&self.paths.data_dir).await;
        if let Err(error) = &exclusive {
            tracing::warn!(%error, "cannot tell whether others work on the embedded PostgreSQL server");
        }
        for (signal, timeout) in [(libc::SIGINT, STOP_TIMEOUT), (libc::SIGQUIT, QUIT_TIMEOUT)] {
            self.process.signal(signal);
            if let Ok(status) = tokio::time::timeout(timeout, self.process.exited()).await {
                tracing::info!(pid, %status, "stopped the embedded PostgreSQL server");
                return Ok(());
            }
            tracing::warn!(pid, signal, "the embedded PostgreSQL server takes long to stop");
        }
        Err(EmbeddedError::DoesNotStop { pid })
    }
}

/// Takes the lock of a data dir; it is given back with the file, by the kernel if need be.
async fn take(lock: &std::fs::File, data_dir: &Path) -> Result<(), EmbeddedError> {
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

/// Runs what waits for the disk or another program off the async threads.
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

/// Whether the log of a failed start names an obstacle that goes away by itself.
fn is_transient(log: &str, settings: &Settings) -> bool {
    // A port of bind(0) is free when we ask, and may be taken when the server does.
    let port_was_taken =
        settings.listen_tcp == Some(0) && log.contains("could not create any TCP/IP sockets");
    // The server was killed, and a process of its has not noticed yet.
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
