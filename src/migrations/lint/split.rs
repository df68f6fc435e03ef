//! Splits a file into statements and reads the tokens of each, so that only one is in memory as tokens.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Span, TokenWithSpan, Tokenizer};

use crate::migrations::copy;
use crate::migrations::lexer::Lines;
use crate::migrations::splitter::{Piece, Pieces};

/// A statement with the text before it, or the end of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    /// The statement without its semicolon; empty at the end of the file.
    pub(super) statement: Text<'a>,
    /// The statement with the comments before it.
    pub(super) whole: Text<'a>,
}

/// A text with its first line in the file, from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) sql: &'a str,
    pub(super) line: u64,
}

impl Text<'_> {
    /// Returns its tokens with their lines in the file; `None` if the lexer does not support it.
    pub(super) fn tokens(self) -> Option<Vec<TokenWithSpan>> {
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, self.sql).tokenize_with_location();
        let down = |at: Location| Location { line: at.line + self.line - 1, ..at };
        let mut tokens = tokens.ok()?;
        for token in &mut tokens {
            token.span = Span { start: down(token.span.start), end: down(token.span.end) };
        }
        Some(tokens)
    }
}

/// Returns the parts of a file. The rows of `COPY` are in none.
pub(super) fn parts(sql: &str) -> Vec<Part<'_>> {
    let mut pieces = Pieces::new(sql);
    let mut lines = Lines::new(sql);
    let mut parts = Vec::new();
    let mut begin = 0;
    loop {
        let first_line = line(lines.of(begin));
        let rest = Text { sql: sql.get(begin..).unwrap_or_default(), line: first_line };
        match pieces.next_piece() {
            Ok(Some(Piece { range, line: at })) => {
                let text = sql.get(range.clone()).unwrap_or_default();
                let whole = sql.get(begin..range.end).unwrap_or_default();
                parts.push(Part {
                    statement: Text { sql: text, line: line(at) },
                    whole: Text { sql: whole, line: first_line },
                });
                let has_rows = matches!(copy::rows(text, sql, &mut pieces), Ok(Some(_)));
                begin = if has_rows { pieces.position() } else { range.end };
            }
            Ok(None) => {
                parts.push(Part { statement: Text { sql: "", line: first_line }, whole: rest });
                return parts;
            }
            // Loading a set has already refused such a file.
            Err(_) => {
                parts.push(Part { statement: rest, whole: rest });
                return parts;
            }
        }
    }
}

fn line(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
