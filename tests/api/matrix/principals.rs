//! The principals of the matrix. "Here" is the tenant that all requests are about; for the member of the suspended
//! tenant it is that tenant.

use std::collections::HashMap;

use reqwest::RequestBuilder;
use rowhouse::auth::token::{Kind, OpaqueToken, TokenDigest};
use rowhouse::domain::Permission;
use serde_json::json;
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::documented::Operation;
use crate::support::{PASSWORD, TestApp};
use crate::wrong_callers::{Fixture, Target, scheme};

/// The columns of the table. Every credential is sent in the header that the operation takes: an xtoken also as a
/// bearer token, and an access token also as an xtoken.
pub const COLUMNS: &[&str] = &[
    // No credential, and a dozen that are not good: wrong, expired, revoked, of another kind. All get the same status.
    "none", // The root token, which is also the main tenant's xtoken.
    "root",
    // People: a SUPER_ADMIN, a VIEWER of the platform; ADMIN, FDE and VIEWER here; an ADMIN of another tenant, an ADMIN of a
    // suspended one, a user without tenants. Each has their own refresh cookie.
    "super", "watch", "admin", "fde", "viewer", "other", "susp", "lonely",
    // API tokens bound to no tenant: with all permissions, with only the one that the operation needs, with all others.
    "all", "only", "less",
    // API tokens with all permissions, bound to the tenant here and to another one.
    "here", "there",
    // API keys that an ADMIN here made: with only the permission that the operation needs, with all others.
    "key", "nokey", // Xtokens: a person's, and the tenant's own.
    "person", "xtoken",
];

/// One caller.
#[derive(Clone)]
pub struct Principal {
    pub column: &'static str,
    /// Who it is, for messages.
    pub who: &'static str,
    credential: Option<String>,
    refresh: Option<String>,
    is_key: bool,
    /// Whether it calls its own tenant, which is suspended.
    pub is_suspended: bool,
}

/// The credentials that depend on the permission of an operation.
struct ForPermission {
    only: String,
    less: String,
    key: String,
    nokey: String,
}

pub struct Principals {
    fixed: Vec<Principal>,
    by_permission: HashMap<Permission, ForPermission>,
}

impl Principal {
    fn new(column: &'static str, who: &'static str, credential: impl Into<String>) -> Self {
        let credential = Some(credential.into());
        Self { column, who, credential, refresh: None, is_key: false, is_suspended: false }
    }

    fn key(column: &'static str, who: &'static str, credential: impl Into<String>) -> Self {
        Self { is_key: true, ..Self::new(column, who, credential) }
    }

    /// Whether it has no credential.
    pub fn has_none(&self) -> bool {
        self.credential.is_none()
    }

    /// Whether it surely lacks the permission of the operation.
    pub fn lacks(&self, needed: Option<Permission>) -> bool {
        // A VIEWER of the platform may look at tenants.
        self.column != "watch" || needed.is_some_and(|needed| !needed.as_str().starts_with("VIEW"))
    }

    /// Whether nothing of the tenant here may be shown to it.
    pub fn is_stranger(&self) -> bool {
        ["none", "other", "lonely", "there", "susp"].contains(&self.column)
    }

    /// Returns a valid request for an operation on a tenant, with the credential where the operation takes it.
    pub fn request(&self, app: &TestApp, operation: &Operation, target: &Target) -> RequestBuilder {
        let credential = self.credential.as_deref();
        let (caller, header) = match (scheme(operation), credential) {
            (Some("xtoken"), Some(token)) => {
                (app.anonymous(), Some(("x-bunker-token", token.to_owned())))
            }
            (Some("refresh"), Some(token)) => {
                let token = self.refresh.as_deref().unwrap_or(token);
                (app.anonymous(), Some(("cookie", format!("refreshToken={token}"))))
            }
            (_, Some(key)) if self.is_key => (app.keyed(key), None),
            (_, Some(token)) => (app.bearer(token), None),
            (_, None) => (app.anonymous(), None),
        };
        let request = target.request(operation, &caller, true);
        match header {
            Some((name, value)) => request.header(name, value),
            None => request,
        }
    }
}

impl Principals {
    /// Creates all principals. Advances the clock.
    pub async fn create(fixture: &Fixture, suspended: &Target) -> Self {
        let app = &fixture.app;
        let (here, there) = (fixture.alpha.id, fixture.beta.id);
        let admin = app.add_user("admin@example.com", None).await;
        add_member(app, here, admin, "ADMIN").await;
        let mut fixed = ended(app, here, admin).await;
        app.clock.advance(time::Duration::hours(2));

        fixed.push(Principal::new("root", "root", &app.root_token));
        for (column, email, platform_role, member) in [
            ("super", "super@example.com", Some("SUPER_ADMIN"), None),
            ("watch", "watch@example.com", Some("VIEWER"), None),
            ("admin", "admin@example.com", None, None),
            ("fde", "fde@example.com", None, Some((here, "FDE"))),
            ("viewer", "viewer@example.com", None, Some((here, "VIEWER"))),
            ("other", "other@example.com", None, Some((there, "ADMIN"))),
            ("susp", "susp@example.com", None, Some((suspended.alpha.id, "ADMIN"))),
            ("lonely", "lonely@example.com", None, None),
        ] {
            if column != "admin" {
                let user = app.add_user(email, platform_role).await;
                if let Some((tenant, role)) = member {
                    add_member(app, tenant, user, role).await;
                }
            }
            let is_suspended = column == "susp";
            fixed.push(Principal { is_suspended, ..person(app, column, email).await });
        }
        let all = insert(app, Permission::ALL, None, None).await;
        fixed.push(Principal::new("all", "an unbound token with all permissions", all));
        let bound = insert(app, Permission::ALL, Some(here), None).await;
        fixed.push(Principal::new("here", "a token bound to the tenant", bound));
        let bound = insert(app, Permission::ALL, Some(there), None).await;
        fixed.push(Principal::new("there", "a token bound to another tenant", bound));
        let body = json!({ "mode": "token", "identity": fixture.record });
        let made = fixture.alpha.admin.call("XTokenCreateForUser", body).await;
        let person = made.ok()["xtoken"].as_str().expect("a person gets a token").to_owned();
        fixed.push(Principal::new("person", "a person's xtoken", person));
        fixed.push(Principal::new("xtoken", "the tenant's xtoken", &fixture.alpha.xtoken));

        let mut by_permission = HashMap::new();
        for permission in Permission::ALL {
            let only = [*permission];
            let is_other = |other: &Permission| !permission.is_among(&[*other]);
            let others: Vec<_> = Permission::ALL.iter().copied().filter(is_other).collect();
            let key_of = Some((here, admin));
            let credentials = ForPermission {
                only: insert(app, &only, None, None).await,
                less: insert(app, &others, None, None).await,
                key: insert(app, &only, None, key_of).await,
                nokey: insert(app, &others, None, key_of).await,
            };
            by_permission.insert(*permission, credentials);
        }
        Self { fixed, by_permission }
    }

    /// Returns the principals of a column for an operation that needs this permission.
    pub fn of(&self, column: usize, needed: Option<Permission>) -> Vec<Principal> {
        let column = COLUMNS[column];
        // Without a permission of its own, an operation is called with an arbitrary one.
        let of = &self.by_permission[&needed.unwrap_or(Permission::ViewTenants)];
        match column {
            "only" => vec![Principal::new(column, "a token with only the permission", &of.only)],
            "less" => vec![Principal::new(column, "a token without the permission", &of.less)],
            "key" => vec![Principal::key(column, "an API key with the permission", &of.key)],
            "nokey" => vec![Principal::key(column, "an API key without the permission", &of.nokey)],
            _ => self.fixed.iter().filter(|p| p.column == column).cloned().collect(),
        }
    }
}

/// Callers whose credentials are not or no longer good. Some are good until the clock is advanced by two hours.
async fn ended(app: &TestApp, here: Uuid, admin: Uuid) -> Vec<Principal> {
    let hour = Some(time::Duration::hours(1));
    let sql = app.sql().await;
    app.add_user("expired@example.com", Some("SUPER_ADMIN")).await;
    let expired = person(app, "none", "expired@example.com").await;
    let (_, expired_token) = app.add_token(Permission::ALL, None, hour).await;
    let (revoked, revoked_token) = app.add_token(Permission::ALL, None, None).await;
    app.services.tokens.revoke(&app.operator(), revoked).await.expect("the operator may");
    let revoked_key = insert(app, Permission::ALL, None, Some((here, admin))).await;
    let revoke = "UPDATE tokens SET revoked_at = now() WHERE digest = $1";
    let digest = TokenDigest::of(&revoked_key);
    sql.execute(revoke, &[&digest.as_bytes().to_vec()]).await.expect("a key can be revoked");
    let gone = app.add_user("gone@example.com", Some("SUPER_ADMIN")).await;
    let removed = person(app, "none", "gone@example.com").await;
    sql.execute("DELETE FROM users WHERE id = $1", &[&gone]).await.expect("a user can be removed");
    let anonymous = Principal { credential: None, ..Principal::new("none", "no credential", "") };
    let wrong = |who, credential: &str| Principal::new("none", who, credential);
    vec![
        anonymous,
        wrong("garbage", "garbage"),
        wrong("a token of the right form", &format!("rh_{}", "A".repeat(43))),
        wrong("an unknown UUID", "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f"),
        wrong("an API key as a bearer token", &format!("rtn_sk_{}", "A".repeat(43))),
        Principal::key("none", "an unknown API key", format!("rtn_sk_{}", "A".repeat(43))),
        Principal::key("none", "a revoked API key", revoked_key),
        Principal { who: "an expired access token", refresh: None, ..expired },
        wrong("an expired API token", expired_token.token()),
        wrong("a revoked API token", revoked_token.token()),
        Principal { who: "an access token of a removed user", ..removed },
    ]
}

/// Logs a user in.
async fn person(app: &TestApp, column: &'static str, email: &str) -> Principal {
    let body = json!({ "identifier": email, "password": PASSWORD });
    let answer =
        send(app.anonymous().request(reqwest::Method::POST, "/api/auth/login").json(&body));
    let answer = answer.await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let access = answer.body["accessToken"].as_str().expect("the answer has a token");
    let cookie = answer.header("set-cookie").expect("the answer has a cookie");
    let cookie = cookie.split(';').next().and_then(|pair| pair.strip_prefix("refreshToken="));
    let refresh = Some(cookie.expect("the cookie is the refresh token").to_owned());
    Principal { refresh, ..Principal::new(column, column, access) }
}

pub async fn add_member(app: &TestApp, tenant: Uuid, user: Uuid, role: &str) {
    let sql =
        "INSERT INTO memberships (user_id, tenant_id, role, created_at) VALUES ($1, $2, $3, now())";
    app.sql().await.execute(sql, &[&user, &tenant, &role]).await.expect("a member can be added");
}

/// Inserts a token with these permissions, or an API key that a user made, and returns its secret.
async fn insert(
    app: &TestApp,
    permissions: &[Permission],
    tenant: Option<Uuid>,
    key_of: Option<(Uuid, Uuid)>,
) -> String {
    let secret = OpaqueToken::generate(if key_of.is_some() { Kind::ApiKey } else { Kind::Api });
    let permissions: Vec<&str> = permissions.iter().map(|p| p.as_str()).collect();
    let (tenant, user) = key_of.map_or((tenant, None), |(tenant, user)| (Some(tenant), Some(user)));
    let kind = if key_of.is_some() { "api_key" } else { "token" };
    let sql = "INSERT INTO tokens (id, digest, hint, name, permissions, tenant_id, user_id, kind, created_by, created_at)
               VALUES ($1, $2, 'test', 'test', $3, $4, $5, $6, 'test', now())";
    let digest = secret.digest().as_bytes().to_vec();
    app.sql()
        .await
        .execute(sql, &[&Uuid::new_v4(), &digest, &permissions, &tenant, &user, &kind])
        .await
        .expect("a token can be written");
    secret.expose().to_owned()
}
