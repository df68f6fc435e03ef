//! Checks statements that the parser does not support, and the bodies of functions, by their words.

use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use crate::migrations::lint::{Linter, Rule};

/// Reports names that are qualified with `public`, anywhere in a statement.
pub(super) fn mentions_public(linter: &mut Linter<'_>, tokens: &[TokenWithSpan]) {
    let tokens: Vec<_> =
        tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    let is_period = |at: Option<usize>| {
        at.and_then(|at| tokens.get(at)).is_some_and(|token| token.token == Token::Period)
    };
    for (at, token) in tokens.iter().enumerate() {
        let Token::Word(word) = &token.token else { continue };
        let is_public = match word.quote_style {
            Some(_) => word.value == "public",
            None => word.value.eq_ignore_ascii_case("public"),
        };
        if is_public && is_period(Some(at + 1)) && !is_period(at.checked_sub(1)) {
            linter.report(Rule::CrossSchema, token.span.start.line);
        }
    }
}

/// Reports a partition that is itself partitioned.
pub(super) fn nested_partition(linter: &mut Linter<'_>, tokens: &[TokenWithSpan]) {
    let words = words(tokens);
    let has = |pair: [&str; 2]| words.windows(2).any(|found| found == pair);
    if words.first().is_some_and(|first| first == "CREATE")
        && has(["PARTITION", "OF"])
        && has(["PARTITION", "BY"])
    {
        linter.report(Rule::NestedPartition, linter.line);
    }
}

/// Checks a statement that the parser does not support.
pub(super) fn check(linter: &mut Linter<'_>, tokens: &[TokenWithSpan]) {
    let words = words(tokens);
    let has = |word: &str| words.iter().any(|other| other == word);
    let head: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !["OR", "REPLACE"].contains(word))
        .take(4)
        .collect();
    let line = linter.line;
    match head.as_slice() {
        ["CLUSTER", ..] => linter.report(Rule::Cluster, line),
        ["VACUUM", ..] if has("FULL") => linter.report(Rule::VacuumFull, line),
        ["LOCK", ..] => linter.report(Rule::LockTable, line),
        ["REFRESH", "MATERIALIZED", "VIEW", "CONCURRENTLY"] | ["VACUUM" | "ANALYZE", ..] => {}
        ["REFRESH", ..] => linter.report(Rule::Refresh, line),
        ["REINDEX", ..] if !has("CONCURRENTLY") => linter.report(Rule::Reindex, line),
        // Neither blocks other transactions for long.
        ["REINDEX", ..] | ["DROP", "INDEX", ..] => {}
        ["CREATE", "RULE", ..] => linter.report(Rule::RewriteRule, line),
        ["CREATE", "TRIGGER", ..] | ["CREATE", "CONSTRAINT" | "EVENT", "TRIGGER", ..] => {
            linter.report(Rule::Trigger, line);
        }
        ["CREATE" | "ALTER", "DOMAIN" | "TYPE", ..] => {
            linter.report(Rule::OwnType, line);
        }
        ["CREATE" | "ALTER", "SEQUENCE", ..] => linter.report(Rule::Sequence, line),
        ["CREATE" | "ALTER", "EXTENSION", ..] => linter.report(Rule::Extension, line),
        ["CREATE", "FUNCTION" | "PROCEDURE", ..] => {
            let is_function = head.get(1) == Some(&"FUNCTION");
            let kind = if is_function { "FUNCTION" } else { "PROCEDURE" };
            if let Some(name) = name_after(tokens, kind) {
                linter.state.dropped_routines.remove(&name);
                linter.state.created_routines.insert(name);
            }
            let reads_only = is_function && (has("IMMUTABLE") || has("STABLE"));
            function(linter, tokens, if reads_only { Effects::ReadsOnly } else { Effects::Writes });
        }
        ["DO", ..] => {
            if !bodies(linter, tokens) {
                linter.report(Rule::NotChecked, line);
            }
        }
        ["CREATE", "TABLE", ..] => {
            // A form that the parser does not support. Later statements of this file on the table block nothing.
            linter.state.created_here.extend(name_after(tokens, "TABLE"));
            linter.report(Rule::NotChecked, line);
        }
        _ => linter.report(Rule::NotChecked, line),
    }
}

/// Returns the name of what a statement creates, which follows the word for its kind.
fn name_after(tokens: &[TokenWithSpan], kind: &str) -> Option<String> {
    let words = tokens.iter().filter_map(|token| match &token.token {
        Token::Word(word) => Some(word),
        _ => None,
    });
    let is = |word: &Word, other: &str| {
        word.quote_style.is_none() && word.value.eq_ignore_ascii_case(other)
    };
    let mut after = words.skip_while(|word| !is(word, kind)).skip(1);
    let name = after.find(|word| !["IF", "NOT", "EXISTS"].iter().any(|other| is(word, other)))?;
    Some(crate::migrations::lint::folded(&name.clone().into_ident(Span::empty())))
}

/// What a function may do, by its declaration, which the server enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effects {
    /// Declared IMMUTABLE or STABLE.
    ReadsOnly,
    /// VOLATILE, or a procedure.
    Writes,
}

/// Checks a function or procedure by its effects and the words of its body.
pub(super) fn function(linter: &mut Linter<'_>, tokens: &[TokenWithSpan], effects: Effects) {
    if effects == Effects::Writes {
        linter.report(Rule::SideEffects, linter.line);
    }
    bodies(linter, tokens);
}

/// Searches the string literals of a statement for DDL and for other schemas; returns whether it reported any.
fn bodies(linter: &mut Linter<'_>, tokens: &[TokenWithSpan]) -> bool {
    let mut found = false;
    for token in tokens {
        let body = match &token.token {
            Token::DollarQuotedString(text) => &text.value,
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text,
            _ => continue,
        };
        let text = body.to_ascii_uppercase();
        let words: Vec<&str> = text
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|w| !w.is_empty())
            .collect();
        let has_ddl = words.windows(2).any(|pair| {
            matches!(
                pair,
                [
                    "CREATE" | "ALTER" | "DROP",
                    "TABLE" | "UNLOGGED" | "INDEX" | "VIEW" | "SEQUENCE" | "UNIQUE"
                ]
            )
        });
        if creates_table(&words) {
            linter.report(Rule::DdlInBody, token.span.start.line);
        } else if has_ddl {
            linter.report(Rule::NotChecked, token.span.start.line);
        }
        let names_public = text.contains("PUBLIC.");
        if names_public {
            linter.report(Rule::CrossSchema, token.span.start.line);
        }
        found |= has_ddl || names_public;
    }
    found
}

/// Whether the words of a body create a table that is not a partition. The nodes of a cluster take part in everything else
/// that a body does to the tables of a schema.
fn creates_table(words: &[&str]) -> bool {
    /// The most words between `CREATE TABLE` and `PARTITION OF`: `IF NOT EXISTS`, and a name in two parts.
    const BETWEEN: usize = 5;
    words.windows(2).enumerate().any(|(at, pair)| {
        let behind = words.iter().skip(at + 2).take(BETWEEN + 2).copied().collect::<Vec<_>>();
        matches!(pair, ["CREATE", "TABLE" | "UNLOGGED"])
            && !behind.windows(2).any(|pair| pair == ["PARTITION", "OF"])
    })
}

/// Returns the unquoted words of a statement in upper case, without literals and operators.
pub(super) fn words(tokens: &[TokenWithSpan]) -> Vec<String> {
    let word = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
        _ => None,
    };
    tokens.iter().filter_map(word).collect()
}
