//! Profiles over HTTP against the same statements sent by `pgbench` to the same database, and a person
//! looked for across all tenants.
//!
//! Server, clients, pgbench and PostgreSQL share the machine's cores. A request is two transactions: who
//! calls and in which tenant, and the profile; `pgbench` sends the same two, each as one message, on one
//! connection for each client.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "printing figures is what it is for, and it stops where it cannot go on"
)]

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
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
use support::{Contender, Ground, Report, Samples, interleave, machine, ms};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_postgres::Client;

/// The embedded server's database.
const DATABASE: &str = "rowhouse";

const ROOT_TOKEN: &str = "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f";

/// Clients at the same time, over HTTP and of `pgbench`.
const CLIENTS: usize = 16;

/// How many tenants are made at the same time.
const MAKERS: usize = 4;

/// Whom every tenth tenant knows.
const ADA: &str = "ada@example.com";

/// Longest time that looking through a thousand tenants should take, in milliseconds.
const GOAL_MS: f64 = 1000.0;

/// What differs between a measurement and a look whether it runs.
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
    let ground = Ground::start().await;
    let site = Site::start(&ground).await;
    let mut report = Report::begin(args, "profiles", machine::line(&site.sql).await);
    site.fill(1, 1000).await;
    site.compare(&mut report, &sizes, (1, 1000)).await;
    site.fill(sizes.many, 10).await;
    site.compare(&mut report, &sizes, (sizes.many, 10)).await;
    site.look_everywhere(&mut report, &sizes, sizes.many).await;
    site.fill(sizes.very_many, 10).await;
    site.look_everywhere(&mut report, &sizes, sizes.very_many).await;
    report.end();
    site.stop().await;
    ground.stop().await;
}

/// A server under load.
struct Site<'a> {
    ground: &'a Ground,
    sql: Client,
    backend: Backend,
    address: String,
    scripts: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl<'a> Site<'a> {
    async fn start(ground: &'a Ground) -> Self {
        let settings = ground.settings(&[("root_token", ROOT_TOKEN)]);
        let app = App::build(settings, Options::default()).await.expect("the server starts");
        let address = app.addr().to_string();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(app.run_until_stopped(async {
            let _ = stopped.await;
        }));
        let (sql, backend) = (ground.connect().await, ground.backend(&[]).await);
        let scripts = tempfile::tempdir().expect("a folder can be made");
        Self { ground, sql, backend, address, scripts, stop, task }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.expect("the server does not panic").expect("the server stops in order");
        self.backend.close().await;
    }

    /// Makes tenants until there are so many, and gives each new one people, of whom every tenth tenant
    /// has Ada. Tenants and their tokens are known by a running number, for `pgbench` to draw one by.
    async fn fill(&self, wanted: usize, people: usize) {
        let there = self.tenants().await.len();
        let next = AtomicUsize::new(there);
        let maker = || async {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= wanted {
                    break;
                }
                let slug = Slug::parse(&format!("b{n}")).expect("it is a slug");
                let name = TenantName::parse("Bench").expect("it is a name");
                let wish = ProvisionTenant::new(name, slug, Admin::Nobody);
                let wish = ProvisionTenant { with_token: true, ..wish };
                let operator = self.backend.operator();
                let made = self.backend.services.provisioning.provision(&operator, wish).await;
                made.expect("a tenant can be made");
            }
        };
        join_all((0..MAKERS).map(|_| maker())).await;
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

    /// The schemas of the tenants, by their running number.
    async fn tenants(&self) -> Vec<String> {
        let query = "SELECT 'tenant_' || replace(id::text, '-', '') FROM tenants
                      WHERE slug LIKE 'b%' ORDER BY substr(slug, 2)::int";
        let rows = self.sql.query(query, &[]).await.expect("tenants can be listed");
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn batch(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Reads and creates over HTTP and by `pgbench`, in turns.
    async fn compare(&self, report: &mut Report, sizes: &Sizes, (tenants, people): (usize, usize)) {
        let plural = if tenants == 1 { "tenant" } else { "tenants" };
        report.section(&format!("{tenants} {plural}, {CLIENTS} clients: requests a second"));
        for what in [What::Read, What::Create] {
            let contenders = [
                Contender::new("over HTTP", || self.http(what, tenants, people, sizes.seconds)),
                Contender::new("by pgbench", || self.pgbench(what, tenants, people, sizes.seconds)),
            ];
            let samples = interleave(sizes.rounds, &contenders).await;
            for (contender, samples) in contenders.iter().zip(&samples) {
                report.measured(
                    &format!("{}, {}", what.word(), contender.name),
                    samples,
                    "a second",
                );
            }
            let [http, pgbench] = &samples[..] else { continue };
            report.ratio(&format!("{}: HTTP / pgbench", what.word()), &http.against(pgbench), None);
        }
    }

    /// Requests a second over HTTP.
    async fn http(&self, what: What, tenants: usize, people: usize, seconds: u64) -> f64 {
        let started = Instant::now();
        let end = started + Duration::from_secs(seconds);
        let client = |seed: usize| async move {
            let mut connection = Connection::open(&self.address).await;
            let (mut count, mut dice) = (0_u32, Dice(seed as u64 + 1));
            while Instant::now() < end {
                let token = xtoken(dice.roll(tenants));
                let (call, body) = match what {
                    What::Read => {
                        let email = format!("u{}@example.com", dice.roll(people) + 1);
                        ("UserGet", json!({ "mode": "email", "identity": email }))
                    }
                    What::Create => {
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

    /// The same statements by `pgbench`, transactions a second.
    async fn pgbench(&self, what: What, tenants: usize, people: usize, seconds: u64) -> f64 {
        let script = self.scripts.path().join("script.sql");
        std::fs::write(&script, script_of(what, tenants, people)).expect("a script can be written");
        let config = self.ground.server.connect_config(DATABASE);
        let mut command = Command::new(pgbench_path(self.ground));
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
            .args(["--host", &self.ground.server.socket_dir().display().to_string()])
            .args(["--port", &self.ground.server.port().to_string()])
            .args(["--username", config.get_user().unwrap_or("postgres"), DATABASE]);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("pgbench is waited for")
            .unwrap_or_else(|error| {
                panic!("pgbench beside the server's binaries is needed: {error}")
            });
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = "));
        let tps = tps.and_then(|rest| rest.split(' ').next()?.parse().ok());
        tps.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// `SystemGetUserProfiles`, its time and what it does to the memory.
    async fn look_everywhere(&self, report: &mut Report, sizes: &Sizes, tenants: usize) {
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
enum What {
    Read,
    Create,
}

impl What {
    const fn word(self) -> &'static str {
        match self {
            Self::Read => "read by e-mail address",
            Self::Create => "create",
        }
    }
}

/// The statements of one request, each transaction as one message: who calls and where, the profile.
fn script_of(what: What, tenants: usize, people: usize) -> String {
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
    // What \gset takes must be the last of a message, so the commit goes with the next.
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
    let statement = match what {
        What::Read => {
            "SELECT id, profile, version, final_time, sliding_time, final_at, sliding_seconds, expires_at \
             FROM profiles WHERE email = 'u:k@example.com' AND (expires_at IS NULL OR expires_at > now())"
        }
        What::Create => {
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

/// The token of the tenant with this running number.
fn xtoken(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// One kept connection, and no more of HTTP than it takes: the client is to cost little.
struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket can be told not to wait");
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
        assert!(!chunked, "no answer here is sent in chunks");
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await.expect("the answer has an end");
        String::from_utf8(bytes).expect("the answer is text")
    }
}

/// Random enough to draw a tenant by.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % sides
    }
}

/// Beside the server's other programs, or on the path.
fn pgbench_path(ground: &Ground) -> PathBuf {
    let line = ground.server.psql_line(DATABASE);
    let beside = line.split(' ').next().map(|psql| PathBuf::from(psql).with_file_name("pgbench"));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("pgbench"))
}
