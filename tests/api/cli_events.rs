//! `rowhouse events list|follow`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::control::transition;
use crate::support::{Program, TestApp};

/// Longer than any step takes, on a busy machine too.
const SOON: Duration = Duration::from_mins(1);

/// A running `events follow`.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(program: &Program, arguments: &[&str]) -> Self {
        let all = [&["events", "follow"], arguments].concat();
        let mut child = program
            .command(env!("CARGO_BIN_EXE_rowhouse"), &all)
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(SOON).expect("another event is printed")
    }

    fn event(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Sends a signal and returns the exit code.
    fn stop(mut self, signal: &str) -> Option<i32> {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(
            Command::new("sh").args(["-c", &kill]).status().expect("there is a shell").success()
        );
        exit(&mut self.child)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exit(child: &mut Child) -> Option<i32> {
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the child's status can be read") {
            return status.code();
        }
        assert!(since.elapsed() < SOON, "the program does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_listed_oldest_first_also_without_a_server() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let database = app.stop().await;
    let program = Program::on(&database);
    program.run(&["tenant", "suspend", "acme"]).expect(0);
    program.run(&["tenant", "resume", "acme"]).expect(0);
    let list = program.run(&["events", "list", "--json"]).expect(0);
    assert_eq!(list.stderr, "");
    let list = list.json();
    let types: Vec<_> =
        list.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["tenant.created", "tenant.suspended", "tenant.resumed"]);
    assert_eq!(list[1]["tenant"], json!({ "id": acme.id, "slug": "acme", "external_id": null }));
    assert_eq!(list[1]["actor"], "operator");
    let id = acme.id.to_string();
    for (filter, found) in [
        (&["--after", "1"][..], &types[1..]),
        (&["--after", "now"], &[]),
        (&["--type", "tenant.created,member.*"], &types[..1]),
        (&["--tenant", "acme", "--limit", "2"], &types[..2]),
        (&["--tenant", &id, "--type", "tenant.*"], &types[..]),
    ] {
        let list = program.run(&[&["events", "list", "--json"], filter].concat()).expect(0).json();
        let list: Vec<_> = list.as_array().unwrap().iter().map(|e| e["type"].clone()).collect();
        assert_eq!(json!(list), json!(found), "{filter:?}");
    }
    let cut = program.run(&["events", "list", "--limit", "1"]).expect(0);
    assert!(cut.stdout.starts_with("POSITION") && cut.stdout.contains("acme"), "{cut:?}");
    assert!(cut.stderr.contains("go on with --after 1-"), "{cut:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follow_prints_each_event_on_a_line_and_ends_at_a_signal() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let program = Program::on(&app.database);
    let (all, text) =
        (Following::start(&program, &["--json"]), Following::start(&program, &["--after", "0"]));
    let first = all.event();
    assert_eq!((&first["type"], &first["position"]), (&json!("tenant.created"), &json!(1)));
    for (verb, kind) in [("suspend", "tenant.suspended"), ("resume", "tenant.resumed")] {
        assert_eq!(transition(&app.root(), "acme", verb).await.status, 200);
        let event = all.event();
        assert_eq!(event["type"], kind);
        let path = format!("/control/v1/events/{}", event["id"].as_str().unwrap());
        assert_eq!(app.root().get(&path).await.body, event);
    }
    let since = Following::start(&program, &["--json", "--after", "2"]);
    assert_eq!(since.event()["type"], "tenant.resumed");
    let line = text.line();
    assert!(line.starts_with("1  ") && line.contains("tenant.created  acme  {"), "{line}");
    assert_eq!(all.stop("INT"), Some(0));
    assert_eq!(text.stop("TERM"), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follow_ends_when_its_reader_has_gone_also_while_there_is_nothing_to_print() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let program = Program::on(&app.database);
    let piped = program.shell("rowhouse events follow --json | head -n 1").expect(0);
    assert_eq!(piped.json()["type"], "tenant.created");
    assert_eq!(piped.stderr, "");
    let mut child = program
        .command(env!("CARGO_BIN_EXE_rowhouse"), &["events", "follow", "--after", "now"])
        .spawn()
        .expect("the program starts");
    std::thread::sleep(Duration::from_secs(1));
    drop(child.stdout.take());
    assert_eq!(exit(&mut child), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follow_goes_on_after_the_database_was_away() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let program = Program::on(&app.database).with("ROWHOUSE_DATABASE__CONNECT_TIMEOUT", "500ms");
    let following = Following::start(&program, &["--json"]);
    assert_eq!(following.event()["type"], "tenant.created");
    app.database.close().await;
    std::thread::sleep(Duration::from_secs(2));
    app.database.open().await;
    assert_eq!(transition(&app.root(), "acme", "suspend").await.status, 200);
    assert_eq!(following.event()["type"], "tenant.suspended");
    assert_eq!(following.stop("INT"), Some(0));
}

#[test]
fn a_usage_error_is_reported_without_a_database() {
    let program = Program::embedded();
    for arguments in [
        &["list", "--after", "yesterday"][..],
        &["list", "--type", "tenant.create"],
        &["list", "--tenant", "No Slug"],
        &["list", "--limit", "0"],
        &["follow", "--after", "-1"],
        &["follow", "--type", ""],
    ] {
        let ran = program.run(&[&["events"], arguments].concat()).expect(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
}
