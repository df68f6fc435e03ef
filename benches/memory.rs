//! The memory of the server: of the built program after a thousand set-ups, and of a server with an application's
//! route after reads in ten, a hundred and a thousand tenants, with the same number of reads each time.
//!
//! Both run in separate processes. PostgreSQL's backends are reported separately, because they keep their cache of
//! each tenant until they end.
//!
//! The second server is this program again, started as a library user starts a server, because the built program
//! has no route that reads inside a tenant.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use rowhouse::pg::rules::RUNTIME_LOGIN;
use support::report::Args;
use support::server_process::{self, CLIENTS, ROW, ServerProcess};
use support::{Fixture, Report, insert_profiles, machine, tenants};
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
    if server_process::serve_if_requested().await {
        return;
    }
    let args = Args::read();
    let scale = if args.quick {
        Scale { setups: [2, 5, 10], tenants: [1, 5, 10], reads: 100 }
    } else {
        Scale { setups: [10, 100, 1000], tenants: [10, 100, 1000], reads: 40_000 }
    };
    let fixture = Fixture::start().await;
    let sql = fixture.connect().await;
    let mut report = Report::begin(args, "memory", machine::line(&sql).await);
    set_up(&mut report, &fixture, &scale).await;
    read(&mut report, &fixture, &sql, &scale).await;
    report.end();
    drop(sql);
    fixture.stop().await;
}

/// Measures the built program.
async fn set_up(report: &mut Report, fixture: &Fixture, scale: &Scale) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowhouse"));
    let token = Uuid::new_v4().to_string();
    command
        .arg("serve")
        .env_clear()
        .env("ROWHOUSE_LISTEN", "127.0.0.1:0")
        .env("ROWHOUSE_ROOT_TOKEN", &token)
        .env("ROWHOUSE_SECRET_KEY", support::SECRET_KEY)
        .env("DATABASE_URL", fixture.url());
    let server = ServerProcess::start(command, token).await;
    report.section("the built program, set-ups over HTTP by 8 clients, default settings");
    server_process::note_memory(report, "just started", server.pid());
    let mut done = 0;
    for goal in scale.setups {
        server.by_all_clients(goal - done, |_| server.set_up()).await;
        done = goal;
        server_process::note_memory(report, &format!("after {goal} set-ups"), server.pid());
    }
}

/// Measures a library user's server with a route that reads one row inside the caller's tenant.
async fn read(report: &mut Report, fixture: &Fixture, sql: &Client, scale: &Scale) {
    let ids = tenants(sql).await;
    insert_profiles(sql, &ids, ROW).await;
    let server = ServerProcess::start_with_route(fixture).await;
    report.section(&format!(
        "a route that reads inside a tenant, {} requests by {CLIENTS} clients at each step",
        scale.reads
    ));
    server_process::note_memory(report, "just started", server.pid());
    for count in scale.tenants {
        let ids = &ids[..count];
        server.by_all_clients(scale.reads, |turn| server.read(ids[turn % count])).await;
        server_process::note_memory(report, &format!("reads in {count} tenants"), server.pid());
        let backends = machine::backends(sql, RUNTIME_LOGIN).await;
        let backend_memory: Vec<f64> =
            backends.iter().filter_map(|pid| machine::memory(*pid)).map(|(_, own)| own).collect();
        report.note(&format!(
            "    PostgreSQL's {} backends for them: {:.0} MiB, {:.1} MiB the largest",
            backend_memory.len(),
            backend_memory.iter().sum::<f64>(),
            backend_memory.iter().copied().fold(0.0, f64::max)
        ));
    }
}
