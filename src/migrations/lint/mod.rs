//! Checks migration files for statements whose effect depends on other tenants, or that would fail on a distributed
//! engine, break a rolling deploy or block traffic.
//!
//! Works on the text alone and needs no database. Each statement is parsed. A statement that the parser does
//! not support is checked by its words, and reported as `not-checked` if these do not suffice: no statement is
//! skipped silently. The body of a function or a `DO` block is searched for a few words, and its queries of the
//! catalogs are parsed ([`isolation`]).
//! A table that the same file creates is empty and unused, so the lock and deploy rules do not apply to it.
//!
//! A finding is allowed by `-- rowhouse: allow <rule-id> <reason>` on the line before it or before its
//! statement. A file that was applied must not be edited any more; for such files the folder may hold
//! `lint.allow`, with lines of `<file> <rule-id> <reason>`. An allowance covers one finding, and is itself
//! reported if it covers none.

mod allow;
mod expressions;
mod guards;
mod isolation;
mod rule;
mod split;
mod statements;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeSet, HashMap};

use sqlparser::ast::{Ident, ObjectName};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use allow::Allowances;
pub use guards::{Guard, guards, without_schema};
pub use rule::{Rule, Severity, UnknownRule};

/// A statement that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The rule.
    pub rule: Rule,
    /// The text of that line.
    pub text: String,
}

/// The result of checking a set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The number of files.
    pub files: usize,
    /// The number of statements.
    pub statements: usize,
    /// The number of allowed findings.
    pub allowed: usize,
    /// The remaining findings, by file and line.
    pub findings: Vec<Finding>,
}

/// The file beside the migrations with the allowances for files that must not be edited.
pub const ALLOW_FILE: &str = "lint.allow";

/// Checks the files of a set, lowest version first, each with its name and its text; `allowances` is the text
/// of [`ALLOW_FILE`], empty if there is none.
#[must_use]
pub fn check(files: &[(String, &str)], allowances: &str) -> Report {
    let mut report = Report { files: files.len(), ..Report::default() };
    let mut shared = Allowances::of_folder(allowances);
    let mut state = State::default();
    for (file, sql) in files {
        let found = check_file(sql, &mut state, &mut report.statements);
        let mut own = Allowances::of_file(sql);
        let mut left = Vec::new();
        for Violation { rule, line, statement } in found {
            if own.allows(rule, &[line, statement]) || shared.allows_in(file, rule) {
                report.allowed += 1;
            } else {
                left.push((line, rule));
            }
        }
        left.extend(own.unused().map(|line| (line, Rule::BadAllow)));
        left.sort_unstable();
        let finding =
            |(line, rule)| Finding { file: file.clone(), line, rule, text: line_of(sql, line) };
        report.findings.extend(left.into_iter().map(finding));
    }
    let unused = shared.unused().map(|line| Finding {
        file: ALLOW_FILE.to_owned(),
        line,
        rule: Rule::BadAllow,
        text: line_of(allowances, line),
    });
    report.findings.extend(unused);
    report
}

/// A broken rule, its line, and the line in which its statement begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    line: u64,
    rule: Rule,
    statement: u64,
}

/// What is known from the statements so far.
#[derive(Default)]
struct State {
    /// Relations that this file has created.
    created_here: BTreeSet<String>,
    /// Relations that earlier files have created.
    created_before: BTreeSet<String>,
    /// Constraints that this file has added, by table and name.
    added_here: BTreeSet<(String, String)>,
    /// Tables of this file without a primary key so far, with their line.
    keyless: HashMap<String, u64>,
    /// Functions and procedures that this file has dropped and not created again, with their line.
    dropped_routines: HashMap<String, u64>,
    /// Functions and procedures that this file has created.
    created_routines: BTreeSet<String>,
    /// Constraints that this file has dropped and not added again, by table and name, with their line.
    dropped_constraints: HashMap<(String, String), u64>,
    /// Constraints that are no keys, by table and name: to drop one lets more rows in and refuses none.
    no_keys: BTreeSet<(String, String)>,
    /// Constraints that a column is not null, by table and name: the column, and whether the constraint is validated.
    not_null: HashMap<(String, String), (String, bool)>,
}

/// The check of one statement by all rules.
struct Linter<'a> {
    state: &'a mut State,
    /// The line where it begins.
    line: u64,
    /// The rules that it breaks, each at most once a line.
    violations: BTreeSet<Violation>,
}

impl Linter<'_> {
    fn report(&mut self, rule: Rule, line: u64) {
        let line = if line == 0 { self.line } else { line };
        self.violations.insert(Violation { line, rule, statement: self.line });
    }

    /// Whether this file has created the table.
    fn is_new(&self, table: &str) -> bool {
        self.state.created_here.contains(table)
    }
}

fn check_file(sql: &str, state: &mut State, statements: &mut usize) -> BTreeSet<Violation> {
    state.created_before.append(&mut state.created_here);
    state.added_here.clear();
    state.created_routines.clear();
    let mut violations = BTreeSet::new();
    for part in split::parts(sql) {
        let line = part.statement.line;
        let Some(mut tokens) = part.statement.tokens() else {
            *statements += 1;
            violations.insert(Violation { line, rule: Rule::NotChecked, statement: line });
            continue;
        };
        tokens.retain(|token| token.token != Token::EOF);
        if tokens.is_empty() {
            continue; // the end of the file
        }
        *statements += 1;
        let mut linter = Linter { state, line, violations: BTreeSet::new() };
        words::mentions_public(&mut linter, &tokens);
        words::nested_partition(&mut linter, &tokens);
        for line in isolation::lines_without_schema(&tokens) {
            linter.report(Rule::CatalogWithoutSchema, line);
        }
        match parse(&tokens) {
            Some(statement) => statements::check(&mut linter, &statement, &tokens),
            None => words::check(&mut linter, &tokens),
        }
        violations.append(&mut linter.violations);
    }
    for (_, line) in state.keyless.drain() {
        violations.insert(Violation { line, rule: Rule::NoPrimaryKey, statement: line });
    }
    for (_, line) in state.dropped_routines.drain() {
        violations.insert(Violation { line, rule: Rule::DropFunction, statement: line });
    }
    for (_, line) in state.dropped_constraints.drain() {
        violations.insert(Violation { line, rule: Rule::DropConstraint, statement: line });
    }
    violations
}

/// Returns the statement, if the parser supports all of it.
fn parse(tokens: &[TokenWithSpan]) -> Option<sqlparser::ast::Statement> {
    let dialect = PostgreSqlDialect {};
    let mut parser =
        sqlparser::parser::Parser::new(&dialect).with_tokens_with_locations(tokens.to_vec());
    let statement = parser.parse_statement().ok()?;
    (parser.peek_token().token == Token::EOF).then_some(statement)
}

/// Returns a relation's name without its schema, in lower case unless quoted.
fn relation(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default()
}

fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn line_of(text: &str, line: u64) -> String {
    const LONGEST: usize = 100;
    let at = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
    let line = text.lines().nth(at).unwrap_or_default().trim();
    if line.chars().count() > LONGEST {
        format!("{} ..", line.chars().take(LONGEST).collect::<String>())
    } else {
        line.to_owned()
    }
}
