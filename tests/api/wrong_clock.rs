//! A server whose machine shows another time: what has an end in the database ends by the clock of the database.
#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::process::Command;

use rowhouse::domain::Clock;
use serde_json::json;
use uuid::Uuid;

use crate::support::control::{send_if_match, transition};
use crate::support::program::RunningServer;
use crate::support::{Caller, PASSWORD, Program, TestApp};

/// Compiles the library that shifts the clock of a program.
fn shifting_library() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let library = folder.join(format!("shifted_clock-{}.so", Uuid::now_v7()));
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/shifted_clock.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .status()
        .expect("there is a C compiler, which the build needs as well");
    assert!(compiled.success());
    library
}

/// Starts a server on the database of `app`, on a machine whose clock is wrong by so many days. It looks for tenants to
/// purge once a second.
fn serve_shifted(app: &TestApp, days: i64) -> RunningServer {
    let library = shifting_library();
    let shift = time::Duration::days(days);
    let server = Program::on(&app.database)
        .with("ROWHOUSE_ROOT_TOKEN", &app.root_token)
        .with("ROWHOUSE_TENANTS__PURGE_INTERVAL", "1s")
        .with("ROWHOUSE_LOG__FILTER", "info")
        .with("LD_PRELOAD", &library.display().to_string())
        .with("SHIFTED_BY", &shift.whole_seconds().to_string())
        .serve(&[]);
    std::fs::remove_file(&library).expect("the library can be removed");
    server
}

/// Waits until the server has looked for tenants to purge several times.
async fn wait_for_purges(server: &RunningServer) {
    let caller = Caller::new(&server.address, None);
    for _ in 0..600 {
        let metrics = caller.get("/metrics").await.text;
        let of_purges = |line: &&str| {
            line.starts_with("rowhouse_job_runs_total")
                && line.contains("job=\"purge_tenants\"")
                && line.contains("outcome=\"done\"")
        };
        let runs = metrics.lines().find(of_purges).and_then(|line| line.rsplit(' ').next());
        if runs.and_then(|runs| runs.parse::<f64>().ok()).is_some_and(|runs| runs >= 3.0) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the server does not look for tenants to purge");
}

/// The year that a clock shows which is wrong by so many days.
fn year_in(days: i64) -> String {
    (Clock::system().now() + time::Duration::days(days)).year().to_string()
}

#[tokio::test]
async fn a_server_whose_clock_is_ahead_purges_no_tenant_in_its_grace_period() {
    let app = TestApp::builder().with("tenants.purge_interval", "1h").spawn().await;
    let tenant = app.set_up("acme").await;
    assert_eq!(transition(&app.root(), "acme", "delete").await.status, 200);
    let server = serve_shifted(&app, 400);
    // The log has the time of the machine.
    server.stderr_with(&format!("{}-", year_in(400)));
    wait_for_purges(&server).await;
    let root = Caller::new(&server.address, Some(&app.root_token));
    let found = root.get("/control/v1/tenants/acme").await;
    assert_eq!((found.status, &found.body["status"]), (200, &json!("deleting")), "{found:?}");
    let restored = transition(&root, "acme", "restore").await;
    assert_eq!(restored.status, 200, "{restored:?}");
    // What it deletes itself is in its grace period for every server.
    assert_eq!(transition(&root, "acme", "delete").await.status, 200);
    wait_for_purges(&server).await;
    assert_eq!(app.services.lifecycle.purge_due(&app.operator()).await.unwrap(), 0);
    let restored = transition(&app.root(), "acme", "restore").await;
    assert_eq!(restored.status, 200, "{restored:?}");
    let count = format!("SELECT count(*) FROM {}.profiles", tenant.schema());
    app.sql().await.query_one(&count, &[]).await.expect("its tables are there");
    server.stop("TERM");
}

#[tokio::test]
async fn servers_whose_clocks_differ_accept_each_others_sessions_and_tokens() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    for days in [-400, 400] {
        let server = serve_shifted(&app, days);
        let shifted = Caller::new(&server.address, None);
        let mut tokens = Vec::new();
        for caller in [&app.anonymous(), &shifted] {
            let body = json!({ "identifier": "admin@acme.example.com", "password": PASSWORD });
            let answer = caller.post("/api/auth/login", &body).await;
            assert_eq!(answer.status, 200, "{days}: {answer:?}");
            tokens.push(answer.body["accessToken"].as_str().expect("a token").to_owned());
        }
        for token in &tokens {
            for address in [&app.address, &server.address] {
                let answer = Caller::new(address, Some(token)).get("/api/tenant/mine").await;
                assert_eq!(answer.status, 200, "{days}: {answer:?}");
            }
        }
        let root = Caller::new(&server.address, Some(&app.root_token));
        let body = json!({ "email": format!("bob{}@example.com", days + 400), "role": "VIEWER" });
        let path = "/control/v1/tenants/acme/invitations";
        let invited = send_if_match(&root, reqwest::Method::POST, path, "*", Some(&body)).await;
        assert_eq!(invited.status, 201, "{invited:?}");
        let read = "SELECT expires_at > now() + interval '6 days' AND expires_at < now() + interval '8 days'
                      FROM invitations ORDER BY created_at DESC LIMIT 1";
        let is_right = app.sql().await.query_one(read, &[]).await.expect("there is one");
        assert!(is_right.get::<_, bool>(0), "{days}: an invitation lasts for 7 days from now");
        server.stop("TERM");
    }
}
