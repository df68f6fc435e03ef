//! The database becomes unavailable and returns: requests are answered 503 in time, and the server recovers
//! without a restart.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use rowhouse::domain::Permission;
use rowhouse::embedded::{Durability, Server, Settings as ServerSettings};
use serde_json::json;

use crate::support::callers::send;
use crate::support::proxy::Proxy;
use crate::support::{Answer, Caller, PASSWORD, Snapshot, TestApp};

const SETUP: &str = "/api/tenant/setup";
const LOGIN: &str = "/api/auth/login";

/// The longest time for refusals; the connect timeout of these tests is one second.
const IN_TIME: Duration = Duration::from_secs(5);

/// Returns a builder of a server with a short connect timeout.
fn with_short_connect_timeout() -> crate::support::TestAppBuilder {
    TestApp::builder().with("database.connect_timeout", "1s")
}

/// Sends each kind of request that needs the database; the first caller is a user.
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
    }
    // A caller that is no user has none, which takes no query: behind a pooler it does not show that the database is away.
    answers.push(callers[0].get("/api/tenant/mine").await);
    answers
}

async fn ready(app: &TestApp) -> u16 {
    app.anonymous().get("/readyz").await.status
}

/// Waits for the server to be ready again.
async fn wait_until_ready(app: &TestApp) {
    for _ in 0..100 {
        if ready(app).await == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server does not recover");
}

#[tokio::test]
async fn while_the_database_refuses_connections_requests_are_answered_503_in_time_and_served_afterwards()
 {
    let app = with_short_connect_timeout().spawn().await;
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
    // Routes that need no database are served.
    for path in ["/healthz", "/metrics", "/openapi.json", "/.well-known/jwks.json"] {
        assert_eq!(app.anonymous().get(path).await.status, 200, "{path}");
    }
    app.anonymous().get("/api/tenant").await.refusal(401);
    app.root().post(SETUP, &json!({})).await.refusal(400);

    app.database.open().await;
    wait_until_ready(&app).await;
    assert_eq!(Snapshot::of(&app).await, before);
    for answer in ask(&app, &callers).await {
        assert!(matches!(answer.status, 200 | 201 | 401), "{answer:?}");
    }
}

#[tokio::test]
async fn a_background_job_that_fails_while_the_database_is_away_succeeds_when_it_is_back() {
    let app = with_short_connect_timeout().with("tenants.purge_interval", "20ms").spawn().await;
    let runs = async |outcome: &str| -> usize {
        let metrics = app.anonymous().get("/metrics").await.text;
        let line =
            format!("rowhouse_job_runs_total{{job=\"purge_tenants\",outcome=\"{outcome}\"}} ");
        let count = metrics.lines().find_map(|metric| metric.strip_prefix(&line));
        count.map_or(0, |count| count.parse().expect("a counter is a number"))
    };
    let wait_for_more = async |outcome: &str| {
        let before = runs(outcome).await;
        for _ in 0..500 {
            if runs(outcome).await > before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no run of the job was counted as {outcome}");
    };
    wait_for_more("done").await;
    app.database.close().await;
    wait_for_more("failed").await;
    app.database.open().await;
    wait_for_more("done").await;
    let metrics = app.anonymous().get("/metrics").await.text;
    assert!(metrics.contains("rowhouse_job_last_success_timestamp_seconds{job=\"purge_tenants\"}"));
    // This one runs for the first time after its interval.
    assert!(!metrics.contains("erase_profiles"), "{metrics}");
}

#[tokio::test]
async fn the_server_reconnects_after_a_restart_of_the_database_server() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let settings = ServerSettings {
        data_dir: folder.path().to_owned(),
        bin_dir: None,
        durability: Durability::None,
        listen_tcp: None,
        max_connections: 30,
    };
    let server = Server::start(&settings).await.expect("the server starts");
    // Replaces the test's own database, which stays unused.
    let url = server.database_url("rowhouse");
    let app = with_short_connect_timeout().with("database.url", &url).spawn().await;
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
    wait_until_ready(&app).await;
    // Sessions outlive a restart, because they are stored in the database.
    assert_eq!(admin.get("/api/tenant").await.body[0]["slug"], "acme");
    let again = app.root().post(SETUP, &TestApp::setup_body("again")).await;
    assert_eq!(again.status, 201, "{again:?}");
    assert!(app.stop().await.name().starts_with("rowhouse_test_"));
    server.stop().await.expect("the server stops");
}

#[tokio::test]
async fn requests_to_a_hanging_database_are_refused_in_time_and_served_afterwards() {
    let database = crate::support::TestDatabase::create().await;
    let (owner, runtime) =
        (Proxy::to(&database.url()).await, Proxy::to(&database.runtime_url()).await);
    let app = with_short_connect_timeout()
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
    wait_until_ready(&app).await;
    assert_eq!(admin.get("/api/tenant").await.body[0]["slug"], "first");
    let after = Snapshot::of(&app).await;
    assert_eq!(after, before, "a refused set-up is not performed later");
    assert_eq!(app.root().post(SETUP, &TestApp::setup_body("acme")).await.status, 201);
}

#[tokio::test]
async fn a_server_without_free_connections_answers_503_in_time() {
    let app = with_short_connect_timeout().spawn().await;
    // Two connections serve set-ups, and both wait for a lock that this test holds.
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
    // Other requests use other connections and are served.
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
    assert_eq!(made, 2, "the set-ups with a connection succeed");
    assert_eq!(Snapshot::of(&app).await.count("tenants"), 2);
}

/// Longer than a connection rests before it is asked again.
const REST: Duration = Duration::from_secs(2);

/// Starts a server on a database that is reached through two proxies.
async fn behind_proxies() -> (TestApp, [Proxy; 2]) {
    let database = crate::support::TestDatabase::create().await;
    let (owner, runtime) =
        (Proxy::to(&database.url()).await, Proxy::to(&database.runtime_url()).await);
    let app = TestApp::builder()
        .on(database)
        .with("database.url", &owner.url)
        .with("database.runtime_url", &runtime.url)
        .spawn()
        .await;
    (app, [owner, runtime])
}

#[tokio::test]
async fn connections_that_rested_and_were_forgotten_by_the_network_are_replaced_before_they_are_used()
 {
    let (app, proxies) = behind_proxies().await;
    app.set_up("acme").await;
    let tenant = app.bunker_tenant("initech").await;
    tenant.add(json!({ "email": "ada@example.com" })).await;
    // Several connections of either login rest.
    let admin = app.log_in("admin@acme.example.com").await;
    let control = (0..8).map(|_| admin.get("/api/tenant"));
    let tenants = (0..8).map(|_| tenant.admin.get("ada@example.com"));
    let (control, tenants) = tokio::join!(join_all(control), join_all(tenants));
    for answer in control.into_iter().chain(tenants) {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    tokio::time::sleep(REST).await;
    for proxy in &proxies {
        proxy.forget_connections();
    }
    // Without the check, each request would wait for its own limit of 30 s.
    let started = Instant::now();
    for _ in 0..8 {
        assert_eq!(admin.get("/api/tenant").await.status, 200);
        assert_eq!(tenant.admin.get("ada@example.com").await.status, 200);
    }
    let made = app.root().post(SETUP, &TestApp::setup_body("globex")).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn every_database_connection_is_probed_when_nothing_comes_from_it() {
    let (app, proxies) = behind_proxies().await;
    app.set_up("acme").await;
    let tenant = app.bunker_tenant("globex").await;
    tenant.add(json!({ "email": "ada@example.com" })).await;
    for proxy in &proxies {
        let timers = timers_to(proxy.port);
        assert!(!timers.is_empty());
        for (timer, hundredths) in timers {
            // 2 is the timer of keepalive (proc(5), tcp); the system's default is two hours.
            assert_eq!(timer, 2, "a keepalive timer");
            assert!(hundredths <= 10_00, "the next probe in {hundredths}/100 s");
        }
    }
}

/// Returns the kind of the timer of each established connection to a local port, and when it is due, in hundredths of a
/// second.
fn timers_to(port: u16) -> Vec<(u32, u32)> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let remote = format!(":{port:04X}");
    let number = |text: &str| u32::from_str_radix(text, 16).expect("a number");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[2].ends_with(&remote) && row[3] == "01")
        .map(|row| {
            let (timer, due) = row[5].split_once(':').expect("a timer and a time");
            (number(timer), number(due))
        })
        .collect()
}

#[tokio::test]
async fn a_connection_whose_bytes_are_not_taken_breaks_after_the_time_of_the_url() {
    let database = crate::support::TestDatabase::create().await;
    let proxy = Proxy::to(&database.url()).await;
    let url = format!("{}&tcp_user_timeout=2000", proxy.url);
    let url = rowhouse::pg::connect::url::DatabaseUrl::parse(&url).expect("it is a URL");
    let connector = rowhouse::pg::connect::tls::Connector::new(url.ssl()).expect("no files");
    let (client, connection) = connector.connect(url.config()).await.expect("it connects");
    let driving = tokio::spawn(connection);
    client.simple_query("SELECT 1").await.expect("it answers");
    proxy.freeze(true);
    // More than the buffers on the way hold, so that the window closes.
    let long = format!("SELECT '{}'", "x".repeat(64 << 20));
    let asked = tokio::time::timeout(Duration::from_secs(25), client.simple_query(&long)).await;
    asked.expect("the connection breaks by itself").expect_err("and the statement fails");
    let broke = driving.await.expect("no panic").expect_err("it broke");
    let cause = rowhouse::pg::error::server_message(&broke);
    assert!(cause.contains("timed out"), "{cause}");
}
