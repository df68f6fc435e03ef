//! `finaltime` and `slidingtime`: when a record expires, and that it is not found afterwards.

use serde_json::json;
use time::Duration;

use crate::support::TestApp;
use crate::support::bunker::redacted;

#[tokio::test]
async fn a_record_expires_at_its_final_time_even_if_it_is_used() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let admin = &tenant.admin;
    let body = json!({ "profile": { "email": "ada@example.com" }, "finaltime": "24h", "slidingtime": null });
    let token = admin.call("UserCreate", body).await.ok()["token"].as_str().unwrap().to_owned();
    let read = admin.get("ada@example.com").await;
    assert_eq!(
        redacted(read.ok()),
        json!({
            "status": "ok", "token": "<uuid>", "profile": { "email": "ada@example.com" }, "version": 1,
            "finaltime": "24h", "expirationtime": "<time>",
        })
    );
    app.clock.advance(Duration::hours(23));
    let update = json!({ "mode": "token", "identity": token, "profile": { "n": 2 } });
    admin.call("UserUpdate", update.clone()).await.ok();
    admin.get("ada@example.com").await.ok();
    app.clock.advance(Duration::hours(2));
    let unlockuuid = admin.unlock().await;
    for call in ["UserGet", "UserDelete", "UserListVersions", "XTokenCreateForUser"] {
        admin.about(call, "email", "ada@example.com").await.error(404);
        admin.about(call, "token", &token).await.error(404);
    }
    admin.call("UserUpdate", update).await.error(404);
    for (call, body) in [
        ("BulkListAllUsers", json!({ "unlockuuid": unlockuuid })),
        ("UserSearch", json!({ "identity": "ada@", "unlockuuid": unlockuuid })),
        (
            "BulkListUsers",
            json!({ "users": [{ "mode": "email", "identity": "ada@example.com" }], "unlockuuid": unlockuuid }),
        ),
    ] {
        let answer = admin.call(call, body).await;
        assert_eq!(answer.ok(), &json!({ "status": "ok", "total": 0, "rows": [] }), "{call}");
    }
    // The expired record is still in the table. Its key can be taken, which erases it.
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 1);
    let again = tenant.add(json!({ "email": "ada@example.com" })).await;
    assert_ne!(again, token);
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 1);
    assert_eq!(app.count(&tenant.schema(), "profile_versions").await, 1);
}

#[tokio::test]
async fn reading_a_record_extends_its_sliding_time_up_to_its_final_time() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let body = json!({ "profile": { "login": "ada" }, "slidingtime": "1h", "finaltime": "150m" });
    let created = tenant.admin.call("UserCreate", body.clone()).await;
    created.ok(); // a bare `m` is a month in this parameter
    let body = json!({ "profile": { "login": "bob" }, "slidingtime": "1h", "finaltime": 9000 });
    tenant.admin.call("UserCreate", body).await.ok();
    let mut ends = Vec::new();
    for _ in 0..3 {
        let answer = tenant.admin.about("UserGet", "login", "bob").await;
        ends.push(answer.ok()["expirationtime"].as_i64().unwrap());
        app.clock.advance(Duration::minutes(50));
    }
    for (end, minutes) in ends.iter().zip([0, 50, 90]) {
        let off = end - ends[0] - minutes * 60;
        assert!(off.abs() < 60, "{ends:?}: the last expiry is the final time");
    }
    tenant.admin.about("UserGet", "login", "bob").await.error(404);
    // This record was not read, so its sliding time has passed.
    tenant.admin.about("UserGet", "login", "ada").await.error(404);
    let free = json!({ "mode": "login", "identity": "x", "profile": { "login": "bob" } });
    tenant.add(json!({ "login": "x" })).await;
    tenant.admin.call("UserUpdate", free).await.ok(); // an update can also take the key of an expired record
}

#[tokio::test]
async fn expired_records_versions_and_tokens_are_erased_periodically() {
    let app = TestApp::builder().with("profiles.erase_interval", "100ms").spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "stays@example.com" })).await;
    let body = json!({ "profile": { "email": "ada@example.com" }, "finaltime": "60s" });
    tenant.admin.call("UserCreate", body.clone()).await.ok();
    let deleted = json!({ "profile": { "email": "bob@example.com" }, "finaltime": "60s" });
    tenant.admin.call("UserCreate", deleted).await.ok();
    tenant.admin.about("UserDelete", "email", "bob@example.com").await.ok();
    let person = json!({ "mode": "email", "identity": "stays@example.com", "finaltime": "60s" });
    tenant.admin.call("XTokenCreateForUser", person).await.ok();
    app.clock.advance(Duration::seconds(61));
    for _ in 0..200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        if app.count(&tenant.schema(), "profile_versions").await == 1 {
            break;
        }
    }
    assert_eq!(app.schemas_with("ada@example.com").await, [""; 0]);
    assert_eq!(app.schemas_with("bob@example.com").await, [""; 0]);
    assert_eq!(app.schemas_with("stays@example.com").await, [tenant.schema()]);
    let tokens = "SELECT count(*) FROM tokens WHERE profile_id IS NOT NULL";
    assert_eq!(app.sql().await.query_one(tokens, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn invalid_durations_are_refused() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    for field in ["finaltime", "slidingtime"] {
        for bad in [
            json!("soon"),
            json!("0d"),
            json!("-1d"),
            json!("1000y"),
            json!([]),
            json!(-1),
            json!(true),
        ] {
            let body = json!({ "profile": { "login": "ada" }, field: bad });
            let answer = tenant.admin.call("UserCreate", body).await;
            assert_eq!(
                answer.error(400),
                format!("The {field} parameter has an incorrect format"),
                "{bad}"
            );
        }
    }
    for good in [
        json!("1y"),
        json!("30d"),
        json!("24h"),
        json!("3m"),
        json!("2s"),
        json!(""),
        json!(null),
        json!(60),
    ] {
        let body = json!({ "profile": {}, "finaltime": good, "slidingtime": good });
        tenant.admin.call("UserCreate", body).await.ok();
    }
}
