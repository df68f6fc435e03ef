//! Calls every route with every wrong caller. A route of the OpenAPI document that is in none of the tables here
//! fails the test, so that no route is released without a decision about its callers.

use std::collections::BTreeSet;

use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::json;

use crate::support::callers::send;
use crate::support::{Caller, Snapshot, TestApp, TestTenant};

/// The callers that a route accepts.
#[derive(Debug, Clone, Copy)]
enum Access {
    /// Any caller; a credential is ignored.
    Public,
    /// A caller with a valid refresh cookie; a bearer token is ignored.
    Cookie,
    /// Any caller; a credential that is not valid has no session to end.
    LogOut,
    /// Any authenticated caller.
    Authenticated,
    /// A caller with the permission.
    Permission(Permission),
}

const ROUTES: &[(&str, &str, Access)] = &[
    ("GET", "/.well-known/jwks.json", Access::Public),
    ("GET", "/control/v1/openapi.json", Access::Public),
    ("GET", "/docs", Access::Public),
    ("GET", "/docs/{file}", Access::Public),
    ("GET", "/healthz", Access::Public),
    ("GET", "/metrics", Access::Public),
    ("GET", "/openapi.json", Access::Public),
    ("GET", "/readyz", Access::Public),
    ("POST", "/api/auth/login", Access::Public),
    ("POST", "/api/auth/refresh", Access::Cookie),
    ("POST", "/api/auth/logout", Access::LogOut),
    ("POST", "/api/auth/reset-user-password", Access::Permission(Permission::ResetUserPassword)),
    ("GET", "/api/api-keys", Access::Permission(Permission::ManageApiKeys)),
    ("POST", "/api/api-keys", Access::Permission(Permission::ManageApiKeys)),
    ("POST", "/api/api-keys/{id}/revoke", Access::Permission(Permission::ManageApiKeys)),
    ("GET", "/api/user/tenant-users", Access::Permission(Permission::ViewUsers)),
    ("GET", "/api/tenant", Access::Permission(Permission::ViewTenants)),
    ("GET", "/api/tenant/mine", Access::Authenticated),
    ("POST", "/api/tenant/setup", Access::Permission(Permission::CreateTenant)),
];

/// The callers that a route of Databunker's dialect accepts; they authenticate with an xtoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Xtoken {
    /// Any caller; a credential is ignored.
    Public,
    /// The admin of the main tenant.
    Main,
    /// The admin of a tenant.
    Tenant,
    /// As `Tenant`, and a person who reads the own record.
    Person,
}

const DATABUNKER: &[(&str, &str, Xtoken)] = &[
    ("GET", "/status", Xtoken::Public),
    ("POST", "/v1/tenant", Xtoken::Main),
    ("PUT", "/v1/tenant", Xtoken::Tenant),
    ("POST", "/v1/user", Xtoken::Tenant),
    ("POST", "/v1/user/", Xtoken::Tenant),
    ("GET", "/v1/user/{mode}/{identity}", Xtoken::Person),
    ("PUT", "/v1/user/{mode}/{identity}", Xtoken::Tenant),
    ("DELETE", "/v1/user/{mode}/{identity}", Xtoken::Tenant),
    ("POST", "/v2/AuditGetEvent", Xtoken::Tenant),
    ("POST", "/v2/AuditListUserEvents", Xtoken::Tenant),
    ("POST", "/v2/BulkListAllUsers", Xtoken::Tenant),
    ("POST", "/v2/BulkListUnlock", Xtoken::Tenant),
    ("POST", "/v2/BulkListUsers", Xtoken::Tenant),
    ("POST", "/v2/SystemDeleteUserProfiles", Xtoken::Main),
    ("POST", "/v2/SystemGetSystemStats", Xtoken::Main),
    ("POST", "/v2/SystemGetUserProfiles", Xtoken::Main),
    ("POST", "/v2/SystemRestoreUserProfile", Xtoken::Main),
    ("POST", "/v2/SystemSearchUserProfiles", Xtoken::Main),
    ("POST", "/v2/TenantCreate", Xtoken::Main),
    ("POST", "/v2/TenantDelete", Xtoken::Main),
    ("POST", "/v2/TenantGet", Xtoken::Tenant),
    ("POST", "/v2/TenantListTenants", Xtoken::Main),
    ("POST", "/v2/TenantUpdate", Xtoken::Tenant),
    ("POST", "/v2/UserCreate", Xtoken::Tenant),
    ("POST", "/v2/UserCreateBulk", Xtoken::Tenant),
    ("POST", "/v2/UserDelete", Xtoken::Tenant),
    ("POST", "/v2/UserDeleteBulk", Xtoken::Tenant),
    ("POST", "/v2/UserGet", Xtoken::Person),
    ("POST", "/v2/UserListVersions", Xtoken::Person),
    ("POST", "/v2/UserPatch", Xtoken::Tenant),
    ("POST", "/v2/UserSearch", Xtoken::Tenant),
    ("POST", "/v2/UserUpdate", Xtoken::Tenant),
    ("POST", "/v2/XTokenCreateForUser", Xtoken::Tenant),
];

/// The routes of the control API, each with its permission; `control_*.rs` test more wrong callers.
const CONTROL: &[(&str, &str, Permission)] = &[
    ("GET", "/control/v1/tenants", Permission::ViewTenants),
    ("POST", "/control/v1/tenants", Permission::CreateTenant),
    ("GET", "/control/v1/tenants/{tenant}", Permission::ViewTenants),
    ("PATCH", "/control/v1/tenants/{tenant}", Permission::UpdateTenant),
    ("DELETE", "/control/v1/tenants/{tenant}", Permission::DeleteTenant),
    ("GET", "/control/v1/tenants/by-external-id/{external_id}", Permission::ViewTenants),
    ("PUT", "/control/v1/tenants/by-external-id/{external_id}", Permission::CreateTenant),
    ("DELETE", "/control/v1/tenants/by-external-id/{external_id}", Permission::DeleteTenant),
    ("POST", "/control/v1/tenants/{tenant}/suspend", Permission::UpdateTenant),
    ("POST", "/control/v1/tenants/{tenant}/resume", Permission::UpdateTenant),
    ("POST", "/control/v1/tenants/{tenant}/restore", Permission::DeleteTenant),
    ("POST", "/control/v1/tenants/{tenant}/purge", Permission::DeleteTenant),
    ("POST", "/control/v1/tenants/{tenant}/clone", Permission::CreateTenant),
    ("POST", "/control/v1/tenants/{tenant}/swap", Permission::UpdateTenant),
    ("GET", "/control/v1/tenants/{tenant}/schema", Permission::ViewTenants),
    ("GET", "/control/v1/tenants/{tenant}/members", Permission::ViewUsers),
    ("POST", "/control/v1/tenants/{tenant}/members", Permission::ManageMembers),
    ("PATCH", "/control/v1/tenants/{tenant}/members/{user_id}", Permission::ManageMembers),
    ("DELETE", "/control/v1/tenants/{tenant}/members/{user_id}", Permission::ManageMembers),
    ("GET", "/control/v1/tenants/{tenant}/invitations", Permission::ManageMembers),
    ("POST", "/control/v1/tenants/{tenant}/invitations", Permission::ManageMembers),
    ("POST", "/control/v1/tenants/{tenant}/invitations/{id}/revoke", Permission::ManageMembers),
    ("GET", "/control/v1/tokens", Permission::ManageApiKeys),
    ("POST", "/control/v1/tokens", Permission::ManageApiKeys),
    ("POST", "/control/v1/tokens/{id}/revoke", Permission::ManageApiKeys),
    ("POST", "/control/v1/tokens/{id}/rotate", Permission::ManageApiKeys),
    ("GET", "/control/v1/audit-events", Permission::ViewAudit),
    ("GET", "/control/v1/audit-events/{id}", Permission::ViewAudit),
    ("GET", "/control/v1/audit-actions", Permission::ViewAudit),
    ("GET", "/control/v1/events", Permission::ViewAudit),
    ("GET", "/control/v1/events/{id}", Permission::ViewAudit),
    ("GET", "/control/v1/event-types", Permission::ViewAudit),
    ("POST", "/control/v1/audit-events/verify", Permission::ViewAudit),
    ("GET", "/control/v1/cluster", Permission::MigrateFleet),
    ("POST", "/control/v1/cluster/distribute", Permission::MigrateFleet),
    ("POST", "/control/v1/cluster/move", Permission::MigrateFleet),
    ("GET", "/control/v1/migrations", Permission::ViewFleet),
    ("POST", "/control/v1/migrations", Permission::ViewFleet),
    ("GET", "/control/v1/migrations/{id}", Permission::ViewFleet),
    ("GET", "/control/v1/migrations/{id}/tenants", Permission::ViewFleet),
    ("GET", "/control/v1/migration-set", Permission::ViewFleet),
    ("GET", "/control/v1/summary", Permission::ViewFleet),
    ("GET", "/control/v1/server", Permission::ViewFleet),
    ("GET", "/control/v1/settings", Permission::ViewSettings),
    ("GET", "/control/v1/measurements", Permission::ViewFleet),
    ("GET", "/control/v1/capacity", Permission::ViewFleet),
    ("GET", "/control/v1/vacancies", Permission::ViewFleet),
    ("POST", "/control/v1/vacancies/fill", Permission::CreateTenant),
    ("POST", "/control/v1/vacancies/drop", Permission::DeleteTenant),
    ("GET", "/control/v1/examinations", Permission::ViewFleet),
    ("POST", "/control/v1/examinations", Permission::MigrateFleet),
    ("GET", "/control/v1/examinations/{id}", Permission::ViewFleet),
    ("GET", "/control/v1/examinations/{id}/findings", Permission::ViewFleet),
    ("POST", "/control/v1/migrations/{id}/pause", Permission::MigrateFleet),
    ("POST", "/control/v1/migrations/{id}/resume", Permission::MigrateFleet),
    ("POST", "/control/v1/migrations/{id}/cancel", Permission::MigrateFleet),
    ("POST", "/control/v1/migrations/{id}/retry", Permission::MigrateFleet),
    ("POST", "/control/v1/rehearsals", Permission::MigrateFleet),
    ("POST", "/control/v1/tenants/{tenant}/archives", Permission::ExportTenant),
    ("GET", "/control/v1/archives", Permission::ExportTenant),
    ("POST", "/control/v1/archives", Permission::ImportTenant),
    ("GET", "/control/v1/archives/{id}", Permission::ExportTenant),
    ("DELETE", "/control/v1/archives/{id}", Permission::ManageArchives),
    ("GET", "/control/v1/archives/{id}/content", Permission::ExportTenant),
    ("POST", "/control/v1/archives/{id}/verify", Permission::ManageArchives),
    ("POST", "/control/v1/archives/{id}/cancel", Permission::ManageArchives),
    ("POST", "/control/v1/imports", Permission::ImportTenant),
    ("GET", "/control/v1/imports", Permission::ImportTenant),
    ("GET", "/control/v1/imports/{id}", Permission::ImportTenant),
    ("POST", "/control/v1/imports/{id}/cancel", Permission::ImportTenant),
    ("GET", "/control/v1/signing-keys", Permission::ManageSigningKeys),
    ("POST", "/control/v1/signing-keys/rotate", Permission::ManageSigningKeys),
];

/// The routes whose credential is in the body; `invitations.rs` tests their wrong callers.
const SECRET_IN_BODY: &[(&str, &str)] = &[("POST", "/control/v1/invitations/accept")];
/// The routes of the control API that accept any authenticated caller, or only a user who has logged in;
/// `own_account.rs` tests their callers.
const OWN_ACCOUNT: &[(&str, &str)] = &[
    ("GET", "/control/v1/me"),
    ("GET", "/control/v1/me/sessions"),
    ("DELETE", "/control/v1/me/sessions"),
    ("DELETE", "/control/v1/me/sessions/{id}"),
    ("POST", "/control/v1/me/password"),
];

/// The routes of WebFluss's dialect; `webfluss.rs` tests their wrong callers.
const WEBFLUSS: &[(&str, &str)] = &[("POST", "/api/tenants"), ("GET", "/api/tenants/{tenantUuid}")];

/// Returns the routes of the OpenAPI document as method and path.
fn documented() -> BTreeSet<(String, String)> {
    let document = serde_json::to_value(rowhouse::http::openapi()).expect("the document is JSON");
    let paths = document["paths"].as_object().expect("the document has paths");
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("a path has methods").keys();
            methods.map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect()
}

#[test]
fn every_documented_route_is_in_a_table_of_this_file() {
    let reten = ROUTES.iter().map(|(method, path, _)| (*method, *path));
    let databunker = DATABUNKER.iter().map(|(method, path, _)| (*method, *path));
    let known: BTreeSet<_> = reten
        .chain(databunker)
        .chain(CONTROL.iter().map(|(method, path, _)| (*method, *path)))
        .chain(SECRET_IN_BODY.iter().copied())
        .chain(OWN_ACCOUNT.iter().copied())
        .chain(WEBFLUSS.iter().copied())
        .map(|(method, path)| (method.to_owned(), path.to_owned()))
        .collect();
    assert_eq!(documented(), known, "left: the OpenAPI document; right: the tables of this file");
}

/// Returns callers that fail authentication, each with the reason.
async fn unauthenticated_callers(app: &TestApp) -> Vec<(&'static str, Caller)> {
    let lifetime = Some(time::Duration::hours(1));
    app.add_user("super@example.com", Some("SUPER_ADMIN")).await;
    let expired_access = app.log_in("super@example.com").await;
    let (_, expired_api) = app.add_token(Permission::ALL, None, lifetime).await;
    let (revoked, revoked_api) = app.add_token(Permission::ALL, None, None).await;
    app.services.tokens.revoke(&app.operator(), revoked).await.expect("the operator may");
    app.clock.advance(time::Duration::hours(2));
    vec![
        ("garbage", app.bearer("garbage")),
        ("a token of the right form", app.bearer(&format!("rh_{}", "A".repeat(43)))),
        ("an unknown UUID", app.bearer("6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f")),
        ("an expired access token", expired_access),
        ("an expired API token", expired_api),
        ("a revoked API token", revoked_api),
        ("an API key as a bearer token", app.bearer(&format!("rtn_sk_{}", "A".repeat(43)))),
        ("no credential", app.anonymous()),
    ]
}

async fn call(caller: &Caller, method: &str, path: &str) -> crate::support::Answer {
    let method = Method::from_bytes(method.as_bytes()).expect("the method is valid");
    let request = caller.request(method.clone(), &path.replace("{file}", "index.css"));
    // A valid body, so that only the caller can be the reason for a refusal.
    let body = match path {
        "/api/auth/login" => json!({ "identifier": "x@example.com", "password": "SecurePass123!" }),
        _ => TestApp::setup_body("acme"),
    };
    send(if method == Method::POST { request.json(&body) } else { request }).await
}

/// The ids that calls inside a tenant use.
struct TenantIds {
    tenant: String,
    user: String,
    key: String,
}

impl TenantIds {
    async fn of(app: &TestApp, tenant: &TestTenant) -> Self {
        let tenant = tenant.id.to_string();
        let get = app.root().request(Method::GET, "/api/user/tenant-users");
        let users = send(get.header("x-tenant-id", &tenant)).await;
        let user = users.body["data"][0]["id"].as_str().expect("there is an admin").to_owned();
        let post = app.root().request(Method::POST, "/api/api-keys");
        let body = json!({ "name": "x", "permissions": ["VIEW_USERS"] });
        let made = send(post.header("x-tenant-id", &tenant).json(&body)).await;
        let key = made.body["id"].as_str().expect("a key has an id").to_owned();
        Self { tenant, user, key }
    }

    /// Sends a valid request that selects the tenant.
    async fn call(&self, caller: &Caller, method: &str, path: &str) -> crate::support::Answer {
        let method = Method::from_bytes(method.as_bytes()).expect("the method is valid");
        let request = caller.request(method.clone(), &path.replace("{id}", &self.key));
        let request = request.header("x-tenant-id", &self.tenant);
        let body = match path {
            "/api/api-keys" => json!({ "name": "x", "permissions": ["VIEW_USERS"] }),
            "/api/auth/reset-user-password" => {
                json!({ "userId": self.user, "newPassword": "NewSecurePass456!" })
            }
            _ => TestApp::setup_body("acme"),
        };
        send(if method == Method::POST { request.json(&body) } else { request }).await
    }
}

#[tokio::test]
async fn no_route_serves_an_unauthenticated_caller() {
    let app = TestApp::spawn().await;
    let unauthenticated_callers = unauthenticated_callers(&app).await;
    // Seals the audit chain now, so that the background job does not change the snapshot.
    app.services.audit.seal(&app.operator()).await.expect("the operator may");
    let before = Snapshot::of(&app).await;
    for (method, path, access) in ROUTES {
        for (what, caller) in &unauthenticated_callers {
            if matches!(access, Access::LogOut) && *what == "an expired access token" {
                // It ends its session, as `sessions.rs` tests.
                continue;
            }
            let answer = call(caller, method, path).await;
            match access {
                Access::Public if *path == "/api/auth/login" => {
                    assert_eq!(answer.refusal(401), "Invalid email or password", "{what}");
                }
                Access::Public | Access::LogOut => {
                    assert_eq!(answer.status, 200, "{path}: {what}: {answer:?}");
                }
                Access::Cookie | Access::Authenticated | Access::Permission(_) => {
                    let message = answer.refusal(401);
                    assert!(message.starts_with("Unauthorized: "), "{path}: {what}: {message}");
                    assert!(answer.header("www-authenticate").is_some(), "{path}: {what}");
                }
            }
        }
    }
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn no_route_serves_a_caller_without_its_permission() {
    let app = TestApp::spawn().await;
    app.add_user("viewer@example.com", Some("VIEWER")).await;
    let viewer = app.log_in("viewer@example.com").await;
    let (_, strong) = app.add_token(Permission::ALL, None, None).await;
    let tenant = app.set_up("inside").await;
    let ids = TenantIds::of(&app, &tenant).await;
    for (method, path, access) in ROUTES {
        let Access::Permission(permission) = access else { continue };
        let others: Vec<_> =
            Permission::ALL.iter().copied().filter(|other| other != permission).collect();
        let (_, weak) = app.add_token(&others, None, None).await;
        app.services.audit.seal(&app.operator()).await.expect("the operator may");
        let before = Snapshot::of(&app).await;
        for caller in [&weak, &viewer] {
            let answer = call(caller, method, path).await;
            assert_eq!(answer.refusal(403), format!("Missing permission: {permission}"), "{path}");
            let answer = ids.call(caller, method, path).await;
            assert_eq!(answer.refusal(403), format!("Missing permission: {permission}"), "{path}");
        }
        assert_eq!(Snapshot::of(&app).await, before);
        let answer = ids.call(&strong, method, path).await;
        assert!(answer.status < 300, "{path} with the permission: {answer:?}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_the_allowed_ones() {
    let app = TestApp::spawn().await;
    for (_, path, _) in ROUTES {
        let takes = |method: &str| ROUTES.iter().any(|(m, p, _)| (m, p) == (&method, path));
        let allowed = match (takes("GET"), takes("POST")) {
            (true, true) => "GET, HEAD, POST, OPTIONS",
            (true, false) => "GET, HEAD, OPTIONS",
            (false, _) => "POST, OPTIONS",
        };
        for wrong in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"] {
            if takes(wrong) {
                continue;
            }
            // The same answer for every caller; the credential is ignored.
            for caller in [app.anonymous(), app.root(), app.bearer("garbage")] {
                let request = caller.request(Method::from_bytes(wrong.as_bytes()).unwrap(), path);
                let answer = send(request).await;
                // Each dialect has a form of its own, against which the suite holds every answer.
                assert_eq!(answer.status, 405, "{wrong} {path}: {answer:?}");
                assert_eq!(answer.header("allow"), Some(allowed), "{wrong} {path}");
            }
        }
        let options = send(app.anonymous().request(Method::OPTIONS, path)).await;
        assert_eq!((options.status, options.header("allow")), (204, Some(allowed)), "{path}");
        assert_eq!(options.text, "");
        let head = send(app.root().request(Method::HEAD, path)).await;
        if takes("GET") {
            let get = app.root().get(path).await;
            assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        } else {
            assert_eq!((head.status, head.header("allow")), (405, Some(allowed)), "{path}");
        }
    }
}

#[tokio::test]
async fn an_unknown_path_is_not_found_in_the_form_of_the_dialect() {
    let app = TestApp::spawn().await;
    for path in [
        "/",
        "/api",
        "/api/",
        "/api/tenant/",
        "/api/tenant/setup/",
        "/api/tenant/unknown",
        "/API/TENANT",
        "/api//tenant",
        "/api/tenant%2Fsetup",
        "/api/../api/tenant%00",
        "/healthz/x",
        "/.env",
        "/%ff%fe",
        "/<script>",
    ] {
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            let answer = send(app.root().request(method, path)).await;
            assert_eq!(answer.refusal(404), "There is no such path", "{path}");
        }
    }
}

/// Sends a valid request, so that only the caller can be the reason for a refusal.
async fn bunker_call(
    app: &TestApp,
    token: &str,
    method: &str,
    path: &str,
) -> crate::support::Answer {
    let path = path.replace("{mode}", "email").replace("{identity}", "ada@example.com");
    let body = json!({
        "mode": "email", "identity": "ada@example.com", "profile": { "email": "x@example.com" },
        "records": [{ "profile": { "email": "y@example.com" } }],
        "users": [{ "mode": "email", "identity": "ada@example.com" }],
        "patch": [{ "op": "add", "path": "/x", "value": 1 }],
        "tenantname": "other", "tenantorg": "org", "name": "other", "org": "org",
        "unlockuuid": "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f",
        "auditeventuuid": "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f",
        "token": "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f",
    });
    let method = Method::from_bytes(method.as_bytes()).expect("the method is valid");
    let request = app.anonymous().request(method.clone(), &path);
    let request = if token.is_empty() { request } else { request.header("x-bunker-token", token) };
    send(if method == Method::GET { request } else { request.json(&body) }).await
}

#[tokio::test]
async fn no_databunker_route_serves_a_wrong_caller() {
    let app = TestApp::spawn().await;
    let made = bunker_call(&app, &app.root_token, "POST", "/v2/TenantCreate").await;
    let tenant = made.body["xtoken"].as_str().expect("a tenant has a token").to_owned();
    let body = json!({ "profile": { "email": "ada@example.com" } });
    let request =
        app.anonymous().request(Method::POST, "/v2/UserCreate").header("x-bunker-token", &tenant);
    assert_eq!(send(request.json(&body)).await.status, 200);
    let made = bunker_call(&app, &tenant, "POST", "/v2/XTokenCreateForUser").await;
    let person = made.body["xtoken"].as_str().expect("a person has a token").to_owned();
    let before = Snapshot::of(&app).await;
    for (method, path, who) in DATABUNKER {
        let mut wrong = vec!["", "garbage", "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f"];
        match who {
            Xtoken::Public => {
                assert_eq!(bunker_call(&app, "garbage", method, path).await.status, 200);
                continue;
            }
            Xtoken::Main => wrong.extend([tenant.as_str(), person.as_str()]),
            Xtoken::Tenant => wrong.push(&person),
            Xtoken::Person => {
                assert_eq!(bunker_call(&app, &person, method, path).await.status, 200, "{path}");
            }
        }
        for token in wrong {
            let answer = bunker_call(&app, token, method, path).await;
            assert_eq!(
                (answer.status, &answer.body["status"]),
                (403, &json!("error")),
                "{path}: {answer:?}"
            );
        }
    }
    // Refused System calls write an audit event and nothing else.
    let after = Snapshot::of(&app).await;
    assert_eq!(after.count("tenants"), before.count("tenants"));
    assert_eq!(after.count("tokens"), before.count("tokens"));
    assert_eq!(after.tenant_schemas(), before.tenant_schemas());
}

#[tokio::test]
async fn no_control_route_serves_a_wrong_caller() {
    let app = TestApp::spawn().await;
    let tenant = app.set_up("acme").await;
    let unauthenticated_callers = unauthenticated_callers(&app).await;
    let before = Snapshot::of(&app).await;
    for (method, path, permission) in CONTROL {
        let id = tenant.id.to_string();
        let path = path.replace("{tenant}", &id).replace("{external_id}", "x");
        let path = path.replace("{user_id}", &id).replace("{id}", &id);
        let is_other = |other: &Permission| !permission.is_among(&[*other]);
        let others: Vec<_> = Permission::ALL.iter().copied().filter(is_other).collect();
        let (_, weak) = app.add_token(&others, None, None).await;
        for (what, caller, status) in unauthenticated_callers
            .iter()
            .map(|(what, caller)| (*what, caller, 401))
            .chain([("a token without the permission", &weak, 403)])
        {
            let method = Method::from_bytes(method.as_bytes()).expect("the method is valid");
            let answer = send(caller.request(method, &path)).await;
            assert_eq!(answer.status, status, "{path}: {what}: {answer:?}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
            if status == 403 {
                assert_eq!(
                    answer.body["missing"],
                    json!([permission.as_str()]),
                    "{path}: {answer:?}"
                );
            }
        }
    }
    let after = Snapshot::of(&app).await;
    for table in ["tenants", "users", "memberships"] {
        assert_eq!(after.count(table), before.count(table), "{table}");
    }
}
