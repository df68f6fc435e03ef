//! The token of the person behind a record: what it permits, and for how long.

use serde_json::{Value, json};
use time::Duration;

use super::two_records;
use crate::support::TestApp;
use crate::support::bunker::redacted;

#[expect(clippy::too_many_lines, reason = "a table of cases, best read whole")]
#[tokio::test]
async fn a_persons_token_reads_its_own_record_and_does_nothing_else() {
    let app = TestApp::spawn().await;
    let (tenant, ada, bob) = two_records(&app).await;
    let other = app.bunker_tenant("beta").await;
    other.add(json!({ "email": "ada@example.com" })).await;
    let made = tenant.admin.about("XTokenCreateForUser", "email", "ada@example.com").await;
    assert_eq!(
        redacted(made.ok()),
        json!({ "status": "ok", "xtoken": "<uuid>", "token": "<uuid>" })
    );
    assert_eq!(made.body["token"], ada);
    let person = tenant.admin.with_token(made.body["xtoken"].as_str().unwrap());
    for caller in [&person, &person.for_tenant("acme"), &person.at_host("acme.example.com")] {
        assert_eq!(caller.get("ada@example.com").await.ok()["token"], ada);
        caller.about("UserGet", "token", &ada).await.ok();
        caller.about("UserListVersions", "token", &ada).await.ok();
    }
    // Other records and unknown ones get the same answer.
    for (mode, identity) in [
        ("email", "bob@example.com"),
        ("token", &bob),
        ("email", "absent@example.com"),
        ("login", "x"),
    ] {
        for call in ["UserGet", "UserListVersions"] {
            assert_eq!(
                person.about(call, mode, identity).await.error(403),
                "Access denied",
                "{identity}"
            );
        }
    }
    person.for_tenant("beta").get("ada@example.com").await.error(403);
    let own = json!({ "mode": "token", "identity": ada, "unlockuuid": ada });
    for (call, extra) in [
        ("UserUpdate", json!({ "profile": { "a": 1 } })),
        ("UserPatch", json!({ "patch": [{ "op": "add", "path": "/a", "value": 1 }] })),
        ("UserDelete", json!({})),
        ("UserCreate", json!({ "profile": {} })),
        ("UserCreateBulk", json!({ "records": [{}] })),
        ("UserDeleteBulk", json!({ "users": [{}] })),
        ("UserSearch", json!({})),
        ("BulkListUnlock", json!({})),
        ("BulkListUsers", json!({ "users": [{}] })),
        ("BulkListAllUsers", json!({})),
        ("XTokenCreateForUser", json!({})),
        ("AuditListUserEvents", json!({})),
        ("AuditGetEvent", json!({ "auditeventuuid": ada })),
        ("TenantGet", json!({})),
        ("TenantUpdate", json!({ "tenantname": "x" })),
        ("TenantCreate", json!({ "tenantname": "x", "tenantorg": "x" })),
        ("TenantDelete", json!({ "tenantid": tenant.number })),
        ("TenantListTenants", json!({})),
        ("SystemGetUserProfiles", json!({})),
        ("SystemSearchUserProfiles", json!({})),
        ("SystemDeleteUserProfiles", json!({})),
        ("SystemRestoreUserProfile", json!({})),
        ("SystemGetSystemStats", json!({})),
    ] {
        let mut body = own.clone();
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        person.call(call, body).await.error(403);
    }
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 2);
    // The other dialects do not accept it.
    let reten = app.bearer(made.body["xtoken"].as_str().unwrap()).get("/api/tenant/mine").await;
    assert_eq!(reten.status, 401, "{reten:?}");
    // Once the record is deleted, the token reads nothing.
    tenant.admin.about("UserDelete", "token", &ada).await.ok();
    person.about("UserGet", "token", &ada).await.error(404);
    person.get("ada@example.com").await.error(403);
}

#[tokio::test]
async fn a_persons_token_is_valid_for_ten_minutes_or_for_the_given_time() {
    let app = TestApp::spawn().await;
    let (tenant, ada, _) = two_records(&app).await;
    let make = |extra: Value| {
        let mut body = json!({ "mode": "token", "identity": ada });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let admin = tenant.admin.clone();
        async move {
            let answer = admin.call("XTokenCreateForUser", body).await;
            admin.with_token(answer.ok()["xtoken"].as_str().unwrap())
        }
    };
    let default = make(json!({})).await;
    let short = make(json!({ "finaltime": "60s" })).await;
    let long = make(json!({ "finaltime": "30m", "slidingtime": "1s" })).await; // a bare `m` is a minute in this call
    let sliding = make(json!({ "slidingtime": "1h" })).await;
    let is_valid = |caller: &crate::support::Bunker| {
        let (caller, ada) = (caller.clone(), ada.clone());
        async move { caller.about("UserGet", "token", &ada).await.status == 200 }
    };
    assert!(is_valid(&short).await);
    app.clock.advance(Duration::seconds(61));
    assert!(!is_valid(&short).await && is_valid(&default).await);
    app.clock.advance(Duration::minutes(10));
    assert!(!is_valid(&default).await && is_valid(&long).await);
    assert_eq!(default.about("UserGet", "token", &ada).await.error(403), "Access denied");
    app.clock.advance(Duration::minutes(25));
    assert!(!is_valid(&long).await && is_valid(&sliding).await);
    let bad = json!({ "mode": "token", "identity": ada, "finaltime": "soon" });
    tenant.admin.call("XTokenCreateForUser", bad).await.error(400);
    let unknown = tenant.admin.about("XTokenCreateForUser", "email", "absent@example.com").await;
    assert_eq!(unknown.error(404), "The user record was not found");
}
