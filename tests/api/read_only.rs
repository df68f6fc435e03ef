//! A database that accepts no changes: what only reads is served, everything else says why, and it recovers without a
//! restart.

use serde_json::json;

use crate::support::control::assert_problem;
use crate::support::{PASSWORD, Program, TestApp, TestDatabase, provision_command};

const SETUP: &str = "/api/tenant/setup";

/// Makes the database read-only or writable again for all sessions, as a failover does.
async fn set_read_only(database: &TestDatabase, on: bool) {
    let (admin, name) = (database.connect_to_server().await, database.name());
    let state = if on { "on" } else { "off" };
    let sql = format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = {state};
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    admin.batch_execute(&sql).await.expect("a setting of a database can be changed");
    // The server's connections notice that they are closed.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}

#[tokio::test]
async fn while_the_database_is_read_only_changes_are_503_with_the_reason_and_reads_are_served() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "ada@example.com" })).await;
    app.add_user("una@example.com", None).await;
    let root = app.root();
    set_read_only(&app.database, true).await;

    assert_eq!(root.get("/api/tenant").await.status, 200);
    let read = app.bunker_root().for_tenant("acme").get("ada@example.com").await;
    assert_eq!(read.ok()["profile"]["email"], "ada@example.com");
    let setup = root.post(SETUP, &TestApp::setup_body("globex")).await;
    assert!(setup.refusal(503).contains("read-only"), "{setup:?}");
    let body = json!({ "name": "Globex", "slug": "globex" });
    let control = root.post("/control/v1/tenants", &body).await;
    assert_problem(&control, 503, "read_only");
    let profile = json!({ "profile": { "email": "eve@example.com" } });
    let bunker = app.bunker_root().for_tenant("acme").call("UserCreate", profile).await;
    assert!(bunker.error(503).contains("read-only"), "{bunker:?}");
    let login = json!({ "identifier": "una@example.com", "password": PASSWORD });
    let login = app.anonymous().post("/api/auth/login", &login).await;
    assert!(login.refusal(503).contains("read-only"), "{login:?}");
    for answer in [&setup, &control, &bunker, &login] {
        assert!(answer.retry_after() >= 1, "{answer:?}");
    }
    let error = app.services.provisioning.provision(&app.operator(), provision_command("x")).await;
    assert!(error.unwrap_err().chain().contains("read-only"));

    set_read_only(&app.database, false).await;
    assert_eq!(root.post(SETUP, &TestApp::setup_body("globex")).await.status, 201);
}

#[tokio::test]
async fn the_program_says_that_the_database_is_read_only() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let database = app.stop().await;
    set_read_only(&database, true).await;
    let program = Program::on(&database);
    assert!(program.run(&["tenant", "list"]).expect(0).stdout.contains("acme"));
    for arguments in [&["serve"][..], &["migrate"]] {
        let refused = program.run(arguments).expect(1);
        assert!(
            refused.stderr.contains("is read-only: default_transaction_read_only is on"),
            "{refused:?}"
        );
        assert!(refused.stderr.contains(database.name()), "{refused:?}");
    }
    let suspend = program.run(&["tenant", "suspend", "acme"]).expect(1);
    assert!(suspend.stderr.contains("the database is read-only"), "{suspend:?}");
    let doctor = program.run(&["doctor"]).expect(1);
    assert!(doctor.stderr.contains("the database is read-only"), "{doctor:?}");
    set_read_only(&database, false).await;
    program.run(&["tenant", "suspend", "acme"]).expect(0);
}
