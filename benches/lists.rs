//! The lists over many tenants: the time of the first and last page with each filter, and of the console's pages, against
//! a read by primary key over HTTP in the same run, and the index that PostgreSQL uses for a list.
//!
//! The rows are written by SQL, because a list reads only rows of `public`. The plans are those of the server's
//! statements, logged by PostgreSQL's `auto_explain`; a second server is started for them, so that logging does
//! not affect the measurements. `ROWHOUSE_BENCH_TENANTS` sets the number of tenants.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use rowhouse::app::{App, Options};
use serde_json::{Value, json};
use support::report::Args;
use support::{Contender, Fixture, Report, interleave, machine, ms};
use tokio::sync::oneshot;
use tokio_postgres::Client;
use uuid::Uuid;

/// Number of requests of one contender in a round.
const EACH: usize = 5;

/// The path of the console, which takes a session and no token.
const CONSOLE: &str = "/console";

/// The longest acceptable time of a page, in milliseconds.
const GOAL_MS: f64 = 50.0;

/// A request.
#[derive(Clone)]
struct Query {
    name: &'static str,
    path: String,
    /// The body of a POST, which Databunker's dialect uses.
    body: Option<Value>,
}

impl Query {
    fn get(name: &'static str, path: impl Into<String>) -> Self {
        Self { name, path: path.into(), body: None }
    }
}

#[tokio::main]
async fn main() {
    let args = Args::read();
    let tenants = wanted().unwrap_or(if args.quick { 500 } else { 10_000 });
    let rounds = if args.quick { 2 } else { 21 };
    let fixture = Fixture::start().await;
    let server = HttpServer::start(&fixture).await;
    let sql = fixture.connect().await;
    fill(&sql, tenants).await;
    let mut report = Report::begin(args, "lists", machine::line(&sql).await);
    let queries = queries(&server, &sql, tenants).await;
    measure(&mut report, &server, &queries, rounds, tenants).await;
    server.stop().await;
    explain(&mut report, &fixture, &sql, &queries).await;
    report.end();
    drop(sql);
    fixture.stop().await;
}

/// Returns the number of tenants that the environment sets.
#[expect(
    clippy::disallowed_methods,
    reason = "a variable of the benchmark, not a setting of the server"
)]
fn wanted() -> Option<i32> {
    std::env::var("ROWHOUSE_BENCH_TENANTS").ok()?.parse().ok()
}

/// Writes the rows: tenants created a second apart, each with five audit events, which already have a position
/// in the chain so that the server does not seal them during the measurement.
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
    sql.batch_execute(FLEET).await.expect("migrations and an examination can be written");
    for command in ["VACUUM ANALYZE", "CHECKPOINT"] {
        sql.batch_execute(command).await.expect("the tables can be vacuumed");
    }
}

/// A token, a member and a finding for each tenant, and 20 migrations that have ended, of all tenants each; one in a
/// hundred failed.
const FLEET: &str = "
    INSERT INTO tokens (id, digest, hint, name, permissions, tenant_id, created_by, created_at)
    SELECT gen_random_uuid(), sha256(slug::bytea), 'rh_..', 'token of ' || slug, '{VIEW_TENANTS}', id, 'root', created_at
      FROM tenants;
    WITH people AS (
        INSERT INTO users (id, email, first_name, last_name, created_at, updated_at)
        SELECT gen_random_uuid(), slug || '@example.com', 'First', 'Last', created_at, now() FROM tenants
        RETURNING id)
    INSERT INTO memberships (tenant_id, user_id, role, created_at, accepted_at)
    SELECT t.id, p.id, 'ADMIN', now(), now() FROM people p, (SELECT id FROM tenants WHERE slug = 'bench-77') t;
    INSERT INTO operations (id, kind, state, actor, request_id, target_version, target_fingerprint, options,
                            canary_open, created_at, started_at, ended_at, updated_at)
    SELECT gen_random_uuid(), 'migrate', 'failed', 'root', 'bench', n, 'bench', '{}', false,
           '2026-01-01'::timestamptz + n * interval '1 day', '2026-01-01'::timestamptz + n * interval '1 day', now(), now()
      FROM generate_series(1, 20) n;
    INSERT INTO operation_tenants (operation_id, tenant_id, slug, position, is_canary, state, attempts, applied, error,
                                   started_at, ended_at)
    SELECT o.id, t.id, t.slug, t.number, false, CASE WHEN t.number % 100 = 0 THEN 'failed' ELSE 'done' END, 1,
           '{V1__create_notes.sql}', CASE WHEN t.number % 100 = 0 THEN 'the table is there already' END,
           o.created_at, o.created_at + t.number * interval '1 millisecond'
      FROM operations o, tenants t
     ORDER BY o.created_at, t.number;
    INSERT INTO examinations (id, state, actor, options, lease_until, created_at, ended_at, tenant_count, vacancy_count,
                              wrong_count, warning_count, repaired_count)
    VALUES (gen_random_uuid(), 'done', 'root', '{\"tenants\": []}', now(), now(), now(), 0, 0, 0, 0, 0);
    INSERT INTO examination_findings (examination_id, number, area, gravity, tenant_id, slug, what, next, repairable,
                                      outcome)
    SELECT e.id, t.number, 'rights', 'wrong', t.id, t.slug, 'the right to read notes is missing', 'repair it', true, 'open'
      FROM examinations e, tenants t;";

/// Returns every list, first and last page.
async fn queries(server: &HttpServer, sql: &Client, tenants: i32) -> Vec<Query> {
    let id = "SELECT id FROM tenants WHERE slug = 'bench-77'";
    let id: Uuid = sql.query_one(id, &[]).await.expect("the tenant exists").get(0);
    let list = "/control/v1/tenants?limit=100";
    let events = "/control/v1/audit-events?limit=100";
    let mut queries = vec![
        Query::get("one tenant, by primary key", format!("/control/v1/tenants/{id}")),
        Query::get("tenants, first page", list),
        Query::get("tenants, last page", server.last_page(list).await),
        Query::get("tenants by status, first page", format!("{list}&status=suspended")),
        Query::get(
            "tenants by status, last page",
            server.last_page(&format!("{list}&status=suspended")).await,
        ),
        Query::get("tenants by slug", format!("{list}&slug=bench-{tenants}")),
        Query::get("tenants by name", format!("{list}&name=Bench%20{tenants}")),
        Query::get("tenants created after", format!("{list}&created_after=2025-01-01T00:05:00Z")),
        Query::get("tenants created before", format!("{list}&created_before=2025-01-01T00:05:00Z")),
        Query::get("tenants with q, found often", format!("{list}&q=bench")),
        Query::get("tenants with q, found once", format!("{list}&q=h-{tenants}")),
        Query::get("tenants with q, found never", format!("{list}&q=unknown")),
        Query::get("audit events, first page", events),
        Query::get("audit events, last page", server.last_page(events).await),
        Query::get("audit events of a tenant", format!("{events}&tenant={id}")),
        Query::get("audit events by action", format!("{events}&action=tenant.create")),
        Query::get("audit events by action, never", format!("{events}&action=tenant.purge")),
        Query::get("audit events by actor, never", format!("{events}&actor=unknown")),
        Query::get("Reten's list, which is all of them", "/api/tenant"),
    ];
    for (name, offset) in
        [("Databunker's, first page", 0), ("Databunker's, last page", tenants - 100)]
    {
        let body = Some(json!({ "offset": offset, "limit": 100 }));
        queries.push(Query { name, path: "/v2/TenantListTenants".to_owned(), body });
    }
    queries.extend(pages(sql).await);
    queries
}

/// Returns the pages of the console that list or count something.
async fn pages(sql: &Client) -> Vec<Query> {
    let first = "SELECT id FROM operations ORDER BY created_at LIMIT 1";
    let migration: Uuid = sql.query_one(first, &[]).await.expect("there is a migration").get(0);
    let check = "SELECT id FROM examinations";
    let check: Uuid = sql.query_one(check, &[]).await.expect("there is an examination").get(0);
    let of_migration = format!("/console/migrations/{migration}");
    let pages = [
        ("console: overview", CONSOLE),
        ("console: tenants", "/console/tenants"),
        ("console: tenants by status", "/console/tenants?status=suspended"),
        ("console: tenants with q, found never", "/console/tenants?q=unknown"),
        ("console: a tenant", "/console/tenants/bench-77"),
        ("console: deleting a tenant", "/console/tenants/bench-77/delete"),
        ("console: members", "/console/tenants/bench-77/members"),
        ("console: schema", "/console/tenants/bench-77/schema"),
        ("console: tokens", "/console/tokens"),
        ("console: tokens with q, found never", "/console/tokens?q=unknown"),
        ("console: audit", "/console/audit"),
        ("console: audit of a tenant", "/console/audit?tenant=bench-77"),
        ("console: audit by action, never", "/console/audit?action=tenant.purge"),
        ("console: audit by e-mail", "/console/audit?actor=unknown@example.com"),
        ("console: migrations", "/console/migrations"),
        ("console: a migration", &of_migration),
        ("console: a migration, its live part", &format!("{of_migration}?fragment=live")),
        ("console: a migration, failed tenants", &format!("{of_migration}?state=failed")),
        ("console: a migration with q, found never", &format!("{of_migration}?q=unknown")),
        ("console: vacancies", "/console/vacancies"),
        ("console: health", "/console/health"),
        ("console: a check", &format!("/console/health/{check}")),
        ("console: server", "/console/server"),
        ("console: account", "/console/account"),
    ];
    pages.into_iter().map(|(name, path)| Query::get(name, path)).collect()
}

async fn measure(
    report: &mut Report,
    server: &HttpServer,
    queries: &[Query],
    rounds: usize,
    tenants: i32,
) {
    report.section(&format!("{tenants} tenants, {} events: time of a request", tenants * 5));
    let contenders: Vec<Contender<'_>> = queries
        .iter()
        .map(|query| Contender::new(query.name, move || server.time(query)))
        .collect();
    let samples = interleave(rounds, &contenders).await;
    let Some(key) = samples.first() else { return };
    for (query, samples) in queries.iter().zip(&samples) {
        report.measured(query.name, samples, "ms");
    }
    report.section("against the read by primary key, in the same rounds");
    for (query, samples) in queries.iter().zip(&samples).skip(1) {
        report.ratio(query.name, &samples.against(key), None);
        if samples.median() > GOAL_MS {
            report.note(&format!("MISSED: {} takes more than {GOAL_MS} ms", query.name));
        }
    }
}

/// Reports the scans in PostgreSQL's plan of each list.
async fn explain(report: &mut Report, fixture: &Fixture, sql: &Client, queries: &[Query]) {
    report.section("how PostgreSQL finds them");
    let auto_explain = "ALTER DATABASE rowhouse SET session_preload_libraries = 'auto_explain';
                ALTER DATABASE rowhouse SET auto_explain.log_min_duration = 0;
                ALTER DATABASE rowhouse SET auto_explain.log_analyze = on";
    sql.batch_execute(auto_explain).await.expect("auto_explain can be loaded");
    let server = HttpServer::start(fixture).await;
    for query in queries.iter().filter(|query| !query.path.starts_with(CONSOLE)) {
        let before = fixture.log().len();
        server.send(query).await;
        report.note(query.name);
        for line in plans(fixture, before).await {
            report.note(&format!("    {line}"));
        }
    }
    server.stop().await;
}

/// Returns the scans and sorts of the plans that the server has logged after `before`. A plan is logged when its
/// transaction ends, which may be after the answer.
async fn plans(fixture: &Fixture, before: usize) -> Vec<String> {
    let about = |line: &&str| {
        (line.contains("Scan") || line.starts_with("Sort"))
            && (line.contains(" on tenants") || line.contains(" on audit_events"))
    };
    loop {
        let log = fixture.log();
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

/// A server with the default settings, and a client.
struct HttpServer {
    address: String,
    token: String,
    /// The session of the console, as a cookie.
    session: String,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl HttpServer {
    async fn start(fixture: &Fixture) -> Self {
        let token = Uuid::new_v4().to_string();
        let settings = fixture.settings(&[("root_token", token.as_str())]);
        let app = App::build(settings, Options::default()).await.expect("the server starts");
        let address = format!("http://{}", app.addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(app.run_until_stopped(async {
            let _ = stopped.await;
        }));
        let client = reqwest::Client::builder().redirect(Policy::none()).build();
        let client = client.expect("a client without TLS can always be built");
        let session = sign_in(&client, &address, &token).await;
        Self { address, token, session, client, stop, task }
    }

    /// Sends a request and returns the text of the answer.
    async fn send(&self, query: &Query) -> String {
        let url = format!("{}{}", self.address, query.path);
        let request = match &query.body {
            Some(body) => self.client.post(url).json(body).header("x-bunker-token", &self.token),
            None if query.path.starts_with(CONSOLE) => {
                self.client.get(url).header("cookie", &self.session)
            }
            None => self.client.get(url).bearer_auth(&self.token),
        };
        let answer = request.send().await.expect("the server answers");
        assert_eq!(answer.status(), 200, "{}", query.path);
        answer.text().await.expect("the answer has an end")
    }

    /// Returns the milliseconds of a request.
    async fn time(&self, query: &Query) -> f64 {
        let begin = Instant::now();
        for _ in 0..EACH {
            self.send(query).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let each = EACH as f64;
        ms(begin.elapsed()) / each
    }

    /// Returns the path of the last page of a list.
    async fn last_page(&self, list: &str) -> String {
        let mut path = list.to_owned();
        loop {
            let page = self.send(&Query::get("a page", path.clone())).await;
            let page: Value = serde_json::from_str(&page).expect("the page is JSON");
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

/// Signs in to the console with the root token; returns the cookie.
async fn sign_in(client: &reqwest::Client, address: &str, token: &str) -> String {
    let request = client
        .post(format!("{address}{CONSOLE}/login"))
        .header("origin", address)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("by=token&token={token}"));
    let answer = request.send().await.expect("the server answers");
    let cookie = answer.headers().get("set-cookie").and_then(|cookie| cookie.to_str().ok());
    let cookie = cookie.expect("a sign-in with the root token opens a session");
    cookie.split(';').next().unwrap_or_default().to_owned()
}
