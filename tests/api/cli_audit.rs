//! `rowhouse audit list|verify`.

use serde_json::{Value, json};

use crate::support::control::transition;
use crate::support::{Completed, Program, TestApp};

async fn fixture() -> (TestApp, Program) {
    let app = TestApp::builder().with("tenants.purge_interval", "1h").spawn().await;
    let program = Program::on(&app.database);
    (app, program)
}

fn audit(program: &Program, arguments: &[&str]) -> Completed {
    program.run(&[&["audit"], arguments].concat())
}

fn actions(list: &Completed) -> Vec<String> {
    let list = list.json();
    let rows = list.as_array().expect("a list is an array");
    rows.iter().map(|row| row["action"].as_str().expect("a text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_listed_newest_first_and_a_truncated_list_says_so() {
    let (app, program) = fixture().await;
    assert_eq!(audit(&program, &["list", "--json"]).expect(0).stdout, "[]\n");
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    program.run(&["tenant", "suspend", "acme"]).expect(0);
    assert_eq!(transition(&app.root(), "acme", "resume").await.status, 200);

    let all = ["tenant.resume", "tenant.suspend", "tenant.create", "tenant.create"];
    let list = audit(&program, &["list", "--json"]).expect(0);
    assert_eq!(actions(&list), all);
    assert_eq!(list.stderr, "");
    let list = list.json();
    assert_eq!((&list[0]["actor"], &list[0]["tenant_id"]), (&json!("root"), &json!(acme.id)));
    assert_ne!(list[1]["actor"], "root", "the command line has its own actor: {list}");
    assert_eq!(list[1]["details"]["to"], "suspended");
    let cut = audit(&program, &["list", "--json", "--limit", "3"]).expect(0);
    assert_eq!(actions(&cut), all[..3]);
    assert!(cut.stderr.contains("there are older events"), "{cut:?}");

    let (acme_id, other_id) = (acme.id.to_string(), other.id.to_string());
    let at = list[1]["created_at"].as_str().expect("a time").to_owned();
    for (filter, found) in [
        (&["--tenant", "acme"][..], &all[..3]),
        (&["--tenant", &acme_id], &all[..3]),
        (&["--tenant", &other_id], &all[3..]),
        (&["--action", "tenant.suspend"], &all[1..2]),
        (&["--actor", "unknown"], &[]),
        (&["--since", &at], &all[..2]),
        (&["--until", &at], &all[2..]),
        (&["--since", "1h"], &all[..]),
        (&["--until", "1h"], &[]),
    ] {
        let list = audit(&program, &[&["list", "--json"], filter].concat()).expect(0);
        assert_eq!(actions(&list), found, "{filter:?}");
    }
    let table = audit(&program, &["list", "--action", "tenant.suspend"]).expect(0).stdout;
    assert!(table.starts_with("AT") && table.contains(&acme_id), "{table}");

    for verb in ["delete", "purge"] {
        program.run(&["tenant", verb, "acme", "--yes"]).expect(0);
    }
    let after_purge = audit(&program, &["list", "--json", "--tenant", &acme_id]).expect(0);
    assert_eq!(actions(&after_purge).first().map(String::as_str), Some("tenant.purge"));
    let unknown = audit(&program, &["list", "--tenant", "acme"]).expect(4);
    assert_eq!(unknown.stderr, "rowhouse: no such tenant: acme\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_list_is_read_in_pages_and_is_complete() {
    let (app, program) = fixture().await;
    app.sql()
        .await
        .batch_execute(
            "INSERT INTO audit_events (id, at, actor, action, request_id, details)
             SELECT gen_random_uuid(), now() - make_interval(secs => n), 'test', 'test.event', 'x', '{}'
               FROM generate_series(1, 2500) AS n",
        )
        .await
        .expect("events can be written");
    let list = audit(&program, &["list", "--json", "--limit", "2499"]).expect(0);
    assert_eq!(actions(&list).len(), 2499);
    assert!(list.stderr.contains("there are older events"), "{}", list.stderr);
    let list = audit(&program, &["list", "--json", "--limit", "100000"]).expect(0);
    assert_eq!((actions(&list).len(), list.stderr.as_str()), (2500, ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_reports_the_first_event_that_was_changed_or_removed() {
    let (app, program) = fixture().await;
    for slug in ["one", "two", "three"] {
        app.set_up(slug).await;
    }
    let whole = audit(&program, &["verify", "--json"]).expect(0).json();
    assert_eq!((&whole["intact"], &whole["event_count"]), (&json!(true), &json!(3)));
    assert_eq!(whole["broken"], Value::Null);
    let head = whole["head"].as_str().expect("there is a head");
    let report = audit(&program, &["verify"]).expect(0);
    assert_eq!(report.stdout, format!("the chain of 3 events is intact; its head is {head}\n"));

    let sql = app.sql().await;
    sql.batch_execute("UPDATE audit_events SET actor = 'mallory' WHERE position = 2")
        .await
        .unwrap();
    let changed = audit(&program, &["verify", "--json"]).expect(1);
    let verdict = changed.json();
    assert_eq!((&verdict["intact"], &verdict["head"]), (&json!(false), &json!(head)));
    let broken = &verdict["broken"];
    assert_eq!((&broken["position"], &broken["fault"]), (&json!(2), &json!("changed")));
    assert_eq!(broken["event"]["actor"], "mallory");
    let id = broken["event"]["id"].as_str().expect("an event has an id");
    for report in [&changed.stderr, &audit(&program, &["verify"]).expect(1).stderr] {
        let words = ["audit event 2 of 3 was changed", "tenant.create", "mallory", id];
        assert!(words.iter().all(|word| report.contains(word)), "{report}");
    }

    sql.batch_execute("DELETE FROM audit_events WHERE position = 2").await.unwrap();
    let removed = audit(&program, &["verify", "--json"]).expect(1);
    assert!(removed.stderr.contains("audit event 2 of 3 was removed"), "{removed:?}");
    let broken = &removed.json()["broken"];
    assert_eq!(broken, &json!({ "position": 2, "fault": "missing", "event": null }));
}

#[test]
fn a_usage_error_is_reported_without_a_database() {
    let program = Program::embedded();
    for arguments in [
        &["list", "--tenant", "No Slug"][..],
        &["list", "--since", "yesterday"],
        &["list", "--until", "2026-11-21"],
        &["list", "--limit", "0"],
        &["list", "--limit", "many"],
        &["verify", "acme"],
    ] {
        let ran = audit(&program, arguments).expect(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
}
