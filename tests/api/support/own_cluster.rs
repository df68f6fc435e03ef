//! A PostgreSQL cluster of a test's own, for what changes a whole server: base backups, standbys, recovery.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::postgres::connect;
use crate::postgres_programs::{as_server, binaries, chown_to_server_user};

/// Makes a folder for clusters, which the account of PostgreSQL owns. Its path is short, since sockets are in it.
pub fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("rh-").tempdir_in("/tmp");
    let folder = folder.expect("a folder can be made");
    chown_to_server_user(folder.path());
    folder
}

/// A cluster in a folder, reached by a socket there. Dropping it stops its server.
pub struct Cluster {
    folder: PathBuf,
    name: &'static str,
    port: u16,
    options: String,
    is_running: bool,
}

impl Cluster {
    /// A cluster of this name, to be created; the port tells apart those in the same folder.
    pub fn at(folder: &Path, name: &'static str, port: u16) -> Self {
        Self { folder: folder.to_owned(), name, port, options: String::new(), is_running: false }
    }

    /// Adds options of its server.
    pub fn with(mut self, options: &str) -> Self {
        self.options = format!("{} {options}", self.options);
        self
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command: Command = as_server(&self.folder, &binaries().join(program));
        let output = command.args(arguments).output().expect("the program runs");
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    }

    /// Creates it, empty.
    pub fn create(&self) {
        let data = self.data().display().to_string();
        self.run("initdb", &["-D", &data, "-U", "owner", "-A", "trust", "-E", "UTF8", "--no-sync"]);
    }

    /// Creates it as a copy of a running one, with these options of `pg_basebackup`.
    pub fn create_from(&self, other: &Self, options: &[&str]) {
        let (socket, data) = (self.folder.display().to_string(), self.data().display().to_string());
        let port = other.port.to_string();
        let from = ["-h", &socket, "-p", &port, "-U", "owner", "-D", &data];
        let quickly = ["--checkpoint", "fast", "--no-sync"];
        self.run("pg_basebackup", &[&from[..], &quickly, options].concat());
    }

    /// Adds lines to its settings, and a file that tells its server to recover.
    pub fn recover(&self, settings: &str, signal: &str) {
        let file = self.data().join("postgresql.auto.conf");
        let before = fs::read_to_string(&file).expect("a cluster has it");
        fs::write(&file, format!("{before}{settings}\n")).expect("a file can be written");
        let signal = self.data().join(signal);
        fs::write(&signal, "").expect("a file can be written");
        chown_to_server_user(&signal);
    }

    /// Makes it a standby of another one, when it is started next.
    pub fn follow(&self, primary: &Self) {
        let (socket, port) = (self.folder.display(), primary.port);
        let primary = format!("primary_conninfo = 'host={socket} port={port} user=owner'");
        self.recover(&primary, "standby.signal");
    }

    pub fn start(&mut self) {
        let options = format!(
            "-p {} -c listen_addresses= -c unix_socket_directories={} -c fsync=off{}",
            self.port,
            self.folder.display(),
            self.options
        );
        let log = self.folder.join(format!("{}.log", self.name));
        let (data, log) = (self.data().display().to_string(), log.display().to_string());
        self.run("pg_ctl", &["-D", &data, "-l", &log, "-o", &options, "-w", "-t", "60", "start"]);
        self.is_running = true;
    }

    /// Stops it, after its standbys have received everything.
    pub fn stop(&mut self) {
        let data = self.data().display().to_string();
        self.run("pg_ctl", &["-D", &data, "-m", "fast", "-w", "stop"]);
        self.is_running = false;
    }

    /// Makes a standby a primary.
    pub fn promote(&self) {
        let data = self.data().display().to_string();
        self.run("pg_ctl", &["-D", &data, "-w", "promote"]);
    }

    pub fn url(&self) -> String {
        let socket = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://owner@{socket}:{}/postgres", self.port)
    }

    /// Returns the text that a query answers.
    pub async fn sql(&self, sql: &str) -> String {
        let client = connect(&self.url()).await;
        client.query_one(sql, &[]).await.expect("the statement runs").get(0)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_running {
            let data = self.data().display().to_string();
            let mut command = as_server(&self.folder, &binaries().join("pg_ctl"));
            let _ = command.args(["-D", &data, "-m", "immediate", "stop"]).output();
        }
    }
}
