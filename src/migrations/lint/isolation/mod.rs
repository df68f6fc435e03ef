//! Finds queries that ask the catalogs without a schema. Every tenant's schema has the same names, so such a query
//! finds another tenant's object: a guard like `IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = ..)` leaves
//! out what the first tenant has and the second lacks.
//!
//! All queries of a statement are read, in `DO` blocks, in the bodies of functions and in the texts that these
//! execute too. Each is parsed ([`query`]); one that the parser does not support is read by its words ([`words`]),
//! which is less exact: it may be found although it names its schema.

mod ast;
mod catalogs;
mod query;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeSet;

use sqlparser::ast::Query;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use self::catalogs::{LOOK_UPS, are_mentioned, names_fixed_schema};
use self::words::is;

/// How deep texts in texts are read.
const DEEPEST: usize = 6;

/// Whether a file may have such a query; cheap, so that a large file without one is not read further.
pub(super) fn may_ask(sql: &str) -> bool {
    are_mentioned(sql)
}

/// Returns the lines of a statement in which a query asks a catalog without a schema.
pub(super) fn lines_without_schema(statement: &[TokenWithSpan]) -> BTreeSet<u64> {
    let mut lines = BTreeSet::new();
    let tokens = without_white_space(statement.to_vec());
    read(&tokens, bodies_of(&tokens), 0, &mut lines);
    lines
}

/// Returns the names in a statement, its bodies and the texts in them, in lower case, and whether it runs texts that
/// it composes, so that more names are possible.
pub(super) fn names(statement: &[TokenWithSpan]) -> (BTreeSet<String>, bool) {
    let (mut names, mut composes) = (BTreeSet::new(), false);
    let tokens = without_white_space(statement.to_vec());
    collect_names(&tokens, 0, &mut names, &mut composes);
    (names, composes)
}

/// What the literals of a statement are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bodies {
    /// Data.
    None,
    /// SQL, or the body of a function in `sql` or `plpgsql`.
    Sql,
    /// A program in a language whose own literals have the SQL.
    Foreign,
}

/// Determines what the literals of a top-level statement are.
fn bodies_of(tokens: &[TokenWithSpan]) -> Bodies {
    let at = |at: usize| tokens.get(at);
    let after = if is(at(1), "OR") { 3 } else { 1 };
    let creates =
        is(at(0), "CREATE") && ["FUNCTION", "PROCEDURE"].iter().any(|word| is(at(after), word));
    let calls = ["SELECT", "WITH", "CALL", "VALUES", "PREPARE"].iter().any(|word| is(at(0), word));
    if is(at(0), "DO") || creates {
        let language = tokens.iter().position(|token| is(Some(token), "LANGUAGE"));
        let language = language.and_then(|at| tokens.get(at + 1)).map(|token| match &token.token {
            Token::Word(word) => word.value.to_lowercase(),
            other => literal(other).unwrap_or_default().to_lowercase(),
        });
        let is_sql = language.is_none_or(|it| it == "sql" || it == "plpgsql");
        return if is_sql { Bodies::Sql } else { Bodies::Foreign };
    }
    // An argument may be SQL that a function runs.
    if calls { Bodies::Sql } else { Bodies::None }
}

/// Adds the lines of one text: of its own queries, and of those in its literals.
fn read(tokens: &[TokenWithSpan], bodies: Bodies, depth: usize, lines: &mut BTreeSet<u64>) {
    read_look_ups(tokens, lines);
    read_queries(tokens, lines);
    if bodies == Bodies::None || depth == DEEPEST {
        return;
    }
    for token in tokens {
        let Some(text) = literal(&token.token).filter(|text| are_mentioned(text)) else { continue };
        let inner = lex(text, bodies, token.span.start.line);
        read(&inner, Bodies::Sql, depth + 1, lines);
    }
}

/// `to_regclass('public.orders')`.
fn read_look_ups(tokens: &[TokenWithSpan], lines: &mut BTreeSet<u64>) {
    for (at, token) in tokens.iter().enumerate() {
        let is_look_up = LOOK_UPS.iter().any(|word| is(Some(token), word))
            && tokens.get(at + 1).is_some_and(|token| token.token == Token::LParen);
        let argument = tokens.get(at + 2).and_then(|token| literal(&token.token));
        if is_look_up && argument.is_some_and(names_fixed_schema) {
            lines.insert(token.span.start.line);
        }
    }
}

fn read_queries(tokens: &[TokenWithSpan], lines: &mut BTreeSet<u64>) {
    let mut parsed = vec![false; tokens.len()];
    let mut at = 0;
    while at < tokens.len() {
        let begins = ["SELECT", "PERFORM"].iter().any(|word| is(tokens.get(at), word));
        let end = if begins { words::end_of_query(tokens, at) } else { at };
        let asks = tokens.get(at..end).unwrap_or_default().iter().any(names_catalog);
        match tokens.get(at..end).filter(|_| asks).and_then(parse) {
            Some(query) => {
                lines.extend(query::lines_without_schema(&query));
                parsed.get_mut(at..end).into_iter().flatten().for_each(|it| *it = true);
                at = end;
            }
            None => at += 1,
        }
    }
    lines.extend(words::lines_without_schema(tokens, |at| !parsed[at]));
}

fn names_catalog(token: &TokenWithSpan) -> bool {
    matches!(&token.token, Token::Word(word) if are_mentioned(&word.value))
}

/// Parses a query of a body or a statement: `PERFORM` is `SELECT`, and `INTO` names variables.
fn parse(tokens: &[TokenWithSpan]) -> Option<Box<Query>> {
    let mut query = without_into(tokens);
    if let Some(first) = query.first_mut().filter(|first| is(Some(first), "PERFORM")) {
        first.token = Token::make_keyword("SELECT");
    }
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(query);
    let query = parser.parse_query().ok()?;
    let next = parser.peek_token();
    // What may follow the query of an INSERT.
    let is_whole =
        next.token == Token::EOF || ["ON", "RETURNING"].iter().any(|word| is(Some(&next), word));
    is_whole.then_some(query)
}

fn without_into(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut kept = Vec::with_capacity(tokens.len());
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(token) = tokens.get(at) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > 0 || !is(Some(token), "INTO") {
            kept.push(token.clone());
            at += 1;
            continue;
        }
        at += if is(tokens.get(at + 1), "STRICT") { 2 } else { 1 };
        // Names, their parts and the commas between them.
        let mut needs_name = true;
        while let Some(token) = tokens.get(at) {
            match &token.token {
                Token::Word(_) if needs_name => needs_name = false,
                Token::Period | Token::Comma if !needs_name => needs_name = true,
                _ => break,
            }
            at += 1;
        }
    }
    kept
}

/// Adds the names in one text and in its literals.
fn collect_names(
    tokens: &[TokenWithSpan],
    depth: usize,
    names: &mut BTreeSet<String>,
    composes: &mut bool,
) {
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Word(word) => {
                *composes |=
                    depth > 0 && is(Some(token), "EXECUTE") && !runs_literal(tokens, at + 1);
                names.insert(word.value.to_lowercase());
            }
            other if depth < DEEPEST => {
                if let Some(text) = literal(other) {
                    let inner = lex(text, Bodies::Sql, token.span.start.line);
                    collect_names(&inner, depth + 1, names, composes);
                }
            }
            _ => {}
        }
    }
}

/// Whether one literal is all that is there up to the end of a statement.
fn runs_literal(tokens: &[TokenWithSpan], at: usize) -> bool {
    let next = tokens.get(at + 1);
    let ends = next.is_none_or(|token| token.token == Token::SemiColon)
        || ["INTO", "USING"].iter().any(|word| is(next, word));
    ends && tokens.get(at).is_some_and(|token| literal(&token.token).is_some())
}

/// Returns the text of a literal.
fn literal(token: &Token) -> Option<&str> {
    match token {
        Token::DollarQuotedString(text) => Some(&text.value),
        Token::SingleQuotedString(text)
        | Token::EscapedStringLiteral(text)
        | Token::UnicodeStringLiteral(text)
        | Token::NationalStringLiteral(text) => Some(text),
        _ => None,
    }
}

/// Reads the tokens of a literal, with the lines that they have in the file. Quotes that do not end, or that another
/// language sets, are left out.
fn lex(text: &str, bodies: Bodies, first_line: u64) -> Vec<TokenWithSpan> {
    let plain = |quotes: &[char]| text.replace(quotes, " ");
    let attempts = [
        (bodies == Bodies::Sql).then(|| filled_in(text)),
        Some(plain(&['"', '`'])),
        Some(plain(&['"', '`', '\'', '$', '\\'])),
    ];
    for attempt in attempts.into_iter().flatten() {
        let lexed = Tokenizer::new(&PostgreSqlDialect {}, &attempt).tokenize_with_location();
        let Ok(tokens) = lexed else { continue };
        let mut tokens = without_white_space(tokens);
        for token in &mut tokens {
            let down = |at: Location| Location { line: at.line + first_line - 1, ..at };
            token.span = Span { start: down(token.span.start), end: down(token.span.end) };
        }
        return tokens;
    }
    Vec::new()
}

/// A format with a name in place of what is filled in: `%I`, `%L`, `%1$s`.
fn filled_in(text: &str) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        filled.push_str(before);
        let digits = after.trim_start_matches(|c: char| c.is_ascii_digit());
        let kind = digits.strip_prefix('$').unwrap_or(if digits.len() == after.len() {
            after
        } else {
            ""
        });
        if let Some(next) = kind.strip_prefix(['I', 'L', 's']) {
            filled.push_str("_filled_in");
            rest = next;
        } else {
            filled.push('%');
            rest = after;
        }
    }
    filled.push_str(rest);
    filled
}

fn without_white_space(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
    tokens
}
