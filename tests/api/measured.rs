//! Measurements whose figures are in the book: run one by
//! `cargo test --test api measured::NAME -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use tokio_postgres::Client;

use crate::support::control::send_if_match;
use crate::support::dedicated::DedicatedServer;
use crate::support::{TestApp, TestDatabase, provision_command, settings_for};
use crate::vacancies::process::Process;

/// The roles that a server has before set-ups are measured.
const ROLES: usize = 4_000;

/// Returns the middle and the 99th percentile, in milliseconds.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    (at(50), at(99))
}

/// From the answer to a change to that of a read which waits for it, on a server that does nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn feed() {
    let app = TestApp::spawn().await;
    let (tenant, root) = (app.set_up("acme").await.id, app.root());
    let path = format!("/control/v1/tenants/{tenant}");
    let mut cursor =
        root.get("/control/v1/events?limit=100&wait=1").await.body["next_cursor"].clone();
    let mut times = Vec::new();
    for number in 0..200 {
        let wait = format!("/control/v1/events?wait=20&after={}", cursor.as_str().expect("a text"));
        let waiting = async { (root.get(&wait).await, Instant::now()) };
        let changing = async {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(150..400))).await;
            let change = serde_json::json!({ "name": format!("name {number}") });
            let method = reqwest::Method::PATCH;
            let changed = send_if_match(&root, method, &path, "*", Some(&change)).await;
            assert_eq!(changed.status, 200, "{changed:?}");
            Instant::now()
        };
        let ((page, answered), committed) = tokio::join!(waiting, changing);
        assert_eq!(page.body["data"][0]["type"], "tenant.updated", "{page:?}");
        cursor = page.body["next_cursor"].clone();
        times.push(answered.saturating_duration_since(committed));
    }
    let (middle, most) = percentiles(times);
    eprintln!(
        "from the answer to a change to that of the feed: p50 {middle:.0} ms, p99 {most:.0} ms"
    );
}

/// What it costs to compare a vacancy with what it was when it was made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn digest() {
    const VACANCIES: usize = 200;
    let database = TestDatabase::create().await;
    let process = Process::on(&database, VACANCIES).await;
    process.fill().await;
    process.replenish_fully().await;
    let next = Process::on(&database, VACANCIES).await;
    // The first step of a process also looks for damaged vacancies, and registers it, as it does each minute.
    let began = Instant::now();
    next.replenish_once().await;
    let first = began.elapsed();
    next.clock.advance(time::Duration::minutes(2));
    let began = Instant::now();
    next.replenish_once().await;
    let second = began.elapsed();
    let each = first.saturating_sub(second).as_secs_f64() * 1000.0 / 200.0;
    eprintln!(
        "the digest of a vacancy with the built-in tables: {each:.3} ms (first {first:?}, second {second:?})"
    );
    next.close().await;
    process.close().await;
}

/// A burst of set-ups on a server with many roles, and what it costs the other connections to enter a tenant meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn roles() {
    const SET_UPS: u32 = 120;
    let server = DedicatedServer::acquire().await;
    let url = server.database("roles").await;
    let mut values = settings_for(&url);
    values.push(("database.max_connections", "20".to_owned()));
    let make = |vacancies: &str| {
        let mut values = values.clone();
        values.push(("tenants.vacancies", vacancies.to_owned()));
        Settings::from_values(&values).expect("the settings are good")
    };
    let backend = open(&make("0")).await;
    backend.close().await;
    let sql = server.superuser_in("roles").await;
    let make_roles = format!(
        "DO $$ BEGIN FOR i IN 1..{ROLES} LOOP
             EXECUTE format('CREATE ROLE tenant_%1$s NOLOGIN NOINHERIT; GRANT tenant_%1$s TO rowhouse_runtime', md5(i::text));
         END LOOP; END $$"
    );
    sql.batch_execute(&make_roles).await.expect("roles can be made");
    for (name, vacancies) in [("without vacancies", "0"), ("with 8 vacancies and roles ahead", "8")]
    {
        let backend = open(&make(vacancies)).await;
        let (services, ctx) = (&backend.services, backend.operator());
        services.vacancies.fill(&ctx).await.expect("the stock can be filled");
        let reader = server.superuser_in("roles").await;
        let before = made_in(&sql).await;
        let done = std::sync::atomic::AtomicBool::new(false);
        let set_ups = async {
            let began = Instant::now();
            for begin in (0..SET_UPS).step_by(4) {
                let four = (begin..begin + 4).map(|number| {
                    let slug = format!("v{vacancies}-{number}");
                    services.provisioning.provision(&ctx, provision_command(&slug))
                });
                for made in futures_util::future::join_all(four).await {
                    made.expect("a tenant is made");
                }
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
            f64::from(SET_UPS) / began.elapsed().as_secs_f64()
        };
        let replenish = async {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                services.vacancies.tend(&ctx).await.expect("the stock can be replenished");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let enter = async {
            let mut times = Vec::new();
            reader
                .batch_execute("SET SESSION AUTHORIZATION rowhouse_runtime")
                .await
                .expect("it may");
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                let began = Instant::now();
                let enter = "BEGIN; SET LOCAL ROLE tenant_c4ca4238a0b923820dcc509a6f75849b; COMMIT";
                reader.batch_execute(enter).await.expect("the login may");
                times.push(began.elapsed());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (times.iter().sum::<Duration>() / u32::try_from(times.len()).expect("few"), times)
        };
        let (rate, (mean, times), ()) = tokio::join!(set_ups, enter, replenish);
        let (middle, most) = percentiles(times);
        let transactions = made_in(&sql).await - before;
        eprintln!(
            "{name}: {rate:.1} set-ups a second, roles made in {transactions} transactions; entering a tenant \
             p50 {middle:.1} ms, p99 {most:.1} ms, mean {mean:?}"
        );
        backend.close().await;
    }
}

async fn open(settings: &Settings) -> Backend {
    Backend::open(settings, &Options::default()).await.expect("it opens")
}

/// Counts the transactions that made the roles of tenants.
async fn made_in(sql: &Client) -> i64 {
    let made = "SELECT count(DISTINCT xmin::text) FROM pg_authid WHERE rolname LIKE 'tenant\\_%'";
    sql.query_one(made, &[]).await.expect("roles can be read").get(0)
}
