//! Parses JSON into a [`Value`]. The grammar is checked by `serde_json`; what is left is to cut the text into its parts.

use serde::de::IgnoredAny;

use super::lexer::{PARSER_DEPTH_MAX, is_of_number, run, string_length};
use super::value::{Map, Number, Value};

/// The place where a text is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not valid JSON at line {line}, column {column}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

impl Value {
    /// Parses a text.
    ///
    /// # Errors
    /// The place of the first wrong character.
    pub fn parse(text: &[u8]) -> Result<Self, ParseError> {
        serde_json::from_slice::<IgnoredAny>(text)
            .map_err(|error| ParseError { line: error.line(), column: error.column() })?;
        let mut parser = Parser { text, at: 0 };
        parser.value(1)
    }
}

/// Cuts a text whose grammar was checked.
struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, ParseError> {
        match self.peek() {
            b'{' => self.nested(depth, Self::object),
            b'[' => self.nested(depth, Self::array),
            b'"' => self.string().map(Value::String),
            b't' => Ok(self.word(4, Value::Bool(true))),
            b'f' => Ok(self.word(5, Value::Bool(false))),
            b'n' => Ok(self.word(4, Value::Null)),
            _ => Ok(Value::Number(Number::of_text(self.number()))),
        }
    }

    fn nested(
        &mut self,
        depth: usize,
        parse: fn(&mut Self, usize) -> Result<Value, ParseError>,
    ) -> Result<Value, ParseError> {
        if depth >= PARSER_DEPTH_MAX {
            return Err(self.place());
        }
        self.at += 1;
        parse(self, depth + 1)
    }

    fn object(&mut self, depth: usize) -> Result<Value, ParseError> {
        let mut members = Map::new();
        while self.peek() != b'}' {
            let name = self.string()?;
            self.skip(b':');
            let value = self.value(depth)?;
            members.insert(name, value);
            self.skip(b',');
        }
        self.at += 1;
        Ok(Value::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Value, ParseError> {
        let mut items = Vec::new();
        while self.peek() != b']' {
            items.push(self.value(depth)?);
            self.skip(b',');
        }
        self.at += 1;
        Ok(Value::Array(items))
    }

    /// Returns the next character that is not white space; NUL at the end.
    fn peek(&mut self) -> u8 {
        while let Some(byte) = self.text.get(self.at) {
            if !byte.is_ascii_whitespace() {
                return *byte;
            }
            self.at += 1;
        }
        0
    }

    /// Passes over a sign, if it is the next character.
    fn skip(&mut self, sign: u8) {
        if self.peek() == sign {
            self.at += 1;
        }
    }

    fn word(&mut self, length: usize, value: Value) -> Value {
        self.at += length;
        value
    }

    fn number(&mut self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = run(rest, is_of_number);
        self.at += length.max(1);
        let number = rest.get(..length).unwrap_or_default();
        std::str::from_utf8(number).unwrap_or_default()
    }

    fn string(&mut self) -> Result<String, ParseError> {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = string_length(rest);
        let string = rest.get(..length).unwrap_or_default();
        // A half of a surrogate pair is in the grammar and is no text.
        let text = serde_json::from_slice(string).map_err(|_no_text| self.place())?;
        self.at += length;
        Ok(text)
    }

    /// Returns the place of the next character.
    fn place(&self) -> ParseError {
        let before = self.text.get(..self.at).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        ParseError { line, column }
    }
}
