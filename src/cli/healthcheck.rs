//! `healthcheck`: asks a running server whether it is ready, for containers and scripts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;

use super::{Exit, Failure, Output, output};
use crate::config::Settings;

/// How long to wait for the server. The container image gives a probe 5 s, its start included, and the probe should
/// report before it is killed.
const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(settings: &Settings, output: Output) -> Result<Exit, Failure> {
    if settings.listen.port() == 0 {
        return Err(Failure::usage(
            "port 0 means any port; pass the port of the server with --listen",
        ));
    }
    let url = format!("http://{}/readyz", reachable(settings.listen));
    let problem = ask(&url);
    if output.json {
        let status = if problem.is_none() { "ok" } else { "unavailable" };
        output::print(output, &json!({ "status": status, "reason": problem }), String::new)?;
    }
    match problem {
        None if output.json => Ok(Exit::Done),
        None => output::data("ready").map(|()| Exit::Done),
        Some(problem) => Err(Failure::Other(format!("not ready: {url}: {problem}"))),
    }
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

/// Returns the problem, or `None` if the server is ready.
fn ask(url: &str) -> Option<String> {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        // The server is on this machine: a proxy in the environment does not apply.
        .proxy(None)
        .build()
        .new_agent();
    match agent.get(url).call() {
        Ok(answer) if answer.status().is_success() => None,
        Ok(mut answer) => {
            let body = answer.body_mut().read_to_string().unwrap_or_default();
            Some(format!("{} {}", answer.status(), body.trim()).trim().to_owned())
        }
        Err(error) => Some(error.to_string()),
    }
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
