//! The table of all scenarios, which a long run prints at its end.

use std::sync::Mutex;
use std::time::Duration;

use comfy_table::{Table, presets};

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// What a scenario showed.
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    pub(crate) half_made: usize,
    pub(crate) unanswered: usize,
    pub(crate) longest_to_heal: Duration,
    pub(crate) endings: String,
}

pub(crate) fn add(row: Row) {
    ROWS.lock().expect("no thread panics while holding the lock").push(row);
}

/// Returns the table of what has run, if anything has, with the scenarios that this machine does not offer.
pub(crate) fn table(not_offered: &[String]) -> Option<String> {
    let rows = ROWS.lock().expect("no thread panics while holding the lock");
    if rows.is_empty() {
        return None;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "scenario",
        "acknowledged",
        "lost",
        "half made",
        "unanswered, there",
        "healed after",
        "requests by ending",
    ]);
    for row in rows.iter() {
        table.add_row([
            row.scenario.clone(),
            row.acknowledged.to_string(),
            row.lost.to_string(),
            row.half_made.to_string(),
            row.unanswered.to_string(),
            format!("{:.1} s", row.longest_to_heal.as_secs_f32()),
            row.endings.clone(),
        ]);
    }
    for name in not_offered {
        table.add_row([name, "not offered by this machine"]);
    }
    Some(table.to_string())
}
