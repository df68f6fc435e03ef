//! The database goes away in the middle of each step of what takes several: a proxy cuts all connections after a number of
//! messages, which grows until nothing is cut. The caller is told that it may be tried again, and the next try ends
//! what was begun.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rowhouse::app::{Backend, BuildError, Options};
use rowhouse::config::Settings;
use rowhouse::domain::Error;
use rowhouse::pg::bootstrap::BootstrapError;
use rowhouse::pg::schema::error::ApplyError;

use crate::support::control::transition;
use crate::support::proxy::Proxy;
use crate::support::{
    Answer, Program, Snapshot, TestApp, TestAppBuilder, TestDatabase, settings_for,
};

/// No step here takes more messages.
const MOST: i64 = 80;

async fn behind_proxy(builder: TestAppBuilder) -> (TestApp, Proxy) {
    let database = TestDatabase::create().await;
    let proxy = Proxy::to(&database.url()).await;
    let builder =
        builder.with("database.url", proxy.url.clone()).with("database.connect_timeout", "2s");
    (builder.on(database).spawn().await, proxy)
}

/// Repeats a step with a cut one message later each time, until it ends before the cut. After each cut, `after` finds
/// what the step left.
async fn at_each_message(proxy: &Proxy, step: impl AsyncFn(i64), after: impl AsyncFn(i64)) {
    for messages in 1..=MOST {
        proxy.cut_after(messages);
        step(messages).await;
        let was_cut = proxy.was_cut();
        after(messages).await;
        if !was_cut {
            assert!(messages > 1, "the step sent nothing");
            return;
        }
    }
    panic!("the step takes more than {MOST} messages");
}

/// Sends a request as a client does that heeds `Retry-After`, without its pauses.
async fn persistently(request: impl AsyncFn() -> Answer) -> Answer {
    for _ in 0..100 {
        let answer = request().await;
        if answer.status != 503 {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the server does not recover");
}

/// Fails unless the database was found away, if the step has failed.
#[track_caller]
fn assert_away<T>(outcome: Result<T, Error>, messages: i64) {
    if let Err(error) = outcome {
        // The server may not know yet that the connection of an earlier step is gone.
        let is_away = matches!(error, Error::Unavailable { .. }) || error.is_lost_race();
        assert!(is_away, "after {messages} messages: {}", error.chain());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_up_that_is_cut_off_anywhere_is_503_or_done_and_can_be_repeated() {
    for vacancies in ["0", "2"] {
        let builder = TestApp::builder().with("tenants.vacancies", vacancies);
        let (app, proxy) = behind_proxy(builder).await;
        app.services.vacancies.fill(&app.operator()).await.expect("the stock can be filled");
        let before = Snapshot::of(&app).await.count("tenants");
        let set_up = async |messages: i64| {
            let body = TestApp::setup_body(&format!("t{messages}"));
            app.root().post("/api/tenant/setup", &body).await
        };
        let made = AtomicI64::new(before);
        at_each_message(
            &proxy,
            async |messages| match set_up(messages).await {
                answer if answer.status == 503 => assert!(answer.retry_after() >= 1),
                answer => assert_eq!(answer.status, 201, "after {messages} messages: {answer:?}"),
            },
            async |messages| {
                // The answer to the commit may have been lost.
                let again = persistently(async || set_up(messages).await).await;
                assert!([201, 409].contains(&again.status), "after {messages} messages: {again:?}");
                made.fetch_add(1, Ordering::SeqCst);
            },
        )
        .await;
        let rows = Snapshot::of(&app).await.count("tenants");
        assert_eq!(rows, made.into_inner(), "each is made once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_is_cut_off_anywhere_is_503_or_done_and_can_be_repeated() {
    let (app, proxy) = behind_proxy(TestApp::builder()).await;
    let root = app.root();
    // Each run of the step purges a tenant of its own.
    for messages in 1..=MOST {
        let slug = format!("t{messages}");
        let body = TestApp::setup_body(&slug);
        let made = persistently(async || root.post("/api/tenant/setup", &body).await).await;
        assert_eq!(made.status, 201, "{made:?}");
        let deleted = persistently(async || transition(&root, &slug, "delete").await).await;
        assert_eq!(deleted.status, 200, "{deleted:?}");
        proxy.cut_after(messages);
        let purged = transition(&root, &slug, "purge").await;
        let was_cut = proxy.was_cut();
        match purged.status {
            503 => assert!(purged.retry_after() >= 1),
            status => assert_eq!(status, 204, "after {messages} messages: {purged:?}"),
        }
        let again = persistently(async || transition(&root, &slug, "purge").await).await;
        assert!([204, 404].contains(&again.status), "after {messages} messages: {again:?}");
        if !was_cut {
            assert_eq!(Snapshot::of(&app).await.tenant_schemas(), 0, "nothing is left");
            return;
        }
    }
    panic!("the purge takes more than {MOST} messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refill_that_is_cut_off_anywhere_finds_the_database_away_and_is_finished_later() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::to(&database.url()).await;
    let mut values = settings_for(&proxy.url);
    values.push(("tenants.vacancies", "1".to_owned()));
    let settings = Settings::from_values(&values).expect("the settings are good");
    let backend = Backend::open(&settings, &Options::default()).await.expect("it opens");
    let (vacancies, ctx) = (&backend.services.vacancies, backend.operator());
    at_each_message(
        &proxy,
        async |messages| assert_away(vacancies.fill(&ctx).await, messages),
        async |messages| {
            for _ in 0..100 {
                match vacancies.fill(&ctx).await {
                    Ok(_) => break,
                    outcome => assert_away(outcome, messages),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(vacancies.status(&ctx).await.expect("it can be read").ready, 1);
            assert_eq!(vacancies.drop_all(&ctx).await.expect("it can be dropped").dropped, 1);
        },
    )
    .await;
    let left = Snapshot::take(&database.connect().await).await;
    assert_eq!(left.tenant_schemas(), 0, "nothing is left");
    backend.close().await;
}

/// The control plane's own migrations run inside refinery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_is_cut_off_anywhere_does_not_blame_the_migrations() {
    let database = TestDatabase::create_empty().await;
    let proxy = Proxy::to(&database.url()).await;
    let settings = Settings::from_values(&settings_for(&proxy.url)).expect("the settings are good");
    for messages in (1..).step_by(4) {
        proxy.cut_after(messages);
        let opened = Backend::open(&settings, &Options::default()).await;
        let was_cut = proxy.was_cut();
        match opened {
            Ok(backend) => {
                backend.close().await;
                if !was_cut {
                    return;
                }
            }
            Err(BuildError::Bootstrap(BootstrapError::Migrate(
                error @ (ApplyError::History(_) | ApplyError::Failed { .. }),
            ))) => panic!("after {messages} messages: {error}"),
            Err(error) => assert!(was_cut, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transition_that_is_cut_off_anywhere_is_503_or_done_and_can_be_repeated() {
    let (app, proxy) = behind_proxy(TestApp::builder()).await;
    app.set_up("acme").await;
    let root = app.root();
    for (name, status) in [
        ("suspend", "suspended"),
        ("resume", "active"),
        ("delete", "deleting"),
        ("restore", "active"),
    ] {
        let opposite = match name {
            "suspend" => "resume",
            "resume" => "suspend",
            "delete" => "restore",
            _ => "delete",
        };
        let done = async |name: &str| {
            let answer = persistently(async || transition(&root, "acme", name).await).await;
            // It was done before, and the answer was lost.
            assert!([200, 409].contains(&answer.status), "{name}: {answer:?}");
        };
        at_each_message(
            &proxy,
            async |messages| {
                let answer = transition(&root, "acme", name).await;
                match answer.status {
                    503 => assert!(answer.retry_after() >= 1),
                    other => assert_eq!(other, 200, "{name}, {messages} messages: {answer:?}"),
                }
            },
            async |messages| {
                done(name).await;
                let sql = app.sql().await;
                let row = sql.query_one("SELECT status FROM tenants WHERE slug = 'acme'", &[]);
                let found: String = row.await.expect("the tenant is there").get(0);
                assert_eq!(found, status, "{name}, {messages} messages");
                done(opposite).await;
            },
        )
        .await;
        done(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_migration_that_is_cut_off_anywhere_is_finished_by_the_next_run_and_blames_no_file()
{
    let database = TestDatabase::create().await;
    let proxy = Proxy::to(&database.url()).await;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let write = |number: i64| {
        let name = format!("V{number}__create_t{number}.sql");
        let text = format!("CREATE TABLE t{number} (id integer);");
        std::fs::write(folder.path().join(name), text).expect("a file can be written");
    };
    write(1);
    let program = |url: &str| {
        Program::on(&database)
            .with("DATABASE_URL", url)
            .with("ROWHOUSE_FLEET__LEASE", "1s")
            .with("ROWHOUSE_TENANT_MIGRATIONS", &folder.path().display().to_string())
    };
    let (directly, cut) = (program(&database.url()), program(&proxy.url));
    directly.run(&["migrate"]).expect(0);
    for slug in ["acme", "globex"] {
        directly.create_tenant(slug).expect(0);
    }
    for (number, messages) in (2..).zip((1..).step_by(7)) {
        write(number);
        proxy.cut_after(messages);
        let ran = cut.run(&["migrate", "--workers", "1"]);
        let was_cut = proxy.was_cut();
        assert!(was_cut || ran.code == Some(0), "after {messages} messages: {ran:?}");
        let text = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!text.contains("failed:"), "after {messages} messages: {text}");
        let mut again = directly.run(&["migrate"]);
        for _ in 0..20 {
            if again.code == Some(0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
            again = directly.run(&["migrate"]);
        }
        assert_eq!(again.code, Some(0), "after {messages} messages: {again:?}");
        let behind = "SELECT count(*) FROM tenants WHERE migrations_version <> $1";
        let expected = i32::try_from(number).expect("few files");
        let sql = database.connect().await;
        let behind = sql.query_one(behind, &[&expected]).await.expect("tenants can be read");
        assert_eq!(behind.get::<_, i64>(0), 0, "after {messages} messages");
        if !was_cut {
            assert!(messages > 20, "the migration takes few messages: {messages}");
            return;
        }
    }
}
