//! The statements of a set that ask the catalogs without a schema, by themselves: for what refuses such a set, and for
//! what compares schemas that it made.

use std::collections::BTreeSet;

use sqlparser::tokenizer::TokenWithSpan;

use crate::migrations::lint::allow::Allowances;
use crate::migrations::lint::{Finding, Rule, isolation, line_of, split};

const RULE: Rule = Rule::CatalogWithoutSchema;

/// A statement that asks the catalogs without a schema, so that what it does depends on other tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The file.
    pub file: String,
    /// The line of the query, from 1.
    pub line: u64,
    /// The names in the statement, in lower case.
    names: BTreeSet<String>,
    composes: bool,
}

impl Guard {
    /// Whether the statement names an object.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.names.contains(&name.trim_matches('"').to_lowercase())
    }

    /// Whether it runs texts that it composes, so that it may make an object of any name.
    #[must_use]
    pub fn composes(&self) -> bool {
        self.composes
    }
}

/// Returns the findings of [`Rule::CatalogWithoutSchema`] that are not allowed, without those of any other rule.
/// Reads no further in a file that names no catalog.
#[must_use]
pub fn without_schema(files: &[(String, &str)], allowances: &str) -> Vec<Finding> {
    let mut shared = Allowances::of_folder(allowances);
    let mut findings = Vec::new();
    for (file, sql) in files {
        let mut own = Allowances::of_file(sql);
        for statement in asking(sql) {
            let begin = statement.first().map_or(1, |token| token.span.start.line);
            for line in isolation::lines_without_schema(&statement) {
                if !own.allows(RULE, &[line, begin]) && !shared.allows_in(file, RULE) {
                    let text = line_of(sql, line);
                    findings.push(Finding { file: file.clone(), line, rule: RULE, text });
                }
            }
        }
    }
    findings
}

/// Returns every statement that asks the catalogs without a schema, also where that is allowed.
#[must_use]
pub fn guards(files: &[(String, &str)]) -> Vec<Guard> {
    let mut guards = Vec::new();
    for (file, sql) in files {
        for statement in asking(sql) {
            for line in isolation::lines_without_schema(&statement) {
                let (names, composes) = isolation::names(&statement);
                guards.push(Guard { file: file.clone(), line, names, composes });
            }
        }
    }
    guards
}

/// The statements of a file that name a catalog.
fn asking(sql: &str) -> impl Iterator<Item = Vec<TokenWithSpan>> {
    let parts = if isolation::may_ask(sql) { split::parts(sql) } else { Vec::new() };
    let texts = parts.into_iter().map(|part| part.statement);
    texts.filter(|text| isolation::may_ask(text.sql)).filter_map(split::Text::tokens)
}
