//! `tenant import`: makes the tenants of a CSV file, each as `tenant ensure` does, several at a time.
//!
//! The whole file is read and checked before the first tenant is made. What is done is kept in the state file after each
//! tenant, so that a run that was killed goes on where it was. It is a short cut and not what makes a tenant once: each
//! line has an external id, and a line that is done again finds its tenant.

mod rows;
mod state;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::rows::Row;
use self::state::State;
use super::archive_import::ImportFlags;
use super::control::{Control, Target, Uses, on_control};
use super::ensure::{in_parentheses, in_words, plan};
use super::{Exit, Failure, Output, output, stop};

pub(super) const HELP: &str = "\
The first line of the file names its columns, in any order: slug, and any of external_id (without it, the slug), name \
(without it, the slug), admin_email (of an account that there is), settings (JSON), expires_in, expires_at. Lines that \
begin with # are left out. Every wrong line is named before anything is done.

If it is interrupted, or the server is away, run it again with the same --resume: what is done is not done again. \
--dry-run says of each line what would be done; that no account has the admin's address, or that a slug rests after a \
purge, is found when the tenant is made.

Examples:
  rowhouse tenant import tenants.csv --dry-run
  rowhouse tenant import tenants.csv --workers 4 --resume state.json
  rowhouse tenant import - < tenants.csv
  rowhouse tenant import acme.rowhouse.tar --slug acme";

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The CSV file or the archive, or - for stdin
    pub(super) file: PathBuf,
    /// How many tenants are made at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Keep in this file what is done, and do not do again what it says is done
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Restore tenants that are being deleted
    #[arg(long)]
    restore: bool,
    #[command(flatten)]
    pub(super) archive: ImportFlags,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The result of an import.
#[derive(Debug, Default, Serialize)]
struct View {
    total: usize,
    created: usize,
    changed: usize,
    unchanged: usize,
    /// Done by an earlier run with the same state file.
    done_before: usize,
    failed: usize,
    /// Not tried, because the import stopped.
    not_tried: usize,
    /// Whether the counts say what would be done, and nothing was.
    dry_run: bool,
    tenants: Vec<RowView>,
}

/// The result of a line.
#[derive(Debug, Serialize)]
struct RowView {
    line: u64,
    external_id: String,
    slug: String,
    /// `created`, `changed`, `unchanged`, `done_before`, `failed` or `not_tried`.
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<uuid::Uuid>,
    /// The fields that a dry run would change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
}

#[derive(Debug, Serialize)]
struct ErrorView {
    code: String,
    message: String,
}

/// What was done of a line, or would be.
struct Done {
    outcome: String,
    /// None in a dry run.
    id: Option<uuid::Uuid>,
    changes: Vec<&'static str>,
}

/// How an import ended early.
struct Stopped(Failure);

pub(super) async fn run(target: &Target, command: Import) -> Result<Exit, Failure> {
    let rows = rows::read(&command.file, command.restore)?;
    let dry_run = command.archive.dry_run;
    let state = State::open(command.resume.as_deref(), dry_run)?;
    let bar = progress(&command, rows.len());
    let uses = if dry_run { Uses::ControlPlane } else { Uses::NewTenants };
    let (view, stopped) = on_control(target, uses, async |control| {
        import(control, rows, state, &command, &bar).await
    })
    .await?;
    bar.finish_and_clear();
    output::print(command.output, &view, || view.text())?;
    let done = view.created + view.changed + view.unchanged + view.done_before;
    if let Some(Stopped(failure)) = stopped {
        let again = match &command.resume {
            Some(_) => "run it again with the same --resume",
            None => "run it again",
        };
        let message = format!("{failure}; {done} of {} tenants are done: {again}", view.total);
        return Err(failure.worded(message));
    }
    Ok(match view.failed {
        0 => Exit::Done,
        failed if failed == view.total => Exit::Failed,
        _ => Exit::Partly,
    })
}

/// Makes the tenants. Stops before the next one where all others would fail in the same way: the server is away, the
/// token lacks a right, the process is told to stop, the state cannot be kept.
async fn import(
    control: &Control,
    rows: Vec<Row>,
    mut state: State,
    command: &Import,
    bar: &ProgressBar,
) -> Result<(View, Option<Stopped>), Failure> {
    let dry_run = command.archive.dry_run;
    let mut view = View { total: rows.len(), dry_run, ..View::default() };
    let (left, before): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| !state.has(row));
    for row in before {
        bar.inc(1);
        view.add(RowView::new(&row, "done_before"));
    }
    let halts = AtomicBool::new(false);
    let mut stopped = None;
    let work = left.into_iter().map(|row| {
        let halts = &halts;
        async move {
            if halts.load(Ordering::Relaxed) {
                return (row, None);
            }
            let done =
                if dry_run { would_do(control, &row).await } else { make(control, &row).await };
            (row, Some(done.map_err(in_words)))
        }
    });
    let mut work = futures_util::stream::iter(work).buffer_unordered(usize::from(command.workers));
    let mut signalled = std::pin::pin!(stop::signalled());
    loop {
        let next = tokio::select! {
            next = work.next() => next,
            () = &mut signalled, if !halts.load(Ordering::Relaxed) => {
                halts.store(true, Ordering::Relaxed);
                let failure = Failure::Other("stopped by a signal".to_owned());
                stopped = Some(Stopped(failure));
                continue;
            }
        };
        let Some((row, outcome)) = next else { break };
        bar.inc(1);
        let result = match outcome {
            None => RowView::new(&row, "not_tried"),
            Some(Ok(Done { outcome, id, changes })) => {
                if let Some(Err(failure)) = id.map(|id| state.add(&row, id)) {
                    halts.store(true, Ordering::Relaxed);
                    stopped.get_or_insert(Stopped(failure));
                }
                RowView { id, changes, ..RowView::new(&row, &outcome) }
            }
            Some(Err(failure)) if [Exit::Away, Exit::Denied].contains(&failure.exit()) => {
                halts.store(true, Ordering::Relaxed);
                stopped.get_or_insert(Stopped(failure));
                RowView::new(&row, "not_tried")
            }
            Some(Err(failure)) => RowView::failed(&row, &failure),
        };
        tell(command, bar, &view, &result);
        view.add(result);
    }
    view.tenants.sort_by_key(|row| row.line);
    Ok((view, stopped))
}

/// Makes the tenant of a line.
async fn make(control: &Control, row: &Row) -> Result<Done, Failure> {
    let record = control.ensure_tenant(row.upsert.clone()).await?;
    let outcome = record.outcome.unwrap_or_else(|| "unchanged".to_owned());
    Ok(Done { outcome, id: Some(record.id), changes: Vec::new() })
}

/// Says what would be done of a line; reads only.
async fn would_do(control: &Control, row: &Row) -> Result<Done, Failure> {
    let plan = plan(control, &row.upsert).await?;
    Ok(Done { outcome: plan.outcome.to_owned(), id: None, changes: plan.changes })
}

/// Tells of a line: each where there is no bar, and a failed one in any case.
fn tell(command: &Import, bar: &ProgressBar, view: &View, result: &RowView) {
    if command.output.json || result.outcome == "not_tried" {
        return;
    }
    let reason = result.error.as_ref().map(|error| format!(": {}", error.message));
    let verb = match (view.dry_run, result.outcome.as_str()) {
        (true, "failed") => "would have",
        (true, "created" | "changed" | "unchanged") => "would be",
        _ => "is",
    };
    let line = format!(
        "[{}/{}] line {}: {} {verb} {}{}{}",
        view.tenants.len() + 1,
        view.total,
        result.line,
        result.slug,
        result.outcome,
        in_parentheses(&result.changes),
        reason.unwrap_or_default()
    );
    if bar.is_hidden() {
        output::say(&line);
    } else if result.error.is_some() {
        bar.println(line);
    }
}

fn progress(command: &Import, total: usize) -> ProgressBar {
    let is_shown = !command.output.json && std::io::stderr().is_terminal();
    let bar = if is_shown { ProgressBar::new(total as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} tenants, {eta} left") {
        bar.set_style(style);
    }
    bar
}

impl View {
    fn add(&mut self, row: RowView) {
        let count = match row.outcome.as_str() {
            "created" => &mut self.created,
            "changed" => &mut self.changed,
            "unchanged" => &mut self.unchanged,
            "done_before" => &mut self.done_before,
            "failed" => &mut self.failed,
            _ => &mut self.not_tried,
        };
        *count += 1;
        self.tenants.push(row);
    }

    fn text(&self) -> String {
        let parts = [
            (self.created, "created"),
            (self.changed, "changed"),
            (self.unchanged, "unchanged"),
            (self.done_before, "done before"),
            (self.failed, "failed"),
            (self.not_tried, "not tried"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts.map(|(count, word)| format!("{count} {word}")).collect();
        let end = if self.dry_run { "; nothing was changed" } else { "" };
        format!("{} tenants: {}{end}", self.total, parts.join(", "))
    }
}

impl RowView {
    fn new(row: &Row, outcome: &str) -> Self {
        Self {
            line: row.line,
            external_id: row.upsert.external_id.to_string(),
            slug: row.upsert.command.slug.to_string(),
            outcome: outcome.to_owned(),
            id: None,
            changes: Vec::new(),
            error: None,
        }
    }

    fn failed(row: &Row, failure: &Failure) -> Self {
        let error = ErrorView { code: failure.code(), message: failure.to_string() };
        Self { error: Some(error), ..Self::new(row, "failed") }
    }
}
