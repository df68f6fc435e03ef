//! Tests as processes of their own, as `cargo nextest` runs them: what they say where something is missing, and that
//! nothing of them stays.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rowhouse::testing::TestPostgres;
use tokio_postgres::Client;

use crate::support::TestDatabase;
use crate::support::postgres::connect;

const SOON: Duration = Duration::from_secs(30);

/// What `cargo nextest` sets.
const EXECUTION_MODE: &str = "NEXTEST_EXECUTION_MODE";

/// Returns the command that runs one of the subjects with these variables. The server is that of this process.
fn subject(name: &str, variables: &[(&str, &str)]) -> Command {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command
        .args(["--exact", &format!("testing::subjects::{name}"), "--ignored", "--nocapture"])
        .env_remove(EXECUTION_MODE)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a subject to its end and returns whether it passed, and all that it printed.
fn run(name: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let Output { status, stdout, stderr } =
        subject(name, variables).output().expect("the subject runs");
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(text.contains("running 1 test"), "there is no subject {name}: {text}");
    (status.success(), text)
}

/// Returns the name of the database that a subject has printed, and the URL of its server.
fn database_and_server(text: &str) -> (&str, &str) {
    let line = text.lines().find_map(|line| line.split_once("DATABASE "));
    let line = line.unwrap_or_else(|| panic!("no database in {text}")).1;
    line.split_once(" ON ").expect("a server is printed too")
}

/// Returns the name of the database that a subject has printed.
fn database(text: &str) -> &str {
    database_and_server(text).0
}

async fn admin() -> Client {
    let server = TestPostgres::get().await.expect("there is a server");
    connect(&server.url("postgres")).await
}

async fn exists(name: &str) -> bool {
    exists_on(&admin().await, name).await
}

async fn exists_on(server: &Client, name: &str) -> bool {
    let sql = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";
    server.query_one(sql, &[&name]).await.expect("databases can be listed").get(0)
}

async fn is_dropped_soon(name: &str) {
    let began = Instant::now();
    while exists(name).await {
        assert!(began.elapsed() < SOON, "{name} is not dropped");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts a subject that does not end, and returns it with its database.
fn start(name: &str, variables: &[(&str, &str)]) -> (Child, String) {
    let mut child = subject(name, variables).spawn().expect("the subject starts");
    let stdout = child.stdout.take().expect("stdout is piped");
    let line = BufReader::new(stdout).lines().map_while(Result::ok);
    let line = line.into_iter().find(|line| line.contains("DATABASE "));
    let Some(line) = line else {
        let mut text = String::new();
        let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
        panic!("the subject ended: {text}");
    };
    let database = database(&line).to_owned();
    (child, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_is_killed_leaves_nothing_when_the_next_one_begins() {
    let (mut child, left) = start("never_ends", &[]);
    assert!(exists(&left).await, "it is in use");
    let (passed, text) = run("passes", &[]);
    assert!(passed, "{text}");
    assert!(exists(&left).await, "the database of a process that lives is not touched");
    child.kill().expect("it can be killed");
    child.wait().expect("it has ended");
    let (passed, text) = run("passes", &[]);
    assert!(passed, "{text}");
    is_dropped_soon(&left).await;
}

/// The subject has a tenant of its own in it: its note is the first.
#[tokio::test(flavor = "multi_thread")]
async fn processes_of_one_test_each_use_a_database_together_until_its_vacancies_are_few() {
    // On the embedded server, also where this process uses another.
    let variables = [(EXECUTION_MODE, "process-per-test"), ("TEST_DATABASE_URL", "")];
    let (mut child, first) = start("never_ends", &variables);
    let (mut used, mut embedded) = (vec![first.clone()], String::new());
    for _ in 0..11 {
        let (passed, text) = run("passes", &variables);
        assert!(passed, "{text}");
        let (database, server) = database_and_server(&text);
        used.push(database.to_owned());
        server.clone_into(&mut embedded);
    }
    // Ten each. An earlier run, whose server still lives, may have left a database with some uses.
    used.dedup();
    assert!((2..=3).contains(&used.len()), "{used:?}");
    let is_there = exists_on(&connect(&embedded).await, &first).await;
    assert!(is_there, "the database of a process that lives is not touched");
    child.kill().expect("it can be killed");
    child.wait().expect("it has ended");
    let (passed, text) = run("passes", &variables);
    assert!(passed, "{text}");
    // On a server that stays, what is left of it would stay too.
    let server = TestPostgres::get().await.expect("there is a server");
    let url = server.url("postgres");
    let (passed, text) = run("passes", &[variables[0], ("TEST_DATABASE_URL", url.as_str())]);
    assert!(passed && !exists(database(&text)).await, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_server_that_stays_each_process_drops_its_databases_when_it_ends() {
    let server = TestPostgres::get().await.expect("there is a server");
    let url = server.url("postgres");
    let there = [("TEST_DATABASE_URL", url.as_str())];
    for (name, passes) in [("passes", true), ("panics_in_a_transaction", false)] {
        let (passed, text) = run(name, &there);
        assert_eq!(passed, passes, "{text}");
        assert!(!exists(database(&text)).await, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_panics_in_a_transaction_says_so_and_the_next_one_works() {
    let (passed, text) = run("panics_in_a_transaction", &[]);
    assert!(!passed && text.contains("this test fails on purpose"), "{text}");
    let left = database(&text).to_owned();
    let (passed, text) = run("passes", &[]);
    assert!(passed, "{text}");
    is_dropped_soon(&left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_is_named_by_each_test() {
    let (passed, text) = run("has_a_migration_that_fails", &[]);
    assert!(!passed && text.contains("V2__add_body.sql"), "{text}");
    assert!(text.contains("notebooks"), "{text}");
}

#[test]
fn a_server_that_cannot_be_reached_is_named_without_its_password() {
    let url = "postgres://ada:hunter2secret@127.0.0.1:1/postgres";
    let (passed, text) = run("passes", &[("TEST_DATABASE_URL", url)]);
    assert!(!passed && text.contains("cannot connect to postgres://ada@127.0.0.1:1"), "{text}");
    assert!(!text.contains("hunter2secret"), "{text}");
    let (passed, text) = run("passes", &[("TEST_DATABASE_URL", "no url")]);
    assert!(!passed && text.contains("TEST_DATABASE_URL cannot be used"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_not_create_databases_is_told_what_it_needs() {
    let server = TestPostgres::get().await.expect("there is a server");
    let admin = admin().await;
    let weak = "rowhouse_weak";
    let create = format!("DROP ROLE IF EXISTS {weak}; CREATE ROLE {weak} LOGIN PASSWORD 'weak'");
    admin.batch_execute(&create).await.expect("a superuser may");
    let url = server.url("postgres");
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
    let url = format!("{scheme}://{weak}:weak@{host}");
    let (passed, text) = run("passes", &[("TEST_DATABASE_URL", &url)]);
    admin.batch_execute(&format!("DROP ROLE {weak}")).await.expect("a superuser may");
    let advice = format!("ALTER ROLE {weak} CREATEDB CREATEROLE");
    assert!(!passed && text.contains(&advice), "{text}");
}

#[test]
fn without_server_programs_a_test_says_how_to_get_one() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path().display().to_string();
    let nowhere = [("ROWHOUSE_DATABASE__BIN_DIR", folder.as_str()), ("TEST_DATABASE_URL", "")];
    let (passed, text) = run("passes", &nowhere);
    assert!(!passed && text.contains(&folder), "{text}");
    assert!(text.contains("TEST_DATABASE_URL"), "{text}");
}

/// The suite's own databases, in one process.
#[tokio::test]
async fn a_database_is_dropped_with_its_last_handle() {
    let database = TestDatabase::create_empty().await;
    let (name, second) = (database.name().to_owned(), database.clone());
    drop(database);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(exists(&name).await);
    drop(second);
    is_dropped_soon(&name).await;
}
