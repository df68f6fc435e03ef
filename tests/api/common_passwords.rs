//! The most common passwords are refused wherever a password is set, and only there.

use reqwest::Method;
use rowhouse::config::Settings;
use serde_json::json;

use crate::support::callers::send;
use crate::support::control::{assert_problem, pointers};
use crate::support::scoped::{add_member, post_in};
use crate::support::{PASSWORD, Program, Snapshot, TestApp};

/// Common ones, also with a capital letter.
const COMMON: [&str; 4] = ["password1", "12345678", "QwertyUiop", "Football1"];

#[tokio::test]
async fn a_common_password_is_refused_wherever_a_password_is_set() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let user = add_member(&app, &acme, "una@example.com", "FDE").await;
    let (root, una) = (app.root(), app.log_in("una@example.com").await);
    let before = Snapshot::of(&app).await;
    for common in COMMON {
        let mut setup = TestApp::setup_body("other");
        setup["adminPassword"] = json!(common);
        let answer = root.post("/api/tenant/setup", &setup).await;
        answer.refusal(400);
        assert_eq!(answer.bad_rules(), [("adminPassword", "common_password")], "{common}");
        assert!(!answer.text.contains(common), "{answer:?}");

        let body = json!({ "userId": user, "newPassword": common });
        let answer = post_in(&root, acme.id, "/api/auth/reset-user-password", &body).await;
        answer.refusal(400);
        assert_eq!(answer.bad_rules(), [("newPassword", "common_password")], "{common}");

        let person = json!({ "email": "new@example.com", "password": common, "first_name": "N", "last_name": "N" });
        let tenant = json!({ "name": "Other", "slug": "other", "admin": person });
        for (method, path) in [
            (Method::POST, "/control/v1/tenants"),
            (Method::PUT, "/control/v1/tenants/by-external-id/x"),
        ] {
            let answer = send(root.request(method, path).json(&tenant)).await;
            assert_problem(&answer, 400, "invalid");
            assert_eq!(pointers(&answer), ["/admin/password: common_password"], "{common}");
        }

        let body = json!({ "current_password": PASSWORD, "new_password": common });
        let answer = una.post("/control/v1/me/password", &body).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), ["/new_password: common_password"], "{common}");
    }
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn a_common_password_is_refused_by_the_command_line() {
    let app = TestApp::spawn().await;
    let program = Program::on(&app.database);
    let arguments = [
        "tenant",
        "create",
        "--name",
        "Acme",
        "--slug",
        "acme",
        "--admin-email",
        "ada@acme.com",
        "--admin-first-name",
        "Ada",
        "--admin-last-name",
        "A",
        "--admin-password-stdin",
    ];
    let refused = program.run_with_stdin(&arguments, "password1\n").expect(2);
    let sentence = "the admin's password must not be one of the most common passwords";
    assert!(refused.stderr.contains(sentence), "{refused:?}");
    assert_eq!(Snapshot::of(&app).await.count("tenants"), 0);
}

#[test]
fn a_common_password_is_refused_in_the_settings() {
    let values = |password: &str| {
        let values = [("admin_email", "a@example.com"), ("admin_password", password)];
        values.map(|(key, value)| (key, value.to_owned())).to_vec()
    };
    let error = Settings::from_values(&values("password1")).expect_err("it is common").to_string();
    assert!(error.contains("admin_password") && error.contains("common_password"), "{error}");
    assert!(!error.contains("password1"), "{error}");
    Settings::from_values(&values(PASSWORD)).expect("the documented example can be set");
}

#[tokio::test]
async fn a_user_whose_password_was_set_before_the_rule_can_log_in() {
    let app = TestApp::spawn().await;
    app.add_user("una@example.com", None).await;
    let password = rowhouse::domain::Password::parse("password1").expect("it can be presented");
    let params = rowhouse::auth::password::Params::weakest_for_tests();
    let hasher = rowhouse::auth::password::Hasher::new(params, 1, 1).expect("they are accepted");
    let hash = hasher.hash(&password).await.expect("it can be hashed");
    let old = "UPDATE users SET password_hash = $1";
    app.sql().await.execute(old, &[&hash.as_str()]).await.expect("a user can be written");
    let body = json!({ "identifier": "una@example.com", "password": "password1" });
    assert_eq!(app.anonymous().post("/api/auth/login", &body).await.status, 200);
}
