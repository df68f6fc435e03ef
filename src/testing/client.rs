//! Callers of the server under test.

use std::future::IntoFuture;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::sync::Mutex;

use super::reply::{Reply, Sent};
use super::server::{Login, TestServer};
use super::time::TestTime;
use crate::domain::TenantId;
use crate::http::moved_time;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The credential of a caller.
#[derive(Debug, Clone)]
pub(super) enum Credential {
    None,
    Bearer(String),
    /// A user, who logs in before the first request, and again when the time was moved since.
    User(Login),
}

/// A caller of the server under test: a user, the root, or one without a credential; in one tenant or in none.
///
/// Cheap to clone. Each answer is held against the `OpenAPI` document of the server: a status, a media type or a member
/// that the document does not list fails the test.
#[derive(Clone)]
pub struct TestClient(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    server: TestServer,
    tenant: Option<TenantId>,
    credential: Credential,
    time: TestTime,
    /// The access token of a user, and how far ahead the time was when it was issued.
    session: Mutex<Option<(Duration, String)>>,
}

impl TestClient {
    pub(super) fn new(
        server: &TestServer,
        tenant: Option<TenantId>,
        credential: Credential,
        time: &TestTime,
    ) -> Self {
        // Without TLS, it would read the certificates of the system for nothing.
        let http = reqwest::Client::builder().tls_certs_only([]).timeout(TIMEOUT).build();
        let http = http.expect("a client without TLS can always be built");
        Self::with(http, server, tenant, credential, time)
    }

    fn with(
        http: reqwest::Client,
        server: &TestServer,
        tenant: Option<TenantId>,
        credential: Credential,
        time: &TestTime,
    ) -> Self {
        let (server, time, session) = (server.clone(), time.clone(), Mutex::default());
        Self(Arc::new(Inner { http, server, tenant, credential, time, session }))
    }

    /// Returns a caller in the same tenant with another credential.
    pub(super) fn as_another(&self, credential: Credential) -> Self {
        let Inner { http, server, tenant, time, .. } = &*self.0;
        Self::with(http.clone(), server, *tenant, credential, time)
    }

    /// Begins a request, which `.await` sends.
    #[track_caller]
    pub fn request(&self, method: Method, path: &str) -> TestRequest {
        TestRequest {
            client: self.clone(),
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            at: Location::caller(),
        }
    }

    /// Reads.
    #[track_caller]
    pub fn get(&self, path: &str) -> TestRequest {
        self.request(Method::GET, path)
    }

    /// Sends a JSON body.
    #[expect(clippy::needless_pass_by_value, reason = "a test writes json!({..})")]
    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> TestRequest {
        self.request(Method::POST, path).json(&body)
    }

    /// Sends a JSON body.
    #[expect(clippy::needless_pass_by_value, reason = "a test writes json!({..})")]
    #[track_caller]
    pub fn put(&self, path: &str, body: Value) -> TestRequest {
        self.request(Method::PUT, path).json(&body)
    }

    /// Sends a JSON body.
    #[expect(clippy::needless_pass_by_value, reason = "a test writes json!({..})")]
    #[track_caller]
    pub fn patch(&self, path: &str, body: Value) -> TestRequest {
        self.request(Method::PATCH, path).json(&body)
    }

    /// Deletes.
    #[track_caller]
    pub fn delete(&self, path: &str) -> TestRequest {
        self.request(Method::DELETE, path)
    }

    /// Returns the bearer token of the caller at the time of the test.
    async fn token(&self) -> Option<String> {
        let login = match &self.0.credential {
            Credential::None => return None,
            Credential::Bearer(token) => return Some(token.clone()),
            Credential::User(login) => login,
        };
        let ahead = self.0.time.ahead();
        let mut session = self.0.session.lock().await;
        if let Some((issued, token)) = &*session
            && *issued == ahead
        {
            return Some(token.clone());
        }
        let token = self.0.server.log_in(login, ahead).await;
        *session = Some((ahead, token.clone()));
        Some(token)
    }
}

impl TestServer {
    /// Returns a caller with the root token, who may do everything outside of tenants.
    #[must_use]
    pub fn root(&self) -> TestClient {
        let token = Credential::Bearer(self.root_token().to_owned());
        TestClient::new(self, None, token, self.time())
    }

    /// Returns a caller without a credential and without a tenant.
    #[must_use]
    pub fn anonymous(&self) -> TestClient {
        TestClient::new(self, None, Credential::None, self.time())
    }
}

/// A request of a [`TestClient`]; `.await` sends it and returns the [`Reply`].
#[must_use = "a request is sent when it is awaited"]
pub struct TestRequest {
    client: TestClient,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
    at: &'static Location<'static>,
}

impl TestRequest {
    /// Adds a header.
    ///
    /// # Panics
    /// If the name or the value is none of a header.
    #[track_caller]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name);
        let value = HeaderValue::try_from(value);
        self.headers.append(name.expect("a header's name"), value.expect("a header's value"));
        self
    }

    /// Sends this JSON as the body.
    pub fn json(self, body: &Value) -> Self {
        let json = HeaderValue::from_static("application/json");
        self.body(json, body.to_string().into_bytes())
    }

    /// Sends these bytes as the body.
    ///
    /// # Panics
    /// If the media type is no header's value.
    #[track_caller]
    pub fn raw(self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let media_type = HeaderValue::try_from(media_type).expect("a media type");
        self.body(media_type, body.into())
    }

    fn body(mut self, media_type: HeaderValue, body: Vec<u8>) -> Self {
        self.headers.insert(header::CONTENT_TYPE, media_type);
        self.body = body;
        self
    }

    async fn send(self) -> Reply {
        let Self { client, method, path, headers, body, at } = self;
        let Inner { http, server, tenant, time, .. } = &*client.0;
        let sent = Sent::new(&method, &path, &headers, &body, at);
        let mut request = http
            .request(method.clone(), format!("{}{path}", server.url()))
            .headers(headers)
            .header(moved_time::HEADER, time.ahead().as_millis().to_string())
            .body(body);
        if let Some(tenant) = tenant {
            request = request.header(crate::http::extract::TENANT_HEADER, tenant.to_string());
        }
        if let Some(token) = client.token().await {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await;
        let answer = answer.unwrap_or_else(|error| sent.fail(&format!("no answer: {error:?}")));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let path = answer.url().path().to_owned();
        let text = answer.text().await;
        let text = text.unwrap_or_else(|error| sent.fail(&format!("no whole answer: {error:?}")));
        let checked = server
            .compare(&path, |document| document.compare(&method, &path, status, &headers, &text));
        let reply = Reply::new(status, headers, text, sent);
        if let Err(why) = checked {
            reply.fail(&format!("the answer differs from the OpenAPI document: {why}"));
        }
        reply
    }
}

impl IntoFuture for TestRequest {
    type Output = Reply;
    type IntoFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
