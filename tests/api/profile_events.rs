//! A tenant's role adds to the events of its profiles and reads them, and can do nothing else with them.

use rowhouse::domain::Access;
use rowhouse::domain::names::TenantId;
use rowhouse::pg::Failure;
use rowhouse::service::tenants::TenantRef;
use serde_json::json;
use tokio_postgres::error::SqlState;

use crate::support::{Program, TestApp, TestDatabase, TestEngine};

const EVENTS: &str = "SELECT count(*) FROM profile_events";

/// Fails unless a tenant can add and read events and not change them.
async fn only_adds(app: &TestApp, tenant: TenantId) {
    let open = async || {
        let (tenants, operator) = (&app.services.tenants, app.operator());
        let entered = tenants.enter(&operator, &TenantRef::Id(tenant)).await;
        let entered = entered.expect("the tenant exists");
        tenants.begin(&operator, &entered, Access::Write).await.expect("the operator may write")
    };
    let before: i64 = open().await.query_one(EVENTS, &[]).await.expect("events are read").get(0);
    let add = "INSERT INTO profile_events (id, profile_id, at, action, actor, request_id)
               VALUES (gen_random_uuid(), gen_random_uuid(), now(), 'a', 'b', 'c')";
    let tx = open().await;
    tx.execute(add, &[]).await.expect("an event is added");
    tx.commit().await.expect("it is committed");
    // Citus takes no such MERGE, and says so before it looks at the privileges.
    let merge = (TestEngine::of_run() != TestEngine::Citus).then_some(
        "MERGE INTO profile_events USING (VALUES (1)) v ON true WHEN MATCHED THEN DELETE",
    );
    let others = [
        "DELETE FROM profile_events",
        "UPDATE profile_events SET actor = 'x'",
        "WITH x AS (DELETE FROM profile_events RETURNING 1) SELECT count(*) FROM x",
        "INSERT INTO profile_events SELECT * FROM profile_events ON CONFLICT (id) DO UPDATE SET actor = 'x'",
        "SELECT id FROM profile_events FOR UPDATE",
    ];
    for sql in others.into_iter().chain(merge) {
        let refused = open().await.query_and_commit(sql, &[]).await.map(drop);
        let state = refused.as_ref().err().and_then(Failure::sqlstate);
        assert_eq!(state, Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {refused:?}");
    }
    let after: i64 = open().await.query_one(EVENTS, &[]).await.expect("events are read").get(0);
    assert_eq!(after, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_role_adds_and_reads_profile_events_and_cannot_change_them() {
    for isolation in ["role", "search_path"] {
        let app = TestApp::builder().with("database.isolation", isolation).spawn().await;
        let tenant = app.bunker_tenant("acme").await;
        tenant.add(json!({ "email": "ada@example.com" })).await;
        only_adds(&app, TenantId::new(tenant.id)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasing_and_purging_work_although_events_cannot_be_deleted() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let body = json!({ "profile": { "login": "ada" }, "finaltime": "1h" });
    tenant.admin.call("UserCreate", body).await.ok();
    app.clock.advance(time::Duration::hours(2));
    let erased = app.services.profiles.erase_expired(&app.operator()).await;
    assert_eq!(erased.expect("expired profiles are erased"), 1);
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 0);
    let purged = app.services.lifecycle.remove(&app.operator(), TenantId::new(tenant.id)).await;
    purged.expect("the tenant is purged");
    let left = "SELECT to_regnamespace($1) IS NULL AND to_regrole($1) IS NULL";
    let row = app.sql().await.query_one(left, &[&tenant.schema()]).await.expect("a row");
    assert!(row.get::<_, bool>(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_a_tenant_that_exists_are_protected_by_a_migration_and_doctor_keeps_them_so()
{
    let old = tempfile::tempdir().expect("a folder can be made");
    for entry in std::fs::read_dir("tenant_migrations").expect("the files are there") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with('V') && !name.starts_with("V5__") {
            std::fs::copy(&path, old.path().join(&name)).expect("a file can be copied");
        }
    }
    let database = TestDatabase::create().await;
    let folder = old.path().display().to_string();
    let app =
        TestApp::builder().on(database.clone()).with("tenant_migrations", folder).spawn().await;
    let tenant = app.set_up("acme").await;
    let may_delete = async || {
        let sql = format!(
            "SELECT has_table_privilege('{0}', '{0}.profile_events', 'DELETE')",
            tenant.schema()
        );
        let row = database.connect().await.query_one(&sql, &[]).await.expect("a row");
        row.get::<_, bool>(0)
    };
    assert!(may_delete().await, "the older program lets it");
    app.stop().await;

    let program = Program::on(&database);
    program.run(&["migrate"]).expect(0);
    assert!(!may_delete().await);
    let app = TestApp::builder().on(database.clone()).spawn().await;
    only_adds(&app, TenantId::new(tenant.id)).await;

    let sql = format!("GRANT DELETE ON {0}.profile_events TO {0}", tenant.schema());
    database.connect().await.batch_execute(&sql).await.expect("the owner may");
    assert!(may_delete().await);
    program.run(&["doctor"]).expect(1);
    program.run(&["doctor", "--fix"]).expect(0);
    assert!(!may_delete().await);
    only_adds(&app, TenantId::new(tenant.id)).await;
}
