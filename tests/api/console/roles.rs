//! Every kind of caller opens every page. A route without a line in [`LINES`] fails the test, so that none is released
//! without a decision about its callers; and each page names paths of the API that the same caller may read.

use rowhouse::domain::Permission;
use rowhouse::http::console::ROUTES;
use serde_json::Value;
use uuid::Uuid;

use super::browser::{Browser, Shown};
use crate::support::control::token_with;
use crate::support::{Caller, TestApp};

/// The callers, in the order of the columns. The first has no session; VIEWER, FDE and ADMIN are members of a tenant, the
/// second ADMIN has the role everywhere; the token has every permission in the tenant.
const COLUMNS: [&str; 8] =
    ["no session", "VIEWER", "FDE", "ADMIN", "platform ADMIN", "SUPER_ADMIN", "root", "token"];

/// The status of each page for each caller. The forms are sent empty.
const LINES: &[(&str, &str, [u16; 8])] = &[
    ("get", "/console/assets/{digest}/{file}", [200; 8]),
    ("get", "/console/login", [200, 303, 303, 303, 303, 303, 303, 303]),
    ("post", "/console/login", [400; 8]),
    ("get", "/console/invitation", [200; 8]),
    ("post", "/console/invitation", [400; 8]),
    ("get", "/console", [303, 200, 200, 200, 200, 200, 200, 200]),
    ("get", "/console/tenants", [303, 403, 403, 200, 200, 200, 200, 200]),
    ("get", "/console/tenants/new", [303, 403, 403, 403, 403, 200, 200, 403]),
    ("post", "/console/tenants/new", [303, 403, 403, 403, 403, 400, 400, 403]),
    ("get", "/console/tenants/{tenant}", [303, 403, 403, 200, 200, 200, 200, 200]),
    ("post", "/console/tenants/{tenant}", [303, 403, 403, 403, 403, 428, 428, 428]),
    ("get", "/console/tenants/{tenant}/settings", [303, 403, 403, 403, 403, 200, 200, 200]),
    ("post", "/console/tenants/{tenant}/settings", [303, 403, 403, 403, 403, 428, 428, 428]),
    ("get", "/console/tenants/{tenant}/suspend", [303, 403, 403, 403, 403, 200, 200, 200]),
    ("post", "/console/tenants/{tenant}/suspend", [303, 403, 403, 403, 403, 428, 428, 428]),
    ("get", "/console/tenants/{tenant}/resume", [303, 403, 403, 403, 403, 200, 200, 200]),
    ("post", "/console/tenants/{tenant}/resume", [303, 403, 403, 403, 403, 428, 428, 428]),
    ("get", "/console/tenants/{tenant}/delete", [303, 403, 403, 403, 403, 200, 200, 200]),
    ("post", "/console/tenants/{tenant}/delete", [303, 403, 403, 403, 403, 428, 428, 428]),
    ("get", "/console/tenants/{tenant}/restore", [303, 403, 403, 403, 403, 200, 200, 200]),
    ("post", "/console/tenants/{tenant}/restore", [303, 403, 403, 403, 403, 428, 428, 428]),
    ("get", "/console/tenants/{tenant}/purge", [303, 403, 403, 403, 403, 200, 200, 200]),
    ("post", "/console/tenants/{tenant}/purge", [303, 403, 403, 403, 403, 428, 428, 428]),
    ("get", "/console/tenants/{tenant}/members", [303, 403, 200, 200, 200, 200, 200, 200]),
    ("post", "/console/tenants/{tenant}/members", [303, 403, 403, 400, 400, 400, 400, 400]),
    (
        "post",
        "/console/tenants/{tenant}/members/{id}/role",
        [303, 403, 403, 400, 400, 400, 400, 400],
    ),
    (
        "get",
        "/console/tenants/{tenant}/members/{id}/remove",
        [303, 403, 403, 200, 200, 200, 200, 200],
    ),
    (
        "post",
        "/console/tenants/{tenant}/members/{id}/remove",
        [303, 403, 403, 404, 404, 404, 404, 404],
    ),
    (
        "get",
        "/console/tenants/{tenant}/members/{id}/password",
        [303, 403, 403, 200, 200, 200, 200, 200],
    ),
    (
        "post",
        "/console/tenants/{tenant}/members/{id}/password",
        [303, 403, 403, 400, 400, 400, 400, 400],
    ),
    ("post", "/console/tenants/{tenant}/invitations", [303, 403, 403, 400, 400, 400, 400, 400]),
    (
        "post",
        "/console/tenants/{tenant}/invitations/{id}/revoke",
        [303, 403, 403, 404, 404, 404, 404, 404],
    ),
    ("get", "/console/tenants/{tenant}/schema", [303, 403, 403, 200, 200, 200, 200, 200]),
    ("post", "/console/tenants/{tenant}/rehearse", [303, 403, 403, 403, 403, 200, 200, 403]),
    ("post", "/console/tenants/{tenant}/check", [303, 403, 403, 403, 403, 303, 303, 403]),
    ("get", "/console/archives", [303, 403, 403, 200, 200, 200, 200, 200]),
    ("get", "/console/archives/{id}/content", [303, 403, 403, 404, 404, 404, 404, 404]),
    ("post", "/console/archives/{id}/verify", [303, 403, 403, 403, 403, 404, 404, 403]),
    ("post", "/console/archives/{id}/cancel", [303, 403, 403, 403, 403, 404, 404, 403]),
    ("get", "/console/archives/{id}/delete", [303, 403, 403, 403, 403, 404, 404, 403]),
    ("post", "/console/archives/{id}/delete", [303, 403, 403, 403, 403, 404, 404, 403]),
    ("post", "/console/tenants/{tenant}/archives", [303, 403, 403, 303, 303, 303, 303, 303]),
    ("get", "/console/audit", [303, 403, 403, 200, 200, 200, 200, 200]),
    ("get", "/console/audit/export", [303, 403, 403, 200, 200, 200, 200, 200]),
    ("post", "/console/audit/verify", [303, 403, 403, 403, 200, 200, 200, 403]),
    ("get", "/console/audit/{id}", [303, 403, 403, 404, 404, 404, 404, 404]),
    ("get", "/console/tokens", [303, 403, 403, 200, 200, 200, 200, 200]),
    ("get", "/console/tokens/new", [303, 403, 403, 200, 200, 200, 200, 200]),
    ("post", "/console/tokens/new", [303, 403, 403, 400, 400, 400, 400, 400]),
    ("get", "/console/tokens/{id}/revoke", [303, 403, 403, 200, 200, 200, 200, 200]),
    ("post", "/console/tokens/{id}/revoke", [303, 403, 403, 404, 404, 404, 404, 404]),
    ("get", "/console/migrations", [303, 403, 403, 403, 200, 200, 200, 403]),
    ("post", "/console/migrations/rehearse", [303, 403, 403, 403, 403, 200, 200, 403]),
    ("get", "/console/migrations/{id}", [303, 403, 403, 403, 404, 404, 404, 403]),
    ("post", "/console/migrations/{id}/pause", [303, 403, 403, 403, 403, 404, 404, 403]),
    ("post", "/console/migrations/{id}/resume", [303, 403, 403, 403, 403, 404, 404, 403]),
    ("post", "/console/migrations/{id}/cancel", [303, 403, 403, 403, 403, 404, 404, 403]),
    ("post", "/console/migrations/{id}/retry", [303, 403, 403, 403, 403, 404, 404, 403]),
    ("post", "/console/migrations", [303, 403, 403, 403, 403, 303, 303, 403]),
    ("get", "/console/vacancies", [303, 403, 403, 403, 200, 200, 200, 403]),
    ("post", "/console/vacancies/fill", [303, 403, 403, 403, 403, 303, 303, 403]),
    ("post", "/console/vacancies/drop", [303, 403, 403, 403, 403, 303, 303, 403]),
    ("get", "/console/health", [303, 403, 403, 403, 200, 200, 200, 403]),
    ("post", "/console/health", [303, 403, 403, 403, 403, 303, 303, 403]),
    ("get", "/console/health/{id}", [303, 403, 403, 403, 404, 404, 404, 403]),
    ("get", "/console/server", [303, 403, 403, 403, 200, 200, 200, 403]),
    ("get", "/console/account", [303, 200, 200, 200, 200, 200, 200, 200]),
    ("post", "/console/account/password", [303, 400, 400, 400, 400, 400, 403, 403]),
    ("post", "/console/account/sessions/end", [303, 303, 303, 303, 303, 303, 403, 403]),
    ("post", "/console/account/sessions/{id}/end", [303, 404, 404, 404, 404, 404, 403, 403]),
    ("post", "/console/account/settings", [303; 8]),
    // The last, since it ends the session.
    ("post", "/console/logout", [303; 8]),
];

/// Paths that are no pages of the caller's data, and name no path of the API.
const WITHOUT_DATA: [&str; 4] = [
    "/console/assets/{digest}/{file}",
    "/console/login",
    "/console/invitation",
    "/console/audit/export",
];

fn path_of(pattern: &str) -> String {
    pattern
        .replace("{digest}", "0")
        .replace("{file}", "console.css")
        .replace("{tenant}", "acme")
        .replace("{id}", &Uuid::nil().to_string())
}

/// The callers: a browser, and the same caller of the API.
async fn callers(app: &TestApp) -> Vec<(Browser, Option<Caller>)> {
    let acme = app.set_up("acme").await;
    app.set_up("other").await;
    for (email, role) in [("viewer@example.com", "VIEWER"), ("fde@example.com", "FDE")] {
        let user = app.add_user(email, None).await;
        let sql = "INSERT INTO memberships (tenant_id, user_id, role, created_at, accepted_at) VALUES ($1, $2, $3, now(), now())";
        app.sql()
            .await
            .execute(sql, &[&acme.id, &user, &role])
            .await
            .expect("a membership can be changed");
    }
    app.add_user("platform@example.com", Some("ADMIN")).await;
    app.add_user("super@example.com", Some("SUPER_ADMIN")).await;
    let all: Vec<&str> = Permission::ALL.iter().map(|permission| permission.as_str()).collect();
    let token = token_with(app, &all, Some(acme.id)).await;
    let mut callers = vec![(Browser::new(app), None)];
    for email in [
        "viewer@example.com",
        "fde@example.com",
        "admin@acme.example.com",
        "platform@example.com",
        "super@example.com",
    ] {
        callers.push((Browser::signed_in(app, email).await, Some(app.log_in(email).await)));
    }
    for caller in [app.root(), token] {
        callers.push((Browser::with_token(app, caller.token()).await, Some(caller)));
    }
    callers
}

#[test]
fn every_route_has_a_line_and_every_line_a_route() {
    let mut lines: Vec<_> = LINES.iter().map(|(method, path, _)| (*method, *path)).collect();
    let mut routes = ROUTES.to_vec();
    lines.sort_unstable();
    routes.sort_unstable();
    assert_eq!(lines, routes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_gets_the_expected_status_from_every_page_and_the_same_data_from_the_api() {
    let app = TestApp::spawn().await;
    let callers = callers(&app).await;
    for (method, pattern, expected) in LINES {
        for ((browser, api), (who, status)) in callers.iter().zip(COLUMNS.into_iter().zip(expected))
        {
            let path = path_of(pattern);
            let answer = match *method {
                "get" => browser.get(&path).await,
                _ => browser.post(&path, &[]).await,
            };
            // One check, one migration and one export of a tenant run at a time.
            let is_alone = ["/check", "/health", "/migrations", "/{tenant}/archives"]
                .iter()
                .any(|e| pattern.ends_with(e));
            let is_busy = *method == "post" && is_alone && answer.status == 409;
            let what = format!("{method} {pattern} for {who}");
            assert!(answer.status == *status || is_busy, "{what}: {status} and not {answer:?}");
            if *method == "get" && *status == 200 && !WITHOUT_DATA.contains(pattern) {
                let api = api.as_ref().expect("only callers with a session see data");
                assert_parity(&answer, api, &what).await;
            }
            if answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
                assert_headers(&answer, &what);
            }
        }
    }
}

/// Each page has the policy that lets no inline script in, and is not stored.
fn assert_headers(page: &Shown, what: &str) {
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
             trusted-types default",
        ),
        ("cross-origin-opener-policy", "same-origin"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(page.header(name), Some(value), "{what}");
    }
}

/// The paths that a page names answer the same caller, and a list of the page has the rows of the answers.
async fn assert_parity(page: &Shown, api: &Caller, what: &str) {
    let alternates = page.alternates();
    assert!(!alternates.is_empty(), "{what} names no path of the API");
    let mut known: Vec<String> = Vec::new();
    for path in alternates {
        let answer = api.get(&path).await;
        assert_eq!(answer.status, 200, "{what}: {path}: {answer:?}");
        known.extend(ids(&answer.body));
    }
    let shown = page.text.split("data-id=\"").skip(1).filter_map(|rest| rest.split('"').next());
    for id in shown {
        assert!(known.iter().any(|known| known == id), "{what} shows {id}, which the API does not");
    }
}

/// Returns the ids of the rows of an answer.
fn ids(body: &Value) -> Vec<String> {
    let rows = body["data"].as_array().cloned().unwrap_or_default();
    let id = |row: &Value| row["id"].as_str().or(row["user_id"].as_str()).map(str::to_owned);
    rows.iter().filter_map(id).collect()
}
