//! How a dialect reads the JSON of a body: what a blank one stands for, what it may be, its limits.

use actix_web::web;
use tokio::sync::Semaphore;

use super::fields::{FieldPolicy, Fields};
use crate::domain::error::{Error, Malformed, Result};
use crate::domain::json::{self, Value};

/// Largest body that is parsed on the worker, in bytes: about a millisecond. Other requests of the worker wait meanwhile.
pub(crate) const SMALL: usize = 1 << 16;

/// The large bodies that are parsed at once, in all workers.
static PARSING: Semaphore = Semaphore::const_new(4);

/// How a dialect reads a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// What a blank body stands for.
    pub(crate) blank: Blank,
    /// What the body may be.
    pub(crate) top: Top,
    /// How its fields are read.
    pub(crate) fields: FieldPolicy,
}

/// What a blank body stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blank {
    /// Nothing: it is malformed JSON.
    Malformed,
    /// An empty object.
    EmptyObject,
}

/// What a body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Top {
    /// An object.
    Object,
    /// An object or an array.
    ObjectOrArray,
}

impl Policy {
    /// Parses a body.
    ///
    /// # Errors
    /// [`Malformed::Json`] with the position, [`Malformed::NotAnObject`], [`Malformed::Excess`].
    pub(crate) fn parse(self, body: &[u8]) -> Result<Value, Malformed> {
        if self.blank == Blank::EmptyObject && is_blank(body) {
            return Ok(Value::object());
        }
        json::check(body).map_err(Malformed::Excess)?;
        match Value::parse(body) {
            Ok(value @ Value::Object(_)) => Ok(value),
            Ok(value @ Value::Array(_)) if self.top == Top::ObjectOrArray => Ok(value),
            Ok(_) => Err(Malformed::NotAnObject),
            Err(error) => Err(Malformed::Json { line: error.line, column: error.column }),
        }
    }

    /// Parses a body; a large one on another thread, so that the worker's other requests do not wait.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(crate) async fn read(self, body: web::Bytes) -> Result<Value, Malformed> {
        if body.len() <= SMALL {
            return self.parse(&body);
        }
        // Never closed. Without it, every large body that comes at the same moment would have a thread.
        let turn = PARSING.acquire().await;
        let parsed = web::block(move || self.parse(&body)).await;
        drop(turn);
        parsed.unwrap_or(Err(Malformed::Body))
    }

    /// Parses a body that is an object, for reading it field by field.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); [`Malformed::NotAnObject`] for an array, too.
    pub(crate) fn fields(self, body: &[u8]) -> Result<Fields> {
        self.fields_of(self.parse(body))
    }

    /// Returns the fields of a body that was parsed.
    ///
    /// # Errors
    /// As [`fields`](Self::fields).
    pub(super) fn fields_of(self, parsed: Result<Value, Malformed>) -> Result<Fields> {
        match parsed {
            Ok(Value::Object(given)) => Ok(Fields::of_body(given, self.fields)),
            Ok(_) => Err(Error::Malformed(Malformed::NotAnObject)),
            Err(problem) => Err(Error::Malformed(problem)),
        }
    }
}

/// Returns whether a body is empty or white space.
pub(crate) fn is_blank(body: &[u8]) -> bool {
    body.iter().all(u8::is_ascii_whitespace)
}
