//! One tenant cannot keep the others from the database: who gets a connection when there are too few, what the others are
//! told, and that no connection is lost on the way.
//!
//! No test measures time. Requests that must wait do so for a lock that a test holds, for as long as it wants, and the
//! time limits are longer than any test.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, get, web};
use futures_util::future::{join_all, poll_immediate};
use reqwest::Method;
use rowhouse::config::Settings;
use rowhouse::domain::Permission;
use rowhouse::pg::Failure;
use rowhouse::pg::rules::{Isolation, PoolSizes, Sharing, Statements};
use rowhouse::{Problem, TenantTx};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::isolation::fixture::Fixture;
use crate::support::bunker::BunkerTenant;
use crate::support::callers::send;
use crate::support::{Answer, Caller, TestApp, TestAppBuilder};

/// Longer than any test.
const LONG: &str = "10m";

/// The requests of a tenant that wants all connections.
const MANY: usize = 40;

/// A budget of which the one worker has 12 connections for tenants: a slow tenant leaves two of them.
const BUDGET: &str = "24";

/// The connections that tenants which give none back take there: one alone takes no more than it leaves.
const TAKEN: i64 = 6;

/// The same with the usual budget of a test, of which the worker has four.
const TAKEN_OF_FEW: i64 = 2;

#[get("/count")]
async fn count_profiles(tx: TenantTx) -> Result<HttpResponse, Problem> {
    let rows = tx.query_and_commit("SELECT count(*) AS count FROM profiles", &[]).await?;
    let count: i64 = rows.first().map_or(0, |row| row.get("count"));
    Ok(HttpResponse::Ok().json(count))
}

#[get("/sleep/{seconds}")]
async fn sleep_in_query(tx: TenantTx, seconds: web::Path<f64>) -> Result<HttpResponse, Problem> {
    tx.query_and_commit("SELECT pg_sleep($1)", &[&*seconds]).await?;
    Ok(HttpResponse::Ok().finish())
}

#[get("/panic")]
async fn panic_in_transaction(tx: TenantTx) -> Result<HttpResponse, Problem> {
    tx.query("SELECT 1", &[]).await?;
    // Unlike `panic!` this prints nothing.
    std::panic::resume_unwind(Box::new("a handler of an application"))
}

fn patient() -> TestAppBuilder {
    let keys = [
        "database.connect_timeout",
        "database.statement_timeout",
        "database.lock_timeout",
        "http.request_timeout",
    ];
    let routes = |config: &mut web::ServiceConfig| {
        config.service(count_profiles).service(sleep_in_query).service(panic_in_transaction);
    };
    let builder = TestApp::builder().with_routes(Arc::new(routes));
    keys.into_iter().fold(builder, |builder, key| builder.with(key, LONG))
}

/// A tenant and a token that works in it.
struct Tenant {
    bunker: BunkerTenant,
    caller: Caller,
}

impl Tenant {
    async fn create(app: &TestApp, name: &str) -> Self {
        let bunker = app.bunker_tenant(name).await;
        let (_, caller) = app.add_token(&[Permission::ReadProfiles], Some(bunker.id), None).await;
        Self { bunker, caller }
    }

    async fn count(&self) -> Answer {
        self.caller.get("/count").await
    }

    /// Locks its profiles, so that each request which reads them waits until the lock is released.
    async fn lock(&self, app: &TestApp) -> Client {
        let sql = app.sql().await;
        let lock =
            format!("BEGIN; LOCK TABLE {}.profiles IN ACCESS EXCLUSIVE MODE", self.bunker.schema());
        sql.batch_execute(&lock).await.expect("the table can be locked");
        sql
    }

    /// Sends requests that do not end before the test wants it.
    fn send(&self, requests: &mut JoinSet<Answer>, path: &str, count: usize) {
        for _ in 0..count {
            let (caller, path) = (self.caller.clone(), path.to_owned());
            requests.spawn(async move { caller.get(&path).await });
        }
    }
}

async fn tenants(app: &TestApp, count: usize) -> Vec<Tenant> {
    let mut all = Vec::new();
    for name in ["acme", "globex", "initech", "umbrella"].into_iter().take(count) {
        all.push(Tenant::create(app, name).await);
    }
    all
}

/// Counts the connections of tenants that are in use.
async fn busy(app: &TestApp) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND usename = 'rowhouse_runtime' AND state = 'active'";
    app.superuser_sql().await.query_one(sql, &[]).await.expect("activity can be read").get(0)
}

/// Fails if one of these requests was answered.
async fn assert_waiting(requests: &mut JoinSet<Answer>) {
    let answer = poll_immediate(Box::pin(requests.join_next())).await.flatten();
    assert!(answer.is_none(), "{answer:?}");
}

/// Reads in a tenant until others have taken all that they can have, and 45 times more: each read is answered.
async fn assert_served_beside(
    app: &TestApp,
    quiet: &Tenant,
    requests: &mut JoinSet<Answer>,
    taken: i64,
) {
    while busy(app).await < taken {
        assert_eq!(quiet.count().await.status, 200);
    }
    for _ in 0..45 {
        let answer = quiet.count().await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "0"), "{answer:?}");
    }
    assert_waiting(requests).await;
}

/// Reads the value of a metric.
async fn metric(app: &TestApp, name: &str) -> f64 {
    let text = app.anonymous().get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing from\n{text}")).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_served_at_once_while_a_table_of_another_is_locked() {
    let app = patient().with("database.max_connections", BUDGET).spawn().await;
    lock_one_of_two(&app, TAKEN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_served_at_once_beside_a_lock_where_there_are_few_connections() {
    lock_one_of_two(&patient().spawn().await, TAKEN_OF_FEW).await;
}

async fn lock_one_of_two(app: &TestApp, taken: i64) {
    let all = tenants(app, 2).await;
    let (quiet, locked) = (&all[0], &all[1]);
    // It is known to be quick, so that it may take all but the last connection.
    assert_eq!((quiet.count().await.status, locked.count().await.status), (200, 200));
    let lock = locked.lock(app).await;
    let mut requests = JoinSet::new();
    locked.send(&mut requests, "/count", MANY);
    assert_served_beside(app, quiet, &mut requests, taken).await;
    lock.batch_execute("ROLLBACK").await.expect("the lock can be released");
    let answers = requests.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_served_at_once_while_tables_of_three_others_are_locked() {
    let app = patient().with("database.max_connections", BUDGET).spawn().await;
    let all = tenants(&app, 4).await;
    let (quiet, locked) = all.split_first().expect("there are four");
    assert_eq!(quiet.count().await.status, 200);
    let mut requests = JoinSet::new();
    let mut locks = Vec::new();
    for tenant in locked {
        locks.push(tenant.lock(&app).await);
        tenant.send(&mut requests, "/count", MANY);
    }
    assert_served_beside(&app, quiet, &mut requests, TAKEN).await;
    for lock in locks {
        lock.batch_execute("ROLLBACK").await.expect("the lock can be released");
    }
    let answers = requests.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_served_at_once_beside_slow_queries_of_another() {
    let app = patient().with("database.max_connections", BUDGET).spawn().await;
    let all = tenants(&app, 2).await;
    let (quiet, slow) = (&all[0], &all[1]);
    assert_eq!(quiet.count().await.status, 200);
    let mut requests = JoinSet::new();
    slow.send(&mut requests, "/sleep/300", MANY);
    assert_served_beside(&app, quiet, &mut requests, TAKEN).await;
    // Ends the queries, and those that follow.
    let sql = app.superuser_sql().await;
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
    while !requests.is_empty() {
        sql.execute(cancel, &[]).await.expect("queries can be cancelled");
        tokio::time::sleep(Duration::from_millis(10)).await;
        while let Some(ended) = poll_immediate(Box::pin(requests.join_next())).await.flatten() {
            assert_eq!(ended.expect("it is answered").status, 503);
        }
    }
    for _ in 0..3 {
        let panicking = join_all((0..15).map(|_| slow.caller.get("/panic"))).await;
        assert!(panicking.iter().all(|answer| answer.status == 500), "{panicking:?}");
    }
    let answers = join_all((0..MANY).map(|_| slow.count())).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
}

/// How the requests of a tenant are sent.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Token,
    User,
    Bunker,
}

/// Sends one more request than the tenant's limit allows, each of which waits for a lock once it has a connection, or for
/// a connection.
async fn exceed_limit(app: &TestApp, tenant: &Tenant, kind: Kind, limit: usize) -> JoinSet<Answer> {
    let mut requests = JoinSet::new();
    match kind {
        Kind::Token => tenant.send(&mut requests, "/count", limit + 1),
        Kind::User => {
            let email = "una@example.com";
            let user = app.add_user(email, None).await;
            let sql = "INSERT INTO memberships (tenant_id, user_id, role, created_at)
                       VALUES ($1, $2, 'ADMIN', clock_timestamp())";
            let written = app.sql().await.execute(sql, &[&tenant.bunker.id, &user]).await;
            written.expect("a member can be made");
            let caller = app.log_in(email).await;
            for _ in 0..=limit {
                let request = caller.request(Method::GET, "/count");
                let request = request.header("x-tenant-id", tenant.bunker.id.to_string());
                requests.spawn(send(request));
            }
        }
        Kind::Bunker => {
            for _ in 0..=limit {
                let admin = tenant.bunker.admin.clone();
                requests.spawn(async move { admin.get("ada@example.com").await });
            }
        }
    }
    requests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_over_a_limit_is_refused_before_it_waits_for_a_connection() {
    for kind in [Kind::Token, Kind::User, Kind::Bunker] {
        let builder = patient().with_stopped_clock().with("limits.requests_tenant", "1/12");
        let app = builder.spawn().await;
        let tenant = Tenant::create(&app, "acme").await;
        let lock = tenant.lock(&app).await;
        // The worker has four connections.
        let mut requests = exceed_limit(&app, &tenant, kind, 12).await;
        let refused = requests.join_next().await.expect("there are requests").expect("it is sent");
        assert_eq!(refused.status, 429, "{kind:?}: {refused:?}");
        assert_eq!(refused.retry_after(), 60, "{kind:?}");
        assert_waiting(&mut requests).await;
        lock.batch_execute("ROLLBACK").await.expect("the lock can be released");
        let found = if matches!(kind, Kind::Bunker) { 404 } else { 200 };
        for answer in requests.join_all().await {
            assert_eq!(answer.status, found, "{kind:?}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_on_over_a_limit_is_refused_without_a_connection() {
    let builder = patient().with_stopped_clock().with("limits.requests_tenant", "1/2");
    let app = builder.with("limits.requests_token", "1/2").spawn().await;
    let tenant = Tenant::create(&app, "acme").await;
    app.add_user("una@example.com", None).await;
    let user = app.log_in("una@example.com").await;
    let calls = async || {
        [
            tenant.count().await.status,
            tenant.bunker.admin.get("ada@example.com").await.status,
            user.get("/control/v1/me").await.status,
        ]
    };
    while calls().await != [429; 3] {}
    // From here on no credential can be looked up.
    let sql = app.sql().await;
    let lock = "BEGIN; LOCK TABLE tokens, sessions, users, tenants IN ACCESS EXCLUSIVE MODE";
    sql.batch_execute(lock).await.expect("the tables can be locked");
    for _ in 0..20 {
        assert_eq!(calls().await, [429; 3]);
    }
    sql.batch_execute("ROLLBACK").await.expect("the lock can be released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_in_vain_is_told_in_each_dialect_whether_its_own_tenant_is_the_reason() {
    // Without the reserve, of which the other tenant would be served.
    let builder = patient().with("database.connect_timeout", "2s").with("fairness.reserve", "0");
    let app = builder.spawn().await;
    let all = tenants(&app, 2).await;
    let (other, busy_one) = (&all[0], &all[1]);
    // Opens the connections while no time presses.
    let answers = join_all((0..4).map(|_| busy_one.count())).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let lock = busy_one.lock(&app).await;
    let mut requests = JoinSet::new();
    busy_one.send(&mut requests, "/count", 4);
    while busy(&app).await < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (own, own_bunker, foreign, foreign_bunker) = tokio::join!(
        busy_one.count(),
        busy_one.bunker.admin.get("ada@example.com"),
        other.count(),
        other.bunker.admin.get("ada@example.com"),
    );
    let sentence = "Other requests of this tenant hold the database connections that it may have; try again later";
    assert_eq!((own.refusal(429), own.retry_after()), (sentence, 1));
    assert_eq!((own_bunker.error(429), own_bunker.retry_after()), (sentence, 1));
    let sentence = "No database connection was free in time; try again";
    assert_eq!((foreign.refusal(503), foreign_bunker.error(503)), (sentence, sentence));
    assert_eq!((foreign.retry_after(), foreign_bunker.retry_after()), (1, 1));
    assert_waiting(&mut requests).await;
    let waits = |holding: &str, part: &str| {
        format!("rowhouse_db_connection_wait_seconds_{part}{{holding=\"{holding}\"}}")
    };
    // Of those that waited in vain, two had a tenant with connections and two had not.
    assert!(metric(&app, &waits("some", "count")).await >= 2.0);
    assert!(metric(&app, &waits("some", "sum")).await >= 3.9);
    assert!(metric(&app, &waits("none", "count")).await >= 2.0);
    assert!(metric(&app, &waits("none", "sum")).await >= 3.9);
    lock.batch_execute("ROLLBACK").await.expect("the lock can be released");
    assert!(requests.join_all().await.iter().all(|answer| answer.status == 200));
    assert_eq!((other.count().await.status, busy_one.count().await.status), (200, 200));
}

#[test]
fn the_settings_of_fairness_have_the_documented_defaults_and_bounds() {
    let settings = Settings::from_values(&[]).expect("the defaults are good");
    assert_eq!(settings.fairness, Sharing::default().fairness);
    assert_eq!(settings.database.idle_timeout, Some(Duration::from_mins(5)));
    for (key, bad) in [("fairness.reserve", "101"), ("fairness.slow_after", "0")] {
        let error = Settings::from_values(&[(key, bad.to_owned())]).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}

/// Requests that are dropped in a query, panic in a transaction, or end, on a few connections of a real server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_and_panicking_transactions_lose_no_connection() {
    const ROUNDS: usize = 120;
    let fixture = Fixture::build(Isolation::Role, 5).await;
    for connections in [1, 2, 5] {
        let db = fixture.db(Statements::Unnamed, connections);
        let mut tasks = JoinSet::new();
        for round in 0..ROUNDS {
            let (db, tenant) = (db.clone(), fixture.tenants[round % 3]);
            let task = tasks.spawn(async move {
                let tx = db.tenant(tenant).await?;
                match round % 4 {
                    0 => tx.query("SELECT pg_sleep(0.02)", &[]).await.map(drop),
                    1 => {
                        tx.query("SELECT 1", &[]).await?;
                        std::panic::resume_unwind(Box::new("in a transaction"))
                    }
                    2 => tx.query("SELECT pg_sleep(300)", &[]).await.map(drop),
                    _ => tx.query_and_commit("SELECT 1", &[]).await.map(drop),
                }
            });
            // Some are dropped in their query, others while they wait, others before they begin.
            if round % 4 == 2 {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis((round % 30) as u64)).await;
                    task.abort();
                });
            }
        }
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(outcome) => outcome.unwrap_or_else(|failure: Failure| panic!("{failure:?}")),
                Err(error) => assert!(error.is_cancelled() || error.is_panic(), "{error}"),
            }
        }
        // One each: a tenant that holds none may have any.
        let tenants = fixture.tenants.iter().take(connections);
        let held = join_all(tenants.map(|tenant| db.tenant(*tenant))).await;
        assert_eq!(held.iter().filter(|tx| tx.is_ok()).count(), connections);
    }
}

/// Lets no more connections into a database than are open.
async fn refuse_more(fixture: &Fixture) {
    let open = count(fixture, "true").await;
    limit(fixture, open).await;
}

async fn limit(fixture: &Fixture, connections: i64) {
    let name = fixture.database.name();
    let sql = format!("ALTER DATABASE {name} CONNECTION LIMIT {connections}");
    fixture.owner.batch_execute(&sql).await.expect("a limit can be set");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_can_open_no_more_connections_waits_for_its_own() {
    let fixture = Fixture::build(Isolation::Role, 4).await;
    let database = fixture.database_with(Statements::Unnamed, Sharing::default());
    let db = database.pools(PoolSizes { control: 2, runtime: 4 }).expect("pools can be made");
    let serve = async |number: usize| {
        let tx = db.tenant(fixture.tenants[number % 4]).await?;
        tx.query_and_commit("SELECT pg_sleep(0.02)", &[]).await
    };
    assert!(serve(0).await.is_ok() && db.public().await.is_ok());
    refuse_more(&fixture).await;
    for served in join_all((0..12).map(serve)).await {
        assert!(served.is_ok(), "{served:?}");
    }
    // The pool of the control plane does the same.
    let held = db.public().await.expect("one is open");
    let mut second = Box::pin(db.public());
    assert!(poll_immediate(&mut second).await.is_none(), "it tries to open another");
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(held);
    assert!(second.await.is_ok());
    limit(&fixture, -1).await;
    let held = join_all(fixture.tenants.iter().map(|tenant| db.tenant(*tenant))).await;
    assert!(held.iter().all(Result::is_ok), "it opens more as soon as it can");
}

/// Counts the connections of the test and of its server to the database of a fixture.
async fn connections(fixture: &Fixture) -> i64 {
    count(fixture, "usename IN (current_user, 'rowhouse_runtime')").await
}

async fn count(fixture: &Fixture, condition: &str) -> i64 {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
    );
    fixture.owner.query_one(&sql, &[]).await.expect("activity can be read").get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_refused_a_connection_leaves_two_for_a_command_of_the_operator() {
    let fixture = Fixture::build(Isolation::Role, 5).await;
    let database = fixture.database_with(Statements::Unnamed, Sharing::default());
    let db = database.pools(PoolSizes { control: 1, runtime: 5 }).expect("pools can be made");
    let hold = async || {
        let held = join_all(fixture.tenants[..4].iter().map(|tenant| db.tenant(*tenant))).await;
        held.into_iter().collect::<Result<Vec<_>, _>>().expect("there are connections")
    };
    drop(hold().await);
    // The limit does not count the processes that an extension runs in the database.
    limit(&fixture, count(&fixture, "backend_type = 'client backend'").await).await;
    let (before, taken) = (connections(&fixture).await, hold().await);
    let mut refused = Box::pin(db.tenant(fixture.tenants[4]));
    assert!(poll_immediate(&mut refused).await.is_none(), "it tries to open another");
    for _ in 0..10 {
        assert!(poll_immediate(&mut refused).await.is_none());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(taken);
    let tx = refused.await.expect("it gets one of those that were given back");
    tx.query_and_commit("SELECT 1", &[]).await.expect("it can be used");
    while connections(&fixture).await > before - 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(connections(&fixture).await, before - 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_without_a_connection_gets_one_that_another_pool_does_not_use() {
    let fixture = Fixture::build(Isolation::Role, 2).await;
    let database = fixture.database_with(Statements::Unnamed, Sharing::default());
    let sizes = PoolSizes { control: 1, runtime: 2 };
    let pools = [0, 1].map(|_| database.pools(sizes).expect("pools can be made"));
    let serve = async |pool: usize| {
        let tx = pools[pool].tenant(fixture.tenants[0]).await?;
        tx.query_and_commit("SELECT 1", &[]).await
    };
    assert!(serve(0).await.is_ok());
    refuse_more(&fixture).await;
    for pool in [1, 0, 1] {
        let served = serve(pool).await;
        assert!(served.is_ok(), "{served:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_not_used_are_closed_but_for_one_in_each_pool() {
    let app = patient().with("database.idle_timeout", "100ms").spawn().await;
    let tenant = Tenant::create(&app, "acme").await;
    let lock = tenant.lock(&app).await;
    let mut requests = JoinSet::new();
    tenant.send(&mut requests, "/count", 4);
    while busy(&app).await < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lock.batch_execute("ROLLBACK").await.expect("the lock can be released");
    assert!(requests.join_all().await.iter().all(|answer| answer.status == 200));
    // One of the worker's pool, and the one on which the main runtime tested the isolation.
    let open = r#"rowhouse_db_connections{purpose="runtime",state="open"}"#;
    while metric(&app, open).await > 2.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(tenant.count().await.status, 200);
}

#[tokio::test]
async fn a_tenant_that_the_caller_may_not_enter_is_not_counted() {
    let builder = patient().with_stopped_clock().with("limits.requests_tenant", "1/2");
    let app = builder.spawn().await;
    let tenant = Tenant::create(&app, "acme").await;
    app.add_user("una@example.com", None).await;
    let stranger = app.log_in("una@example.com").await;
    for id in [tenant.bunker.id, Uuid::new_v4()] {
        for _ in 0..5 {
            let request = stranger.request(Method::GET, "/count");
            let answer = send(request.header("x-tenant-id", id.to_string())).await;
            assert_eq!(answer.status, 404, "{answer:?}");
        }
    }
    let statuses = [tenant.count().await.status, tenant.count().await.status];
    assert_eq!(statuses, [200, 200]);
    let refused = tenant.bunker.admin.call("UserGet", json!({})).await;
    assert_eq!(refused.error(429), "Too many requests");
}
