//! `rowhouse session list|revoke`, compared with what the HTTP API answers.

use reqwest::Method;
use serde_json::json;

use crate::support::callers::send;
use crate::support::{Caller, Completed, PASSWORD, Program, TestApp};

const ADDRESS: &str = "una@example.com";

fn session(program: &Program, arguments: &[&str]) -> Completed {
    program.run(&[&["session"], arguments].concat())
}

async fn log_in(app: &TestApp, agent: &str) -> Caller {
    let body = json!({ "identifier": ADDRESS, "password": PASSWORD });
    let request = app.anonymous().request(Method::POST, "/api/auth/login");
    let answer = send(request.header("user-agent", agent).json(&body)).await;
    app.bearer(answer.body["accessToken"].as_str().expect("there is a token"))
}

async fn is_accepted(caller: &Caller) -> bool {
    caller.get("/control/v1/me").await.status == 200
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_lists_the_sessions_of_a_user_and_ends_one_or_all() {
    let app = TestApp::spawn().await;
    let program = Program::on(&app.database);
    let user = app.add_user(ADDRESS, None).await.to_string();
    app.add_user("other@example.com", None).await;
    let other = app.log_in("other@example.com").await;
    let empty = session(&program, &["list", ADDRESS]).expect(0);
    assert_eq!((empty.stdout.as_str(), empty.stderr.as_str()), ("", "the user has no sessions\n"));
    let callers =
        [log_in(&app, "first").await, log_in(&app, "second").await, log_in(&app, "").await];

    let listed = session(&program, &["list", "UNA@example.com", "--json"]).expect(0).json();
    let clients: Vec<_> = (0..3).map(|n| listed[n]["client"].clone()).collect();
    assert_eq!(clients, [json!(null), json!("second"), json!("first")]);
    let answer = callers[0].get("/control/v1/me/sessions").await;
    for n in 0..3 {
        for (cli, api) in [("id", "id"), ("created_at", "created_at"), ("expires_at", "expires_at")]
        {
            assert_eq!(listed[n][cli], answer.body["data"][n][api], "{cli}");
        }
    }
    let table = session(&program, &["list", &user]).expect(0).stdout;
    assert!(table.starts_with("ID") && table.contains("second"), "{table}");

    let id = listed[1]["id"].as_str().expect("it has an id");
    let ended = session(&program, &["revoke", ADDRESS, "--session", id]).expect(0);
    assert_eq!(ended.stderr, format!("ended 1 session of {ADDRESS}\n"));
    assert!(!is_accepted(&callers[1]).await && is_accepted(&callers[0]).await);
    let again = session(&program, &["revoke", ADDRESS, "--session", id]).expect(4);
    assert!(again.stderr.contains("no such session"), "{again:?}");

    let all = session(&program, &["revoke", &user, "--json"]).expect(0).json();
    assert_eq!(all, json!({ "sessions_ended": 2 }));
    for caller in &callers {
        assert!(!is_accepted(caller).await);
    }
    assert!(is_accepted(&other).await, "another user's session continues");
    assert_eq!(
        session(&program, &["revoke", &user, "--json"]).expect(0).json(),
        json!({ "sessions_ended": 0 })
    );
    let events =
        "SELECT count(*) FROM audit_events WHERE action = 'session.revoke' AND actor = 'operator'";
    let events = app.sql().await.query_one(events, &[]).await.expect("events can be counted");
    assert_eq!(events.get::<_, i64>(0), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_user_is_named_and_nonsense_is_refused_before_a_database_is_opened() {
    let app = TestApp::spawn().await;
    let program = Program::on(&app.database);
    for verb in ["list", "revoke"] {
        for user in ["absent@example.com", "f47ac10b-58cc-4372-a567-0e02b2c3d479"] {
            let unknown = session(&program, &[verb, user]).expect(4);
            assert_eq!(unknown.stderr, format!("rowhouse: no such user: {user}\n"));
        }
        let nonsense = session(&program, &[verb, "una"]).expect(2);
        assert!(
            nonsense.stderr.contains("neither an e-mail address nor a user id"),
            "{nonsense:?}"
        );
    }
    session(&program, &["revoke", ADDRESS, "--session", "x"]).expect(2);
}
