//! The log of events: how long a change takes to reach a reader that waits for it, and what it costs to seal events into the
//! chain of digests and to verify that chain.
//!
//! The latency is that of a whole server: from the answer to a change over HTTP, after its commit, to the answer to a read of
//! the feed that was waiting. Sealing is measured against the same statements without a digest, on a copy of the table;
//! verifying against one query that reads the same rows.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::time::{Duration, Instant};

use rowhouse::app::{App, Backend, Options};
use serde_json::{Value, json};
use support::report::Args;
use support::{Contender, Fixture, Report, Samples, WEAKEST_HASH, interleave, machine, ms};
use tokio::sync::oneshot;
use tokio_postgres::Client;
use uuid::Uuid;

/// The events that are sealed together: as many as one transaction of the server seals.
const SEALED_AT_ONCE: i64 = 1_000;

/// Long enough that the reader waits before the change is sent.
const LEAD: Duration = Duration::from_millis(300);

/// A copy of the table, which the server does not seal.
const COPY: &str = "CREATE SCHEMA bench;
    CREATE TABLE bench.events (LIKE public.audit_events INCLUDING ALL)";

#[tokio::main]
async fn main() {
    let args = Args::read();
    let (rounds, changes) = if args.quick { (2, 3) } else { (15, 100) };
    let fixture = Fixture::start().await;
    let backend = fixture.backend(&WEAKEST_HASH).await;
    let sql = fixture.connect().await;
    let mut report = Report::begin(args, "events", machine::line(&sql).await);
    chain(&mut report, &backend, &sql, rounds).await;
    backend.close().await;
    Box::pin(feed(&mut report, &fixture, changes)).await;
    report.end();
    drop(sql);
    fixture.stop().await;
}

/// Writes unsealed events into a table.
async fn write(sql: &Client, table: &str) {
    let insert = format!(
        "INSERT INTO {table} (id, at, actor, action, tenant_id, request_id, details)
         SELECT gen_random_uuid(), clock_timestamp(), 'user:' || gen_random_uuid(), 'tenant.update', gen_random_uuid(),
                gen_random_uuid()::text, jsonb_build_object('revision', n, 'name', 'Acme ' || n)
           FROM generate_series(1, $1::bigint) n"
    );
    sql.execute(&insert, &[&SEALED_AT_ONCE]).await.expect("events can be written");
}

async fn chain(report: &mut Report, backend: &Backend, sql: &Client, rounds: usize) {
    sql.batch_execute(COPY).await.expect("the table can be copied");
    let contenders = [
        Contender::new("the same statements without a digest", || store(sql)),
        Contender::new("sealing", || seal(backend, sql)),
    ];
    let samples = interleave(rounds, &contenders).await;
    report.section(&format!("sealing {SEALED_AT_ONCE} events"));
    for (contender, samples) in contenders.iter().zip(&samples) {
        report.measured(contender.name, samples, "ms");
    }
    report.ratio("sealing / without a digest", &samples[1].against(&samples[0]), None);

    let contenders = [
        Contender::new("one query that reads them", || read(sql)),
        Contender::new("rowhouse audit verify", || verify(backend)),
    ];
    let samples = interleave(rounds, &contenders).await;
    let count = "SELECT count(*) FROM audit_events";
    let count: i64 = sql.query_one(count, &[]).await.expect("events can be counted").get(0);
    report.section(&format!("verifying {count} events"));
    for (contender, samples) in contenders.iter().zip(&samples) {
        report.measured(contender.name, samples, "ms");
    }
    report.ratio("verifying / reading", &samples[1].against(&samples[0]), None);
}

/// Seals events of the server; returns the milliseconds.
async fn seal(backend: &Backend, sql: &Client) -> f64 {
    write(sql, "public.audit_events").await;
    let begin = Instant::now();
    let sealed = backend.services.audit.seal(&backend.operator()).await.expect("events are sealed");
    let took = ms(begin.elapsed());
    assert!(i64::try_from(sealed).is_ok_and(|sealed| sealed >= SEALED_AT_ONCE), "{sealed}");
    took
}

/// Does the same to the copy, with a constant in place of each seal; returns the milliseconds.
async fn store(sql: &Client) -> f64 {
    write(sql, "bench.events").await;
    let begin = Instant::now();
    sql.batch_execute("BEGIN").await.expect("a transaction begins");
    let unsealed =
        "SELECT position, seal, id, at, actor, action, tenant_id, request_id, details::text
           FROM bench.events WHERE position IS NULL ORDER BY write_order NULLS FIRST, at, id LIMIT $1";
    let rows = sql.query(unsealed, &[&SEALED_AT_ONCE]).await.expect("events can be read");
    let head = "SELECT coalesce(max(position), 0) FROM bench.events";
    let head: i64 = sql.query_one(head, &[]).await.expect("the end can be read").get(0);
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get("id")).collect();
    let positions: Vec<i64> = (head + 1..).take(ids.len()).collect();
    let seals: Vec<Vec<u8>> = ids.iter().map(|_| vec![7; 32]).collect();
    let update = "UPDATE bench.events e SET position = s.position, seal = s.seal
                    FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS s (id, position, seal)
                   WHERE e.id = s.id";
    let stored = sql.execute(update, &[&ids, &positions, &seals]).await.expect("they are stored");
    sql.batch_execute("COMMIT").await.expect("the transaction commits");
    let took = ms(begin.elapsed());
    assert!(i64::try_from(stored).is_ok_and(|stored| stored == SEALED_AT_ONCE), "{stored}");
    took
}

async fn read(sql: &Client) -> f64 {
    let begin = Instant::now();
    let all = "SELECT position, seal, id, at, actor, action, tenant_id, request_id, details::text
                 FROM audit_events ORDER BY position";
    let rows = sql.query(all, &[]).await.expect("events can be read");
    let took = ms(begin.elapsed());
    assert!(!rows.is_empty(), "there are events");
    took
}

async fn verify(backend: &Backend) -> f64 {
    let begin = Instant::now();
    let verdict = backend.services.audit.verify(&backend.operator()).await;
    let took = ms(begin.elapsed());
    assert!(verdict.expect("the chain can be read").broken.is_none(), "the chain is intact");
    took
}

/// A change over HTTP, and a reader that waits for it.
async fn feed(report: &mut Report, fixture: &Fixture, changes: usize) {
    let token = Uuid::new_v4().to_string();
    let mut values = WEAKEST_HASH.to_vec();
    values.push(("root_token", token.as_str()));
    let app = App::build(fixture.settings(&values), Options::default()).await;
    let app = app.expect("the server starts");
    let address = format!("http://{}/control/v1", app.addr());
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(app.run_until_stopped(async {
        let _ = stopped.await;
    }));
    let http = Http { client: reqwest::Client::new(), address, token };
    let made = http.client.post(format!("{}/tenants", http.address));
    http.answer(made.json(&json!({ "name": "Bench", "slug": "bench" }))).await;

    let (mut made, mut told) = (Vec::new(), Vec::new());
    let mut cursor = http.end_of_feed().await;
    for number in 0..changes {
        let waiting = http.client.get(format!("{}/events?after={cursor}&wait=20", http.address));
        let reading = async {
            let page = http.answer(waiting).await;
            (Instant::now(), page)
        };
        let changing = async {
            tokio::time::sleep(LEAD).await;
            let change = http.client.patch(format!("{}/tenants/bench", http.address));
            let begin = Instant::now();
            let body = json!({ "name": format!("Bench {number}") });
            http.answer(change.header("if-match", "*").json(&body)).await;
            (begin, Instant::now())
        };
        let ((at, page), (begin, committed)) = tokio::join!(reading, changing);
        assert_eq!(page["data"][0]["type"], "tenant.updated", "{page}");
        cursor = next(&page);
        made.push(ms(committed - begin));
        told.push(ms(at.saturating_duration_since(committed)));
    }
    report.section("a change over HTTP, and a reader of the feed that waits for it");
    report.measured("the change", &Samples(made), "ms");
    report.measured("from its answer to that of the reader", &Samples(told), "ms");
    report.note("the server gathers events for 100 ms before it seals them");
    let _ = stop.send(());
    drop(http);
    server.await.expect("the server does not panic").expect("the server stops in order");
}

fn next(page: &Value) -> String {
    page["next_cursor"].as_str().expect("every page has a cursor").to_owned()
}

/// A client of the control API.
struct Http {
    client: reqwest::Client,
    address: String,
    token: String,
}

impl Http {
    async fn answer(&self, request: reqwest::RequestBuilder) -> Value {
        let answer = request.bearer_auth(&self.token).send().await.expect("the server answers");
        let status = answer.status();
        let body: Value = answer.json().await.expect("the answer is JSON");
        assert!(status.is_success(), "{status} {body}");
        body
    }

    /// Returns the cursor behind the last event, once all events are in the feed.
    async fn end_of_feed(&self) -> String {
        let mut cursor = "0".to_owned();
        loop {
            let page = format!("{}/events?after={cursor}&limit=100&wait=1", self.address);
            let page = self.answer(self.client.get(page)).await;
            cursor = next(&page);
            if page["data"].as_array().is_some_and(Vec::is_empty) {
                return cursor;
            }
        }
    }
}
