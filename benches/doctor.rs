//! What an examination of the whole fleet costs, against one bare pass of its biggest query.
//!
//! Ours is `Doctor::examine` on a fleet that is as it should be: who there is, every history, the schema to
//! compare with, the digest of every schema, the walls, the server's settings. The floor is the query that
//! digests all objects of all schemas, once, in one statement. Both begin on backends that know no tenant: an
//! examination gives each away that has seen a thousand.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod support;

use std::time::Instant;

use rowhouse::app::Backend;
use rowhouse::pg::catalog;
use rowhouse::service::doctor::{Gravity, Orphans, Wish};
use support::report::Args;
use support::{Contender, Ground, Report, WEAKEST_HASH, fill, interleave, machine, ms, tidy};
use tokio_postgres::Client;

/// Tenants that are bent, for the examination that has something to tell.
const BENT: usize = 50;

#[tokio::main]
async fn main() {
    let args = Args::read();
    let (rounds, existing) = if args.quick { (2, [60, 120]) } else { (7, [1_000, 5_000]) };
    let ground = Ground::start().await;
    let backend = ground.backend(&WEAKEST_HASH).await;
    let sql = ground.connect().await;
    let mut report = Report::begin(args, "doctor", machine::line(&sql).await);
    for count in existing {
        let tenants = fill(&backend, &sql, count).await;
        tidy(&sql).await;
        measure(&mut report, &ground, &backend, &format!("{count} tenants"), rounds, 0).await;
        for tenant in tenants.iter().take(BENT) {
            let schema = rowhouse::domain::SchemaName::of(*tenant);
            bend(&sql, &format!("REVOKE DELETE ON {schema}.profiles FROM {schema}")).await;
        }
        let title = format!("{count} tenants, {BENT} of them bent");
        measure(&mut report, &ground, &backend, &title, rounds, BENT).await;
        let begin = Instant::now();
        let (operator, all) = (backend.operator(), Wish::default());
        let mended = backend.services.doctor.mend(&operator, &all, &Orphans::Keep).await;
        let mended = mended.expect("a mending").mended_count();
        assert_eq!(mended, BENT, "all are mended");
        report.figure("finding and mending them", ms(begin.elapsed()), "ms");
    }
    report.end();
    backend.close().await;
    drop(sql);
    ground.stop().await;
}

async fn bend(sql: &Client, script: &str) {
    sql.batch_execute(script).await.expect("a tenant can be bent");
}

async fn measure(
    report: &mut Report,
    ground: &Ground,
    backend: &Backend,
    title: &str,
    rounds: usize,
    wrong: usize,
) {
    let contenders = [
        Contender::new("one bare pass over all objects", || bare_pass(ground)),
        Contender::new("rowhouse doctor", || examine(backend, wrong)),
    ];
    let samples = interleave(rounds, &contenders).await;
    report.section(title);
    for (contender, samples) in contenders.iter().zip(&samples) {
        report.measured(contender.name, samples, "ms");
    }
    report.ratio("doctor / bare pass", &samples[1].against(&samples[0]), None);
}

async fn bare_pass(ground: &Ground) -> f64 {
    let sql = ground.connect().await;
    // As the examination has it.
    sql.batch_execute("SET jit = off").await.expect("a setting");
    let begin = Instant::now();
    let rows = sql.query(&catalog::bare_pass_for_benchmarks(), &[]).await.expect("one pass");
    let took = ms(begin.elapsed());
    assert!(!rows.is_empty(), "there is something to read");
    took
}

async fn examine(backend: &Backend, wrong: usize) -> f64 {
    let begin = Instant::now();
    let found = backend.services.doctor.examine(&backend.operator(), &Wish::default()).await;
    let took = ms(begin.elapsed());
    let found = found.expect("an examination");
    let told = found.findings.iter().filter(|finding| finding.gravity == Gravity::Wrong).count();
    assert_eq!(told, wrong, "exactly what was bent is found");
    took
}
