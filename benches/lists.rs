//! The lists of dashboards over many tenants: how long the server takes for a page, first and last, with each
//! filter, against a read by primary key over HTTP in the same run; and by which index PostgreSQL finds it.
//!
//! The rows are made by SQL alone: a list reads rows of `public`, and no schema. The plans are those of the
//! statements that the server sends, told by PostgreSQL's `auto_explain`; a second server is started for
//! them, so that telling costs the measurements nothing. `ROWHOUSE_BENCH_TENANTS` sets how many there are.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod support;

use std::time::{Duration, Instant};

use rowhouse::app::{App, Options};
use serde_json::{Value, json};
use support::report::Args;
use support::{Contender, Ground, Report, interleave, machine, ms};
use tokio::sync::oneshot;
use tokio_postgres::Client;
use uuid::Uuid;

/// Requests of one contender in a round.
const EACH: usize = 5;

/// Longest server time of a page, in milliseconds.
const GOAL_MS: f64 = 50.0;

/// What is asked for.
#[derive(Clone)]
struct Ask {
    name: &'static str,
    path: String,
    /// The body, for Databunker's dialect, which asks by POST.
    body: Option<Value>,
}

impl Ask {
    fn get(name: &'static str, path: impl Into<String>) -> Self {
        Self { name, path: path.into(), body: None }
    }
}

#[tokio::main]
async fn main() {
    let args = Args::read();
    let tenants = wanted().unwrap_or(if args.quick { 500 } else { 10_000 });
    let rounds = if args.quick { 2 } else { 21 };
    let ground = Ground::start().await;
    let site = Site::start(&ground).await;
    let sql = ground.connect().await;
    fill(&sql, tenants).await;
    let mut report = Report::begin(args, "lists", machine::line(&sql).await);
    let asks = asks(&site, &sql, tenants).await;
    measure(&mut report, &site, &asks, rounds, tenants).await;
    site.stop().await;
    explain(&mut report, &ground, &sql, &asks).await;
    report.end();
    drop(sql);
    ground.stop().await;
}

/// How many tenants the environment asks for.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark's own switch, and no setting of the server"
)]
fn wanted() -> Option<i32> {
    std::env::var("ROWHOUSE_BENCH_TENANTS").ok()?.parse().ok()
}

/// Writes the rows: tenants a second apart, each with five events, which have a place in the chain already so
/// that nobody seals them meanwhile.
async fn fill(sql: &Client, tenants: i32) {
    let rows = "INSERT INTO tenants (id, number, slug, name, status, cluster, migrations_version,
                                     migrations_fingerprint, created_at, updated_at)
        SELECT gen_random_uuid(), 1000 + n, 'bench-' || n, 'Bench ' || n,
               CASE WHEN n % 100 = 0 THEN 'suspended' ELSE 'active' END, 'bench', 1, 'bench',
               '2025-01-01'::timestamptz + n * interval '1 second', now()
          FROM generate_series(1, $1) n";
    sql.execute(rows, &[&tenants]).await.expect("tenants can be written");
    let events =
        "INSERT INTO audit_events (id, at, actor, action, tenant_id, request_id, details, position)
        SELECT gen_random_uuid(), t.created_at + n * interval '1 millisecond', 'root',
               CASE n WHEN 1 THEN 'tenant.create' ELSE 'tenant.update' END, t.id, 'bench', '{}',
               1000000000 + row_number() OVER ()
          FROM tenants t, generate_series(1, 5) n";
    sql.execute(events, &[]).await.expect("events can be written");
    for tidy in ["VACUUM ANALYZE tenants", "VACUUM ANALYZE audit_events", "CHECKPOINT"] {
        sql.batch_execute(tidy).await.expect("the tables can be tidied");
    }
}

/// Every list, first page and last.
async fn asks(site: &Site, sql: &Client, tenants: i32) -> Vec<Ask> {
    let id = "SELECT id FROM tenants WHERE slug = 'bench-77'";
    let id: Uuid = sql.query_one(id, &[]).await.expect("there is one").get(0);
    let list = "/control/v1/tenants?limit=100";
    let events = "/control/v1/audit-events?limit=100";
    let mut asks = vec![
        Ask::get("one tenant, by primary key", format!("/control/v1/tenants/{id}")),
        Ask::get("tenants, first page", list),
        Ask::get("tenants, last page", site.last_page(list).await),
        Ask::get("tenants by status, first page", format!("{list}&status=suspended")),
        Ask::get(
            "tenants by status, last page",
            site.last_page(&format!("{list}&status=suspended")).await,
        ),
        Ask::get("tenants by slug", format!("{list}&slug=bench-{tenants}")),
        Ask::get("tenants by name", format!("{list}&name=Bench%20{tenants}")),
        Ask::get("tenants created after", format!("{list}&created_after=2025-01-01T00:05:00Z")),
        Ask::get("tenants created before", format!("{list}&created_before=2025-01-01T00:05:00Z")),
        Ask::get("tenants with q, found often", format!("{list}&q=bench")),
        Ask::get("tenants with q, found once", format!("{list}&q=h-{tenants}")),
        Ask::get("tenants with q, found never", format!("{list}&q=nobody")),
        Ask::get("audit events, first page", events),
        Ask::get("audit events, last page", site.last_page(events).await),
        Ask::get("audit events of a tenant", format!("{events}&tenant={id}")),
        Ask::get("audit events by action", format!("{events}&action=tenant.create")),
        Ask::get("audit events by action, never", format!("{events}&action=tenant.purge")),
        Ask::get("audit events by actor, never", format!("{events}&actor=nobody")),
        Ask::get("Reten's list, which is all of them", "/api/tenant"),
    ];
    for (name, offset) in
        [("Databunker's, first page", 0), ("Databunker's, last page", tenants - 100)]
    {
        let body = Some(json!({ "offset": offset, "limit": 100 }));
        asks.push(Ask { name, path: "/v2/TenantListTenants".to_owned(), body });
    }
    asks
}

async fn measure(report: &mut Report, site: &Site, asks: &[Ask], rounds: usize, tenants: i32) {
    report.section(&format!("{tenants} tenants, {} events: time of a request", tenants * 5));
    let contenders: Vec<Contender<'_>> =
        asks.iter().map(|ask| Contender::new(ask.name, move || site.time(ask))).collect();
    let samples = interleave(rounds, &contenders).await;
    let Some(key) = samples.first() else { return };
    for (ask, samples) in asks.iter().zip(&samples) {
        report.measured(ask.name, samples, "ms");
    }
    report.section("against the read by primary key, in the same rounds");
    for (ask, samples) in asks.iter().zip(&samples).skip(1) {
        report.ratio(ask.name, &samples.against(key), None);
        if samples.median() > GOAL_MS {
            report.note(&format!("MISSED: {} takes more than {GOAL_MS} ms", ask.name));
        }
    }
}

/// Lets PostgreSQL tell how it finds each list, and prints what it reads by.
async fn explain(report: &mut Report, ground: &Ground, sql: &Client, asks: &[Ask]) {
    report.section("how PostgreSQL finds them");
    let told = "ALTER DATABASE rowhouse SET session_preload_libraries = 'auto_explain';
                ALTER DATABASE rowhouse SET auto_explain.log_min_duration = 0;
                ALTER DATABASE rowhouse SET auto_explain.log_analyze = on";
    sql.batch_execute(told).await.expect("auto_explain can be loaded");
    let site = Site::start(ground).await;
    for ask in asks {
        let before = ground.log().len();
        site.ask(ask).await;
        report.note(ask.name);
        for line in plans(ground, before).await {
            report.note(&format!("    {line}"));
        }
    }
    site.stop().await;
}

/// What is read, and by what, in the plans that the server's log holds beyond `before`. A plan is told when
/// its transaction ends, which may be after the answer.
async fn plans(ground: &Ground, before: usize) -> Vec<String> {
    let about = |line: &&str| {
        (line.contains("Scan") || line.starts_with("Sort"))
            && (line.contains(" on tenants") || line.contains(" on audit_events"))
    };
    loop {
        let log = ground.log();
        let new = log.get(before..).unwrap_or_default();
        let bare = new.lines().map(|line| line.trim_start_matches([' ', '\t', '-', '>']));
        let mut found: Vec<String> = bare.filter(about).map(str::to_owned).collect();
        if !found.is_empty() {
            found.dedup();
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A server with the default settings, and a client of it.
struct Site {
    address: String,
    token: String,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Site {
    async fn start(ground: &Ground) -> Self {
        let token = Uuid::new_v4().to_string();
        let settings = ground.settings(&[("root_token", token.as_str())]);
        let app = App::build(settings, Options::default()).await.expect("the server starts");
        let address = format!("http://{}", app.addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(app.run_until_stopped(async {
            let _ = stopped.await;
        }));
        Self { address, token, client: reqwest::Client::new(), stop, task }
    }

    /// Asks once, and gives the answer's text.
    async fn ask(&self, ask: &Ask) -> String {
        let url = format!("{}{}", self.address, ask.path);
        let request = match &ask.body {
            Some(body) => self.client.post(url).json(body).header("x-bunker-token", &self.token),
            None => self.client.get(url).bearer_auth(&self.token),
        };
        let answer = request.send().await.expect("the server answers");
        assert_eq!(answer.status(), 200, "{}", ask.path);
        answer.text().await.expect("the answer has an end")
    }

    /// Milliseconds of a request.
    async fn time(&self, ask: &Ask) -> f64 {
        let begin = Instant::now();
        for _ in 0..EACH {
            self.ask(ask).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let each = EACH as f64;
        ms(begin.elapsed()) / each
    }

    /// The path of the last page of a list.
    async fn last_page(&self, list: &str) -> String {
        let mut path = list.to_owned();
        loop {
            let page = self.ask(&Ask::get("a page", path.clone())).await;
            let page: Value = serde_json::from_str(&page).expect("it is JSON");
            match page["next_cursor"].as_str() {
                Some(next) => path = format!("{list}&cursor={next}"),
                None => return path,
            }
        }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        drop(self.client);
        self.task.await.expect("the server does not panic").expect("the server stops in order");
    }
}
