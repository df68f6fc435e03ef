//! A PostgreSQL server of one scenario's own, which can be stopped, killed, frozen, and given a full disk.
//!
//! A shell supervises it: it starts and stops the server on request, and when this process ends, however it ends, it
//! stops the server and removes its folder. All clusters are copies of one template, in which the control plane is
//! already migrated. `fsync` is off, because no fault here loses what the kernel holds; commits stay synchronous.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::{Client, NoTls};

use crate::postgres_programs::{as_server, binaries, chown_to_server_user};
use crate::server;

/// Answers each line of its input by the exit code of what it did and the process id of the server. `$disk` may be a
/// file system of its own, which is full while the file `filler` takes all that is left. What must work while it is full
/// writes outside of it.
const SUPERVISOR: &str = r#"
    trap '' INT TERM
    bin=$1 folder=$2 template=$3 options=$4
    disk=$folder/disk data=$folder/disk/data
    cp -a "$template" "$data"; echo "$?"
    while read -r verb mode; do
        case $verb in
            start) "$bin/pg_ctl" start -s -w -t 60 -D "$data" -o "$options" -l "$folder/log" >>"$folder/log" 2>&1 ;;
            stop) "$bin/pg_ctl" stop -s -w -t 60 -m "$mode" -D "$data" >>"$folder/log" 2>&1 ;;
            fill) head -c 8G /dev/zero >"$disk/filler" 2>>"$folder/log"; test -s "$disk/filler" ;;
            free) rm -f "$disk/filler" ;;
            standby) touch "$data/standby.signal" ;;
            promote) "$bin/pg_ctl" promote -s -w -t 60 -D "$data" >>"$folder/log" 2>&1 ;;
        esac
        echo "$? $(head -n 1 "$data/postmaster.pid" 2>/dev/null)"
    done
    "$bin/pg_ctl" stop -s -m immediate -D "$data" >>"$folder/log" 2>&1
    cd / && umount "$disk" 2>/dev/null
    rm -rf "$folder"
"#;

/// Mounts a file system of limited size and runs a command, in a namespace that an unprivileged account may make.
const ON_A_SMALL_DISK: &str = r#"mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@""#;

/// The folder of the template, in which `data` is the cluster.
static TEMPLATE: OnceCell<PathBuf> = OnceCell::const_new();

/// How a cluster differs from the usual one.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// The size of its disk in MiB, if it has one of its own.
    pub(crate) disk: Option<u32>,
    pub(crate) max_connections: u16,
}

impl Default for Shape {
    fn default() -> Self {
        Self { disk: None, max_connections: 100 }
    }
}

/// A cluster and its supervisor. Dropping it stops the server.
pub(crate) struct Cluster {
    folder: PathBuf,
    port: u16,
    postmaster: AtomicU32,
    control: Mutex<Control>,
}

struct Control {
    _supervisor: Child,
    commands: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
}

impl Cluster {
    /// Copies the template and starts the copy.
    pub(crate) async fn start_new(shape: Shape) -> Self {
        let template = TEMPLATE.get_or_init(make_template).await;
        let cluster = Self::supervise(&template.join("data"), shape).await;
        cluster.start().await;
        cluster
    }

    async fn supervise(data: &Path, shape: Shape) -> Self {
        let folder = new_folder();
        let port = free_port();
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
             -c max_connections={}",
            shape.max_connections
        );
        let mut command = match shape.disk {
            None => Command::from(as_server(&folder, Path::new("env"))),
            Some(size) => on_a_small_disk(&folder, size),
        };
        command.args(["sh", "-c", SUPERVISOR, "supervisor"]).arg(binaries()).arg(&folder).arg(data);
        command.arg(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A Ctrl-C is for this process, whose end the supervisor notices.
        command.process_group(0);
        let mut supervisor = command.spawn().expect("there is a shell");
        let commands = supervisor.stdin.take().expect("stdin is piped");
        let stdout = supervisor.stdout.take().expect("stdout is piped");
        let mut replies = BufReader::new(stdout).lines();
        let copied = replies.next_line().await.expect("the supervisor answers");
        assert_eq!(copied.as_deref(), Some("0"), "the template can be copied");
        let control = Mutex::new(Control { _supervisor: supervisor, commands, replies });
        Self { folder, port, postmaster: AtomicU32::new(0), control }
    }

    /// Sends the supervisor a command; returns whether it succeeded.
    async fn order(&self, command: &str) -> bool {
        let mut control = self.control.lock().await;
        let line = format!("{command}\n");
        control.commands.write_all(line.as_bytes()).await.expect("the supervisor reads");
        let reply = control.replies.next_line().await.expect("the supervisor answers");
        let reply = reply.expect("the supervisor lives as long as this process");
        let (code, pid) = reply.split_once(' ').expect("a reply has two parts");
        if let Ok(pid) = pid.trim().parse() {
            self.postmaster.store(pid, Ordering::SeqCst);
        }
        code == "0"
    }

    /// Starts the server. Waits for what is left of one that was killed, whose processes hold its memory.
    pub(crate) async fn start(&self) {
        for _ in 0..100 {
            if self.order("start").await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("PostgreSQL does not start:\n{}", self.log());
    }

    /// Starts the server unless it still runs.
    pub(crate) async fn start_if_ended(&self) {
        if self.try_connect().await.is_err() && !self.is_running() {
            self.start().await;
        }
    }

    /// Stops the server by `fast` or `immediate`.
    pub(crate) async fn stop(&self, mode: &str) {
        assert!(self.order(&format!("stop {mode}")).await, "PostgreSQL stops:\n{}", self.log());
    }

    /// Kills the server's main process; its other processes notice and end.
    pub(crate) fn kill(&self) {
        server::signal("KILL", &[self.pid()]);
    }

    /// Fills what is left of its disk.
    pub(crate) async fn fill_disk(&self) {
        assert!(self.order("fill").await, "the disk can be filled:\n{}", self.log());
    }

    pub(crate) async fn free_disk(&self) {
        assert!(self.order("free").await, "the disk can be freed");
    }

    /// Restarts the server in recovery, where it takes reads and no write.
    pub(crate) async fn restart_in_recovery(&self) {
        self.stop("fast").await;
        assert!(self.order("standby").await, "the server can be made a standby");
        self.start().await;
    }

    /// Ends the recovery.
    pub(crate) async fn promote(&self) {
        assert!(self.order("promote").await, "the server can be promoted:\n{}", self.log());
    }

    /// Stops all processes of the server, which then answer nothing and close nothing.
    pub(crate) fn freeze(&self) {
        server::signal("STOP", &[self.pid()]);
        server::signal("STOP", &children(self.pid()));
    }

    pub(crate) fn thaw(&self) {
        server::signal("CONT", &[self.pid()]);
        server::signal("CONT", &children(self.pid()));
    }

    fn is_running(&self) -> bool {
        !children(self.pid()).is_empty()
    }

    fn pid(&self) -> u32 {
        self.postmaster.load(Ordering::SeqCst)
    }

    /// Returns the owner's URL, with the port of a proxy if there is one.
    pub(crate) fn url(&self, proxy: Option<u16>) -> String {
        let port = proxy.unwrap_or(self.port);
        format!("postgres://owner@127.0.0.1:{port}/rowhouse?sslmode=disable")
    }

    /// Connects as the owner, past every proxy.
    pub(crate) async fn connect(&self) -> Client {
        self.try_connect().await.unwrap_or_else(|e| panic!("{e:?}\n{}", self.log()))
    }

    async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(None), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn log(&self) -> String {
        server::last_lines(&self.folder.join("log"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A frozen server could not stop. The supervisor stops it when its input ends.
        if self.pid() != 0 {
            self.thaw();
        }
    }
}

/// Returns whether this machine lets an account mount a small file system for itself.
pub(crate) fn can_fill_a_disk() -> bool {
    let folder = new_folder();
    let mut command = on_a_small_disk(&folder, 1).into_std();
    let mounted = command.arg("true").stderr(Stdio::null()).status();
    let _ = std::fs::remove_dir_all(&folder);
    mounted.is_ok_and(|status| status.success())
}

fn on_a_small_disk(folder: &Path, size: u32) -> Command {
    let mut command = as_server(folder, Path::new("unshare"));
    command.args(["--user", "--map-current-user", "--keep-caps", "--mount", "sh", "-c"]);
    command.args([ON_A_SMALL_DISK, "mount", &format!("{size}m")]).arg(folder.join("disk"));
    Command::from(command)
}

/// Creates a cluster with a migrated control plane, and stops it.
async fn make_template() -> PathBuf {
    let folder = new_folder();
    let data = folder.join("data");
    let mut initdb = as_server(&folder, &binaries().join("initdb"));
    // Small segments, because each cluster copies one.
    initdb.args(["--no-sync", "-U", "owner", "-A", "trust", "--wal-segsize=1", "-E", "UTF8"]);
    let output = initdb.args(["--locale=C", "-D"]).arg(&data).output().expect("run initdb");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let made = Cluster::supervise(&data, Shape::default()).await;
    made.start().await;
    let url = made.url(None).replace("/rowhouse", "/postgres");
    let (sql, connection) = tokio_postgres::connect(&url, NoTls).await.expect("it accepts one");
    tokio::spawn(connection);
    sql.batch_execute("CREATE DATABASE rowhouse").await.expect("a database can be made");
    let migrated = server::run_program(Some(&made.url(None)), &folder, &["migrate"]).await;
    migrated.expect("the control plane is migrated");
    drop(sql);
    made.stop("fast").await;
    // Back over what initdb made; as the server's account, whose the files are.
    std::fs::remove_dir_all(&data).expect("the folder can be removed");
    let mut copy = as_server(&folder, Path::new("cp"));
    copy.arg("-a").arg(made.folder.join("disk/data")).arg(&data);
    assert!(copy.status().expect("run cp").success(), "the template can be copied");
    folder
}

/// Removes the template at the end of the run.
pub(crate) fn remove_template() {
    if let Some(folder) = TEMPLATE.get() {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Creates a folder that the account of the server owns.
fn new_folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("rowhouse-faults-").tempdir();
    let folder = folder.expect("a folder can be made").keep();
    let disk = folder.join("disk");
    std::fs::create_dir(&disk).expect("a folder can be made");
    chown_to_server_user(&disk);
    chown_to_server_user(&folder);
    folder
}

/// Returns a port on which no server listens.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("the listener is bound").port()
}

/// Returns the child processes of a process.
fn children(parent: u32) -> Vec<u32> {
    let output =
        std::process::Command::new("ps").args(["-A", "-o", "pid=", "-o", "ppid="]).output();
    let output = output.expect("there is ps");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().map(str::parse);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    });
    pairs.filter(|(_, of): &(u32, u32)| *of == parent).map(|(pid, _)| pid).collect()
}
