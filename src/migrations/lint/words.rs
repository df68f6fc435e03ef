//! Judges by its words what the parser does not know, and the bodies of functions, which nobody parses.

use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use crate::migrations::lint::{Look, Rule};

/// Finds what names `public`, wherever in a statement that stands.
pub(super) fn mentions_public(look: &mut Look<'_>, tokens: &[TokenWithSpan]) {
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
            look.find(Rule::CrossSchema, token.span.start.line);
        }
    }
}

/// Judges a statement that the parser does not know.
pub(super) fn check(look: &mut Look<'_>, tokens: &[TokenWithSpan]) {
    let words = words(tokens);
    let has = |word: &str| words.iter().any(|other| other == word);
    let head: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !["OR", "REPLACE"].contains(word))
        .take(4)
        .collect();
    let line = look.line;
    match head.as_slice() {
        ["CLUSTER", ..] => look.find(Rule::Cluster, line),
        ["VACUUM", ..] if has("FULL") => look.find(Rule::VacuumFull, line),
        ["LOCK", ..] => look.find(Rule::LockTable, line),
        ["REFRESH", "MATERIALIZED", "VIEW", "CONCURRENTLY"] | ["VACUUM" | "ANALYZE", ..] => {}
        ["REFRESH", ..] => look.find(Rule::Refresh, line),
        ["REINDEX", ..] if !has("CONCURRENTLY") => look.find(Rule::Reindex, line),
        // Neither keeps others waiting for long.
        ["REINDEX", ..] | ["DROP", "INDEX", ..] => {}
        ["CREATE", "RULE", ..] => look.find(Rule::RewriteRule, line),
        ["CREATE", "TRIGGER", ..] | ["CREATE", "CONSTRAINT" | "EVENT", "TRIGGER", ..] => {
            look.find(Rule::Trigger, line);
        }
        ["CREATE" | "ALTER", "DOMAIN" | "TYPE", ..] => {
            look.find(Rule::OwnType, line);
        }
        ["CREATE" | "ALTER", "SEQUENCE", ..] => look.find(Rule::Sequence, line),
        ["CREATE" | "ALTER", "EXTENSION", ..] => look.find(Rule::Extension, line),
        ["CREATE", "FUNCTION" | "PROCEDURE", ..] => {
            let reads_only = has("IMMUTABLE") || has("STABLE");
            function(look, tokens, reads_only && head.get(1) == Some(&"FUNCTION"));
        }
        ["DO", ..] => {
            if !bodies(look, tokens) {
                look.find(Rule::NotChecked, line);
            }
        }
        ["CREATE", "TABLE", ..] => {
            // A kind that the parser does not know; what follows on it in this file needs no lock.
            look.memory.made_here.extend(made(tokens));
            look.find(Rule::NotChecked, line);
        }
        _ => look.find(Rule::NotChecked, line),
    }
}

/// The name of the table that a statement makes.
fn made(tokens: &[TokenWithSpan]) -> Option<String> {
    let words = tokens.iter().filter_map(|token| match &token.token {
        Token::Word(word) => Some(word),
        _ => None,
    });
    let is = |word: &Word, other: &str| {
        word.quote_style.is_none() && word.value.eq_ignore_ascii_case(other)
    };
    let mut after = words.skip_while(|word| !is(word, "TABLE")).skip(1);
    let name = after.find(|word| !["IF", "NOT", "EXISTS"].iter().any(|other| is(word, other)))?;
    Some(crate::migrations::lint::folded(&name.clone().into_ident(Span::empty())))
}

/// Judges a function or procedure by whether it only reads, which the server itself sees to, and by the
/// words of its body.
pub(super) fn function(look: &mut Look<'_>, tokens: &[TokenWithSpan], reads_only: bool) {
    if !reads_only {
        look.find(Rule::SideEffects, look.line);
    }
    bodies(look, tokens);
}

/// Looks for tables that are made, and for other schemas, in the texts of a statement; tells whether it found
/// any.
fn bodies(look: &mut Look<'_>, tokens: &[TokenWithSpan]) -> bool {
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
        let makes = words.windows(2).any(|pair| {
            matches!(
                pair,
                [
                    "CREATE" | "ALTER" | "DROP",
                    "TABLE" | "UNLOGGED" | "INDEX" | "VIEW" | "SEQUENCE" | "UNIQUE"
                ]
            )
        });
        if makes {
            look.find(Rule::DdlInBody, token.span.start.line);
        }
        let leaves = text.contains("PUBLIC.");
        if leaves {
            look.find(Rule::CrossSchema, token.span.start.line);
        }
        found |= makes || leaves;
    }
    found
}

/// The words of a statement in upper case, without texts and signs.
pub(super) fn words(tokens: &[TokenWithSpan]) -> Vec<String> {
    let word = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
        _ => None,
    };
    tokens.iter().filter_map(word).collect()
}
