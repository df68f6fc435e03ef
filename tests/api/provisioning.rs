//! A set-up is atomic: it creates a complete tenant or nothing, whichever step fails.
//!
//! The tests make a step fail in the database: by a constraint that no row satisfies, a renamed table, a
//! revoked privilege, or a terminated connection. After each failure the database is unchanged, and once
//! the obstacle is removed the same request succeeds.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::support::migration_lock::with_migrations;
use crate::support::{Answer, MigrationLock, Snapshot, StrayRoles, TestApp, TestEngine, wire};

const SETUP: &str = "/api/tenant/setup";

async fn set_up(app: &TestApp, slug: &str) -> Answer {
    app.root().post(SETUP, &TestApp::setup_body(slug)).await
}

/// The SQL that makes a step fail, the SQL that undoes it, and the status that the caller gets.
struct Obstacle {
    step: &'static str,
    put: &'static str,
    remove: &'static str,
    status: u16,
}

/// One obstacle for each statement of a set-up that can fail, in order.
const OBSTACLES: &[Obstacle] = &[
    Obstacle {
        step: "take the idempotency key",
        put: "ALTER TABLE idempotency_keys RENAME TO away",
        remove: "ALTER TABLE away RENAME TO idempotency_keys",
        status: 500,
    },
    Obstacle {
        step: "insert the tenant",
        put: "ALTER TABLE tenants ADD CONSTRAINT obstacle CHECK (false) NOT VALID",
        remove: "ALTER TABLE tenants DROP CONSTRAINT obstacle",
        status: 500,
    },
    Obstacle {
        step: "create the schema",
        put: "CREATE EVENT TRIGGER obstacle ON ddl_command_start WHEN TAG IN ('CREATE SCHEMA') EXECUTE FUNCTION refuse()",
        remove: "DROP EVENT TRIGGER obstacle",
        status: 500,
    },
    Obstacle {
        step: "grant privileges on the schema",
        put: "CREATE EVENT TRIGGER obstacle ON ddl_command_end WHEN TAG IN ('ALTER DEFAULT PRIVILEGES') EXECUTE FUNCTION refuse()",
        remove: "DROP EVENT TRIGGER obstacle",
        status: 500,
    },
    Obstacle {
        step: "migrate the schema",
        put: "CREATE EVENT TRIGGER obstacle ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION refuse()",
        remove: "DROP EVENT TRIGGER obstacle",
        status: 500,
    },
    Obstacle {
        step: "run a statement of a migration",
        put: "CREATE EVENT TRIGGER obstacle ON ddl_command_end WHEN TAG IN ('REVOKE') EXECUTE FUNCTION refuse()",
        remove: "DROP EVENT TRIGGER obstacle",
        status: 503,
    },
    Obstacle {
        step: "insert the admin",
        put: "ALTER TABLE users ADD CONSTRAINT obstacle CHECK (false) NOT VALID",
        remove: "ALTER TABLE users DROP CONSTRAINT obstacle",
        status: 500,
    },
    Obstacle {
        step: "insert the membership",
        put: "ALTER TABLE memberships RENAME COLUMN role TO away",
        remove: "ALTER TABLE memberships RENAME COLUMN away TO role",
        status: 500,
    },
    Obstacle {
        step: "insert the audit event",
        put: "ALTER TABLE audit_events ADD CONSTRAINT obstacle CHECK (action <> 'tenant.create') NOT VALID",
        remove: "ALTER TABLE audit_events DROP CONSTRAINT obstacle",
        status: 500,
    },
    Obstacle {
        step: "insert the idempotency record",
        put: "ALTER TABLE idempotency_keys ADD CONSTRAINT obstacle CHECK (false) NOT VALID",
        remove: "ALTER TABLE idempotency_keys DROP CONSTRAINT obstacle",
        status: 500,
    },
    Obstacle {
        step: "commit",
        put: "ALTER TABLE tenants ADD CONSTRAINT obstacle FOREIGN KEY (id) REFERENCES users (id)
                  DEFERRABLE INITIALLY DEFERRED NOT VALID",
        remove: "ALTER TABLE tenants DROP CONSTRAINT obstacle",
        status: 500,
    },
];

#[tokio::test]
async fn each_failing_step_leaves_the_database_unchanged() {
    let app = TestApp::spawn().await;
    let sql = app.superuser_sql().await;
    let refuse = "CREATE SCHEMA obstacles;
        GRANT USAGE ON SCHEMA obstacles TO PUBLIC;
        CREATE FUNCTION obstacles.refuse() RETURNS event_trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION 'not today, schema tenant_secret'; END $$;
        ALTER DATABASE current SET search_path = public, obstacles";
    let refuse = refuse.replace("current", app.database.name());
    sql.batch_execute(&refuse).await.unwrap();
    let sql = app.superuser_sql().await;
    let strays = StrayRoles::of(&app).await;
    for (number, obstacle) in OBSTACLES.iter().enumerate() {
        if obstacle.put.contains("'REVOKE'") && TestEngine::of_run() != TestEngine::Postgres {
            continue; // there, the history of a schema is revoked from the tenant before
        }
        let (step, slug) = (obstacle.step, format!("t{number}"));
        let before = Snapshot::of(&app).await;
        sql.batch_execute(obstacle.put).await.unwrap_or_else(|error| panic!("{step}: {error:?}"));
        let answer = with_key(&app, &slug).await;
        let message = answer.refusal(obstacle.status).to_owned();
        if obstacle.status == 503 {
            let cause = "no new tenant can be made from the migrations: V5__protect_profile_events.sql, line ";
            assert!(message.starts_with(cause), "an operator is told the cause: {message}");
        } else {
            assert_eq!(message, "Internal server error", "{step}");
            assert!(!answer.text.contains("tenant_"), "{step} reveals internals: {answer:?}");
        }
        sql.batch_execute(obstacle.remove)
            .await
            .unwrap_or_else(|error| panic!("{step}: {error:?}"));
        assert_eq!(Snapshot::of(&app).await, before, "{step}");

        let answer = with_key(&app, &slug).await;
        assert_eq!(answer.status, 201, "after {step} failed: {answer:?}");
    }
    strays.assert_no_more(&app).await;
}

async fn with_key(app: &TestApp, slug: &str) -> Answer {
    let request = app.root().request(reqwest::Method::POST, SETUP).header("Idempotency-Key", slug);
    crate::support::callers::send(request.json(&TestApp::setup_body(slug))).await
}

#[tokio::test]
async fn an_owner_without_a_needed_privilege_creates_nothing() {
    let app = TestApp::spawn().await;
    let sql = app.superuser_sql().await;
    let login = format!("owner_of_{}", app.database.name());
    let create = format!(
        "CREATE ROLE {login} LOGIN CREATEROLE PASSWORD 'of-a-test';
         GRANT CREATE, CONNECT, TEMP ON DATABASE {database} TO {login};
         GRANT ALL ON SCHEMA public TO {login};
         GRANT USAGE ON LANGUAGE plpgsql TO {login};
         GRANT EXECUTE ON FUNCTION set_config(text, text, boolean) TO {login};
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {login};
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {login};
         GRANT rowhouse_runtime TO {login} WITH ADMIN OPTION",
        database = app.database.name()
    );
    sql.batch_execute(&create).await.unwrap();
    if TestEngine::of_run() == TestEngine::Citus {
        let ask = "run_command_on_all_nodes(text, boolean, boolean), \
                   master_run_on_worker(text[], integer[], text[], boolean)";
        let granted = format!("GRANT EXECUTE ON FUNCTION {ask} TO {login}");
        sql.batch_execute(&granted).await.unwrap();
    }
    let weaker = TestApp::builder()
        .on(app.database.clone())
        .with("database.url", app.database.url_of(&login, "of-a-test"))
        .with("database.runtime_url", app.database.runtime_url())
        .spawn()
        .await;
    let first = set_up(&weaker, "first").await;
    assert_eq!(first.status, 201, "{first:?}");
    let (before, strays) = (Snapshot::of(&app).await, StrayRoles::of(&app).await);

    for (take, give) in [
        (format!("ALTER ROLE {login} NOCREATEROLE"), format!("ALTER ROLE {login} CREATEROLE")),
        (
            format!("REVOKE CREATE ON DATABASE {} FROM {login}", app.database.name()),
            format!("GRANT CREATE ON DATABASE {} TO {login}", app.database.name()),
        ),
        (
            format!("REVOKE INSERT ON users FROM {login}"),
            format!("GRANT INSERT ON users TO {login}"),
        ),
    ] {
        sql.batch_execute(&take).await.unwrap();
        assert_eq!(set_up(&weaker, "second").await.refusal(500), "Internal server error", "{take}");
        assert_eq!(Snapshot::of(&app).await, before, "{take}");
        sql.batch_execute(&give).await.unwrap();
    }
    assert_eq!(set_up(&weaker, "second").await.status, 201);
    strays.assert_no_more(&app).await;
    drop(weaker.stop().await);
    // By its name: CURRENT_USER here ends the server process of a database with Citus (13.2).
    let owner: String = sql.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    let drop_login =
        format!("REASSIGN OWNED BY {login} TO {owner}; DROP OWNED BY {login}; DROP ROLE {login}");
    sql.batch_execute(&drop_login).await.unwrap();
}

#[tokio::test]
async fn a_failed_migration_leaves_no_schema() {
    let app = with_migrations(
        TestApp::builder(),
        &[
            ("V1__create_notes.sql", "CREATE TABLE notes (id uuid PRIMARY KEY)"),
            (
                "V2__create_tags.sql",
                "CREATE TABLE tags (id uuid PRIMARY KEY); INSERT INTO tags VALUES (NULL)",
            ),
        ],
    )
    .await;
    let (before, strays) = (Snapshot::of(&app).await, StrayRoles::of(&app).await);
    for _ in 0..2 {
        let answer = set_up(&app, "acme").await;
        assert_eq!(
            answer.refusal(503),
            "no new tenant can be made from the migrations: V2__create_tags.sql, line 1: null value in column \"id\" \
             of relation \"tags\" violates not-null constraint (SQLSTATE 23502), in: INSERT INTO tags VALUES (NULL)"
        );
    }
    assert_eq!(Snapshot::of(&app).await, before);
    strays.assert_no_more(&app).await;
}

#[tokio::test]
async fn a_lost_connection_leaves_nothing_and_answers_503_with_retry_after() {
    let (app, lock) = MigrationLock::held(TestApp::builder()).await;
    let (before, strays) = (Snapshot::of(&app).await, StrayRoles::of(&app).await);
    let set_up_and_kill = async {
        let answer = tokio::spawn({
            let root = app.root();
            async move { root.post(SETUP, &TestApp::setup_body("acme")).await }
        });
        lock.wait_for_waiters(1).await;
        lock.terminate_waiters().await;
        answer.await.expect("the request ends")
    };
    let answer = set_up_and_kill.await;
    answer.refusal(503);
    assert!(answer.retry_after() >= 1);
    assert_eq!(Snapshot::of(&app).await, before);
    strays.assert_no_more(&app).await;
    lock.release().await;
    assert_eq!(set_up(&app, "acme").await.status, 201);
}

#[tokio::test]
async fn a_lock_timeout_is_503_and_leaves_nothing() {
    let app = TestApp::builder().with("database.lock_timeout", "100ms").spawn().await;
    let before = Snapshot::of(&app).await;
    for table in ["tenants", "users", "memberships", "audit_events"] {
        let mut sql = app.sql().await;
        let held = sql.transaction().await.unwrap();
        held.batch_execute(&format!("LOCK TABLE {table} IN SHARE MODE")).await.unwrap();
        let answer = set_up(&app, "acme").await;
        answer.refusal(503);
        assert!(answer.retry_after() >= 1, "{table}");
        held.rollback().await.unwrap();
        assert_eq!(Snapshot::of(&app).await, before, "{table}");
    }
    assert_eq!(set_up(&app, "acme").await.status, 201);
}

#[tokio::test]
async fn a_set_up_waits_for_a_lock_that_is_released_soon() {
    let app = TestApp::builder().with("database.lock_timeout", "200ms").spawn().await;
    let mut sql = app.sql().await;
    let held = sql.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE audit_events IN SHARE MODE").await.unwrap();
    let body = TestApp::setup_body("acme");
    let root = app.root();
    // Longer than one attempt waits for the lock, so the transaction is retried.
    let release = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        held.rollback().await.unwrap();
    };
    let (answer, ()) = tokio::join!(root.post(SETUP, &body), release);
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn a_timed_out_request_is_refused_and_creates_nothing_afterwards() {
    let builder = TestApp::builder().with("http.request_timeout", "500ms");
    let (app, lock) = MigrationLock::held(builder).await;
    let (before, strays) = (Snapshot::of(&app).await, StrayRoles::of(&app).await);
    let answer = set_up(&app, "acme").await;
    answer.refusal(503);
    assert!(answer.retry_after() >= 1);
    assert!(answer.header("x-request-id").is_some());
    lock.wait_for_waiters(0).await; // the statement ends too
    lock.release().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(Snapshot::of(&app).await, before);
    strays.assert_no_more(&app).await;
    assert_eq!(set_up(&app, "acme").await.status, 201, "the slug is free");
}

#[tokio::test]
async fn a_disconnected_client_leaves_a_complete_tenant_or_none() {
    let (app, lock) = MigrationLock::held(TestApp::builder()).await;
    let strays = StrayRoles::of(&app).await;
    let body = TestApp::setup_body("acme").to_string();
    let request = format!(
        "POST {SETUP} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
        app.root_token,
        body.len()
    );
    // One client closes its connection, the other resets it.
    for reset in [false, true] {
        let mut stream = wire::connect(&app).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        lock.wait_for_waiters(1).await;
        if reset {
            stream.set_zero_linger().expect("the option can be set");
        }
        drop(stream);
        tokio::time::sleep(Duration::from_millis(100)).await;
        lock.terminate_waiters().await;
        lock.wait_for_waiters(0).await;
    }
    let mut stream = wire::connect(&app).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    lock.wait_for_waiters(1).await;
    drop(stream);
    lock.release().await;
    let is_complete = complete_or_absent(&app).await;
    strays.assert_no_more(&app).await;
    let answer = set_up(&app, "acme").await;
    assert_eq!(answer.status, if is_complete { 409 } else { 201 });
}

/// Waits until no session is active, then asserts that there is one complete tenant or nothing of it. Returns
/// which of the two.
async fn complete_or_absent(app: &TestApp) -> bool {
    let sql = app.sql().await;
    let busy = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()";
    for _ in 0..500 {
        if sql.query_one(busy, &[]).await.expect("activity can be read").get::<_, i64>(0) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let after = Snapshot::of(app).await;
    let parts = ["tenants", "users", "memberships", "audit_events"].map(|table| after.count(table));
    assert!(parts == [1; 4] || parts == [0; 4], "{parts:?}");
    assert_eq!(i64::try_from(after.tenant_schemas()), Ok(parts[0]));
    parts[0] == 1
}

#[tokio::test]
async fn hanging_set_ups_do_not_block_other_requests() {
    let (app, lock) =
        MigrationLock::held(TestApp::builder().with("database.max_connections", "40")).await;
    let hanging: Vec<_> = ["a", "b"]
        .map(|slug| {
            let root = app.root();
            tokio::spawn(async move { root.post(SETUP, &TestApp::setup_body(slug)).await })
        })
        .into();
    lock.wait_for_waiters(2).await;
    // A set-up of a slug that a running set-up has inserted waits for it to end and is then refused.
    let waiting = tokio::spawn({
        let root = app.root();
        async move { root.post(SETUP, &TestApp::setup_body("a")).await }
    });
    let list = app.root().get("/api/tenant").await;
    assert_eq!(
        (list.status, &list.body),
        (200, &Value::Array(Vec::new())),
        "no uncommitted tenant is listed"
    );
    lock.release().await;
    for answer in hanging {
        assert_eq!(answer.await.expect("the request ends").status, 201);
    }
    assert_eq!(waiting.await.expect("the request ends").refusal(409), "Slug already exists");
}
