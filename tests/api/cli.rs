//! The built program: its output streams, its exit codes, and that it never waits for input without a terminal.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::program::finish_with_open_stdin;
use crate::support::{Caller, Completed, PASSWORD, Program, TestApp, TestDatabase};

/// The longest time that a stop may take: the documented ten seconds, and a margin for a machine that runs
/// other tests at the same time.
const STOPPED_WITHIN: Duration = Duration::from_secs(15);

/// The arguments that create a tenant, without the password.
fn tenant(slug: &str) -> Vec<String> {
    [
        "tenant",
        "create",
        "--name",
        "Acme Corp",
        "--slug",
        slug,
        "--admin-email",
        "admin@acme.com",
        "--admin-first-name",
        "Acme",
        "--admin-last-name",
        "Admin",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn create(program: &Program, slug: &str, more: &[&str]) -> Completed {
    let arguments = tenant(slug);
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("--admin-password-stdin");
    arguments.extend(more);
    program.run_with_stdin(&arguments, &format!("{PASSWORD}\n"))
}

fn slugs(list: &Completed) -> Vec<String> {
    let list = list.json();
    let tenants = list.as_array().expect("a list is an array");
    let slug = |tenant: &Value| tenant["slug"].as_str().map(str::to_owned);
    tenants.iter().filter_map(slug).collect()
}

// ---- serve -------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_writes_only_its_address_to_stdout() {
    let database = TestDatabase::create().await;
    let server = Program::on(&database).serve(&[]);
    let address = server.address.clone();
    let answer = Caller::new(&address, None).get("/readyz").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let ran = server.stop("TERM").expect(0);
    assert_eq!(ran.stdout, format!("listening on {address}\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_command_is_serve() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let mut child = program.command(env!("CARGO_BIN_EXE_rowhouse"), &[]).spawn().unwrap();
    let mut line = [0; 20];
    child.stdout.take().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"listening on http://");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_shown_when_they_are_created_and_never_again() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let server = program.serve(&[]);
    let token = std::fs::read_to_string(program.folder().join("root-token")).unwrap();
    let password = std::fs::read_to_string(program.folder().join("admin-password")).unwrap();
    let first = server.stderr_with("curl");
    assert!(first.contains(token.trim()) && first.contains(password.trim()), "{first}");
    assert!(first.contains("admin@rowhouse.localhost"), "{first}");
    server.stop("TERM").expect(0);

    let again = program.serve(&[]);
    let body = serde_json::json!({
        "identifier": "admin@rowhouse.localhost", "password": password.trim(),
    });
    let answer = Caller::new(&again.address, None).post("/api/auth/login", &body).await;
    assert_eq!(answer.status, 200, "the password is still valid: {answer:?}");
    let second = again.stderr_with("curl");
    again.stop("TERM").expect(0);
    assert!(!second.contains(token.trim()) && !second.contains(password.trim()), "{second}");
    assert!(second.contains("root-token") && second.contains("admin-password"), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_json_log_contains_one_object_a_line_and_no_secret() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let ran = program.serve(&["--log-format", "json"]).stop("TERM").expect(0);
    for line in ran.stderr.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
    for file in ["root-token", "admin-password"] {
        let secret = std::fs::read_to_string(program.folder().join(file)).unwrap();
        assert!(!ran.stderr.contains(secret.trim()), "{}", ran.stderr);
        assert!(ran.stderr.contains(file), "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_curl_command_creates_a_tenant() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let server = program.serve(&[]);
    let notice = server.stderr_with("curl");
    let line =
        notice.lines().find(|line| line.starts_with("curl")).expect("a curl command is printed");
    let pasted = program.shell(line).expect(0);
    assert_eq!(pasted.json()["slug"], "acme-corp", "{pasted:?}");
    assert_eq!(slugs(&program.run(&["tenant", "list", "--json"]).expect(0)), ["acme-corp"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_token_is_created_for_an_external_database_too() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database).with("ROWHOUSE_DATA_DIR", ".rowhouse");
    let server = program.serve(&[]);
    let notice = server.stderr_with("curl");
    assert!(program.folder().join(".rowhouse/root-token").exists());
    let line =
        notice.lines().find(|line| line.starts_with("curl")).expect("a curl command is printed");
    assert_eq!(program.shell(line).expect(0).json()["slug"], "acme-corp");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn term_and_int_stop_the_server_and_its_postgres_and_the_data_stays() {
    let program = Program::embedded();
    for (signal, slug) in [("TERM", "first"), ("INT", "second")] {
        let server = program.serve(&[]);
        create(&program, slug, &[]).expect(0);
        let ran = server.stop(signal).expect(0);
        assert!(ran.took < STOPPED_WITHIN, "{ran:?}");
        assert!(
            !program.folder().join("postgres/postmaster.pid").exists(),
            "PostgreSQL still runs"
        );
    }
    let server = program.serve(&[]);
    assert_eq!(slugs(&program.run(&["tenant", "list", "--json"]).expect(0)), ["first", "second"]);
    server.stop("TERM").expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_a_limited_time_for_a_request_and_a_second_signal_stops_at_once() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let (waiting, forced) = (program.serve(&[]), program.serve(&[]));
    let stuck = [&waiting, &forced].map(|server| {
        let mut stream = TcpStream::connect(server.authority()).unwrap();
        let head = "POST /api/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
        stream.write_all(head.as_bytes()).unwrap();
        stream
    });
    std::thread::sleep(Duration::from_millis(300));
    waiting.signal("TERM");
    forced.signal("TERM");
    let signalled = Instant::now();
    let mut forced = forced;
    forced.stderr_with("stopping");
    std::thread::sleep(Duration::from_millis(300));
    assert!(forced.is_running(), "the running request was not waited for");
    let ran = forced.stop("TERM").expect(1);
    assert!(ran.took < Duration::from_secs(6), "{ran:?}");
    let ran = waiting.wait().expect(0);
    assert!(signalled.elapsed() < STOPPED_WITHIN, "{ran:?}");
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_reported_before_anything_is_started() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = Program::embedded();
    let taken = listener.local_addr().unwrap().to_string();
    let ran = program.run(&["serve", "--listen", &taken]).expect(1);
    assert!(ran.stderr.starts_with("rowhouse: ") && ran.stderr.contains("--listen"), "{ran:?}");
    assert_eq!(std::fs::read_dir(program.folder()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_a_data_dir_is_refused_and_the_first_one_continues() {
    let program = Program::embedded();
    let server = program.serve(&[]);
    let ran = program.run(&["serve"]).expect(1);
    assert!(ran.stderr.contains("already running"), "{ran:?}");
    assert_eq!(Caller::new(&server.address, None).get("/readyz").await.status, 200);
}

// ---- commands and the database -----------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_works_with_and_without_a_running_server() {
    let program = Program::embedded();
    program.run(&["migrate"]).expect(0);
    create(&program, "acme-corp", &[]).expect(0);
    let without = program.run(&["tenant", "list"]).expect(0);
    assert!(!program.folder().join("postgres/postmaster.pid").exists(), "PostgreSQL still runs");
    let server = program.serve(&[]);
    let with = program.run(&["tenant", "list"]).expect(0);
    assert_eq!(without.stdout, with.stdout);
    assert!(with.stdout.contains("acme-corp"), "{with:?}");
    assert_eq!(with.stderr, "", "the command stopped the server");
    assert_eq!(Caller::new(&server.address, None).get("/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_commands_on_a_data_dir_share_its_server_and_none_stops_it_for_another() {
    let program = Program::embedded();
    let start_four = |arguments: &[&str]| {
        let start = |_| program.command(env!("CARGO_BIN_EXE_rowhouse"), arguments).spawn().unwrap();
        (0..4).map(start).collect::<Vec<_>>()
    };
    let wait_for_all = |children: Vec<std::process::Child>| -> Vec<String> {
        let ran = children.into_iter().map(|child| {
            let ran = child.wait_with_output().unwrap();
            assert_eq!(ran.status.code(), Some(0), "{ran:?}");
            String::from_utf8(ran.stdout).unwrap()
        });
        ran.collect()
    };
    let is_down = || !program.folder().join("postgres/postmaster.pid").exists();
    // On an empty data dir, on one with data, and while a server runs.
    wait_for_all(start_four(&["migrate"]));
    assert!(is_down(), "PostgreSQL still runs");
    create(&program, "acme-corp", &[]).expect(0);
    for _ in 0..3 {
        for list in wait_for_all(start_four(&["tenant", "list"])) {
            assert!(list.contains("acme-corp"), "{list}");
        }
        assert!(is_down(), "PostgreSQL still runs");
    }
    let server = program.serve(&[]);
    let lists = start_four(&["tenant", "list"]);
    wait_for_all(lists);
    assert_eq!(Caller::new(&server.address, None).get("/readyz").await.status, 200);
    // A server that is stopped while commands use its PostgreSQL lets them finish.
    let lists = start_four(&["tenant", "list"]);
    server.stop("TERM").expect(0);
    for list in wait_for_all(lists) {
        assert!(list.contains("acme-corp"), "{list}");
    }
    assert!(is_down(), "PostgreSQL still runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_creates_no_database_no_secret_and_no_admin() {
    let program = Program::embedded();
    for verb in [&["tenant", "list"][..], &["token", "list"], &["tenant", "show", "x"]] {
        let ran = program.run(verb).expect(1);
        assert!(ran.stderr.contains("rowhouse serve"), "{ran:?}");
        assert_eq!(std::fs::read_dir(program.folder()).unwrap().count(), 0, "{verb:?}");
    }
    program.run(&["migrate"]).expect(0);
    program.run(&["tenant", "list"]).expect(0);
    assert!(!program.folder().join("root-token").exists());
    assert!(!program.folder().join("admin-password").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_does_not_change_a_database_without_a_control_plane() {
    let database = TestDatabase::create_empty().await;
    let sql = database.connect().await;
    let count = "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace)
                     + (SELECT count(*) FROM pg_namespace WHERE nspname = 'extensions')";
    // The extension Citus has views in public.
    let before: i64 = sql.query_one(count, &[]).await.unwrap().get(0);
    let ran = Program::on(&database).run(&["tenant", "list"]).expect(1);
    assert!(ran.stderr.contains("rowhouse migrate"), "{ran:?}");
    let after: i64 = sql.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_refuses_a_control_plane_of_another_version() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let sql = database.connect().await;
    let newest = "(SELECT max(version) FROM refinery_schema_history)";
    for (statement, word) in [
        (
            format!("UPDATE refinery_schema_history SET version = 9999 WHERE version = {newest}"),
            "newer",
        ),
        (
            format!("DELETE FROM refinery_schema_history WHERE version = {newest}"),
            "rowhouse migrate",
        ),
    ] {
        sql.batch_execute(&statement).await.unwrap();
        let ran = program.run(&["tenant", "list"]).expect(1);
        assert!(ran.stderr.contains(word), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_database_is_an_error_of_one_line_without_the_password() {
    let url = "postgres://owner:hunter22@127.0.0.1:1/rowhouse";
    let ran = Program::embedded().run(&["tenant", "list", "--database-url", url]).expect(7);
    assert!(ran.stderr.starts_with("rowhouse: cannot connect to the database at"), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(!ran.stderr.contains("hunter22"), "{ran:?}");
}

// ---- migrate -----------------------------------------------------------------------------------

/// Copies the built-in tenant migrations and adds one.
fn copy_with_one_more_migration(folder: &Path, sql: &str) -> PathBuf {
    let copy = folder.join("tenant_migrations");
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tenant_migrations");
    std::fs::create_dir_all(&copy).expect("a folder can be made");
    for entry in std::fs::read_dir(built_in).expect("the built-in set can be listed").flatten() {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("a file can be copied");
    }
    std::fs::write(copy.join("V9000__create_notes.sql"), sql).expect("a file can be written");
    copy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_prepares_an_empty_database_and_has_nothing_to_do_the_second_time() {
    let database = TestDatabase::create_empty().await;
    let program = Program::on(&database);
    let first = program.run(&["migrate", "--json"]).expect(0);
    let first: Vec<Value> =
        first.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(first[0]["event"], "control_plane", "{first:?}");
    assert!(!first[0]["applied"].as_array().unwrap().is_empty(), "{first:?}");
    let second = program.run(&["migrate"]).expect(0);
    assert_eq!(second.stdout, "control plane: nothing to do\ntenants: nothing to do\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_continues_after_a_failed_tenant_names_it_and_exits_with_3() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    for slug in ["one", "broken", "three"] {
        create(&program, slug, &[]).expect(0);
    }
    let shown = program.run(&["tenant", "show", "broken", "--json"]).expect(0).json();
    let schema = shown["schema"].as_str().unwrap();
    let sql = database.connect().await;
    sql.batch_execute(&format!("CREATE TABLE {schema}.notes (id uuid)")).await.unwrap();
    let folder =
        copy_with_one_more_migration(program.folder(), "CREATE TABLE notes (id uuid PRIMARY KEY);");
    let program = program.with("ROWHOUSE_TENANT_MIGRATIONS", &folder.display().to_string());

    let ran = program.run(&["migrate"]).expect(3);
    assert!(ran.stderr.contains("] one: applied 1\n"), "{ran:?}");
    assert!(
        ran.stderr.contains(
            "] broken: failed: V9000__create_notes.sql, line 1: relation \"notes\" already exists"
        ),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("] three: applied 1\n"), "{ran:?}");
    assert!(ran.stdout.contains("2 migrated, 1 failed: broken"), "{ran:?}");

    let report = program.run(&["migrate", "--json"]).expect(3).stdout;
    let lines: Vec<Value> =
        report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tenants: Vec<&Value> = lines.iter().filter(|line| line["event"] == "tenant").collect();
    assert_eq!(tenants.len(), 1, "{report}");
    let error = tenants[0]["error"].as_str().unwrap();
    assert!(error.contains("V9000__create_notes"), "{report}");
    assert_eq!(lines.last().unwrap()["operation"]["tenants"]["failed"], 1, "{report}");

    sql.batch_execute(&format!("DROP TABLE {schema}.notes")).await.unwrap();
    let ran = program.run(&["migrate"]).expect(0);
    assert!(ran.stderr.contains("[1/1] broken: applied 1\n"), "{ran:?}");
}

// ---- tenants -----------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_created_by_the_command_line_works_like_any_other() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let made = create(&program, "acme-corp", &["--json"]).expect(0).json();
    assert_eq!((&made["slug"], &made["replayed"]), (&"acme-corp".into(), &false.into()));
    let id = made["id"].as_str().unwrap();

    let by_slug = program.run(&["tenant", "show", "acme-corp", "--json"]).expect(0).json();
    let by_id = program.run(&["tenant", "show", id, "--json"]).expect(0).json();
    assert_eq!(by_slug, by_id);
    assert_eq!(by_id["name"], "Acme Corp");
    let table = program.run(&["tenant", "list"]).expect(0);
    assert!(table.stdout.starts_with("SLUG") && table.stdout.contains(id), "{table:?}");
    assert!(!table.stdout.contains('\u{1b}'), "{table:?}");

    let app = TestApp::builder().on(database).spawn().await;
    let mine = app.log_in("admin@acme.com").await.get("/api/tenant/mine").await;
    assert_eq!(mine.body[0]["id"], id, "{mine:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_creates_one_tenant() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let key = ["--json", "--idempotency-key", "run 17"];
    let first = create(&program, "acme-corp", &key).expect(0).json();
    let again = create(&program, "acme-corp", &key).expect(0).json();
    assert_eq!((&first["id"], &first["replayed"]), (&again["id"], &false.into()));
    assert_eq!(again["replayed"], true);
    let other = create(&program, "other-corp", &key).expect(5);
    assert!(other.stderr.contains("idempotency key"), "{other:?}");
    let taken = create(&program, "acme-corp", &[]).expect(5);
    assert!(taken.stderr.contains("slug is taken"), "{taken:?}");
    assert_eq!(slugs(&program.run(&["tenant", "list", "--json"]).expect(0)), ["acme-corp"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_comes_from_stdin_or_the_environment_and_is_never_prompted_for() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let arguments = tenant("acme-corp");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let binary = env!("CARGO_BIN_EXE_rowhouse");
    for ran in [
        program.run(&arguments),
        finish_with_open_stdin(program.command(binary, &arguments)),
        program.run_with_stdin(&arguments, PASSWORD),
    ] {
        let ran = ran.expect(2);
        assert!(ran.stderr.contains("--admin-password-stdin"), "{ran:?}");
        assert!(ran.stderr.contains("ROWHOUSE_TENANT_ADMIN_PASSWORD"), "{ran:?}");
        assert!(ran.took < Duration::from_secs(10), "{ran:?}");
    }
    let program = program.with("ROWHOUSE_TENANT_ADMIN_PASSWORD", PASSWORD);
    program.run(&arguments).expect(0);
    let app = TestApp::builder().on(database).spawn().await;
    app.log_in("admin@acme.com").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stdin_overrides_the_environment_and_its_line_ending_is_not_part_of_the_password() {
    let database = TestDatabase::create().await;
    let program =
        Program::on(&database).with("ROWHOUSE_TENANT_ADMIN_PASSWORD", "not this one at all");
    let arguments = tenant("acme-corp");
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("--admin-password-stdin");
    program.run_with_stdin(&arguments, &format!("{PASSWORD}\r\nsecond line\n")).expect(0);
    let app = TestApp::builder().on(database).spawn().await;
    app.log_in("admin@acme.com").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_tenant_exits_with_4_and_prints_nothing_to_stdout() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    for which in ["unknown", "660e8400-e29b-41d4-a716-446655440000"] {
        let ran = program.run(&["tenant", "show", which, "--json"]).expect(4);
        assert_eq!(ran.stdout, "");
        let error: Value = serde_json::from_str(&ran.stderr).expect("with --json it is JSON");
        let said = format!("no such tenant: {which}");
        assert_eq!(
            error["error"],
            serde_json::json!({ "code": "tenant_not_found", "message": said })
        );
    }
    assert_eq!(program.run(&["tenant", "list", "--json"]).expect(0).stdout, "[]\n");
    assert_eq!(program.run(&["tenant", "list"]).expect(0).stdout, "");
}

// ---- tokens ------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_the_only_output_on_stdout_and_works_until_it_is_revoked() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let create = ["token", "create", "--name", "ci", "--permission", "CREATE_TENANT"];
    let made = program.run(&[&create[..], &["--expires", "30d"]].concat()).expect(0);
    let token = made.stdout.strip_suffix('\n').unwrap();
    assert!(token.starts_with("rh_") && !token.contains('\n'), "{made:?}");
    assert!(!made.stderr.contains(token), "{made:?}");

    let app = TestApp::builder().on(database.clone()).spawn().await;
    let caller = app.bearer(token);
    let body = TestApp::setup_body("acme-corp");
    assert_eq!(caller.post("/api/tenant/setup", &body).await.status, 201);
    assert_eq!(caller.get("/api/tenant").await.status, 403, "it may do nothing else");

    let list = program.run(&["token", "list", "--json"]).expect(0);
    assert!(!list.stdout.contains(token), "{list:?}");
    let list = list.json();
    assert_eq!(list[0]["permissions"], serde_json::json!(["CREATE_TENANT"]));
    assert!(list[0]["expires_at"].is_string() && list[0]["revoked_at"].is_null(), "{list}");
    let id = list[0]["id"].as_str().unwrap();
    for _ in 0..2 {
        assert_eq!(program.run(&["token", "revoke", id]).expect(0).stdout, "");
    }
    assert_eq!(caller.post("/api/tenant/setup", &body).await.status, 401);
    let table = program.run(&["token", "list"]).expect(0);
    assert!(table.stdout.contains(id) && !table.stdout.contains(token), "{table:?}");
    let unknown = "660e8400-e29b-41d4-a716-446655440000";
    program.run(&["token", "revoke", unknown]).expect(4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_can_be_bound_to_a_tenant_by_its_slug() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let made = create(&program, "acme-corp", &["--json"]).expect(0).json();
    let command = ["token", "create", "--name", "x", "--permission", "view_users", "--json"];
    let token = program.run(&[&command[..], &["--tenant", "acme-corp"]].concat()).expect(0).json();
    assert_eq!(token["tenant_id"], made["id"]);
    assert!(token["token"].as_str().unwrap().starts_with("rh_") && token["expires_at"].is_null());
    program.run(&[&command[..], &["--tenant", "unknown"]].concat()).expect(4);
}

// ---- usage errors ------------------------------------------------------------------------------

#[test]
fn a_usage_error_exits_with_2_and_leaves_stdout_empty() {
    let program = Program::embedded();
    for arguments in [
        &["fly"][..],
        &["tenant"],
        &["tenant", "create"],
        &["tenant", "list", "--jsn"],
        &["tenant", "show", "No Slug"],
        &["token", "create", "--name", "x"],
        &["token", "create", "--name", "x", "--permission", "FLY"],
        &["token", "create", "--name", "x", "--permission", "VIEW_USERS", "--expires", "soon"],
        &["token", "revoke", "rh_abc"],
        &["serve", "--admin-password", "x"],
        &["--listen", "here"],
        &["migrate", "--config", "/no/such/file.toml"],
        &["healthcheck", "--listen", "127.0.0.1:0"],
    ] {
        let ran = program.run(arguments).expect(2);
        assert_eq!(ran.stdout, "", "{arguments:?}");
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(std::fs::read_dir(program.folder()).unwrap().count(), 0);
}

#[test]
fn all_invalid_settings_and_all_invalid_arguments_are_named_together() {
    let program = Program::embedded()
        .with("ROWHOUSE_DATABASE__ISOLATION", "none")
        .with("ROWHOUSE_AUTH__ACCESS_LIFETIME", "soon");
    let ran = program.run(&["serve", "--listen", "here"]).expect(2);
    assert!(ran.stderr.starts_with("rowhouse: "), "{ran:?}");
    for name in ["listen:", "database.isolation:", "auth.access_lifetime:"] {
        assert!(ran.stderr.contains(name), "{name}: {ran:?}");
    }
    let ran = Program::embedded().shell(
        "rowhouse tenant create --name '' --slug Acme --admin-email acme --admin-first-name A --admin-last-name ''",
    );
    for flag in ["--name", "--slug", "--admin-email", "--admin-last-name"] {
        assert!(ran.stderr.contains(flag), "{flag}: {ran:?}");
    }
    assert_eq!(ran.code, Some(2));
    let short = create(&Program::embedded(), "acme", &[]);
    assert!(
        short.stderr.contains("rowhouse serve"),
        "valid arguments get as far as the database: {short:?}"
    );
}

#[test]
fn a_flag_overrides_the_environment_and_the_environment_overrides_the_file() {
    let program = Program::embedded();
    let file = program.folder().join("rowhouse.toml");
    std::fs::write(&file, "[log]\nformat = 'from the file'\n").unwrap();
    let text = |ran: Completed| ran.expect(2).stderr;
    assert!(text(program.run(&["migrate"])).contains("from the file"));
    let program = program.with("ROWHOUSE_LOG__FORMAT", "from the environment");
    assert!(text(program.run(&["migrate"])).contains("from the environment"));
    assert!(text(program.run(&["migrate", "--log-format", "a flag"])).contains("a flag"));
}

#[test]
fn an_empty_variable_counts_as_unset_and_a_variable_without_the_prefix_is_not_a_setting() {
    let program = Program::embedded()
        .with("ROWHOUSE_LISTEN", "")
        .with("ROWHOUSE_ROOT_TOKEN", "")
        .with("DATABASE_URL", "")
        .with("LISTEN", "nowhere")
        .with("ADMIN_EMAIL", "unknown");
    // With valid settings and an empty data dir, a command fails with this error.
    let ran = program.run(&["tenant", "list"]).expect(1);
    assert!(ran.stderr.contains("there is no database"), "{ran:?}");
}

// ---- healthcheck, openapi, pipes ---------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthcheck_distinguishes_ready_from_not_ready_and_has_a_timeout() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let server = program.serve(&[]);
    // A proxy of the environment is ignored, because the server is on this machine.
    let program = program.with("http_proxy", "http://127.0.0.1:1");
    let check = |address: &str| program.run(&["healthcheck", "--listen", address]);
    assert_eq!(check(server.authority()).expect(0).stdout, "ready\n");
    let any_address = server.authority().replace("127.0.0.1", "0.0.0.0");
    check(&any_address).expect(0);
    let json = program.run(&["healthcheck", "--json", "--listen", &any_address]).expect(0).json();
    assert_eq!(json["status"], "ok");

    let address = server.authority().to_owned();
    server.stop("TERM").expect(0);
    let ran = check(&address).expect(1);
    assert!(ran.stderr.starts_with("rowhouse: not ready"), "{ran:?}");

    // This listener accepts the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let ran = check(&silent.local_addr().unwrap().to_string()).expect(1);
    assert!(ran.took < Duration::from_secs(5), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openapi_prints_the_served_document_and_needs_no_settings() {
    let program = Program::embedded().with("ROWHOUSE_LISTEN", "nowhere");
    let printed = program.run(&["openapi"]).expect(0).json();
    let app = TestApp::spawn().await;
    let served = app.anonymous().get("/openapi.json").await;
    assert_eq!(printed, served.body);
}

#[test]
fn completions_contain_every_noun_for_every_shell_and_need_no_settings() {
    let program = Program::embedded().with("ROWHOUSE_LISTEN", "nowhere");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = program.run(&["completions", shell]).expect(0).stdout;
        for word in ["migrate", "tenant", "purge", "member", "audit", "--external-id"] {
            // fish omits the dashes of a flag.
            let is_known = script.contains(word) || script.contains(word.trim_start_matches('-'));
            assert!(is_known, "{word} is missing for {shell}");
        }
    }
    program.run(&["completions", "cmd"]).expect(2);
}

#[test]
fn a_closed_stdout_is_not_an_error() {
    let program = Program::embedded();
    let mut command = program.command(env!("CARGO_BIN_EXE_rowhouse"), &["openapi"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn help_and_version_go_to_stdout() {
    let program = Program::embedded();
    let help = program.run(&["--help"]).expect(0);
    assert!(help.stdout.contains("migrate") && help.stdout.contains("Exit codes"), "{help:?}");
    assert!(help.stdout.contains("[env: ROWHOUSE_LISTEN]"), "{help:?}");
    let version = program.run(&["--version"]).expect(0);
    assert_eq!(version.stdout, format!("rowhouse {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_misspelt_variable_is_a_usage_error_unless_it_is_empty() {
    let program = Program::embedded().with("ROWHOUSE_DATABASE_URL", "postgres://u:hunter22@h/d");
    let refused = program.run(&["tenant", "list"]).expect(2);
    assert!(refused.stderr.contains("did you mean ROWHOUSE_DATABASE__URL?"), "{refused:?}");
    assert!(!refused.stderr.contains("hunter22"), "{refused:?}");
    let program = Program::embedded().with("ROWHOUSE_DATABASE_URL", "");
    let ran = program.run(&["tenant", "list"]);
    assert!(!ran.stderr.contains("ROWHOUSE_DATABASE_URL"), "{ran:?}");
}
