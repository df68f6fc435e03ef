//! Tells how far a run is: a bar where somebody watches, lines where nobody does, JSON for programs.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::{Output, output};
use crate::domain::operation::PauseReason;
use crate::service::fleet::{End, Event, Events, Record};

/// As many tenants have a line each; of more, one in so many of them has.
const LINES: i64 = 100;

/// What is shown, and where.
pub(super) struct Progress {
    json: bool,
    bar: ProgressBar,
    total: AtomicI64,
    ended: AtomicI64,
}

impl Progress {
    pub(super) fn new(output: Output) -> Arc<Self> {
        let watched = !output.json && std::io::stderr().is_terminal();
        let bar = if watched { ProgressBar::new(0) } else { ProgressBar::hidden() };
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

    /// What a run calls.
    pub(super) fn events(self: &Arc<Self>) -> Events {
        let this = Arc::clone(self);
        Arc::new(move |event| this.show(event))
    }

    /// Clears the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&self, event: &Event) {
        if self.json {
            line(&in_json(event));
            return;
        }
        match event {
            Event::Begun { record, workers } => self.begin(record, *workers),
            Event::Again { slug, reason } => self.say(&format!("{slug}: once more: {reason}")),
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

/// Writes a line of JSON. That nobody reads it any more does not stop a migration.
pub(super) fn line(value: &Value) {
    let _ = output::data(&value.to_string());
}

fn in_json(event: &Event) -> Value {
    match event {
        Event::Begun { record, workers } => {
            json!({ "event": "begun", "operation": operation(record), "workers": workers })
        }
        Event::Again { slug, reason } => {
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

/// An operation as programs read it.
pub(super) fn operation(record: &Record) -> Value {
    let counts = record.counts;
    json!({
        "id": record.id,
        "state": record.state.as_str(),
        "pauseReason": record.pause_reason.map(PauseReason::as_str),
        "isHeld": record.is_held,
        "holder": record.holder.as_ref().map(|holder| json!({
            "host": holder.host, "pid": holder.pid, "since": output::time(holder.since),
        })),
        "actor": record.actor,
        "targetVersion": record.target_version,
        "targetFingerprint": record.target_fingerprint,
        "tenantCount": counts.total,
        "pendingCount": counts.pending,
        "runningCount": counts.running,
        "migratedCount": counts.done,
        "failedCount": counts.failed,
        "skippedCount": counts.skipped,
        "prunedCount": counts.pruned,
        "createdAt": output::time(record.created_at),
        "startedAt": record.started_at.map(output::time),
        "endedAt": record.ended_at.map(output::time),
    })
}
