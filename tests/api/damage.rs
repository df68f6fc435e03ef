//! Tenants and vacancies that were damaged by hand, or restored without their roles, are told from a fault of the server.

use std::sync::Arc;

use actix_web::{HttpResponse, get};
use reqwest::Method;
use rowhouse::service::doctor::{Gravity, Orphans, Selection};
use rowhouse::{Problem, TenantTx};
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::bootstrap::{open, provision};
use crate::isolation::fixture::schema;
use crate::support::callers::send;
use crate::support::{Answer, Caller, Program, TestApp, TestDatabase};
use crate::vacancies::process::{Process, vacancies};

/// A handler of an application.
#[get("/count")]
async fn count(tx: TenantTx) -> Result<HttpResponse, Problem> {
    let rows = tx.query_and_commit("SELECT count(*) FROM profiles", &[]).await?;
    Ok(HttpResponse::Ok().json(rows[0].get::<_, i64>(0)))
}

async fn run(sql: &Client, statements: &str) {
    sql.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

/// Ways to damage a tenant, each with what undoes it.
const DAMAGES: &[(&str, &str)] = &[
    ("ALTER SCHEMA {acme} RENAME TO away", "ALTER SCHEMA away RENAME TO {acme}"),
    ("ALTER ROLE {acme} RENAME TO {other}", "ALTER ROLE {other} RENAME TO {acme}"),
    ("REVOKE {acme} FROM rowhouse_runtime", "GRANT {acme} TO rowhouse_runtime"),
    ("ALTER TABLE {acme}.profiles RENAME TO away", "ALTER TABLE {acme}.away RENAME TO profiles"),
    ("REVOKE USAGE ON SCHEMA {acme} FROM {acme}", "GRANT USAGE ON SCHEMA {acme} TO {acme}"),
];

/// Ways after which only this program's own statements are known not to be at fault.
const SMALLER_DAMAGES: &[(&str, &str)] = &[
    ("REVOKE SELECT ON {acme}.profiles FROM {acme}", "GRANT SELECT ON {acme}.profiles TO {acme}"),
    (
        "ALTER TABLE {acme}.profiles RENAME COLUMN version TO away",
        "ALTER TABLE {acme}.profiles RENAME COLUMN away TO version",
    ),
];

/// Calls the application's handler inside a tenant.
async fn count_in(caller: &Caller, tenant: Uuid) -> Answer {
    send(caller.request(Method::GET, "/count").header("x-tenant-id", tenant.to_string())).await
}

#[tokio::test]
async fn a_damaged_tenant_answers_503_with_its_code_and_the_others_go_on() {
    let routes = |config: &mut actix_web::web::ServiceConfig| _ = config.service(count);
    let app = TestApp::builder().with_routes(Arc::new(routes)).spawn().await;
    let acme = app.bunker_tenant("acme").await;
    let globex = app.bunker_tenant("globex").await;
    for tenant in [&acme, &globex] {
        tenant.add(json!({ "email": "ada@example.com" })).await;
    }
    let sql = app.superuser_sql().await;
    for (number, (damage, remedy)) in DAMAGES.iter().chain(SMALLER_DAMAGES).enumerate() {
        let statement = |sql: &str| {
            let other = format!("tenant_{}", Uuid::from_u128(!acme.id.as_u128()).simple());
            sql.replace("{acme}", &acme.schema()).replace("{other}", &other)
        };
        run(&sql, &statement(damage)).await;
        let answer = acme.admin.get("ada@example.com").await;
        assert!(answer.error(503).contains("tenant_damaged"), "{damage}: {answer:?}");
        assert!(answer.retry_after() > 1, "{damage}: {answer:?}");
        let add = json!({ "profile": { "email": "bob@example.com" } });
        let answer = acme.admin.call("UserCreate", add).await;
        if number < DAMAGES.len() {
            assert!(answer.error(503).contains("tenant_damaged"), "{damage}: {answer:?}");
            let answer = count_in(&app.root(), acme.id).await;
            assert!(answer.refusal(503).contains("tenant_damaged"), "{damage}: {answer:?}");
            assert!(!answer.text.contains("tenant_0"), "no schema is told: {answer:?}");
        }
        globex.admin.get("ada@example.com").await.ok();
        run(&sql, &statement(remedy)).await;
        acme.admin.get("ada@example.com").await.ok();
    }
    // A mistake of the application is not told as damage.
    assert_eq!(count_in(&app.root(), globex.id).await.status, 200);
}

#[tokio::test]
async fn the_log_names_the_damaged_tenant_at_the_level_error() {
    let app = TestApp::spawn().await;
    let acme = app.bunker_tenant("acme").await;
    run(&app.superuser_sql().await, &format!("DROP TABLE {}.profiles CASCADE", acme.schema()))
        .await;
    let server = Program::on(&app.database).serve(&[]);
    let body = json!({ "mode": "email", "identity": "ada@example.com" });
    let request = Caller::new(&server.address, None).request(Method::POST, "/v2/UserGet");
    let answer = send(request.header("x-bunker-token", &acme.xtoken).json(&body)).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    let log = server.stderr_with("a tenant is damaged");
    let line = log.lines().find(|line| line.contains("a tenant is damaged")).expect("it is there");
    assert!(line.contains("ERROR") && line.contains(&acme.id.to_string()), "{line}");
    server.stop("TERM");
}

#[tokio::test]
async fn a_database_that_was_restored_without_the_roles_is_told_at_start_and_repaired_by_doctor() {
    let database = TestDatabase::create().await;
    let backend = open(&database.url(), &[]).await.expect("it opens");
    let mut tenants = Vec::new();
    for slug in ["acme", "globex", "initech", "umbrella"] {
        tenants.push(provision(&backend, slug).await);
    }
    assert!(!backend.posture.sentences().join("\n").contains("cannot be entered"));
    backend.close().await;
    let superuser = database.connect_as_superuser().await;
    for tenant in &tenants[1..] {
        let role = schema(*tenant);
        run(&superuser, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    }
    let backend = open(&database.url(), &[]).await.expect("it opens");
    let told = backend.posture.sentences().join("\n");
    assert!(told.contains("3 of 4 tenants cannot be entered"), "{told}");
    assert!(told.contains("globex") && told.contains("rowhouse doctor --fix"), "{told}");
    assert!(told.contains("0 have no schema, 3 have no role"), "{told}");
    let all = Selection { tenants: Vec::new() };
    let report = backend.services.doctor.examine(&backend.operator(), &all).await.expect("it runs");
    assert_eq!(report.wrong_count(), 3, "{report:?}");
    let repaired = backend.services.doctor.repair(&backend.operator(), &all, &Orphans::Keep).await;
    assert_eq!(repaired.expect("it runs").wrong_count(), 0);
    backend.close().await;
    let backend = open(&database.url(), &[]).await.expect("it opens");
    let told = backend.posture.sentences().join("\n");
    assert!(!told.contains("cannot be entered"), "{told}");
    backend.close().await;
}

/// Ways to damage a vacancy.
const OF_VACANCIES: &[&str] = &[
    "DROP SCHEMA {vacancy} CASCADE",
    "DROP OWNED BY {vacancy}; DROP ROLE {vacancy}",
    "REVOKE {vacancy} FROM rowhouse_runtime",
    "DROP TABLE {vacancy}.profiles CASCADE",
    "ALTER TABLE {vacancy}.profiles DROP COLUMN version CASCADE",
    "REVOKE SELECT ON {vacancy}.profiles FROM {vacancy}",
    "REVOKE USAGE ON SCHEMA {vacancy} FROM {vacancy}",
    "CREATE TABLE {vacancy}.extra (id int)",
];

#[tokio::test]
async fn a_damaged_vacancy_becomes_no_tenant_is_set_aside_and_doctor_reports_it() {
    let database = TestDatabase::create().await;
    let (owner, superuser) = (database.connect().await, database.connect_as_superuser().await);
    let process = Process::on(&database, 2).await;
    for (number, damage) in OF_VACANCIES.iter().enumerate() {
        process.fill().await;
        let stock = vacancies(&superuser, "ready").await;
        let oldest = format!("tenant_{}", stock[0].simple());
        // A node lets only the owner of a table drop it.
        let login = if damage.starts_with("CREATE") { &owner } else { &superuser };
        run(login, &damage.replace("{vacancy}", &oldest)).await;
        let made = process.set_up(&format!("acme-{number}")).await;
        assert_ne!(made, stock[0], "{damage}");
        process.replenish_fully().await;
        let left = vacancies(&superuser, "ready").await;
        assert!(left.contains(&stock[0]), "{damage}: it is kept for the operator");
        assert_eq!(left.len(), 3, "{damage}: another is built beside it");
        // The stock serves again.
        let made = process.set_up(&format!("globex-{number}")).await;
        assert!(left.contains(&made) && made != stock[0], "{damage}");
        let all = Selection { tenants: Vec::new() };
        let report = process.backend.services.doctor.examine(&process.operator(), &all).await;
        let report = report.expect("it runs");
        let found = report.findings.iter().any(|finding| {
            let of_it = finding.subject.as_ref().is_some_and(|of| of.id.uuid() == stock[0]);
            of_it && finding.gravity == Gravity::Wrong
        });
        assert!(found, "{damage}: {report:?}");
        let service = &process.backend.services.vacancies;
        service.drop_all(&process.operator()).await.expect("all are dropped");
    }
    process.close().await;
}

#[tokio::test]
async fn readiness_tells_how_many_tenants_are_damaged_and_names_none() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let (acme, globex) = (app.bunker_tenant("acme").await, app.bunker_tenant("globex").await);
    app.bunker_tenant("initech").await;
    let ready = async || {
        app.services.damage.check(&app.operator()).await.expect("the catalogs can be read");
        let answer = app.anonymous().get("/readyz").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.text.contains("acme") && !answer.text.contains("globex"), "{answer:?}");
        answer.body["damaged_tenants"].as_u64()
    };
    assert_eq!(ready().await, None);
    let sql = app.superuser_sql().await;
    run(&sql, &format!("REVOKE {} FROM rowhouse_runtime", acme.schema())).await;
    assert_eq!(ready().await, Some(1), "no request has found it");
    run(&sql, &format!("ALTER TABLE {}.profiles RENAME TO away", globex.schema())).await;
    assert_eq!(ready().await, Some(1), "only a request finds it");
    for tenant in [&acme, &globex] {
        assert_eq!(tenant.admin.get("ada@example.com").await.status, 503);
    }
    assert_eq!(ready().await, Some(2), "each counts once");
    run(&sql, &format!("GRANT {} TO rowhouse_runtime", acme.schema())).await;
    run(&sql, &format!("ALTER TABLE {}.away RENAME TO profiles", globex.schema())).await;
    app.clock.advance(time::Duration::minutes(11));
    assert_eq!(ready().await, None);
}
