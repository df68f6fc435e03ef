//! Lets pages of other origins call us from a browser: those that the settings name, and none by default.
//!
//! An origin is named exactly. There is no wildcard: the refresh cookie goes with the requests, and a page
//! that anybody may write must not have it sent. Every answer carries the headers, a refusal and a time-out
//! too, so that a dashboard can read what went wrong. A page of another origin is answered without
//! `Access-Control-Allow-Origin`, and its browser keeps the answer from it. CORS keeps no request out: what
//! a caller may do is decided by the credential.
//!
//! The refresh cookie is `SameSite=Lax`, so a browser sends it from pages of the same site
//! (`app.example.com` to `api.example.com`) and not from another one's, whatever is allowed here.

use std::str::FromStr;
use std::time::Duration;

use actix_cors::Cors;
use actix_web::http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LOCATION, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use actix_web::middleware::Condition;
use url::Url;

use super::middleware::REQUEST_ID;

/// What a page may send besides what every form can.
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

/// What a page may read of an answer besides its body.
const ANSWER_HEADERS: [HeaderName; 6] =
    [ALLOW, ETAG, LOCATION, REQUEST_ID, RETRY_AFTER, WWW_AUTHENTICATE];

/// Whose pages may call, and for how long a browser may remember it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The origins that are let in.
    pub origins: Origins,
    /// How long a browser may remember the answer to a preflight.
    pub max_age: Duration,
}

/// Some origins, in the settings `https://app.example.com, http://localhost:5173`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl FromStr for Origins {
    type Err = String;

    /// # Errors
    /// The first part that is no origin as browsers write it, with what is wrong.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(origin).collect::<Result<_, _>>().map(Self)
    }
}

/// An origin as a browser sends it, since it is compared letter by letter.
fn origin(text: &str) -> Result<String, String> {
    if text.contains('*') {
        return Err(format!("{text:?}: a wildcard is not taken; name every origin"));
    }
    let read = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = read else {
        return Err(format!("{text:?} is no origin, such as https://app.example.com"));
    };
    match url.origin().ascii_serialization() {
        origin if origin == text => Ok(origin),
        origin => Err(format!("{text:?} is not what browsers send; {origin} may be meant")),
    }
}

/// Answers preflights and marks answers; stands aside where no origin is let in.
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
    fn origins_are_taken_as_browsers_send_them() {
        let text = " https://app.example.com,http://localhost:5173 , https://[::1]:8443,";
        let origins: Origins = text.parse().unwrap();
        assert_eq!(
            origins.0,
            ["https://app.example.com", "http://localhost:5173", "https://[::1]:8443"]
        );
        assert!("".parse::<Origins>().unwrap().0.is_empty());
    }

    #[test]
    fn what_no_browser_sends_is_refused_by_name() {
        for (text, part) in [
            ("*", "wildcard"),
            ("https://*.example.com", "wildcard"),
            ("null", "no origin"),
            ("app.example.com", "no origin"),
            ("file:///index.html", "no origin"),
            ("https://app.example.com/", "https://app.example.com may be meant"),
            ("https://app.example.com/path", "https://app.example.com may be meant"),
            ("https://App.example.com", "https://app.example.com may be meant"),
            ("https://app.example.com:443", "https://app.example.com may be meant"),
            ("https://user@app.example.com", "https://app.example.com may be meant"),
        ] {
            let error = format!("https://good.example.com, {text}").parse::<Origins>().unwrap_err();
            assert!(error.contains(part) && error.contains(text), "{text}: {error}");
        }
    }
}
