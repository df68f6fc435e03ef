//! Log-in and refresh from pages of other sites: a cookie is only given to, and only works for, pages that the settings
//! know.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::callers::send;
use crate::support::{Answer, PASSWORD, TestApp};

const LOGIN: &str = "/api/auth/login";
const REFRESH: &str = "/api/auth/refresh";
const UNA: &str = "una@example.com";
const ALLOWED: &str = "https://app.example.com";

/// The headers that a browser sends for a page that the settings do not know.
const FOREIGN: [&[(&str, &str)]; 7] = [
    &[("origin", "https://evil.example")],
    &[("origin", "null")],
    &[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")],
    &[("origin", "https://other.example.com"), ("sec-fetch-site", "same-site")],
    &[("sec-fetch-site", "cross-site")],
    &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
    &[("origin", "https://app.example.com.evil.example"), ("sec-fetch-site", "cross-site")],
];

async fn spawn() -> TestApp {
    let app = TestApp::builder().with("http.cors_origins", ALLOWED).spawn().await;
    app.add_user(UNA, None).await;
    app
}

fn with(request: RequestBuilder, headers: &[(&str, &str)]) -> RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

async fn log_in(app: &TestApp, media_type: &str, headers: &[(&str, &str)]) -> Answer {
    let body = json!({ "identifier": UNA, "password": PASSWORD }).to_string();
    let request = app.anonymous().request(Method::POST, LOGIN).header("content-type", media_type);
    send(with(request, headers).body(body)).await
}

async fn refresh(app: &TestApp, cookie: &str, headers: &[(&str, &str)]) -> Answer {
    let request = app.anonymous().request(Method::POST, REFRESH).header("cookie", cookie);
    send(with(request, headers)).await
}

/// Returns the cookie as a browser sends it back.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie in {answer:?}"));
    set.split(';').next().expect("a cookie has a value").to_owned()
}

async fn sessions(app: &TestApp) -> i64 {
    let counted = app.sql().await.query_one("SELECT count(*) FROM sessions", &[]).await;
    counted.expect("sessions can be counted").get(0)
}

#[tokio::test]
async fn a_page_of_another_site_can_not_log_its_visitor_in() {
    let app = spawn().await;
    for headers in FOREIGN {
        for media_type in ["text/plain", "application/json", "application/x-www-form-urlencoded"] {
            let answer = log_in(&app, media_type, headers).await;
            let message = "A page of another site may not do this; its origin must be allowed";
            assert_eq!(answer.refusal(403), message, "{headers:?}");
            assert_eq!(answer.header("set-cookie"), None, "{headers:?}");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{headers:?}");
        }
    }
    assert_eq!(sessions(&app).await, 0);
}

#[tokio::test]
async fn a_page_of_another_site_can_not_use_the_refresh_cookie_up() {
    let app = spawn().await;
    let kept = cookie(&log_in(&app, "application/json", &[]).await);
    for headers in FOREIGN {
        let answer = refresh(&app, &kept, headers).await;
        answer.refusal(403);
        assert_eq!(answer.header("set-cookie"), None, "{headers:?}");
    }
    // Used up, it would end the session now.
    assert_eq!(refresh(&app, &kept, &[]).await.status, 200);
}

#[tokio::test]
async fn pages_of_the_server_and_of_allowed_origins_log_in_and_refresh() {
    let app = spawn().await;
    let own = app.address.clone();
    for headers in [
        &[][..],
        &[("origin", ALLOWED)],
        &[("origin", ALLOWED), ("sec-fetch-site", "cross-site")],
        &[("origin", ALLOWED), ("sec-fetch-site", "same-site")],
        &[("origin", own.as_str())],
        &[("origin", own.as_str()), ("sec-fetch-site", "same-origin")],
        // A proxy that rewrites the host; the browser knows better.
        &[("origin", "https://public.example.com"), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
    ] {
        let answer = log_in(&app, "application/json", headers).await;
        assert_eq!(answer.status, 200, "{headers:?}: {answer:?}");
        let refreshed = refresh(&app, &cookie(&answer), headers).await;
        assert_eq!(refreshed.status, 200, "{headers:?}: {refreshed:?}");
        cookie(&refreshed);
    }
}

#[tokio::test]
async fn a_log_in_that_a_form_could_have_sent_gets_a_token_and_no_cookie() {
    let app = spawn().await;
    for media_type in
        ["text/plain", "text/plain;charset=UTF-8", "TEXT/PLAIN", "multipart/form-data; boundary=x"]
    {
        let answer = log_in(&app, media_type, &[]).await;
        assert_eq!(answer.status, 200, "{media_type}: {answer:?}");
        assert!(answer.body["accessToken"].is_string(), "{media_type}");
        assert_eq!(answer.header("set-cookie"), None, "{media_type}");
    }
    // curl labels JSON as a form where its user gives no type; a form itself cannot write JSON in this type.
    for media_type in ["application/json", "application/x-www-form-urlencoded"] {
        cookie(&log_in(&app, media_type, &[]).await);
    }
}
