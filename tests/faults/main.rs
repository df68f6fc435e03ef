//! The fault suite: `rowhouse serve` as a process, on a PostgreSQL server of each scenario's own, while one or the
//! other is killed, stopped, cut off or filled.
//!
//! Clients write all the while and remember what was acknowledged. During a fault a request may be refused by 503 or
//! 429, and be cut only where its server itself is killed or stopped; before and after it every request succeeds. At the
//! end every acknowledged write is there and right, nothing is half made, the chain of audit events is intact, and
//! `rowhouse doctor` finds nothing.
//!
//! `cargo test` runs each scenario for a few seconds. `make faults` runs them ten times as long and prints a table.
//! A scenario that the machine does not offer, for want of a small file system for example, is listed as ignored.
//!
//! Killing processes loses no page that the kernel holds. What survives a power failure is PostgreSQL's guarantee and
//! is not tested here.
#![expect(clippy::panic, clippy::print_stdout, reason = "allowed in tests")]

mod check;
mod client;
mod cluster;
mod inspection;
mod ledger;
mod noise;
#[path = "../support/postgres_programs.rs"]
mod postgres_programs;
#[path = "../support/proxy.rs"]
#[expect(dead_code, reason = "each test binary uses a part of it")]
mod proxy;
mod report;
mod scenarios;
mod server;
mod stage;
mod stats;

use libtest_mimic::{Arguments, Trial};

use crate::scenarios::Scenario;
use crate::stage::Length;

fn main() {
    let arguments = Arguments::from_args();
    let length = Length::wanted();
    let mut trials = Vec::new();
    let mut not_offered = Vec::new();
    for scenario in scenarios::all() {
        let is_offered = (scenario.is_offered)();
        if !is_offered {
            not_offered.push(scenario.name.to_owned());
        }
        let trial = Trial::test(scenario.name, move || {
            run(&scenario, length);
            Ok(())
        });
        trials.push(trial.with_ignored_flag(!is_offered));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    cluster::remove_template();
    if length == Length::Long
        && let Some(table) = report::table(&not_offered)
    {
        println!("{table}");
    }
    conclusion.exit();
}

fn run(scenario: &Scenario, length: Length) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    runtime.block_on((scenario.run)(scenario.name, length));
}
