//! Cuts a text at the semicolons between its statements, as psql does, and finds psql's own commands.

use std::ops::Range;

use crate::migrations::lexer::{Lexer, Lines, Token, TokenKind};

/// The tokens of a statement, up to one that has no end.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = Token> {
    let mut lexer = Lexer::new(text);
    std::iter::from_fn(move || lexer.token().ok().flatten())
}

/// Returns where the messages of a text are, if it is sent one statement a message. Settings that follow each other share
/// one. A text that cannot be split is one message, whose error the server tells.
pub(crate) fn messages(sql: &str) -> Vec<Range<usize>> {
    let mut pieces = Pieces::new(sql);
    let mut messages: Vec<(Range<usize>, bool)> = Vec::new();
    loop {
        let range = match pieces.next_piece() {
            Ok(None) => return messages.into_iter().map(|(range, _)| range).collect(),
            Ok(Some(piece)) => piece.range,
            Err(_) => return std::iter::once(0..sql.len()).collect(),
        };
        let text = sql.get(range.clone()).unwrap_or_default();
        let is_setting = ["SET", "RESET"]
            .iter()
            .any(|word| tokens(text).next().is_some_and(|token| token.is(text, word)));
        match messages.last_mut() {
            Some((last, true)) if is_setting => last.end = range.end,
            _ => messages.push((range, is_setting)),
        }
    }
}

/// Text that is not SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// The line, from 1.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) message: String,
}

/// A statement of a text, before it is classified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it is, without the semicolon.
    pub(crate) range: Range<usize>,
    /// The line where it begins, from 1.
    pub(crate) line: usize,
}

/// A command of psql: a backslash outside of strings, up to the end of its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command<'a> {
    /// The line, from 1.
    pub(crate) line: usize,
    pub(crate) text: &'a str,
}

/// Reads the statements of a text one after the other, without empty ones.
pub(crate) struct Pieces<'a> {
    sql: &'a str,
    lexer: Lexer<'a>,
    lines: Lines<'a>,
    pub(super) commands: Vec<Command<'a>>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { sql, lexer: Lexer::new(sql), lines: Lines::new(sql), commands: Vec::new() }
    }

    /// Continues at another position.
    pub(crate) fn go_to(&mut self, at: usize) {
        self.lexer.go_to(at);
    }

    /// The position behind the semicolon of the last statement.
    pub(crate) fn position(&self) -> usize {
        self.lexer.position()
    }

    /// Returns the next statement.
    ///
    /// # Errors
    /// A string, a quoted name or a comment that does not end.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Piece>, Unreadable> {
        let mut open = None;
        let mut nesting = Nesting::default();
        loop {
            let token = self.lexer.token().map_err(|unclosed| Unreadable {
                line: self.lines.of(unclosed.at),
                message: format!("{} begins here and does not end", unclosed.what),
            })?;
            match token {
                Some(Token { kind: TokenKind::Symbol(b';'), .. }) if nesting.is_outside() => {}
                // psql would send what is before its command.
                Some(Token { kind: TokenKind::Symbol(b'\\'), start, .. }) => self.command(start),
                None => {}
                Some(token) => {
                    let (start, _) = open.unwrap_or((token.start, 0));
                    open = Some((start, token.end));
                    nesting.pass(self.sql, token);
                    continue;
                }
            }
            match open {
                Some((start, end)) => {
                    return Ok(Some(Piece { range: start..end, line: self.lines.of(start) }));
                }
                None if token.is_none() => return Ok(None),
                None => {}
            }
        }
    }
}

impl<'a> Pieces<'a> {
    /// Skips a command of psql.
    fn command(&mut self, start: usize) {
        let rest: &'a str = self.sql.get(start..).unwrap_or_default();
        let text = rest.lines().next().unwrap_or_default();
        self.lexer.go_to(start + text.len());
        self.commands.push(Command { line: self.lines.of(start), text });
    }
}

/// Where in a statement a semicolon does not end it.
#[derive(Debug, Clone, Copy, Default)]
struct Nesting {
    parentheses: usize,
    /// The depth inside a `BEGIN ATOMIC` body: its own `BEGIN`, and each `CASE` that is open.
    body: usize,
    /// Whether the statement begins with `CREATE`, which is the only one that has such a body.
    creates: Option<bool>,
    last: Last,
}

/// The token before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Last {
    #[default]
    Other,
    Begin,
    /// A period or `AS`: the next word is a name.
    Names,
}

impl Nesting {
    fn is_outside(self) -> bool {
        self.parentheses == 0 && self.body == 0
    }

    fn pass(&mut self, sql: &str, token: Token) {
        let is = |word| token.is(sql, word);
        let creates = *self.creates.get_or_insert_with(|| is("CREATE"));
        let last = std::mem::take(&mut self.last);
        match token.kind {
            TokenKind::Symbol(b'(') => self.parentheses += 1,
            TokenKind::Symbol(b')') => self.parentheses = self.parentheses.saturating_sub(1),
            TokenKind::Symbol(b'.') => self.last = Last::Names,
            TokenKind::Word if !creates || last == Last::Names => {}
            TokenKind::Word if self.body == 0 => {
                if last == Last::Begin && is("ATOMIC") {
                    self.body = 1;
                } else if is("BEGIN") {
                    self.last = Last::Begin;
                }
            }
            TokenKind::Word if is("CASE") => self.body += 1,
            TokenKind::Word if is("END") => self.body -= 1,
            TokenKind::Word if is("AS") => self.last = Last::Names,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statement_is_a_message_and_settings_that_follow_each_other_share_one() {
        let sql = "SET LOCAL a = 1; RESET b;\n-- c\nCREATE INDEX ON t (x);\nUPDATE t SET a = ';';;\n\
                   DO $$ BEGIN NULL; END $$; SET LOCAL d = 2";
        let sent: Vec<&str> =
            messages(sql).into_iter().filter_map(|range| sql.get(range)).collect();
        assert_eq!(
            sent,
            [
                "SET LOCAL a = 1; RESET b",
                "CREATE INDEX ON t (x)",
                "UPDATE t SET a = ';'",
                "DO $$ BEGIN NULL; END $$",
                "SET LOCAL d = 2",
            ]
        );
        assert!(messages("  -- nothing").is_empty());
        assert_eq!(messages("SELECT 1; SELECT 'open").len(), 1);
    }
}
