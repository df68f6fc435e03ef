//! Splits a file into its statements, and recognizes those that PostgreSQL only runs outside a transaction, and the
//! rows behind `COPY .. FROM stdin`.
//!
//! A statement is a range of the file's bytes. Semicolons within parentheses and within a `BEGIN ATOMIC` body do not
//! end it, as in psql.

use std::ops::Range;

use crate::migrations::copy;
use crate::migrations::error::Refusal;
use crate::migrations::lexer::{Token, TokenKind};
use crate::migrations::splitter::{Command, Piece, Pieces, Unreadable, tokens};

/// The first line of a file that runs statement by statement, outside a transaction.
pub const NO_TRANSACTION: &str = "-- rowhouse: no-transaction";

const NEEDS_NO_TRANSACTION: &str = "it cannot run in a transaction; begin the file with the line \
                                    `-- rowhouse: no-transaction`";
const UNNAMED: &str = "an index that is created CONCURRENTLY needs a name, by which the invalid index of a \
                       failed attempt is found and dropped";
const QUALIFIED: &str = "the name must not be qualified with a schema: each tenant has its own";
const UNSUPPORTED: &str = "of the statements that cannot run in a transaction, only CREATE INDEX CONCURRENTLY \
                           and DROP INDEX CONCURRENTLY are supported: no other could be resumed after an \
                           interruption";
const SEVERAL: &str = "DROP INDEX CONCURRENTLY takes one index at a time";
const ROWS_OUTSIDE: &str = "the rows of COPY cannot be sent statement by statement; put it into a file that runs in a \
                            transaction";

/// A statement of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Where its text is in the file, without the semicolon.
    pub(crate) range: Range<usize>,
    /// The line where it begins, from 1.
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

impl Statement {
    /// Its text, without the semicolon.
    pub(crate) fn text<'a>(&self, file: &'a str) -> &'a str {
        file.get(self.range.clone()).unwrap_or_default()
    }
}

/// How a statement runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In a transaction.
    Ordinary,
    /// Outside a transaction. Interrupted, it leaves an invalid index behind.
    CreateIndex {
        /// The index's name in the catalog.
        index: String,
    },
    /// Outside a transaction.
    DropIndex {
        /// The index's name in the catalog.
        index: String,
    },
    /// In a transaction, followed by its rows.
    CopyIn {
        /// Where the rows are in the file, without the line `\.` that ends them.
        rows: Range<usize>,
    },
}

/// Whether a file declares that it runs outside a transaction.
pub(crate) fn is_non_transactional(sql: &str) -> bool {
    sql.lines().next().is_some_and(|line| line.trim() == NO_TRANSACTION)
}

/// A file as it was split.
#[derive(Debug, Default)]
pub(crate) struct Split<'a> {
    /// Its statements, without empty ones.
    pub(crate) statements: Vec<Statement>,
    /// The commands of psql in it.
    pub(crate) commands: Vec<Command<'a>>,
}

/// Splits a file. What is wrong with a statement is added to `refusals`.
pub(crate) fn split<'a>(file: &str, sql: &'a str, refusals: &mut Vec<Refusal>) -> Split<'a> {
    let is_non_transactional = is_non_transactional(sql);
    let mut statements = Vec::new();
    let mut pieces = Pieces::new(sql);
    loop {
        let (range, line) = match pieces.next_piece() {
            Ok(None) => return Split { statements, commands: pieces.commands },
            Ok(Some(Piece { range, line })) => (range, line),
            Err(Unreadable { line, message }) => {
                refusals.push(Refusal::at_line(file, line, message));
                return Split { statements, commands: pieces.commands };
            }
        };
        let text = sql.get(range.clone()).unwrap_or_default();
        let mut kind = kind(text);
        if kind == Ok(Kind::Ordinary) {
            kind = copy::rows(text, sql, &mut pieces).map(|rows| match rows {
                Some(rows) => Kind::CopyIn { rows },
                None => Kind::Ordinary,
            });
        }
        let refused = match &kind {
            Err(reason) => Some(*reason),
            Ok(Kind::CopyIn { .. }) if is_non_transactional => Some(ROWS_OUTSIDE),
            Ok(Kind::CreateIndex { .. } | Kind::DropIndex { .. }) if !is_non_transactional => {
                Some(NEEDS_NO_TRANSACTION)
            }
            Ok(_) => None,
        };
        if let Some(reason) = refused {
            let words: Vec<String> =
                first_words(text, 4).into_iter().take_while(|word| !word.is_empty()).collect();
            refusals.push(Refusal::of_statement(file, line, &words.join(" "), reason));
        }
        if let Ok(kind) = kind {
            statements.push(Statement { range, line, kind });
        }
    }
}

/// The first words of a statement in upper case; empty for a quoted name and for any token that is not a word.
pub(crate) fn first_words(text: &str, count: usize) -> Vec<String> {
    let upper = |token: Token| match token.kind {
        TokenKind::Word => token.text(text).to_ascii_uppercase(),
        _ => String::new(),
    };
    tokens(text).take(count).map(upper).collect()
}

/// Returns the text as it runs in a transaction, on tables that no other session sees yet: without `CONCURRENTLY`.
/// Blanks replace the word, so that every line and column stays the same.
pub(crate) fn without_concurrently(sql: &str, statements: &[Statement]) -> String {
    let mut plain = String::with_capacity(sql.len());
    let mut at = 0;
    for statement in statements {
        if !matches!(statement.kind, Kind::CreateIndex { .. } | Kind::DropIndex { .. }) {
            continue;
        }
        let text = statement.text(sql);
        let Some(word) = tokens(text).find(|token| token.is(text, "CONCURRENTLY")) else {
            continue;
        };
        let (start, end) = (statement.range.start + word.start, statement.range.start + word.end);
        plain.push_str(sql.get(at..start).unwrap_or_default());
        plain.push_str(&" ".repeat(end - start));
        at = end;
    }
    plain.push_str(sql.get(at..).unwrap_or_default());
    plain
}

/// Returns the kind of a statement without rows, or why it is refused.
fn kind(text: &str) -> Result<Kind, &'static str> {
    let head: Vec<Token> = tokens(text).take(9).collect();
    let upper = first_words(text, 4);
    let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
    match upper.as_slice() {
        ["CREATE", "UNIQUE", "INDEX", "CONCURRENTLY"] => created(text, &head, 4),
        ["CREATE", "INDEX", "CONCURRENTLY", ..] => created(text, &head, 3),
        ["DROP", "INDEX", "CONCURRENTLY", rest @ ..] => {
            let at = if let ["IF"] = rest { 5 } else { 3 };
            let index = name(text, &head, at)?;
            if tokens(text).any(|token| token.kind == TokenKind::Symbol(b',')) {
                return Err(SEVERAL);
            }
            Ok(Kind::DropIndex { index })
        }
        ["VACUUM" | "CLUSTER", ..] => Err(UNSUPPORTED),
        ["REINDEX" | "ALTER", ..] if tokens(text).any(|token| token.is(text, "CONCURRENTLY")) => {
            Err(UNSUPPORTED)
        }
        _ => Ok(Kind::Ordinary),
    }
}

fn created(text: &str, head: &[Token], after: usize) -> Result<Kind, &'static str> {
    let starts_if = head.get(after).is_some_and(|token| token.is(text, "IF"));
    let at = if starts_if { after + 3 } else { after };
    if head.get(at).is_none_or(|token| token.is(text, "ON")) {
        return Err(UNNAMED);
    }
    Ok(Kind::CreateIndex { index: name(text, head, at)? })
}

/// Returns the unqualified name at a position.
fn name(text: &str, head: &[Token], at: usize) -> Result<String, &'static str> {
    if head.get(at + 1).is_some_and(|token| token.kind == TokenKind::Symbol(b'.')) {
        return Err(QUALIFIED);
    }
    head.get(at).and_then(|token| token.name(text)).ok_or(UNNAMED)
}

#[cfg(test)]
mod tests;
