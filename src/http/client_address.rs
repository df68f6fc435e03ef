//! Determines the address of the client behind a reverse proxy.
//!
//! Any client can send a forwarding header. It counts only if the connection comes from a proxy that the settings trust:
//! the list is read from the right, from the nearest hop outwards, as long as each hop was reported by a trusted proxy.
//! The first address that is not a trusted proxy is the client; the addresses to its left were written by the client
//! itself. No proxy is trusted by default.
//!
//! Only the header in the settings counts, for the address and for the host. Reading both would let a client send the one
//! that the proxy neither writes nor removes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use actix_web::dev::RequestHead;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR};
use ipnet::IpNet;

use crate::domain::error::Malformed;

/// The trusted proxies, and the header that they write.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// The networks of the trusted proxies.
    pub trusted: Networks,
    /// The header that they write.
    pub header: ForwardedHeader,
}

/// A list of networks, in the settings `10.0.0.0/8, fd00::/8, 192.0.2.7`.
#[derive(Debug, Clone, Default)]
pub struct Networks(Vec<IpNet>);

/// The header in which proxies report the client and the host that it requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`, which nearly all proxies write, and `X-Forwarded-Host: host`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client;host=host, for=proxy` (RFC 7239).
    Forwarded,
}

/// The header in which proxies report the host, where `X-Forwarded-For` reports the client.
const X_FORWARDED_HOST: &str = "x-forwarded-host";

/// The name of [`FORWARDED`] as a text.
const FORWARDED_NAME: &str = "forwarded";

impl Networks {
    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for Networks {
    type Err = String;

    /// # Errors
    /// The first part that is neither a network nor an address, and why.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let network: IpNet = text.parse().map_err(|_no_network| {
        format!("{text:?} is neither a network, such as 10.0.0.0/8, nor an address")
    })?;
    // Most likely a mistake, and wider than intended.
    if network == network.trunc() {
        Ok(network)
    } else {
        Err(format!("{text:?} has bits behind its prefix; did you mean {}?", network.trunc()))
    }
}

impl Proxies {
    /// Returns the client's address; `None` if the connection has none.
    #[must_use]
    pub fn client_of(&self, head: &RequestHead) -> Option<IpAddr> {
        let peer = head.peer_addr.map(|peer| peer.ip().to_canonical())?;
        if !self.trusted.contain(peer) {
            return Some(peer);
        }
        Some(self.walk(peer, &self.header.hops(head.headers())).0)
    }

    /// Returns the host that a trusted proxy reports; `None` if the connection comes from no trusted proxy, or if the
    /// proxy reports none.
    ///
    /// # Errors
    /// [`Malformed::Header`] if the header names several hosts or cannot be read.
    pub fn host_of<'a>(&self, head: &'a RequestHead) -> Result<Option<&'a str>, Malformed> {
        let trusted = head.peer_addr.map(|peer| peer.ip().to_canonical());
        let Some(peer) = trusted.filter(|peer| self.trusted.contain(*peer)) else {
            return Ok(None);
        };
        let host = match self.header {
            ForwardedHeader::XForwardedFor => {
                let host = only_line(head.headers(), X_FORWARDED_HOST)?;
                if host.is_some_and(|host| host.contains(',')) {
                    return Err(Malformed::Header(X_FORWARDED_HOST));
                }
                host
            }
            ForwardedHeader::Forwarded => match only_line(head.headers(), FORWARDED_NAME)? {
                Some(line) => self.host_in(peer, line)?,
                None => None,
            },
        };
        Ok(host.map(str::trim).filter(|host| !host.is_empty()))
    }

    /// Returns the host in the outermost element of a `Forwarded` line that a trusted proxy wrote: the host that the
    /// client requested of that proxy.
    fn host_in<'a>(&self, peer: IpAddr, line: &'a str) -> Result<Option<&'a str>, Malformed> {
        let elements: Vec<&str> = line.split(',').collect();
        let hops: Vec<_> = elements.iter().map(|element| self.header.hop(element)).collect();
        let (_client, outermost) = self.walk(peer, &hops);
        let Some(element) = outermost.and_then(|at| elements.get(at)) else { return Ok(None) };
        let mut hosts = pairs(element).filter(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = hosts.next().map(|(_, value)| value);
        if hosts.next().is_some() {
            return Err(Malformed::Header(FORWARDED_NAME));
        }
        Ok(host)
    }

    /// Returns the nearest address that is not a trusted proxy's, and the position of the last hop from the right that
    /// a trusted proxy wrote. `peer` is a trusted proxy.
    fn walk(&self, peer: IpAddr, hops: &[Option<IpAddr>]) -> (IpAddr, Option<usize>) {
        let (mut nearest, mut outermost) = (peer, None);
        for (at, hop) in hops.iter().enumerate().rev() {
            outermost = Some(at);
            // A trusted proxy passed on an unreadable hop: count the proxy as the client.
            let Some(address) = hop else { break };
            nearest = *address;
            if !self.trusted.contain(*address) {
                break;
            }
        }
        (nearest, outermost)
    }
}

/// Returns the value of a header; `None` if it is absent.
fn only_line<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Malformed> {
    let mut lines = headers.get_all(name);
    let Some(line) = lines.next() else { return Ok(None) };
    // A client can have sent one of them, and the proxy has added the other.
    if lines.next().is_some() {
        return Err(Malformed::Header(name));
    }
    line.to_str().map(Some).map_err(|_no_text| Malformed::Header(name))
}

/// Returns the pairs of an element of `Forwarded`. A comma or semicolon inside quotes is part of no address and of no
/// host: such an element is unreadable.
fn pairs(element: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
}

impl ForwardedHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => X_FORWARDED_FOR,
            Self::Forwarded => FORWARDED,
        }
    }

    /// Returns the hops of all lines of the header, from left to right; `None` for an unreadable one.
    fn hops(self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let mut hops = Vec::new();
        for line in headers.get_all(self.name()) {
            match line.to_str() {
                Ok(line) => hops.extend(line.split(',').map(|element| self.hop(element))),
                Err(_no_text) => hops.push(None),
            }
        }
        hops
    }

    fn hop(self, element: &str) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => node(element),
            Self::Forwarded => pairs(element)
                .find(|(name, _)| name.eq_ignore_ascii_case("for"))
                .and_then(|(_, value)| node(value)),
        }
    }
}

/// Parses an address as proxies write it: with or without a port, IPv6 with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| bracketed().map(IpAddr::V6))
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const TRUSTED: &str = "10.0.0.0/8, fd00::/8, 192.0.2.7";

    fn client(
        header: ForwardedHeader,
        trusted: &str,
        peer: &str,
        lines: &[(&'static str, &str)],
    ) -> String {
        let proxies = Proxies { trusted: trusted.parse().unwrap(), header };
        let mut request = TestRequest::get().peer_addr(format!("{peer}:4711").parse().unwrap());
        for line in lines {
            request = request.append_header(*line);
        }
        let request = request.to_srv_request();
        proxies.client_of(request.head()).unwrap().to_string()
    }

    #[test]
    fn no_proxy_is_trusted_by_default() {
        let lines = [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=198.51.100.1")];
        for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
            assert_eq!(client(header, "", "10.0.0.1", &lines), "10.0.0.1");
            assert_eq!(client(header, TRUSTED, "203.0.113.9", &lines), "203.0.113.9");
        }
    }

    #[test]
    fn the_list_is_read_from_the_right_as_far_as_it_is_trusted() {
        for (list, expected) in [
            ("198.51.100.1", "198.51.100.1"),
            ("198.51.100.1, 10.1.1.1", "198.51.100.1"),
            // The client wrote the addresses on the left itself.
            ("127.0.0.1, 198.51.100.1", "198.51.100.1"),
            ("127.0.0.1, 10.9.9.9, 198.51.100.1, 192.0.2.7, 10.1.1.1", "198.51.100.1"),
            ("10.1.1.1, 10.1.1.2", "10.1.1.1"),
            ("198.51.100.1:1234", "198.51.100.1"),
            ("[2001:db8::1]:1234", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
            ("nonsense", "10.0.0.1"),
            ("198.51.100.1, nonsense, 10.1.1.1", "10.1.1.1"),
            ("", "10.0.0.1"),
        ] {
            let lines = [("x-forwarded-for", list)];
            let found = client(ForwardedHeader::XForwardedFor, TRUSTED, "10.0.0.1", &lines);
            assert_eq!(found, expected, "{list:?}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "198.51.100.1")];
        let found = client(ForwardedHeader::XForwardedFor, TRUSTED, "10.0.0.1", &lines);
        assert_eq!(found, "198.51.100.1");
    }

    #[test]
    fn the_standard_header_is_read_if_the_settings_name_it() {
        for (list, expected) in [
            ("for=198.51.100.1", "198.51.100.1"),
            ("For=\"[2001:db8::1]:4711\";proto=https", "2001:db8::1"),
            ("by=10.0.0.1; for=198.51.100.1, for=10.2.2.2", "198.51.100.1"),
            ("for=127.0.0.1, for=_hidden", "10.0.0.1"),
            ("for=unknown", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            let lines = [("forwarded", list), ("x-forwarded-for", "203.0.113.200")];
            let found = client(ForwardedHeader::Forwarded, TRUSTED, "10.0.0.1", &lines);
            assert_eq!(found, expected, "{list:?}");
        }
    }

    #[test]
    fn an_ipv4_mapped_peer_is_its_ipv4_address() {
        let lines = [("x-forwarded-for", "198.51.100.1")];
        let found = client(ForwardedHeader::XForwardedFor, TRUSTED, "[::ffff:10.0.0.1]", &lines);
        assert_eq!(found, "198.51.100.1");
    }

    #[test]
    fn an_invalid_network_is_named() {
        for (text, part) in [
            ("10.0.0.0/8, here", "\"here\""),
            ("10.0.0.0/40", "\"10.0.0.0/40\""),
            ("10.1.2.3/8", "did you mean 10.0.0.0/8?"),
        ] {
            let error = text.parse::<Networks>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!("".parse::<Networks>().unwrap().0.is_empty());
    }
}
