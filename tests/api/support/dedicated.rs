//! A PostgreSQL server over TCP with passwords, for tests about logins, roles and owners that are no superusers.

use std::sync::OnceLock;

use rowhouse::embedded::{Durability, Server, Settings as ServerSettings};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Client;

use super::postgres::connect;

/// The settings with which a server starts for an owner that owns its database and is no superuser: all that such an
/// owner cannot close is accepted.
pub const ACCEPTED: (&str, &str) = (
    "database.accept_exposures",
    "set_config,do_blocks,advisory_locks,table_locks,large_objects,signals,setseed",
);

/// A server with password authentication, which one test at a time uses.
pub struct DedicatedServer {
    server: &'static Server,
    pub admin: Client,
    _guard: MutexGuard<'static, ()>,
}

impl DedicatedServer {
    pub async fn acquire() -> Self {
        static LOCK: Mutex<()> = Mutex::const_new(());
        static SERVER: OnceLock<Server> = OnceLock::new();
        let guard = LOCK.lock().await;
        let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(start_server)).await;
        let server = server.expect("a server with password authentication can be started");
        let admin = connect(&server.database_url("postgres")).await;
        let dedicated = Self { server, admin, _guard: guard };
        dedicated.clean().await;
        dedicated
    }

    /// Drops the databases and roles of the previous test, so that its failure does not affect the next one.
    async fn clean(&self) {
        let databases = "SELECT quote_ident(datname) FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'";
        for row in self.admin.query(databases, &[]).await.expect("databases can be listed") {
            let name: String = row.get(0);
            self.sql(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
        let roles =
            "SELECT rolname::text FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'rowhouse'";
        for row in self.admin.query(roles, &[]).await.expect("roles can be listed") {
            let role: String = row.get(0);
            self.sql(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
        }
    }

    pub async fn sql(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// Creates a database that the superuser owns and returns its URL.
    pub async fn database(&self, name: &str) -> String {
        self.sql(&format!("CREATE DATABASE {name}")).await;
        self.server.database_url(name)
    }

    /// Creates a login with these role attributes and a database that it owns; returns the URL over TCP.
    pub async fn create_owner(&self, login: &str, attributes: &str, password: &str) -> String {
        self.sql(&format!("CREATE ROLE {login} LOGIN {attributes} PASSWORD '{password}'")).await;
        self.sql(&format!("CREATE DATABASE of_{login} OWNER {login}")).await;
        self.url(login, password)
    }

    pub fn url(&self, login: &str, password: &str) -> String {
        let port = self.server.port();
        format!("postgres://{login}:{password}@127.0.0.1:{port}/of_{login}?sslmode=disable")
    }

    /// Returns the URL of a login and a database over TCP.
    pub fn url_to(&self, database: &str, login: &str, password: &str) -> String {
        let port = self.server.port();
        format!("postgres://{login}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// Connects to a database as the superuser.
    pub async fn superuser_in(&self, database: &str) -> Client {
        connect(&self.server.database_url(database)).await
    }

    /// Connects to a login's database as the superuser.
    pub async fn inside(&self, login: &str) -> Client {
        connect(&self.server.database_url(&format!("of_{login}"))).await
    }
}

fn start_server() -> Server {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(folder).expect("the folder for tests is there").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("dedicated-") else { continue };
        if !std::path::Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let settings = ServerSettings {
        data_dir: folder.join(format!("dedicated-{}", std::process::id())),
        bin_dir: None,
        durability: Durability::None,
        listen_tcp: Some(0),
        max_connections: 60,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let started = runtime.block_on(Server::start(&settings));
    // The runtime supervises the server for as long as the tests run.
    std::mem::forget(runtime);
    started.unwrap_or_else(|error| panic!("{error}"))
}
