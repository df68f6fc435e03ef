//! Attacks on the memory of the built program, which runs under `ulimit -v`: it stays up, refuses them, and serves others
//! meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::gzip::gzip_of_spaces;
use crate::support::program::RunningServer;
use crate::support::{Answer, Caller, Program, TestDatabase};

const LOGIN: &str = "/api/auth/login";
const UNA: &str = "una@example.com";
const PASSWORD: &str = "SecurePass123!";

/// The address space of the program, in KiB.
const ADDRESS_SPACE: u64 = 1 << 20;

/// How much more memory the program may use under attack, in KiB.
const MORE: u64 = 150 << 10;

struct Attacked {
    server: RunningServer,
    database: TestDatabase,
    root_token: String,
    before: u64,
}

/// Starts the program without limits on guesses, and uses it once.
async fn start() -> Attacked {
    let database = TestDatabase::create().await;
    let root_token = Uuid::new_v4().to_string();
    let mut program = Program::on(&database)
        .with("ROWHOUSE_ROOT_TOKEN", &root_token)
        .with("ROWHOUSE_ADMIN_EMAIL", UNA)
        .with("ROWHOUSE_ADMIN_PASSWORD", PASSWORD)
        // Each arena reserves 64 MiB of addresses, used or not.
        .with("MALLOC_ARENA_MAX", "2");
    for limit in
        ["LOGIN_PAIR", "LOGIN_ACCOUNT", "LOGIN_ADDRESS", "REQUESTS_TOKEN", "REQUESTS_TENANT"]
    {
        program = program.with(&format!("ROWHOUSE_LIMITS__{limit}"), "0");
    }
    let server = program.serve_within(ADDRESS_SPACE);
    let mut attacked = Attacked { server, database, root_token, before: 0 };
    assert_eq!(attacked.log_in().await.status, 200);
    attacked.before = attacked.server.peak_memory();
    attacked
}

impl Attacked {
    fn caller(&self) -> Caller {
        Caller::new(&self.server.address, None)
    }

    async fn log_in(&self) -> Answer {
        let body = json!({ "identifier": UNA, "password": PASSWORD });
        self.caller().post(LOGIN, &body).await
    }

    /// Sends a request from many clients at once, each again until a log-in that comes in between is answered. Returns the
    /// statuses of the answers.
    async fn attack(
        &self,
        clients: usize,
        request: impl Fn(&Caller) -> reqwest::RequestBuilder,
    ) -> Vec<u16> {
        let (stop, answered) = (AtomicBool::new(false), Arc::new(AtomicUsize::new(0)));
        let attacker = async || {
            let (caller, mut statuses) = (self.caller(), Vec::new());
            while !stop.load(Ordering::SeqCst) {
                statuses.push(send(request(&caller)).await.status);
                answered.fetch_add(1, Ordering::SeqCst);
            }
            statuses
        };
        let attackers = join_all((0..clients).map(|_| attacker()));
        let log_in = async {
            // The attack has begun when as many answers as clients are there.
            while answered.load(Ordering::SeqCst) < clients {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let answer = self.log_in().await;
            stop.store(true, Ordering::SeqCst);
            answer
        };
        let (statuses, answer) = tokio::join!(attackers, log_in);
        assert_eq!(answer.status, 200, "{answer:?}");
        statuses.into_iter().flatten().collect()
    }

    #[track_caller]
    fn assert_unharmed(&mut self) {
        assert!(self.server.is_running());
        let more = self.server.peak_memory().saturating_sub(self.before);
        assert!(more < MORE, "{more} KiB more than before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_do_not_use_up_the_memory() {
    let mut attacked = start().await;
    // 200 KB that stand for 32 MB.
    let bomb = gzip_of_spaces(32 << 20);
    for clients in [40, 150] {
        let statuses = attacked
            .attack(clients, |caller| {
                let request =
                    caller.request(Method::POST, LOGIN).header("content-encoding", "gzip");
                request.body(bomb.clone())
            })
            .await;
        assert!(statuses.iter().all(|status| *status == 415), "{statuses:?}");
        attacked.assert_unharmed();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_without_a_credential_do_not_use_up_the_memory() {
    let mut attacked = start().await;
    let many = format!("{{\"identifier\":[{}0]}}", "0,".repeat(500_000));
    let statuses =
        attacked.attack(40, |caller| caller.request(Method::POST, LOGIN).body(many.clone())).await;
    assert!(statuses.iter().all(|status| *status == 413), "{statuses:?}");
    // As large as such a body may be.
    let many = format!("{{\"identifier\":[{}0]}}", "0,".repeat(130_000));
    let statuses =
        attacked.attack(150, |caller| caller.request(Method::POST, LOGIN).body(many.clone())).await;
    assert!(statuses.iter().all(|status| *status == 400), "{statuses:?}");
    let statuses = attacked
        .attack(40, |caller| caller.request(Method::POST, "/control/v1/tenants").body(many.clone()))
        .await;
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    attacked.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_copies_a_long_number_does_not_use_up_the_memory() {
    let mut attacked = start().await;
    let xtoken = attacked.root_token.clone();
    let call = |caller: &Caller, name: &str, body: String| {
        let request = caller.request(Method::POST, &format!("/v2/{name}"));
        request.header("x-bunker-token", &xtoken).body(body)
    };
    let made = send(call(
        &attacked.caller(),
        "TenantCreate",
        json!({ "tenantname": "acme", "tenantorg": "Acme" }).to_string(),
    ))
    .await;
    let tenant = made.body["xtoken"].as_str().expect("a token is a text").to_owned();
    let call = |caller: &Caller, name: &str, body: String| {
        let request = caller.request(Method::POST, &format!("/v2/{name}"));
        request.header("x-bunker-token", &tenant).body(body)
    };
    let record = json!({ "profile": { "email": UNA, "list": [] } }).to_string();
    assert_eq!(send(call(&attacked.caller(), "UserCreate", record)).await.status, 200);

    // As a body.
    let number = "7".repeat(900_000);
    let patch = |operations: &str| {
        format!("{{\"mode\":\"email\",\"identity\":\"{UNA}\",\"patch\":[{operations}]}}")
    };
    let copy = "{\"op\":\"copy\",\"from\":\"/n\",\"path\":\"/list/-\"}";
    let add = format!(
        "{{\"op\":\"add\",\"path\":\"/n\",\"value\":{number}}}{}",
        format!(",{copy}").repeat(999)
    );
    let body = patch(&add);
    let statuses = attacked.attack(8, |caller| call(caller, "UserPatch", body.clone())).await;
    assert!(statuses.iter().all(|status| *status == 400), "{statuses:?}");

    // In a record of an earlier version of the program.
    let sql = attacked.database.connect().await;
    let schema: String = sql
        .query_one("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tenant\\_%' AND EXISTS (SELECT FROM tenants WHERE slug = 'acme' AND nspname = 'tenant_' || replace(id::text, '-', ''))", &[])
        .await
        .unwrap()
        .get(0);
    let document = format!("{{\"email\":\"{UNA}\",\"n\":{number},\"list\":[]}}");
    let update = format!("UPDATE \"{schema}\".profiles SET profile = '{document}'::text::json");
    assert_eq!(sql.execute(&update, &[]).await.unwrap(), 1);
    let body = patch(&vec![copy; 1000].join(","));
    let statuses = attacked.attack(8, |caller| call(caller, "UserPatch", body.clone())).await;
    assert!(statuses.iter().all(|status| *status == 400), "{statuses:?}");
    attacked.assert_unharmed();
    let read = send(call(
        &attacked.caller(),
        "UserGet",
        json!({ "mode": "email", "identity": UNA }).to_string(),
    ))
    .await;
    // Its number is larger than any that a test could read.
    let unchanged = read.text.ends_with(",\"list\":[]},\"version\":1}");
    assert!(unchanged, "{} of {} bytes", read.status, read.text.len());
}
