//! `POST /api/tenant/setup`.

use crate::support::TestApp;

#[tokio::test]
async fn setup_answers_201_with_id_name_and_slug() {
    let app = TestApp::spawn().await;
    let answer = app.root().post("/api/tenant/setup", &TestApp::setup_body("acme-corp")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.body["name"], "Tenant acme-corp");
    assert_eq!(answer.body["slug"], "acme-corp");
    assert_eq!(answer.body.as_object().map(serde_json::Map::len), Some(3), "{answer:?}");
}
