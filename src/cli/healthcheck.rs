//! `healthcheck`: asks a running server whether it is ready, for containers and scripts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use url::Url;

use super::control::{Client, Connection, Target};
use super::{Exit, Failure, Output, output};

/// How long to wait for the server. The container image gives a probe 5 s, its start included, and the probe should
/// report before it is killed.
const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) async fn run(target: &Target, output: Output) -> Result<Exit, Failure> {
    let (client, address) = probe(target)?;
    let problem = client.why_not_ready(TIMEOUT).await;
    if output.json {
        let status = if problem.is_none() { "ok" } else { "unavailable" };
        output::print(output, &json!({ "status": status, "reason": problem }), String::new)?;
    }
    match problem {
        None if output.json => Ok(Exit::Done),
        None => output::data("ready").map(|()| Exit::Done),
        Some(problem) => Err(Failure::Other(format!("not ready: {address}: {problem}"))),
    }
}

/// Returns a client of the server that is named, else of that at the listen address, and the address that it asks.
pub(super) fn probe(target: &Target) -> Result<(Client, Url), Failure> {
    let connection = match target {
        Target::Server(connection) => connection.clone(),
        Target::Database(settings) => {
            if settings.listen.port() == 0 {
                return Err(Failure::usage(
                    "port 0 means any port; pass the port of the server with --listen",
                ));
            }
            let url = format!("http://{}", reachable(settings.listen));
            let server = Url::parse(&url).map_err(|error| Failure::Other(error.to_string()))?;
            // The server is on this machine: a proxy in the environment does not apply.
            Connection { server, token: None, ca_file: None, is_direct: true }
        }
    };
    let address = connection.server.join("readyz").unwrap_or_else(|_| connection.server.clone());
    Ok((Client::without_token(&connection)?, address))
}

/// Returns the address at which a server that listens on `listen` is reached from its own machine.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_reached_at_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:80", "[::1]:80"),
            ("10.1.2.3:80", "10.1.2.3:80"),
            ("127.0.0.1:80", "127.0.0.1:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
