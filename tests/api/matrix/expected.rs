//! The table of expected statuses, as text.

use std::fmt::Write as _;
use std::path::Path;

use super::principals::COLUMNS;
use crate::support::TestEngine;

const TABLE: &str = include_str!("expected.txt");

/// What stands before the first line.
const HEAD: &str = "\
# The status that each kind of principal gets from each operation. tests/api/matrix.rs calls them all; BLESS=1 writes this
# file anew. The columns are explained in matrix/principals.rs. Access is the permission that an operation needs, or the
# kind of its credential where it needs none or the caller's kind decides; it chooses the credentials of the columns
# only, less, key and nokey.
";

/// One operation.
pub struct Line {
    pub method: String,
    pub path: String,
    /// A permission, `public`, or a security scheme of the document.
    pub access: String,
    /// One for each of [`COLUMNS`].
    pub statuses: Vec<u16>,
}

/// Reads the table.
pub fn lines() -> Vec<Line> {
    let is_line = |line: &&str| !line.starts_with('#') && !line.trim().is_empty();
    let mut lines: Vec<Line> = TABLE.lines().filter(is_line).skip(1).map(read).collect();
    if TestEngine::of_run() == TestEngine::Citus {
        lines.iter_mut().for_each(of_cluster);
    }
    lines
}

/// Changes what is another answer on a cluster: the table is of one server, which has no nodes to use.
fn of_cluster(line: &mut Line) {
    let instead = match line.path.as_str() {
        "/control/v1/cluster/distribute" => 204, // all tenants are distributed
        "/control/v1/cluster/move" => 404,       // no node has the name in the request
        _ => return,
    };
    line.statuses.iter_mut().filter(|status| **status == 409).for_each(|status| *status = instead);
}

fn read(text: &str) -> Line {
    let words: Vec<&str> = text.split_whitespace().filter(|word| *word != "|").collect();
    let [method, path, access, statuses @ ..] = words.as_slice() else {
        panic!("not a line: {text}");
    };
    assert_eq!(statuses.len(), COLUMNS.len(), "{text}");
    let number = |word: &&str| word.parse().unwrap_or_else(|_| panic!("no status: {text}"));
    Line {
        method: (*method).to_owned(),
        path: (*path).to_owned(),
        access: (*access).to_owned(),
        statuses: statuses.iter().map(number).collect(),
    }
}

/// Writes the table if the environment asks for it; returns whether it does.
#[expect(clippy::disallowed_methods, reason = "BLESS is a switch of this test and not a setting")]
pub fn bless(lines: &[Line]) -> bool {
    if std::env::var("BLESS").is_err() {
        return false;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/matrix/expected.txt");
    std::fs::write(path, render(lines)).expect("the table can be written");
    true
}

fn render(lines: &[Line]) -> String {
    let mut sorted: Vec<&Line> = lines.iter().collect();
    sorted.sort_by_key(|line| (&line.path, &line.method));
    let width = |of: fn(&Line) -> &str, least: usize| {
        lines.iter().map(|line| of(line).len()).max().unwrap_or(0).max(least)
    };
    let (path, access) = (width(|line| &line.path, 4), width(|line| &line.access, 6));
    let mut text = format!("{HEAD}\n{:6} {:path$} {:access$}", "method", "path", "access");
    for column in COLUMNS {
        let _ = write!(text, " {column:>6}");
    }
    text.push('\n');
    for line in sorted {
        let _ = write!(text, "{:6} {:path$} {:access$}", line.method, line.path, line.access);
        for status in &line.statuses {
            let _ = write!(text, " {status:>6}");
        }
        text.push('\n');
    }
    text
}
