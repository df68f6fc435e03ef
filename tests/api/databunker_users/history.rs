//! The versions and the audit events of a record.

use serde_json::{Value, json};
use time::Duration;

use super::{column, two_records};
use crate::support::TestApp;
use crate::support::bunker::redacted;

#[tokio::test]
async fn every_change_is_a_version_with_its_number_time_and_digest() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let admin = &tenant.admin;
    let token = tenant.add(json!({ "email": "ada@example.com", "n": 1 })).await;
    app.clock.advance(Duration::hours(1));
    let update = json!({ "mode": "token", "identity": token, "profile": { "n": 2 } });
    admin.call("UserUpdate", update).await.ok();
    let versions = admin.about("UserListVersions", "email", "ada@example.com").await;
    let row = |n: i32| json!({ "version": n, "optime": "<time>", "md5": "<md5>" });
    assert_eq!(redacted(versions.ok()), json!({ "status": "ok", "versions": [row(1), row(2)] }));
    let time = |at: usize| versions.body["versions"][at]["optime"].as_i64().unwrap();
    assert!((3600..3700).contains(&(time(1) - time(0))), "{versions:?}");
    let digests: Vec<String> = column(
        &app.sql().await,
        &format!(
            "SELECT md5(profile::text) FROM {}.profile_versions ORDER BY version",
            tenant.schema()
        ),
    )
    .await;
    for (at, digest) in digests.iter().enumerate() {
        assert_eq!(&versions.body["versions"][at]["md5"], digest);
    }
    let read = |version: Value| {
        admin.call("UserGet", json!({ "mode": "token", "identity": token, "version": version }))
    };
    for (version, n) in
        [(json!(1), 1), (json!("1"), 1), (json!(2), 2), (json!(0), 2), (json!(null), 2)]
    {
        let answer = read(version).await;
        assert_eq!((&answer.ok()["profile"]["n"], &answer.body["version"]), (&json!(n), &json!(n)));
    }
    assert_eq!(read(json!(3)).await.error(404), "The user record was not found");
    assert_eq!(read(json!(-1)).await.error(404), "The user record was not found");
    for bad in [json!("x"), json!(1i64 << 40)] {
        assert_eq!(read(bad).await.error(400), "The version parameter has an incorrect format");
    }
}

#[tokio::test]
async fn the_events_of_a_record_are_listed_newest_first_and_remain_after_its_deletion() {
    let app = TestApp::spawn().await;
    let (tenant, ada, _) = two_records(&app).await;
    let other = app.bunker_tenant("beta").await;
    let update = json!({ "mode": "token", "identity": ada, "profile": { "a": 1 } });
    tenant.admin.call("UserUpdate", update).await.ok();
    tenant.admin.about("XTokenCreateForUser", "token", &ada).await.ok();
    tenant.admin.about("UserDelete", "token", &ada).await.ok();
    let events = tenant.admin.about("AuditListUserEvents", "token", &ada).await;
    let row = |what: &str| json!({ "auditeventuuid": "<uuid>", "eventtype": what, "timestamp": "<time>" });
    let rows = ["profile.delete", "profile.token", "profile.update", "profile.create"].map(row);
    assert_eq!(redacted(events.ok()), json!({ "status": "ok", "total": 4, "rows": rows }));
    let page = json!({ "mode": "token", "identity": ada, "offset": 1, "limit": 2 });
    let page = tenant.admin.call("AuditListUserEvents", page).await;
    assert_eq!(redacted(&page.ok()["rows"]), json!([rows[1], rows[2]]));
    assert_eq!(page.body["total"], 4);

    let event = events.body["rows"][2]["auditeventuuid"].clone();
    let read = tenant.admin.call("AuditGetEvent", json!({ "auditeventuuid": event })).await;
    assert_eq!(
        (&read.ok()["eventtype"], &read.body["details"]["token"]),
        (&json!("profile.update"), &json!(ada))
    );
    let actor = read.body["details"]["actor"].as_str().unwrap();
    assert!(actor.starts_with("token:") && !actor.contains(&tenant.xtoken), "{actor}");
    let request_id = read.body["details"]["requestid"].as_str().unwrap();
    assert!(uuid::Uuid::try_parse(request_id).is_ok(), "{request_id}");

    // Another tenant does not find the event.
    let foreign = other.admin.call("AuditGetEvent", json!({ "auditeventuuid": event })).await;
    assert_eq!(foreign.error(404), "The audit event was not found");
    other.admin.about("AuditListUserEvents", "token", &ada).await.error(404);
    for (bad, message) in [
        (json!("x"), "Bad UUID"),
        (json!(null), "Missing API request parameters: auditeventuuid"),
        (json!(5), "The auditeventuuid parameter has an incorrect format"),
    ] {
        let answer = tenant.admin.call("AuditGetEvent", json!({ "auditeventuuid": bad })).await;
        assert_eq!(answer.error(400), message);
    }
}
