//! A request in the log: one span with its caller, its tenant and its route, the trace of its client, and one line where
//! `log.access` asks for it.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::log::{lines_of, log};
use crate::support::{Answer, TestApp};

/// Returns the line that says how a request was answered.
#[track_caller]
fn last_line(answer: &Answer) -> Value {
    let lines = lines_of(answer);
    let ends: Vec<_> = lines.iter().filter(|line| line["http.status"].is_number()).collect();
    assert_eq!(ends.len(), 1, "one line says how a request was answered: {lines:?}");
    ends[0].clone()
}

#[tokio::test]
async fn a_request_has_one_span_with_its_caller_its_tenant_and_its_route() {
    log();
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let me = admin.get("/control/v1/me").await;
    let user = me.body["id"].as_str().map_or_else(|| me.body["user"]["id"].clone(), Into::into);
    let user = user.as_str().unwrap_or_else(|| panic!("there is a user in {me:?}")).to_owned();
    let tenant = acme.id.to_string();
    let members = "/control/v1/tenants/{tenant}/members";
    for (answer, actor, user, route) in [
        (
            admin.get("/control/v1/tenants/acme/members").await,
            format!("user:{user}"),
            json!(user),
            members,
        ),
        (
            admin.get(&format!("/control/v1/tenants/{tenant}/members")).await,
            format!("user:{user}"),
            json!(user),
            members,
        ),
        (
            app.root().get("/control/v1/tenants/acme").await,
            "root".to_owned(),
            Value::Null,
            "/control/v1/tenants/{tenant}",
        ),
    ] {
        assert_eq!(answer.status, 200, "{answer:?}");
        let line = last_line(&answer);
        assert!(line["spans"].is_null(), "there is one span: {line}");
        let span = &line["span"];
        assert_eq!(
            (&span["tenant.id"], &span["actor"], &span["user.id"], &span["http.route"]),
            (&json!(tenant), &json!(actor), &user, &json!(route)),
            "{line}"
        );
    }
    // Whose request it is stands in every line, also where the tenant is that of the credential.
    let made = app.root().post("/api/tenant/setup", &TestApp::setup_body("globex")).await;
    let id = &made.body["id"];
    assert_eq!(&last_line(&made)["span"]["tenant.id"], id, "{made:?}");
    // Nothing is said of a caller without a credential.
    let anonymous = app.anonymous().get("/api/tenant").await;
    let span = last_line(&anonymous)["span"].clone();
    assert!(span["actor"].is_null() && span["tenant.id"].is_null(), "{span}");
}

#[tokio::test]
async fn the_trace_of_a_client_is_taken_up_and_what_names_none_is_ignored() {
    log();
    let app = TestApp::spawn().await;
    let (trace, parent) = (Uuid::new_v4().simple().to_string(), "00f067aa0ba902b7");
    let ask = async |header: String| {
        let request = app.root().request(Method::GET, "/api/tenant").header("traceparent", header);
        last_line(&send(request).await)["span"].clone()
    };
    let span = ask(format!("00-{trace}-{parent}-01")).await;
    assert_eq!((&span["trace.id"], &span["trace.parent_id"]), (&json!(trace), &json!(parent)));
    for bad in
        [format!("00-{trace}-{parent}"), format!("00-{}-{parent}-01", "0".repeat(32)), "x".into()]
    {
        let span = ask(bad).await;
        assert!(span["trace.id"].is_null() && span["trace.parent_id"].is_null(), "{span}");
    }
}

#[tokio::test]
async fn each_request_has_one_line_of_the_level_info_where_the_settings_ask_for_it() {
    log();
    for (access, level) in [("off", "DEBUG"), ("on", "INFO"), ("true", "INFO")] {
        let app = TestApp::builder().with("log.access", access).spawn().await;
        for (answer, status, message) in [
            (app.root().get("/api/tenant").await, 200, "answered"),
            (app.anonymous().get("/api/tenant").await, 401, "refused"),
            (app.anonymous().get("/healthz").await, 200, "answered"),
            (app.root().post_raw("/api/tenant/setup", "{").await, 400, "refused"),
        ] {
            let line = last_line(&answer);
            assert_eq!(
                (&line["http.status"], &line["message"], &line["level"]),
                (&json!(status), &json!(message), &json!(level)),
                "{line}"
            );
            assert!(line["duration_ms"].is_number(), "{line}");
        }
    }
}
