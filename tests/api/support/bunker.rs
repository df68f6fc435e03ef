//! A client of Databunker's dialect, and queries for what its tests check in the database.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::Client;
use uuid::Uuid;

use super::callers::send;
use super::{Answer, Caller, TestApp};

/// A caller with an optional xtoken that may name a tenant by header or by host.
#[derive(Clone)]
pub struct Bunker {
    caller: Caller,
    token: Option<String>,
    tenant: Option<String>,
    host: Option<String>,
}

/// A tenant created by `TenantCreate`, and its admin.
pub struct BunkerTenant {
    pub id: Uuid,
    pub number: i64,
    pub name: String,
    pub xtoken: String,
    /// A caller with the tenant's own token that names no tenant.
    pub admin: Bunker,
}

impl BunkerTenant {
    /// Returns the name of its schema, which is also its role's.
    pub fn schema(&self) -> String {
        format!("tenant_{}", self.id.simple())
    }

    /// Stores a record and returns its token.
    pub async fn add(&self, profile: Value) -> String {
        let answer = self.admin.call("UserCreate", json!({ "profile": profile })).await;
        answer.ok()["token"].as_str().expect("a token is a text").to_owned()
    }
}

impl Bunker {
    /// Returns the same caller, naming a tenant by header.
    pub fn for_tenant(&self, tenant: &str) -> Self {
        Self { tenant: Some(tenant.to_owned()), ..self.clone() }
    }

    /// Returns the same caller, naming this host.
    pub fn at_host(&self, host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..self.clone() }
    }

    /// Returns the same caller with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Returns whether both callers have the same token.
    pub fn has_same_token(&self, other: &Self) -> bool {
        self.token == other.token
    }

    /// Calls `/v2/<name>`.
    pub async fn call(&self, name: &str, body: Value) -> Answer {
        send(self.request(Method::POST, &format!("/v2/{name}")).json(&body)).await
    }

    /// Calls `/v2/<name>` about one person.
    pub async fn about(&self, name: &str, mode: &str, identity: &str) -> Answer {
        self.call(name, json!({ "mode": mode, "identity": identity })).await
    }

    /// Reads a record by its e-mail address.
    pub async fn get(&self, email: &str) -> Answer {
        self.about("UserGet", "email", email).await
    }

    /// Requests an unlock.
    pub async fn unlock(&self) -> String {
        let answer = self.call("BulkListUnlock", json!({})).await;
        answer.ok()["unlockuuid"].as_str().expect("an unlock is a text").to_owned()
    }

    /// Builds a request with the caller's headers.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut request = self.caller.request(method, path);
        for (name, value) in [
            ("x-bunker-token", &self.token),
            ("x-bunker-tenant", &self.tenant),
            ("host", &self.host),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request
    }

    /// Sends a body unchanged, with this `Content-Type`.
    pub async fn send(
        &self,
        path: &str,
        media_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        send(self.request(Method::POST, path).header("content-type", media_type).body(body)).await
    }
}

impl Answer {
    /// Fails unless this is a success in Databunker's form; returns the body.
    #[track_caller]
    pub fn ok(&self) -> &Value {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(self.body["status"], "ok", "{self:?}");
        &self.body
    }

    /// Fails unless this is an error in Databunker's form with exactly its two keys; returns the message.
    #[track_caller]
    pub fn error(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let message = self.body["message"].as_str().unwrap_or_else(|| panic!("{self:?}"));
        assert_eq!(self.body, json!({ "status": "error", "message": message }), "{self:?}");
        message
    }
}

impl TestApp {
    /// Creates a caller of Databunker's dialect.
    pub fn bunker(&self, token: &str) -> Bunker {
        Bunker { token: Some(token.to_owned()), ..self.bunker_anonymous() }
    }

    /// Creates a caller with the root token, which is the main tenant's admin.
    pub fn bunker_root(&self) -> Bunker {
        self.bunker(&self.root_token)
    }

    /// Creates a caller without a token.
    pub fn bunker_anonymous(&self) -> Bunker {
        Bunker { caller: self.anonymous(), token: None, tenant: None, host: None }
    }

    /// Creates a tenant by `TenantCreate`.
    pub async fn bunker_tenant(&self, name: &str) -> BunkerTenant {
        let body = json!({ "tenantname": name, "tenantorg": "testorg" });
        let answer = self.bunker_root().call("TenantCreate", body).await;
        let xtoken = answer.ok()["xtoken"].as_str().expect("a token is a text").to_owned();
        let number = answer.body["tenantid"].as_i64().expect("a tenantid is a number");
        let sql = "SELECT id FROM tenants WHERE number = $1";
        let row = self.sql().await.query_one(sql, &[&number]).await.expect("the tenant has a row");
        let admin = self.bunker(&xtoken);
        BunkerTenant { id: row.get(0), number, name: name.to_owned(), xtoken, admin }
    }

    /// Returns the tenant schemas whose records or record versions contain a text, such as a person's address.
    pub async fn schemas_with(&self, text: &str) -> Vec<String> {
        let sql = self.sql().await;
        let mut found = Vec::new();
        for schema in schemas(&sql).await {
            let query = format!(
                "SELECT EXISTS (SELECT FROM {schema}.profiles p WHERE strpos(p::text, $1) > 0)
                     OR EXISTS (SELECT FROM {schema}.profile_versions v WHERE strpos(v::text, $1) > 0)"
            );
            if sql.query_one(&query, &[&text]).await.expect("records can be looked through").get(0)
            {
                found.push(schema);
            }
        }
        found
    }

    /// Returns the number of rows of a tenant's table.
    pub async fn count(&self, schema: &str, table: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {schema}.{table}");
        self.sql().await.query_one(&query, &[]).await.expect("rows can be counted").get(0)
    }
}

/// Returns the schemas of all tenants.
pub async fn schemas(sql: &Client) -> Vec<String> {
    let query = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'tenant\\_%' ORDER BY 1";
    let rows = sql.query(query, &[]).await.expect("schemas can be listed");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Replaces what differs from run to run (UUIDs, times, digests) by placeholders.
pub fn redacted(body: &Value) -> Value {
    match body {
        Value::String(text) if Uuid::try_parse(text).is_ok() => json!("<uuid>"),
        Value::Array(items) => items.iter().map(redacted).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let value = match name.as_str() {
                    "optime" | "timestamp" | "expirationtime" if value.is_i64() => json!("<time>"),
                    "md5" if value.as_str().is_some_and(|text| text.len() == 32) => json!("<md5>"),
                    _ => redacted(value),
                };
                (name.clone(), value)
            };
            Value::Object(fields.iter().map(field).collect())
        }
        other => other.clone(),
    }
}

/// Sends these bytes, for requests that no well-behaved client makes, and reads until the connection ends.
/// Returns the status and the body.
pub async fn raw(app: &TestApp, request: impl AsRef<[u8]>) -> (u16, String) {
    let address = app.address.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(request.as_ref()).await.expect("the server reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("the whole answer can be read");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}
