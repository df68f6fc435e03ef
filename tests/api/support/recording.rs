//! A proxy before the database that reads what a server sends, and checks that a Citus cluster could take it.
//!
//! It checks, for each connection:
//! - no statement that Citus hands to its nodes as text (`CREATE INDEX`, `DROP INDEX`, `ALTER TABLE`) shares a message;
//! - no setting that Citus sends on to the nodes, with the whole text of its message, shares a message;
//! - the schema of a tenant is created with the sharding setting on, which is off for every other statement;
//! - no statement names a table of a tenant by its schema together with a catalog, or with a function whose result is
//!   that of one session or moment;
//! - nothing is left in a session: no `SET` without `LOCAL`, no `LISTEN`, no session lock.
//!
//! A statement of a tenant's transaction names no schema, so that the third rule sees the owner's statements alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::Handle;

/// The catalogs and functions that no statement on a tenant's table may name.
const NOT_ON_NODES: [&str; 8] = [
    "pg_class",
    "pg_namespace",
    "pg_attribute",
    "pg_constraint",
    "pg_index",
    "pg_current_xact_id",
    "current_setting",
    "to_regclass",
];

/// The rules that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// All.
    All,
    /// All but that nothing is left in a session: files of tests do that on purpose.
    WithoutSessionState,
}

/// A proxy, and what it has seen.
#[derive(Clone)]
pub struct Recording {
    /// The URL by which the database is reached through it.
    pub url: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    messages: Vec<String>,
    violations: Vec<String>,
}

impl Recording {
    /// Starts a proxy before the database of a URL, for as long as the process lives.
    pub fn start(url: &str, rules: Rules) -> Self {
        let config: tokio_postgres::Config = url.parse().expect("the URL is valid");
        let user = config.get_user().expect("the URL has a user");
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default());
        let database = config.get_dbname().expect("the URL has a database");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        listener.set_nonblocking(true).expect("a listener can be made nonblocking");
        let port = listener.local_addr().expect("the listener is bound").port();
        let url =
            format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let record = Arc::clone(&seen);
        runtime().spawn(async move {
            let listener = TcpListener::from_std(listener).expect("the runtime takes a listener");
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, config.clone(), rules, Arc::clone(&record)));
            }
        });
        Self { url, seen }
    }

    /// Returns every message so far that holds statements, in the order in which they came.
    pub fn messages(&self) -> Vec<String> {
        self.seen.lock().expect("no test panics inside").messages.clone()
    }

    /// Returns what a cluster could not take.
    pub fn violations(&self) -> Vec<String> {
        self.seen.lock().expect("no test panics inside").violations.clone()
    }
}

/// The recordings of a run in which every server is recorded, by the URL of the database.
static OF_RUN: Mutex<Option<HashMap<String, Recording>>> = Mutex::new(None);

/// Returns the recording of a database, which is started once.
pub fn of_run(url: &str) -> Recording {
    let mut all = OF_RUN.lock().expect("no test panics inside");
    let all = all.get_or_insert_default();
    all.entry(url.to_owned())
        .or_insert_with(|| Recording::start(url, Rules::WithoutSessionState))
        .clone()
}

/// Fails if a server sent something to a database that a cluster could not take.
pub fn assert_no_violations(database: &str) {
    let mut all = OF_RUN.lock().expect("no test panics inside");
    let Some(all) = all.as_mut() else { return };
    let ours = |url: &String| url.split('?').next().is_some_and(|url| url.ends_with(database));
    let urls: Vec<String> = all.keys().filter(|url| ours(url)).cloned().collect();
    let found: Vec<String> =
        urls.iter().filter_map(|url| all.remove(url)).flat_map(|it| it.violations()).collect();
    assert!(found.is_empty() || std::thread::panicking(), "{found:#?}");
}

/// The runtime of all proxies, which outlives the runtimes of the tests.
fn runtime() -> &'static Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime =
            builder.worker_threads(1).enable_all().build().expect("a runtime can be built");
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    })
}

async fn serve(
    client: TcpStream,
    config: tokio_postgres::Config,
    rules: Rules,
    seen: Arc<Mutex<Seen>>,
) {
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match &config.get_hosts()[0] {
        tokio_postgres::config::Host::Unix(folder) => {
            let socket = folder.join(format!(".s.PGSQL.{port}"));
            let Ok(server) = UnixStream::connect(socket).await else { return };
            let (from_server, to_server) = server.into_split();
            both(from_client, to_client, from_server, to_server, rules, seen).await;
        }
        tokio_postgres::config::Host::Tcp(host) => {
            let Ok(server) = TcpStream::connect((host.as_str(), port)).await else { return };
            let _ = server.set_nodelay(true);
            let (from_server, to_server) = server.into_split();
            both(from_client, to_client, from_server, to_server, rules, seen).await;
        }
    }
}

async fn both(
    from_client: impl AsyncRead + Unpin,
    mut to_client: impl AsyncWrite + Unpin,
    mut from_server: impl AsyncRead + Unpin,
    to_server: impl AsyncWrite + Unpin,
    rules: Rules,
    seen: Arc<Mutex<Seen>>,
) {
    let down = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(up(from_client, to_server, rules, seen), down);
}

/// Forwards what the client sends, and reads the messages in it.
async fn up(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    rules: Rules,
    seen: Arc<Mutex<Seen>>,
) {
    let mut connection = Connection { rules, ..Connection::default() };
    let mut chunk = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        connection.buffer.extend_from_slice(&chunk[..length]);
        for text in connection.messages() {
            let violations = connection.check(&text);
            let mut seen = seen.lock().expect("no test panics inside");
            seen.violations.extend(violations);
            seen.messages.push(text);
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// What is known of one connection.
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
struct Connection {
    rules: Rules,
    buffer: Vec<u8>,
    has_started: bool,
    /// Whether the sharding setting is on in the transaction.
    is_sharding: bool,
    /// The schemas that the transaction has created without it.
    plain_schemas: HashSet<String>,
    /// Whether what the transaction creates stays on the coordinator.
    is_local: bool,
    /// Whether settings are sent on to the nodes.
    is_sent_on: bool,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            rules: Rules::All,
            buffer: Vec::new(),
            has_started: false,
            is_sharding: false,
            plain_schemas: HashSet::new(),
            is_local: false,
            is_sent_on: false,
        }
    }
}

impl Connection {
    /// Takes the complete messages from the buffer and returns the texts of those that hold statements.
    fn messages(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            // The first packet has no type.
            let head = usize::from(self.has_started);
            let Some(length) = self.buffer.get(head..head + 4) else { return texts };
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            let end = head + usize::try_from(length).expect("a message is small");
            if self.buffer.len() < end {
                return texts;
            }
            let message: Vec<u8> = self.buffer.drain(..end).collect();
            if !std::mem::replace(&mut self.has_started, true) {
                continue;
            }
            let body = &message[5..];
            let text = |body: &[u8]| {
                let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
                String::from_utf8_lossy(&body[..end]).into_owned()
            };
            match message[0] {
                b'Q' => texts.push(text(body)),
                // The name of the statement comes first.
                b'P' => {
                    let name = body.iter().position(|byte| *byte == 0).map_or(0, |at| at + 1);
                    texts.push(text(&body[name..]));
                }
                _ => {}
            }
        }
    }

    /// Returns what is wrong with a message.
    fn check(&mut self, text: &str) -> Vec<String> {
        let statements = statements(text);
        let mut wrong = Vec::new();
        let mut report = |what: &str, statement: &str| {
            let statement: String = statement.chars().take(300).collect();
            wrong.push(format!("{what}: {statement}"));
        };
        let count = statements.len();
        for statement in &statements {
            let words = words(statement);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            if count > 1 && is_forwarded(&words) {
                report("it shares a message with others", text);
            }
            let is_setting =
                statement.to_lowercase().contains("citus.enable_schema_based_sharding");
            match words.as_slice() {
                ["BEGIN" | "COMMIT" | "ROLLBACK" | "START", ..] => {
                    self.is_sharding = false;
                    self.is_local = false;
                    self.is_sent_on = false;
                    self.plain_schemas.clear();
                }
                ["SET", "LOCAL", ..] if is_setting => {
                    self.is_sharding = statement.trim_end().to_lowercase().ends_with("on");
                }
                ["SET", "LOCAL", "CITUS", "PROPAGATE_SET_COMMANDS", ..] => {
                    self.is_sent_on = true;
                    if count > 1 {
                        report("a setting shares a message with others", text);
                    }
                }
                ["SET", "LOCAL", ..] if self.is_sent_on && count > 1 => {
                    report("a setting shares a message with others", text);
                }
                ["SET", "LOCAL", "CITUS", "ENABLE_DDL_PROPAGATION", state, ..] => {
                    self.is_local = *state == "OFF";
                }
                ["GRANT", _, "TO", "ROWHOUSE_RUNTIME", ..] if !self.is_local => {
                    report("the nodes need to know the roles of other databases", statement);
                }
                ["SET", ..] if is_setting => report("the sharding setting would stay", statement),
                ["CREATE", "SCHEMA", ..] if !self.is_sharding && !self.is_local => {
                    self.plain_schemas.extend(schemas(statement));
                }
                ["CREATE", "SCHEMA", ..] => {}
                ["GRANT", "USAGE", "ON", "SCHEMA", ..]
                    if schemas(statement)
                        .iter()
                        .any(|schema| self.plain_schemas.contains(schema)) =>
                {
                    report("the schema of a tenant is not distributed", statement);
                }
                _ if self.is_sharding => report("the sharding setting is on", statement),
                _ => {}
            }
            let plain = without_literals(statement);
            let on_tenant =
                schemas(&plain).iter().any(|schema| plain.contains(&format!("{schema}.")));
            let is_query = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"];
            if on_tenant && words.first().is_some_and(|word| is_query.contains(word)) {
                for name in NOT_ON_NODES.iter().filter(|name| plain.contains(**name)) {
                    report(&format!("{name} together with a table of a tenant"), statement);
                }
            }
            if self.rules == Rules::All && leaves_state(&words, &plain) {
                report("it leaves something in the session", statement);
            }
        }
        wrong
    }
}

/// Whether Citus hands the whole text of its message to the nodes.
fn is_forwarded(words: &[&str]) -> bool {
    matches!(
        words,
        ["CREATE" | "DROP", "INDEX", ..]
            | ["CREATE", "UNIQUE", "INDEX", ..]
            | ["ALTER", "TABLE", ..]
    )
}

/// Whether a statement leaves something in its session.
fn leaves_state(words: &[&str], statement: &str) -> bool {
    match words {
        // The last is the reset at the beginning of a transaction, or of a pool.
        ["SET", "LOCAL" | "CONSTRAINTS" | "TRANSACTION", ..]
        | ["SET", "SESSION", "AUTHORIZATION", "DEFAULT"] => false,
        ["SET" | "LISTEN" | "PREPARE" | "LOAD", ..] => true,
        _ => {
            let text = statement.to_lowercase();
            text.contains("pg_advisory_lock(") || text.contains("pg_try_advisory_lock(")
        }
    }
}

/// Returns the first words of a statement in upper case, without comments.
fn words(statement: &str) -> Vec<String> {
    let lines = statement.lines().map(|line| line.split("--").next().unwrap_or_default());
    let text = lines.collect::<Vec<_>>().join(" ");
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty());
    words.take(6).map(str::to_uppercase).collect()
}

/// Returns the names of tenants' schemas in a text.
fn schemas(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let names = text.split(|c: char| !is_part(c));
    let names = names.filter(|name| name.len() == 39 && name.starts_with("tenant_"));
    names.map(str::to_owned).collect()
}

/// Splits a message at the semicolons outside of quotes, comments and dollar quotes.
fn statements(text: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut begin = 0;
    for (start, end, kind) in pieces(text) {
        if kind == Piece::Semicolon {
            statements.push(text[begin..start].to_owned());
            begin = end;
        }
    }
    statements.push(text[begin..].to_owned());
    statements.retain(|statement| !words(statement).is_empty());
    statements
}

/// Returns a statement with blanks for its literals.
fn without_literals(statement: &str) -> String {
    let kept = |(start, end, kind)| match kind {
        Piece::Literal => " ",
        Piece::Text | Piece::Semicolon => &statement[start..end],
    };
    pieces(statement).into_iter().map(kept).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Text,
    Literal,
    Semicolon,
}

/// Cuts a text into literals, semicolons and the rest.
fn pieces(text: &str) -> Vec<(usize, usize, Piece)> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let (length, kind) = if let Some(quoted) = rest.strip_prefix('\'') {
            (1 + quoted.find('\'').map_or(quoted.len(), |end| end + 1), Piece::Literal)
        } else if rest.starts_with("--") {
            (rest.find('\n').unwrap_or(rest.len()), Piece::Literal)
        } else if let Some(tag) = dollar_tag(rest) {
            let inner = &rest[tag.len()..];
            let end = inner.find(tag).map_or(rest.len(), |end| 2 * tag.len() + end);
            (end, Piece::Literal)
        } else if rest.starts_with(';') {
            (1, Piece::Semicolon)
        } else {
            (rest.chars().next().map_or(1, char::len_utf8), Piece::Text)
        };
        pieces.push((at, at + length, kind));
        at += length;
    }
    pieces
}

fn dollar_tag(text: &str) -> Option<&str> {
    let end = text.strip_prefix('$')?.find('$')?;
    let tag = &text[..end + 2];
    tag[1..=end].chars().all(|c| c.is_alphanumeric() || c == '_').then_some(tag)
}

#[test]
fn what_a_cluster_could_not_take_is_found() {
    let schema = format!("tenant_{}", "0".repeat(32));
    let found = |messages: &[&str]| {
        let mut connection = Connection::default();
        let all = messages.iter().map(|text| text.replace("{t}", &schema));
        all.flat_map(|text| connection.check(&text)).count()
    };
    let on = "SET LOCAL citus.enable_schema_based_sharding = on";
    let off = "SET LOCAL citus.enable_schema_based_sharding = off";
    let here = "SET LOCAL citus.enable_ddl_propagation = off";
    let everywhere = "SET LOCAL citus.enable_ddl_propagation = on";
    let granted = "GRANT USAGE ON SCHEMA {t} TO x";
    for (messages, count) in [
        (&["CREATE TABLE a (b text DEFAULT ';'); SELECT 1"][..], 0),
        (&["CREATE INDEX i ON a (b)", "ALTER TABLE a ADD c int;"], 0),
        (&["CREATE INDEX i ON a (b); SELECT 1"], 1),
        (&["SELECT 1; -- x\nALTER TABLE a ADD c int"], 1),
        (&["DO $$ BEGIN ALTER TABLE a ADD c int; END $$; SELECT 1"], 0),
        (&["BEGIN", on, "CREATE SCHEMA {t}", off, granted, "COMMIT"], 0),
        (&["BEGIN", "CREATE SCHEMA {t}", granted, "COMMIT"], 1),
        (&["BEGIN", here, "CREATE SCHEMA {t}", granted, "COMMIT"], 0),
        (&["BEGIN", here, everywhere, "CREATE SCHEMA {t}", granted, "COMMIT"], 1),
        (&["BEGIN", here, "GRANT {t} TO rowhouse_runtime", everywhere, "COMMIT"], 0),
        (&["BEGIN", "GRANT {t} TO rowhouse_runtime", "COMMIT"], 1),
        (&["BEGIN", on, "CREATE SCHEMA {t}", granted, "COMMIT"], 1),
        (&["SET citus.enable_schema_based_sharding = on"], 2),
        (&["SELECT a FROM {t}.b JOIN pg_class ON true"], 1),
        (&["SELECT '{t}.b'::regclass FROM pg_class"], 0),
        (&["INSERT INTO {t}.b SELECT pg_current_xact_id() FROM {t}.b"], 1),
        (&["SET a = 1"], 1),
        (&["SET LOCAL a = 1", "RESET ALL"], 0),
    ] {
        assert_eq!(found(messages), count, "{messages:?}");
    }
}
