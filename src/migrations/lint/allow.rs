//! What somebody allows, and why. Each allowance is good for one finding.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use crate::migrations::lint::Rule;

/// Allowances of one source, and which of them are used up.
pub(super) struct Allowances(Vec<Allowance>);

struct Allowance {
    /// Where it stands.
    line: u64,
    /// The line that it speaks of, or the file.
    target: Target,
    /// None where it cannot be read.
    rule: Option<Rule>,
    used: bool,
}

#[derive(PartialEq)]
enum Target {
    Line(u64),
    File(String),
}

impl Allowances {
    /// Those in the comments of a file; each speaks of the next line that holds more than comments.
    pub(super) fn of_file(sql: &str) -> Self {
        let mut tokenizer = Tokenizer::new(&PostgreSqlDialect {}, sql);
        let tokens = tokenizer.tokenize_with_location().unwrap_or_default();
        let (mut all, mut open): (Vec<Allowance>, Vec<(u64, String)>) = (Vec::new(), Vec::new());
        for token in tokens {
            let line = token.span.start.line;
            match token.token {
                Token::Whitespace(Whitespace::SingleLineComment { comment, .. }) => {
                    let words = comment.trim().strip_prefix("rowhouse:").map(str::trim);
                    let words = words.and_then(|words| words.strip_prefix("allow"));
                    open.extend(words.map(|words| (line, words.to_owned())));
                }
                Token::Whitespace(_) => {}
                _ => {
                    for (at, words) in open.drain(..) {
                        let rule = words.strip_prefix(' ').and_then(read);
                        all.push(Allowance {
                            line: at,
                            target: Target::Line(line),
                            rule,
                            used: false,
                        });
                    }
                }
            }
        }
        let last = open.into_iter().map(|(line, _)| Allowance {
            line,
            target: Target::Line(line),
            rule: None,
            used: false,
        });
        all.extend(last);
        Self(all)
    }

    /// Those of a folder, a line each; empty lines and lines that begin with # say nothing.
    pub(super) fn of_folder(text: &str) -> Self {
        let allowance = |(at, words): (usize, &str)| {
            let (file, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
            Allowance {
                line: u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1),
                target: Target::File(file.to_owned()),
                rule: read(rest.trim()),
                used: false,
            }
        };
        let lines = text.lines().map(str::trim).enumerate();
        let told = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        Self(told.map(allowance).collect())
    }

    /// Uses up an allowance for a finding in one of these lines, if there is one.
    pub(super) fn allows(&mut self, rule: Rule, lines: &[u64]) -> bool {
        lines.iter().any(|line| self.use_up(rule, &Target::Line(*line)))
    }

    /// Uses up an allowance for a finding in this file, if there is one.
    pub(super) fn allows_in(&mut self, file: &str, rule: Rule) -> bool {
        self.use_up(rule, &Target::File(file.to_owned()))
    }

    /// The lines of those that allowed nothing.
    pub(super) fn unused(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter(|allowance| !allowance.used).map(|allowance| allowance.line)
    }

    fn use_up(&mut self, rule: Rule, target: &Target) -> bool {
        let good = |a: &&mut Allowance| !a.used && a.rule == Some(rule) && a.target == *target;
        match self.0.iter_mut().find(good) {
            Some(allowance) => {
                allowance.used = true;
                true
            }
            None => false,
        }
    }
}

/// A rule that is followed by a reason.
fn read(words: &str) -> Option<Rule> {
    let (rule, reason) = words.trim().split_once(char::is_whitespace)?;
    if reason.trim().is_empty() { None } else { rule.parse().ok() }
}
