//! A deployment that is replaced server by server, to the next version and back, one migration of the control plane apart:
//! no request fails. And what a server does on a control plane that is newer than itself.
//!
//! The next version is this one with one more migration (`tests/fixtures/later_control_plane`). `make test-upgrade` runs
//! the same with two programs that were built from two commits: `UPGRADE_OLD` and `UPGRADE_NEW` name them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_blocking};
use uuid::Uuid;

use crate::support::program::RunningServer;
use crate::support::{Program, TestApp, TestDatabase};

/// The migration that the next version has.
const LATER: &str = "tests/fixtures/later_control_plane";

/// How long a server that stops is not ready and still serves; much longer than the pause between two probes.
const DRAIN_DELAY: &str = "2s";

const PROBE_EVERY: Duration = Duration::from_millis(50);

fn later() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(LATER)
}

/// A version of the program.
enum Version {
    /// This one.
    This,
    /// The next one.
    Next,
    /// A program that was built from another commit.
    Built(PathBuf),
}

/// A running server of a version.
enum Server {
    Here(Box<TestApp>),
    Process(Program, RunningServer),
}

impl Version {
    async fn start(&self, database: &TestDatabase, root_token: &str) -> Server {
        let here = || {
            TestApp::builder()
                .on(database.clone())
                .with("root_token", root_token)
                .with("http.drain_delay", DRAIN_DELAY)
        };
        match self {
            Self::This => Server::Here(Box::new(here().spawn().await)),
            Self::Next => {
                Server::Here(Box::new(here().with_later_control_plane(later()).spawn().await))
            }
            Self::Built(path) => {
                let program = Program::on(database)
                    .with("ROWHOUSE_ROOT_TOKEN", root_token)
                    .with("ROWHOUSE_HTTP__DRAIN_DELAY", DRAIN_DELAY);
                let command = program.command(&path.display().to_string(), &["serve"]);
                let started = spawn_blocking(|| RunningServer::start(command)).await;
                Server::Process(program, started.expect("the server starts"))
            }
        }
    }
}

impl Server {
    fn address(&self) -> &str {
        match self {
            Self::Here(app) => &app.address,
            Self::Process(_, server) => &server.address,
        }
    }

    async fn stop(self) {
        match self {
            Self::Here(app) => drop(app.stop().await),
            Self::Process(_program, server) => {
                let stopped = spawn_blocking(|| server.stop("TERM")).await;
                stopped.expect("the server stops").expect(0);
            }
        }
    }
}

/// What a load balancer does: it probes its servers, and sends requests to those that are ready.
#[derive(Default)]
struct Balancer {
    servers: RwLock<Vec<String>>,
    ready: RwLock<Vec<String>>,
    turn: AtomicUsize,
    is_over: AtomicBool,
}

impl Balancer {
    fn add(&self, address: &str) {
        self.servers.write().expect("it works").push(address.to_owned());
    }

    fn remove(&self, address: &str) {
        self.servers.write().expect("it works").retain(|server| server != address);
    }

    async fn probe(self: Arc<Self>) {
        let client = Client::builder().timeout(Duration::from_secs(10)).build().expect("it works");
        while !self.is_over.load(Ordering::Relaxed) {
            let servers = self.servers.read().expect("it works").clone();
            let mut ready = Vec::new();
            for server in servers {
                let answer = client.get(format!("{server}/readyz")).send().await;
                if answer.is_ok_and(|answer| answer.status() == 200) {
                    ready.push(server);
                }
            }
            *self.ready.write().expect("it works") = ready;
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    async fn wait_until_ready(&self, address: &str) {
        for _ in 0..600 {
            if self.ready.read().expect("it works").iter().any(|server| server == address) {
                return;
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
        panic!("{address} is not ready");
    }

    /// Returns the server whose turn it is.
    fn next(&self) -> String {
        let ready = self.ready.read().expect("it works");
        assert!(!ready.is_empty(), "no server is ready");
        ready[self.turn.fetch_add(1, Ordering::Relaxed) % ready.len()].clone()
    }
}

/// Clients that read and set tenants up until they are told to end, and never try a request again.
struct Load {
    clients: Vec<JoinHandle<()>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    made: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Load {
    fn start(balancer: &Arc<Balancer>, root_token: &str) -> Self {
        let counts = Arc::new(Counts::default());
        let client = |number: usize| {
            let (balancer, counts) = (Arc::clone(balancer), Arc::clone(&counts));
            let token = root_token.to_owned();
            tokio::spawn(async move {
                let client =
                    Client::builder().timeout(Duration::from_secs(30)).build().expect("it works");
                let mut turn = 0;
                while !balancer.is_over.load(Ordering::Relaxed) {
                    turn += 1;
                    let at = balancer.next();
                    let sets_up = turn % 5 == 0;
                    let request = if sets_up {
                        let body = TestApp::setup_body(&format!("t-{number}-{turn}"));
                        client.post(format!("{at}/api/tenant/setup")).json(&body)
                    } else {
                        client.get(format!("{at}/control/v1/tenants?limit=5"))
                    };
                    counts.send(request.bearer_auth(&token), sets_up).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        };
        let clients = (0..4).map(client).collect();
        Self { clients, counts }
    }

    async fn end(self) -> Arc<Counts> {
        for client in self.clients {
            client.await.expect("a client does not panic");
        }
        self.counts
    }
}

impl Counts {
    async fn send(&self, request: RequestBuilder, sets_up: bool) {
        let wanted = if sets_up { 201 } else { 200 };
        let failure = match request.send().await {
            Ok(answer) if answer.status() == wanted => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.made.fetch_add(usize::from(sets_up), Ordering::Relaxed);
                return;
            }
            Ok(answer) => {
                format!("{} {}", answer.status(), answer.text().await.unwrap_or_default())
            }
            Err(error) => format!("{error:?}"),
        };
        self.failed.lock().expect("it works").push(failure);
    }
}

/// Replaces each server by one of another version, one after the other.
async fn replace(
    servers: Vec<Server>,
    version: &Version,
    (balancer, database, root_token): (&Balancer, &TestDatabase, &str),
) -> Vec<Server> {
    let mut replaced = Vec::new();
    for server in servers {
        let new = version.start(database, root_token).await;
        balancer.add(new.address());
        balancer.wait_until_ready(new.address()).await;
        // The control plane is the next version's by now, and the servers of the other version are ready all the same.
        balancer.wait_until_ready(server.address()).await;
        let address = server.address().to_owned();
        server.stop().await;
        balancer.remove(&address);
        replaced.push(new);
    }
    replaced
}

async fn roll(old: Version, new: Version) {
    let database = TestDatabase::create().await;
    let root_token = Uuid::new_v4().to_string();
    let balancer = Arc::new(Balancer::default());
    let probing = tokio::spawn(Arc::clone(&balancer).probe());
    let mut servers = Vec::new();
    for _ in 0..2 {
        let server = old.start(&database, &root_token).await;
        balancer.add(server.address());
        balancer.wait_until_ready(server.address()).await;
        servers.push(server);
    }
    let before = newest_migration(&database).await;
    let load = Load::start(&balancer, &root_token);
    let around = (&*balancer, &database, root_token.as_str());
    let servers = replace(servers, &new, around).await;
    let after = newest_migration(&database).await;
    assert_eq!(
        after.0,
        before.0 + 1,
        "the versions are one migration apart: {before:?}, {after:?}"
    );
    let servers = replace(servers, &old, around).await;
    assert_eq!(newest_migration(&database).await, after, "what is older takes nothing back");
    tokio::time::sleep(Duration::from_millis(500)).await;
    balancer.is_over.store(true, Ordering::Relaxed);
    let counts = load.end().await;
    probing.await.expect("the probes do not panic");
    for server in servers {
        server.stop().await;
    }
    let failed = counts.failed.lock().expect("it works").clone();
    let (answered, made) =
        (counts.answered.load(Ordering::Relaxed), counts.made.load(Ordering::Relaxed));
    eprintln!(
        "{answered} requests were answered, {made} tenants made, {} requests failed",
        failed.len()
    );
    assert!(failed.is_empty(), "{} of {answered} failed: {failed:#?}", failed.len());
    assert!(answered > 100 && made > 10, "{answered} requests, {made} tenants");
    let count = "SELECT count(*) FROM tenants";
    let count: i64 = database.connect().await.query_one(count, &[]).await.expect("it works").get(0);
    assert_eq!(
        usize::try_from(count).expect("it works"),
        made,
        "each tenant that was acknowledged is there, once"
    );
}

/// Returns how many migrations the control plane has, and the newest of them.
async fn newest_migration(database: &TestDatabase) -> (i64, i32) {
    let sql = "SELECT count(*), max(version) FROM refinery_schema_history";
    let row = database.connect().await.query_one(sql, &[]).await.expect("it works");
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_a_deployment_is_replaced_by_the_next_version_and_back() {
    #[expect(clippy::disallowed_methods, reason = "settings of the test suite")]
    let [old, new] = ["UPGRADE_OLD", "UPGRADE_NEW"].map(|name| std::env::var(name).ok());
    match old.zip(new) {
        Some((old, new)) => roll(Version::Built(old.into()), Version::Built(new.into())).await,
        None => roll(Version::This, Version::Next).await,
    }
}

/// Writes a migration of the next version into a folder of its own.
fn migration(sql: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    std::fs::write(folder.path().join("V1000__change_tenants.sql"), sql)
        .expect("a file can be written");
    folder
}

#[tokio::test]
async fn a_server_is_not_ready_on_a_control_plane_that_it_does_not_work_with_and_does_not_start_on_it()
 {
    let old = TestApp::spawn().await;
    assert_eq!(old.anonymous().get("/readyz").await.status, 200);
    let folder = migration("-- works with: V1000\nALTER TABLE tenants ADD COLUMN note text;");
    let new = TestApp::builder().on(old.database.clone()).with_later_control_plane(folder.path());
    let new = new.spawn().await;
    assert_eq!(new.anonymous().get("/readyz").await.status, 200);
    let refused = old.anonymous().get("/readyz").await;
    assert_eq!((refused.status, refused.retry_after()), (503, 1), "{refused:?}");
    let why = refused.body["reason"].as_str().unwrap_or_default();
    assert_eq!(why, "this program does not work with the version of the control plane");
    for command in [&["tenant", "list"][..], &["migrate"], &["migrate", "--control-plane-only"]] {
        let ran = Program::on(&old.database).run(command).expect(1);
        assert!(
            ran.stderr.contains("version 1000") && ran.stderr.contains("start a newer one"),
            "{ran:?}"
        );
    }
}

#[tokio::test]
async fn commands_and_servers_of_the_version_before_work_on_the_control_plane_of_the_next() {
    let new = TestApp::builder().with_later_control_plane(later()).spawn().await;
    new.set_up("acme").await;
    let old = TestApp::builder().on(new.database.clone()).spawn().await;
    assert_eq!(old.anonymous().get("/readyz").await.status, 200);
    old.set_up("globex").await;
    let program = Program::on(&new.database);
    let listed = program.run(&["tenant", "list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    let migrated = program.run(&["migrate"]).expect(0);
    assert!(migrated.stdout.contains("control plane: nothing to do"), "{migrated:?}");
    // What the next version has made is not held against it.
    let examined = program.run(&["doctor", "--json"]).expect(0).json();
    let findings: Vec<_> = examined["findings"].as_array().into_iter().flatten().collect();
    let said = |text: &str| findings.iter().any(|finding| finding.to_string().contains(text));
    assert!(said("the control plane is at V1000 and was not compared"), "{examined}");
    assert!(!said("note"), "{examined}");
}

#[tokio::test]
async fn a_newer_control_plane_whose_files_are_not_those_of_this_program_is_refused() {
    let new = TestApp::builder().with_later_control_plane(later()).spawn().await;
    let edited = "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 29";
    assert_eq!(new.sql().await.execute(edited, &[]).await.expect("it works"), 1);
    let ran = Program::on(&new.database).run(&["migrate", "--control-plane-only"]).expect(1);
    assert!(ran.stderr.contains("applied with another text"), "{ran:?}");
}

#[tokio::test]
async fn the_control_plane_alone_is_migrated_where_that_is_asked_for() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    program.create_tenant("acme").expect(0);
    let sql = database.connect().await;
    let behind = "UPDATE tenants SET migrations_version = 0, migrations_fingerprint = 'older'";
    sql.execute(behind, &[]).await.expect("it works");
    let ran = program.run(&["migrate", "--control-plane-only", "--json"]).expect(0);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    assert_eq!(lines, [json!({ "event": "control_plane", "applied": [] })]);
    let row =
        sql.query_one("SELECT migrations_fingerprint FROM tenants", &[]).await.expect("it works");
    assert_eq!(row.get::<_, String>(0), "older", "no tenant was touched");
    for flag in ["--plan", "--lint", "--retry-failed"] {
        program.run(&["migrate", "--control-plane-only", flag]).expect(2);
    }
}

#[tokio::test]
async fn each_migration_tells_the_oldest_program_that_works_with_it() {
    let app = TestApp::builder().with_later_control_plane(later()).spawn().await;
    let sql = "SELECT v.version, v.oldest_program FROM control_plane_versions v
                 JOIN refinery_schema_history h ON h.version = v.version ORDER BY v.version";
    let rows = app.sql().await.query(sql, &[]).await.expect("it works");
    let told: Vec<(i32, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!((told.first(), told.last()), (Some(&(40, 40)), Some(&(1000, 40))));
}
