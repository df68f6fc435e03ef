//! Answers of the server under test, and what a failed expectation shows of them.

use std::fmt::Write as _;
use std::ops::Index;
use std::panic::Location;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An answer with its whole body, and the request that it answers.
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
    /// The body if it is JSON, otherwise null.
    pub body: Value,
    sent: Sent,
}

impl Reply {
    pub(super) fn new(status: u16, headers: HeaderMap, text: String, sent: Sent) -> Self {
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, text, body, sent }
    }

    /// Returns the answer if it has this status.
    ///
    /// # Panics
    /// With the whole request and the whole answer if it has another.
    #[track_caller]
    #[expect(
        clippy::must_use_candidate,
        clippy::return_self_not_must_use,
        reason = "most expectations are a statement"
    )]
    pub fn expect(self, status: u16) -> Self {
        if self.status != status {
            self.fail(&format!("expected {status}, and the answer is {}", self.status));
        }
        self
    }

    /// Returns the body as a value of this type.
    ///
    /// # Panics
    /// With the whole request and the whole answer if it is none.
    #[track_caller]
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text).unwrap_or_else(|error| {
            self.fail(&format!("the body is not a {}: {error}", std::any::type_name::<T>()))
        })
    }

    /// Returns a header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Fails the test with the whole request and the whole answer.
    #[track_caller]
    pub(super) fn fail(&self, why: &str) -> ! {
        let mut text = String::new();
        let reason = StatusCode::from_u16(self.status).ok().and_then(|s| s.canonical_reason());
        let _ = writeln!(text, "< {} {}", self.status, reason.unwrap_or_default());
        write_message(&mut text, '<', &self.headers, &self.text);
        if self.status >= 500 {
            text.push_str(
                "\nThe server's log has the cause: set ROWHOUSE_LOG__FILTER=warn to see it.\n",
            );
        }
        self.sent.fail(&format!("{why}\n\n{}\n{text}", self.sent.text))
    }
}

/// Shows the whole request and the whole answer.
impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("request", &self.sent.text)
            .field("status", &self.status)
            .field("text", &self.text)
            .finish_non_exhaustive()
    }
}

/// A member of a JSON object, or null.
impl Index<&str> for Reply {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        &self.body[name]
    }
}

/// An item of a JSON array, or null.
impl Index<usize> for Reply {
    type Output = Value;

    fn index(&self, at: usize) -> &Value {
        &self.body[at]
    }
}

/// A request that was sent, as a failure shows it. It has no credential.
pub(super) struct Sent {
    text: String,
    at: &'static Location<'static>,
}

impl Sent {
    pub(super) fn new(
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
        at: &'static Location<'static>,
    ) -> Self {
        let mut text = format!("> {method} {path}\n");
        write_message(&mut text, '>', headers, &String::from_utf8_lossy(body));
        Self { text, at }
    }

    /// Fails the test.
    #[track_caller]
    #[expect(clippy::panic, reason = "a failed expectation of a test")]
    pub(super) fn fail(&self, why: &str) -> ! {
        panic!("{why}\nThe request was made at {}", self.at)
    }
}

fn write_message(text: &mut String, mark: char, headers: &HeaderMap, body: &str) {
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let is_secret = ["authorization", "cookie", "set-cookie", "x-api-key"];
        let value = if is_secret.contains(&name.as_str()) { "(hidden)".into() } else { value };
        let _ = writeln!(text, "{mark} {name}: {value}");
    }
    let pretty = serde_json::from_str::<Value>(body).ok().filter(|_| !body.is_empty());
    let pretty = pretty.and_then(|body| serde_json::to_string_pretty(&body).ok());
    let _ = writeln!(text, "{}", pretty.as_deref().unwrap_or(body));
}
