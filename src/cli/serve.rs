//! `serve`: starts the server, prints its addresses, and stops it gracefully.
//!
//! After the first signal that stops it running requests are completed; a second one stops the server at once. Committed
//! data is safe in both cases. SIGHUP reads the settings again, as far as they can be replaced ([`Reload`]).

use std::fmt::Write as _;
use std::io::{IsTerminal, stdin};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::healthcheck::reachable;
use super::{Exit, Failure, Program, output};
use crate::app::{App, FirstStart, Reload};
use crate::config::{Overrides, Settings};
use crate::telemetry::Format;

/// How long the pools and an embedded server have to stop after the requests are done. With the default
/// `http.shutdown_timeout`, the whole stop takes less than the ten seconds that container engines wait.
const CLEANUP_TIMEOUT: Duration = Duration::from_millis(1500);

/// What an operator must know about a new secret key.
const SAME_SECRET: &str = "every server on this database needs the same one";

/// The body of the example request, as documented.
const EXAMPLE_TENANT: &str = r#"{"name":"Acme Corp","slug":"acme-corp","adminEmail":"admin@acme.com","adminPassword":"SecurePass123!","adminFirstName":"Acme","adminLastName":"Admin"}"#;

pub(super) async fn run(program: Program, overrides: Overrides) -> Result<Exit, Failure> {
    let Program { settings, options } = program;
    let mut stops = StopSignals::watch()?;
    // Before the start, during which the signal would end the process otherwise.
    let hangups = signal(SignalKind::hangup()).map_err(Failure::io("watch for signals"))?;
    let app = tokio::select! {
        built = App::build(settings.clone(), options) => built?,
        () = stops.next() => return Err(Failure::Other("stopped before it was ready".to_owned())),
    };
    output::announce(format!("listening on http://{}", app.addr())).await;
    if let Some(addr) = app.management_addr() {
        output::announce(format!("management on http://{addr}")).await;
    }
    welcome(&settings, app.addr(), app.has_console(), &app.backend().first_start);
    let timeout = settings.http.drain_delay + settings.http.shutdown_timeout + CLEANUP_TIMEOUT;
    let reload = app.reload();
    let terminal_gone = reload_on(hangups, &reload, &overrides);
    Box::pin(serve_until_stopped(app, &mut stops, terminal_gone, timeout)).await
}

/// Reads the settings again after each SIGHUP. What is not valid is logged, and changes nothing.
///
/// A terminal that goes away sends the signal too, to a server that was started there; this then returns, and the server
/// stops.
async fn reload_on(mut hangups: Signal, reload: &Reload, overrides: &Overrides) {
    let had_terminal = stdin().is_terminal();
    loop {
        if hangups.recv().await.is_none() {
            return std::future::pending().await;
        }
        if had_terminal && !stdin().is_terminal() {
            return;
        }
        let read = Settings::load(overrides).map_err(|error| error.to_string());
        match read.and_then(|read| reload.apply(&read).map_err(|error| error.to_string())) {
            Ok(()) => tracing::info!(
                "read the settings again: log.filter, the limits, and the certificates of the database are in force"
            ),
            Err(error) => {
                tracing::error!(
                    error,
                    "the settings could not be read again; the old ones stay in force"
                );
            }
        }
    }
}

async fn serve_until_stopped(
    app: App,
    stops: &mut StopSignals,
    terminal_gone: impl Future<Output = ()>,
    timeout: Duration,
) -> Result<Exit, Failure> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut serving = std::pin::pin!(app.run_until_stopped(async {
        let _ = stopped.await;
    }));
    let failed = Failure::io("serve");
    tokio::select! {
        outcome = &mut serving => return outcome.map(|()| Exit::Done).map_err(failed),
        () = stops.next() => {}
        () = terminal_gone => {}
    }
    tracing::info!("stopping after running requests; send a second signal to stop at once");
    drop(stop);
    tokio::select! {
        outcome = &mut serving => outcome.map(|()| Exit::Done).map_err(failed),
        () = stops.next() => Err(Failure::Other("stopped at once by a second signal".to_owned())),
        () = tokio::time::sleep(timeout) => {
            tracing::warn!("the cleanup took too long; the process exits without it");
            Ok(Exit::Done)
        }
    }
}

/// The two signals that stop the server: SIGINT (Ctrl-C) and SIGTERM (a service manager).
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn watch() -> Result<Self, Failure> {
        let watch = |kind| signal(kind).map_err(Failure::io("watch for signals"));
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Prints where the secrets are and how to create a tenant. A JSON log gets the paths but no secret, because logs are
/// stored and read elsewhere.
fn welcome(settings: &Settings, addr: SocketAddr, has_console: bool, first: &FirstStart) {
    let console = has_console.then(|| console(settings, addr));
    if settings.log.format == Format::Text {
        output::say(&notice(settings, addr, console.as_deref(), first));
        return;
    }
    if let Some(console) = console {
        tracing::info!(url = console, "the console is served");
    }
    if let Some((path, _)) = &first.root_token {
        tracing::info!(path = %path.display(), "the root token is in a file");
    }
    if let Some((path, ..)) = &first.admin {
        tracing::info!(path = %path.display(), "the admin's password is in a file");
    }
    if let Some(path) = &first.secret_key {
        tracing::info!(path = %path.display(), "the new secret key is in a file; {SAME_SECRET}");
    }
}

/// Returns the address of the console.
fn console(settings: &Settings, addr: SocketAddr) -> String {
    let addr = reachable(addr);
    match &settings.console.host {
        Some(host) => format!("http://{host}:{}/console", addr.port()),
        None => format!("http://{addr}/console"),
    }
}

fn notice(
    settings: &Settings,
    addr: SocketAddr,
    console: Option<&str>,
    first: &FirstStart,
) -> String {
    let mut text = String::from("\n");
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "  {key:<11} {value}");
    };
    if let Some(console) = console {
        line("console", console);
    }
    match (&first.root_token, &settings.root_token) {
        (Some((path, new)), _) => {
            line("root token", &format!("in {}", absolute(path)));
            if let Some(token) = new {
                line("", &format!("{} (new; not shown again)", token.expose()));
            }
        }
        (None, Some(_)) => match &settings.root_token_file {
            Some(path) => line("root token", &format!("in {}", absolute(path))),
            None => line("root token", "as set in ROWHOUSE_ROOT_TOKEN"),
        },
        (None, None) => line("root token", "not set"),
    }
    match (&first.admin, &settings.admin) {
        (Some((path, email, new)), _) => {
            line("admin", &format!("{email}, password in {}", absolute(path)));
            if let Some(password) = new {
                line("", &format!("{} (new; not shown again)", password.as_password().expose()));
            }
        }
        (None, Some(admin)) => {
            line("admin", &format!("{}, password as set in ROWHOUSE_ADMIN_PASSWORD", admin.email));
        }
        (None, None) => {}
    }
    if let Some(path) = &first.secret_key {
        line("secret key", &format!("in {} (new); {SAME_SECRET}", absolute(path)));
    }
    if let Some(psql) = &first.psql {
        line("database", psql);
    }
    let _ = write!(text, "\nTo create a tenant, paste this into another terminal:\n\n");
    let _ = write!(text, "{}", example(settings, addr, first));
    text
}

/// Returns a command that creates a tenant. It reads the token from its file when it runs, so that the shell's history
/// does not contain it.
fn example(settings: &Settings, addr: SocketAddr, first: &FirstStart) -> String {
    let mut text = String::new();
    let file =
        first.root_token.as_ref().map(|(path, _)| path).or(settings.root_token_file.as_ref());
    let token = match (file, &settings.root_token) {
        (Some(path), _) => match &settings.root_token_command {
            Some(command) => format!("$({command})"),
            None => format!("$(cat {})", shell_word(&absolute(path))),
        },
        (None, Some(_)) => "$ROWHOUSE_ROOT_TOKEN".to_owned(),
        (None, None) => {
            let program = std::env::current_exe()
                .map_or_else(|_| "rowhouse".to_owned(), |path| shell_word(&path.to_string_lossy()));
            let _ = writeln!(
                text,
                "TOKEN=$({program} token create --name first --permission CREATE_TENANT)"
            );
            "$TOKEN".to_owned()
        }
    };
    let _ = writeln!(
        text,
        "curl -X POST 'http://{}/api/tenant/setup' -H \"Authorization: Bearer {token}\" \
         -H 'Content-Type: application/json' -d '{EXAMPLE_TENANT}'",
        reachable(addr)
    );
    text
}

/// Returns the absolute form of a path.
fn absolute(path: &Path) -> String {
    let whole = std::path::absolute(path);
    whole.as_deref().unwrap_or(path).display().to_string()
}

/// Quotes a word for a shell, also inside `"$(..)"`.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::auth::token::RootToken;

    fn settings(values: &[(&'static str, &str)]) -> Settings {
        let values: Vec<_> =
            values.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Settings::from_values(&values).unwrap()
    }

    fn with_token(path: &str, new: bool) -> (FirstStart, Arc<RootToken>) {
        let token = Arc::new(RootToken::generate());
        let shown = new.then(|| Arc::clone(&token));
        let first =
            FirstStart { root_token: Some((PathBuf::from(path), shown)), ..FirstStart::default() };
        (first, token)
    }

    #[test]
    fn a_new_root_token_is_shown_and_an_old_one_is_not() {
        let addr = "127.0.0.1:8080".parse().unwrap();
        for new in [true, false] {
            let (first, token) = with_token("/data/root-token", new);
            let text = notice(&settings(&[]), addr, Some("http://127.0.0.1:8080/console"), &first);
            assert_eq!(text.contains(token.expose()), new, "{text}");
            assert!(text.contains("in /data/root-token"), "{text}");
        }
    }

    #[test]
    fn the_example_reads_the_token_when_it_runs() {
        let addr = "0.0.0.0:81".parse().unwrap();
        let (kept, _) = with_token("/my data/root-token", true);
        let nothing = FirstStart::default();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token").display().to_string();
        std::fs::write(&file, "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f\n").unwrap();
        let reads_the_file = format!("Bearer $(cat {file})\"");
        for (values, first, token) in [
            (&[][..], &kept, "Bearer $(cat '/my data/root-token')\""),
            (
                &[("root_token_command", "docker exec x cat y")],
                &kept,
                "Bearer $(docker exec x cat y)\"",
            ),
            (
                &[("root_token", "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f")],
                &nothing,
                "Bearer $ROWHOUSE_ROOT_TOKEN\"",
            ),
            (&[("root_token_file", &file)], &nothing, &reads_the_file),
            (&[], &nothing, "Bearer $TOKEN\""),
        ] {
            let text = example(&settings(values), addr, first);
            assert!(text.contains(token), "{text}");
            assert!(text.contains("'http://127.0.0.1:81/api/tenant/setup'"), "{text}");
        }
    }
}
