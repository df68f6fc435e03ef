//! Profiles over HTTP against the same statements sent by `pgbench` to the same database, and the search for a
//! person in all tenants.
//!
//! Server, clients, pgbench and PostgreSQL share the machine's cores. A request is two transactions: one for the
//! caller and its tenant, one for the profile. `pgbench` sends the same two, each as one message, on one connection
//! for each client.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints figures, and panics on an error"
)]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rowhouse::app::{App, Backend, Options};
use rowhouse::domain::names::{Slug, TenantName};
use rowhouse::pg::rules::RUNTIME_LOGIN;
use rowhouse::service::provisioning::{Admin, ProvisionTenant};
use serde_json::{Value, json};
use support::report::{Args, Goal};
use support::{Contender, Fixture, Report, Samples, interleave, machine, ms};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_postgres::Client;

/// The embedded server's database.
const DATABASE: &str = "rowhouse";

const ROOT_TOKEN: &str = "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f";

/// Clients at the same time, over HTTP and of `pgbench`.
const CLIENTS: usize = 16;

/// Number of tenants that are created at the same time.
const CREATORS: usize = 4;

/// The address of a person who has a profile in every tenth tenant.
const ADA: &str = "ada@example.com";

/// The longest acceptable time of a search in a thousand tenants, in milliseconds.
const GOAL_MS: f64 = 1000.0;

/// The sizes of a measurement or of a quick run.
struct Sizes {
    rounds: usize,
    seconds: u64,
    many: usize,
    very_many: usize,
}

#[tokio::main]
async fn main() {
    let args = Args::read();
    let sizes = if args.quick {
        Sizes { rounds: 2, seconds: 1, many: 20, very_many: 40 }
    } else {
        Sizes { rounds: 5, seconds: 4, many: 1000, very_many: 5000 }
    };
    let fixture = Fixture::start().await;
    let server = Box::pin(HttpServer::start(&fixture)).await;
    let mut report = Report::begin(args, "profiles", machine::line(&server.sql).await);
    server.fill(1, 1000).await;
    server.compare(&mut report, &sizes, (1, 1000)).await;
    server.fill(sizes.many, 10).await;
    server.compare(&mut report, &sizes, (sizes.many, 10)).await;
    server.search_all_tenants(&mut report, &sizes, sizes.many).await;
    server.fill(sizes.very_many, 10).await;
    server.search_all_tenants(&mut report, &sizes, sizes.very_many).await;
    report.end();
    Box::pin(server.stop()).await;
    fixture.stop().await;
}

/// A server under load.
struct HttpServer<'a> {
    fixture: &'a Fixture,
    sql: Client,
    backend: Backend,
    address: String,
    scripts: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl<'a> HttpServer<'a> {
    async fn start(fixture: &'a Fixture) -> Self {
        let settings = fixture.settings(&[("root_token", ROOT_TOKEN)]);
        let app = App::build(settings, Options::default()).await.expect("the server starts");
        let address = app.addr().to_string();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(app.run_until_stopped(async {
            let _ = stopped.await;
        }));
        let (sql, backend) = (fixture.connect().await, fixture.backend(&[]).await);
        let scripts = tempfile::tempdir().expect("a folder can be made");
        Self { fixture, sql, backend, address, scripts, stop, task }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.expect("the server does not panic").expect("the server stops in order");
        self.backend.close().await;
    }

    /// Creates tenants up to this number and writes profiles into each new one, every tenth with Ada's. Tenants and
    /// their tokens are numbered, so that `pgbench` can pick one at random.
    async fn fill(&self, wanted: usize, people: usize) {
        let there = self.tenants().await.len();
        let next = AtomicUsize::new(there);
        let creator = || async {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= wanted {
                    break;
                }
                let slug = Slug::parse(&format!("b{n}")).expect("it is a slug");
                let name = TenantName::parse("Bench").expect("it is a name");
                let command = ProvisionTenant::new(name, slug, Admin::None);
                let command = ProvisionTenant { with_token: true, ..command };
                let operator = self.backend.operator();
                let made = self.backend.services.provisioning.provision(&operator, command).await;
                made.expect("a tenant can be made");
            }
        };
        join_all((0..CREATORS).map(|_| creator())).await;
        let token = "'00000000-0000-4000-8000-' || lpad(substr(t.slug, 2), 12, '0')";
        self.batch(&format!(
            "UPDATE tokens k SET digest = sha256(convert_to({token}, 'UTF8')) FROM tenants t WHERE t.id = k.tenant_id"
        ))
        .await;
        for (n, schema) in self.tenants().await.into_iter().enumerate().skip(there) {
            let ada = if n.is_multiple_of(10) {
                format!("UNION ALL SELECT gen_random_uuid(), '{ADA}'")
            } else {
                String::new()
            };
            self.batch(&format!(
                "INSERT INTO {schema}.profiles (id, profile, email, version, created_at, updated_at)
                 SELECT id, json_build_object('email', email, 'name', 'Ada Lovelace', 'city', 'London'), email, 1, now(), now()
                   FROM (SELECT gen_random_uuid() AS id, 'u' || n || '@example.com' AS email
                           FROM generate_series(1, {people}) n {ada}) p"
            ))
            .await;
        }
        self.batch("VACUUM ANALYZE").await;
        self.batch("CHECKPOINT").await;
    }

    /// Returns the schemas of the tenants, ordered by number.
    async fn tenants(&self) -> Vec<String> {
        let query = "SELECT 'tenant_' || replace(id::text, '-', '') FROM tenants
                      WHERE slug LIKE 'b%' ORDER BY substr(slug, 2)::int";
        let rows = self.sql.query(query, &[]).await.expect("tenants can be listed");
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn batch(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Measures reads and creates over HTTP and by `pgbench`, in turns.
    async fn compare(&self, report: &mut Report, sizes: &Sizes, (tenants, people): (usize, usize)) {
        let plural = if tenants == 1 { "tenant" } else { "tenants" };
        report.section(&format!("{tenants} {plural}, {CLIENTS} clients: requests a second"));
        for call in [Call::Read, Call::Create] {
            let contenders = [
                Contender::new("over HTTP", || self.http(call, tenants, people, sizes.seconds)),
                Contender::new("by pgbench", || self.pgbench(call, tenants, people, sizes.seconds)),
            ];
            let samples = interleave(sizes.rounds, &contenders).await;
            for (contender, samples) in contenders.iter().zip(&samples) {
                report.measured(
                    &format!("{}, {}", call.word(), contender.name),
                    samples,
                    "a second",
                );
            }
            let [http, pgbench] = &samples[..] else { continue };
            report.ratio(&format!("{}: HTTP / pgbench", call.word()), &http.against(pgbench), None);
        }
    }

    /// Returns the requests a second over HTTP.
    async fn http(&self, call: Call, tenants: usize, people: usize, seconds: u64) -> f64 {
        let started = Instant::now();
        let end = started + Duration::from_secs(seconds);
        let client = |seed: usize| async move {
            let mut connection = Connection::open(&self.address).await;
            let (mut count, mut random) = (0_u32, Random(seed as u64 + 1));
            while Instant::now() < end {
                let token = xtoken(random.below(tenants));
                let (call, body) = match call {
                    Call::Read => {
                        let email = format!("u{}@example.com", random.below(people) + 1);
                        ("UserGet", json!({ "mode": "email", "identity": email }))
                    }
                    Call::Create => {
                        let email = format!("h{}@example.com", uuid::Uuid::new_v4().simple());
                        let profile =
                            json!({ "email": email, "name": "Ada Lovelace", "city": "London" });
                        ("UserCreate", json!({ "profile": profile }))
                    }
                };
                let answer = connection.call(call, &token, &body).await;
                assert!(answer.starts_with("{\"status\":\"ok\""), "{answer}");
                count += 1;
            }
            count
        };
        let counts = join_all((0..CLIENTS).map(client)).await;
        f64::from(counts.into_iter().sum::<u32>()) / started.elapsed().as_secs_f64()
    }

    /// Returns the requests a second of the same statements by `pgbench`.
    async fn pgbench(&self, call: Call, tenants: usize, people: usize, seconds: u64) -> f64 {
        let script = self.scripts.path().join("script.sql");
        std::fs::write(&script, script_of(call, tenants, people)).expect("a script can be written");
        let config = self.fixture.server.connect_config(DATABASE);
        let mut command = Command::new(pgbench_path(self.fixture));
        command
            .args([
                "--no-vacuum",
                "--protocol=simple",
                "--jobs=2",
                "--client",
                &CLIENTS.to_string(),
            ])
            .args(["--time", &seconds.to_string(), "--file"])
            .arg(&script)
            .args(["--host", &self.fixture.server.socket_dir().display().to_string()])
            .args(["--port", &self.fixture.server.port().to_string()])
            .args(["--username", config.get_user().unwrap_or("postgres"), DATABASE]);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("pgbench does not panic")
            .unwrap_or_else(|error| {
                panic!("pgbench beside the server's binaries is needed: {error}")
            });
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = "));
        let tps = tps.and_then(|rest| rest.split(' ').next()?.parse().ok());
        tps.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Measures the time of `SystemGetUserProfiles` and its effect on memory.
    async fn search_all_tenants(&self, report: &mut Report, sizes: &Sizes, tenants: usize) {
        report.section(&format!("{tenants} tenants: a person looked for in all of them"));
        let mut connection = Connection::open(&self.address).await;
        let unlock = connection.call("BulkListUnlock", ROOT_TOKEN, &json!({})).await;
        let unlock: Value = serde_json::from_str(&unlock).expect("the answer is JSON");
        let body = json!({ "mode": "email", "identity": ADA, "unlockuuid": unlock["unlockuuid"] });
        let (mut times, mut resident) = (Vec::new(), Vec::new());
        for _ in 0..=sizes.rounds * 2 {
            let started = Instant::now();
            let answer = connection.call("SystemGetUserProfiles", ROOT_TOKEN, &body).await;
            times.push(ms(started.elapsed()));
            let answer: Value = serde_json::from_str(&answer).expect("the answer is JSON");
            assert_eq!(answer["total"], tenants.div_ceil(10), "{answer}");
            assert!(answer.get("errors").is_none(), "{}", answer["errors"]);
            resident.extend(machine::memory(std::process::id()).map(|(resident, _)| resident));
        }
        report.figure("the first call", times.remove(0), "ms");
        let times = Samples(times);
        report.measured("SystemGetUserProfiles", &times, "ms");
        let seconds = Samples(times.0.iter().map(|time| time / GOAL_MS).collect());
        let goal = (tenants == 1000).then_some(Goal::AtMost(1.0));
        report.ratio("SystemGetUserProfiles / 1 s", &seconds, goal);
        if let (Some(first), Some(last)) = (resident.first(), resident.last()) {
            report.figure("resident in this process, after the first call", *first, "MiB");
            report.figure("resident in this process, after the last", *last, "MiB");
        }
        let backends = machine::backends(&self.sql, RUNTIME_LOGIN).await;
        let own = backends.iter().filter_map(|pid| machine::memory(*pid)).map(|(_, own)| own);
        let note = format!("memory of a database backend's own, the largest of {}", backends.len());
        report.figure(&note, own.fold(0.0, f64::max), "MiB");
    }
}

#[derive(Clone, Copy)]
enum Call {
    Read,
    Create,
}

impl Call {
    const fn word(self) -> &'static str {
        match self {
            Self::Read => "read by e-mail address",
            Self::Create => "create",
        }
    }
}

/// Returns the script of one request, each transaction as one message: the caller and its tenant, then the
/// profile.
fn script_of(call: Call, tenants: usize, people: usize) -> String {
    let limits = "SET LOCAL statement_timeout = 30000\\; SET LOCAL lock_timeout = 5000\\; \
                  SET LOCAL idle_in_transaction_session_timeout = 30000";
    let public =
        format!("BEGIN\\; SET LOCAL search_path = public, extensions, pg_temp\\; {limits}");
    let mut script = format!(
        "\\set n random(0, {})\n\\set k random(1, {people})\n\\set r random(1, 1000000000000000)\n",
        tenants - 1
    );
    let digest =
        "sha256(convert_to('00000000-0000-4000-8000-' || lpad((:n)::text, 12, '0'), 'UTF8'))";
    // \gset reads the last result of a message, so the commit is sent with the next one.
    let _ = writeln!(
        script,
        "{public}\\; WITH used AS (UPDATE tokens SET last_used_at = now() WHERE digest = {digest} \
         AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) \
         AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')) \
         SELECT k.hint, k.permissions, k.profile_id, k.created_by, k.expires_at, k.last_used_at, k.revoked_at, \
         replace(t.id::text, '-', '') AS hex, t.number, t.slug, t.name, t.org, t.status, t.created_at \
         FROM tokens k LEFT JOIN tenants t ON t.id = k.tenant_id WHERE k.digest = {digest} \\gset"
    );
    let tenant = format!(
        "SELECT 1\\; COMMIT\\; BEGIN\\; SET LOCAL ROLE tenant_:hex\\; \
         SET LOCAL search_path = tenant_:hex, extensions, pg_temp\\; {limits}"
    );
    let statement = match call {
        Call::Read => {
            "SELECT id, profile, version, final_time, sliding_time, final_at, sliding_seconds, expires_at \
             FROM profiles WHERE email = 'u:k@example.com' AND (expires_at IS NULL OR expires_at > now())"
        }
        Call::Create => {
            "WITH p AS (SELECT gen_random_uuid() AS id, json_build_object('email', 'p:r@example.com', 'name', \
             'Ada Lovelace', 'city', 'London') AS profile), written AS (INSERT INTO profiles (id, profile, email, \
             login, phone, custom, version, final_time, sliding_time, final_at, sliding_seconds, expires_at, \
             created_at, updated_at) SELECT id, profile, 'p:r@example.com', NULL, NULL, NULL, 1, NULL, NULL, NULL, \
             NULL, NULL, now(), now() FROM p RETURNING id), versioned AS (INSERT INTO profile_versions \
             (profile_id, version, profile, md5, created_at, final_time, sliding_time, final_at, sliding_seconds) \
             SELECT id, 1, profile, md5('x'), now(), NULL, NULL, NULL, NULL FROM p ON CONFLICT (profile_id, version) \
             DO NOTHING), noted AS (INSERT INTO profile_events (id, profile_id, at, action, actor, request_id) \
             SELECT gen_random_uuid(), id, now(), 'profile.create', 'token', 'request' FROM p) \
             SELECT id FROM written"
        }
    };
    let _ = writeln!(script, "{tenant}\\; {statement}\\; SELECT 1\\; COMMIT;");
    script
}

/// Returns the token of the tenant with this number.
fn xtoken(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// A kept-alive connection with a minimal HTTP client, so that the client costs little CPU time.
struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self(BufReader::new(stream))
    }

    async fn call(&mut self, name: &str, token: &str, body: &Value) -> String {
        let body = body.to_string();
        let request = format!(
            "POST /v2/{name} HTTP/1.1\r\nHost: localhost\r\nX-Bunker-Token: {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await.expect("the server reads");
        let (mut length, mut chunked, mut line) = (0, false, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line).await.expect("the server answers");
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length is a number");
            }
            chunked |= header.starts_with("transfer-encoding: chunked");
        }
        assert!(!chunked, "no answer is chunked");
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await.expect("the answer has an end");
        String::from_utf8(bytes).expect("the answer is text")
    }
}

/// Xorshift: cheap, and good enough to pick tenants.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % bound
    }
}

/// Returns the path of `pgbench`: beside the server's other programs, or on the PATH.
fn pgbench_path(fixture: &Fixture) -> PathBuf {
    let line = fixture.server.psql_line(DATABASE);
    let beside = line.split(' ').next().map(|psql| PathBuf::from(psql).with_file_name("pgbench"));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("pgbench"))
}
