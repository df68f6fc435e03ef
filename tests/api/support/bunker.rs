//! A client of Databunker's dialect, and what its tests look at in the database.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::Client;
use uuid::Uuid;

use super::callers::send;
use super::{Answer, Caller, TestApp};

/// A caller with an xtoken or none, who may name a tenant by header or by host.
#[derive(Clone)]
pub struct Bunker {
    caller: Caller,
    token: Option<String>,
    tenant: Option<String>,
    host: Option<String>,
}

/// A tenant that was made by `TenantCreate`, and its admin.
pub struct BunkerTenant {
    pub id: Uuid,
    pub number: i64,
    pub name: String,
    pub xtoken: String,
    /// Calls with the tenant's own token and names no tenant.
    pub admin: Bunker,
}

impl BunkerTenant {
    /// The name of its schema and of its role.
    pub fn schema(&self) -> String {
        format!("tenant_{}", self.id.simple())
    }

    /// Stores a record and gives its token.
    pub async fn add(&self, profile: Value) -> String {
        let answer = self.admin.call("UserCreate", json!({ "profile": profile })).await;
        answer.ok()["token"].as_str().expect("a token is a text").to_owned()
    }
}

impl Bunker {
    /// The same caller, naming a tenant by header.
    pub fn for_tenant(&self, tenant: &str) -> Self {
        Self { tenant: Some(tenant.to_owned()), ..self.clone() }
    }

    /// The same caller, at this host.
    pub fn at_host(&self, host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..self.clone() }
    }

    /// The same caller with another credential.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Whether both have one credential.
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

    /// Takes an unlock.
    pub async fn unlock(&self) -> String {
        let answer = self.call("BulkListUnlock", json!({})).await;
        answer.ok()["unlockuuid"].as_str().expect("an unlock is a text").to_owned()
    }

    /// A request that is not sent yet.
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

    /// Sends a body as it is, under a label.
    pub async fn send(&self, path: &str, label: &str, body: impl Into<reqwest::Body>) -> Answer {
        send(self.request(Method::POST, path).header("content-type", label).body(body)).await
    }
}

impl Answer {
    /// Fails unless this is a success in Databunker's form; gives the body.
    #[track_caller]
    pub fn ok(&self) -> &Value {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(self.body["status"], "ok", "{self:?}");
        &self.body
    }

    /// Fails unless this is an error in Databunker's form, with both keys and no other; gives the message.
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
    /// A caller of Databunker's dialect.
    pub fn bunker(&self, token: &str) -> Bunker {
        Bunker { token: Some(token.to_owned()), ..self.bunker_anonymous() }
    }

    /// The main tenant's admin.
    pub fn bunker_root(&self) -> Bunker {
        self.bunker(&self.root_token)
    }

    /// Somebody without a token.
    pub fn bunker_anonymous(&self) -> Bunker {
        Bunker { caller: self.anonymous(), token: None, tenant: None, host: None }
    }

    /// Makes a tenant by `TenantCreate`.
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

    /// The schemas of the tenants that hold anything about a person: a text that stands somewhere in their
    /// records or versions.
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

    /// How many rows a table of a tenant has.
    pub async fn count(&self, schema: &str, table: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {schema}.{table}");
        self.sql().await.query_one(&query, &[]).await.expect("rows can be counted").get(0)
    }
}

/// The schemas of all tenants.
pub async fn schemas(sql: &Client) -> Vec<String> {
    let query = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'tenant\\_%' ORDER BY 1";
    let rows = sql.query(query, &[]).await.expect("schemas can be listed");
    rows.iter().map(|row| row.get(0)).collect()
}

/// A body with what is different each time taken out: UUIDs, times, digests.
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

/// Sends these bytes and reads the answer to its end: for requests that no well-behaved client makes.
/// Gives the status and the body.
pub async fn raw(app: &TestApp, request: impl AsRef<[u8]>) -> (u16, String) {
    let address = app.address.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(request.as_ref()).await.expect("the server reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("the answer has an end");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}
