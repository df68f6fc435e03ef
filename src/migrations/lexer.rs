//! Splits SQL text into tokens as PostgreSQL does (`src/backend/parser/scan.l`). A token is a range of bytes, so that
//! a file of any size is read without a copy of it.
//!
//! `standard_conforming_strings` is taken to be on, as it is unless a server was told otherwise: in a plain string a
//! backslash has no meaning.

use std::borrow::Cow;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A word that is not quoted: a key word or a name.
    Word,
    /// A quoted name, `U&".."` too.
    Quoted,
    /// A string, in any of its notations.
    Text,
    /// A number or a parameter.
    Number,
    /// Any other character, one byte of ASCII.
    Symbol(u8),
}

/// A token and where it is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Token {
    /// The token as it is written.
    pub(crate) fn text<'a>(&self, sql: &'a str) -> &'a str {
        sql.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether the token is this word, which is given in upper case.
    pub(crate) fn is(&self, sql: &str, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text(sql).eq_ignore_ascii_case(word)
    }

    /// What a string says: without its quotes, and with each escaped quote or backslash as one. Other escapes stay as
    /// they are written, so that the text has as many lines as the string.
    pub(crate) fn string<'a>(&self, sql: &'a str) -> Option<Cow<'a, str>> {
        if self.kind != TokenKind::Text {
            return None;
        }
        let written = self.text(sql);
        if written.starts_with('$') {
            let tag = written.get(1..)?.find('$')? + 2;
            return written.get(tag..written.len().checked_sub(tag)?).map(Cow::Borrowed);
        }
        let (prefix, inside) = written.strip_suffix('\'')?.split_once('\'')?;
        let is_escaped = prefix.eq_ignore_ascii_case("e");
        let has_escapes = inside.contains("''") || (is_escaped && inside.contains('\\'));
        if !has_escapes {
            return Some(Cow::Borrowed(inside));
        }
        let (mut text, mut chars) = (String::with_capacity(inside.len()), inside.chars());
        while let Some(next) = chars.next() {
            match next {
                '\'' => text.extend(chars.next()),
                '\\' if is_escaped => match chars.next() {
                    Some(escaped @ ('\'' | '\\' | '"')) => text.push(escaped),
                    Some('n' | 't' | 'r') => text.push(' '),
                    other => text.extend(other),
                },
                other => text.push(other),
            }
        }
        Some(Cow::Owned(text))
    }

    /// The name as the catalog stores it, if the token is a word or a quoted name without escapes. Only the letters of
    /// ASCII are folded, as the server does in a database whose encoding is UTF-8.
    pub(crate) fn name(&self, sql: &str) -> Option<String> {
        match self.kind {
            TokenKind::Word => Some(self.text(sql).to_ascii_lowercase()),
            TokenKind::Quoted => {
                let quoted = self.text(sql).strip_prefix('"')?.strip_suffix('"')?;
                Some(quoted.replace("\"\"", "\""))
            }
            _ => None,
        }
    }
}

/// A string, a quoted name or a comment that has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unclosed {
    /// Where it begins.
    pub(crate) at: usize,
    /// What it is, as the subject of a sentence.
    pub(crate) what: &'static str,
}

/// Reads the tokens of a text one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { sql, at: 0 }
    }

    /// The position behind the last token.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Continues at another position.
    pub(crate) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Returns the next token; `None` at the end of the text.
    pub(crate) fn token(&mut self) -> Result<Option<Token>, Unclosed> {
        self.skip_space()?;
        let start = self.at;
        let Some(first) = self.byte(start) else { return Ok(None) };
        let (kind, end) = match first {
            b'\'' => (TokenKind::Text, self.string_end(start, start + 1, Escapes::No)?),
            b'"' => (TokenKind::Quoted, self.quoted_end(start, start + 1)?),
            b'$' => self.dollar(start)?,
            b'0'..=b'9' => (TokenKind::Number, self.number_end(start)),
            b'.' if self.byte(start + 1).is_some_and(|next| next.is_ascii_digit()) => {
                (TokenKind::Number, self.number_end(start))
            }
            first if starts_name(first) => self.name(start)?,
            other => (TokenKind::Symbol(other), start + 1),
        };
        self.at = end;
        Ok(Some(Token { kind, start, end }))
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.sql.as_bytes().get(at).copied()
    }

    fn starts_with(&self, at: usize, text: &str) -> bool {
        self.sql.as_bytes().get(at..).is_some_and(|rest| rest.starts_with(text.as_bytes()))
    }

    /// Returns the first position from `at` on whose byte is not one of these, or the end of the text.
    fn skip_while(&self, at: usize, is_one: impl Fn(u8) -> bool) -> usize {
        let rest = self.sql.as_bytes().get(at..).unwrap_or_default();
        at + rest.iter().position(|byte| !is_one(*byte)).unwrap_or(rest.len())
    }

    /// Skips white space and comments.
    fn skip_space(&mut self) -> Result<(), Unclosed> {
        loop {
            self.at = self.skip_while(self.at, is_space);
            if self.starts_with(self.at, "--") {
                self.at = self.skip_while(self.at, |byte| !is_line_end(byte));
            } else if self.starts_with(self.at, "/*") {
                self.at = self.comment_end(self.at)?;
            } else {
                return Ok(());
            }
        }
    }

    /// The end of a block comment. Block comments nest.
    fn comment_end(&self, start: usize) -> Result<usize, Unclosed> {
        let (mut at, mut depth) = (start + 2, 1_usize);
        while depth > 0 {
            at = self.skip_while(at, |byte| byte != b'*' && byte != b'/');
            if self.starts_with(at, "*/") {
                depth -= 1;
                at += 2;
            } else if self.starts_with(at, "/*") {
                depth += 1;
                at += 2;
            } else if self.byte(at).is_some() {
                at += 1;
            } else {
                return Err(Unclosed { at: start, what: "a comment" });
            }
        }
        Ok(at)
    }

    /// The end of a word, or of what begins with a letter that says how a string or a quoted name is written.
    fn name(&self, start: usize) -> Result<(TokenKind, usize), Unclosed> {
        let end = self.skip_while(start, continues_name);
        let after = self.sql.as_bytes().get(end..).unwrap_or_default();
        let word = self.sql.as_bytes().get(start..end).unwrap_or_default();
        match (word, after) {
            (b"e" | b"E", [b'\'', ..]) => {
                Ok((TokenKind::Text, self.string_end(start, end + 1, Escapes::Backslash)?))
            }
            (b"b" | b"B" | b"x" | b"X" | b"n" | b"N", [b'\'', ..]) => {
                Ok((TokenKind::Text, self.string_end(start, end + 1, Escapes::No)?))
            }
            (b"u" | b"U", [b'&', b'\'', ..]) => {
                Ok((TokenKind::Text, self.string_end(start, end + 2, Escapes::No)?))
            }
            (b"u" | b"U", [b'&', b'"', ..]) => {
                Ok((TokenKind::Quoted, self.quoted_end(start, end + 2)?))
            }
            _ => Ok((TokenKind::Word, end)),
        }
    }

    /// The end of a quoted name whose text begins at `at`.
    fn quoted_end(&self, start: usize, mut at: usize) -> Result<usize, Unclosed> {
        loop {
            at = self.skip_while(at, |byte| byte != b'"');
            match (self.byte(at), self.byte(at + 1)) {
                (None, _) => return Err(Unclosed { at: start, what: "a quoted name" }),
                (_, Some(b'"')) => at += 2,
                _ => return Ok(at + 1),
            }
        }
    }

    /// The end of a string whose text begins at `at`.
    fn string_end(&self, start: usize, mut at: usize, escapes: Escapes) -> Result<usize, Unclosed> {
        loop {
            at = self.skip_while(at, |byte| byte != b'\'' && byte != b'\\');
            match self.byte(at) {
                None => return Err(Unclosed { at: start, what: "a string" }),
                Some(b'\\') if escapes == Escapes::Backslash => at += 2,
                Some(b'\\') => at += 1,
                Some(_) if self.byte(at + 1) == Some(b'\'') => at += 2,
                Some(_) => match self.continuation(at + 1) {
                    Some(next) => at = next,
                    None => return Ok(at + 1),
                },
            }
        }
    }

    /// Where a string goes on that ended at `at`: its second part begins on a later line, with nothing but white space
    /// and comments between.
    fn continuation(&self, mut at: usize) -> Option<usize> {
        let mut is_later_line = false;
        loop {
            match self.byte(at)? {
                byte if is_line_end(byte) => is_later_line = true,
                byte if is_space(byte) => {}
                b'-' if self.starts_with(at, "--") => {
                    at = self.skip_while(at, |byte| !is_line_end(byte));
                    continue;
                }
                b'\'' if is_later_line => return Some(at + 1),
                _ => return None,
            }
            at += 1;
        }
    }

    /// A parameter, a string between dollar signs, or a dollar sign alone.
    fn dollar(&self, start: usize) -> Result<(TokenKind, usize), Unclosed> {
        if self.byte(start + 1).is_some_and(|next| next.is_ascii_digit()) {
            let end = self.skip_while(start + 1, |byte| byte.is_ascii_digit());
            return Ok((TokenKind::Number, end));
        }
        let body = self.skip_while(start + 1, |byte| continues_name(byte) && byte != b'$') + 1;
        let Some(tag) = self.sql.get(start..body).filter(|tag| tag.ends_with('$')) else {
            return Ok((TokenKind::Symbol(b'$'), start + 1));
        };
        let rest = self.sql.get(body..).unwrap_or_default();
        match rest.find(tag) {
            Some(length) => Ok((TokenKind::Text, body + length + tag.len())),
            None => Err(Unclosed { at: start, what: "a string between dollar signs" }),
        }
    }

    /// The end of a number, with the letters directly behind it, which the server refuses. Signs of an exponent are
    /// tokens of their own, which makes no difference here.
    fn number_end(&self, start: usize) -> usize {
        self.skip_while(start, |byte| continues_name(byte) && byte != b'$' || byte == b'.')
    }
}

/// Whether a backslash has a meaning in a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    No,
    Backslash,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn starts_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn continues_name(byte: u8) -> bool {
    starts_name(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// Counts the lines up to positions that only grow.
#[derive(Debug, Clone)]
pub(crate) struct Lines<'a> {
    sql: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { sql, at: 0, line: 1 }
    }

    /// The line of a position, from 1.
    pub(crate) fn of(&mut self, at: usize) -> usize {
        let passed = self.sql.get(self.at..at).unwrap_or_default();
        self.line += passed.matches('\n').count();
        self.at = self.at.max(at);
        self.line
    }
}

#[cfg(test)]
mod tests;
