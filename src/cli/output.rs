//! Prints data to stdout and messages to stderr, as tables for people and as JSON for programs.
//!
//! The reader can close the pipe (`| head`): that is not a failure and causes no message.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Failure, Output};
use crate::app::{Backend, BuildError, Purpose};
use crate::cli::Program;
use crate::service::lint;
use crate::telemetry;

/// How long [`announce`] waits for a reader of stdout.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes data and a newline to stdout.
pub(super) fn data(text: &str) -> Result<(), Failure> {
    // Not through the buffer of `std::io::Stdout`, which keeps what a failed write leaves.
    let out = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let line = format!("{text}\n");
    match out.and_then(|mut out| telemetry::write_all(&mut out, line.as_bytes())) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Io { during: "write to stdout", source: error })
        }
        _ => Ok(()),
    }
}

/// Writes a line to stdout that a server prints beside its work. If stdout cannot be written, or is not read, the line is
/// logged instead, and the server goes on.
pub(super) async fn announce(line: String) {
    let text = line.clone();
    let writing = tokio::task::spawn_blocking(move || data(&text));
    match tokio::time::timeout(ANNOUNCE_TIMEOUT, writing).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(failure))) => tracing::warn!("{line} ({failure})"),
        Ok(Err(_)) | Err(_) => tracing::warn!("{line} (stdout is not read)"),
    }
}

/// Writes a message to stderr. A failure to write it is ignored.
pub(super) fn say(text: &str) {
    telemetry::say(text);
}

/// Writes a value as JSON, or as its text.
pub(super) fn print(
    output: Output,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if output.json { data(&to_json(value)?) } else { data(&text()) }
}

/// Writes a list as JSON, or as a table. For an empty table it writes a message to stderr instead, so that stdout has
/// one line for each row.
pub(super) fn print_list<T: Serialize>(
    output: Output,
    list: &[T],
    header: &[&str],
    row: impl Fn(&T) -> Vec<String>,
    when_empty: &str,
) -> Result<(), Failure> {
    if output.json {
        return data(&to_json(list)?);
    }
    if list.is_empty() {
        say(when_empty);
        return Ok(());
    }
    data(&table(Some(header), list.iter().map(row)))
}

/// Formats aligned columns without borders and colours, so that `awk` can read them too.
pub(super) fn table(
    header: Option<&[&str]>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).add_rows(rows);
    if let Some(header) = header {
        table.set_header(header);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn to_json(value: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Other(format!("cannot serialize JSON: {error}")))
}

/// Formats a time for people and programs: UTC, whole seconds.
pub(super) fn time(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// Formats a time for programs, as exact as it is.
pub(super) fn exact_time(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// Opens a backend, runs the work on it and closes it, also if the work failed.
pub(super) async fn on_backend<T>(
    purpose: Purpose,
    settings: &Program,
    work: impl AsyncFnOnce(&Backend) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Boxed, because the future of each command would hold these large ones.
    let opened = Box::pin(Backend::open_for(purpose, settings, &settings.options)).await?;
    let backend = Box::new(opened);
    let outcome = Box::pin(work(&backend)).await;
    Box::pin(backend.close()).await;
    outcome
}

/// As [`on_backend`] for a command on the control plane, which uses no tenant migrations: it works beside files that are
/// refused.
pub(super) async fn on_control_plane<T>(
    settings: &Program,
    work: impl AsyncFnOnce(&Backend) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut program = settings.clone();
    program.settings.tenant_migrations = None;
    program.options.tenant_migrations = None;
    on_backend(Purpose::Operate, &program, work).await
}

/// As [`on_backend`] for a command that makes or tries schemas, and only if the tenant migrations do not depend on other
/// tenants.
pub(super) async fn on_isolated_backend<T>(
    settings: &Program,
    work: impl AsyncFnOnce(&Backend) -> Result<T, Failure>,
) -> Result<T, Failure> {
    on_backend(Purpose::Operate, settings, async |backend| {
        require_isolated(backend, settings)?;
        work(backend).await
    })
    .await
}

/// Refuses tenant migrations whose effect depends on other tenants, or that the engine cannot take.
pub(super) fn require_isolated(backend: &Backend, settings: &Program) -> Result<(), Failure> {
    let (set, folder) = (backend.services.fleet.set(), settings.tenant_migrations.as_deref());
    let own = settings.options.tenant_migrations.as_ref();
    let checked = lint::require_isolated(set, folder, own).and_then(|()| {
        if backend.rules().engine.has_nodes() {
            lint::require_distributable(set, folder, own)
        } else {
            Ok(())
        }
    });
    checked.map_err(|error| BuildError::from(error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_trailing_spaces() {
        let rows = [["acme-corp", "Acme"], ["b", "Bé"]].map(|row| row.map(str::to_owned).to_vec());
        let text = table(Some(&["SLUG", "NAME"]), rows);
        assert_eq!(text, "SLUG       NAME\nacme-corp  Acme\nb          Bé");
    }
}
