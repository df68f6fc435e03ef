//! Shows the progress of a run (a bar on a terminal, lines elsewhere, JSON for programs) and what an operation came to.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use uuid::Uuid;

use crate::app::Backend;
use crate::cli::control::OperationView;
use crate::cli::{Failure, Output, output};
use crate::domain::error::{Error, Noun};
use crate::service::fleet::{End, Event, Events, Record};

/// Up to this many tenants have a line each. Of more tenants, only every nth has a line.
const LINES: i64 = 100;

/// The progress of a run.
pub(super) struct Progress {
    json: bool,
    bar: ProgressBar,
    total: AtomicI64,
    ended: AtomicI64,
}

impl Progress {
    pub(super) fn new(output: Output) -> Arc<Self> {
        let is_terminal = !output.json && std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let template = "{bar:30} {pos}/{len} tenants, {per_sec}, {eta} left{msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Arc::new(Self {
            json: output.json,
            bar,
            total: AtomicI64::new(0),
            ended: AtomicI64::new(0),
        })
    }

    /// Returns the receiver of the events of a run.
    pub(super) fn events(self: &Arc<Self>) -> Events {
        let this = Arc::clone(self);
        Arc::new(move |event| this.show(event))
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&self, event: &Event) {
        if self.json {
            line(&in_json(event));
            return;
        }
        match event {
            Event::Started { record, workers } => self.begin(record, *workers),
            Event::Retrying { slug, reason } => self.say(&format!("{slug}: retrying: {reason}")),
            Event::Ended { slug, end, .. } => self.end(slug.as_str(), end),
        }
    }

    fn begin(&self, record: &Record, workers: usize) {
        let counts = record.counts;
        let left = counts.pending + counts.running;
        self.total.store(left, Ordering::Relaxed);
        self.bar.set_length(u64::try_from(left).unwrap_or(0));
        self.bar.reset_eta();
        let at_once = if workers == 1 { String::new() } else { format!(", {workers} at a time") };
        self.say(&format!("operation {}: {left} tenants to migrate{at_once}", record.id));
    }

    fn end(&self, slug: &str, end: &End) {
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.total.load(Ordering::Relaxed);
        self.bar.inc(1);
        let (words, matters) = match end {
            End::Done(applied) => (format!("applied {}", applied.len()), false),
            End::Failed(reason) => (format!("failed: {reason}"), true),
            End::Skipped(reason) => (format!("left out: {reason}"), true),
        };
        let is_shown = total <= LINES || ended == total || ended % (total / LINES) == 0;
        if matters || (is_shown && self.bar.is_hidden()) {
            self.say(&format!("[{ended}/{total}] {slug}: {words}"));
        }
    }

    fn say(&self, text: &str) {
        if self.bar.is_hidden() {
            output::say(text);
        } else {
            self.bar.println(text);
        }
    }
}

/// Writes a line of JSON. A closed pipe does not stop a migration.
pub(super) fn line(value: &Value) {
    let _ = output::data(&value.to_string());
}

fn in_json(event: &Event) -> Value {
    match event {
        Event::Started { record, workers } => {
            json!({ "event": "begun", "operation": operation(record), "workers": workers })
        }
        Event::Retrying { slug, reason } => {
            json!({ "event": "again", "slug": slug.as_str(), "reason": reason })
        }
        Event::Ended { id, slug, end, attempts } => {
            let (state, applied, error) = match end {
                End::Done(applied) => ("done", Some(applied), None),
                End::Failed(reason) => ("failed", None, Some(reason)),
                End::Skipped(reason) => ("skipped", None, Some(reason)),
            };
            json!({
                "event": "tenant", "id": id.to_string(), "slug": slug.as_str(), "state": state,
                "applied": applied, "error": error, "attempts": attempts,
            })
        }
    }
}

/// An operation in JSON.
fn operation(record: &Record) -> Value {
    serde_json::to_value(OperationView::from(record)).unwrap_or_default()
}

/// Describes the state of an operation, with the slugs of tenants that failed.
pub(super) fn summary(view: &OperationView, failed: &(Vec<String>, bool)) -> String {
    let counts = &view.tenants;
    let mut text = format!("tenants: {} migrated", counts.done);
    if counts.failed > 0 {
        let (slugs, has_more) = failed;
        let more = if *has_more { ", .." } else { "" };
        text = format!("{text}, {} failed", counts.failed);
        // Without rows in the ledger the slugs are not known any more.
        if !slugs.is_empty() {
            text = format!("{text}: {}{more}", slugs.join(", "));
        }
    }
    if counts.skipped > 0 {
        text = format!("{text}, {} left out", counts.skipped);
    }
    let left = counts.pending + counts.running;
    if left > 0 {
        text = format!("{text}, {left} not tried");
    }
    let id = view.id;
    match (view.state.as_str(), view.pause_reason.as_deref()) {
        ("paused", reason) => {
            let why = match reason {
                Some("canary") => "the canary went well",
                Some("canary_failed") => "the canary failed",
                Some("max_failures") => "as many failed as were allowed to",
                _ => "an operator asked",
            };
            text = format!(
                "{text}\noperation {id} is paused: {why}; `rowhouse migrate resume` continues it"
            );
        }
        ("planned" | "running", _) if !view.is_held() => {
            text = format!("{text}\noperation {id} was abandoned; `rowhouse migrate` continues it");
        }
        ("cancelled", _) => text = format!("{text}\noperation {id} was cancelled"),
        _ => {}
    }
    text
}

/// Returns the id that is given, or else that of the open operation.
pub(super) async fn which(backend: &Backend, id: Option<Uuid>) -> Result<Uuid, Failure> {
    match id {
        Some(id) => Ok(id),
        None => Ok(open(backend).await?.ok_or(Error::NotFound(Noun::Operation))?.id),
    }
}

/// Finds the open operation.
pub(super) async fn open(backend: &Backend) -> Result<Option<Record>, Failure> {
    Ok(backend.services.fleet.find_open(&backend.operator()).await?)
}
