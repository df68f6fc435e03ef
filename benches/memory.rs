//! What the server needs of memory: the built program after a thousand set-ups, and a server with a route
//! of an application's after reads in ten, a hundred and a thousand tenants, as many reads each time.
//!
//! Both are processes of their own, and PostgreSQL's backends are counted apart from them: those keep what
//! they have cached of each tenant for as long as they live, whatever we do.
//!
//! The second server is this program again, because the built program has no route that reads inside a
//! tenant; it is started as a library user starts theirs.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod support;

use rowhouse::pg::rules::RUNTIME_LOGIN;
use support::report::Args;
use support::site::{self, CLIENTS, ROW, Site};
use support::{Ground, Report, furnish, machine, tenants};
use tokio::process::Command;
use tokio_postgres::Client;
use uuid::Uuid;

struct Scale {
    setups: [usize; 3],
    tenants: [usize; 3],
    reads: usize,
}

#[tokio::main]
async fn main() {
    if site::serves().await {
        return;
    }
    let args = Args::read();
    let scale = if args.quick {
        Scale { setups: [2, 5, 10], tenants: [1, 5, 10], reads: 100 }
    } else {
        Scale { setups: [10, 100, 1000], tenants: [10, 100, 1000], reads: 40_000 }
    };
    let ground = Ground::start().await;
    let sql = ground.connect().await;
    let mut report = Report::begin(args, "memory", machine::line(&sql).await);
    set_up(&mut report, &ground, &scale).await;
    read(&mut report, &ground, &sql, &scale).await;
    report.end();
    drop(sql);
    ground.stop().await;
}

/// The built program, as it is started by hand.
async fn set_up(report: &mut Report, ground: &Ground, scale: &Scale) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowhouse"));
    let token = Uuid::new_v4().to_string();
    command
        .arg("serve")
        .env_clear()
        .env("ROWHOUSE_LISTEN", "127.0.0.1:0")
        .env("ROWHOUSE_ROOT_TOKEN", &token)
        .env("DATABASE_URL", ground.url());
    let site = Site::start(command, token).await;
    report.section("the built program, set-ups over HTTP by 8 clients, default settings");
    site::note_memory(report, "just started", site.pid());
    let mut done = 0;
    for goal in scale.setups {
        site.by_all_clients(goal - done, |_| site.set_up()).await;
        done = goal;
        site::note_memory(report, &format!("after {goal} set-ups"), site.pid());
    }
}

/// A library user's server, with a route that reads one row inside the caller's tenant.
async fn read(report: &mut Report, ground: &Ground, sql: &Client, scale: &Scale) {
    let ids = tenants(sql).await;
    furnish(sql, &ids, ROW).await;
    let site = Site::start_with_route(ground).await;
    report.section(&format!(
        "a route that reads inside a tenant, {} requests by {CLIENTS} clients at each step",
        scale.reads
    ));
    site::note_memory(report, "just started", site.pid());
    for count in scale.tenants {
        let ids = &ids[..count];
        site.by_all_clients(scale.reads, |turn| site.read(ids[turn % count])).await;
        site::note_memory(report, &format!("reads in {count} tenants"), site.pid());
        let backends = machine::backends(sql, RUNTIME_LOGIN).await;
        let theirs: Vec<f64> =
            backends.iter().filter_map(|pid| machine::memory(*pid)).map(|(_, own)| own).collect();
        report.note(&format!(
            "    PostgreSQL's {} backends for them: {:.0} MiB, {:.1} MiB the largest",
            theirs.len(),
            theirs.iter().sum::<f64>(),
            theirs.iter().copied().fold(0.0, f64::max)
        ));
    }
}
