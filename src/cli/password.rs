//! Reads a password without recording it, and prompts only if there is a terminal.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::{Command, Stdio};

use secrecy::{ExposeSecret, SecretString};

use super::Failure;
use crate::config;
use crate::domain::names::PASSWORD_MAX;
use crate::telemetry;

const NONE_GIVEN: &str = "no terminal to ask for the admin's password; pass it on stdin with \
                          --admin-password-stdin, or in ROWHOUSE_TENANT_ADMIN_PASSWORD or \
                          the file that ROWHOUSE_TENANT_ADMIN_PASSWORD_FILE names";

const NONE_GIVEN_FOR_MEMBER: &str =
    "no terminal to ask for the member's password; pass it on stdin with --password-stdin";

/// Reads the password of a new tenant's admin: from stdin if the flag is given, else from the environment, else from a
/// prompt.
pub(super) async fn of_admin(from_stdin: bool) -> Result<SecretString, Failure> {
    if from_stdin && !io::stdin().is_terminal() {
        return read_line();
    }
    if !from_stdin && let Some(password) = config::tenant_admin_password()? {
        return Ok(password);
    }
    if at_terminal() { prompt("the admin").await } else { Err(Failure::usage(NONE_GIVEN)) }
}

/// Reads the password of a new user who becomes a member: from stdin if the flag is given, else from a prompt.
pub(super) async fn of_member(from_stdin: bool) -> Result<SecretString, Failure> {
    if from_stdin && !io::stdin().is_terminal() {
        return read_line();
    }
    if at_terminal() {
        prompt("the member").await
    } else {
        Err(Failure::usage(NONE_GIVEN_FOR_MEMBER))
    }
}

fn at_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Prompts twice, because the terminal does not show the input.
async fn prompt(whose: &str) -> Result<SecretString, Failure> {
    let first = ask(&format!("Password for {whose}: ")).await?;
    let second = ask("Repeat the password: ").await?;
    if first.expose_secret() == second.expose_secret() {
        Ok(first)
    } else {
        Err(Failure::usage("the two passwords differ"))
    }
}

async fn ask(question: &str) -> Result<SecretString, Failure> {
    let failed = Failure::io("write to the terminal");
    telemetry::flush();
    write!(io::stderr(), "{question}").map_err(failed)?;
    // Dropping this shows input again, also after Ctrl-C; a blocking wait here would prevent that.
    let hidden = Hidden::start()?;
    let line = tokio::select! {
        line = tokio::task::spawn_blocking(read_line) => {
            line.map_err(|error| Failure::Other(error.to_string()))?
        }
        _ = tokio::signal::ctrl_c() => Err(Failure::Other("interrupted".to_owned())),
    };
    drop(hidden);
    let _ = writeln!(io::stderr());
    line
}

/// Reads the first line of stdin, without its line end, up to the maximum length of a password.
fn read_line() -> Result<SecretString, Failure> {
    let longest = u64::try_from(PASSWORD_MAX).unwrap_or(u64::MAX).saturating_add(3);
    let mut line = String::with_capacity(PASSWORD_MAX + 3);
    io::stdin()
        .lock()
        .take(longest)
        .read_line(&mut line)
        .map_err(Failure::io("read the password"))?;
    let text = line.strip_suffix('\n').unwrap_or(&line);
    Ok(SecretString::from(text.strip_suffix('\r').unwrap_or(text)))
}

/// Hides the input of the terminal until it is dropped.
///
/// Runs `stty`, which every Unix has: the system calls need unsafe code, which is confined to one file.
struct Hidden;

impl Hidden {
    fn start() -> Result<Self, Failure> {
        if stty("-echo") {
            Ok(Self)
        } else {
            Err(Failure::Other(
                "cannot hide the input of the terminal; pass the password on stdin".to_owned(),
            ))
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        stty("echo");
    }
}

fn stty(mode: &str) -> bool {
    let run = Command::new("stty").arg(mode).stdin(Stdio::inherit()).stdout(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}
