//! Parses the text of a database URL into names and values, without validating them.
//!
//! Promises: an error never repeats a part of the text. Splits a URL where libpq does, and refuses it
//! if that would turn a part of the password into a host or a database.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::domain::percent::is_well_formed;
use crate::pg::connect::url::UrlError;

/// A parameter and its value.
pub(super) type Pair = (String, String);

/// Parses either form.
pub(super) fn read(text: &str) -> Result<Vec<Pair>, UrlError> {
    let text = text.trim();
    if text.contains('\0') {
        return Err(UrlError::Syntax("it contains a NUL character"));
    }
    let schemes = ["postgres://", "postgresql://"];
    match schemes.into_iter().find_map(|scheme| text.strip_prefix(scheme)) {
        Some(rest) => read_url(rest),
        None => read_pairs(text),
    }
}

/// The error for a reserved character that is not percent-encoded.
const UNENCODED: UrlError = UrlError::Syntax(
    "a reserved character is not percent-encoded; in a user, password or database write @ as %40, / as %2F, \
     ? as %3F, : as %3A",
);

/// Parses a URL after its scheme as libpq does: `[user[:password]@][hosts][/db][?name=value&..]`.
fn read_url(rest: &str) -> Result<Vec<Pair>, UrlError> {
    let mut pairs = Vec::new();
    let before_slash = rest.split('/').next().unwrap_or_default();
    let rest = match rest.split_once('@') {
        Some((login, rest)) if before_slash.contains('@') => {
            read_login(login, &mut pairs)?;
            rest
        }
        _ => rest,
    };

    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = before_query.split_once('/').unwrap_or((before_query, ""));
    // The text before a second `@` is most likely the end of a password, and must not become a host or a
    // database, which logs may show.
    if before_query.contains('@') {
        return Err(UNENCODED);
    }
    read_authority(authority, &mut pairs)?;
    pairs.push(("dbname".to_owned(), decode(database)?));

    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or(UrlError::Syntax("a parameter after `?` has no `=` and value"))?;
        match (decode(name)?, decode(value)?) {
            // JDBC's form, which libpq accepts too.
            (name, value) if name == "ssl" && value == "true" => {
                pairs.push(("sslmode".to_owned(), "require".to_owned()));
            }
            pair => pairs.push(pair),
        }
    }
    Ok(pairs)
}

fn read_login(login: &str, pairs: &mut Vec<Pair>) -> Result<(), UrlError> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    if user.contains(['?', '=', '&']) {
        return Err(UNENCODED);
    }
    pairs.push(("user".to_owned(), decode(user)?));
    pairs.push(("password".to_owned(), decode(password)?));
    Ok(())
}

fn read_authority(authority: &str, pairs: &mut Vec<Pair>) -> Result<(), UrlError> {
    if authority.is_empty() {
        return Ok(());
    }
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for entry in authority.split(',') {
        let (host, port) = read_host(entry)?;
        hosts.push(decode(host)?);
        ports.push(decode(port)?);
    }
    pairs.push(("host".to_owned(), hosts.join(",")));
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.push(("port".to_owned(), ports.join(",")));
    }
    Ok(())
}

/// Splits `host[:port]` or `[IPv6 address][:port]`.
fn read_host(entry: &str) -> Result<(&str, &str), UrlError> {
    if let Some(bracketed) = entry.strip_prefix('[') {
        let (host, port) =
            bracketed.split_once(']').ok_or(UrlError::Syntax("the host has a `[` and no `]`"))?;
        return match port.strip_prefix(':') {
            Some(port) => Ok((host, port)),
            None if port.is_empty() => Ok((host, "")),
            None => Err(UrlError::Syntax("there is text between `]` and the port")),
        };
    }
    let (host, port) = entry.split_once(':').unwrap_or((entry, ""));
    if port.contains(':') {
        return Err(UrlError::Syntax("an IPv6 address must be in brackets: [::1]"));
    }
    Ok((host, port))
}

/// Decodes percent-encoding. A `%` without two hex digits is an error.
fn decode(text: &str) -> Result<String, UrlError> {
    if !is_well_formed(text) {
        return Err(UrlError::Syntax("a `%` is not followed by two hex digits; write it as %25"));
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(UrlError::Syntax("a percent-encoded part is not UTF-8 text")),
    }
}

/// The bytes to encode in a part of a URL that is shown.
const URL_PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes a part of a URL that is shown.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, URL_PART).to_string()
}

/// Parses `key=value key='quoted value'`, with libpq's backslash escapes.
fn read_pairs(text: &str) -> Result<Vec<Pair>, UrlError> {
    if text.contains("://") && !text.contains(char::is_whitespace) {
        return Err(UrlError::Syntax("it must begin with postgres:// or postgresql://"));
    }
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(NO_VALUE)?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(NO_VALUE);
        }
        let mut chars = after.trim_start().chars();
        pairs.push((name.to_owned(), read_value(&mut chars)?));
        rest = chars.as_str().trim_start();
    }
    Ok(pairs)
}

/// The error for a word without `=`. It is not repeated, because it may be a part of a password.
const NO_VALUE: UrlError = UrlError::Syntax(
    "it is neither a postgres:// URL nor a list of key=value (a value with spaces must be quoted)",
);

fn read_value(chars: &mut std::str::Chars<'_>) -> Result<String, UrlError> {
    let mut value = String::new();
    let quoted = chars.as_str().starts_with('\'');
    if quoted {
        chars.next();
    }
    while let Some(char) = chars.next() {
        match char {
            '\'' if quoted => return Ok(value),
            '\\' => value.extend(chars.next()),
            char if char.is_whitespace() && !quoted => return Ok(value),
            char => value.push(char),
        }
    }
    if quoted { Err(UrlError::Syntax("a quoted value has no end")) } else { Ok(value) }
}

/// Quotes a value for the `key=value` form.
pub(super) fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}
