//! Records of people inside a tenant, one at a time: `UserCreate`, `UserGet`, `UserUpdate`, `UserPatch`, `UserDelete`.

mod bulk;
mod history;
mod lifetime;
mod own_token;
mod refused;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::bunker::redacted;
use crate::support::{BunkerTenant, TestApp};

#[tokio::test]
async fn the_documented_curls_store_a_record() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("tenantname").await;
    let by_header = r#"{"profile":{"firstname":"John","lastname":"Doe","email":"user@email.com","login":"john"}}"#;
    let admin = tenant.admin.for_tenant("tenantname");
    let answer = admin.send("/v2/UserCreate", "application/json", by_header).await;
    assert_eq!(redacted(answer.ok()), json!({ "status": "ok", "token": "<uuid>" }));
    assert_eq!(app.schemas_with("user@email.com").await, [tenant.schema()]);

    let by_host =
        by_header.replace("user@email.com", "host@email.com").replace("john\"}", "jane\"}");
    let admin = tenant.admin.at_host("tenantname.databunker-domain.com");
    let answer = admin.send("/v2/UserCreate", "application/x-www-form-urlencoded", by_host).await;
    answer.ok();
    assert_eq!(app.schemas_with("host@email.com").await, [tenant.schema()]);
}

#[tokio::test]
async fn a_record_is_read_unchanged_by_its_token_and_by_each_key() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let profile = json!({
        "email": "Ada@Example.com", "login": "ada", "phone": "+44 (0)20-7946", "custom": "legacy-1",
        "name": "Ada Łovelace 🏠", "nested": { "null": null, "list": [1, 2.50, -0.0, true, {}], "": "" },
    });
    let token = tenant.add(profile.clone()).await;
    for (mode, identity) in [
        ("token", token.as_str()),
        ("token", &token.to_uppercase()),
        ("email", "ada@example.com"),
        ("email", " ADA@EXAMPLE.COM "),
        ("login", "ada"),
        ("phone", "+440207946"),
        ("phone", "+44 (0)20-7946"),
        ("custom", "legacy-1"),
    ] {
        let answer = tenant.admin.about("UserGet", mode, identity).await;
        let expected = json!({ "status": "ok", "token": token, "profile": profile, "version": 1 });
        assert_eq!(answer.ok(), &expected, "{mode} {identity}");
    }
    // The text is returned unchanged: the order of the keys and the digits of the numbers.
    let text = r#"{"email":"b@b.co","z":1.0,"a":12345678901234567890.1230,"b":{"y":1,"x":2}}"#;
    let body = format!("{{\"profile\":{text}}}");
    tenant.admin.send("/v2/UserCreate", "application/json", body).await.ok();
    let answer = tenant.admin.get("b@b.co").await;
    assert!(answer.text.contains(text), "{}", answer.text);

    for (mode, identity) in [("email", "absent@x.co"), ("login", "Ada"), ("phone", "1")] {
        let answer = tenant.admin.about("UserGet", mode, identity).await;
        assert_eq!(answer.error(404), "The user record was not found", "{mode} {identity}");
    }
    let unknown = uuid::Uuid::new_v4().to_string();
    tenant.admin.about("UserGet", "token", &unknown).await.error(404);
}

#[tokio::test]
async fn the_same_person_in_two_tenants_is_two_records() {
    let app = TestApp::spawn().await;
    let (a, b) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
    let profile = |of: &str| json!({ "email": "ada@example.com", "login": "ada", "of": of });
    let (in_a, in_b) = (a.add(profile("acme")).await, b.add(profile("beta")).await);
    assert_ne!(in_a, in_b);
    assert_eq!(a.admin.get("ada@example.com").await.ok()["profile"]["of"], "acme");
    assert_eq!(b.admin.get("ada@example.com").await.ok()["profile"]["of"], "beta");
    // A record token of one tenant is unknown in another.
    b.admin.about("UserGet", "token", &in_a).await.error(404);
    b.admin.about("UserDelete", "token", &in_a).await.error(404);
    let update =
        json!({ "mode": "email", "identity": "ada@example.com", "profile": { "of": "changed" } });
    a.admin.call("UserUpdate", update).await.ok();
    a.admin.about("UserDelete", "login", "ada").await.ok();
    assert_eq!(b.admin.get("ada@example.com").await.ok()["profile"]["of"], "beta");
    assert_eq!(app.schemas_with("changed").await, [a.schema()]);
}

#[tokio::test]
async fn a_token_beside_another_tenants_name_is_refused_and_changes_nothing() {
    let app = TestApp::spawn().await;
    let (a, b) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
    b.add(json!({ "email": "ada@example.com" })).await;
    let unlockuuid = a.admin.unlock().await;
    let person =
        json!({ "mode": "email", "identity": "ada@example.com", "unlockuuid": unlockuuid });
    for caller in [a.admin.for_tenant("beta"), a.admin.for_tenant("absent")] {
        for (call, extra) in [
            ("UserCreate", json!({ "profile": { "email": "bob@example.com" } })),
            ("UserGet", json!({})),
            ("UserUpdate", json!({ "profile": { "email": "bob@example.com" } })),
            ("UserPatch", json!({ "patch": [{ "op": "add", "path": "/x", "value": 1 }] })),
            ("UserDelete", json!({})),
            ("UserCreateBulk", json!({ "records": [{ "profile": { "login": "x" } }] })),
            ("UserDeleteBulk", json!({ "users": [{ "mode": "login", "identity": "x" }] })),
            ("UserSearch", json!({})),
            ("UserListVersions", json!({})),
            ("BulkListUsers", json!({ "users": [{ "mode": "login", "identity": "x" }] })),
            ("BulkListAllUsers", json!({})),
            ("XTokenCreateForUser", json!({})),
            ("AuditListUserEvents", json!({})),
            ("AuditGetEvent", json!({ "auditeventuuid": unlockuuid })),
            ("TenantUpdate", json!({ "tenantname": "stolen" })),
            ("TenantGet", json!({})),
        ] {
            let mut body = person.clone();
            body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            assert_eq!(caller.call(call, body).await.error(403), "Access denied", "{call}");
            // Authorization precedes the reading of the body.
            let broken = caller.send(&format!("/v2/{call}"), "application/json", "{").await;
            assert_eq!(broken.error(403), "Access denied", "{call}");
        }
    }
    assert_eq!(app.count(&b.schema(), "profiles").await, 1);
    assert_eq!(app.count(&b.schema(), "profile_events").await, 1);
    assert_eq!(app.count(&a.schema(), "profile_events").await, 0);
}

#[tokio::test]
async fn each_key_is_unique_within_its_tenant() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let (admin, profile) = (
        &tenant.admin,
        json!({ "email": "ada@example.com", "login": "ada", "phone": "+1 555", "custom": "c-1" }),
    );
    tenant.add(profile).await;
    for (profile, key) in [
        (json!({ "email": "ada@example.com" }), "email"),
        (json!({ "email": " ADA@example.COM" }), "email"),
        (json!({ "email": "x@x.co", "login": "ada" }), "login"),
        (json!({ "phone": "+1-555" }), "phone"),
        (json!({ "custom": "c-1" }), "custom"),
    ] {
        let answer = admin.call("UserCreate", json!({ "profile": profile })).await;
        assert_eq!(answer.error(409), format!("Duplicate index: {key}"));
    }
    // Logins and custom keys are case-sensitive, a field whose name is spelled differently is no key, and
    // empty values are not keys either.
    for profile in [
        json!({ "login": "Ada" }),
        json!({ "custom": "C-1" }),
        json!({ "Email": "ada@example.com", "LOGIN": "ada" }),
        json!({ "email": "", "login": null, "phone": " " }),
        json!({}),
    ] {
        tenant.add(profile).await;
    }
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 6);
    assert_eq!(app.count(&tenant.schema(), "profile_events").await, 6);
    assert_eq!(app.count(&tenant.schema(), "profile_versions").await, 6);
}

#[tokio::test]
async fn one_of_a_hundred_concurrent_creates_of_one_address_succeeds() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let create = |n: usize| {
        let profile = json!({ "email": "ada@example.com", "n": n });
        tenant.admin.call("UserCreate", json!({ "profile": profile }))
    };
    let answers = join_all((0..100).map(create)).await;
    let created: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(created.len(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(answer.error(409), "Duplicate index: email");
    }
    let stored = tenant.admin.get("ada@example.com").await;
    assert_eq!(stored.ok()["token"], created[0].body["token"]);
    for table in ["profiles", "profile_versions", "profile_events"] {
        assert_eq!(app.count(&tenant.schema(), table).await, 1, "{table}");
    }
}

#[tokio::test]
async fn an_update_merges_the_profile_and_updates_its_keys() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let admin = &tenant.admin;
    let token = tenant
        .add(json!({ "email": "old@example.com", "name": "Ada", "phone": 1234, "a": { "b": 1, "c": 2 } }))
        .await;
    tenant.add(json!({ "email": "taken@example.com", "login": "taken" })).await;
    let update = |profile: Value| {
        admin.call("UserUpdate", json!({ "mode": "token", "identity": token, "profile": profile }))
    };
    let answer = update(json!({
        "email": "New@example.com", "name": null, "phone": "+9876543210", "a": { "b": null, "d": 3 }
    }))
    .await;
    assert_eq!(answer.ok(), &json!({ "status": "ok" }));
    let expected =
        json!({ "email": "New@example.com", "phone": "+9876543210", "a": { "c": 2, "d": 3 } });
    let now = admin.get("new@example.com").await;
    assert_eq!((&now.ok()["profile"], &now.body["version"]), (&expected, &json!(2)));
    admin.get("old@example.com").await.error(404);
    admin.about("UserGet", "phone", "1234").await.error(404);
    admin.about("UserGet", "phone", "+9876543210").await.ok();
    tenant.add(json!({ "email": "old@example.com" })).await; // available again

    for (profile, status, message) in [
        (json!({ "email": "TAKEN@example.com", "x": 1 }), 409, "Duplicate index: email"),
        (json!({ "login": "taken" }), 409, "Duplicate index: login"),
        (json!({ "email": 5 }), 400, "The email parameter has an incorrect format"),
        (json!("x"), 400, "The profile parameter has an incorrect format"),
        (json!([]), 400, "The profile parameter has an incorrect format"),
        (json!(null), 400, "Missing API request parameters: profile"),
        (
            json!({ "n": "a\0b" }),
            400,
            "The profile parameter holds characters that cannot be stored",
        ),
    ] {
        assert_eq!(update(profile).await.error(status), message);
    }
    let unchanged = admin.about("UserGet", "token", &token).await;
    assert_eq!((&unchanged.ok()["profile"], &unchanged.body["version"]), (&expected, &json!(2)));
    let unknown = json!({ "mode": "email", "identity": "absent@x.co", "profile": { "a": 1 } });
    admin.call("UserUpdate", unknown).await.error(404);
}

#[tokio::test]
async fn concurrent_updates_of_one_record_are_all_applied() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let token = tenant.add(json!({ "email": "ada@example.com" })).await;
    let change = |n: usize| {
        let person = json!({ "mode": "token", "identity": token });
        let (call, field) = match n % 2 {
            0 => ("UserUpdate", json!({ "profile": { format!("f{n}"): n } })),
            _ => (
                "UserPatch",
                json!({ "patch": [{ "op": "add", "path": format!("/f{n}"), "value": n }] }),
            ),
        };
        let mut body = person;
        body.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
        tenant.admin.call(call, body)
    };
    for answer in join_all((0..20).map(change)).await {
        answer.ok();
    }
    let stored = tenant.admin.get("ada@example.com").await;
    assert_eq!(stored.ok()["version"], 21);
    for n in 0..20 {
        assert_eq!(stored.body["profile"][format!("f{n}")], n);
    }
    assert_eq!(app.count(&tenant.schema(), "profile_versions").await, 21);
}

#[expect(clippy::too_many_lines, reason = "a table of cases, best read whole")]
#[tokio::test]
async fn a_patch_is_applied_completely_or_not_at_all() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let admin = &tenant.admin;
    tenant.add(json!({ "email": "ada@example.com", "list": [1, 2], "a~b/c": 1 })).await;
    tenant.add(json!({ "email": "taken@example.com" })).await;
    let patch = |patch: Value| {
        let body = json!({ "mode": "email", "identity": "ada@example.com", "patch": patch });
        admin.call("UserPatch", body)
    };
    let good = patch(json!([
        { "op": "test", "path": "/list/0", "value": 1 },
        { "op": "add", "path": "/list/-", "value": 1.50 },
        { "op": "replace", "path": "/a~0b~1c", "value": null },
        { "op": "copy", "from": "/list", "path": "/copy" },
        { "op": "move", "from": "/copy/0", "path": "/first" },
        { "op": "remove", "path": "/list/0" },
        { "op": "add", "path": "/login", "value": "ada" },
    ]))
    .await;
    assert_eq!(good.ok(), &json!({ "status": "ok" }));
    let expected = json!({
        "email": "ada@example.com", "list": [2, 1.50], "a~b/c": null, "copy": [2, 1.50], "first": 1,
        "login": "ada",
    });
    assert_eq!(admin.about("UserGet", "login", "ada").await.ok()["profile"], expected);

    let not_applied = "The patch could not be applied";
    let change = json!({ "op": "replace", "path": "/list", "value": "changed" });
    for (rest, status, message) in [
        (json!({ "op": "remove", "path": "/nowhere" }), 400, not_applied),
        (json!({ "op": "test", "path": "/first", "value": 2 }), 400, not_applied),
        (json!({ "op": "add", "path": "/list/9", "value": 2 }), 400, not_applied),
        (json!({ "op": "explode", "path": "/first" }), 400, not_applied),
        (json!({ "op": "add", "path": "first", "value": 1 }), 400, not_applied),
        (json!({ "op": "add", "path": "/x" }), 400, not_applied),
        (json!("remove"), 400, not_applied),
        (
            json!({ "op": "replace", "path": "", "value": [] }),
            400,
            "The patch parameter has an incorrect format",
        ),
        (
            json!({ "op": "add", "path": "/x", "value": "a\0b" }),
            400,
            "The patch parameter holds characters that cannot be stored",
        ),
        (
            json!({ "op": "add", "path": "/phone", "value": [] }),
            400,
            "The phone parameter has an incorrect format",
        ),
        (
            json!({ "op": "replace", "path": "/email", "value": "taken@example.com" }),
            409,
            "Duplicate index: email",
        ),
    ] {
        assert_eq!(patch(json!([change, rest])).await.error(status), message, "{rest}");
    }
    let doubling = vec![json!({ "op": "copy", "from": "", "path": "/list/-" }); 60];
    assert_eq!(
        patch(json!(doubling)).await.error(400),
        "The patch parameter is longer than 1048576 characters"
    );
    for (bad, message) in [
        (json!([]), "Missing API request parameters: patch"),
        (json!(null), "Missing API request parameters: patch"),
        (json!({ "op": "add" }), "The patch parameter has an incorrect format"),
    ] {
        assert_eq!(patch(bad).await.error(400), message);
    }
    let after = admin.get("ada@example.com").await;
    assert_eq!((&after.ok()["profile"], &after.body["version"]), (&expected, &json!(2)));
}

#[tokio::test]
async fn a_deleted_record_is_not_found_by_any_key_and_its_keys_can_be_reused() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let profile =
        json!({ "email": "ada@example.com", "login": "ada", "phone": "1", "custom": "c" });
    let token = tenant.add(profile.clone()).await;
    let answer = tenant.admin.about("UserDelete", "phone", "1").await;
    assert_eq!(answer.ok(), &json!({ "status": "ok" }));
    for (mode, identity) in [
        ("email", "ada@example.com"),
        ("login", "ada"),
        ("phone", "1"),
        ("custom", "c"),
        ("token", &token),
    ] {
        for call in ["UserGet", "UserDelete", "UserListVersions", "XTokenCreateForUser"] {
            let answer = tenant.admin.about(call, mode, identity).await;
            assert_eq!(answer.error(404), "The user record was not found", "{call} {mode}");
        }
    }
    assert_ne!(tenant.add(profile).await, token);
}

async fn column(sql: &Client, query: &str) -> Vec<String> {
    sql.query(query, &[])
        .await
        .expect("the column can be read")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Makes a tenant with two records. Returns the tenant and the tokens of the records.
async fn two_records(app: &TestApp) -> (BunkerTenant, String, String) {
    let tenant = app.bunker_tenant("acme").await;
    let ada = tenant.add(json!({ "email": "ada@example.com" })).await;
    let bob = tenant.add(json!({ "email": "bob@example.com" })).await;
    (tenant, ada, bob)
}
