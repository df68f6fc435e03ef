//! What it costs the database to make a tenant, against the same SQL with nothing around it.
//!
//! Ours is `Provisioning::provision` with an admin and the weakest password hash there is (some 0.04 ms,
//! included), without an idempotency key. The floor is the same rows, grants and migrations as one
//! multi-statement script in one transaction on one connection; what only we need (time limits, locks,
//! the check that a migration stayed in its transaction, reading the history back) is not in it.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod support;

use std::time::Instant;

use rowhouse::app::Backend;
use rowhouse::migrations::MigrationSet;
use rowhouse::service::provisioning::ProvisionTenant;
use support::proxy::Proxy;
use support::report::{Args, Goal};
use support::{Contender, Ground, Report, WEAKEST_HASH, fill, interleave, machine, ms, wish};
use tokio_postgres::Client;
use uuid::Uuid;

/// Tenants that one contender makes in a round.
const BATCH: u32 = 5;

#[tokio::main]
async fn main() {
    let args = Args::read();
    let (rounds, existing) = if args.quick { (2, [10, 20]) } else { (15, [10, 1000]) };
    let ground = Ground::start().await;
    let backend = ground.backend(&WEAKEST_HASH).await;
    let sql = ground.connect().await;
    let mut report = Report::begin(args, "provisioning", machine::line(&sql).await);
    for count in existing {
        fill(&backend, &sql, count).await;
        sql.batch_execute("ANALYZE").await.expect("a fair start");
        sql.batch_execute("CHECKPOINT").await.expect("a fair start");
        measure(&mut report, &backend, &sql, count, rounds).await;
    }
    where_the_rest_goes(&mut report, &ground, &sql).await;
    report.end();
    backend.close().await;
    drop(sql);
    ground.stop().await;
}

async fn measure(
    report: &mut Report,
    backend: &Backend,
    sql: &Client,
    count: usize,
    rounds: usize,
) {
    let floor = Floor::new();
    let contenders = [
        Contender::new("floor", || async { per_tenant(|| async { floor.run(sql).await }).await }),
        Contender::new("provision", || async { per_tenant(|| provision(backend, wish())).await }),
        Contender::new("provision, with an Idempotency-Key", || async {
            let keyed =
                || ProvisionTenant { idempotency_key: Some(Uuid::now_v7().to_string()), ..wish() };
            per_tenant(|| provision(backend, keyed())).await
        }),
    ];
    let samples = interleave(rounds, &contenders).await;
    report.section(&format!("one tenant, {count} exist"));
    for (contender, samples) in contenders.iter().zip(&samples) {
        report.measured(contender.name, samples, "ms");
    }
    let goal = Goal::AtMost(1.3);
    report.ratio("provision / floor", &samples[1].against(&samples[0]), Some(goal));
    report.ratio("with an Idempotency-Key / floor", &samples[2].against(&samples[0]), None);
}

/// Milliseconds for one of a batch.
async fn per_tenant<F: Future<Output = ()>>(make: impl Fn() -> F) -> f64 {
    let begin = Instant::now();
    for _ in 0..BATCH {
        make().await;
    }
    ms(begin.elapsed()) / f64::from(BATCH)
}

async fn provision(backend: &Backend, wish: ProvisionTenant) {
    let made = backend.services.provisioning.provision(&backend.operator(), wish).await;
    made.expect("a tenant can be made");
}

/// Counts the round trips of a set-up, and times one that does nothing.
async fn where_the_rest_goes(report: &mut Report, ground: &Ground, sql: &Client) {
    const TIMES: u32 = 1000;
    let proxy = Proxy::start(ground.server.socket_dir(), ground.server.port());
    let through = ground.url_through(&proxy);
    let backend = ground
        .backend(&[WEAKEST_HASH[0], WEAKEST_HASH[1], ("database.url", through.as_str())])
        .await;
    report.section("where the rest goes");
    for keyed in [false, true] {
        let key = || keyed.then(|| Uuid::now_v7().to_string());
        // The first one opens the connections.
        for _ in 0..2 {
            provision(&backend, ProvisionTenant { idempotency_key: key(), ..wish() }).await;
        }
        let before = proxy.round_trips();
        for _ in 0..BATCH {
            provision(&backend, ProvisionTenant { idempotency_key: key(), ..wish() }).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        let each = (proxy.round_trips() - before) as f64 / f64::from(BATCH);
        let what = if keyed { "round trips, with an Idempotency-Key" } else { "round trips" };
        report.figure(what, each, "a tenant");
    }
    let begin = Instant::now();
    for _ in 0..TIMES {
        sql.batch_execute("").await.expect("an empty round trip");
    }
    report.figure("a round trip with nothing in it", ms(begin.elapsed()) / f64::from(TIMES), "ms");
    backend.close().await;
}

/// The SQL of a set-up as one script.
struct Floor {
    migrations: String,
    history: String,
}

impl Floor {
    fn new() -> Self {
        let set = MigrationSet::tenant().expect("the built-in set is good");
        let rows: Vec<String> = set
            .files()
            .iter()
            .zip(1..)
            .map(|(file, version)| {
                let name = file.trim_end_matches(".sql");
                format!("({version}, '{name}', '2026-01-01T00:00:00Z', '1234567890123456789')")
            })
            .collect();
        // One statement each, as refinery writes them.
        let insert =
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES ";
        let history = format!("{insert}{}", rows.join(&format!("; {insert}")));
        Self { migrations: set.script_for_benchmarks(), history }
    }

    async fn run(&self, sql: &Client) {
        sql.batch_execute(&self.script()).await.expect("the floor holds");
    }

    fn script(&self) -> String {
        let (tenant, user, event) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let schema = format!("tenant_{}", tenant.simple());
        let Self { migrations, history } = self;
        format!(
            "BEGIN;
             INSERT INTO tenants
                 (id, number, slug, name, org, contact_email, status, cluster, migrations_version, migrations_fingerprint, created_at, updated_at)
             VALUES ('{tenant}', nextval('tenant_numbers'), 'floor-{tenant}', 'Floor', NULL, NULL, 'active', 'default', 2, 'f', now(), now());
             CREATE ROLE {schema} NOLOGIN NOINHERIT;
             GRANT {schema} TO rowhouse_runtime;
             CREATE SCHEMA {schema};
             GRANT USAGE ON SCHEMA {schema} TO {schema};
             ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}
                 GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {schema};
             ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO {schema};
             SET LOCAL search_path = {schema}, extensions, pg_temp;
             CREATE TABLE refinery_schema_history (version int4 PRIMARY KEY, name varchar(255),
                 applied_on varchar(255), checksum varchar(255));
             {migrations};
             {history};
             REVOKE ALL ON {schema}.refinery_schema_history FROM {schema};
             SET LOCAL search_path = public, extensions, pg_temp;
             INSERT INTO users
                 (id, email, first_name, last_name, password_hash, platform_role, created_at, updated_at)
             VALUES ('{user}', 'admin@{user}.example.com', 'Ada', 'Admin', 'x', NULL, now(), now())
             ON CONFLICT (email) DO NOTHING;
             INSERT INTO memberships (tenant_id, user_id, role, created_at)
             VALUES ('{tenant}', '{user}', 'ADMIN', now());
             INSERT INTO audit_events (id, at, actor, action, tenant_id, request_id, details)
             VALUES ('{event}', now(), 'operator', 'tenant.create', '{tenant}', '{event}',
                 '{{\"slug\": \"floor\", \"name\": \"Floor\"}}');
             COMMIT"
        )
    }
}
