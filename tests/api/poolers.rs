//! Poolers before the server. `make test-pooler` runs the suite behind one.

use rowhouse::pg::connect::dedicated::is_direct;
use rowhouse::pg::rules::RUNTIME_LOGIN;
use rowhouse::service::tenants::TenantRef;

use crate::bootstrap;
use crate::fleet::fixture::wait_for;
use crate::isolation::fixture::endpoint;
use crate::support::TestDatabase;
use crate::support::pooler::{self, StartupOptions};

#[tokio::test]
async fn a_pooler_is_recognized_whatever_it_does_with_startup_options() {
    let database = TestDatabase::create().await;
    for url in [database.url(), database.runtime_url()] {
        let found = async |url: &str| is_direct(&endpoint(url, None)).await;
        assert!(found(&url).await.expect("the server answers"), "{url}");
        for options in
            [StartupOptions::Refused, StartupOptions::Ignored, StartupOptions::SearchPathKept]
        {
            let behind = pooler::before(&url, options).await;
            let direct = found(&behind).await.expect("the server answers");
            assert!(!direct, "{options:?}");
        }
    }
}

#[tokio::test]
async fn behind_a_pooler_a_transaction_has_its_time_limits_also_in_a_session_without_them() {
    let database = TestDatabase::create().await;
    let behind = pooler::before(&database.url(), StartupOptions::Refused).await;
    let backend = bootstrap::open(&behind, &[]).await.expect("it starts");
    let tenant = bootstrap::provision(&backend, "acme").await;
    // A session that a pooler has kept is older than the limits of the login.
    let reset = format!("ALTER ROLE {RUNTIME_LOGIN} IN DATABASE {} RESET ALL", database.name());
    database.connect().await.batch_execute(&reset).await.expect("the owner may");
    let (ctx, which) = (backend.operator(), TenantRef::Id(tenant));
    let (_, tx) = backend.services.tenants.open(&ctx, &which).await.expect("the tenant exists");
    let limit = tx.query_one("SELECT current_setting('statement_timeout')", &[]).await;
    assert_eq!(limit.expect("a query runs").get::<_, String>(0), "30s");
    drop(tx);
    backend.close().await;
}

#[tokio::test]
async fn behind_a_pooler_a_query_that_was_abandoned_ends_although_nothing_cancels_it() {
    let database = TestDatabase::create().await;
    let behind = pooler::before(&database.url(), StartupOptions::Refused).await;
    let long = [("database.statement_timeout", "10m")];
    let backend = bootstrap::open(&behind, &long).await.expect("it starts");
    let tenant = bootstrap::provision(&backend, "acme").await;
    let (ctx, which) = (backend.operator(), TenantRef::Id(tenant));
    let (_, tx) = backend.services.tenants.open(&ctx, &which).await.expect("the tenant exists");
    let sql = database.connect_as_superuser().await;
    let sleepers = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let sleeping = async {
        let _ = tx.query_one("SELECT pg_sleep(600)", &[]).await;
    };
    let begun = format!("SELECT ({sleepers}) = 1");
    tokio::select! {
        () = sleeping => panic!("it sleeps for long"),
        () = wait_for(&sql, &begun) => {}
    }
    drop(tx);
    wait_for(&sql, &format!("SELECT ({sleepers}) = 0")).await;
    backend.close().await;
}
