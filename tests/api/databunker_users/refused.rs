//! Profiles, identities and sizes that are refused without storing anything.

use serde_json::json;

use crate::support::TestApp;

#[tokio::test]
async fn invalid_profiles_are_refused_and_nothing_is_stored() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let format = "The profile parameter has an incorrect format";
    let unstorable = "The profile parameter holds characters that cannot be stored";
    let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!({ "a": inner }));
    let long = "x".repeat(513);
    for (profile, message) in [
        (json!(null), "Missing API request parameters: profile"),
        (json!("{}"), format),
        (json!([{ "email": "a@b.co" }]), format),
        (json!(5), format),
        (json!(true), format),
        (json!({ "a": "\0" }), unstorable),
        (json!({ "a\0": 1 }), unstorable),
        (json!({ "email": "a\0@b.co" }), unstorable),
        (nested(70), "The profile parameter is nested too deeply"),
        (json!({ "email": 5 }), "The email parameter has an incorrect format"),
        (json!({ "email": ["a@b.co"] }), "The email parameter has an incorrect format"),
        (json!({ "login": {} }), "The login parameter has an incorrect format"),
        (json!({ "phone": true }), "The phone parameter has an incorrect format"),
        (json!({ "custom": [1] }), "The custom parameter has an incorrect format"),
        (json!({ "custom": long }), "The custom parameter is longer than 512 characters"),
    ] {
        let answer = tenant.admin.call("UserCreate", json!({ "profile": profile })).await;
        assert_eq!(answer.error(400), message, "{profile}");
    }
    let deep = format!("{{\"profile\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let lone_surrogate = r#"{"profile":{"a":"\ud800"}}"#.to_owned();
    // The form in which serde_json passes numbers of any length internally; it is refused in a request.
    let smuggled = r#"{"profile":{"a":{"$serde_json::private::Number":"1,\"login\":\"x\""}}}"#;
    for body in [deep, lone_surrogate, smuggled.to_owned(), "{\"profile\":{\"a\":1e}}".to_owned()] {
        let answer = tenant.admin.send("/v2/UserCreate", "application/json", body).await;
        assert_eq!(answer.error(400), "Failed to decode the request body");
    }
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 0);
    // Unusual but valid profiles.
    for profile in [
        json!({ "email": "no address at all" }),
        json!({ "phone": 441_234 }),
        json!({ "login": 1.5e300, "custom": -7 }),
        json!({ "a": "\u{1}\u{7f}\u{feff}\u{10ffff}", "": { "": "" } }),
        json!({ "login": "%_'\"\\;--" }),
        json!({ "email": "e", "Email": "E", "EMAIL": 5, "eMail": null }),
        nested(60),
    ] {
        let token = tenant.add(profile.clone()).await;
        let stored = tenant.admin.about("UserGet", "token", &token).await;
        assert_eq!(stored.ok()["profile"], profile);
    }
    let by_number = json!({ "mode": "phone", "identity": 441_234 });
    tenant.admin.call("UserGet", by_number).await.ok();
    tenant.admin.about("UserGet", "phone", "441234").await.ok();
    tenant.admin.about("UserGet", "login", "%_'\"\\;--").await.ok();
    tenant.admin.about("UserGet", "login", "%").await.error(404);
}

#[tokio::test]
async fn invalid_identities_are_refused() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "ada@example.com", "login": "ada" })).await;
    let long = "x".repeat(10_240);
    let mode = "The mode parameter has an incorrect format";
    let identity = "The identity parameter has an incorrect format";
    let extra = [
        ("UserUpdate", "profile", json!({ "a": 1 })),
        ("UserPatch", "patch", json!([1])),
        ("UserGet", "x", json!(1)),
        ("UserDelete", "x", json!(1)),
        ("UserListVersions", "x", json!(1)),
        ("XTokenCreateForUser", "x", json!(1)),
        ("AuditListUserEvents", "x", json!(1)),
    ];
    for (call, name, value) in extra {
        for (mode_value, identity_value, message) in [
            (json!(null), json!("ada"), "Missing API request parameters: mode"),
            (json!("login"), json!(null), "Missing API request parameters: identity"),
            (json!("login"), json!(""), "Missing API request parameters: identity"),
            (json!("login"), json!(" \t"), "Missing API request parameters: identity"),
            (json!("name"), json!("ada"), mode),
            (json!("LOGIN"), json!("ada"), mode),
            (json!("login; DROP TABLE profiles"), json!("ada"), mode),
            (json!(1), json!("ada"), mode),
            (json!("login"), json!({}), identity),
            (json!("login"), json!(["ada"]), identity),
            (json!("token"), json!("no uuid"), "Bad UUID"),
            (json!("token"), json!(5), "Bad UUID"),
            (
                json!("login"),
                json!("a\0"),
                "The identity parameter holds characters that cannot be stored",
            ),
            (json!("login"), json!(long), "The identity parameter is longer than 512 characters"),
            (json!("email"), json!(long), "The identity parameter is longer than 512 characters"),
        ] {
            let body = json!({ "mode": mode_value, "identity": identity_value, name: value });
            let answer = tenant.admin.call(call, body).await;
            assert_eq!(answer.error(400), message, "{call} {mode_value} {identity_value}");
        }
        for unknown in ["%", "_", "ad_", "ada'--", "\"ada\"", "ada\\", "' OR 1=1 --", "Ada"] {
            let body = json!({ "mode": "login", "identity": unknown, name: value });
            assert_eq!(
                tenant.admin.call(call, body).await.error(404),
                "The user record was not found"
            );
        }
    }
    tenant.admin.get("ada@example.com").await.ok();
}

#[tokio::test]
async fn a_record_of_a_million_bytes_is_stored_and_a_larger_one_is_refused() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let large = json!({ "email": "ada@example.com", "a": "x".repeat(1_000_000) });
    tenant.add(large.clone()).await;
    assert_eq!(tenant.admin.get("ada@example.com").await.ok()["profile"], large);
    let larger = json!({ "profile": { "a": "x".repeat(1 << 20) } });
    assert_eq!(
        tenant.admin.call("UserCreate", larger).await.error(400),
        "The request body is larger than 1048576 bytes"
    );
    // An update cannot make the record larger than the limit.
    let update = json!({ "mode": "email", "identity": "ada@example.com", "profile": { "b": "x".repeat(100_000) } });
    assert_eq!(
        tenant.admin.call("UserUpdate", update).await.error(400),
        "The profile parameter is longer than 1048576 characters"
    );
    assert_eq!(tenant.admin.get("ada@example.com").await.ok()["version"], 1);
}
