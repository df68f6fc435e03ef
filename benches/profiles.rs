//! Profiles over HTTP against the same statements sent by `pgbench` to the same database, and a person
//! looked for across all tenants.
//!
//! `cargo bench --bench profiles`, and with `-- --quick` only to see that it runs. Server, clients, pgbench and
//! database share the machine. Contenders run in turns within each round; a ratio is the median of the
//! rounds' ratios. A request is two transactions: who calls and in which tenant, and the profile; `pgbench`
//! sends the same two, each as one message, on one connection for each client.
#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops where it cannot go on"
)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rowhouse::app::{App, Options};
use rowhouse::config::Settings;
use rowhouse::domain::names::{Slug, TenantName};
use rowhouse::pg::embedded::{Durability, Server, Settings as ServerSettings};
use rowhouse::service::provisioning::{Admin, ProvisionTenant};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

const DATABASE: &str = "rowhouse";
const ROOT_TOKEN: &str = "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f";
const CLIENTS: usize = 16;
const ADA: &str = "ada@example.com";

/// What differs between a measurement and a look whether it runs.
struct Sizes {
    rounds: usize,
    seconds: u64,
    /// Tenants of the second and of the third part.
    many: usize,
    very_many: usize,
}

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let sizes = if quick {
        Sizes { rounds: 1, seconds: 1, many: 20, very_many: 40 }
    } else {
        Sizes { rounds: 5, seconds: 4, many: 1000, very_many: 5000 }
    };
    let ground = Ground::start().await;
    println!("profiles, on {}", machine(&ground.sql).await);
    println!("command: cargo bench --bench profiles{}", if quick { " -- --quick" } else { "" });
    if quick {
        println!("quick: shows that it runs; the figures mean nothing");
    }
    ground.fill(1, 1000).await;
    ground.compare(&sizes, 1, 1000).await;
    ground.fill(sizes.many, 10).await;
    ground.compare(&sizes, sizes.many, 10).await;
    ground.look_everywhere(&sizes, sizes.many).await;
    ground.fill(sizes.very_many, 10).await;
    ground.look_everywhere(&sizes, sizes.very_many).await;
    ground.stop().await;
}

/// A server under load, on a database of its own.
struct Ground {
    postgres: Server,
    folder: PathBuf,
    sql: Client,
    address: String,
    services: rowhouse::service::Services,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Ground {
    async fn start() -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("bench-{}", std::process::id()));
        let settings = ServerSettings {
            data_dir: folder.clone(),
            bin_dir: None,
            durability: Durability::Full,
            listen_tcp: None,
            max_connections: 120,
        };
        let postgres = Server::start(&settings).await.unwrap_or_else(|error| panic!("{error}"));
        let settings = Settings::from_values(&[
            ("listen", "127.0.0.1:0".to_owned()),
            ("database.url", postgres.database_url(DATABASE)),
            ("root_token", ROOT_TOKEN.to_owned()),
            ("log.filter", "off".to_owned()),
        ]);
        let app = App::build(settings.expect("the settings are good"), Options::default()).await;
        let app = app.unwrap_or_else(|error| panic!("{error}"));
        let (address, services) = (app.addr().to_string(), app.backend().services.clone());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            app.run_until_stopped(stopped).await.expect("the server stops in order");
        });
        let (sql, connection) =
            postgres.connect_config(DATABASE).connect(NoTls).await.expect("the database takes us");
        tokio::spawn(connection);
        Self { postgres, folder, sql, address, services, stop, task }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.expect("the server stops without a panic");
        self.postgres.stop().await.expect("the database stops");
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// Makes tenants until there are so many, and gives each new one people, of whom every tenth tenant
    /// has Ada. Tenants and their tokens are known by a running number, for `pgbench` to draw one by.
    async fn fill(&self, wanted: usize, people: usize) {
        let there = self.tenants().await.len();
        let next = std::sync::atomic::AtomicUsize::new(there);
        let maker = || async {
            loop {
                let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if n >= wanted {
                    break;
                }
                let slug = Slug::parse(&format!("b{n}")).expect("it is a slug");
                let name = TenantName::parse("Bench").expect("it is a name");
                let wish = ProvisionTenant {
                    with_token: true,
                    ..ProvisionTenant::new(name, slug, Admin::Nobody)
                };
                let operator = rowhouse::auth::CallContext {
                    principal: rowhouse::auth::Principal::Operator,
                    request_id: String::new(),
                    now: rowhouse::domain::Clock::system().now(),
                };
                self.services
                    .provisioning
                    .provision(&operator, wish)
                    .await
                    .expect("a tenant is made");
            }
        };
        futures_util::future::join_all((0..4).map(|_| maker())).await;
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
    async fn compare(&self, sizes: &Sizes, tenants: usize, people: usize) {
        println!("\n{tenants} tenant(s), {CLIENTS} clients, requests a second");
        for what in [What::Read, What::Create] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for round in 0..=sizes.rounds {
                let http = self.http(what, tenants, people, sizes.seconds);
                let (http, pgbench) = if round % 2 == 0 {
                    let http = http.await;
                    (http, self.pgbench(what, tenants, people, sizes.seconds).await)
                } else {
                    let pgbench = self.pgbench(what, tenants, people, sizes.seconds).await;
                    (http.await, pgbench)
                };
                // The first round warms up.
                if round > 0 {
                    ours.push(http);
                    theirs.push(pgbench);
                }
            }
            let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
            let word = what.word();
            report(&format!("{word}, HTTP"), ours);
            report(&format!("{word}, pgbench"), theirs);
            report(&format!("{word}, HTTP / pgbench"), ratios);
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
        let counts = futures_util::future::join_all((0..CLIENTS).map(client)).await;
        f64::from(counts.into_iter().sum::<u32>()) / started.elapsed().as_secs_f64()
    }

    /// The same statements by `pgbench`, transactions a second.
    async fn pgbench(&self, what: What, tenants: usize, people: usize, seconds: u64) -> f64 {
        let script = self.folder.with_extension("sql");
        std::fs::write(&script, script_of(what, tenants, people)).expect("a script can be written");
        let config = self.postgres.connect_config(DATABASE);
        let mut command = Command::new(pgbench_path(&self.postgres));
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
            .args(["--host", &self.postgres.socket_dir().display().to_string()])
            .args(["--port", &self.postgres.port().to_string()])
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
    async fn look_everywhere(&self, sizes: &Sizes, tenants: usize) {
        let mut connection = Connection::open(&self.address).await;
        let unlock = connection.call("BulkListUnlock", ROOT_TOKEN, &json!({})).await;
        let unlock: Value = serde_json::from_str(&unlock).expect("the answer is JSON");
        let body = json!({ "mode": "email", "identity": ADA, "unlockuuid": unlock["unlockuuid"] });
        println!("\n{tenants} tenants, SystemGetUserProfiles");
        let (mut times, mut ours, mut first) = (Vec::new(), Vec::new(), 0.0);
        for round in 0..=sizes.rounds.max(2) * 2 {
            let started = Instant::now();
            let answer = connection.call("SystemGetUserProfiles", ROOT_TOKEN, &body).await;
            let took = started.elapsed().as_secs_f64() * 1000.0;
            let answer: Value = serde_json::from_str(&answer).expect("the answer is JSON");
            assert_eq!(answer["total"], tenants.div_ceil(10), "{answer}");
            assert!(answer.get("errors").is_none(), "{}", answer["errors"]);
            ours.push(resident(std::process::id()));
            if round == 0 {
                first = took;
            } else {
                times.push(took);
            }
        }
        println!("  {:40} {first:10.1} ms", "the first call");
        report("the calls after it, ms", times);
        let (start, end) =
            (ours.first().copied().unwrap_or_default(), ours.last().copied().unwrap_or_default());
        println!(
            "  {:40} {start:10.1} MiB after the first call, {end:.1} after the last",
            "this process"
        );
        let pids = "SELECT pid FROM pg_stat_activity WHERE usename = 'rowhouse_runtime'";
        let pids = self.sql.query(pids, &[]).await.expect("activity can be read");
        let backends: Vec<f64> = pids
            .iter()
            .filter_map(|row| u32::try_from(row.get::<_, i32>(0)).ok())
            .map(own_memory)
            .collect();
        println!(
            "  {:40} {:10.1} MiB at most, {} of them",
            "a database backend's own memory",
            backends.iter().copied().fold(0.0, f64::max),
            backends.len()
        );
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
fn pgbench_path(server: &Server) -> PathBuf {
    let line = server.psql_line(DATABASE);
    let beside = line.split(' ').next().map(|psql| PathBuf::from(psql).with_file_name("pgbench"));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("pgbench"))
}

/// Prints a median and how far the rounds lie apart.
fn report(what: &str, mut figures: Vec<f64>) {
    figures.sort_by(f64::total_cmp);
    let (low, high) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
    let (least, most) = (figures[0], figures[figures.len() - 1]);
    println!(
        "  {what:40} {:10.2} ({least:.2} to {most:.2}, {} rounds)",
        f64::midpoint(low, high),
        figures.len()
    );
}

/// Cores, processor, memory, server and build in one line.
async fn machine(sql: &Client) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
    };
    let row = sql.query_one("SHOW server_version", &[]).await.expect("the server has a version");
    let server: String = row.get(0);
    let build = if cfg!(debug_assertions) { "debug" } else { "optimised" };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    format!(
        "{cores} cores ({}), {} memory, PostgreSQL {server}, fsync on, {build} build, load {load} at the start",
        first("/proc/cpuinfo", "model name"),
        first("/proc/meminfo", "MemTotal")
    )
}

/// Resident memory of a process in MiB.
fn resident(pid: u32) -> f64 {
    status_of(pid, "VmRSS:")
}

/// The part of it that is its alone: no files, no shared buffers.
fn own_memory(pid: u32) -> f64 {
    status_of(pid, "RssAnon:")
}

fn status_of(pid: u32, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(0.0, |kib| kib / 1024.0)
}
