//! What the server needs of memory: the built program after a thousand set-ups, and a server with a route
//! of an application's after reads in ten, a hundred and a thousand tenants, as many reads each time.
//!
//! Both are processes of their own, and PostgreSQL's backends are counted apart from them: those keep what
//! they have cached of each tenant for as long as they live, whatever we do.
//!
//! The second server is this program again (`--serve URL TOKEN`), because the built program has no route that
//! reads inside a tenant; it is started as a library user starts theirs.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
mod support;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::{HttpResponse, web};
use futures_util::future::join_all;
use rowhouse::app::{App, Options};
use rowhouse::config::Settings;
use rowhouse::domain::names::TenantId;
use rowhouse::pg::bootstrap::RUNTIME_LOGIN;
use rowhouse::{Problem, TenantTx};
use support::report::Args;
use support::{Ground, Report, furnish, machine, tenants};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio_postgres::Client;
use uuid::Uuid;

const CLIENTS: usize = 8;

/// The id of the one profile in each tenant.
const ROW: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

struct Scale {
    setups: [usize; 3],
    tenants: [usize; 3],
    reads: usize,
}

#[tokio::main]
async fn main() {
    if let Some((url, token)) = asked_to_serve() {
        return serve(url, token).await;
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
    note_memory(report, "just started", site.pid());
    let mut done = 0;
    for goal in scale.setups {
        site.by_all_clients(goal - done, |_| site.set_up()).await;
        done = goal;
        note_memory(report, &format!("after {goal} set-ups"), site.pid());
    }
}

/// A library user's server, with a route that reads one row inside the caller's tenant.
async fn read(report: &mut Report, ground: &Ground, sql: &Client, scale: &Scale) {
    let ids = tenants(sql).await;
    furnish(sql, &ids, ROW).await;
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    let token = Uuid::new_v4().to_string();
    command.args(["--serve", &ground.url(), &token]);
    let site = Site::start(command, token).await;
    report.section(&format!(
        "a route that reads inside a tenant, {} requests by {CLIENTS} clients at each step",
        scale.reads
    ));
    note_memory(report, "just started", site.pid());
    for count in scale.tenants {
        let ids = &ids[..count];
        site.by_all_clients(scale.reads, |turn| site.read(ids[turn % count])).await;
        note_memory(report, &format!("reads in {count} tenants"), site.pid());
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

fn note_memory(report: &mut Report, what: &str, pid: u32) {
    if let Some((resident, own)) = machine::memory(pid) {
        report.figure(what, resident, "MiB resident");
        report.note(&format!("    of it {own:.1} MiB its own (no program text, no files)"));
    } else {
        report.note(&format!("{what}: this system does not tell"));
    }
}

/// A server of its own process, and a client of it. Killed when dropped.
struct Site {
    address: String,
    token: String,
    client: reqwest::Client,
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Site {
    async fn start(mut command: Command, token: String) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().expect("the program was built");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let address = loop {
            let mut line = String::new();
            let length = stdout.read_line(&mut line).await.expect("it says something");
            assert!(length > 0, "the server does not start");
            if let Some(address) = line.trim().strip_prefix("listening on ") {
                break address.to_owned();
            }
        };
        Self { address, token, client: reqwest::Client::new(), child, _stdout: stdout }
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Lets all clients together send so many requests.
    async fn by_all_clients<F: Future<Output = ()>>(
        &self,
        requests: usize,
        send: impl Fn(usize) -> F,
    ) {
        let turn = AtomicUsize::new(0);
        let client = || async {
            loop {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                if turn >= requests {
                    return;
                }
                send(turn).await;
            }
        };
        join_all((0..CLIENTS).map(|_| client())).await;
    }

    async fn set_up(&self) {
        let request = self.client.post(format!("{}/api/tenant/setup", self.address));
        let request = request.bearer_auth(&self.token).json(&support::setup_body());
        let answer = request.send().await.expect("the server answers");
        assert_eq!(answer.status(), 201);
    }

    async fn read(&self, tenant: TenantId) {
        let request = self.client.get(format!("{}/bench/profile", self.address));
        let request = request.bearer_auth(&self.token).header("x-tenant-id", tenant.to_string());
        let answer = request.send().await.expect("the server answers");
        assert_eq!(answer.text().await.expect("the answer has an end"), ROW.to_string());
    }
}

fn asked_to_serve() -> Option<(String, String)> {
    let mut args = std::env::args().skip_while(|arg| arg != "--serve").skip(1);
    Some((args.next()?, args.next()?))
}

async fn serve(url: String, token: String) {
    let values = [
        ("database.url", url),
        ("root_token", token),
        ("listen", "127.0.0.1:0".to_owned()),
        // One caller is all the load there is.
        ("limits.requests_token", "0".to_owned()),
        ("limits.requests_tenant", "0".to_owned()),
    ];
    let settings = Settings::from_values(&values).expect("the settings of a benchmark are good");
    let routes = |config: &mut web::ServiceConfig| {
        config.route("/bench/profile", web::get().to(profile));
    };
    let options = Options { routes: Some(Arc::new(routes)), ..Options::default() };
    let app = App::build(settings, options).await.expect("the server starts");
    println!("listening on http://{}", app.addr());
    app.run_until_stopped(std::future::pending()).await.expect("the server runs");
}

async fn profile(tx: TenantTx) -> Result<HttpResponse, Problem> {
    let rows = tx.query_and_commit("SELECT id FROM profiles WHERE id = $1", &[&ROW]).await?;
    let id = rows.first().map(|row| row.get::<_, Uuid>(0).to_string());
    Ok(HttpResponse::Ok().body(id.unwrap_or_default()))
}
