//! Calls every operation of the OpenAPI document with every wrong caller: without a credential, with an invalid
//! one, without the permission, and with a valid one of another tenant. A new route is included as soon as it
//! is documented; the test fails if the document does not describe enough to call it.
//!
//! [`unauthorized`](crate::unauthorized) lists the accepted callers of each route.

use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::documented::{DOCUMENT, Operation, operations};
use crate::support::{Answer, BunkerTenant, Caller, PASSWORD, TestApp};

/// A text in data that only Alpha's callers may read, and in no request.
pub const SECRET: &str = "alpha-secret";

/// Two tenants; Beta's callers try to read and change Alpha.
pub struct Fixture {
    pub app: TestApp,
    pub beta: BunkerTenant,
    pub target: Target,
}

/// The tenant that requests are about, Alpha, and ids of what belongs to it.
pub struct Target {
    pub alpha: BunkerTenant,
    /// The id of a profile of Alpha.
    pub record: String,
    /// The id of an audit event of Alpha.
    pub event: String,
    /// The id of a token that is bound to Alpha.
    pub token: Uuid,
    /// The id of Alpha's admin.
    pub user: Uuid,
    /// The id of an unlock of Beta.
    pub unlock: String,
}

impl std::ops::Deref for Fixture {
    type Target = Target;

    fn deref(&self) -> &Target {
        &self.target
    }
}

impl Fixture {
    pub async fn build() -> Self {
        let app = TestApp::spawn().await;
        let (alpha, beta) = (app.bunker_tenant("alpha").await, app.bunker_tenant("beta").await);
        let profile = json!({ "email": "ada@example.com", "note": SECRET });
        let record = alpha.add(profile).await;
        let by_token = |token: &str| json!({ "mode": "token", "identity": token });
        let events = alpha.admin.call("AuditListUserEvents", by_token(&record)).await;
        let event =
            events.ok()["rows"][0]["auditeventuuid"].as_str().expect("the event has an id").into();
        let user = app.add_user(&format!("{SECRET}@example.com"), None).await;
        app.add_user("beta@example.com", None).await;
        let sql = app.sql().await;
        let member = "INSERT INTO memberships (user_id, tenant_id, role, created_at)
                      SELECT id, $1, 'ADMIN', now() FROM users WHERE email = $2";
        let alphas: &str = &format!("{SECRET}@example.com");
        sql.execute(member, &[&alpha.id, &alphas]).await.expect("Alpha gets an admin");
        sql.execute(member, &[&beta.id, &"beta@example.com"]).await.expect("Beta gets an admin");
        let secretive = "UPDATE tenants SET name = $2, external_id = 'alpha-id' WHERE id = $1";
        sql.execute(secretive, &[&alpha.id, &SECRET]).await.expect("Alpha can be renamed");
        let body = json!({ "email": format!("{SECRET}-invited@example.com"), "role": "VIEWER" });
        let invitations = format!("/control/v1/tenants/{}/invitations", alpha.id);
        let made = app.root().post(&invitations, &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let (token, _) = app.add_token(&[Permission::ViewTenants], Some(alpha.id), None).await;
        let admin = app.log_in(alphas).await;
        let key = json!({ "name": SECRET, "permissions": ["VIEW_USERS"] });
        let request = admin.request(Method::POST, "/api/api-keys").json(&key);
        let made = send(request.header("x-tenant-id", alpha.id.to_string())).await;
        assert_eq!(made.status, 201, "{made:?}");
        let unlock = beta.admin.unlock().await;
        let target = Target { alpha, record, event, token: token.uuid(), user, unlock };
        Self { app, beta, target }
    }

    /// Returns all rows of Alpha as text.
    pub async fn alpha_rows(&self) -> Vec<String> {
        let (id, schema) = (self.alpha.id, self.alpha.schema());
        let sql = self.app.sql().await;
        let mut found = Vec::new();
        for query in [
            "SELECT t::text FROM tenants t WHERE id = $1".to_owned(),
            "SELECT m::text FROM memberships m WHERE tenant_id = $1 ORDER BY 1".to_owned(),
            "SELECT t.id::text || t.permissions::text || coalesce(t.revoked_at::text, '')
               FROM tokens t WHERE tenant_id = $1 ORDER BY 1"
                .to_owned(),
            "SELECT i::text FROM invitations i WHERE tenant_id = $1 ORDER BY 1".to_owned(),
            "SELECT u::text FROM users u JOIN memberships m ON m.user_id = u.id
              WHERE m.tenant_id = $1 ORDER BY 1"
                .to_owned(),
            format!(
                "SELECT p::text FROM {schema}.profiles p WHERE $1::uuid IS NOT NULL ORDER BY 1"
            ),
            format!(
                "SELECT v::text FROM {schema}.profile_versions v WHERE $1::uuid IS NOT NULL ORDER BY 1"
            ),
        ] {
            let rows = sql.query(&query, &[&id]).await.expect("Alpha's rows can be read");
            found.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        }
        found
    }
}

impl Target {
    /// Returns a value for a field or parameter of this name; where it selects a tenant, the value of Alpha.
    fn value(&self, name: &str) -> Option<Value> {
        let person = json!({ "mode": "email", "identity": "ada@example.com" });
        Some(match name {
            "tenant" | "tenant_id" | "tenantUuid" => json!(self.alpha.id),
            "tenantid" => json!(self.alpha.number),
            "with" => json!("no-such-tenant"),
            "external_id" => json!("alpha-id"),
            "user_id" | "userId" => json!(self.user),
            "id" | "archive" => json!(self.token),
            "token" => json!(self.record),
            "auditeventuuid" => json!(self.event),
            "unlockuuid" => json!(self.unlock),
            "If-Match" => json!("*"),
            "file" => json!("index.css"),
            "mode" => person["mode"].clone(),
            "identity" => person["identity"].clone(),
            "users" => json!([person]),
            "profile" => json!({ "email": "new@example.com" }),
            "records" => json!([{ "profile": { "email": "new@example.com" } }]),
            "patch" => json!([{ "op": "add", "path": "/x", "value": 1 }]),
            "name" | "first_name" | "last_name" | "adminFirstName" | "adminLastName" => {
                json!("Other")
            }
            "slug" | "tenantname" | "subdomain" => json!("other"),
            "tenantorg" | "org" => json!("org"),
            "email" | "adminEmail" | "identifier" => json!("new@example.com"),
            "password" | "adminPassword" | "newPassword" | "current_password" | "new_password" => {
                json!(PASSWORD)
            }
            "role" => json!("VIEWER"),
            "to" => json!("worker-1:5432"),
            "permissions" => json!(["VIEW_TENANTS"]),
            _ => return None,
        })
    }

    /// Returns a valid request for an operation on Alpha. Without `names`, the headers that select a tenant are
    /// left out.
    pub fn request(
        &self,
        operation: &Operation,
        caller: &Caller,
        names: bool,
    ) -> reqwest::RequestBuilder {
        let here = format!("{} {}", operation.method, operation.template);
        let (mut path, mut headers, mut query) =
            (operation.template.clone(), Vec::new(), Vec::new());
        for parameter in operation.described()["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().expect("a parameter has a name");
            let needed = parameter["required"] == json!(true);
            let known = self.value(name).map(|value| match value {
                Value::String(text) => text,
                other => other.to_string(),
            });
            let of_tenant = match name.to_lowercase().as_str() {
                "x-bunker-tenant" => Some(self.alpha.name.clone()),
                "x-tenant-id" => Some(self.alpha.id.to_string()),
                _ => None,
            };
            let value = match (of_tenant, known) {
                (Some(tenant), _) if names => tenant,
                (None, Some(value)) if needed || name == "tenant" => value,
                (None, None) if needed => {
                    panic!("{here}: this test has no value for the parameter {name}")
                }
                _ => continue,
            };
            match parameter["in"].as_str() {
                Some("path") => path = path.replace(&format!("{{{name}}}"), &value),
                Some("query") => query.push(format!("{name}={value}")),
                Some("header") => headers.push((name, value)),
                other => panic!("{here}: this test knows no parameter in {other:?}"),
            }
        }
        assert!(!path.contains('{'), "{here} does not document all parameters of its path");
        let method = Method::from_bytes(operation.method.as_bytes()).expect("the method is valid");
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let mut request = caller.request(method, &path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let content = operation.described()["requestBody"]["content"].as_object();
        match content.and_then(|content| content.values().next()) {
            Some(form) => request.json(&self.body(&form["schema"], &here)),
            None => request,
        }
    }

    /// Returns the smallest body that a schema accepts, with every optional field that selects a tenant.
    fn body(&self, schema: &Value, here: &str) -> Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let at = reference.strip_prefix('#').expect("the reference points into the document");
            let target = DOCUMENT.pointer(at);
            return self.body(target.expect("the target of the reference exists"), here);
        }
        if let Some(variants) = schema["oneOf"].as_array() {
            let is_form = |variant: &&Value| variant["type"] != "null";
            return self.body(variants.iter().find(is_form).expect("a variant is not null"), here);
        }
        let mut body = Map::new();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            if let Value::Object(members) = self.body(part, here) {
                body.extend(members);
            }
        }
        let required = schema["required"].as_array().into_iter().flatten();
        let required: Vec<&str> = required.filter_map(Value::as_str).collect();
        for name in schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name) {
            let is_required = required.contains(&name.as_str());
            if !is_required && !["tenant_id", "tenantid", "profile"].contains(&name.as_str()) {
                continue;
            }
            // A person is identified by token where the schema requires a UUID.
            let value = match (name.as_str(), &schema["properties"][name]["format"]) {
                ("identity", format) if format == "uuid" => Some(json!(self.record)),
                ("mode", _) => {
                    let mode = &schema["properties"]["mode"];
                    mode["$ref"].as_str().map(|reference| {
                        let at = reference
                            .strip_prefix('#')
                            .expect("the reference points into the document");
                        DOCUMENT.pointer(at).expect("the target of the reference exists")["enum"][0]
                            .clone()
                    })
                }
                _ => self.value(name),
            };
            let value = value.unwrap_or_else(|| panic!("{here}: no value for the field {name}"));
            body.insert(name.clone(), value);
        }
        Value::Object(body)
    }
}

/// Returns the security scheme of an operation.
pub fn scheme(operation: &Operation) -> Option<&'static str> {
    let requirement = operation.described()["security"][0].as_object()?;
    requirement.keys().next().map(String::as_str)
}

/// An operation in no tenant, whatever the headers select: an unlock belongs to its caller and grants nothing
/// beyond the caller's credential.
const IN_NO_TENANT: &str = "/v2/BulkListUnlock";

/// The beginning of the 403 of an operation that only a user who has logged in may call.
const NO_SESSION: &str = "The credential is no user's session";

/// The prefix of operations on the whole fleet, whose ids are those of operations and not of tenants.
pub const FLEET_PREFIX: &str = "/control/v1/migrations";

/// Returns whether the path, the headers or the query of a request select Alpha.
pub fn selects_alpha(operation: &Operation) -> bool {
    if operation.template == IN_NO_TENANT || operation.template.starts_with(FLEET_PREFIX) {
        return false;
    }
    let mut parameters = operation.described()["parameters"].as_array().into_iter().flatten();
    parameters.any(|parameter| {
        let name = parameter["name"].as_str().unwrap_or_default().to_lowercase();
        // v1 finds the record in its path in the tenant that the header selects.
        ["tenant", "tenantuuid", "user_id", "id", "x-tenant-id", "x-bunker-tenant"]
            .contains(&name.as_str())
    })
}

#[track_caller]
fn assert_refused(operation: &Operation, who: &str, answer: &Answer, statuses: &[u16]) {
    let here = format!("{} {}", operation.method, operation.template);
    assert!(statuses.contains(&answer.status), "{here}: {who}: {answer:?}");
    assert!(!answer.text.contains(SECRET), "{here}: {who}: {answer:?}");
}

#[tokio::test]
async fn no_operation_serves_an_unauthenticated_caller() {
    let fixture = Fixture::build().await;
    let before = fixture.alpha_rows().await;
    let app = &fixture.app;
    for operation in operations() {
        for (who, token) in [
            ("no credential", None),
            ("garbage", Some("garbage")),
            ("an unknown token", Some("6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f")),
        ] {
            let statuses: &[u16] = match scheme(&operation) {
                Some("bearer" | "refresh") => &[401],
                // Databunker's contract has no 401.
                Some("xtoken") => &[403],
                Some(other) => panic!("this test does not know the credential {other}"),
                // `unauthorized.rs` lists the public operations.
                None => continue,
            };
            let caller = token.map_or_else(|| app.anonymous(), |token| app.bearer(token));
            let request = fixture.request(&operation, &caller, true);
            let request = match (scheme(&operation), token) {
                (Some("xtoken"), Some(token)) => request.header("x-bunker-token", token),
                (Some("refresh"), Some(token)) => {
                    request.header("cookie", format!("refreshToken={token}"))
                }
                _ => request,
            };
            assert_refused(&operation, who, &send(request).await, statuses);
        }
    }
    assert_eq!(fixture.alpha_rows().await, before);
}

#[tokio::test]
async fn no_operation_serves_a_caller_without_its_permission() {
    let fixture = Fixture::build().await;
    let before = fixture.alpha_rows().await;
    for operation in operations().iter().filter(|operation| scheme(operation) == Some("bearer")) {
        let here = format!("{} {}", operation.method, operation.template);
        // An operation without a documented 403 accepts every authenticated caller.
        let Some(description) = operation.described()["responses"]["403"]["description"].as_str()
        else {
            continue;
        };
        if description.starts_with(NO_SESSION) {
            // No permission is enough.
            let (_, token) = fixture.app.add_token(Permission::ALL, None, None).await;
            let answer = send(fixture.request(operation, &token, true)).await;
            assert_refused(operation, "a token without a session", &answer, &[403]);
            continue;
        }
        let identifiers = description.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        let mut needed = identifiers.filter_map(|word| word.parse::<Permission>().ok());
        let needed = needed.next().unwrap_or_else(|| {
            panic!(
                "{here}: the document's 403 does not say which permission is missing: {description}"
            )
        });
        let is_other = |other: &Permission| !needed.is_among(&[*other]);
        let others: Vec<_> = Permission::ALL.iter().copied().filter(is_other).collect();
        let (_, weak) = fixture.app.add_token(&others, None, None).await;
        let answer = send(fixture.request(operation, &weak, true)).await;
        assert_refused(operation, &format!("a token without {needed}"), &answer, &[403]);
    }
    assert_eq!(fixture.alpha_rows().await, before);
}

#[tokio::test]
async fn no_operation_serves_or_reveals_another_tenant() {
    let fixture = Fixture::build().await;
    let before = fixture.alpha_rows().await;
    let (_, bound) = fixture.app.add_token(Permission::ALL, Some(fixture.beta.id), None).await;
    let admin = fixture.app.log_in("beta@example.com").await;
    let mut refusals = 0;
    for operation in operations() {
        let Some(scheme) = scheme(&operation).filter(|scheme| *scheme != "refresh") else {
            continue;
        };
        let here = format!("{} {}", operation.method, operation.template);
        for (who, caller) in [("Beta's token", &bound), ("Beta's admin", &admin)] {
            for names in [true, false] {
                let request = fixture.request(&operation, caller, names);
                let request = match scheme {
                    "xtoken" => request.header("x-bunker-token", &fixture.beta.xtoken),
                    _ => request,
                };
                let answer = send(request).await;
                if names && selects_alpha(&operation) {
                    assert_refused(&operation, who, &answer, &[403, 404]);
                    refusals += 1;
                }
                // Served or refused, the answer contains nothing of Alpha.
                assert!(!answer.text.contains(SECRET), "{here}: {who}: {answer:?}");
                assert!(answer.status < 500, "{here}: {who}: {answer:?}");
            }
        }
        assert_eq!(fixture.alpha_rows().await, before, "{here} changed rows of Alpha");
    }
    assert!(refusals > 80, "only {refusals} operations were refused");
}

#[tokio::test]
async fn root_reads_the_objects_that_other_tenants_are_refused() {
    let fixture = Fixture::build().await;
    let root = fixture.app.root();
    for operation in operations().iter().filter(|operation| {
        // The ids of events, examinations, archives and imports are of another kind; others ask for those.
        let is_event = ["events/{id}", "examinations/{id}", "v1/archives", "imports/{id}"]
            .iter()
            .any(|part| operation.template.contains(part));
        operation.method == "GET" && selects_alpha(operation) && !is_event
    }) {
        let request = fixture
            .request(operation, &root, true)
            .header("x-bunker-token", &fixture.app.root_token);
        let answer = send(request).await;
        assert_eq!(answer.status, 200, "{} {}: {answer:?}", operation.method, operation.template);
        let is_log =
            ["audit", "events", "/schema"].iter().any(|part| operation.template.contains(part));
        assert!(answer.text.contains(SECRET) || is_log, "{answer:?}");
    }
}
