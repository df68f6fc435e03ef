//! The cost of creating a tenant in the database, against the same SQL as a script.
//!
//! The measured code is `Provisioning::provision` with an admin and the weakest password hash (about 0.04 ms,
//! included), without an idempotency key. The floor is the same rows, grants and migrations as one
//! multi-statement script in one transaction on one connection, without what only the server needs: time limits,
//! locks, the check that a migration stayed in its transaction, and reading the history back.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::time::Instant;

use rowhouse::app::Backend;
use rowhouse::migrations::{Applied, MigrationSet};
use rowhouse::service::provisioning::ProvisionTenant;
use support::proxy::Proxy;
use support::report::{Args, Goal};
use support::{
    Contender, Fixture, Report, WEAKEST_HASH, fill, interleave, machine, ms, provision_command,
};
use tokio_postgres::Client;
use uuid::Uuid;

/// Number of tenants that one contender creates in a round.
const BATCH: u32 = 5;

#[tokio::main]
async fn main() {
    let args = Args::read();
    let (rounds, existing) = if args.quick { (2, [10, 20]) } else { (15, [10, 1000]) };
    let fixture = Fixture::start().await;
    let backend = fixture.backend(&WEAKEST_HASH).await;
    let sql = fixture.connect().await;
    let mut report = Report::begin(args, "provisioning", machine::line(&sql).await);
    for count in existing {
        fill(&backend, &sql, count).await;
        sql.batch_execute("ANALYZE").await.expect("the maintenance command runs");
        sql.batch_execute("CHECKPOINT").await.expect("the maintenance command runs");
        measure(&mut report, &backend, &sql, count, rounds).await;
    }
    Box::pin(measure_round_trips(&mut report, &fixture, &sql)).await;
    report.end();
    backend.close().await;
    drop(sql);
    fixture.stop().await;
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
        Contender::new("provision", || async {
            per_tenant(|| provision(backend, provision_command())).await
        }),
        Contender::new("provision, with an Idempotency-Key", || async {
            let keyed = || ProvisionTenant {
                idempotency_key: Some(Uuid::now_v7().to_string()),
                ..provision_command()
            };
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

/// Creates a batch and returns the milliseconds a tenant.
async fn per_tenant<F: Future<Output = ()>>(make: impl Fn() -> F) -> f64 {
    let begin = Instant::now();
    for _ in 0..BATCH {
        make().await;
    }
    ms(begin.elapsed()) / f64::from(BATCH)
}

async fn provision(backend: &Backend, command: ProvisionTenant) {
    let made = backend.services.provisioning.provision(&backend.operator(), command).await;
    made.expect("a tenant can be made");
}

/// Reports the round trips of a set-up and the time of an empty one.
async fn measure_round_trips(report: &mut Report, fixture: &Fixture, sql: &Client) {
    const TIMES: u32 = 1000;
    let proxy = Proxy::start(fixture.server.socket_dir(), fixture.server.port());
    let through = fixture.url_through(&proxy);
    let backend = fixture
        .backend(&[WEAKEST_HASH[0], WEAKEST_HASH[1], ("database.url", through.as_str())])
        .await;
    report.section("where the rest goes");
    for keyed in [false, true] {
        let key = || keyed.then(|| Uuid::now_v7().to_string());
        // The first set-up opens the connections.
        for _ in 0..2 {
            provision(&backend, ProvisionTenant { idempotency_key: key(), ..provision_command() })
                .await;
        }
        let before = proxy.round_trips();
        for _ in 0..BATCH {
            provision(&backend, ProvisionTenant { idempotency_key: key(), ..provision_command() })
                .await;
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
    version: i32,
    fingerprint: String,
}

impl Floor {
    fn new() -> Self {
        let set = MigrationSet::tenant().expect("the built-in set is valid");
        // As a set-up writes it: a set-up refuses files that contradict the history of a tenant.
        let rows: Vec<String> = set
            .history()
            .iter()
            .map(|Applied { version, name, checksum }| {
                format!("({version}, '{name}', '2026-01-01T00:00:00Z', '{checksum}')")
            })
            .collect();
        // One statement each, as refinery writes them.
        let insert =
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES ";
        let history = format!("{insert}{}", rows.join(&format!("; {insert}")));
        let (version, fingerprint) = (set.version(), set.fingerprint().to_owned());
        Self { migrations: set.script_for_benchmarks(), history, version, fingerprint }
    }

    async fn run(&self, sql: &Client) {
        sql.batch_execute(&self.script()).await.expect("the script runs");
    }

    fn script(&self) -> String {
        let (tenant, user, event) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let schema = format!("tenant_{}", tenant.simple());
        let Self { migrations, history, version, fingerprint } = self;
        format!(
            "BEGIN;
             INSERT INTO tenants
                 (id, number, slug, name, org, contact_email, status, cluster, migrations_version, migrations_fingerprint, created_at, updated_at)
             VALUES ('{tenant}', nextval('tenant_numbers'), 'floor-{tenant}', 'Floor', NULL, NULL, 'active', 'default', {version}, '{fingerprint}', now(), now());
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
