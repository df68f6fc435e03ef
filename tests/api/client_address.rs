//! The client address that the server uses for limits, with and without a trusted proxy.

use reqwest::Method;
use rowhouse::config::Settings;
use serde_json::json;

use crate::support::callers::send;
use crate::support::{Answer, TestApp};

/// Sends a login with a wrong password and the headers of a proxy.
async fn guess(app: &TestApp, headers: &[(&str, &str)]) -> Answer {
    let mut request = app.anonymous().request(Method::POST, "/api/auth/login");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = json!({ "identifier": "unknown@example.com", "password": "wrong-password" });
    send(request.json(&body)).await
}

async fn statuses(app: &TestApp, guesses: &[(&str, &str)]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for header in guesses {
        statuses.push(guess(app, &[*header]).await.status);
    }
    statuses
}

#[tokio::test]
async fn a_client_cannot_name_its_own_address() {
    let app =
        TestApp::builder().with_stopped_clock().with("limits.login_address", "1/2").spawn().await;
    let claimed = [
        ("x-forwarded-for", "198.51.100.1"),
        ("forwarded", "for=198.51.100.2"),
        ("x-forwarded-for", "198.51.100.3"),
        ("x-real-ip", "198.51.100.4"),
    ];
    assert_eq!(statuses(&app, &claimed).await, [401, 401, 429, 429]);
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    let app = TestApp::builder()
        .with_stopped_clock()
        .with("limits.login_address", "1/1")
        .with("http.trusted_proxies", "127.0.0.0/8, 10.0.0.0/8")
        .spawn()
        .await;
    let forwarded = [
        ("x-forwarded-for", "198.51.100.1"),
        ("x-forwarded-for", "198.51.100.2"),
        // The same clients, which claim to be others.
        ("x-forwarded-for", "203.0.113.1, 198.51.100.1"),
        ("x-forwarded-for", "127.0.0.1, 198.51.100.2, 10.0.0.3"),
        // The proxy does not write this header, so it comes from the client and is ignored.
        ("forwarded", "for=203.0.113.2"),
        ("forwarded", "for=203.0.113.3"),
    ];
    assert_eq!(statuses(&app, &forwarded).await, [401, 401, 429, 429, 401, 429]);
}

#[tokio::test]
async fn the_forwarded_header_names_the_client_if_the_settings_say_so() {
    let app = TestApp::builder()
        .with_stopped_clock()
        .with("limits.login_address", "1/1")
        .with("http.trusted_proxies", "127.0.0.1")
        .with("http.forwarded_header", "forwarded")
        .spawn()
        .await;
    let forwarded = [
        ("forwarded", "for=198.51.100.1;proto=https"),
        ("forwarded", "for=203.0.113.9, for=198.51.100.1"),
        ("forwarded", "for=198.51.100.2"),
        ("x-forwarded-for", "203.0.113.1"),
        ("x-forwarded-for", "203.0.113.2"),
    ];
    assert_eq!(statuses(&app, &forwarded).await, [401, 429, 401, 401, 429]);
}

#[tokio::test]
async fn all_addresses_of_one_ipv6_network_count_as_one_client() {
    let app = TestApp::builder()
        .with_stopped_clock()
        .with("limits.login_address", "1/1")
        .with("http.trusted_proxies", "127.0.0.1")
        .spawn()
        .await;
    let forwarded = [
        ("x-forwarded-for", "2001:db8:0:1::1"),
        ("x-forwarded-for", "2001:db8:0:1:ffff::2"),
        ("x-forwarded-for", "2001:db8:0:2::1"),
    ];
    assert_eq!(statuses(&app, &forwarded).await, [401, 429, 401]);
}

#[test]
fn an_invalid_proxy_setting_is_refused_by_name() {
    for (key, value, part) in [
        ("http.trusted_proxies", "10.0.0.0/8, any", "\"any\""),
        ("http.trusted_proxies", "10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("http.forwarded_header", "x-real-ip", "x-forwarded-for, forwarded"),
    ] {
        let error = Settings::from_values(&[(key, value.to_owned())]).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(part), "{error}");
    }
}
