//! Callers of the API and the answers that they get.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::documented;

/// A caller with one credential or none.
#[derive(Clone)]
pub struct Caller {
    address: String,
    client: reqwest::Client,
    token: Option<String>,
    api_key: Option<String>,
}

/// An answer with its whole body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// The body if it is JSON, otherwise null.
    pub body: Value,
}

impl Answer {
    /// Returns a header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Fails unless this is an error in Reten's form; returns its message.
    #[track_caller]
    pub fn refusal(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(self.body["statusCode"], status, "{self:?}");
        let reason = reqwest::StatusCode::from_u16(status).expect("it is a status");
        assert_eq!(self.body["error"].as_str(), reason.canonical_reason(), "{self:?}");
        self.body["message"].as_str().unwrap_or_else(|| panic!("there is no message in {self:?}"))
    }

    /// Fails unless the answer has a `Retry-After` header; returns its seconds.
    #[track_caller]
    pub fn retry_after(&self) -> u64 {
        let seconds = self.header("retry-after").and_then(|text| text.parse().ok());
        seconds.unwrap_or_else(|| panic!("there is no Retry-After: {self:?}"))
    }

    /// Returns the invalid fields of the answer, each with its rule, in order.
    pub fn bad_rules(&self) -> Vec<(&str, &str)> {
        let errors = self.body["errors"].as_array().into_iter().flatten();
        errors
            .map(|e| (e["field"].as_str().unwrap_or("?"), e["code"].as_str().unwrap_or("?")))
            .collect()
    }

    /// Returns the names of the invalid fields of the answer, in order.
    pub fn bad_fields(&self) -> Vec<&str> {
        self.body["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| e["field"].as_str())
            .collect()
    }
}

impl Caller {
    pub fn new(address: &str, token: Option<&str>) -> Self {
        let client = reqwest::Client::builder()
            // Without TLS, it would read the certificates of the system for nothing.
            .tls_certs_only([])
            .timeout(Duration::from_mins(1))
            .build()
            .expect("a client without TLS can always be built");
        let token = token.map(str::to_owned);
        Self { address: address.to_owned(), client, token, api_key: None }
    }

    /// Creates a caller with an API key.
    pub fn keyed(address: &str, key: &str) -> Self {
        Self { api_key: Some(key.to_owned()), ..Self::new(address, None) }
    }

    /// Returns the bearer token.
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("this caller has a token")
    }

    /// Builds a request with the caller's credential, so that a test can add headers before sending it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.address));
        match (&self.token, &self.api_key) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some(key)) => request.header("x-api-key", key),
            (None, None) => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    /// Sends a body unchanged, labelled as JSON.
    pub async fn post_raw(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        send(self.request(Method::POST, path).header("content-type", "application/json").body(body))
            .await
    }
}

/// Sends a request, reads its answer and checks it against the OpenAPI document.
pub async fn send(request: RequestBuilder) -> Answer {
    let (client, request) = request.build_split();
    let request = request.expect("it is a request");
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let response = client.execute(request).await.expect("the server answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("the whole body can be read");
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    let answer = Answer { status, headers, text, body };
    documented::check(&method, &path, &answer);
    answer
}
