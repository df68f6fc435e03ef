//! `http.management_listen`: the metrics, the OpenAPI document and its page at a listener of their own, or nowhere.

use reqwest::Method;
use rowhouse::app::{App, Options};
use rowhouse::config::Settings;
use serde_json::json;

use crate::support::callers::send;
use crate::support::{Caller, Program, TestApp, TestDatabase, settings_for};

const MANAGEMENT: [&str; 5] =
    ["/metrics", "/openapi.json", "/control/v1/openapi.json", "/docs", "/docs/swagger-ui.css"];
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];
const CLIENTS: [&str; 4] =
    ["/.well-known/jwks.json", "/api/tenant/mine", "/control/v1/tenants", "/status"];

/// Sends a request without comparing the answer with the document, which describes a listener with all routes.
async fn get(address: &str, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("{address}{path}")).await.expect("the server answers");
    (answer.status().as_u16(), answer.text().await.expect("the body can be read"))
}

/// Fails unless the path is unknown at this address, whatever the method.
async fn assert_unknown(address: &str, path: &str) {
    for method in [Method::GET, Method::POST, Method::OPTIONS] {
        let client = reqwest::Client::new();
        let answer = client.request(method.clone(), format!("{address}{path}")).send().await;
        let status = answer.expect("the server answers").status().as_u16();
        assert_eq!(status, 404, "{method} {path}");
    }
}

#[tokio::test]
async fn a_second_listener_serves_what_is_for_operators_and_the_first_does_not() {
    let database = TestDatabase::create().await;
    let mut values = settings_for(&database.url());
    values.push(("http.management_listen", "127.0.0.1:0".to_owned()));
    let settings = Settings::from_values(&values).expect("the settings of a test are good");
    let app = App::build(settings, Options::default()).await.expect("the server starts");
    let clients = format!("http://{}", app.addr());
    let management = app.management_addr().expect("there is a second listener");
    let management = format!("http://{management}");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(app.run_until_stopped(async {
        let _ = stopped.await;
    }));
    for path in HEALTH {
        for address in [&clients, &management] {
            let answer = get(address, path).await;
            assert_eq!(answer, (200, "{\"status\":\"ok\"}".to_owned()), "{address}{path}");
        }
    }
    for path in MANAGEMENT {
        assert_eq!(get(&management, path).await.0, 200, "{path}");
        assert_unknown(&clients, path).await;
    }
    for path in CLIENTS {
        assert!([200, 401].contains(&get(&clients, path).await.0), "{path}");
        assert_unknown(&management, path).await;
    }
    // The metrics and the document are those of the whole process.
    let metrics = get(&management, "/metrics").await.1;
    assert!(metrics.contains("route=\"/api/tenant/mine\""), "{metrics}");
    let document = get(&management, "/openapi.json").await.1;
    assert!(document.contains("/api/tenant/setup") && document.contains("/metrics"));
    // An operation of clients is refused before its credential is looked at.
    let root = Caller::new(&management, Some("0c1f6b1e-7a53-4d1c-9d53-1f0b6d0f7a11"));
    let request = root.request(Method::POST, "/api/tenant/setup").json(&json!({}));
    let status = request.send().await.expect("the server answers").status();
    assert_eq!(status.as_u16(), 404);
    stop.send(()).expect("the server still runs");
    serving.await.expect("no panic").expect("both listeners stop");
    assert!(reqwest::get(format!("{management}/healthz")).await.is_err());
    assert!(reqwest::get(format!("{clients}/healthz")).await.is_err());
}

#[tokio::test]
async fn what_is_for_operators_can_be_switched_off() {
    let app = TestApp::builder().with("http.management_listen", "off").spawn().await;
    for path in MANAGEMENT {
        assert_unknown(&app.address, path).await;
    }
    for path in HEALTH {
        assert_eq!(get(&app.address, path).await.0, 200, "{path}");
    }
    assert_eq!(app.root().get("/api/tenant").await.status, 200);
}

#[tokio::test]
async fn by_default_one_listener_serves_everything() {
    let app = TestApp::spawn().await;
    for path in MANAGEMENT.iter().chain(&HEALTH) {
        assert_eq!(send(app.anonymous().request(Method::GET, path)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn serve_prints_both_addresses() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database).with("ROWHOUSE_HTTP__MANAGEMENT_LISTEN", "127.0.0.1:0");
    let server = program.serve(&[]);
    let printed = server.stdout_with("management on ");
    let address = |label: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_else(|| panic!("{label:?} is not in {printed}")).to_owned()
    };
    let (clients, management) = (server.address.clone(), address("management on "));
    assert_eq!(get(&clients, "/metrics").await.0, 404);
    assert_eq!(get(&management, "/metrics").await.0, 200);
    assert_eq!(get(&management, "/readyz").await.0, 200);
}

#[tokio::test]
async fn a_taken_management_address_is_reported_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address").to_string();
    let database = TestDatabase::create().await;
    let mut values = settings_for(&database.url());
    values.push(("http.management_listen", address.clone()));
    let settings = Settings::from_values(&values).expect("the settings of a test are good");
    let error = App::build(settings, Options::default()).await.err().expect("the port is taken");
    let error = error.to_string();
    assert!(error.contains(&address) && error.contains("MANAGEMENT_LISTEN"), "{error}");
}
