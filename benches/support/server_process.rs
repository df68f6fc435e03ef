//! A server in a separate process, so that its memory is not that of the benchmark: the built program, or this one
//! again (`--serve URL TOKEN`) with a route that reads inside a tenant.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::{HttpResponse, web};
use futures_util::future::join_all;
use rowhouse::app::{App, Options};
use rowhouse::config::Settings;
use rowhouse::domain::names::TenantId;
use rowhouse::{Problem, TenantTx};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use uuid::Uuid;

use super::{Fixture, Report, machine};

pub const CLIENTS: usize = 8;

/// The id of the one profile in each tenant.
pub const ROW: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

/// A server in a separate process, and a client. The process is killed on drop.
pub struct ServerProcess {
    address: String,
    token: String,
    client: reqwest::Client,
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

impl ServerProcess {
    pub async fn start(mut command: Command, token: String) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().expect("the program was built");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let address = loop {
            let mut line = String::new();
            let length = stdout.read_line(&mut line).await.expect("the server writes its address");
            assert!(length > 0, "the server does not start");
            if let Some(address) = line.trim().strip_prefix("listening on ") {
                break address.to_owned();
            }
        };
        Self { address, token, client: reqwest::Client::new(), child, _stdout: stdout }
    }

    /// Starts this program again as a library user's server, with a route that reads one row inside the caller's
    /// tenant.
    pub async fn start_with_route(fixture: &Fixture) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        let token = Uuid::new_v4().to_string();
        command.args(["--serve", &fixture.url(), &token]);
        Self::start(command, token).await
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("the process runs")
    }

    /// Sends this many requests from all clients together.
    pub async fn by_all_clients<F: Future<Output = ()>>(
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

    pub async fn set_up(&self) {
        let request = self.client.post(format!("{}/api/tenant/setup", self.address));
        let request = request.bearer_auth(&self.token).json(&super::setup_body());
        let answer = request.send().await.expect("the server answers");
        assert_eq!(answer.status(), 201);
    }

    pub async fn read(&self, tenant: TenantId) {
        let request = self.client.get(format!("{}/bench/profile", self.address));
        let request = request.bearer_auth(&self.token).header("x-tenant-id", tenant.to_string());
        let answer = request.send().await.expect("the server answers");
        assert_eq!(answer.text().await.expect("the answer has an end"), ROW.to_string());
    }
}

fn serve_arguments() -> Option<(String, String)> {
    let mut args = std::env::args().skip_while(|arg| arg != "--serve").skip(1);
    Some((args.next()?, args.next()?))
}

/// Serves and returns true if this program was started by [`ServerProcess::start_with_route`].
pub async fn serve_if_requested() -> bool {
    let Some((url, token)) = serve_arguments() else { return false };
    Box::pin(serve(url, token)).await;
    true
}

async fn serve(url: String, token: String) {
    let values = [
        ("database.url", url),
        ("root_token", token),
        ("secret_key", super::SECRET_KEY.to_owned()),
        ("listen", "127.0.0.1:0".to_owned()),
        ("tenants.vacancies", "0".to_owned()),
        // All load comes from one caller.
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
    Box::pin(app.run_until_stopped(std::future::pending())).await.expect("the server runs");
}

async fn profile(tx: TenantTx) -> Result<HttpResponse, Problem> {
    let rows = tx.query_and_commit("SELECT id FROM profiles WHERE id = $1", &[&ROW]).await?;
    let id = rows.first().map(|row| row.get::<_, Uuid>(0).to_string());
    Ok(HttpResponse::Ok().body(id.unwrap_or_default()))
}

/// Reports the memory of a process.
pub fn note_memory(report: &mut Report, what: &str, pid: u32) {
    if let Some((resident, own)) = machine::memory(pid) {
        report.figure(what, resident, "MiB resident");
        report.note(&format!("    of it {own:.1} MiB its own (no program text, no files)"));
    } else {
        report.note(&format!("{what}: this system does not tell"));
    }
}
