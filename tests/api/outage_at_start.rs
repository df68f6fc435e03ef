//! A server that starts while its database is not up (`database.wait`), and what is logged of broken connections.

use std::time::Duration;

use crate::support::proxy::Proxy;
use crate::support::{Caller, Program, TestDatabase};

/// Shorter than the time that a start waits by default.
const AT_ONCE: Duration = Duration::from_secs(15);

const WAITING: &str = "waiting for the database";

#[tokio::test]
async fn a_server_waits_for_a_database_that_is_not_up_yet_and_says_so() {
    let database = TestDatabase::create().await;
    let reserved =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let port = reserved.local_addr().expect("it is bound").port();
    // No connection is accepted at this port from here on.
    drop(reserved);
    let login = |url: &str| {
        let config: tokio_postgres::Config = url.parse().expect("it is a URL");
        let password =
            String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned();
        let user = config.get_user().expect("the URL has a user").to_owned();
        let name = database.name();
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{name}?sslmode=disable")
    };
    let program = Program::on(&database)
        .with("DATABASE_URL", &login(&database.url()))
        .with("ROWHOUSE_DATABASE__RUNTIME_URL", &database.runtime_url());
    let starting = tokio::task::spawn_blocking(move || (program.serve(&[]), program));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!starting.is_finished(), "it waits");
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("it is free");
    let _proxy = Proxy::on(listener, &database.url());
    let (server, _program) = starting.await.expect("the server starts");
    assert_eq!(Caller::new(&server.address, None).get("/readyz").await.status, 200);
    let log = server.stderr_with("the database answers");
    let line = log.lines().find(|line| line.contains(WAITING)).expect("it is told");
    assert!(line.contains(&format!("127.0.0.1:{port}, database {}", database.name())), "{line}");
    assert!(line.contains("Connection refused"), "{line}");
    assert!(!line.contains("db error"), "{line}");
}

#[tokio::test]
async fn what_waiting_does_not_mend_ends_a_start_at_once_with_the_reason() {
    let database = TestDatabase::create().await;
    let url = database.url();
    let missing = url.replace(database.name(), "rowhouse_test_missing");
    for (url, reason) in [
        (missing, "database \"rowhouse_test_missing\" does not exist (SQLSTATE 3D000)"),
        (database.url_of("rowhouse_test_unknown", "wrong"), "rowhouse_test_unknown"),
    ] {
        let ran = Program::on(&database).with("DATABASE_URL", &url).run(&["serve"]).expect(1);
        assert!(ran.stderr.contains(reason), "{ran:?}");
        assert!(!ran.stderr.contains(WAITING) && ran.took < AT_ONCE, "{ran:?}");
    }
}

#[tokio::test]
async fn a_start_that_has_waited_long_enough_ends_with_the_reason() {
    let url = "postgres://owner:hunter22@127.0.0.1:1/rowhouse";
    for (wait, is_told) in [("0", false), ("600ms", true)] {
        let program = Program::embedded().with("ROWHOUSE_DATABASE__WAIT", wait);
        let ran = program.run(&["serve", "--database-url", url]).expect(1);
        assert_eq!(ran.stderr.contains(WAITING), is_told, "{ran:?}");
        let last = ran.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("cannot connect to the database at 127.0.0.1:1"), "{ran:?}");
        assert!(last.contains("Connection refused"), "{ran:?}");
        assert!(!ran.stderr.contains("hunter22") && ran.took < AT_ONCE, "{ran:?}");
    }
}

#[tokio::test]
async fn a_server_that_accepts_connections_and_never_answers_is_waited_for_no_longer_than_the_limit()
 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it is bound");
    let ran = Program::embedded()
        .with("ROWHOUSE_DATABASE__WAIT", "1s")
        .with("ROWHOUSE_DATABASE__CONNECT_TIMEOUT", "500ms")
        .run(&["serve", "--database-url", &format!("postgres://owner@{address}/rowhouse")])
        .expect(1);
    assert!(ran.stderr.contains("no answer within 500ms"), "{ran:?}");
    assert!(ran.took < AT_ONCE, "{ran:?}");
}

#[tokio::test]
async fn the_log_says_why_a_database_connection_broke() {
    let database = TestDatabase::create().await;
    // A pooler has reasons of its own.
    let server = Program::on(&database).with("DATABASE_URL", &database.url()).serve(&[]);
    let caller = Caller::new(&server.address, None);
    assert_eq!(caller.get("/readyz").await.status, 200);
    database.close().await;
    let log = server.stderr_with("a database connection broke");
    let log =
        if log.contains("SQLSTATE 57P01") { log } else { server.stderr_with("SQLSTATE 57P01") };
    assert!(log.contains("terminating connection due to administrator command"), "{log}");
    // The first may get a connection of which the server learns only now that it broke.
    for _ in 0..3 {
        assert_eq!(caller.get("/readyz").await.status, 503);
    }
    let log = server.stderr_with("is not currently accepting connections (SQLSTATE 55000)");
    assert!(!log.contains("Connection error: db error"), "{log}");
    let line = log.lines().rfind(|line| line.contains("not ready")).expect("it is logged");
    assert!(line.contains("is not currently accepting connections (SQLSTATE 55000)"), "{line}");
    database.open().await;
}
