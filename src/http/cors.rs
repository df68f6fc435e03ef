//! Allows pages of other origins to call the server from a browser: those in the settings, none by default.
//!
//! Each origin is listed exactly. There is no wildcard: the browser sends the refresh cookie with the requests, which an
//! arbitrary page must not cause. Every answer has the headers, including a refusal and a time-out, so that a dashboard
//! can read the error. An answer to another origin has no `Access-Control-Allow-Origin`, and the browser withholds it
//! from the page. CORS blocks no request: authorization depends on the credential. What works with a cookie refuses pages
//! of other sites by itself ([`origin`](super::origin)).
//!
//! The refresh cookie is `SameSite=Lax`, so a browser sends it from pages of the same site (`app.example.com` to
//! `api.example.com`) and not from another site, whatever is allowed here.

use std::str::FromStr;
use std::time::Duration;

use actix_cors::Cors;
use actix_web::http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LOCATION, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use actix_web::middleware::Condition;
use url::Url;

use super::limits::{RATE_LIMIT, RATE_LIMIT_POLICY};
use super::request_span::REQUEST_ID;

/// The request headers that a page may send.
const REQUEST_HEADERS: [HeaderName; 11] = [
    ACCEPT,
    AUTHORIZATION,
    CONTENT_TYPE,
    IF_MATCH,
    REQUEST_ID,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-bunker-tenant"),
    HeaderName::from_static("x-bunker-token"),
    HeaderName::from_static("x-requested-with"),
    HeaderName::from_static("x-tenant-id"),
];

/// The answer headers that a page may read.
const ANSWER_HEADERS: [HeaderName; 8] = [
    ALLOW,
    ETAG,
    LOCATION,
    RATE_LIMIT,
    RATE_LIMIT_POLICY,
    REQUEST_ID,
    RETRY_AFTER,
    WWW_AUTHENTICATE,
];

/// The allowed origins, and how long a browser may cache the answer to a preflight.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The allowed origins.
    pub origins: Origins,
    /// How long a browser may cache the answer to a preflight.
    pub max_age: Duration,
}

/// A list of origins, in the settings `https://app.example.com, http://localhost:5173`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Returns whether pages of this origin may call.
    pub(super) fn allow(&self, origin: &str) -> bool {
        self.0.iter().any(|allowed| allowed == origin)
    }
}

impl FromStr for Origins {
    type Err = String;

    /// # Errors
    /// The first part that is not an origin as browsers send it, and why.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(origin).collect::<Result<_, _>>().map(Self)
    }
}

/// Parses an origin, which must be written as a browser sends it, since it is compared as text.
fn origin(text: &str) -> Result<String, String> {
    if text.contains('*') {
        return Err(format!("{text:?}: a wildcard is not allowed; list every origin"));
    }
    let read = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = read else {
        return Err(format!("{text:?} is not an origin, such as https://app.example.com"));
    };
    match url.origin().ascii_serialization() {
        origin if origin == text => Ok(origin),
        origin => Err(format!("{text:?} is not what browsers send; did you mean {origin}?")),
    }
}

/// Returns the middleware that answers preflights and adds the headers; does nothing if no origin is allowed.
#[must_use]
pub fn layer(settings: &Settings) -> Condition<Cors> {
    let mut cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers(REQUEST_HEADERS)
        .expose_headers(ANSWER_HEADERS)
        .supports_credentials()
        .max_age(usize::try_from(settings.max_age.as_secs()).unwrap_or(usize::MAX));
    for origin in &settings.origins.0 {
        cors = cors.allowed_origin(origin);
    }
    Condition::new(!settings.origins.0.is_empty(), cors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_accepted_as_browsers_send_them() {
        let text = " https://app.example.com,http://localhost:5173 , https://[::1]:8443,";
        let origins: Origins = text.parse().unwrap();
        assert_eq!(
            origins.0,
            ["https://app.example.com", "http://localhost:5173", "https://[::1]:8443"]
        );
        assert!("".parse::<Origins>().unwrap().0.is_empty());
    }

    #[test]
    fn an_origin_that_no_browser_sends_is_refused_by_name() {
        for (text, part) in [
            ("*", "wildcard"),
            ("https://*.example.com", "wildcard"),
            ("null", "not an origin"),
            ("app.example.com", "not an origin"),
            ("file:///index.html", "not an origin"),
            ("https://app.example.com/", "did you mean https://app.example.com?"),
            ("https://app.example.com/path", "did you mean https://app.example.com?"),
            ("https://App.example.com", "did you mean https://app.example.com?"),
            ("https://app.example.com:443", "did you mean https://app.example.com?"),
            ("https://user@app.example.com", "did you mean https://app.example.com?"),
        ] {
            let error = format!("https://good.example.com, {text}").parse::<Origins>().unwrap_err();
            assert!(error.contains(part) && error.contains(text), "{text}: {error}");
        }
    }
}
