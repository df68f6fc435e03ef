//! People inside a tenant: `UserCreate`, `UserGet`, `UserUpdate`, `UserPatch`, `UserDelete`, the bulk calls,
//! versions, expiry, and what is refused.

use futures_util::future::join_all;
use serde_json::{Value, json};
use time::Duration;
use tokio_postgres::Client;

use crate::support::bunker::redacted;
use crate::support::{BunkerTenant, TestApp};

#[tokio::test]
async fn a_person_is_stored_by_the_documented_curls() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("tenantname").await;
    let by_header = r#"{"profile":{"firstname":"John","lastname":"Doe","email":"user@email.com","login":"john"}}"#;
    let admin = tenant.admin.beside("tenantname");
    let answer = admin.send("/v2/UserCreate", "application/json", by_header).await;
    assert_eq!(redacted(answer.ok()), json!({ "status": "ok", "token": "<uuid>" }));
    assert_eq!(app.schemas_with("user@email.com").await, [tenant.schema()]);

    let by_host =
        by_header.replace("user@email.com", "host@email.com").replace("john\"}", "jane\"}");
    let admin = tenant.admin.at("tenantname.databunker-domain.com");
    let answer = admin.send("/v2/UserCreate", "application/x-www-form-urlencoded", by_host).await;
    answer.ok();
    assert_eq!(app.schemas_with("host@email.com").await, [tenant.schema()]);
}

#[tokio::test]
async fn a_record_comes_back_exactly_by_its_token_and_by_each_key() {
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
    // Letter for letter: the order of the keys, the digits of the numbers.
    let text = r#"{"email":"b@b.co","z":1.0,"a":12345678901234567890.1230,"b":{"y":1,"x":2}}"#;
    let body = format!("{{\"profile\":{text}}}");
    tenant.admin.send("/v2/UserCreate", "application/json", body).await.ok();
    let answer = tenant.admin.get("b@b.co").await;
    assert!(answer.text.contains(text), "{}", answer.text);

    for (mode, identity) in [("email", "nobody@x.co"), ("login", "Ada"), ("phone", "1")] {
        let answer = tenant.admin.about("UserGet", mode, identity).await;
        assert_eq!(answer.error(404), "The user record was not found", "{mode} {identity}");
    }
    let stranger = uuid::Uuid::new_v4().to_string();
    tenant.admin.about("UserGet", "token", &stranger).await.error(404);
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
    // A token of one tenant names nobody in another.
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
async fn a_token_beside_another_tenants_name_is_refused_and_touches_nothing() {
    let app = TestApp::spawn().await;
    let (a, b) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
    b.add(json!({ "email": "ada@example.com" })).await;
    let unlockuuid = a.admin.unlock().await;
    let person =
        json!({ "mode": "email", "identity": "ada@example.com", "unlockuuid": unlockuuid });
    for caller in [a.admin.beside("beta"), a.admin.at("beta.example.com"), a.admin.beside("nobody")]
    {
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
            // Whatever the body holds, even nothing that can be read.
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
    // Names that differ in case are two log-ins, two addresses that look alike are two people, and a
    // field that is spelled otherwise is no key.
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
async fn of_a_hundred_creates_of_one_address_exactly_one_wins() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let create = |n: usize| {
        let profile = json!({ "email": "ada@example.com", "n": n });
        tenant.admin.call("UserCreate", json!({ "profile": profile }))
    };
    let answers = join_all((0..100).map(create)).await;
    let winners: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(winners.len(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(answer.error(409), "Duplicate index: email");
    }
    let stored = tenant.admin.get("ada@example.com").await;
    assert_eq!(stored.ok()["token"], winners[0].body["token"]);
    for table in ["profiles", "profile_versions", "profile_events"] {
        assert_eq!(app.count(&tenant.schema(), table).await, 1, "{table}");
    }
}

#[tokio::test]
async fn an_update_merges_and_moves_the_keys_with_it() {
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
    tenant.add(json!({ "email": "old@example.com" })).await; // free again

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
    let nobody = json!({ "mode": "email", "identity": "nobody@x.co", "profile": { "a": 1 } });
    admin.call("UserUpdate", nobody).await.error(404);
}

#[tokio::test]
async fn updates_at_the_same_moment_lose_nothing() {
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
async fn a_patch_is_applied_whole_or_not_at_all() {
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
async fn a_deleted_record_is_found_by_nothing_and_its_keys_are_free() {
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

async fn column(sql: &Client, query: &str) -> Vec<String> {
    sql.query(query, &[]).await.expect("it can be read").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_bulk_create_stores_what_it_can_and_says_why_not_the_rest() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "taken@example.com", "login": "taken" })).await;
    let profiles = [
        json!({ "email": "one@example.com", "name": "é" }),
        json!({ "email": "Taken@example.com" }),
        json!({ "email": "two@example.com", "login": "twin" }),
        json!({ "email": "three@example.com", "login": "twin" }),
        json!("no object"),
        json!({ "email": ["x"] }),
        json!({ "phone": 4711 }),
        json!({ "a": "b\0" }),
    ];
    let mut records: Vec<Value> =
        profiles.iter().map(|p| json!({ "profile": p, "groupname": "g" })).collect();
    records.push(json!({ "groupid": 1 }));
    records.push(json!("neither"));
    let options = json!({ "records": records, "finaltime": "1y", "slidingtime": "30d" });
    let answer = tenant.admin.call("UserCreateBulk", options).await;
    let created = |at: usize| json!({ "token": "<uuid>", "profile": profiles[at] });
    let error = |at: usize, reason: &str| json!({ "profile": profiles[at], "reason": reason });
    let missing = json!({ "profile": null, "reason": "Missing API request parameters: profile" });
    assert_eq!(
        redacted(answer.ok()),
        json!({
            "status": "ok",
            "created": [created(0), created(2), created(6)],
            "errors": [
                error(1, "Duplicate index: email"),
                error(3, "Duplicate index: login"),
                error(4, "The profile parameter has an incorrect format"),
                error(5, "The email parameter has an incorrect format"),
                error(7, "The profile parameter holds characters that cannot be stored"),
                missing, missing,
            ],
        })
    );
    let stored = tenant.admin.get("one@example.com").await;
    assert_eq!(stored.ok()["token"], answer.body["created"][0]["token"]);
    assert_eq!(
        (&stored.body["finaltime"], &stored.body["slidingtime"]),
        (&json!("1y"), &json!("30d"))
    );
    assert!(stored.body["expirationtime"].is_i64(), "{stored:?}");
    for table in ["profiles", "profile_versions", "profile_events"] {
        assert_eq!(app.count(&tenant.schema(), table).await, 4, "{table}");
    }
    for (records, message) in [
        (json!([]), "Missing API request parameters: records"),
        (json!(null), "Missing API request parameters: records"),
        (json!({}), "The records parameter has an incorrect format"),
    ] {
        let answer = tenant.admin.call("UserCreateBulk", json!({ "records": records })).await;
        assert_eq!(answer.error(400), message);
    }
}

#[tokio::test]
async fn ten_thousand_records_are_stored_listed_and_deleted_in_one_call_each() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let records: Vec<Value> =
        (0..10_000).map(|n| json!({ "profile": { "login": format!("user-{n}") } })).collect();
    let answer = tenant.admin.call("UserCreateBulk", json!({ "records": records })).await;
    assert_eq!(answer.ok()["created"].as_array().map(Vec::len), Some(10_000));
    let users: Vec<Value> =
        (0..10_000).map(|n| json!({ "mode": "login", "identity": format!("user-{n}") })).collect();
    let unlockuuid = tenant.admin.unlock().await;
    let list = json!({ "users": users, "unlockuuid": unlockuuid });
    assert_eq!(tenant.admin.call("BulkListUsers", list).await.ok()["total"], 10_000);
    let answer = tenant.admin.call("UserDeleteBulk", json!({ "users": users })).await;
    assert_eq!(answer.ok(), &json!({ "status": "ok", "deleted_count": 10_000 }));
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 0);
    assert_eq!(app.count(&tenant.schema(), "profile_events").await, 20_000);
}

#[tokio::test]
async fn a_bulk_delete_passes_over_who_is_unknown_and_refuses_what_it_cannot_read() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let token = tenant.add(json!({ "email": "ada@example.com" })).await;
    tenant.add(json!({ "email": "bob@example.com" })).await;
    tenant.add(json!({ "login": "carol" })).await;
    let delete = |users: Value| tenant.admin.call("UserDeleteBulk", json!({ "users": users }));
    for (bad, message) in [
        (json!([]), "Missing API request parameters: users"),
        (json!(["ada"]), "The users parameter has an incorrect format"),
        (
            json!([{ "mode": "email", "identity": "bob@example.com" }, { "mode": "name", "identity": "x" }]),
            "The mode parameter has an incorrect format",
        ),
    ] {
        assert_eq!(delete(bad).await.error(400), message);
    }
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 3);
    let person = |mode: &str, identity: &str| json!({ "mode": mode, "identity": identity });
    let answer = delete(json!([
        person("token", &token),
        person("email", "ada@example.com"), // the same one
        person("login", "carol"),
        person("phone", "nobody's"),
    ]))
    .await;
    assert_eq!(answer.ok()["deleted_count"], 2);
    tenant.admin.get("bob@example.com").await.ok();
    let stale = json!({ "users": [person("email", "bob@example.com")], "unlockuuid": token });
    assert_eq!(
        tenant.admin.call("UserDeleteBulk", stale).await.error(403),
        "The unlockuuid value was not found or is not valid"
    );
}

#[tokio::test]
async fn a_search_takes_the_text_as_it_is_and_says_how_many_there_are() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant
        .add(json!({ "email": "ada@example.com", "login": "Ada%_1", "phone": "+44 20-7946" }))
        .await;
    tenant.add(json!({ "email": "bob@Example.com", "custom": "it's \"him\" \\ ÄÖ" })).await;
    let unlockuuid = tenant.admin.unlock().await;
    let search = |text: &str| {
        // The vendor's page shows a mode; it is not looked at.
        let body = json!({ "mode": "fuzzy", "identity": text, "unlockuuid": unlockuuid });
        tenant.admin.call("UserSearch", body)
    };
    for (text, total) in [
        ("@example.COM", 2),
        ("ada@", 1),
        ("ADA", 1),
        ("%", 1),
        ("_", 1),
        ("a%1", 0),
        ("t's \"h", 1),
        ("\\", 1),
        ("ÄÖ", 1),
        ("20 79", 1),
        ("+44 (20)", 1),
        ("-", 0),
        ("example", 0), // without an @ it is no address
    ] {
        let answer = search(text).await;
        assert_eq!(answer.ok()["total"], total, "{text}: {answer:?}");
        assert_eq!(answer.body["rows"].as_array().map(Vec::len), Some(total), "{text}");
    }
    let row = &search("ada@").await.body["rows"][0];
    assert_eq!((&row["profile"]["login"], &row["version"]), (&json!("Ada%_1"), &json!(1)));
    let long = "x".repeat(513);
    for (text, message) in [
        ("", "Missing API request parameters: identity"),
        ("  ", "Missing API request parameters: identity"),
        ("a\0", "The identity parameter holds characters that cannot be stored"),
        (long.as_str(), "The identity parameter is longer than 512 characters"),
    ] {
        assert_eq!(search(text).await.error(400), message);
    }
    let records: Vec<Value> =
        (0..105).map(|n| json!({ "profile": { "login": format!("many{n}") } })).collect();
    tenant.admin.call("UserCreateBulk", json!({ "records": records })).await.ok();
    let answer = search("many").await;
    assert_eq!(
        (&answer.ok()["total"], answer.body["rows"].as_array().map(Vec::len)),
        (&json!(105), Some(100))
    );
}

#[tokio::test]
async fn a_record_ends_at_its_final_time_whatever_happens_to_it() {
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
    // It is still in the table; its key is free all the same, and taking it erases what was there.
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 1);
    let again = tenant.add(json!({ "email": "ada@example.com" })).await;
    assert_ne!(again, token);
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 1);
    assert_eq!(app.count(&tenant.schema(), "profile_versions").await, 1);
}

#[tokio::test]
async fn reading_a_record_moves_its_sliding_end_but_not_past_its_final_one() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let body = json!({ "profile": { "login": "ada" }, "slidingtime": "1h", "finaltime": "150m" });
    let refused = tenant.admin.call("UserCreate", body.clone()).await;
    refused.ok(); // a bare m is a month
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
        assert!(off.abs() < 60, "{ends:?}: the last one ends with the final time");
    }
    tenant.admin.about("UserGet", "login", "bob").await.error(404);
    // Nobody read this one.
    tenant.admin.about("UserGet", "login", "ada").await.error(404);
    let free = json!({ "mode": "login", "identity": "x", "profile": { "login": "bob" } });
    tenant.add(json!({ "login": "x" })).await;
    tenant.admin.call("UserUpdate", free).await.ok(); // an update takes a freed key as well
}

#[tokio::test]
async fn what_has_run_out_is_erased_without_anybody_asking() {
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
async fn lengths_of_time_that_are_none_are_refused() {
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

#[tokio::test]
async fn bad_profiles_are_refused_in_form_and_nothing_is_stored() {
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
    let half_a_character = r#"{"profile":{"a":"\ud800"}}"#.to_owned();
    // How numbers of any length travel inside of the program; from outside it is a number or nothing.
    let smuggled = r#"{"profile":{"a":{"$serde_json::private::Number":"1,\"login\":\"x\""}}}"#;
    for body in [deep, half_a_character, smuggled.to_owned(), "{\"profile\":{\"a\":1e}}".to_owned()]
    {
        let answer = tenant.admin.send("/v2/UserCreate", "application/json", body).await;
        assert_eq!(answer.error(400), "Failed to decode the request body");
    }
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 0);
    // And these are odd, but good.
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
async fn bad_identities_are_refused_in_form() {
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
        for nobody in ["%", "_", "ad_", "ada'--", "\"ada\"", "ada\\", "' OR 1=1 --", "Ada"] {
            let body = json!({ "mode": "login", "identity": nobody, name: value });
            assert_eq!(
                tenant.admin.call(call, body).await.error(404),
                "The user record was not found"
            );
        }
    }
    tenant.admin.get("ada@example.com").await.ok();
}

#[tokio::test]
async fn a_record_of_a_million_bytes_is_kept_and_a_larger_one_refused() {
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
    // Changes do not add up to more.
    let update = json!({ "mode": "email", "identity": "ada@example.com", "profile": { "b": "x".repeat(100_000) } });
    assert_eq!(
        tenant.admin.call("UserUpdate", update).await.error(400),
        "The profile parameter is longer than 1048576 characters"
    );
    assert_eq!(tenant.admin.get("ada@example.com").await.ok()["version"], 1);
}

/// A tenant with two people in it.
async fn two_people(app: &TestApp) -> (BunkerTenant, String, String) {
    let tenant = app.bunker_tenant("acme").await;
    let ada = tenant.add(json!({ "email": "ada@example.com" })).await;
    let bob = tenant.add(json!({ "email": "bob@example.com" })).await;
    (tenant, ada, bob)
}

#[expect(clippy::too_many_lines, reason = "a table of cases, best read whole")]
#[tokio::test]
async fn a_persons_token_reads_its_own_record_and_does_nothing_else() {
    let app = TestApp::spawn().await;
    let (tenant, ada, bob) = two_people(&app).await;
    let other = app.bunker_tenant("beta").await;
    other.add(json!({ "email": "ada@example.com" })).await;
    let made = tenant.admin.about("XTokenCreateForUser", "email", "ada@example.com").await;
    assert_eq!(
        redacted(made.ok()),
        json!({ "status": "ok", "xtoken": "<uuid>", "token": "<uuid>" })
    );
    assert_eq!(made.body["token"], ada);
    let person = tenant.admin.with(made.body["xtoken"].as_str().unwrap());
    for caller in [&person, &person.beside("acme"), &person.at("acme.example.com")] {
        assert_eq!(caller.get("ada@example.com").await.ok()["token"], ada);
        caller.about("UserGet", "token", &ada).await.ok();
        caller.about("UserListVersions", "token", &ada).await.ok();
    }
    // Others are not told apart from nobody.
    for (mode, identity) in [
        ("email", "bob@example.com"),
        ("token", &bob),
        ("email", "nobody@example.com"),
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
    person.beside("beta").get("ada@example.com").await.error(403);
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
    // It is no credential of the other dialects either.
    let elsewhere = app.bearer(made.body["xtoken"].as_str().unwrap()).get("/api/tenant/mine").await;
    assert_eq!(elsewhere.status, 401, "{elsewhere:?}");
    // Its record gone, there is nothing left to read.
    tenant.admin.about("UserDelete", "token", &ada).await.ok();
    person.about("UserGet", "token", &ada).await.error(404);
    person.get("ada@example.com").await.error(403);
}

#[tokio::test]
async fn a_persons_token_is_good_for_ten_minutes_or_as_long_as_was_said() {
    let app = TestApp::spawn().await;
    let (tenant, ada, _) = two_people(&app).await;
    let make = |extra: Value| {
        let mut body = json!({ "mode": "token", "identity": ada });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let admin = tenant.admin.clone();
        async move {
            let answer = admin.call("XTokenCreateForUser", body).await;
            admin.with(answer.ok()["xtoken"].as_str().unwrap())
        }
    };
    let usual = make(json!({})).await;
    let short = make(json!({ "finaltime": "60s" })).await;
    let long = make(json!({ "finaltime": "30m", "slidingtime": "1s" })).await; // a bare m is a minute
    let sliding = make(json!({ "slidingtime": "1h" })).await;
    let is_good = |caller: &crate::support::Bunker| {
        let (caller, ada) = (caller.clone(), ada.clone());
        async move { caller.about("UserGet", "token", &ada).await.status == 200 }
    };
    assert!(is_good(&short).await);
    app.clock.advance(Duration::seconds(61));
    assert!(!is_good(&short).await && is_good(&usual).await);
    app.clock.advance(Duration::minutes(10));
    assert!(!is_good(&usual).await && is_good(&long).await);
    assert_eq!(usual.about("UserGet", "token", &ada).await.error(403), "Access denied");
    app.clock.advance(Duration::minutes(25));
    assert!(!is_good(&long).await && is_good(&sliding).await);
    let bad = json!({ "mode": "token", "identity": ada, "finaltime": "soon" });
    tenant.admin.call("XTokenCreateForUser", bad).await.error(400);
    let nobody = tenant.admin.about("XTokenCreateForUser", "email", "nobody@example.com").await;
    assert_eq!(nobody.error(404), "The user record was not found");
}

#[tokio::test]
async fn what_happened_to_a_record_is_told_newest_first_after_its_end_too() {
    let app = TestApp::spawn().await;
    let (tenant, ada, _) = two_people(&app).await;
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

    // No other tenant knows of it.
    let elsewhere = other.admin.call("AuditGetEvent", json!({ "auditeventuuid": event })).await;
    assert_eq!(elsewhere.error(404), "The audit event was not found");
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
