//! The drift that an operator expects: objects that are made at run time, such as partitions. The file
//! `drift.allow` beside the tenant migrations lists them, one line each:
//!
//! ```text
//! <kind> <name> [tenant=<slug or id>] <reason>
//! ```
//!
//! `kind` is the word that a finding has (`table`, `index`, `materialized view`), `name` a name in which `*` stands
//! for any text; with a point it is the name of a table and of a part of that. Only structure can be expected: owners
//! and rights are always compared.

use std::io::ErrorKind;
use std::path::Path;

use crate::pg::catalog::Kind;
use crate::service::doctor::diff::Difference;
use crate::service::doctor::report::{Area, ExpectedDriftUse, Subject};

/// The name of the file.
pub const ALLOW_FILE: &str = "drift.allow";

/// Kinds whose drift cannot be expected.
const RIGHTS: [Kind; 6] =
    [Kind::Schema, Kind::Role, Kind::Member, Kind::Membership, Kind::Grant, Kind::DefaultGrant];

/// What is expected.
#[derive(Debug, Clone, Default)]
pub struct ExpectedDrift {
    lines: Vec<Line>,
    malformed: Vec<Malformed>,
}

#[derive(Debug, Clone)]
struct Line {
    /// From 1.
    number: u64,
    text: String,
    kind: Kind,
    pattern: String,
    /// The slug or id of the only tenant that it is for.
    tenant: Option<String>,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) number: u64,
    pub(super) text: String,
    pub(super) reason: &'static str,
}

impl ExpectedDrift {
    /// Reads the file in a folder; expects nothing if there is none.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn load(folder: Option<&Path>) -> std::io::Result<Self> {
        let Some(folder) = folder else { return Ok(Self::default()) };
        match std::fs::read_to_string(folder.join(ALLOW_FILE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            text => Ok(Self::parse(&text?)),
        }
    }

    /// Reads the lines. Empty ones and those that begin with # are ignored.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut expected = Self::default();
        for (number, text) in (1_u64..).zip(text.lines().map(str::trim)) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            match parse(number, text) {
                Ok(line) => expected.lines.push(line),
                Err(reason) => {
                    expected.malformed.push(Malformed { number, text: text.to_owned(), reason });
                }
            }
        }
        expected
    }

    pub(super) fn malformed(&self) -> &[Malformed] {
        &self.malformed
    }

    /// The line, from 0, that expects a difference in the schema of this tenant or vacancy.
    pub(super) fn line_for(&self, subject: &Subject, difference: &Difference) -> Option<usize> {
        if difference.area != Area::Structure {
            return None;
        }
        let Difference { kind, parent, name, .. } = difference;
        self.lines.iter().position(|line| line.covers(subject, *kind, parent, name))
    }

    /// Whether an object is expected in the schema of this tenant or vacancy.
    pub(super) fn has(&self, subject: &Subject, kind: Kind, name: &str) -> bool {
        self.lines.iter().any(|line| line.covers(subject, kind, "", name))
    }

    /// How often each line was used, from these counts.
    pub(super) fn uses(&self, counts: &[usize]) -> Vec<ExpectedDriftUse> {
        let counts = counts.iter().copied().chain(std::iter::repeat(0));
        let used = |(line, count): (&Line, usize)| ExpectedDriftUse {
            line: line.number,
            text: line.text.clone(),
            count,
        };
        self.lines.iter().zip(counts).map(used).collect()
    }

    pub(super) fn line_count(&self) -> usize {
        self.lines.len()
    }
}

impl Line {
    fn covers(&self, subject: &Subject, kind: Kind, parent: &str, name: &str) -> bool {
        let is_of = |tenant: &String| {
            *tenant == subject.id.to_string()
                || subject.slug.as_ref().is_some_and(|slug| slug.as_str() == tenant)
        };
        // A parent is a label, such as `table notes`.
        let table = parent.split_once(' ').map_or(parent, |(_, table)| table);
        self.kind == kind
            && self.tenant.as_ref().is_none_or(is_of)
            && (matches(&self.pattern, name)
                || (!table.is_empty() && matches(&self.pattern, &format!("{table}.{name}"))))
    }
}

fn parse(number: u64, text: &str) -> Result<Line, &'static str> {
    let (kind, rest) =
        kind(text).ok_or("it begins with no kind of object, such as table or index")?;
    if RIGHTS.contains(&kind) {
        return Err("roles, owners and rights are always compared");
    }
    let (pattern, mut rest) = name(rest);
    if pattern.is_empty() {
        return Err("the name is missing");
    }
    let mut tenant = None;
    if let Some(after) = rest.strip_prefix("tenant=") {
        let (named, reason) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
        if named.is_empty() {
            return Err("the tenant is missing: tenant=<slug or id>");
        }
        (tenant, rest) = (Some(named.to_owned()), reason.trim());
    }
    if rest.is_empty() {
        return Err("the reason is missing");
    }
    Ok(Line { number, text: text.to_owned(), kind, pattern: pattern.to_owned(), tenant })
}

/// The kind of object that a line begins with, and the rest.
fn kind(text: &str) -> Option<(Kind, &str)> {
    let (first, rest) = text.split_once(char::is_whitespace)?;
    let (second, after) = rest.trim_start().split_once(char::is_whitespace).unwrap_or((rest, ""));
    let long = Kind::from_word(&format!("{first} {second}")).map(|kind| (kind, after.trim()));
    long.or_else(|| Kind::from_word(first).map(|kind| (kind, rest.trim())))
}

/// The name at the beginning of a text, which may have white space between quotes, and the rest.
fn name(text: &str) -> (&str, &str) {
    let mut is_quoted = false;
    let end = text.find(|c: char| {
        is_quoted ^= c == '"';
        c.is_whitespace() && !is_quoted
    });
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    (name, rest.trim())
}

/// Whether a name has the form of a pattern, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, is_match) in [
            ("events", "events", true),
            ("events", "events_1", false),
            ("events_*", "events_2026", true),
            ("events_2*", "events_1999", false),
            ("*_idx", "a_idx", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("items.custom_*", "items.custom_a", true),
        ] {
            assert_eq!(matches(pattern, name), is_match, "{pattern} {name}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_used_is_named_with_the_reason() {
        let text = "# a comment\n\ntable events_2* one a month\nmaterialized view \"My \"* tenant=acme theirs\n\
                    tables x y\ntable\ntable x\ngrant reporting x\nindex i tenant= why\nindex i tenant=acme";
        let expected = ExpectedDrift::parse(text);
        let lines: Vec<_> =
            expected.lines.iter().map(|l| (l.number, l.kind, l.pattern.as_str())).collect();
        assert_eq!(lines, [(3, Kind::Table, "events_2*"), (4, Kind::MaterializedView, "\"My \"*")]);
        let malformed: Vec<_> =
            expected.malformed.iter().map(|it| (it.number, it.reason)).collect();
        assert_eq!(
            malformed,
            [
                (5, "it begins with no kind of object, such as table or index"),
                (6, "it begins with no kind of object, such as table or index"),
                (7, "the reason is missing"),
                (8, "roles, owners and rights are always compared"),
                (9, "the tenant is missing: tenant=<slug or id>"),
                (10, "the reason is missing"),
            ]
        );
    }
}
