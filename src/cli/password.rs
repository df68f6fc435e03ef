//! Gets a password without leaving a trace of it, and without waiting for somebody who is not there.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::{Command, Stdio};

use secrecy::{ExposeSecret, SecretString};

use super::Failure;
use crate::config;
use crate::domain::names::PASSWORD_MAX;

const NONE_GIVEN: &str = "no password for the admin: give it on stdin with --admin-password-stdin, \
                          or in ROWHOUSE_TENANT_ADMIN_PASSWORD";

const NONE_GIVEN_FOR_MEMBER: &str =
    "no password for the member: give it on stdin with --password-stdin";

/// The password of a new tenant's admin: from stdin where that was asked for, else from the environment,
/// else from a person at a terminal.
pub(super) async fn of_admin(from_stdin: bool) -> Result<SecretString, Failure> {
    if from_stdin && !io::stdin().is_terminal() {
        return read_line();
    }
    if !from_stdin && let Some(password) = config::tenant_admin_password() {
        return Ok(password);
    }
    if at_terminal() { prompt("the admin").await } else { Err(Failure::usage(NONE_GIVEN)) }
}

/// The password of a user who is made as a member: from stdin where that was asked for, else from a person
/// at a terminal.
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

/// Asks twice, since what is typed cannot be seen.
async fn prompt(whose: &str) -> Result<SecretString, Failure> {
    let first = ask(&format!("Password for {whose}: ")).await?;
    let second = ask("The same again: ").await?;
    if first.expose_secret() == second.expose_secret() {
        Ok(first)
    } else {
        Err(Failure::usage("the two passwords differ"))
    }
}

async fn ask(question: &str) -> Result<SecretString, Failure> {
    let failed = Failure::io("write to the terminal");
    write!(io::stderr(), "{question}").map_err(failed)?;
    // Until this is dropped, so after Ctrl-C too: hence no blocking wait here.
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

/// The first line of stdin, without its end. Reads no further than a password can be long.
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

/// A terminal that does not show what is typed, for as long as this lives.
///
/// By `stty`, which every Unix has: the calls behind it are unsafe, and unsafe code stays in one file.
struct Hidden;

impl Hidden {
    fn start() -> Result<Self, Failure> {
        if stty("-echo") {
            Ok(Self)
        } else {
            Err(Failure::Other("cannot hide what is typed: give the password on stdin".to_owned()))
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
