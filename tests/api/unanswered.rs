//! The network forgets a connection while the server waits for an answer on it, and acknowledges all that is sent: the
//! database answers nothing, and nothing breaks. Each background job gives up after a time, says so, and succeeds the next
//! time on another connection.

use std::time::Duration;

use rowhouse::domain::Error;
use rowhouse::domain::error::Result;
use rowhouse::pg::connect::dedicated::is_direct;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::isolation::fixture::endpoint;
use crate::support::control::transition;
use crate::support::proxy::Proxy;
use crate::support::{TestApp, TestDatabase};

/// Longer than a job waits for an answer, and shorter than TCP does.
const LONG: Duration = Duration::from_secs(30);

/// Waits until a transaction waits for a lock.
async fn wait_for_a_lock(sql: &tokio_postgres::Client) {
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while !sql.query_one(waits, &[]).await.expect("activity can be read").get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Fails unless a job gives up whose connection is forgotten while it waits for a lock of this table, and the next run
/// succeeds.
async fn assert_gives_up<T: std::fmt::Debug>(
    app: &TestApp,
    proxy: &Proxy,
    (name, table): (&str, &str),
    run: impl AsyncFn() -> Result<T>,
) {
    let lock = app.superuser_sql().await;
    let lock_table = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
    lock.batch_execute(&lock_table).await.expect("the table can be locked");
    let forget = async {
        wait_for_a_lock(&app.superuser_sql().await).await;
        proxy.forget_connections();
    };
    let ran = tokio::time::timeout(LONG, async { tokio::join!(run(), forget).0 }).await;
    let ran = ran.unwrap_or_else(|_elapsed| panic!("{name} waits for ever"));
    let error = ran.expect_err(name);
    assert!(matches!(error, Error::Unavailable { .. }), "{name}: {}", error.chain());
    assert!(error.chain().contains("did not answer within 2 s"), "{name}: {}", error.chain());
    lock.batch_execute("ROLLBACK").await.expect("the lock can be released");
    let mut again = run().await;
    // The other connections of the pool were forgotten, too.
    for _ in 0..5 {
        if again.is_ok() {
            break;
        }
        again = run().await;
    }
    assert!(again.is_ok(), "{name}: {again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_connection_is_forgotten_gives_up_and_succeeds_the_next_time() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::to(&database.url()).await;
    let app = TestApp::builder()
        .with("database.url", proxy.url.clone())
        .with("database.statement_timeout", "1s")
        .with("database.lock_timeout", "1m")
        // The jobs of the server itself run at other times.
        .with("tenants.purge_interval", "1h")
        .with("tenants.vacancies", "1")
        .on(database)
        .spawn()
        .await;
    let (services, ctx) = (&app.services, app.operator());
    services.vacancies.fill(&ctx).await.expect("the stock can be filled");
    app.set_up("acme").await;
    let deleted = transition(&app.root(), "acme", "delete").await;
    assert_eq!(deleted.status, 200, "{deleted:?}");

    let purge = async || services.lifecycle.purge_due(&ctx).await;
    assert_gives_up(&app, &proxy, ("the purge", "tenants"), purge).await;
    let erase = async || services.profiles.erase_expired(&ctx).await;
    assert_gives_up(&app, &proxy, ("the sweep", "tenants"), erase).await;
    let fill = async || services.vacancies.fill(&ctx).await;
    assert_gives_up(&app, &proxy, ("the refill", "vacancies"), fill).await;
    let sessions = async || services.sessions.delete_ended(&ctx).await;
    assert_gives_up(&app, &proxy, ("the sessions", "sessions"), sessions).await;
    let keys = async || services.signing_keys.reload(&ctx).await;
    assert_gives_up(&app, &proxy, ("the keys", "signing_keys"), keys).await;
}

/// What a server says to a client that it lets in without a password: `AuthenticationOk`, `ReadyForQuery`.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

#[tokio::test]
async fn a_server_that_lets_a_client_in_and_answers_nothing_is_given_up_where_a_pooler_is_looked_for()
 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = client.read(&mut [0; 1024]).await;
                let _ = client.write_all(WELCOME).await;
                let _ = client.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    let url = format!("postgres://owner@127.0.0.1:{port}/x?sslmode=disable&connect_timeout=1");
    let endpoint = endpoint(&url, None);
    let asked = tokio::time::timeout(LONG, is_direct(&endpoint)).await;
    let refused = asked.expect("it gives up").expect_err("nothing was answered");
    assert!(refused.to_string().contains("did not answer within 1 s"), "{refused}");
}
