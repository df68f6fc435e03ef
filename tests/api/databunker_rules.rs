//! Rules of every call of Databunker's dialect: authentication, the tenant, and the form of requests and answers.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bunker::{raw, schemas};
use crate::support::callers::send;
use crate::support::{Answer, Bunker, TestApp, is_behind_a_pooler};

/// Every call of version 2.
const CALLS: [&str; 25] = [
    "TenantCreate",
    "TenantGet",
    "TenantUpdate",
    "TenantListTenants",
    "TenantDelete",
    "UserCreate",
    "UserGet",
    "UserUpdate",
    "UserPatch",
    "UserDelete",
    "UserDeleteBulk",
    "UserCreateBulk",
    "UserSearch",
    "UserListVersions",
    "XTokenCreateForUser",
    "AuditListUserEvents",
    "AuditGetEvent",
    "BulkListUnlock",
    "BulkListUsers",
    "BulkListAllUsers",
    "SystemGetUserProfiles",
    "SystemSearchUserProfiles",
    "SystemDeleteUserProfiles",
    "SystemRestoreUserProfile",
    "SystemGetSystemStats",
];

#[tokio::test]
async fn a_call_without_a_valid_token_is_403_access_denied() {
    let app = TestApp::spawn().await;
    app.bunker_tenant("acme").await;
    let anonymous = app.bunker_anonymous();
    let unknown_token = uuid::Uuid::new_v4().to_string();
    let root_in_capitals = app.root_token.to_uppercase();
    let bad = [
        anonymous.clone(),
        anonymous.with_token(""),
        anonymous.with_token(" "),
        anonymous.with_token("DEMO"),
        anonymous.with_token(&unknown_token),
        anonymous.with_token(&root_in_capitals[1..]),
        anonymous.with_token("rh_0123456789"),
        anonymous.with_token("' OR 1=1 --"),
        anonymous.with_token(&"x".repeat(4000)),
    ];
    for call in CALLS {
        for caller in [&bad[0], &bad[4]] {
            assert_eq!(caller.call(call, json!({})).await.error(403), "Access denied", "{call}");
        }
    }
    for caller in &bad {
        let path = "/v2/UserGet";
        for body in ["{}", "{", ""] {
            assert_eq!(
                caller.send(path, "application/json", body).await.error(403),
                "Access denied"
            );
        }
        assert_eq!(
            caller.for_tenant("acme").call("UserGet", json!({})).await.error(403),
            "Access denied"
        );
    }
    // Reten's bearer token is no credential in this dialect.
    let bearer = app.root().post("/v2/TenantListTenants", &json!({})).await;
    assert_eq!(bearer.error(403), "Access denied");
    let bytes = "POST /v2/UserGet HTTP/1.1\r\nHost: x\r\nX-Bunker-Token: \u{fffd}\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(&app, bytes).await.0, 403);
}

#[tokio::test]
async fn an_unknown_call_is_a_404_and_another_method_a_405_in_this_dialects_form() {
    let app = TestApp::spawn().await;
    let root = app.bunker_root();
    for caller in [&root, &app.bunker_anonymous()] {
        for (method, path) in [
            (Method::POST, "/v2/NoSuchCall"),
            (Method::POST, "/v2/usercreate"),
            (Method::POST, "/v2/UserCreate/"),
            (Method::POST, "/v2/"),
            (Method::POST, "/v2"),
            (Method::GET, "/v1/nothing"),
            (Method::GET, "/v1/userapp/email/ada@example.com/app"),
            (Method::POST, "/v2/UserPrelogin"),
        ] {
            let answer = send(caller.request(method.clone(), path)).await;
            assert_eq!(answer.error(404), "The API request was not found", "{method} {path}");
        }
        for (method, path, allowed) in [
            (Method::GET, "/v2/UserCreate", "POST, OPTIONS"),
            (Method::PUT, "/v2/UserCreate", "POST, OPTIONS"),
            (Method::DELETE, "/v2/TenantCreate", "POST, OPTIONS"),
            (Method::GET, "/v1/user", "POST, OPTIONS"),
            (Method::PATCH, "/v1/tenant", "PUT, POST, OPTIONS"),
        ] {
            let answer = send(caller.request(method.clone(), path)).await;
            assert_eq!(answer.error(405), "The API request was not found", "{method} {path}");
            assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
        }
        let answer = send(caller.request(Method::HEAD, "/v2/UserGet")).await;
        assert_eq!((answer.status, answer.text.as_str()), (405, ""));
        let answer = send(caller.request(Method::HEAD, "/v2/NoSuchCall")).await;
        assert_eq!((answer.status, answer.text.as_str()), (404, ""));
    }
    // Every call of the list is served: it succeeds or reports what is missing.
    for call in CALLS {
        let answer = root.call(call, json!({})).await;
        assert_ne!(answer.status, 404, "{call}: {answer:?}");
        assert!(answer.body["status"] == "ok" || answer.body["status"] == "error", "{call}");
        let options = send(root.request(Method::OPTIONS, &format!("/v2/{call}"))).await;
        assert!(options.header("allow").is_some_and(|allow| allow.contains("POST")), "{call}");
    }
}

#[tokio::test]
async fn json_is_read_with_any_content_type() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    for (n, content_type) in [
        "application/json",
        "application/json;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
        "nonsense",
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!("\r\n {{\"profile\":{{\"login\":\"u{n}\"}}}}\n");
        tenant.admin.send("/v2/UserCreate", content_type, body).await.ok();
        tenant.admin.about("UserGet", "login", &format!("u{n}")).await.ok();
    }
    // And without a content type.
    let body = "{\"profile\":{\"login\":\"none\"}}";
    send(tenant.admin.request(Method::POST, "/v2/UserCreate").body(body)).await.ok();
}

#[tokio::test]
async fn an_absent_body_counts_as_an_empty_object() {
    let app = TestApp::spawn().await;
    let root = &app.root_token;
    for (call, headers) in [
        ("BulkListUnlock", ""), // as curl sends it: no length
        ("BulkListUnlock", "Content-Type: application/json\r\nContent-Length: 0\r\n"),
        ("SystemGetSystemStats", "Content-Type: application/json\r\nContent-Length: 0\r\n"),
        ("TenantListTenants", "Content-Type: application/x-www-form-urlencoded\r\n"),
        ("BulkListUnlock", "Transfer-Encoding: chunked\r\n"),
    ] {
        let body = if headers.contains("chunked") { "0\r\n\r\n" } else { "" };
        let request = format!(
            "POST /v2/{call} HTTP/1.1\r\nHost: localhost:3000\r\nX-Bunker-Token: {root}\r\n{headers}Connection: close\r\n\r\n{body}"
        );
        let (status, body) = raw(&app, request).await;
        assert_eq!(status, 200, "{call} {headers}: {body}");
        assert!(body.contains("\"status\":\"ok\""), "{body}");
    }
    let blank = app.bunker_root().send("/v2/BulkListUnlock", "application/json", " \r\n\t").await;
    blank.ok();
    // A required parameter is reported as missing.
    let nothing = app.bunker_root().send("/v2/UserCreate", "application/json", "").await;
    assert_eq!(nothing.error(400), "Missing API request parameters: profile");
}

#[tokio::test]
async fn an_unreadable_body_is_a_400_in_this_dialects_form() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let deep = "[".repeat(200_000);
    for body in [
        &b"{"[..],
        b"{\"profile\":}",
        b"{\"profile\":{}} and more",
        b"{'profile':{}}",
        b"{\"a\":\"\xff\"}",
        b"\xef\xbb\xbf{\"profile\":{}}",
        b"profile=x&y=z",
        b"\"text\"",
        b"5",
        b"true",
        b"null",
        deep.as_bytes(),
    ] {
        let answer = tenant.admin.send("/v2/UserCreate", "application/json", body.to_vec()).await;
        assert_eq!(answer.error(400), "Failed to decode the request body");
    }
    let list = tenant.admin.send("/v2/UserCreate", "application/json", "[1]").await;
    assert_eq!(list.error(400), "Failed to decode the request body");
    let large =
        tenant.admin.send("/v2/UserCreate", "application/json", vec![b' '; (1 << 20) + 1]).await;
    assert_eq!(large.error(400), "The request body is larger than 1048576 bytes");
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 0);
}

#[tokio::test]
async fn unknown_keys_nulls_and_metadata_are_ignored() {
    let app = TestApp::spawn().await;
    // The body of the vendor's own JavaScript example.
    let made = app
        .bunker_root()
        .call(
            "TenantCreate",
            json!({ "0": "n", "1": "e", "tenantname": "acme", "tenantorg": "x", "email": null }),
        )
        .await;
    let admin = app.bunker(made.ok()["xtoken"].as_str().unwrap());
    let body = json!({
        "profile": { "login": "ada" }, "finaltime": null, "slidingtime": null, "groupname": null, "groupid": 7,
        "rolename": "x", "roleid": null, "request_metadata": { "any": ["thing", null, { "profile": 1 }] },
        "constructor": {}, "__proto__": null, "": 1,
    });
    admin.call("UserCreate", body).await.ok();
    let read =
        json!({ "mode": "login", "identity": "ada", "version": null, "request_metadata": "text" });
    let read = admin.call("UserGet", read).await;
    assert_eq!(read.ok()["profile"], json!({ "login": "ada" }));
    assert!(read.body.get("finaltime").is_none(), "{read:?}");
    let update = json!({ "0": "n", "tenantid": made.body["tenantid"].to_string(), "tenantname": "beta", "request_metadata": {} });
    admin.call("TenantUpdate", update).await.ok();
}

#[tokio::test]
async fn escaped_and_raw_text_are_the_same_text() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let escaped = r#"{"profile":{"login":"zo\u00eb \ud83c\udfe0","a\/b":"\u0041"}}"#; // as Python encodes it
    tenant.admin.send("/v2/UserCreate", "application/json", escaped).await.ok();
    let raw = r#"{"mode":"login","identity":"zoë 🏠"}"#; // as JavaScript encodes it
    let answer = tenant.admin.send("/v2/UserGet", "application/json", raw).await;
    assert_eq!(answer.ok()["profile"], json!({ "login": "zoë 🏠", "a/b": "A" }));
}

fn found_in(answer: &Answer) -> (u16, Value) {
    (answer.status, answer.body["profile"]["of"].clone())
}

#[expect(clippy::too_many_lines, reason = "a table of cases, best read whole")]
#[tokio::test]
async fn the_tenant_comes_from_the_header_else_the_host_else_it_is_the_main_tenant() {
    let by_domain = TestApp::builder()
        .with("base_domain", "databunker.example.com")
        .with("server_hosts", "api.databunker.example.com")
        .spawn()
        .await;
    // The base domain is `localhost`.
    let by_default = TestApp::builder()
        .with("root_token", by_domain.root_token.clone())
        .on(by_domain.database.clone())
        .spawn()
        .await;
    let (acme, beta) =
        (by_domain.bunker_tenant("acme").await, by_domain.bunker_tenant("beta").await);
    acme.add(json!({ "login": "ada", "of": "acme" })).await;
    beta.add(json!({ "login": "ada", "of": "beta" })).await;
    let root = by_domain.bunker_root();
    let in_main = json!({ "profile": { "login": "ada", "of": "main" } });
    root.call("UserCreate", in_main).await.ok();

    // The header, the host, and the tenant that is found with this base domain and with the default one.
    for (header, host, with_domain, by_label) in [
        (None, Some("acme.databunker.example.com"), "acme", "main"),
        (None, Some("ACME.databunker.example.com:3000"), "acme", "main"),
        (None, Some("acme.databunker.example.com."), "acme", "main"),
        (None, Some("acme.localhost:3000"), "main", "acme"),
        (None, Some("absent.localhost"), "main", "404"),
        (Some("beta"), Some("acme.databunker.example.com"), "beta", "beta"),
        (Some("  beta "), Some("localhost"), "beta", "beta"),
        (Some(""), Some("acme.databunker.example.com"), "acme", "main"),
        (Some(" "), Some("localhost"), "main", "main"),
        (Some("main"), Some("acme.databunker.example.com"), "main", "main"),
        (None, Some("localhost"), "main", "main"),
        (None, Some("localhost:3000"), "main", "main"),
        (None, Some("127.0.0.1"), "main", "main"),
        (None, Some("127.0.0.1:3000"), "main", "main"),
        (None, Some("[::1]:3000"), "main", "main"),
        (None, Some("bunker"), "main", "main"),
        (None, Some("databunker.example.com"), "main", "main"),
        (None, Some("acme.elsewhere.example.com"), "main", "main"),
        (None, Some("a.b.databunker.example.com"), "main", "main"),
        (None, Some("api.databunker.example.com"), "main", "main"),
        (None, Some("www.databunker.example.com"), "main", "main"),
        (None, Some("absent.databunker.example.com"), "404", "main"),
        (Some("absent"), Some("acme.databunker.example.com"), "404", "404"),
        (Some("Not A Name"), Some("acme.databunker.example.com"), "404", "404"),
        (Some("ACME"), None, "404", "404"),
        (None, None, "main", "main"),
    ] {
        for (app, expected) in [(&by_domain, with_domain), (&by_default, by_label)] {
            let mut caller: Bunker = app.bunker(&by_domain.root_token);
            if let Some(header) = header {
                caller = caller.for_tenant(header);
            }
            if let Some(host) = host {
                caller = caller.at_host(host);
            }
            let answer = caller.about("UserGet", "login", "ada").await;
            let found = match found_in(&answer) {
                (200, of) => of.as_str().unwrap_or_default().to_owned(),
                (404, _) => {
                    assert_eq!(answer.error(404), "The tenant was not found");
                    "404".to_owned()
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{header:?} {host:?}");
        }
    }
    // A tenant's token needs no tenant name. It is refused beside another tenant's, and the host does not matter to it.
    for (caller, expected) in [
        (acme.admin.clone(), 200),
        (acme.admin.at_host("127.0.0.1"), 200),
        (acme.admin.at_host("absent.databunker.example.com"), 200),
        (acme.admin.for_tenant("acme"), 200),
        (acme.admin.for_tenant(""), 200),
        (acme.admin.for_tenant("beta"), 403),
        (acme.admin.for_tenant("main"), 403),
        (acme.admin.for_tenant("absent"), 403),
        (acme.admin.for_tenant("Not A Name"), 403),
        (acme.admin.at_host("beta.databunker.example.com"), 200),
    ] {
        let answer = caller.about("UserGet", "login", "ada").await;
        assert_eq!(answer.status, expected, "{answer:?}");
        if expected == 200 {
            assert_eq!(answer.body["profile"]["of"], "acme");
        } else {
            assert_eq!(answer.error(403), "Access denied");
        }
    }
}

#[tokio::test]
async fn concurrent_first_uses_of_the_main_tenant_create_exactly_one() {
    let first = TestApp::spawn().await;
    let second = TestApp::builder()
        .with("root_token", first.root_token.clone())
        .on(first.database.clone())
        .spawn()
        .await;
    let (one, other) = (first.bunker_root(), second.bunker(&first.root_token));
    let create = |n: usize| {
        let caller = if n.is_multiple_of(2) { one.clone() } else { other.clone() };
        async move {
            caller.call("UserCreate", json!({ "profile": { "login": format!("u{n}") } })).await
        }
    };
    for answer in join_all((0..24).map(create)).await {
        answer.ok();
    }
    let sql = first.sql().await;
    let row =
        sql.query_one("SELECT count(*), min(number), min(slug) FROM tenants", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, &str>(2)), (1, 1, "main"));
    let schemas = schemas(&sql).await;
    assert_eq!(schemas.len(), 1);
    assert_eq!(first.count(&schemas[0], "profiles").await, 24);
}

#[tokio::test]
async fn status_and_metrics_need_no_token() {
    let app = TestApp::spawn().await;
    let status = app.anonymous().get("/status").await;
    assert_eq!((status.status, status.text.as_str()), (200, "OK"));
    let metrics = app.anonymous().get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.text.contains("http_requests_total"), "{}", metrics.text);
}

#[tokio::test]
async fn profiles_work_in_every_isolation_and_statement_mode() {
    for (isolation, statements) in
        [("role", "cached"), ("search_path", "unnamed"), ("search_path", "cached")]
    {
        if statements == "cached" && is_behind_a_pooler() {
            continue; // the next transaction is on another connection, which has none
        }
        let app = TestApp::builder()
            .with("database.isolation", isolation)
            .with("database.statements", statements)
            .spawn()
            .await;
        let (a, b) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
        for tenant in [&a, &b, &a, &b] {
            let profile = json!({ "email": "ada@example.com", "n": 1.50 });
            let token = tenant.add(profile.clone()).await;
            let records = json!({ "records": [{ "profile": { "email": "ADA@example.com" } }, { "profile": { "phone": 1 } }] });
            let bulk = tenant.admin.call("UserCreateBulk", records).await;
            assert_eq!(bulk.ok()["errors"][0]["reason"], "Duplicate index: email");
            let patch = json!([{ "op": "add", "path": "/x", "value": null }]);
            let person = json!({ "mode": "email", "identity": "ada@example.com", "patch": patch });
            tenant.admin.call("UserPatch", person).await.ok();
            let unlockuuid = tenant.admin.unlock().await;
            let found = json!({ "identity": "ada@", "unlockuuid": unlockuuid });
            assert_eq!(tenant.admin.call("UserSearch", found).await.ok()["total"], 1);
            let users = json!([{ "mode": "phone", "identity": "1" }, { "mode": "token", "identity": token }]);
            let deleted = tenant.admin.call("UserDeleteBulk", json!({ "users": users })).await;
            assert_eq!(deleted.ok()["deleted_count"], 2);
            let root = app.bunker_root();
            let restore = json!({ "token": token, "tenantid": tenant.number, "unlockuuid": root.unlock().await });
            let restored = root.call("SystemRestoreUserProfile", restore).await;
            assert_eq!(restored.ok()["profile"]["n"], profile["n"], "{isolation} {statements}");
            tenant.admin.about("UserDelete", "token", &token).await.ok();
        }
    }
}

#[tokio::test]
async fn refused_calls_leave_no_transaction_open() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "login": "ada" })).await;
    tenant.add(json!({ "login": "bob" })).await;
    let ada = |extra: Value| {
        let mut body = json!({ "mode": "login", "identity": "ada" });
        body.as_object_mut()
            .expect("it is an object")
            .extend(extra.as_object().cloned().expect("it is an object"));
        body
    };
    let refused = [
        ("UserPatch", ada(json!({ "patch": [{ "op": "remove", "path": "/x" }] })), 400),
        ("UserUpdate", ada(json!({ "profile": { "login": "bob" } })), 409),
        ("UserUpdate", ada(json!({ "profile": { "email": 5 } })), 400),
        ("UserUpdate", json!({ "mode": "login", "identity": "x", "profile": {} }), 404),
        ("UserCreate", json!({ "profile": { "login": "ada" } }), 409),
        ("UserGet", ada(json!({ "version": 9 })), 404),
        ("TenantUpdate", json!({ "tenantid": 99 }), 403),
    ];
    let admin = &tenant.admin;
    let calls = (0..20).flat_map(|_| &refused).map(|case| async move {
        let (call, body, status) = case;
        let answer = admin.call(call, body.clone()).await;
        assert_eq!(answer.status, *status, "{call}: {answer:?}");
    });
    join_all(calls).await;
    admin.about("UserGet", "login", "ada").await.ok();
    let open = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'";
    let sql = app.superuser_sql().await;
    let mut left = -1_i64;
    for _ in 0..100 {
        left = sql.query_one(open, &[]).await.expect("activity can be read").get(0);
        if left == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(left, 0, "sessions that are not idle");
}
