//! `rowhouse tenant import`: each tenant once, whatever happens in the middle.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Program, Snapshot, TestApp, TestDatabase};

/// The longest wait for something that comes soon.
const SOON: Duration = Duration::from_mins(2);

fn remote(address: &str, token: &str) -> Program {
    Program::embedded().with("ROWHOUSE_SERVER", address).with("ROWHOUSE_TOKEN", token)
}

fn csv(count: usize) -> String {
    let mut text = "external_id,slug,name\n".to_owned();
    for n in 1..=count {
        let _ = writeln!(text, "crm-{n},tenant-{n},\"Tenant, {n}\"");
    }
    text
}

/// Returns how many tenants a state file says are done.
fn done_in(file: &Path) -> usize {
    let text = std::fs::read(file).unwrap_or_default();
    let state: Value = serde_json::from_slice(&text).unwrap_or_default();
    state["done"].as_object().map_or(0, serde_json::Map::len)
}

/// Starts an import and waits until its state says that `done` tenants are done; false if it has ended before.
fn start_until(program: &Program, done: usize) -> (Child, bool) {
    let verb =
        ["tenant", "import", "tenants.csv", "--workers", "4", "--resume", "state.json", "--json"];
    let mut child =
        program.command(env!("CARGO_BIN_EXE_rowhouse"), &verb).spawn().expect("it starts");
    let (file, since) = (program.folder().join("state.json"), Instant::now());
    while done_in(&file) < done {
        if child.try_wait().expect("it can be asked").is_some() {
            return (child, false);
        }
        assert!(since.elapsed() < SOON, "the import stands still");
        std::thread::sleep(Duration::from_millis(5));
    }
    (child, true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_tenants_are_each_made_once_although_the_import_is_killed_three_times() {
    let app = TestApp::spawn().await;
    let program = remote(&app.address, &app.root_token);
    std::fs::write(program.folder().join("tenants.csv"), csv(500)).unwrap();
    for done in [60, 180, 330] {
        let (mut child, reached) = start_until(&program, done);
        assert!(reached, "it ended before it was killed");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
    let verb =
        ["tenant", "import", "tenants.csv", "--workers", "4", "--resume", "state.json", "--json"];
    let last = program.run(&verb).expect(0).json();
    assert_eq!(
        (&last["total"], &last["failed"], &last["not_tried"]),
        (&json!(500), &json!(0), &json!(0))
    );
    assert!(last["done_before"].as_u64().unwrap() >= 330, "{}", last["done_before"]);
    let sql = "SELECT count(*), count(DISTINCT external_id), (SELECT count(*) FROM audit_events WHERE action = 'tenant.create') FROM tenants";
    let row = app.sql().await.query_one(sql, &[]).await.unwrap();
    let counts: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(counts, [500; 3]);
    let again = program.run(&verb).expect(0).json();
    assert_eq!((&again["done_before"], &again["created"]), (&json!(500), &json!(0)));
    // Without the state each is found again.
    let found = program.run(&["tenant", "import", "tenants.csv"]).expect(0);
    assert_eq!(found.stdout, "500 tenants: 500 unchanged\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_in_the_middle_stops_the_import_which_then_goes_on() {
    let database = TestDatabase::create().await;
    let server = Program::on(&database);
    let running = server.serve(&[]);
    let token = std::fs::read_to_string(server.folder().join("root-token")).unwrap();
    let program = remote(&running.address, token.trim());
    let port = running.authority().to_owned();
    std::fs::write(program.folder().join("tenants.csv"), csv(60)).unwrap();
    let (child, reached) = start_until(&program, 10);
    assert!(reached, "it ended before the server was gone");
    running.stop("KILL");
    let ran = child.wait_with_output().expect("it ends");
    assert_eq!(ran.status.code(), Some(7), "{ran:?}");
    let error: Value = serde_json::from_slice(&ran.stderr).expect("one line of JSON");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("of 60 tenants are done: run it again"), "{message}");
    let told: Value = serde_json::from_slice(&ran.stdout).expect("what was done is told");
    assert!(told["not_tried"].as_u64().unwrap() > 0, "{told}");

    let running = server.serve(&["--listen", &port]);
    let verb = ["tenant", "import", "tenants.csv", "--resume", "state.json", "--json"];
    let rest = program.run(&verb).expect(0).json();
    assert_eq!((&rest["failed"], &rest["not_tried"]), (&json!(0), &json!(0)), "{rest}");
    let count = "SELECT count(*), count(DISTINCT slug) FROM tenants";
    let row = database.connect().await.query_one(count, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (60, 60));
    running.stop("TERM").expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_with_a_wrong_line_makes_no_tenant() {
    let app = TestApp::spawn().await;
    let local = Program::on(&app.database);
    let remote = remote(&app.address, &app.root_token);
    let lines: Vec<String> = csv(300).lines().map(str::to_owned).collect();
    let broken = |line: usize, text: &str| {
        let mut lines = lines.clone();
        text.clone_into(&mut lines[line - 1]);
        lines.join("\n")
    };
    for program in [&local, &remote] {
        for (text, words) in [
            (broken(217, "crm-216,\"tenant-216,Tenant"), "line 217: a double quote is not closed"),
            (broken(217, "crm-216"), "line 217: it has 1 fields, and there are 3 columns"),
            (broken(217, "crm-216,Tenant 216,x"), "line 217: the slug must consist"),
            (
                broken(217, "crm-216,tenant-4,x"),
                "line 217: the slug tenant-4 is that of line 5 too",
            ),
            (
                broken(217, "crm-4,tenant-216,x"),
                "line 217: the external id crm-4 is that of line 5 too",
            ),
            (broken(1, "external_id,slug,nmae"), "line 1: \"nmae\" is not one of"),
            (String::new(), "no line names a tenant"),
        ] {
            std::fs::write(program.folder().join("bad.csv"), text).unwrap();
            let refused =
                program.run(&["tenant", "import", "bad.csv", "--resume", "s.json"]).expect(2);
            assert!(
                refused.stderr.contains(words) && refused.stdout.is_empty(),
                "{words}: {refused:?}"
            );
            assert!(!program.folder().join("s.json").exists());
        }
        std::fs::write(program.folder().join("bad.csv"), b"slug\n\xff\xfe\n").unwrap();
        program.run(&["tenant", "import", "bad.csv"]).expect(2);
        program.run(&["tenant", "import", "absent.csv"]).expect(2);
        std::fs::write(program.folder().join("good.csv"), "slug\na\n").unwrap();
        std::fs::write(program.folder().join("other.json"), "{\"name\": \"x\"}").unwrap();
        for state in ["other.json", "no/such/folder.json"] {
            let refused =
                program.run(&["tenant", "import", "good.csv", "--resume", state]).expect(2);
            assert!(refused.stderr.contains(state), "{refused:?}");
        }
    }
    let row = app.sql().await.query_one("SELECT count(*) FROM tenants", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0, "nothing half done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_cannot_be_applied_is_told_and_the_others_are_done() {
    let app = TestApp::spawn().await;
    app.set_up("taken").await;
    app.add_user("ada@acme.com", None).await;
    let local = Program::on(&app.database);
    // With a byte order mark and the line ends of another system.
    let text = "\u{feff}slug,external_id,admin_email,expires_in,settings\r\n\
                taken,x-1,,,\r\n\
                one,x-2,ada@acme.com,24h,\"{\"\"plan\"\": \"\"pro\"\"}\"\r\n\
                two,x-3,no@body.com,,\r\n";
    std::fs::write(local.folder().join("list.csv"), text).unwrap();
    let ran = local.run(&["tenant", "import", "list.csv", "--json"]).expect(3).json();
    assert_eq!((&ran["created"], &ran["failed"]), (&json!(1), &json!(2)), "{ran}");
    let row = |number: usize| &ran["tenants"][number];
    assert_eq!((&row(0)["line"], &row(0)["error"]["code"]), (&json!(2), &json!("slug_taken")));
    assert_eq!((&row(1)["outcome"], &row(2)["outcome"]), (&json!("created"), &json!("failed")));
    let one = app.root().get("/control/v1/tenants/one").await;
    assert_eq!(one.body["settings"], json!({ "plan": "pro" }));
    assert!(one.body["expires_at"].is_string(), "{one:?}");
    // A line that was changed is done again, and the others are not.
    std::fs::write(local.folder().join("list.csv"), "slug,name\na,A\nb,B\n").unwrap();
    let verb = ["tenant", "import", "list.csv", "--resume", "s.json", "--json"];
    local.run(&verb).expect(0);
    std::fs::write(local.folder().join("list.csv"), "slug,name\na,A\nb,Bee\n").unwrap();
    let ran = local.run(&verb).expect(0).json();
    assert_eq!((&ran["done_before"], &ran["changed"]), (&json!(1), &json!(1)), "{ran}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_of_each_line_what_would_be_done_and_changes_nothing() {
    let app = TestApp::spawn().await;
    app.set_up("taken").await;
    let (local, remote) = (Program::on(&app.database), remote(&app.address, &app.root_token));
    let write = |text: &str| {
        for program in [&local, &remote] {
            std::fs::write(program.folder().join("list.csv"), text).unwrap();
        }
    };
    write("slug,name\nsame,Same\nother,Other\nold,Old\n");
    local.run(&["tenant", "import", "list.csv"]).expect(0);
    write("slug,name,external_id\nsame,Same,\nother,New,\ntaken,x,x-1\nmoved,Old,old\nnew,New,\n");
    // So that the background job does not change the snapshot.
    app.services.audit.seal(&app.operator()).await.unwrap();
    let before = Snapshot::of(&app).await;
    let verb = ["tenant", "import", "list.csv", "--dry-run", "--resume", "state.json"];
    let mut told = Vec::new();
    for program in [&local, &remote] {
        let ran = program.run(&verb).expect(3);
        let counts = "5 tenants: 1 created, 1 changed, 1 unchanged, 2 failed; nothing was changed";
        assert_eq!(ran.stdout, format!("{counts}\n"));
        for line in [
            "line 2: same would be unchanged",
            "line 3: other would be changed (name)",
            "line 4: taken would have failed: the slug is taken",
            "line 5: moved would have failed: the tenant with this external id differs in slug",
            "line 6: new would be created",
        ] {
            assert!(ran.stderr.lines().any(|told| told.ends_with(line)), "{line}: {ran:?}");
        }
        told.push(program.run(&[&verb[..], &["--json"]].concat()).expect(3).json());
        assert!(!program.folder().join("state.json").exists());
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0]["tenants"][2]["error"]["code"], "slug_taken");
    assert_eq!(told[0]["tenants"][3]["error"]["code"], "external_id_differs");
    assert_eq!(Snapshot::of(&app).await, before);
    // What it said is what happens.
    let ran = local.run(&["tenant", "import", "list.csv", "--json"]).expect(3).json();
    for (said, done) in told[0]["tenants"].as_array().unwrap().iter().zip(0..) {
        assert_eq!(said["outcome"], ran["tenants"][done]["outcome"], "{said}");
        assert_eq!(said["error"]["code"], ran["tenants"][done]["error"]["code"], "{said}");
    }
}
