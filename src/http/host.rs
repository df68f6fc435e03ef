//! Determines the host of a request, and the tenant that it names.
//!
//! A host names a tenant only as `<slug>.<base domain>`. Every other host names none, and so does each of the server's
//! own names: a tenant chooses its slug, so it could take over any host whose first label it may have as its slug.
//!
//! The host is the one that a trusted proxy reports, else that of an absolute request target (RFC 9112, 3.2.2), else
//! that of the header `Host`.

use std::net::IpAddr;
use std::str::FromStr;

use actix_web::body::MessageBody;
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{HOST, HeaderName};
use actix_web::middleware::Next;
use actix_web::web;

use super::client_address::Proxies;
use super::{Settings, Site, refuse};
use crate::domain::error::{Error, Malformed};
use crate::domain::names::Slug;

/// Longest host name, in characters (RFC 1035, 2.3.4).
const NAME_MAX: usize = 253;

/// The header that names the tenant of a request by its id.
pub const TENANT_HEADER: &str = "x-tenant-id";

/// The headers that choose a tenant in one of the dialects, whatever is before the server.
const CHOOSE_TENANT: [&str; 3] = ["host", TENANT_HEADER, "x-bunker-tenant"];

/// The host names that the settings give a meaning.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// The domain whose subdomains are tenants; `None` if no host names a tenant.
    pub base_domain: Option<String>,
    /// The server's own names.
    pub server: ServerHosts,
}

/// The server's own names, in the settings `api.example.com, crm.example.com`. They name no tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerHosts(Vec<String>);

impl FromStr for ServerHosts {
    type Err = String;

    /// # Errors
    /// The first part that is not a host name.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(host_name).collect::<Result<_, _>>().map(Self)
    }
}

impl ServerHosts {
    /// Returns the first label of each name, which no tenant may have as its slug.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|name| name.split('.').next())
    }
}

/// Parses a host name without a port, and returns it in lower case without a final dot.
///
/// # Errors
/// A sentence that quotes a text that is not a host name.
pub fn host_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= NAME_MAX && name.split('.').all(is_label) {
        Ok(name)
    } else {
        Err(format!(
            "{text:?} is not a host name, such as api.example.com, without a scheme, a port and a path"
        ))
    }
}

impl Hosts {
    /// Returns the tenant that a host names: the one label before the base domain. An IP address names no tenant.
    #[must_use]
    pub fn slug_of(&self, host: &str) -> Option<Slug> {
        let base = self.base_domain.as_deref()?;
        if host.starts_with('[') {
            return None; // an IPv6 address
        }
        let name = host.split(':').next().unwrap_or_default().trim_end_matches('.').to_lowercase();
        if self.server.0.contains(&name) || name.parse::<IpAddr>().is_ok() {
            return None;
        }
        Slug::parse(name.strip_suffix(base)?.strip_suffix('.')?).ok()
    }
}

/// Returns the host that the client requested, with its port if it has one; empty if the request names none.
///
/// # Errors
/// [`Malformed::Header`] if it is unclear which host a header names.
pub(super) fn requested(head: &RequestHead, proxies: &Proxies) -> Result<String, Malformed> {
    if let Some(host) = proxies.host_of(head)? {
        return Ok(host.to_owned());
    }
    if let Some(authority) = head.uri.authority() {
        let host = authority.as_str().rsplit('@').next();
        return Ok(host.unwrap_or_default().to_owned());
    }
    let Some(host) = head.headers().get(HOST) else { return Ok(String::new()) };
    let host = host.to_str().map_err(|_no_text| Malformed::Header("host"))?;
    Ok(host.trim().to_owned())
}

/// Returns whether the console is served at the host of a request: at the one of the settings, or else at every one that
/// is no tenant's.
pub(super) fn has_console(head: &RequestHead, settings: &Settings) -> bool {
    let Ok(requested) = requested(head, &settings.proxies) else { return false };
    match &settings.console_host {
        Some(only) => {
            let name = requested.split(':').next().unwrap_or_default().trim_end_matches('.');
            name.eq_ignore_ascii_case(only)
        }
        None => settings.hosts.slug_of(&requested).is_none(),
    }
}

/// Refuses a request with two values of a header that chooses its tenant: a proxy and the server could each take
/// another one. RFC 9112 (3.2) demands it for `Host`.
///
/// # Errors
/// [`Malformed::Header`] in the form of the dialect; else the errors of the inner services.
pub async fn refuse_ambiguous<B: MessageBody + 'static>(
    site: web::Data<Site>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    match ambiguous(request.head(), &site.settings.proxies) {
        Ok(()) => next.call(request).await,
        Err(malformed) => {
            let served = site.settings.served;
            let answer = refuse(served, request.path(), Error::Malformed(malformed));
            Err(InternalError::from_response("ambiguous tenant", answer).into())
        }
    }
}

fn ambiguous(head: &RequestHead, proxies: &Proxies) -> Result<(), Malformed> {
    for name in CHOOSE_TENANT {
        if head.headers().get_all(HeaderName::from_static(name)).nth(1).is_some() {
            return Err(Malformed::Header(name));
        }
    }
    requested(head, proxies).map(drop)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::http::client_address::ForwardedHeader;

    #[test]
    fn a_host_names_a_tenant_only_with_one_label_before_the_base_domain() {
        for (host, base, tenant) in [
            ("acme.example.com", Some("example.com"), Some("acme")),
            ("ACME.Example.com:8080", Some("example.com"), Some("acme")),
            ("acme.example.com.", Some("example.com"), Some("acme")),
            ("a.b.example.com", Some("example.com"), None),
            ("example.com", Some("example.com"), None),
            (".example.com", Some("example.com"), None),
            ("notexample.com", Some("example.com"), None),
            ("acme.elsewhere.com", Some("example.com"), None),
            ("acme.example.com.elsewhere.com", Some("example.com"), None),
            ("user@acme.example.com", Some("example.com"), None),
            ("acme.localhost:8080", Some("localhost"), Some("acme")),
            ("acme.localhost:8080", None, None),
            ("crm.corp.test", None, None),
            ("localhost:8080", Some("localhost"), None),
            ("127.0.0.1", Some("0.0.1"), None),
            ("[::1]:8080", Some("localhost"), None),
            ("", Some("localhost"), None),
            ("www.example.com", Some("example.com"), None), // reserved
            ("crm.example.com", Some("example.com"), None), // the server's own
            ("CRM.example.com.:443", Some("example.com"), None),
        ] {
            let base_domain = base.map(str::to_owned);
            let server = "crm.example.com, api.corp.test.".parse().unwrap();
            let found = Hosts { base_domain, server }.slug_of(host);
            assert_eq!(found.as_ref().map(Slug::as_str), tenant, "{host} under {base:?}");
        }
    }

    #[test]
    fn the_names_of_the_server_are_host_names_and_reserve_their_first_label() {
        let hosts: ServerHosts = " CRM.corp.test,api.example.com. ,bare,".parse().unwrap();
        assert_eq!(hosts.labels().collect::<Vec<_>>(), ["crm", "api", "bare"]);
        assert_eq!("".parse::<ServerHosts>().unwrap().labels().count(), 0);
        for bad in ["https://a.test", "a.test:80", "a..test", "*.test", "a.test/x", ".", "zoë.test"]
        {
            let error = bad.parse::<ServerHosts>().unwrap_err();
            assert!(error.contains(bad) && error.contains("not a host name"), "{error}");
        }
    }

    fn host(proxies: &Proxies, target: &str, headers: &[(&'static str, &str)]) -> String {
        let mut request =
            TestRequest::get().uri(target).peer_addr("10.0.0.1:4711".parse().unwrap());
        for header in headers {
            request = request.append_header(*header);
        }
        match requested(request.to_srv_request().head(), proxies) {
            Ok(host) => host,
            Err(Malformed::Header(name)) => format!("400 {name}"),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_absolute_target_takes_precedence_over_the_header() {
        let untrusted = Proxies::default();
        for (target, headers, expected) in [
            ("/notes", &[("host", "b.test")][..], "b.test"),
            ("http://a.test/notes", &[("host", "b.test")], "a.test"),
            ("http://a.test:8080/notes", &[], "a.test:8080"),
            ("http://user@a.test/notes", &[("host", "b.test")], "a.test"),
            ("/notes", &[], ""),
            ("/notes", &[("x-forwarded-host", "c.test"), ("host", "b.test")], "b.test"),
            ("/notes", &[("forwarded", "host=c.test"), ("host", "b.test")], "b.test"),
        ] {
            assert_eq!(host(&untrusted, target, headers), expected, "{target} {headers:?}");
        }
    }

    #[test]
    fn only_the_configured_header_of_a_trusted_proxy_names_the_host() {
        use ForwardedHeader::{Forwarded, XForwardedFor};
        let other = [("forwarded", "for=1.2.3.4;host=f.test"), ("x-forwarded-host", "x.test")];
        for (header, lines, expected) in [
            (XForwardedFor, &other[..], "x.test"),
            (XForwardedFor, &other[..1], "b.test"),
            (XForwardedFor, &[("x-forwarded-host", "")][..], "b.test"),
            (Forwarded, &other[..], "f.test"),
            (Forwarded, &other[1..], "b.test"),
            (Forwarded, &[("forwarded", "for=1.2.3.4")], "b.test"),
            (Forwarded, &[("forwarded", "for=1.2.3.4; Host=\"f.test:8080\"")], "f.test:8080"),
            // The client wrote the elements on the left itself, the proxies those on the right.
            (
                Forwarded,
                &[("forwarded", "for=10.0.0.9;host=forged.test, for=1.2.3.4;host=f.test")],
                "f.test",
            ),
            (Forwarded, &[("forwarded", "host=forged.test, for=1.2.3.4")], "b.test"),
            (
                Forwarded,
                &[("forwarded", "for=1.2.3.4;host=f.test, for=10.0.0.2;host=inner")],
                "f.test",
            ),
            (Forwarded, &[("forwarded", "host=forged.test, for=unknown;host=f.test")], "f.test"),
        ] {
            let proxies = Proxies { trusted: "10.0.0.0/8".parse().unwrap(), header };
            let lines = [lines, &[("host", "b.test")]].concat();
            assert_eq!(host(&proxies, "/notes", &lines), expected, "{header:?} {lines:?}");
            let absolute = host(&proxies, "http://b.test/", &lines);
            assert_eq!(absolute, expected, "a proxy is nearer than its target");
        }
    }

    #[test]
    fn two_hosts_of_a_proxy_are_refused() {
        use ForwardedHeader::{Forwarded, XForwardedFor};
        for (header, lines, expected) in [
            (
                XForwardedFor,
                &[("x-forwarded-host", "a.test"), ("x-forwarded-host", "a.test")][..],
                "400 x-forwarded-host",
            ),
            (XForwardedFor, &[("x-forwarded-host", "a.test, b.test")], "400 x-forwarded-host"),
            (XForwardedFor, &[("x-forwarded-host", "zoë.test")], "400 x-forwarded-host"),
            (
                Forwarded,
                &[("forwarded", "for=1.2.3.4;host=a.test"), ("forwarded", "for=10.0.0.2")],
                "400 forwarded",
            ),
            (Forwarded, &[("forwarded", "for=1.2.3.4;host=a.test;host=b.test")], "400 forwarded"),
        ] {
            let proxies = Proxies { trusted: "10.0.0.0/8".parse().unwrap(), header };
            assert_eq!(host(&proxies, "/notes", lines), expected, "{lines:?}");
            // Without a trusted proxy these headers choose nothing.
            assert_eq!(host(&Proxies { header, ..Proxies::default() }, "/notes", lines), "");
        }
    }

    #[test]
    fn two_headers_that_choose_a_tenant_are_refused() {
        for name in CHOOSE_TENANT {
            let request = TestRequest::get()
                .peer_addr("10.0.0.1:4711".parse().unwrap())
                .append_header((name, "a"))
                .append_header((name, "a"))
                .to_srv_request();
            let found = ambiguous(request.head(), &Proxies::default());
            assert_eq!(found, Err(Malformed::Header(name)));
        }
    }
}
