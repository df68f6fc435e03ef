//! `/api/api-keys` and `x-api-key`: a key is shown once, works in one tenant, has no more rights than its user,
//! and a revocation takes effect at once.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::{events, token_with};
use crate::support::scoped::{add_member, get_in, join, make_key, plaintext, post_in, user_id};
use crate::support::{Caller, Snapshot, TestApp};

const KEYS: &str = "/api/api-keys";
const USERS: &str = "/api/user/tenant-users";

async fn revoke(caller: &Caller, tenant: Uuid, id: &Value) -> crate::support::Answer {
    let path = format!("{KEYS}/{}/revoke", id.as_str().expect("a key has an id"));
    post_in(caller, tenant, &path, &json!({})).await
}

#[tokio::test]
async fn a_key_is_shown_once_needs_no_other_credential_and_a_revocation_holds_in_every_process() {
    let app = TestApp::spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let user = user_id(&app, &acme.admin_email).await;
    // Reten's pages also send permissions in lower case.
    let body = json!({ "name": "CI/CD Pipeline Key", "permissions": ["view_users", "VIEW_USERS", "VIEW_TENANTS"],
                       "expiresAt": "2999-12-31T23:59:59Z" });
    let made = post_in(&admin, acme.id, KEYS, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let secret = plaintext(&made);
    assert!(secret.starts_with("rtn_sk_"), "{secret}");
    let prefix = &secret[.."rtn_sk_".len() + 8];
    let expected = json!({
        "id": made.body["id"], "name": "CI/CD Pipeline Key", "keyPrefix": prefix, "plaintextKey": secret,
        "userId": user, "tenantId": acme.id, "isActive": true, "permissions": ["VIEW_USERS", "VIEW_TENANTS"],
        "expiresAt": "2999-12-31T23:59:59Z", "lastUsedAt": null, "createdAt": made.body["createdAt"], "revokedAt": null,
    });
    assert_eq!(made.body, expected);

    let listed = get_in(&admin, acme.id, KEYS).await;
    let mut without = expected.clone();
    without.as_object_mut().unwrap().remove("plaintextKey");
    assert_eq!((listed.status, &listed.body), (200, &json!([without])));
    let sql = app.sql().await;
    let digest = <sha2::Sha256 as sha2::Digest>::digest(secret.as_bytes());
    let stored = sql.query_one("SELECT digest, t::text FROM tokens t", &[]).await.unwrap();
    assert_eq!(stored.get::<_, &[u8]>(0), &digest[..], "only a digest is stored");
    assert!(!stored.get::<_, String>(1).contains(&secret));

    // The key works without a bearer token and without the tenant's header, in every process.
    let (here, there) = (app.keyed(&secret), second.keyed(&secret));
    for caller in [&here, &there] {
        assert_eq!(caller.get(USERS).await.body["data"][0]["email"], acme.admin_email);
        assert_eq!(caller.get("/api/tenant").await.body[0]["slug"], "acme");
        assert_eq!(caller.get("/api/tenant/mine").await.body[0]["slug"], "acme");
        assert_eq!(caller.get("/control/v1/tenants/acme").await.status, 200);
        assert_eq!(get_in(caller, acme.id, USERS).await.status, 200, "its own tenant may be named");
    }
    assert!(get_in(&admin, acme.id, KEYS).await.body[0]["lastUsedAt"].is_string());

    let done = revoke(&admin, acme.id, &made.body["id"]).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.body, json!({ "message": "API key revoked successfully" }));
    for caller in [&there, &here] {
        assert_eq!(caller.get(USERS).await.refusal(401), "Unauthorized: the token is not valid");
    }
    let listed = get_in(&admin, acme.id, KEYS).await;
    assert_eq!(listed.body[0]["isActive"], false);
    assert!(listed.body[0]["revokedAt"].is_string());
    let again = revoke(&admin, acme.id, &made.body["id"]).await;
    assert_eq!(again.refusal(400), "API key is already revoked");
    for action in ["api_key.create", "api_key.revoke"] {
        assert_eq!(events(&app, acme.id, action).await, 1, "{action}");
    }
}

#[tokio::test]
async fn a_key_expires_to_the_second() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let expiry = app.clock.now() + time::Duration::minutes(5);
    let body = json!({ "name": "x", "permissions": ["VIEW_USERS"], "expiresAt": expiry.format(&Rfc3339).unwrap() });
    let made = post_in(&admin, acme.id, KEYS, &body).await;
    let key = app.keyed(&plaintext(&made));
    assert_eq!(key.get(USERS).await.status, 200);
    app.clock.advance(time::Duration::minutes(5) + time::Duration::SECOND);
    assert_eq!(key.get(USERS).await.refusal(401), "Unauthorized: the token has expired");
}

#[tokio::test]
async fn an_invalid_field_of_a_key_is_refused_by_name_and_no_key_is_created() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let before = Snapshot::of(&app).await;
    let good = json!({ "name": "x", "permissions": ["VIEW_USERS"] });
    for (field, value, rule) in [
        ("name", json!(null), ("name", "required")),
        ("name", json!(""), ("name", "required")),
        ("name", json!("  "), ("name", "required")),
        ("name", json!(5), ("name", "wrong_type")),
        ("name", json!("x".repeat(256)), ("name", "too_long")),
        ("name", json!("a\0b"), ("name", "control_character")),
        ("permissions", json!(null), ("permissions", "required")),
        ("permissions", json!([]), ("permissions", "required")),
        ("permissions", json!("VIEW_USERS"), ("permissions", "wrong_type")),
        ("permissions", json!({ "0": "VIEW_USERS" }), ("permissions", "wrong_type")),
        ("permissions", json!(["VIEW_USERS", 5]), ("permissions.1", "wrong_type")),
        ("permissions", json!(["VIEW_USERS", null]), ("permissions.1", "wrong_type")),
        ("permissions", json!(["FLY"]), ("permissions.0", "unknown_permission")),
        ("permissions", json!(["*"]), ("permissions.0", "unknown_permission")),
        ("permissions", json!([" VIEW_USERS"]), ("permissions.0", "unknown_permission")),
        ("expiresAt", json!("soon"), ("expiresAt", "timestamp")),
        ("expiresAt", json!(""), ("expiresAt", "timestamp")),
        ("expiresAt", json!("2999-02-30"), ("expiresAt", "timestamp")),
        ("expiresAt", json!("2999-01-01T00:00:00"), ("expiresAt", "timestamp")),
        ("expiresAt", json!(4_102_444_800_i64), ("expiresAt", "wrong_type")),
        ("expiresAt", json!("2001-01-01T00:00:00Z"), ("expiresAt", "in_the_past")),
        ("expiresAt", json!("2001-01-01"), ("expiresAt", "in_the_past")),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let answer = post_in(&admin, acme.id, KEYS, &body).await;
        assert_eq!(answer.refusal(400), "Validation failed", "{body}");
        assert_eq!(answer.bad_rules(), [rule], "{body}");
    }
    let all = post_in(&admin, acme.id, KEYS, &json!({ "expiresAt": "soon" })).await;
    assert_eq!(
        all.bad_rules(),
        [("name", "required"), ("permissions", "required"), ("expiresAt", "timestamp")]
    );
    for (body, message) in
        [("[]", "The body must be a JSON object"), ("", "The body is not valid JSON")]
    {
        let request = admin.request(Method::POST, KEYS).header("x-tenant-id", acme.id.to_string());
        let answer = send(request.body(body)).await;
        assert!(answer.refusal(400).starts_with(message), "{answer:?}");
    }
    assert_eq!(Snapshot::of(&app).await, before);
    // JSON is read whatever `Content-Type` says, unknown fields are ignored, and null means absent.
    let request = admin.request(Method::POST, KEYS).header("x-tenant-id", acme.id.to_string());
    let request = request.header("content-type", "text/plain");
    let body = json!({ "name": "é 日本", "permissions": ["VIEW_USERS"], "expiresAt": null, "scope": "all" });
    assert_eq!(send(request.body(body.to_string())).await.status, 201);
    // A date means its first moment.
    let day = json!({ "name": "x", "permissions": ["VIEW_USERS"], "expiresAt": "2999-01-01" });
    let made = post_in(&admin, acme.id, KEYS, &day).await;
    assert_eq!(made.body["expiresAt"], "2999-01-01T00:00:00Z");
}

#[tokio::test]
async fn a_caller_cannot_give_a_key_permissions_that_the_caller_lacks_in_that_tenant() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let user = user_id(&app, &acme.admin_email).await;
    join(&app, &other, user, "FDE").await;
    let fde = add_member(&app, &acme, "fde@example.com", "FDE").await;
    let fde_caller = app.log_in("fde@example.com").await;
    let before = Snapshot::of(&app).await;
    let request = |permissions: &[&str]| json!({ "name": "x", "permissions": permissions });
    let answer =
        post_in(&admin, acme.id, KEYS, &request(&["VIEW_USERS", "CREATE_TENANT", "CROSS_TENANT"]))
            .await;
    assert_eq!(answer.refusal(403), "Missing permission: CREATE_TENANT, CROSS_TENANT");
    // The user is an admin of this tenant and an FDE of the other: roles apply per tenant.
    let answer = post_in(&admin, other.id, KEYS, &request(&["READ_PROFILES"])).await;
    assert_eq!(answer.refusal(403), "Missing permission: MANAGE_API_KEYS");
    let answer = post_in(&fde_caller, acme.id, KEYS, &request(&["VIEW_USERS"])).await;
    assert_eq!(answer.refusal(403), "Missing permission: MANAGE_API_KEYS");
    // A token that may only create keys cannot create one with more permissions.
    let maker = token_with(&app, &["MANAGE_API_KEYS"], Some(acme.id)).await;
    let answer = maker.post(KEYS, &request(&["MANAGE_API_KEYS", "VIEW_USERS"])).await;
    assert_eq!(answer.refusal(403), "Missing permission: VIEW_USERS");
    let answer = post_in(&maker, other.id, KEYS, &request(&["MANAGE_API_KEYS"])).await;
    assert_eq!(answer.refusal(403), "Missing permission: MANAGE_API_KEYS");
    let after = Snapshot::of(&app).await;
    assert_eq!(after.count("audit_events"), before.count("audit_events"));
    assert_eq!(after.count("tokens"), before.count("tokens") + 1, "the maker's own");
    assert_ne!(fde, user);
}

#[tokio::test]
async fn a_key_works_only_in_its_tenant_and_only_with_its_permissions() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    // The key's user has more permissions and is a member of another tenant.
    let user = user_id(&app, &acme.admin_email).await;
    join(&app, &other, user, "ADMIN").await;
    let key = app.keyed(&plaintext(&make_key(&admin, acme.id, &["VIEW_USERS"]).await));
    assert_eq!(key.get(USERS).await.status, 200);
    let elsewhere = get_in(&key, other.id, USERS).await;
    assert_eq!(elsewhere.refusal(403), "Missing permission: VIEW_USERS");
    get_in(&key, Uuid::new_v4(), USERS).await.refusal(403);
    assert_eq!(key.get(KEYS).await.refusal(403), "Missing permission: MANAGE_API_KEYS");
    assert_eq!(key.get("/api/tenant").await.refusal(403), "Missing permission: VIEW_TENANTS");
    let setup = key.post("/api/tenant/setup", &TestApp::setup_body("new")).await;
    assert_eq!(setup.refusal(403), "Missing permission: CREATE_TENANT");
    assert_eq!(key.get("/control/v1/tenants").await.status, 403);
    // A super admin's key can have the super admin's permissions, and still works in one tenant only.
    app.add_user("super@example.com", Some("SUPER_ADMIN")).await;
    let super_admin = app.log_in("super@example.com").await;
    let made =
        make_key(&super_admin, acme.id, &["CREATE_TENANT", "VIEW_TENANTS", "VIEW_USERS"]).await;
    let key = app.keyed(&plaintext(&made));
    let tenants = key.get("/api/tenant").await;
    assert_eq!(tenants.body.as_array().map(Vec::len), Some(1), "{tenants:?}");
    key.post("/api/tenant/setup", &TestApp::setup_body("new")).await.refusal(403);
    get_in(&key, other.id, USERS).await.refusal(403);
}

#[tokio::test]
async fn a_key_never_has_more_permissions_than_its_user_has_now() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let user = add_member(&app, &acme, "una@example.com", "ADMIN").await;
    let una = app.log_in("una@example.com").await;
    let made = make_key(&una, acme.id, &["VIEW_USERS", "MANAGE_API_KEYS", "READ_PROFILES"]).await;
    let key = app.keyed(&plaintext(&made));
    assert_eq!((key.get(USERS).await.status, key.get(KEYS).await.status), (200, 200));
    let sql = app.sql().await;
    let set_role = "UPDATE memberships SET role = $2 WHERE user_id = $1";
    sql.execute(set_role, &[&user, &"FDE"]).await.unwrap();
    assert_eq!(key.get(KEYS).await.refusal(403), "Missing permission: MANAGE_API_KEYS");
    assert_eq!(key.get(USERS).await.status, 200);
    sql.execute(set_role, &[&user, &"VIEWER"]).await.unwrap();
    key.get(USERS).await.refusal(403);
    sql.execute(set_role, &[&user, &"ADMIN"]).await.unwrap();
    assert_eq!(key.get(KEYS).await.status, 200, "the key's own permissions have not changed");
    // The key of a user who is no longer a member is not valid.
    sql.execute("DELETE FROM memberships WHERE user_id = $1", &[&user]).await.unwrap();
    for path in [USERS, KEYS, "/api/tenant/mine"] {
        assert_eq!(key.get(path).await.refusal(401), "Unauthorized: the token is not valid");
    }
    sql.execute("DELETE FROM users WHERE id = $1", &[&user]).await.unwrap();
    key.get(USERS).await.refusal(401);
    let left = sql.query_one("SELECT count(*) FROM tokens", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_key_cannot_create_another_credential() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    for maker in [&admin, &app.root()] {
        let made = make_key(maker, acme.id, &["MANAGE_API_KEYS", "VIEW_USERS"]).await;
        let key = app.keyed(&plaintext(&made));
        let before = Snapshot::of(&app).await;
        let body = json!({ "name": "heir", "permissions": ["VIEW_USERS"] });
        assert_eq!(key.post(KEYS, &body).await.refusal(403), "You may not do this");
        let body = json!({ "name": "heir", "permissions": ["VIEW_USERS"], "tenant_id": acme.id });
        let answer = key.post("/control/v1/tokens", &body).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert_eq!(Snapshot::of(&app).await, before);
        // It can list and revoke keys, including itself.
        assert_eq!(key.get(KEYS).await.status, 200);
        assert_eq!(revoke(&key, acme.id, &made.body["id"]).await.status, 200);
        key.get(KEYS).await.refusal(401);
    }
}

#[tokio::test]
async fn users_list_and_revoke_their_own_keys_and_the_root_token_all_of_them() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let ada = app.log_in(&acme.admin_email).await;
    add_member(&app, &acme, "una@example.com", "ADMIN").await;
    let una = app.log_in("una@example.com").await;
    let foreign = app.log_in(&other.admin_email).await;
    let first = make_key(&ada, acme.id, &["VIEW_USERS"]).await;
    app.clock.advance(time::Duration::SECOND);
    let second = make_key(&ada, acme.id, &["READ_PROFILES"]).await;
    app.clock.advance(time::Duration::SECOND);
    let hers = make_key(&una, acme.id, &["VIEW_USERS"]).await;
    let roots = make_key(&app.root(), acme.id, &["CREATE_TENANT"]).await;
    assert_eq!(roots.body["userId"], json!(null));
    make_key(&foreign, other.id, &["VIEW_USERS"]).await;
    // A token that is bound to the tenant is not an API key.
    app.add_token(&[rowhouse::domain::Permission::ViewUsers], Some(acme.id), None).await;
    let ids = |answer: &crate::support::Answer| -> Vec<Value> {
        let keys = answer.body.as_array().unwrap_or_else(|| panic!("no list in {answer:?}"));
        keys.iter().map(|key| key["id"].clone()).collect()
    };
    let listed = get_in(&ada, acme.id, KEYS).await;
    assert_eq!(ids(&listed), [second.body["id"].clone(), first.body["id"].clone()], "newest first");
    assert_eq!(ids(&get_in(&una, acme.id, KEYS).await), [hers.body["id"].clone()]);
    assert_eq!(ids(&get_in(&app.root(), acme.id, KEYS).await).len(), 4);
    assert_eq!(ids(&get_in(&app.root(), other.id, KEYS).await).len(), 1);

    let before = Snapshot::of(&app).await;
    let first_id = &first.body["id"];
    assert_eq!(revoke(&una, acme.id, first_id).await.refusal(403), "You may not do this");
    assert_eq!(revoke(&foreign, other.id, first_id).await.refusal(404), "API key not found");
    revoke(&foreign, acme.id, first_id).await.refusal(403);
    assert_eq!(revoke(&app.root(), other.id, first_id).await.refusal(404), "API key not found");
    for unknown in [json!(Uuid::new_v4()), json!("x"), json!("%00"), json!("'; --")] {
        assert_eq!(revoke(&ada, acme.id, &unknown).await.refusal(404), "API key not found");
    }
    let token = app.sql().await.query_one("SELECT id FROM tokens WHERE kind = 'token'", &[]).await;
    let token = json!(token.unwrap().get::<_, Uuid>(0));
    revoke(&app.root(), acme.id, &token).await.refusal(404);
    assert_eq!(Snapshot::of(&app).await, before);
    assert_eq!(revoke(&app.root(), acme.id, first_id).await.status, 200);
}

#[tokio::test]
async fn one_of_several_simultaneous_revocations_succeeds() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    for _ in 0..3 {
        let made = make_key(&admin, acme.id, &["VIEW_USERS"]).await;
        let answers = join_all((0..4).map(|_| revoke(&admin, acme.id, &made.body["id"]))).await;
        let done = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(done, 1, "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(answer.refusal(400), "API key is already revoked");
        }
    }
    assert_eq!(
        events(&app, acme.id, "api_key.revoke").await,
        3,
        "each revocation is recorded once"
    );
    // Names are not unique: keys with the same name are different keys.
    let keys = join_all((0..4).map(|_| make_key(&admin, acme.id, &["VIEW_USERS"]))).await;
    let mut secrets: Vec<_> = keys.iter().map(plaintext).collect();
    secrets.sort();
    secrets.dedup();
    assert_eq!(secrets.len(), 4);
}

#[tokio::test]
async fn an_invalid_key_is_refused() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let secret = plaintext(&make_key(&admin, acme.id, &["VIEW_USERS"]).await);
    let (_, token) = app.add_token(rowhouse::domain::Permission::ALL, None, None).await;
    let mut other = secret.clone();
    let last = if other.pop() == Some('A') { 'B' } else { 'A' };
    other.push(last);
    for bad in [
        "",
        "rtn_sk_",
        "garbage",
        &other,
        &secret.to_uppercase(),
        &format!("{secret}A"),
        &format!("Bearer {secret}"),
        secret.trim_start_matches("rtn_sk_"),
        // Other credentials are sent in other headers.
        token.token(),
        &app.root_token,
        admin.token(),
    ] {
        let answer = app.keyed(bad).get(USERS).await;
        assert!(answer.refusal(401).starts_with("Unauthorized: "), "{bad}: {answer:?}");
        assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
    }
    // A key is not a bearer token.
    app.bearer(&secret).get(USERS).await.refusal(401);
    // A public route ignores credentials.
    assert_eq!(app.keyed("garbage").get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_request_with_two_credentials_is_refused() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let secret = plaintext(&make_key(&admin, acme.id, &["VIEW_USERS"]).await);
    for caller in [&admin, &app.root(), &app.bearer("garbage"), &app.keyed(&secret)] {
        for key in [secret.as_str(), "garbage"] {
            for path in [USERS, "/api/tenant/mine", "/control/v1/tenants", "/api/tenants/x"] {
                let request = caller.request(Method::GET, path).header("x-api-key", key);
                let answer = send(request).await;
                assert_eq!(answer.status, 401, "{path}: {answer:?}");
                if path == USERS {
                    let message = "Unauthorized: send a bearer token or an x-api-key, not both";
                    assert_eq!(answer.refusal(401), message);
                }
            }
        }
    }
}

#[tokio::test]
async fn the_last_use_of_a_key_is_recorded_at_most_once_a_minute() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let key = app.keyed(&plaintext(&make_key(&admin, acme.id, &["VIEW_USERS"]).await));
    let used = async || {
        let listed = get_in(&admin, acme.id, KEYS).await;
        let text = listed.body[0]["lastUsedAt"].as_str().expect("it was used").to_owned();
        OffsetDateTime::parse(&text, &Rfc3339).expect("it is a time")
    };
    key.get(USERS).await;
    let first = used().await;
    key.get(USERS).await;
    assert_eq!(used().await, first);
    app.clock.advance(time::Duration::seconds(61));
    key.get(USERS).await;
    assert!(used().await >= first + time::Duration::MINUTE);
}
