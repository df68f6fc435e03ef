//! A process that is killed leaves nothing half: a command, or a server that was sent the same as a request.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::fixture::{program_on, run, schema_of, state, value};
use super::rounds;
use super::store::{ended, exported};
use crate::support::callers::send;
use crate::support::program::RunningServer;
use crate::support::{Caller, Program, TestDatabase};

const FILES: [(&str, &str); 1] = [(
    "V1__create_words.sql",
    "CREATE TABLE words (id int CONSTRAINT words_pkey PRIMARY KEY, word text NOT NULL);
     CREATE INDEX words_word ON words (word);",
)];

const ROOT_TOKEN: &str = "0c3e2a9c-6a55-4d0c-8f39-1f2d8d5f6b21";

/// The longest wait for something that comes soon.
const SOON: Duration = Duration::from_secs(30);

/// Kills in the suite, of each kind of work.
const KILLS: u32 = 6;

/// The other transactions that have a snapshot or have written something.
const OPEN: &str = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database()
    AND pid <> pg_backend_pid() AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)";

/// What runs in the background, by its leases.
const RUNNING: &str = "SELECT ((SELECT count(*) FROM imports WHERE state = 'running')
    + (SELECT count(*) FROM archives WHERE state = 'running'))::text";

/// Work that a command does, or a server that is sent a request.
struct Work {
    name: &'static str,
    command: Vec<String>,
    path: String,
    body: Value,
    /// How long the command and the server take.
    took: [Duration; 2],
}

impl Work {
    fn new(name: &'static str, command: &[&str], path: &str, body: Value) -> Self {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Self { name, command, path: path.to_owned(), body, took: [Duration::ZERO; 2] }
    }

    /// Returns the arguments and the body, with some more of each.
    fn with(&self, arguments: &[&str], fields: &Value) -> (Vec<String>, Value) {
        let more = arguments.iter().map(|word| (*word).to_owned());
        let mut body = self.body.clone();
        let object = body.as_object_mut().expect("a body is an object");
        object.extend(fields.as_object().cloned().unwrap_or_default());
        (self.command.iter().cloned().chain(more).collect(), body)
    }

    fn request(&self, server: &RunningServer, body: &Value) -> RequestBuilder {
        root(server).request(Method::POST, &self.path).header("if-match", "*").json(body)
    }

    /// Lets a command and a server do it once, and notes how long they take.
    async fn measure(&mut self, program: &Program, more: [(&[&str], Value); 2]) {
        let [by_command, by_server] = more;
        let (arguments, _) = self.with(by_command.0, &by_command.1);
        let began = Instant::now();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        program.run(&arguments).expect(0);
        self.took[0] = began.elapsed();
        let (_, body) = self.with(by_server.0, &by_server.1);
        let server = program.serve(&[]);
        let began = Instant::now();
        let answer = send(self.request(&server, &body)).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        if let (202, Some(path)) = (answer.status, answer.header("location")) {
            let done = ended(&root(&server), path).await;
            assert!(done["error"].is_null(), "{done}");
        }
        self.took[1] = began.elapsed();
        server.stop("TERM").expect(0);
    }

    /// Begins it and kills the process at a moment of its own for each attempt: a command, and a server at every other
    /// attempt. Waits until the database has noticed.
    async fn kill(
        &self,
        program: &Program,
        sql: &Client,
        attempt: u32,
        (arguments, fields): (&[&str], &Value),
    ) {
        let (arguments, body) = self.with(arguments, fields);
        let part = f64::from(attempt * 37 % 100) / 100.0;
        if attempt.is_multiple_of(2) {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut command = program.command(env!("CARGO_BIN_EXE_rowhouse"), &arguments);
            let mut child = command.spawn().expect("it starts");
            tokio::time::sleep(self.took[0].mul_f64(part)).await;
            let _ = child.kill();
            child.wait().expect("it ends");
        } else {
            let server = program.serve(&[]);
            let request = tokio::spawn(self.request(&server, &body).send());
            tokio::time::sleep(self.took[1].mul_f64(part)).await;
            server.stop("KILL");
            // An answer, or none.
            let _ = request.await.expect("a request does not panic");
        }
        wait_for(sql, OPEN, "0", self.name).await;
    }
}

fn root(server: &RunningServer) -> Caller {
    Caller::new(&server.address, Some(ROOT_TOKEN))
}

/// Waits until a query answers this.
async fn wait_for(sql: &Client, query: &str, wanted: &str, what: &str) {
    let since = Instant::now();
    while value(sql, query).await != wanted {
        assert!(since.elapsed() < SOON, "{what}: {query} is not {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn size(sql: &Client) -> f64 {
    run(sql, "VACUUM").await;
    let size = value(sql, "SELECT pg_database_size(current_database())::text").await;
    size.parse().expect("a number")
}

/// Kills work that makes a tenant, and checks that the tenant is whole or not there.
async fn kill_often(program: &Program, sql: &Client, work: &Work) {
    let size_before = size(sql).await;
    let (wanted, mut killed) = (rounds(KILLS), 0);
    for attempt in 0..3 * wanted {
        let slug = format!("{}-{attempt}", work.name);
        let before = state(sql).await;
        let fields = json!({ "slug": slug });
        work.kill(program, sql, attempt, (&["--slug", &slug], &fields)).await;
        let made = format!("SELECT count(*)::text FROM tenants WHERE slug = '{slug}'");
        if value(sql, &made).await == "1" {
            let schema = schema_of(sql, &slug).await;
            let rows = format!("SELECT count(*)::text FROM {schema}.words");
            assert_eq!(value(sql, &rows).await, "40000");
            program.run(&["tenant", "delete", &slug, "--yes"]).expect(0);
            program.run(&["tenant", "purge", &slug, "--yes"]).expect(0);
        } else {
            assert_eq!(state(sql).await, before, "something is left of the {}", work.name);
            killed += 1;
        }
        if killed == wanted {
            break;
        }
    }
    let grown = size(sql).await / size_before;
    eprintln!("{}: killed {killed} times; the database has {grown:.3} of its size", work.name);
    assert_eq!(killed, wanted, "the work was too fast to be killed");
    assert!(grown < 1.05, "the database has grown");
}

/// Kills exports, by a command to a file, by a server to its store.
async fn kill_exports(program: &Program, sql: &Client, export: &Work) {
    for attempt in 0..rounds(KILLS) {
        let to = format!("part-{attempt}.tar");
        let file = program.folder().join(&to);
        export.kill(program, sql, attempt, (&["-o", &to], &json!({}))).await;
        let Ok(archive) = std::fs::read(&file) else { continue };
        assert!(archive.ends_with(&[0; 1024]), "an archive has its name before it is whole");
        std::fs::remove_file(file).expect("it can be removed");
    }
    sweep(program, sql).await;
}

/// Kills swaps, each of which has exchanged everything or nothing; the tenants open by themselves.
async fn kill_swaps(program: &Program, sql: &Client, swap: &Work, schemas: [&str; 2]) {
    let [one, other] = schemas;
    let counts = format!(
        "SELECT concat_ws(' ', (SELECT count(*) FROM {one}.words), (SELECT count(*) FROM {other}.words))"
    );
    let (mut swapped, mut last) = (0, value(sql, &counts).await);
    for attempt in 0..rounds(KILLS) {
        swap.kill(program, sql, attempt, (&[], &json!({}))).await;
        run(sql, "UPDATE tenants SET closed_until = NULL").await;
        let found = value(sql, &counts).await;
        assert!(["39000 40000", "40000 39000"].contains(&found.as_str()), "{found}");
        swapped += u32::from(found != last);
        last = found;
        for of in schemas {
            let may = format!("SELECT has_table_privilege('{of}', '{of}.words', 'SELECT')::text");
            assert_eq!(value(sql, &may).await, "true");
        }
    }
    eprintln!("swap: killed {} times; {swapped} had exchanged everything", rounds(KILLS));
}

/// Lets a server sweep, as if the leases of those that were killed had ended: nothing runs then, and its store has what is
/// ready and nothing else.
async fn sweep(program: &Program, sql: &Client) {
    for table in ["imports", "archives"] {
        run(sql, &format!("UPDATE {table} SET lease_until = now() WHERE state = 'running'")).await;
    }
    let server = program.serve(&[]);
    wait_for(sql, RUNNING, "0", "a sweep").await;
    let ready = value(sql, "SELECT count(*)::text FROM archives WHERE state = 'ready'").await;
    let stored = || std::fs::read_dir(program.folder().join("archives")).expect("a store").count();
    let since = Instant::now();
    while stored().to_string() != ready {
        assert!(since.elapsed() < SOON, "{ready} archives are ready, {} files are there", stored());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop("TERM").expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_a_clone_an_export_or_a_swap_that_is_killed_leaves_nothing_half() {
    let database = TestDatabase::create().await;
    let program = program_on(&database, &FILES).with("ROWHOUSE_ROOT_TOKEN", ROOT_TOKEN);
    let sql = database.connect().await;
    program.create_tenant("acme").expect(0);
    let schema = schema_of(&sql, "acme").await;
    run(
        &sql,
        &format!("INSERT INTO {schema}.words SELECT n, md5(n::text) FROM generate_series(1, 40000) n; ANALYZE {schema}.words"),
    )
    .await;
    let server = program.serve(&[]);
    let (_, archive) = exported(&root(&server)).await;
    server.stop("TERM").expect(0);

    let of_acme = |what: &str| format!("/control/v1/tenants/acme/{what}");
    let none = || json!({});
    let command = ["tenant", "export", "acme"];
    let mut export = Work::new("export", &command, &of_acme("archives"), none());
    export.measure(&program, [(&[], none()), (&[], none())]).await;

    let command = ["tenant", "import", "acme.rowhouse.tar"];
    let body = json!({ "archive": archive["id"] });
    let mut import = Work::new("import", &command, "/control/v1/imports", body);
    let dry = json!({ "slug": "copy", "dry_run": true });
    import.measure(&program, [(&["--slug", "copy", "--dry-run"], none()), (&[], dry)]).await;
    kill_often(&program, &sql, &import).await;
    kill_exports(&program, &sql, &export).await;

    let mut clone = Work::new("clone", &["tenant", "clone", "acme"], &of_acme("clone"), none());
    let second = json!({ "slug": "second" });
    clone.measure(&program, [(&["--slug", "first"], none()), (&[], second)]).await;
    kill_often(&program, &sql, &clone).await;

    let first = schema_of(&sql, "first").await;
    run(&sql, &format!("DELETE FROM {first}.words WHERE id > 39000")).await;
    let command = ["tenant", "swap", "acme", "first", "--yes"];
    let body = json!({ "with": "first" });
    let mut swap = Work::new("swap", &command, &of_acme("swap"), body);
    swap.measure(&program, [(&[], none()), (&[], none())]).await;
    kill_swaps(&program, &sql, &swap, [&schema, &first]).await;
    program.run(&["doctor"]).expect(0);
}
