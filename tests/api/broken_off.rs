//! The database goes away in the middle of each step of what takes several: a proxy cuts all connections after a number of
//! messages, which grows until nothing is cut. The caller is told that it may be tried again, and the next try ends
//! what was begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rowhouse::app::{Backend, BuildError, Options};
use rowhouse::config::Settings;
use rowhouse::domain::Error;
use rowhouse::pg::bootstrap::BootstrapError;
use rowhouse::pg::schema::error::ApplyError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use crate::support::control::transition;
use crate::support::{Answer, Snapshot, TestApp, TestAppBuilder, TestDatabase, settings_for};

/// No step here takes more messages.
const MOST: i64 = 80;

/// A proxy that cuts all connections once, after a number of messages from the server.
#[derive(Clone)]
struct CuttingProxy {
    url: String,
    /// The messages until the cut; negative: none is planned.
    left: Arc<AtomicI64>,
    /// The number of cuts so far.
    cuts: watch::Sender<u64>,
}

impl CuttingProxy {
    async fn to(url: &str) -> Self {
        let config: tokio_postgres::Config = url.parse().expect("the URL is valid");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let port = listener.local_addr().expect("the listener is bound").port();
        let user = config.get_user().expect("the URL has a user");
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default());
        let database = config.get_dbname().expect("the URL has a database");
        let url =
            format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable");
        let proxy = Self { url, left: Arc::new(AtomicI64::new(-1)), cuts: watch::Sender::new(0) };
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(client, config.clone()));
            }
        });
        proxy
    }

    async fn serve(self, client: TcpStream, config: tokio_postgres::Config) {
        let port = config.get_ports().first().copied().unwrap_or(5432);
        match &config.get_hosts()[0] {
            tokio_postgres::config::Host::Unix(folder) => {
                let socket = folder.join(format!(".s.PGSQL.{port}"));
                let server = UnixStream::connect(socket).await.expect("the server listens");
                self.forward(client, server).await;
            }
            tokio_postgres::config::Host::Tcp(host) => {
                let server =
                    TcpStream::connect((host.as_str(), port)).await.expect("the server listens");
                self.forward(client, server).await;
            }
        }
    }

    async fn forward(&self, client: TcpStream, server: impl AsyncRead + AsyncWrite) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = tokio::io::split(server);
        let mut cut = self.cuts.subscribe();
        let there = tokio::io::copy(&mut from_client, &mut to_server);
        let back = async {
            let mut bytes = [0; 8192];
            while let Ok(count) = from_server.read(&mut bytes).await
                && count > 0
            {
                if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    self.cuts.send_modify(|cuts| *cuts += 1);
                    return;
                }
                if to_client.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = there => {}
            () = back => {}
            _ = cut.changed() => {}
        }
    }

    /// Plans a cut after so many messages.
    fn cut_after(&self, messages: i64) {
        self.left.store(messages, Ordering::SeqCst);
    }

    /// Calls a planned cut off; returns whether it was made.
    fn was_cut(&self) -> bool {
        self.left.swap(-1, Ordering::SeqCst) <= 0
    }
}

async fn behind_proxy(builder: TestAppBuilder) -> (TestApp, CuttingProxy) {
    let database = TestDatabase::create().await;
    let proxy = CuttingProxy::to(&database.url()).await;
    let builder =
        builder.with("database.url", proxy.url.clone()).with("database.connect_timeout", "2s");
    (builder.on(database).spawn().await, proxy)
}

/// Repeats a step with a cut one message later each time, until it ends before the cut. After each cut, `after` finds
/// what the step left.
async fn at_each_message(proxy: &CuttingProxy, step: impl AsyncFn(i64), after: impl AsyncFn(i64)) {
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
    let proxy = CuttingProxy::to(&database.url()).await;
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
    let proxy = CuttingProxy::to(&database.url()).await;
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
