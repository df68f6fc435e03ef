//! Reads migration files for what a distributed engine, a rolling deploy or traffic would not survive.
//!
//! Works on the text alone and needs no database. Each statement is parsed; what the parser does not know is
//! judged by its words, and where these do not tell either it is reported as not checked: nothing is passed
//! over in silence. The body of a function or a `DO` block is searched for a few words and not parsed.
//! A table that the same file makes is empty and unknown to everybody, so no lock and no deploy is hurt by
//! what is done to it there.
//!
//! A finding is allowed by `-- rowhouse: allow <rule-id> <reason>` on the line before it or before its
//! statement. A file that was applied must not be edited any more; for those the folder may hold
//! `lint.allow`, with lines of `<file> <rule-id> <reason>`. Either silences one finding, and is itself reported
//! where it silences none.

mod allow;
mod expressions;
mod rule;
mod split;
mod statements;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeSet, HashMap};

use sqlparser::ast::{Ident, ObjectName};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use allow::Allowances;
pub use rule::{Rule, Severity, UnknownRule};

/// A statement that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which file.
    pub file: String,
    /// Where in it, from 1.
    pub line: u64,
    /// Which rule.
    pub rule: Rule,
    /// What stands in that line.
    pub text: String,
}

/// What a check of a set found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many files were read.
    pub files: usize,
    /// How many statements they hold.
    pub statements: usize,
    /// How many findings were allowed.
    pub allowed: usize,
    /// What is left, by file and line.
    pub findings: Vec<Finding>,
}

/// The name of the file beside the migrations that allows findings in files which must not be edited.
pub const ALLOW_FILE: &str = "lint.allow";

/// Reads the files of a set, lowest version first, each with its name and its text; `allowances` is the text
/// of [`ALLOW_FILE`], empty where there is none.
#[must_use]
pub fn check(files: &[(String, &str)], allowances: &str) -> Report {
    let mut report = Report { files: files.len(), ..Report::default() };
    let mut shared = Allowances::of_folder(allowances);
    let mut memory = Memory::default();
    for (file, sql) in files {
        let found = check_file(sql, &mut memory, &mut report.statements);
        let mut own = Allowances::of_file(sql);
        let mut left = Vec::new();
        for Broken { rule, line, statement } in found {
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

/// A broken rule, and the line in which its statement begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Broken {
    line: u64,
    rule: Rule,
    statement: u64,
}

/// What is remembered of the statements so far.
#[derive(Default)]
struct Memory {
    /// Tables and other relations that this file has made.
    made_here: BTreeSet<String>,
    /// Those that files before it have made.
    made_before: BTreeSet<String>,
    /// Constraints, by table and name, that this file has added without a look at the rows.
    added_here: BTreeSet<(String, String)>,
    /// Tables of this file that have no primary key yet, with their line.
    keyless: HashMap<String, u64>,
    /// Checks that a column is not null: by table and constraint, the column and whether all rows are
    /// known to pass.
    not_null: HashMap<(String, String), (String, bool)>,
}

/// One statement, under the eyes of all rules.
struct Look<'a> {
    memory: &'a mut Memory,
    /// Where it begins.
    line: u64,
    /// What it breaks. A rule is told once a line.
    broken: BTreeSet<Broken>,
}

impl Look<'_> {
    fn find(&mut self, rule: Rule, line: u64) {
        let line = if line == 0 { self.line } else { line };
        self.broken.insert(Broken { line, rule, statement: self.line });
    }

    /// Whether this file has made the table.
    fn is_new(&self, table: &str) -> bool {
        self.memory.made_here.contains(table)
    }
}

fn check_file(sql: &str, memory: &mut Memory, statements: &mut usize) -> BTreeSet<Broken> {
    memory.made_before.append(&mut memory.made_here);
    memory.added_here.clear();
    let mut broken = BTreeSet::new();
    // A set is lexed when it is loaded; what cannot be is refused there.
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location() else {
        broken.insert(Broken { line: 1, rule: Rule::NotChecked, statement: 1 });
        return broken;
    };
    for tokens in split::statements(tokens) {
        *statements += 1;
        let line = tokens.first().map_or(1, |token| token.span.start.line);
        let mut look = Look { memory, line, broken: BTreeSet::new() };
        words::mentions_public(&mut look, &tokens);
        match parse(&tokens) {
            Some(statement) => statements::check(&mut look, &statement, &tokens),
            None => words::check(&mut look, &tokens),
        }
        broken.append(&mut look.broken);
    }
    for (_, line) in memory.keyless.drain() {
        broken.insert(Broken { line, rule: Rule::NoPrimaryKey, statement: line });
    }
    broken
}

/// The statement, if the parser knows all of it.
fn parse(tokens: &[TokenWithSpan]) -> Option<sqlparser::ast::Statement> {
    let dialect = PostgreSqlDialect {};
    let mut parser =
        sqlparser::parser::Parser::new(&dialect).with_tokens_with_locations(tokens.to_vec());
    let statement = parser.parse_statement().ok()?;
    (parser.peek_token().token == Token::EOF).then_some(statement)
}

/// A relation as the memory knows it: without its schema, in lower case unless quoted.
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
