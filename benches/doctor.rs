//! The cost of an examination of the whole fleet, against one execution of its largest query.
//!
//! The measured code is `Doctor::examine` on an unmodified fleet: the list of tenants, every history, the
//! reference schema, the digest of every schema, the privileges, and the server's settings. The baseline is
//! the query that digests all objects of all schemas in one statement. Both start on new backends: an
//! examination closes a connection that has read a thousand tenants.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::time::Instant;

use rowhouse::app::Backend;
use rowhouse::pg::catalog;
use rowhouse::service::doctor::{Gravity, Orphans, Selection};
use support::report::Args;
use support::{
    Contender, Fixture, Report, WEAKEST_HASH, fill, interleave, machine, ms, vacuum_shared,
};
use tokio_postgres::Client;

/// Number of modified tenants, for an examination with findings.
const MODIFIED: usize = 50;

#[tokio::main]
async fn main() {
    let args = Args::read();
    let (rounds, existing) = if args.quick { (2, [60, 120]) } else { (7, [1_000, 5_000]) };
    let fixture = Fixture::start().await;
    let backend = fixture.backend(&WEAKEST_HASH).await;
    let sql = fixture.connect().await;
    let mut report = Report::begin(args, "doctor", machine::line(&sql).await);
    for count in existing {
        let tenants = fill(&backend, &sql, count).await;
        vacuum_shared(&sql).await;
        measure(&mut report, &fixture, &backend, &format!("{count} tenants"), rounds, 0).await;
        for tenant in tenants.iter().take(MODIFIED) {
            let schema = rowhouse::domain::SchemaName::of(*tenant);
            modify(&sql, &format!("REVOKE DELETE ON {schema}.profiles FROM {schema}")).await;
        }
        let title = format!("{count} tenants, {MODIFIED} of them modified");
        measure(&mut report, &fixture, &backend, &title, rounds, MODIFIED).await;
        let begin = Instant::now();
        let (operator, all) = (backend.operator(), Selection::default());
        let repaired = backend.services.doctor.repair(&operator, &all, &Orphans::Keep).await;
        let repaired = repaired.expect("a repair").repaired_count();
        assert_eq!(repaired, MODIFIED, "all are repaired");
        report.figure("finding and repairing them", ms(begin.elapsed()), "ms");
    }
    report.end();
    backend.close().await;
    drop(sql);
    fixture.stop().await;
}

async fn modify(sql: &Client, script: &str) {
    sql.batch_execute(script).await.expect("a tenant can be modified");
}

async fn measure(
    report: &mut Report,
    fixture: &Fixture,
    backend: &Backend,
    title: &str,
    rounds: usize,
    wrong: usize,
) {
    let contenders = [
        Contender::new("one bare pass over all objects", || bare_pass(fixture)),
        Contender::new("rowhouse doctor", || examine(backend, wrong)),
    ];
    let samples = interleave(rounds, &contenders).await;
    report.section(title);
    for (contender, samples) in contenders.iter().zip(&samples) {
        report.measured(contender.name, samples, "ms");
    }
    report.ratio("doctor / bare pass", &samples[1].against(&samples[0]), None);
}

async fn bare_pass(fixture: &Fixture) -> f64 {
    let sql = fixture.connect().await;
    // As in an examination.
    sql.batch_execute("SET jit = off").await.expect("a setting");
    let begin = Instant::now();
    let rows = sql.query(&catalog::bare_pass_for_benchmarks(), &[]).await.expect("one pass");
    let took = ms(begin.elapsed());
    assert!(!rows.is_empty(), "the query returns rows");
    took
}

async fn examine(backend: &Backend, wrong: usize) -> f64 {
    let begin = Instant::now();
    let found = backend.services.doctor.examine(&backend.operator(), &Selection::default()).await;
    let took = ms(begin.elapsed());
    let found = found.expect("an examination");
    let wrong_count =
        found.findings.iter().filter(|finding| finding.gravity == Gravity::Wrong).count();
    assert_eq!(wrong_count, wrong, "exactly the modified tenants are found");
    took
}
