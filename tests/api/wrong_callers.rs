//! Walks every operation of the OpenAPI document with every wrong caller: without a credential, with a bad
//! one, without the permission, and with a good one of another tenant. New routes join by being documented;
//! where the document does not say enough to call one, the walk fails and asks for it.
//!
//! Who may call what is told in [`unauthorized`](crate::unauthorized), route by route.

use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::documented::{DOCUMENT, Operation, operations};
use crate::support::{Answer, BunkerTenant, Caller, PASSWORD, TestApp};

/// Stands in what only Alpha's people may read, and in no request.
const SECRET: &str = "alpha-secret";

/// Two tenants; Alpha is the one that Beta's people try to get at.
struct House {
    app: TestApp,
    alpha: BunkerTenant,
    beta: BunkerTenant,
    /// A record of Alpha's.
    record: String,
    /// An audit event of Alpha's.
    event: String,
    /// A token that is bound to Alpha.
    token: Uuid,
    /// Alpha's admin.
    user: Uuid,
    /// Beta's own unlock.
    unlock: String,
}

impl House {
    async fn build() -> Self {
        let app = TestApp::spawn().await;
        let (alpha, beta) = (app.bunker_tenant("alpha").await, app.bunker_tenant("beta").await);
        let profile = json!({ "email": "ada@example.com", "note": SECRET });
        let record = alpha.add(profile).await;
        let by_token = |token: &str| json!({ "mode": "token", "identity": token });
        let events = alpha.admin.call("AuditListUserEvents", by_token(&record)).await;
        let event = events.ok()["rows"][0]["auditeventuuid"].as_str().expect("it is told").into();
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
        let (token, _) = app.add_token(&[Permission::ViewTenants], Some(alpha.id), None).await;
        let admin = app.log_in(alphas).await;
        let key = json!({ "name": SECRET, "permissions": ["VIEW_USERS"] });
        let request = admin.request(Method::POST, "/api/api-keys").json(&key);
        let made = send(request.header("x-tenant-id", alpha.id.to_string())).await;
        assert_eq!(made.status, 201, "{made:?}");
        let unlock = beta.admin.unlock().await;
        Self { app, alpha, beta, record, event, token: token.uuid(), user, unlock }
    }

    /// What belongs to Alpha, as it stands in the database.
    async fn of_alpha(&self) -> Vec<String> {
        let (id, schema) = (self.alpha.id, self.alpha.schema());
        let sql = self.app.sql().await;
        let mut found = Vec::new();
        for query in [
            "SELECT t::text FROM tenants t WHERE id = $1".to_owned(),
            "SELECT m::text FROM memberships m WHERE tenant_id = $1 ORDER BY 1".to_owned(),
            "SELECT t.id::text || t.permissions::text || coalesce(t.revoked_at::text, '')
               FROM tokens t WHERE tenant_id = $1 ORDER BY 1"
                .to_owned(),
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

    /// A value for a field or parameter of this name, one that means Alpha where it means a tenant.
    fn value(&self, name: &str) -> Option<Value> {
        let person = json!({ "mode": "email", "identity": "ada@example.com" });
        Some(match name {
            "tenant" | "tenant_id" | "tenantUuid" => json!(self.alpha.id),
            "tenantid" => json!(self.alpha.number),
            "external_id" => json!("alpha-id"),
            "user_id" | "userId" => json!(self.user),
            "id" => json!(self.token),
            "token" => json!(self.record),
            "auditeventuuid" => json!(self.event),
            "unlockuuid" => json!(self.unlock),
            "If-Match" => json!("*"),
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
            "password" | "adminPassword" | "newPassword" => json!(PASSWORD),
            "role" => json!("VIEWER"),
            "permissions" => json!(["VIEW_TENANTS"]),
            _ => return None,
        })
    }

    /// The operation, called in good form and about Alpha wherever it can be said. `None` for `tenant`
    /// leaves out the headers that name one.
    fn request(&self, of: &Operation, caller: &Caller, names: bool) -> reqwest::RequestBuilder {
        let here = format!("{} {}", of.method, of.template);
        let (mut path, mut headers, mut query) = (of.template.clone(), Vec::new(), Vec::new());
        for parameter in of.described()["parameters"].as_array().into_iter().flatten() {
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
                    panic!("{here}: this walk has no value for the parameter {name}")
                }
                _ => continue,
            };
            match parameter["in"].as_str() {
                Some("path") => path = path.replace(&format!("{{{name}}}"), &value),
                Some("query") => query.push(format!("{name}={value}")),
                Some("header") => headers.push((name, value)),
                other => panic!("{here}: this walk knows no parameter in {other:?}"),
            }
        }
        assert!(!path.contains('{'), "{here} does not document all parameters of its path");
        let method = Method::from_bytes(of.method.as_bytes()).expect("it is a method");
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let mut request = caller.request(method, &path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let content = of.described()["requestBody"]["content"].as_object();
        match content.and_then(|content| content.values().next()) {
            Some(form) => request.json(&self.body(&form["schema"], &here)),
            None => request,
        }
    }

    /// The smallest body that a schema asks for, and whatever can name a tenant beside it.
    fn body(&self, schema: &Value, here: &str) -> Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let at = reference.strip_prefix('#').expect("it points into the document");
            let target = DOCUMENT.pointer(at);
            return self.body(target.expect("it leads somewhere"), here);
        }
        if let Some(variants) = schema["oneOf"].as_array() {
            let is_form = |variant: &&Value| variant["type"] != "null";
            return self.body(variants.iter().find(is_form).expect("there is one"), here);
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
            // A person by token where nothing else will do.
            let value = match (name.as_str(), &schema["properties"][name]["format"]) {
                ("identity", format) if format == "uuid" => Some(json!(self.record)),
                ("mode", _) => {
                    let mode = &schema["properties"]["mode"];
                    mode["$ref"].as_str().map(|reference| {
                        let at = reference.strip_prefix('#').expect("it points into the document");
                        DOCUMENT.pointer(at).expect("it leads somewhere")["enum"][0].clone()
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

/// The scheme of a credential that an operation asks for.
fn scheme(of: &Operation) -> Option<&'static str> {
    let requirement = of.described()["security"][0].as_object()?;
    requirement.keys().next().map(String::as_str)
}

/// Works in no tenant, whatever the headers name: an unlock is the caller's own, and opens nothing but what
/// the caller's credential reaches.
const IN_NO_TENANT: &str = "/v2/BulkListUnlock";

/// What is done to all tenants at once; its ids are those of operations.
const OF_THE_FLEET: &str = "/control/v1/migrations";

/// Whether a call can only mean Alpha: its path, its headers or its query say so.
fn names_alpha(of: &Operation) -> bool {
    if of.template == IN_NO_TENANT || of.template.starts_with(OF_THE_FLEET) {
        return false;
    }
    let mut parameters = of.described()["parameters"].as_array().into_iter().flatten();
    parameters.any(|parameter| {
        let name = parameter["name"].as_str().unwrap_or_default().to_lowercase();
        // The record in the path of v1 is looked for in the caller's own tenant, which the header names.
        ["tenant", "tenantuuid", "user_id", "id", "x-tenant-id", "x-bunker-tenant"]
            .contains(&name.as_str())
    })
}

#[track_caller]
fn refused(of: &Operation, who: &str, answer: &Answer, statuses: &[u16]) {
    let here = format!("{} {}", of.method, of.template);
    assert!(statuses.contains(&answer.status), "{here}: {who}: {answer:?}");
    assert!(!answer.text.contains(SECRET), "{here}: {who}: {answer:?}");
}

#[tokio::test]
async fn no_operation_serves_whom_nobody_knows() {
    let house = House::build().await;
    let before = house.of_alpha().await;
    let app = &house.app;
    for of in operations() {
        for (who, token) in [
            ("nobody", None),
            ("garbage", Some("garbage")),
            ("a stranger", Some("6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f")),
        ] {
            let statuses: &[u16] = match scheme(&of) {
                Some("bearer" | "refresh") => &[401],
                // Its contract knows no 401.
                Some("xtoken") => &[403],
                Some(other) => panic!("this walk does not know the credential {other}"),
                // `unauthorized.rs` tells which these are.
                None => continue,
            };
            let caller = token.map_or_else(|| app.anonymous(), |token| app.bearer(token));
            let request = house.request(&of, &caller, true);
            let request = match (scheme(&of), token) {
                (Some("xtoken"), Some(token)) => request.header("x-bunker-token", token),
                (Some("refresh"), Some(token)) => {
                    request.header("cookie", format!("refreshToken={token}"))
                }
                _ => request,
            };
            refused(&of, who, &send(request).await, statuses);
        }
    }
    assert_eq!(house.of_alpha().await, before);
}

#[tokio::test]
async fn no_operation_serves_whoever_lacks_its_permission() {
    let house = House::build().await;
    let before = house.of_alpha().await;
    for of in operations().iter().filter(|of| scheme(of) == Some("bearer")) {
        let here = format!("{} {}", of.method, of.template);
        // Whoever is known may call what knows no 403.
        let Some(told) = of.described()["responses"]["403"]["description"].as_str() else {
            continue;
        };
        let words = told.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        let mut needed = words.filter_map(|word| word.parse::<Permission>().ok());
        let needed = needed.next().unwrap_or_else(|| {
            panic!("{here}: the document's 403 does not say which permission is missing: {told}")
        });
        let others: Vec<_> = Permission::ALL.iter().copied().filter(|p| *p != needed).collect();
        let (_, weak) = house.app.add_token(&others, None, None).await;
        let answer = send(house.request(of, &weak, true)).await;
        refused(of, &format!("a token without {needed}"), &answer, &[403]);
    }
    assert_eq!(house.of_alpha().await, before);
}

#[tokio::test]
async fn no_operation_serves_another_tenant_or_tells_of_it() {
    let house = House::build().await;
    let before = house.of_alpha().await;
    let (_, bound) = house.app.add_token(Permission::ALL, Some(house.beta.id), None).await;
    let admin = house.app.log_in("beta@example.com").await;
    let mut refusals = 0;
    for of in operations() {
        let Some(scheme) = scheme(&of).filter(|scheme| *scheme != "refresh") else { continue };
        let here = format!("{} {}", of.method, of.template);
        for (who, caller) in [("Beta's token", &bound), ("Beta's admin", &admin)] {
            for names in [true, false] {
                let request = house.request(&of, caller, names);
                let request = match scheme {
                    "xtoken" => request.header("x-bunker-token", &house.beta.xtoken),
                    _ => request,
                };
                let answer = send(request).await;
                if names && names_alpha(&of) {
                    refused(&of, who, &answer, &[403, 404]);
                    refusals += 1;
                }
                // Served or not, nothing of Alpha's is told.
                assert!(!answer.text.contains(SECRET), "{here}: {who}: {answer:?}");
                assert!(answer.status < 500, "{here}: {who}: {answer:?}");
            }
        }
        assert_eq!(house.of_alpha().await, before, "{here} changed what is Alpha's");
    }
    assert!(refusals > 80, "the walk has called what it says: {refusals}");
}

#[tokio::test]
async fn what_is_refused_to_another_tenant_is_there() {
    let house = House::build().await;
    let root = house.app.root();
    for of in operations().iter().filter(|of| of.method == "GET" && names_alpha(of)) {
        let request =
            house.request(of, &root, true).header("x-bunker-token", &house.app.root_token);
        let answer = send(request).await;
        assert_eq!(answer.status, 200, "{} {}: {answer:?}", of.method, of.template);
        assert!(answer.text.contains(SECRET) || of.template.contains("audit"), "{answer:?}");
    }
}
