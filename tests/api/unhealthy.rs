//! The database goes away and comes back: requests are refused in form and in time, and the server recovers
//! by itself.

use std::time::{Duration, Instant};

use reqwest::Method;
use rowhouse::domain::Permission;
use rowhouse::embedded::{Durability, Server, Settings as ServerSettings};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use crate::support::callers::send;
use crate::support::{Answer, Caller, PASSWORD, Snapshot, TestApp};

const SETUP: &str = "/api/tenant/setup";
const LOGIN: &str = "/api/auth/login";

/// Longest time for a refusal: the connect timeout of these tests is a second.
const IN_TIME: Duration = Duration::from_secs(5);

/// A server that does not wait long for its database.
fn impatient() -> crate::support::TestAppBuilder {
    TestApp::builder().with("database.connect_timeout", "1s")
}

/// Sends each kind of request that needs the database.
async fn ask(app: &TestApp, callers: &[Caller]) -> Vec<Answer> {
    let login = json!({ "identifier": "una@example.com", "password": PASSWORD });
    let refresh = app.anonymous().request(Method::POST, "/api/auth/refresh");
    let mut answers = vec![
        app.anonymous().post(LOGIN, &login).await,
        send(refresh.header("cookie", "refreshToken=rhr_x")).await,
        app.root().post(SETUP, &TestApp::setup_body("acme")).await,
    ];
    for caller in callers {
        answers.push(caller.get("/api/tenant").await);
        answers.push(caller.get("/api/tenant/mine").await);
    }
    answers
}

async fn ready(app: &TestApp) -> u16 {
    app.anonymous().get("/readyz").await.status
}

/// Waits for the server to be ready again.
async fn recovers(app: &TestApp) {
    for _ in 0..100 {
        if ready(app).await == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server does not recover");
}

#[tokio::test]
async fn while_the_database_lets_nobody_in_requests_are_refused_in_time_and_then_served_again() {
    let app = impatient().spawn().await;
    app.add_user("una@example.com", Some("SUPER_ADMIN")).await;
    let (user, root) = (app.log_in("una@example.com").await, app.root());
    let (_, token) = app.add_token(&[Permission::ViewTenants], None, None).await;
    let callers = [user, root, token];
    let before = Snapshot::of(&app).await;
    app.database.close().await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let started = Instant::now();
    for answer in ask(&app, &callers).await {
        assert_eq!(answer.refusal(503), "Not available right now; try again");
        assert!(answer.retry_after() >= 1);
        assert!(!answer.text.contains(app.database.name()), "{answer:?}");
    }
    assert!(started.elapsed() < IN_TIME, "{:?}", started.elapsed());
    let answer = app.anonymous().get("/readyz").await;
    assert_eq!((answer.status, answer.retry_after()), (503, 1));
    assert_eq!(answer.body["reason"], "the database does not answer");
    // What needs no database is served.
    for path in ["/healthz", "/metrics", "/openapi.json", "/.well-known/jwks.json"] {
        assert_eq!(app.anonymous().get(path).await.status, 200, "{path}");
    }
    app.anonymous().get("/api/tenant").await.refusal(401);
    app.root().post(SETUP, &json!({})).await.refusal(400);

    app.database.open().await;
    recovers(&app).await;
    assert_eq!(Snapshot::of(&app).await, before);
    for answer in ask(&app, &callers).await {
        assert!(matches!(answer.status, 200 | 201 | 401), "{answer:?}");
    }
}

#[tokio::test]
async fn a_database_server_that_stops_and_starts_again_is_found_again() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let settings = ServerSettings {
        data_dir: folder.path().to_owned(),
        bin_dir: None,
        durability: Durability::None,
        listen_tcp: None,
        max_connections: 30,
    };
    let server = Server::start(&settings).await.expect("the server starts");
    // Takes the place of the test's own database, which stays unused.
    let url = server.database_url("rowhouse");
    let app = impatient().with("database.url", &url).spawn().await;
    let made = app.root().post(SETUP, &TestApp::setup_body("acme")).await;
    assert_eq!(made.status, 201, "{made:?}");
    let admin = app.log_in("admin@acme.example.com").await;
    server.stop().await.expect("the server stops");

    let started = Instant::now();
    for answer in ask(&app, std::slice::from_ref(&admin)).await {
        answer.refusal(503);
        assert!(answer.retry_after() >= 1);
    }
    assert_eq!(ready(&app).await, 503);
    assert!(started.elapsed() < IN_TIME, "{:?}", started.elapsed());

    let server = Server::start(&settings).await.expect("the server starts again");
    recovers(&app).await;
    // A session outlives it, because it is in the database.
    assert_eq!(admin.get("/api/tenant").await.body[0]["slug"], "acme");
    let again = app.root().post(SETUP, &TestApp::setup_body("again")).await;
    assert_eq!(again.status, 201, "{again:?}");
    assert!(app.stop().await.name().starts_with("rowhouse_test_"));
    server.stop().await.expect("the server stops");
}

/// A wire to the database that can be frozen: what is sent arrives nowhere, and nothing breaks.
struct Wire {
    url: String,
    frozen: watch::Sender<bool>,
}

impl Wire {
    async fn to(url: &str) -> Self {
        let config: tokio_postgres::Config = url.parse().expect("it is a URL");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (frozen, watch) = watch::channel(false);
        let user = config.get_user().expect("the URL has a user");
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default());
        let database = config.get_dbname().expect("the URL has a database");
        let url =
            format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, config.clone(), watch.clone()));
            }
        });
        Self { url, frozen }
    }

    fn freeze(&self, frozen: bool) {
        self.frozen.send(frozen).expect("somebody carries");
    }
}

/// Carries bytes both ways until the wire freezes, and on when it thaws.
async fn carry(
    mut client: TcpStream,
    config: tokio_postgres::Config,
    mut frozen: watch::Receiver<bool>,
) {
    let _ = frozen.wait_for(|frozen| !frozen).await;
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match &config.get_hosts()[0] {
        tokio_postgres::config::Host::Unix(folder) => {
            let socket = folder.join(format!(".s.PGSQL.{port}"));
            let mut server = UnixStream::connect(socket).await.expect("the server listens");
            carry_on(&mut client, &mut server, frozen).await;
        }
        tokio_postgres::config::Host::Tcp(host) => {
            let mut server = TcpStream::connect((host.as_str(), port)).await.expect("it listens");
            carry_on(&mut client, &mut server, frozen).await;
        }
    }
}

async fn carry_on<C, S>(client: &mut C, server: &mut S, mut frozen: watch::Receiver<bool>)
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        // Both live over the loop, so that what is under way when it freezes is kept as far as it came.
        let mut freezing = frozen.clone();
        tokio::select! {
            _ = copy_bidirectional(client, server) => return,
            _ = freezing.wait_for(|frozen| *frozen) => {}
        }
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_database_that_hangs_is_refused_in_time_and_used_again() {
    let database = crate::support::TestDatabase::create().await;
    let (owner, runtime) =
        (Wire::to(&database.url()).await, Wire::to(&database.runtime_url()).await);
    let app = impatient()
        .on(database)
        .with("database.url", &owner.url)
        .with("database.runtime_url", &runtime.url)
        .with("http.request_timeout", "1s")
        .spawn()
        .await;
    app.set_up("first").await;
    let admin = app.log_in("admin@first.example.com").await;
    assert_eq!(ready(&app).await, 200);
    let before = Snapshot::of(&app).await;
    owner.freeze(true);
    let started = Instant::now();
    let root = app.root();
    let body = TestApp::setup_body("acme");
    let (setup, list, ready_status) =
        tokio::join!(root.post(SETUP, &body), admin.get("/api/tenant"), ready(&app));
    for answer in [setup, list] {
        answer.refusal(503);
        assert!(answer.retry_after() >= 1);
    }
    assert_eq!(ready_status, 503);
    assert!(started.elapsed() < IN_TIME, "{:?}", started.elapsed());
    assert_eq!(app.anonymous().get("/healthz").await.status, 200);
    owner.freeze(false);
    recovers(&app).await;
    assert_eq!(admin.get("/api/tenant").await.body[0]["slug"], "first");
    let after = Snapshot::of(&app).await;
    assert_eq!(after, before, "what was refused is not made later");
    assert_eq!(app.root().post(SETUP, &TestApp::setup_body("acme")).await.status, 201);
}

#[tokio::test]
async fn a_server_without_free_connections_says_so_in_time() {
    let app = impatient().spawn().await;
    // Two connections provision; both wait for a lock that this test has.
    let mut sql = app.sql().await;
    let held = sql.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE audit_events IN SHARE MODE").await.unwrap();
    let setups: Vec<_> = (0..6)
        .map(|n| {
            let root = app.root();
            tokio::spawn(
                async move { root.post(SETUP, &TestApp::setup_body(&format!("t{n}"))).await },
            )
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // Others are not held up: their connections are not the same.
    assert_eq!(app.root().get("/api/tenant").await.status, 200);
    held.rollback().await.unwrap();
    let mut made = 0;
    for setup in setups {
        let answer = setup.await.expect("the request ends");
        if answer.status == 201 {
            made += 1;
        } else {
            answer.refusal(503);
            assert!(answer.retry_after() >= 1);
        }
    }
    assert_eq!(made, 2, "those that had a connection went on");
    assert_eq!(Snapshot::of(&app).await.count("tenants"), 2);
}
