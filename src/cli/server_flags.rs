//! The flags of the server that a command works on, and where it works.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;
use url::Url;

use super::Failure;
use super::control::{Connection, Target};
use super::setting_flags::SettingFlags;
use crate::cli::Program;
use crate::config;

/// The server of a command; every verb takes them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
#[expect(clippy::doc_markdown, reason = "clap prints these comments, including their backticks")]
pub(super) struct ServerFlags {
    /// Work through the control API of this server, such as `https://api.example.com`, and not on a database
    /// [env: ROWHOUSE_SERVER]
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The file with the API token for the server [env: ROWHOUSE_TOKEN, ROWHOUSE_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A file of certificates (PEM) that are trusted beside those of the platform [env: ROWHOUSE_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl ServerFlags {
    /// Refuses the flags for a command that is a server itself. The variables are of other commands in the same shell.
    pub(super) fn refuse(&self) -> Result<(), Failure> {
        let flags = [
            ("--server", self.server.is_some()),
            ("--token-file", self.token_file.is_some()),
            ("--ca-file", self.ca_file.is_some()),
        ];
        match flags.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Failure::usage(format!(
                "`rowhouse serve` is a server, and {flag} names one for another command"
            ))),
            None => Ok(()),
        }
    }

    /// Returns the server of the command, if one is named.
    ///
    /// # Errors
    /// An address that is none, a file that cannot be read, two tokens, or a database beside the server.
    pub(super) fn connection(
        &self,
        settings: &SettingFlags,
    ) -> Result<Option<Connection>, Failure> {
        let variables = config::server_variables()?;
        let (flag, given) = match (&self.server, variables.server) {
            (Some(server), _) => ("--server", server.clone()),
            (None, Some(server)) => ("ROWHOUSE_SERVER", server),
            (None, None) if self.token_file.is_some() || self.ca_file.is_some() => {
                let flag = if self.token_file.is_some() { "--token-file" } else { "--ca-file" };
                return Err(Failure::usage(format!(
                    "{flag} goes with --server or ROWHOUSE_SERVER"
                )));
            }
            (None, None) => return Ok(None),
        };
        let database = settings.database().or(variables.database);
        if let Some(database) = database {
            return Err(Failure::usage(format!(
                "{flag} and {database} are both given, and a command works on a server or on a database; leave out one"
            )));
        }
        let server = parse(&given).map_err(|what| Failure::usage(format!("{flag} {what}")))?;
        let token = match &self.token_file {
            Some(file) => Some(config::token_file("--token-file", file)?),
            None => variables.token,
        };
        if let Some(token) = &token {
            require_header(token)?;
        }
        let ca_file = self.ca_file.clone().or(variables.ca_file);
        Ok(Some(Connection { server, token, ca_file, is_direct: false }))
    }
}

/// Refuses a token that no header can carry, before it is part of an error of the client.
fn require_header(token: &SecretString) -> Result<(), Failure> {
    let text = secrecy::ExposeSecret::expose_secret(token);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage("the token is none: it must be one word of visible characters"));
    }
    Ok(())
}

fn parse(given: &str) -> Result<Url, String> {
    let form = "must be an address, such as https://api.example.com";
    let url = Url::parse(given).map_err(|_no_url| form.to_owned())?;
    if !["http", "https"].contains(&url.scheme()) || url.host().is_none() {
        return Err(form.to_owned());
    }
    // A password in it would be in messages.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "must not hold a login; the token comes from a file or from the environment".to_owned()
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query".to_owned());
    }
    Ok(url)
}

/// Returns where a command works.
pub(super) fn target(connection: Option<Connection>, program: Program) -> Target {
    connection.map_or_else(|| Target::Database(Box::new(program)), Target::Server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_server_has_a_scheme_and_a_host_and_no_secret() {
        for good in ["https://api.example.com", "http://127.0.0.1:8080/", "https://x.test/base"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "api.example.com",
            "127.0.0.1:8080",
            "ftp://x.test",
            "file:///etc/passwd",
            "https://user:hunter22@x.test",
            "https://x.test/?token=hunter22",
        ] {
            let problem = parse(bad).expect_err(bad);
            assert!(problem.starts_with("must") && !problem.contains("hunter22"), "{problem}");
        }
    }
}
