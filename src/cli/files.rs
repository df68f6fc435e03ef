//! Reads the files that arguments name; `-` is stdin.
//!
//! A line of CSV is split by our own few lines: a library takes a quote that is not closed for a field that ends with the
//! line, and here it is a broken line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Failure;
use crate::domain::json::{self, Value};

/// Reads up to `most` bytes of text. A byte order mark in front is left out.
pub(super) fn read_text(flag: &str, file: &Path, most: usize) -> Result<String, Failure> {
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(most + 1).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(most + 1).read_to_string(&mut text))
    };
    let unusable = |what: String| Failure::usage(format!("{flag} {}: {what}", file.display()));
    let count = read.map_err(|error| unusable(error.to_string()))?;
    if u64::try_from(count).unwrap_or(u64::MAX) > most {
        return Err(unusable(format!("it has more than {most} bytes")));
    }
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// Reads JSON of up to `most` bytes.
pub(super) fn read_json(flag: &str, file: &Path, most: usize) -> Result<Value, Failure> {
    let text = read_text(flag, file, most)?;
    json::check(text.as_bytes()).map_err(|excess| Failure::usage(format!("{flag} {excess}")))?;
    Value::parse(text.as_bytes())
        .map_err(|error| Failure::usage(format!("{flag} is not JSON: {error}")))
}

/// Splits a line of CSV; a field with a comma stands in double quotes, in which two stand for one.
pub(super) fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.trim().is_empty() => {
                field.clear();
                quoted = true;
            }
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err("a double quote is not closed");
    }
    fields.push(field);
    Ok(fields.into_iter().map(|field| field.trim().to_owned()).collect())
}
