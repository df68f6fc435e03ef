//! `rowhouse key`, the control routes, and the root token that is being replaced.

use serde_json::json;

use super::{EMAIL, KEYS, ROTATE, call, kid_of, log_in, published, states};
use crate::support::{Program, SECRET_KEY, Snapshot, TestApp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_rotated_and_retired_on_the_command_line_and_each_change_is_an_audit_event() {
    let app = TestApp::spawn().await;
    let program = Program::on(&app.database);
    let old = states(&app).await[0].0.clone();
    let new = program.run(&["key", "rotate", "--json"]).expect(0).json();
    let kid = new["kid"].as_str().unwrap();
    assert_eq!(new["state"], "waiting");
    let again = program.run(&["key", "rotate"]).expect(0);
    assert!(again.stderr.contains(&format!("key {kid} waits already")), "{again:?}");
    let list = program.run(&["key", "list"]).expect(0).stdout;
    let words: Vec<Vec<&str>> =
        list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["KID", "STATE", "CREATED", "AT", "SIGNS", "FROM", "VERIFIES", "UNTIL"]);
    assert_eq!((words[1][0], words[1][1]), (old.as_str(), "signing"));
    assert_eq!((words[2][0], words[2][1], words[2][4]), (kid, "waiting", "-"));
    assert_ne!(words[1][4], "-", "the old key has an end");

    let without = program.run(&["key", "retire", &old]).expect(2);
    assert!(without.stderr.contains("--now"), "{without:?}");
    let unknown = program.run(&["key", "retire", "--now", "-unknown"]).expect(4);
    assert!(unknown.stderr.contains("no such key: -unknown"), "{unknown:?}");
    program.run(&["key", "retire", &old, "--now"]).expect(0);
    // So that the background job does not change the snapshot.
    app.services.audit.seal(&app.operator()).await.unwrap();
    let before = Snapshot::of(&app).await;
    program.run(&["key", "retire", &old, "--now"]).expect(0);
    assert_eq!(Snapshot::of(&app).await, before, "a second time changes nothing");
    let found = states(&app).await;
    let expected = [(old, "ended".to_owned()), (kid.to_owned(), "signing".to_owned())];
    assert_eq!(found, expected, "the waiting key signs at once");

    let sql = app.sql().await;
    let events =
        "SELECT action, actor FROM audit_events WHERE action LIKE 'signing_key.%' ORDER BY id";
    let events = sql.query(events, &[]).await.unwrap();
    let events: Vec<(String, String)> =
        events.iter().map(|row| (row.get("action"), row.get("actor"))).collect();
    let expected = ["signing_key.rotate", "signing_key.retire"];
    assert_eq!(events, expected.map(|action| (action.to_owned(), "operator".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_without_the_secret_key_of_the_servers_changes_nothing() {
    let app = TestApp::spawn().await;
    let before = Snapshot::of(&app).await;
    let program = Program::on(&app.database).with("ROWHOUSE_SECRET_KEY", "");
    let refused = program.run(&["key", "rotate"]).expect(1);
    assert!(refused.stderr.contains("ROWHOUSE_SECRET_KEY_FILE"), "{refused:?}");
    let wrong = program.with("ROWHOUSE_SECRET_KEY", &SECRET_KEY.to_uppercase());
    let refused = wrong.run(&["key", "rotate"]).expect(1);
    assert!(refused.stderr.contains("another secret key"), "{refused:?}");
    assert!(!wrong.folder().join("secret-key").exists());
    assert_eq!(Snapshot::of(&app).await, before);
    wrong.run(&["key", "list"]).expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_listed_and_rotated_over_http_and_no_answer_holds_a_private_half() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let rotated = app.root().post(ROTATE, &json!({})).await;
    assert_eq!((rotated.status, &rotated.body["state"]), (201, &json!("waiting")), "{rotated:?}");
    let again = app.root().post(ROTATE, &json!({})).await;
    assert_eq!((again.status, &again.body), (200, &rotated.body));
    let list = app.root().get(KEYS).await;
    assert_eq!(list.body["next_cursor"], json!(null));
    let keys = list.body["data"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[1]), (2, &rotated.body));
    for key in keys {
        let members: Vec<_> = key.as_object().unwrap().keys().collect();
        let expected = ["created_at", "kid", "signs_from", "state", "verifies_until"];
        assert_eq!(members, expected);
    }
    let refused = app.root().post(ROTATE, &json!({ "now": true })).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let admin = app.log_in(&app.set_up("acme").await.admin_email).await;
    assert_eq!(admin.get(KEYS).await.status, 403, "an admin of a tenant");
    assert_eq!(admin.post(ROTATE, &json!({})).await.status, 403, "an admin of a tenant");
    app.add_user("super@example.com", Some("SUPER_ADMIN")).await;
    assert_eq!(app.log_in("super@example.com").await.get(KEYS).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_root_token_stays_good_while_it_is_the_previous_one() {
    let app = TestApp::spawn().await;
    let old = app.root_token.clone();
    let both = TestApp::builder().on(app.database.clone()).with("root_token_previous", &old);
    let both = both.spawn().await;
    for token in [&old, &both.root_token] {
        assert_eq!(both.bearer(token).get("/api/tenant").await.status, 200);
        let xtoken = both.anonymous().request(reqwest::Method::POST, "/v2/TenantListTenants");
        let xtoken = xtoken.header("x-bunker-token", token).json(&json!({}));
        assert_eq!(crate::support::callers::send(xtoken).await.status, 200);
    }
    let alone = TestApp::builder().on(app.database.clone()).spawn().await;
    alone.bearer(&old).get("/api/tenant").await.refusal(401);
    let program = Program::on(&app.database).with("ROWHOUSE_ROOT_TOKEN_PREVIOUS", "hunter22");
    let refused = program.run(&["serve"]).expect(1);
    assert!(refused.stderr.contains("ROWHOUSE_ROOT_TOKEN_PREVIOUS is not a UUID"), "{refused:?}");
    assert!(!refused.stderr.contains("hunter22"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_signs_after_ten_minutes_and_is_published_before() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    app.add_user(EMAIL, None).await;
    let old = published(&app).await;
    app.root().post(ROTATE, &json!({})).await;
    let both = published(&app).await;
    assert_eq!((both.len(), &both[0]), (2, &old[0]), "published at once");
    app.clock.advance(time::Duration::seconds(599));
    let last = log_in(&app).await;
    assert_eq!(kid_of(last.token()), both[0]);
    app.clock.advance(time::Duration::seconds(1));
    assert_eq!(kid_of(log_in(&app).await.token()), both[1]);
    // The last token of the old key lives as long as any other, and the key as long as the token.
    app.clock.advance(time::Duration::seconds(898));
    assert_eq!(call(&app, last.token()).await.status, 200);
    assert_eq!(published(&app).await, both);
    app.clock.advance(time::Duration::minutes(3));
    let refused = call(&app, last.token()).await;
    refused.refusal(401);
    assert_eq!(published(&app).await, both[1..]);
    // A week later the old key is deleted, with an event.
    app.clock.advance(time::Duration::days(8));
    app.services.signing_keys.reload(&app.operator()).await.unwrap();
    assert_eq!(states(&app).await, [(both[1].clone(), "signing".to_owned())]);
    let event = "SELECT count(*) FROM audit_events WHERE action = 'signing_key.delete'";
    assert_eq!(app.sql().await.query_one(event, &[]).await.unwrap().get::<_, i64>(0), 1);
}
