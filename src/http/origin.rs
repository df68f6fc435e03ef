//! Recognises requests that a page of another site makes a browser send.
//!
//! What works with a cookie must not answer them: a browser stores the cookie of an answer that the page itself cannot
//! read. So a page could log its visitor in to an account of its author, or end the visitor's session by using up
//! the refresh cookie. CORS does not prevent it, since a request with a body of `text/plain` is sent without a preflight.
//!
//! `Sec-Fetch-Site` is the browser's own statement, which no page can write. `Origin` is sent with every POST of a
//! browser; without the first header (a browser sends it to HTTPS and to localhost only) it is compared with the host.
//! A client that is not a browser sends neither, and is not a page.

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, ORIGIN};
use url::Url;

use super::extract::{requested_host, site};
use crate::domain::error::{Error, Result};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
#[cfg(feature = "console")]
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Refuses a request of a page whose origin is neither the server's own nor allowed by the settings.
///
/// # Errors
/// [`Error::CrossSite`].
pub(super) fn require_known(request: &HttpRequest) -> Result<()> {
    let text = |name: HeaderName| request.headers().get(name).map(|value| value.to_str().ok());
    let origin = text(ORIGIN);
    if let Some(Some(origin)) = origin
        && site(request).settings.cors.origins.allow(origin)
    {
        return Ok(());
    }
    let known = match (text(SEC_FETCH_SITE), origin) {
        // `none`: the user did it, by the address bar or a bookmark. Some browsers leave `Origin` out inside one site.
        (Some(Some("same-origin" | "none")), _) | (Some(Some("same-site")) | None, None) => true,
        (None, Some(Some(origin))) => is_own(origin, &requested_host(request)?),
        _ => false,
    };
    if known { Ok(()) } else { Err(Error::CrossSite) }
}

/// Refuses a request that changes something in the console unless a page of the console sent it. A browser says so in
/// `Sec-Fetch-Site`; one that sends no such header, because the connection is not secure, in `Origin`.
///
/// # Errors
/// [`Error::CrossSite`], also for a client that sends neither.
#[cfg(feature = "console")]
pub(super) fn require_same(request: &HttpRequest) -> Result<()> {
    let text = |name: HeaderName| request.headers().get(name).map(|value| value.to_str().ok());
    let same = match (text(SEC_FETCH_SITE), text(ORIGIN)) {
        (Some(site), _) => site == Some("same-origin"),
        (None, Some(Some(origin))) => is_own(origin, &requested_host(request)?),
        (None, _) => false,
    };
    if same { Ok(()) } else { Err(Error::CrossSite) }
}

/// Refuses to let a script of another origin read a page of the console, also one of an origin that may call the API.
///
/// # Errors
/// [`Error::CrossSite`].
#[cfg(feature = "console")]
pub(super) fn require_readable(request: &HttpRequest) -> Result<()> {
    let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let is_foreign = !matches!(text(SEC_FETCH_SITE), None | Some("same-origin" | "none"));
    if is_foreign && text(SEC_FETCH_MODE) != Some("navigate") {
        return Err(Error::CrossSite);
    }
    Ok(())
}

/// Returns whether an answer may set a cookie: not where a form could have sent the request. A form sends no JSON;
/// its types that can carry JSON are these two.
pub(super) fn may_set_cookie(request: &HttpRequest) -> bool {
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    !["text/plain", "multipart/form-data"].iter().any(|form| essence.eq_ignore_ascii_case(form))
}

/// Returns whether an origin is that of the host which the client requested. The scheme is not compared, since a proxy
/// may terminate TLS.
fn is_own(origin: &str, host: &str) -> bool {
    let Ok(origin) = Url::parse(origin) else { return false };
    let Ok(own) = Url::parse(&format!("{}://{host}", origin.scheme())) else { return false };
    origin.host().is_some()
        && origin.host() == own.host()
        && origin.port_or_known_default() == own.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_the_servers_own_if_host_and_port_are_the_same() {
        for (origin, host) in [
            ("https://api.example.com", "api.example.com"),
            ("https://api.example.com", "API.example.com:443"),
            ("http://localhost:8080", "localhost:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(is_own(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://evil.example", "api.example.com"),
            ("https://api.example.com.evil.example", "api.example.com"),
            ("https://api.example.com:8443", "api.example.com"),
            ("http://localhost:3000", "localhost:8080"),
            ("null", "api.example.com"),
            ("null", "null"),
            ("", ""),
            ("https://evil.example", "evil.example@api.example.com/"),
        ] {
            assert!(!is_own(origin, host), "{origin} {host}");
        }
    }
}
