//! Allowances: findings that an author has accepted, each with a reason. An allowance covers one finding.

use sqlparser::tokenizer::{Token, Whitespace};

use crate::migrations::lint::Rule;
use crate::migrations::lint::split::{self, Text};

/// What the comment of an allowance begins with.
const WORD: &str = "rowhouse:";

/// The allowances of one source.
pub(super) struct Allowances(Vec<Allowance>);

struct Allowance {
    /// The line of the allowance itself.
    line: u64,
    /// The line or file that it applies to.
    target: Target,
    /// `None` if it cannot be parsed.
    rule: Option<Rule>,
    is_used: bool,
}

#[derive(PartialEq)]
enum Target {
    Line(u64),
    File(String),
}

impl Allowances {
    /// Reads the allowances in the comments of a file, also in the bodies of functions. Each applies to the next line
    /// with more than a comment.
    pub(super) fn of_file(sql: &str) -> Self {
        let mut all = Vec::new();
        // A file without one is read no further.
        if sql.contains(WORD) {
            for part in split::parts(sql).iter().filter(|part| part.whole.sql.contains(WORD)) {
                read_comments(part.whole, &mut all);
            }
        }
        Self(all)
    }

    /// Reads the allowances of a folder's file, one a line. Empty lines and lines that begin with # are ignored.
    pub(super) fn of_folder(text: &str) -> Self {
        let allowance = |(at, words): (usize, &str)| {
            let (file, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
            Allowance {
                line: u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1),
                target: Target::File(file.to_owned()),
                rule: parse(rest.trim()),
                is_used: false,
            }
        };
        let lines = text.lines().map(str::trim).enumerate();
        let given = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        Self(given.map(allowance).collect())
    }

    /// Uses an allowance for a finding in one of these lines; returns whether there is one.
    pub(super) fn allows(&mut self, rule: Rule, lines: &[u64]) -> bool {
        lines.iter().any(|line| self.use_up(rule, &Target::Line(*line)))
    }

    /// Uses an allowance for a finding in this file; returns whether there is one.
    pub(super) fn allows_in(&mut self, file: &str, rule: Rule) -> bool {
        self.use_up(rule, &Target::File(file.to_owned()))
    }

    /// The lines of the allowances that were not used.
    pub(super) fn unused(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter(|allowance| !allowance.is_used).map(|allowance| allowance.line)
    }

    fn use_up(&mut self, rule: Rule, target: &Target) -> bool {
        let applies =
            |a: &&mut Allowance| !a.is_used && a.rule == Some(rule) && a.target == *target;
        match self.0.iter_mut().find(applies) {
            Some(allowance) => {
                allowance.is_used = true;
                true
            }
            None => false,
        }
    }
}

/// Adds the allowances of a text.
fn read_comments(text: Text<'_>, all: &mut Vec<Allowance>) {
    let mut open: Vec<(u64, String)> = Vec::new();
    for token in text.tokens().unwrap_or_default() {
        let line = token.span.start.line;
        match token.token {
            Token::Whitespace(Whitespace::SingleLineComment { comment, .. }) => {
                let words = comment.trim().strip_prefix(WORD).map(str::trim);
                let words = words.and_then(|words| words.strip_prefix("allow"));
                open.extend(words.map(|words| (line, words.to_owned())));
            }
            Token::Whitespace(_) | Token::SemiColon | Token::EOF => {}
            other => {
                for (at, words) in open.drain(..) {
                    let rule = words.strip_prefix(' ').and_then(parse);
                    let target = Target::Line(line);
                    all.push(Allowance { line: at, target, rule, is_used: false });
                }
                if let Token::DollarQuotedString(body) = other
                    && body.value.contains(WORD)
                {
                    read_comments(Text { sql: &body.value, line }, all);
                }
            }
        }
    }
    // One before nothing.
    all.extend(open.into_iter().map(|(line, _)| Allowance {
        line,
        target: Target::Line(line),
        rule: None,
        is_used: false,
    }));
}

/// Parses a rule that is followed by a reason.
fn parse(words: &str) -> Option<Rule> {
    let (rule, reason) = words.trim().split_once(char::is_whitespace)?;
    if reason.trim().is_empty() { None } else { rule.parse().ok() }
}
