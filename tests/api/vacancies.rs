//! Vacancies, which are tenant schemas built ahead of time: complete, unreachable, claimed once, and never more
//! than wanted.

mod concurrent;
pub mod process;
mod roles;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use futures_util::future::join_all;
use reqwest::Method;
use rowhouse::domain::error::{Conflict, Error, Noun};
use rowhouse::domain::names::{Email, TenantId};
use rowhouse::service::provisioning::{Admin, ProvisionTenant};
use rowhouse::service::vacancies::{TendOutcome, Work};
use rowhouse::{Problem, TenantTx};
use uuid::Uuid;

use self::process::{Process, catalog, has_role, provision_command, schema, schemas, vacancies};
use crate::support::{Program, TestApp, TestDatabase};

const FIRST: (&str, &str) =
    ("V1__create_notes.sql", "CREATE TABLE notes (id uuid CONSTRAINT notes_pkey PRIMARY KEY)");
const SECOND: (&str, &str) = ("V2__add_body.sql", "ALTER TABLE notes ADD COLUMN body text");

// ---- claiming ---------------------------------------------------------------------------------

#[tokio::test]
async fn a_set_up_takes_the_oldest_vacancy_and_runs_no_ddl() {
    let database = TestDatabase::create().await;
    let (process, sql) = (Process::on(&database, 3).await, database.connect_as_superuser().await);
    process.fill().await;
    let stock = vacancies(&sql, "ready").await;
    assert_eq!(stock.len(), 3);
    sql.batch_execute(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'no DDL today'; END $$;
         CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION refuse()",
    )
    .await
    .unwrap();
    for (number, expected) in stock.iter().enumerate() {
        assert_eq!(process.set_up(&format!("acme-{number}")).await, *expected);
        assert_eq!(vacancies(&sql, "ready").await, stock[number + 1..]);
    }
    assert!(
        process.try_to_set_up("one-too-many").await.is_err(),
        "without a vacancy the schema would have to be built"
    );
    process.close().await;
}

#[tokio::test]
async fn a_claimed_vacancy_equals_a_schema_built_for_its_tenant() {
    for isolation in ["role", "search_path"] {
        let database = TestDatabase::create().await;
        let values = [("database.isolation", isolation), ("tenant_migrations", notes())];
        let process = Process::start(&database, 1, None, &values).await;
        let sql = database.connect().await;
        process.fill().await;
        let stock = vacancies(&sql, "ready").await;
        let claimed = process.set_up("claimed").await;
        assert_eq!(stock, [claimed]);
        let built = process.set_up("built").await;
        let (claimed, built) = (catalog(&sql, claimed).await, catalog(&sql, built).await);
        assert!(claimed.len() > 20, "{claimed:?}");
        assert_eq!(claimed, built, "{isolation}");
        process.close().await;
    }
}

const fn notes() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/notes")
}

#[tokio::test]
async fn a_failed_set_up_returns_its_vacancy() {
    let database = TestDatabase::create().await;
    let (process, sql) = (Process::on(&database, 1).await, database.connect().await);
    process.set_up("taken").await;
    process.fill().await;
    let stock = vacancies(&sql, "ready").await;
    let failed = process.try_to_set_up("taken").await;
    assert!(matches!(failed, Err(Error::Conflict(Conflict::SlugTaken))), "{failed:?}");
    let refuse = "ADD CONSTRAINT obstacle CHECK (false) NOT VALID";
    for (table, put) in [
        ("users", refuse),
        ("tenants", refuse),
        ("memberships", refuse),
        ("audit_events", refuse),
        ("idempotency_keys", refuse),
        // Fails at the commit.
        (
            "tenants",
            "ADD CONSTRAINT obstacle FOREIGN KEY (id) REFERENCES users (id)
                 DEFERRABLE INITIALLY DEFERRED NOT VALID",
        ),
    ] {
        let before = crate::support::Snapshot::take(&sql).await;
        sql.batch_execute(&format!("ALTER TABLE {table} {put}")).await.unwrap();
        // Without a key the set-up is one round trip.
        for key in [Some("a key".to_owned()), None] {
            if key.is_none() && table == "idempotency_keys" {
                continue;
            }
            let command =
                ProvisionTenant { idempotency_key: key.clone(), ..provision_command("acme") };
            let provisioning = &process.backend.services.provisioning;
            let failed = provisioning.provision(&process.operator(), command).await;
            assert!(matches!(failed, Err(Error::Internal { .. })), "{table} {key:?}: {failed:?}");
        }
        sql.batch_execute(&format!("ALTER TABLE {table} DROP CONSTRAINT obstacle")).await.unwrap();
        assert_eq!(crate::support::Snapshot::take(&sql).await, before, "{table}");
    }
    assert_eq!(vacancies(&sql, "ready").await, stock);
    assert_eq!(process.set_up("acme").await, stock[0]);
    process.close().await;
}

#[tokio::test]
async fn no_two_set_ups_take_the_same_vacancy() {
    let database = TestDatabase::create().await;
    let processes = [Process::on(&database, 6).await, Process::on(&database, 6).await];
    let sql = database.connect().await;
    processes[0].fill().await;
    let stock: BTreeSet<Uuid> = vacancies(&sql, "ready").await.into_iter().collect();
    let set_up = |number: usize| {
        let process = &processes[number % 2];
        async move { process.set_up(&format!("t-{number}")).await }
    };
    let made: BTreeSet<Uuid> = join_all((0..10).map(set_up)).await.into_iter().collect();
    assert_eq!(made.len(), 10);
    assert!(stock.is_subset(&made), "{stock:?} {made:?}");
    assert_eq!(schemas(&sql).await, 10);
    assert_eq!(processes[1].stock().await.ready, 0);
    for process in processes {
        process.close().await;
    }
}

#[tokio::test]
async fn concurrent_set_ups_with_one_new_admin_take_a_vacancy_each_and_create_one_user() {
    let database = TestDatabase::create().await;
    let (process, sql) = (Process::on(&database, 6).await, database.connect().await);
    process.fill().await;
    let stock: BTreeSet<Uuid> = vacancies(&sql, "ready").await.into_iter().collect();
    let Admin::NewOrExisting(admin) = provision_command("one").admin else { unreachable!() };
    let operator = process.operator();
    let made = join_all((0..6).map(|number| {
        let admin = Admin::NewOrExisting(admin.clone());
        let command = ProvisionTenant { admin, ..provision_command(&format!("t-{number}")) };
        process.backend.services.provisioning.provision(&operator, command)
    }))
    .await;
    let made: BTreeSet<Uuid> = made.into_iter().map(|made| made.unwrap().id.uuid()).collect();
    assert_eq!(made, stock);
    let query =
        "SELECT count(DISTINCT user_id), count(*), (SELECT count(*) FROM users) FROM memberships";
    let row = sql.query_one(query, &[]).await.unwrap();
    let counted: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(counted, (1, 6, 1));
    process.close().await;
}

#[tokio::test]
async fn a_set_up_for_a_missing_admin_takes_no_vacancy() {
    let database = TestDatabase::create().await;
    let (process, sql) = (Process::on(&database, 1).await, database.connect().await);
    process.fill().await;
    let before = crate::support::Snapshot::take(&sql).await;
    let admin = Admin::Existing(Email::parse("missing@example.com").unwrap());
    let provisioning = &process.backend.services.provisioning;
    for with_token in [false, true] {
        let command =
            ProvisionTenant { admin: admin.clone(), with_token, ..provision_command("acme") };
        let failed = provisioning.provision(&process.operator(), command).await;
        assert!(matches!(failed, Err(Error::NotFound(Noun::User))), "{failed:?}");
    }
    assert_eq!(crate::support::Snapshot::take(&sql).await, before);
    process.close().await;
}

#[tokio::test]
async fn a_set_up_with_a_repeated_key_returns_the_same_tenant_and_takes_no_second_vacancy() {
    let database = TestDatabase::create().await;
    let (process, sql) = (Process::on(&database, 2).await, database.connect().await);
    process.fill().await;
    let mut keyed = provision_command("acme");
    keyed.idempotency_key = Some("a key".to_owned());
    let provisioning = &process.backend.services.provisioning;
    let ctx = process.operator();
    let first = provisioning.provision(&ctx, keyed.clone()).await.expect("a tenant is made");
    let again = provisioning.provision(&ctx, keyed).await.expect("the answer is repeated");
    assert!(again.replayed && again.id == first.id, "{again:?}");
    assert_eq!(vacancies(&sql, "ready").await.len(), 1);
    process.close().await;
}

#[tokio::test]
async fn a_set_up_without_a_matching_vacancy_builds_its_schema() {
    let database = TestDatabase::create().await;
    let process = Process::with_migrations(&database, 1, &[FIRST]).await;
    let other = Process::with_migrations(&database, 1, &[FIRST, SECOND]).await;
    let by_path = [("database.isolation", "search_path")];
    let elsewhere = Process::start(&database, 1, Some(&[FIRST]), &by_path).await;
    let sql = database.connect().await;
    process.set_up("empty").await;
    process.fill().await;
    let stock = vacancies(&sql, "ready").await;
    let built = [other.set_up("other-files").await, elsewhere.set_up("other-isolation").await];
    assert!(!built.contains(&stock[0]));
    assert_eq!(vacancies(&sql, "ready").await, stock);
    assert_eq!(process.set_up("fitting").await, stock[0]);
    process.close().await;
    other.close().await;
    elsewhere.close().await;
}

// ---- access -----------------------------------------------------------------------------------

async fn current_schema(tx: TenantTx) -> Result<HttpResponse, Problem> {
    let rows = tx.query("SELECT current_schema()::text", &[]).await?;
    Ok(HttpResponse::Ok().body(rows[0].get::<_, String>(0)))
}

#[tokio::test]
async fn a_vacancy_cannot_be_entered_and_is_not_listed_as_a_tenant() {
    let routes = |config: &mut web::ServiceConfig| {
        config.route("/inside", web::get().to(current_schema));
    };
    let builder = TestApp::builder().with_routes(Arc::new(routes)).with("tenants.vacancies", "1");
    let app = builder.spawn().await;
    let id = wait_for_stock(&app, 1).await[0];
    let enter = async |id: Uuid| {
        let request = app.root().request(Method::GET, "/inside");
        crate::support::callers::send(request.header("x-tenant-id", id.to_string())).await
    };
    assert_eq!(enter(id).await.status, 404);
    let tenant_requests = [
        (Method::GET, format!("/control/v1/tenants/{id}")),
        (Method::GET, format!("/control/v1/tenants/{id}/members")),
        (Method::GET, format!("/api/tenants/{id}")),
        (Method::POST, format!("/control/v1/tenants/{id}/suspend")),
        (Method::DELETE, format!("/control/v1/tenants/{id}")),
        (Method::POST, format!("/control/v1/tenants/{id}/purge")),
    ];
    let request_of = async |method: &Method, path: &str| {
        let request = app.root().request(method.clone(), path).header("If-Match", "*");
        crate::support::callers::send(request).await
    };
    for (method, path) in &tenant_requests {
        let answer = request_of(method, path).await;
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
    }
    for list in ["/api/tenant", "/control/v1/tenants"] {
        let answer = app.root().get(list).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.text.contains(&id.to_string()), "{answer:?}");
    }
    // The same requests succeed once a tenant has claimed the vacancy.
    let tenant = app.set_up("acme").await;
    assert_eq!(tenant.id, id);
    assert_eq!(enter(id).await.text, schema(id));
    for (method, path) in &tenant_requests {
        let answer = request_of(method, path).await;
        assert!(matches!(answer.status, 200 | 204), "{method} {path}: {answer:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_tenant_in_a_former_vacancy_is_purged_like_any_other() {
    let database = TestDatabase::create().await;
    let (process, sql) = (Process::on(&database, 1).await, database.connect().await);
    process.fill().await;
    let stock = vacancies(&sql, "ready").await;
    let id = process.set_up("acme").await;
    assert_eq!(stock, [id]);
    let lifecycle = &process.backend.services.lifecycle;
    lifecycle.remove(&process.operator(), TenantId::new(id)).await.expect("a tenant can be purged");
    assert_eq!(schemas(&sql).await, 0);
    assert!(!has_role(&sql, id).await);
    process.close().await;
}

// ---- the stock ---------------------------------------------------------------------------------

#[tokio::test]
async fn concurrent_fills_do_not_exceed_the_wanted_number() {
    let database = TestDatabase::create().await;
    let processes = [Process::on(&database, 5).await, Process::on(&database, 5).await];
    tokio::join!(processes[0].fill(), processes[1].fill());
    let stock = processes[0].stock().await;
    assert_eq!((stock.ready, stock.building), (5, 0));
    assert_eq!(schemas(&database.connect().await).await, 5);
    for process in processes {
        process.close().await;
    }
}

#[tokio::test]
async fn a_process_that_cannot_lock_the_stock_reports_busy() {
    let database = TestDatabase::create().await;
    let process = Process::on(&database, 1).await;
    let mut sql = database.connect().await;
    let other = sql.transaction().await.unwrap();
    let lock = "SELECT FROM locks WHERE name = 'vacancies' FOR UPDATE";
    other.execute(lock, &[]).await.unwrap();
    assert_eq!(process.replenish_once().await, TendOutcome::Busy);
    other.rollback().await.unwrap();
    process.replenish_fully().await;
    assert_eq!(process.stock().await.ready, 1);
    process.close().await;
}

#[tokio::test]
async fn vacancies_begun_by_a_dead_process_are_finished_by_the_next() {
    let database = TestDatabase::create().await;
    let (dead, sql) = (Process::on(&database, 3).await, database.connect().await);
    // Registers the process, creates the roles, and builds one vacancy.
    for _ in 0..3 {
        assert_eq!(dead.replenish_once().await, TendOutcome::Worked);
    }
    dead.close().await;
    let (ready, begun) = (vacancies(&sql, "ready").await, vacancies(&sql, "building").await);
    assert_eq!((ready.len(), begun.len(), schemas(&sql).await), (1, 2, 1));
    assert!(has_role(&sql, begun[0]).await);

    let next = Process::on(&database, 3).await;
    assert_eq!(next.set_up("acme").await, ready[0], "an unfinished vacancy is not claimed");
    next.replenish_fully().await;
    assert_eq!(vacancies(&sql, "ready").await, begun);
    next.close().await;
}

#[tokio::test]
async fn a_failed_build_leaves_only_its_building_row() {
    let database = TestDatabase::create().await;
    let (process, sql) = (Process::on(&database, 1).await, database.connect_as_superuser().await);
    sql.batch_execute(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
         CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
             EXECUTE FUNCTION refuse()",
    )
    .await
    .unwrap();
    let service = &process.backend.services.vacancies;
    for _ in 0..2 {
        service.fill(&process.operator()).await.expect_err("no table can be made");
        assert_eq!((vacancies(&sql, "building").await.len(), schemas(&sql).await), (1, 0));
    }
    sql.batch_execute("DROP EVENT TRIGGER refuse").await.unwrap();
    process.fill().await;
    assert_eq!(vacancies(&sql, "ready").await.len(), 1);
    process.close().await;
}

#[tokio::test]
async fn with_no_vacancies_wanted_a_set_up_takes_none_and_the_rest_is_dropped() {
    let database = TestDatabase::create().await;
    let (before, sql) = (Process::on(&database, 2).await, database.connect().await);
    before.replenish_fully().await;
    let stock = vacancies(&sql, "ready").await;
    let after = Process::on(&database, 0).await;
    let made = after.set_up("acme").await;
    assert!(!stock.contains(&made));
    after.replenish_fully().await;
    assert_eq!(vacancies(&sql, "ready").await, stock, "another live process wants them");
    before
        .backend
        .services
        .vacancies
        .retire(&before.operator())
        .await
        .expect("the process can be unregistered");
    after.replenish_fully().await;
    assert_eq!((after.stock().await.ready, schemas(&sql).await), (0, 1));
    assert!(!has_role(&sql, stock[0]).await && !has_role(&sql, stock[1]).await);
    for process in [before, after] {
        process.close().await;
    }
}

#[tokio::test]
async fn the_vacancies_of_a_dead_process_are_dropped_after_it_expires() {
    let database = TestDatabase::create().await;
    let (dead, sql) = (Process::on(&database, 2).await, database.connect().await);
    dead.replenish_fully().await;
    dead.close().await;
    let next = Process::on(&database, 0).await;
    next.replenish_fully().await;
    assert_eq!(next.stock().await.ready, 2);
    next.clock.advance(time::Duration::minutes(6));
    next.replenish_fully().await;
    assert_eq!((next.stock().await.ready, schemas(&sql).await), (0, 0));
    next.close().await;
}

// ---- deployments -------------------------------------------------------------------------------

#[tokio::test]
async fn stale_vacancies_are_migrated_after_a_deployment() {
    let database = TestDatabase::create().await;
    let old = Process::with_migrations(&database, 2, &[FIRST]).await;
    let sql = database.connect().await;
    old.fill().await;
    let stock = vacancies(&sql, "ready").await;
    let new = Process::with_migrations(&database, 2, &[FIRST, SECOND]).await;
    assert_eq!((new.stock().await.stale, new.stock().await.ready), (2, 0));
    let work = new.backend.services.vacancies.rebuild_stale(&new.operator()).await;
    assert_eq!(work.unwrap(), Work { migrated: 2, ..Work::default() });
    assert_eq!((new.stock().await.stale, new.stock().await.ready), (0, 2));
    assert_eq!(old.stock().await.ahead, 2);
    assert_eq!(new.set_up("migrated").await, stock[0]);
    new.backend.services.vacancies.drop_all(&new.operator()).await.unwrap();
    let built = new.set_up("built").await;
    assert_eq!(catalog(&sql, stock[0]).await, catalog(&sql, built).await);
    for process in [old, new] {
        process.close().await;
    }
}

// While this thread waits for the program, another one closes the connections of `old`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_migration_also_migrates_vacancies() {
    let database = TestDatabase::create().await;
    let old = Process::with_migrations(&database, 2, &[FIRST]).await;
    old.fill().await;
    old.close().await;
    let program = Program::on(&database).with("ROWHOUSE_TENANTS__VACANCIES", "2");
    let files = program.folder().join("next");
    std::fs::create_dir(&files).expect("a folder can be made");
    for (name, sql) in [FIRST, SECOND] {
        std::fs::write(files.join(name), sql).expect("a file can be written");
    }
    let program = program.with("ROWHOUSE_TENANT_MIGRATIONS", &files.to_string_lossy());
    let ran = program.run(&["migrate"]).expect(0);
    assert!(ran.stderr.contains("vacancies: 2 migrated, 0 dropped"), "{}", ran.stderr);
    let shown = program.run(&["vacancies", "--json"]).expect(0).json();
    assert_eq!((&shown["ready_count"], &shown["stale_count"]), (&2.into(), &0.into()), "{shown}");
}

#[tokio::test]
async fn a_vacancy_that_cannot_be_migrated_is_rebuilt() {
    let database = TestDatabase::create().await;
    let old = Process::with_migrations(&database, 1, &[FIRST]).await;
    let sql = database.connect().await;
    old.fill().await;
    let stock = vacancies(&sql, "ready").await;
    let edited = (FIRST.0, "CREATE TABLE notes (id uuid PRIMARY KEY, title text)");
    let new = Process::with_migrations(&database, 1, &[edited, SECOND]).await;
    new.fill().await;
    let rebuilt = vacancies(&sql, "ready").await;
    assert_eq!((rebuilt.len(), new.stock().await.ready, schemas(&sql).await), (1, 1, 1));
    assert_ne!(rebuilt, stock);
    assert!(!has_role(&sql, stock[0]).await);
    for process in [old, new] {
        process.close().await;
    }
}

#[tokio::test]
async fn two_versions_of_the_program_do_not_undo_each_others_vacancies() {
    let database = TestDatabase::create().await;
    let old = Process::with_migrations(&database, 3, &[FIRST]).await;
    let new = Process::with_migrations(&database, 2, &[FIRST, SECOND]).await;
    let sql = database.connect().await;
    old.replenish_fully().await;
    assert_eq!(vacancies(&sql, "ready").await.len(), 3);
    new.replenish_fully().await;
    let stock = vacancies(&sql, "ready").await;
    assert_eq!((stock.len(), new.stock().await.ready), (2, 2));
    for _ in 0..3 {
        old.replenish_fully().await;
        new.replenish_fully().await;
        assert_eq!(
            vacancies(&sql, "ready").await,
            stock,
            "neither version undoes the other's work"
        );
    }
    let built = old.set_up("by-the-old-one").await;
    assert!(!stock.contains(&built));
    assert_eq!(new.set_up("by-the-new-one").await, stock[0]);
    for process in [old, new] {
        process.close().await;
    }
}

// ---- the server and the command line -----------------------------------------------------------

/// Waits until a server has this many ready vacancies, and returns them.
async fn wait_for_stock(app: &TestApp, wanted: usize) -> Vec<Uuid> {
    let sql = app.sql().await;
    for _ in 0..3000 {
        let ready = vacancies(&sql, "ready").await;
        if ready.len() == wanted {
            return ready;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not {wanted} vacancies: {:?}", vacancies(&sql, "ready").await);
}

#[tokio::test]
async fn a_server_replenishes_its_stock_and_reports_it_in_its_metrics() {
    let app = TestApp::builder().with("tenants.vacancies", "4").spawn().await;
    let stock = wait_for_stock(&app, 4).await;
    for number in 0..2 {
        assert!(stock.contains(&app.set_up(&format!("acme-{number}")).await.id));
    }
    // Half of them are claimed, which is when the server builds new ones.
    wait_for_stock(&app, 4).await;
    app.services.vacancies.status(&app.operator()).await.unwrap();
    let metrics = app.anonymous().get("/metrics").await.text;
    for line in [
        "rowhouse_vacancies_wanted 4",
        "rowhouse_vacancies{state=\"ready\"} 4",
        "rowhouse_vacancies{state=\"stale\"} 0",
        "rowhouse_vacancy_claims_total{outcome=\"claimed\"} 2",
        "rowhouse_vacancy_claims_total{outcome=\"missed\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
    assert!(metrics.contains("\nrowhouse_vacancies_oldest_age_seconds "), "{metrics}");
    let database = app.stop().await;
    let keepers = "SELECT count(*) FROM vacancy_keepers";
    let row = database.connect().await.query_one(keepers, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0, "the stopped server has unregistered");
}

#[tokio::test]
async fn the_command_line_shows_fills_and_drops_vacancies() {
    let database = TestDatabase::create().await;
    let sql = database.connect().await;
    let program = Program::on(&database).with("ROWHOUSE_TENANTS__VACANCIES", "2");
    let shown = program.run(&["vacancies", "--json"]).expect(0).json();
    assert_eq!((&shown["wanted_count"], &shown["ready_count"]), (&2.into(), &0.into()), "{shown}");
    assert!(shown["oldest_at"].is_null() && shown["oldest_age_seconds"].is_null(), "{shown}");
    let filled = program.run(&["vacancies", "fill", "--json"]).expect(0).json();
    assert_eq!(filled["built_count"], 2, "{filled}");
    let text = program.run(&["vacancies"]).expect(0).stdout;
    let line = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        value.unwrap_or_else(|| panic!("{key}: {text}")).trim().to_owned()
    };
    assert_eq!(
        (line("wanted"), line("ready"), line("stale")),
        ("2".into(), "2".into(), "0".into())
    );
    assert!(line("oldest").ends_with('Z'), "{text}");
    assert_eq!(schemas(&sql).await, 2);
    let dropped = program.run(&["vacancies", "drop"]).expect(0).stdout;
    assert_eq!(dropped, "vacancies: 0 built, 0 migrated, 2 dropped\n");
    assert_eq!(schemas(&sql).await, 0);
    let again = program.run(&["vacancies", "drop", "--json"]).expect(0).json();
    assert_eq!(again["dropped_count"], 0, "{again}");
}
