//! Finds in a statement the names of other schemas, `set_config` that outlives its transaction, and, in the bodies of `DO`
//! blocks and functions, what a file must not do either.
//!
//! A body is read as SQL if its language is `sql` or `plpgsql`. Of a body in another language, and of a string within a
//! body, only the text is searched.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::migrations::check::Whose;
use crate::migrations::check::statement::{Place, in_any_set, in_tenant_set};
use crate::migrations::lexer::{Token, TokenKind};
use crate::migrations::splitter::tokens;

const PUBLIC: &str = "the schema public is the control plane's, and each tenant has a schema of its own; write names \
                      without a schema";
const OTHER_TENANT: &str =
    "it is the schema of one tenant, and the file runs in each; write names without a schema";
const SET_CONFIG: &str =
    "with false it would outlive the transaction; write true as the last argument";
const SET_PATH: &str =
    "it would change the schema or the role that the next statements run in; delete it";

/// Something that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it is in the statement.
    pub(super) at: usize,
    /// What it is, as it is written.
    pub(super) what: String,
    pub(super) reason: &'static str,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    TopLevel,
    /// The body of a `DO` block, which runs with the file.
    Block,
    /// The body of a function, which may run later.
    Function,
}

/// Returns what is not allowed in a statement, in order.
pub(super) fn check(statement: &str, whose: Whose) -> Vec<Found> {
    let mut search = Search { found: Vec::new(), whose, base: 0 };
    search.code(statement, Code::TopLevel);
    search.found
}

struct Search {
    found: Vec<Found>,
    whose: Whose,
    /// Where the text that is searched begins in the statement.
    base: usize,
}

/// The last tokens, the newest first.
struct Last<'a> {
    sql: &'a str,
    tokens: VecDeque<Token>,
}

impl Last<'_> {
    fn push(&mut self, token: Token) {
        self.tokens.truncate(3);
        self.tokens.push_front(token);
    }

    /// Whether the n-th token before, from 0, is this word.
    fn is(&self, before: usize, word: &str) -> bool {
        self.tokens.get(before).is_some_and(|token| token.is(self.sql, word))
    }

    fn is_symbol(&self, before: usize, symbol: u8) -> bool {
        self.tokens.get(before).is_some_and(|token| token.kind == TokenKind::Symbol(symbol))
    }

    fn name(&self, before: usize) -> Option<String> {
        self.tokens.get(before).and_then(|token| token.name(self.sql))
    }
}

impl Search {
    fn add(&mut self, at: usize, what: impl Into<String>, reason: &'static str) {
        self.found.push(Found { at: self.base + at, what: what.into(), reason });
    }

    fn code(&mut self, sql: &str, code: Code) {
        let mut last = Last { sql, tokens: VecDeque::with_capacity(4) };
        let body = (code == Code::TopLevel).then(|| body(sql)).flatten();
        let mut path = Path::Outside;
        for token in tokens(sql) {
            if code != Code::TopLevel && begins_statement(&last) {
                self.statement_in_body(sql, token, code);
            }
            if self.whose == Whose::Tenants {
                self.name(&last, token);
                path = self.search_path(&last, token, path);
            }
            if code != Code::Function && token.is(sql, "SET_CONFIG") {
                self.set_config(sql, token);
            }
            if token.kind == TokenKind::Text {
                self.text(sql, token, &last, code, body);
            }
            last.push(token);
        }
    }

    /// Checks a statement within a body.
    fn statement_in_body(&mut self, sql: &str, first: Token, code: Code) {
        let is_one = [
            "SET", "RESET", "DISCARD", "CREATE", "ALTER", "DROP", "COMMENT", "REASSIGN", "GRANT",
            "REVOKE",
        ]
        .iter()
        .any(|word| first.is(sql, word));
        if !is_one {
            return;
        }
        let end = statement_end(sql, first);
        let text = sql.get(first.start..end).unwrap_or_default();
        let forbidden = match in_any_set(text, true) {
            Some((words, reason)) if code == Code::Block || changes_role(&words) => {
                Some((words, reason))
            }
            None if self.whose == Whose::Tenants => in_tenant_set(text, Place::Body),
            Some(_) | None => None,
        };
        if let Some((words, reason)) = forbidden {
            self.add(first.start, words, reason);
        }
    }

    /// Checks whether a name is that of another schema.
    fn name(&mut self, last: &Last<'_>, token: Token) {
        if token.kind == TokenKind::Symbol(b'.') && !last.is_symbol(1, b'.') {
            if let Some(before) = last.tokens.front().filter(|before| is_public(last.sql, **before))
            {
                self.add(before.start, "public.", PUBLIC);
            }
        } else if last.is(0, "SCHEMA") && is_public(last.sql, token) {
            self.add(token.start, "SCHEMA public", PUBLIC);
        }
        if token.end - token.start >= TENANT_LENGTH
            && token.name(last.sql).is_some_and(|name| is_tenant_schema(&name))
        {
            self.add(token.start, token.text(last.sql).trim_matches('"'), OTHER_TENANT);
        }
    }

    /// Checks the names of `SET search_path = ..`, an option of a function; returns where the next token is.
    fn search_path(&mut self, last: &Last<'_>, token: Token, path: Path) -> Path {
        let is_symbol = |symbol| token.kind == TokenKind::Symbol(symbol);
        match path {
            Path::Outside
                if last.is(0, "SEARCH_PATH") && (is_symbol(b'=') || token.is(last.sql, "TO")) =>
            {
                Path::BeforeName
            }
            Path::AfterName if is_symbol(b',') => Path::BeforeName,
            Path::BeforeName => {
                let is_text = || token.string(last.sql).is_some_and(|text| text == "public");
                if is_public(last.sql, token) || is_text() {
                    self.add(token.start, "search_path = public", PUBLIC);
                }
                Path::AfterName
            }
            _ => Path::Outside,
        }
    }

    /// Checks `set_config(name, value, is_local)`.
    fn set_config(&mut self, sql: &str, token: Token) {
        let rest = sql.get(token.end..).unwrap_or_default();
        let (mut depth, mut argument, mut name, mut local) = (0_usize, 0_usize, None, None);
        for inner in tokens(rest) {
            match inner.kind {
                TokenKind::Symbol(b'(') => depth += 1,
                TokenKind::Symbol(b')') => depth = depth.saturating_sub(1),
                TokenKind::Symbol(b',') if depth == 1 => argument += 1,
                TokenKind::Symbol(_) if argument == 0 => name = Some(Cow::Borrowed("..")),
                _ if argument == 0 && name.is_none() => name = inner.string(rest),
                _ if argument == 2 && local.is_none() => local = Some(inner.text(rest)),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        let name = name.unwrap_or_default().to_ascii_lowercase();
        if ["search_path", "role", "session_authorization"].contains(&name.as_str()) {
            self.add(token.start, format!("set_config('{name}', ..)"), SET_PATH);
        } else if argument == 2 && !local.is_some_and(|word| word.eq_ignore_ascii_case("true")) {
            self.add(token.start, format!("set_config('{name}', ..)"), SET_CONFIG);
        }
    }

    /// Checks a string: the body of a block or a function, dynamic SQL within one, or the name of an object.
    fn text(&mut self, sql: &str, token: Token, last: &Last<'_>, code: Code, body: Option<Body>) {
        let body =
            body.filter(|body| !body.after_as || last.is(0, "AS") || last.is_symbol(0, b','));
        if body.is_none() && code == Code::TopLevel && !names_an_object(sql, token, last) {
            return;
        }
        let Some(string) = token.string(sql) else { return };
        let base = self.base;
        self.base += token.start + opening(token.text(sql));
        if let Some(body) = body.filter(|body| body.is_sql) {
            self.code(&string, body.code);
        } else if self.whose == Whose::Tenants {
            if last.is(0, "EXECUTE") || (last.is_symbol(0, b'(') && last.is(1, "FORMAT")) {
                self.dynamic(&string);
            }
            self.words(&string);
        }
        self.base = base;
    }

    /// Checks the statements of dynamic SQL.
    fn dynamic(&mut self, sql: &str) {
        let mut last = Last { sql, tokens: VecDeque::with_capacity(4) };
        for token in tokens(sql) {
            if last.tokens.is_empty() || last.is_symbol(0, b';') {
                self.statement_in_body(sql, token, Code::Function);
            }
            last.push(token);
        }
    }

    /// Searches a text that need not be SQL for names in other schemas.
    fn words(&mut self, text: &str) {
        let lower = text.to_ascii_lowercase();
        for (at, _) in lower.match_indices("public") {
            let (before, after) = (lower.get(..at), lower.get(at + "public".len()..));
            let before = before.and_then(|before| before.chars().next_back());
            let after = after.unwrap_or_default().trim_start_matches('"');
            let is_name = after.strip_prefix('.').is_some_and(|name| {
                name.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '"' | '%'))
            });
            let begins = before.is_none_or(|c| c.is_whitespace() || "('\",;|=<>[:{".contains(c));
            if is_name && begins {
                self.add(at, "public.", PUBLIC);
            }
        }
        for (at, _) in lower.match_indices("tenant_") {
            let name = lower.get(at..at + TENANT_LENGTH).unwrap_or_default();
            if is_tenant_schema(name) {
                self.add(at, name, OTHER_TENANT);
            }
        }
    }
}

/// Where a token is in `SET search_path = a, b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Outside,
    BeforeName,
    AfterName,
}

fn is_public(sql: &str, token: Token) -> bool {
    token.is(sql, "PUBLIC") || token.text(sql) == "\"public\""
}

/// The length of a tenant's schema name.
const TENANT_LENGTH: usize = "tenant_".len() + 32;

fn is_tenant_schema(name: &str) -> bool {
    let digits = name.strip_prefix("tenant_").unwrap_or_default();
    digits.len() == 32 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// The strings of a statement that are code.
#[derive(Debug, Clone, Copy)]
struct Body {
    code: Code,
    /// Whether only the strings behind `AS` are; in `DO` each is.
    after_as: bool,
    /// Whether the language is `sql` or `plpgsql`.
    is_sql: bool,
}

/// Returns which strings of a statement are code, if any.
fn body(statement: &str) -> Option<Body> {
    let mut words = tokens(statement);
    let (code, after_as) = match words.next()? {
        first if first.is(statement, "DO") => (Code::Block, false),
        first if first.is(statement, "CREATE") => {
            let is_function = words
                .take(3)
                .any(|token| token.is(statement, "FUNCTION") || token.is(statement, "PROCEDURE"));
            is_function.then_some((Code::Function, true))?
        }
        _ => return None,
    };
    let mut is_next = false;
    let language = tokens(statement).find(|token| {
        let is_it = is_next;
        is_next = token.is(statement, "LANGUAGE");
        is_it
    });
    let language = language.and_then(|token| match token.kind {
        TokenKind::Text => token.string(statement).map(|text| text.to_ascii_lowercase()),
        _ => token.name(statement),
    });
    let is_sql = language.is_none_or(|name| name == "sql" || name == "plpgsql");
    Some(Body { code, after_as, is_sql })
}

/// Whether the next token of a body begins a statement.
fn begins_statement(last: &Last<'_>) -> bool {
    last.tokens.is_empty()
        || last.is_symbol(0, b';')
        || ["BEGIN", "THEN", "ELSE", "LOOP"].iter().any(|word| last.is(0, word))
}

/// Where a statement of a body ends that begins with a token.
fn statement_end(sql: &str, first: Token) -> usize {
    let rest = sql.get(first.start..).unwrap_or_default();
    let end = tokens(rest).find(|token| token.kind == TokenKind::Symbol(b';'));
    end.map_or(sql.len(), |end| first.start + end.start)
}

/// Whether a refused statement changes the role, which no function may do either.
fn changes_role(words: &str) -> bool {
    words.split(' ').any(|word| matches!(word, "ROLE" | "AUTHORIZATION" | "SESSION_AUTHORIZATION"))
}

/// Whether a string at the top level is the name of an object: `'x'::regclass`, `regclass 'x'`, `nextval('x')`.
fn names_an_object(sql: &str, token: Token, last: &Last<'_>) -> bool {
    const FUNCTIONS: [&str; 8] = [
        "NEXTVAL",
        "CURRVAL",
        "SETVAL",
        "TO_REGCLASS",
        "TO_REGTYPE",
        "TO_REGPROC",
        "PG_GET_SERIAL_SEQUENCE",
        "TO_REGPROCEDURE",
    ];
    let is_type = |name: Option<String>| {
        name.is_some_and(|name| {
            ["regclass", "regtype", "regproc", "regprocedure"].contains(&name.as_str())
        })
    };
    if is_type(last.name(0)) {
        return true;
    }
    if last.is_symbol(0, b'(') && FUNCTIONS.iter().any(|function| last.is(1, function)) {
        return true;
    }
    let rest = sql.get(token.end..).unwrap_or_default();
    let after: Vec<Token> = tokens(rest).take(3).collect();
    match after.as_slice() {
        [first, second, third]
            if first.kind == TokenKind::Symbol(b':') && second.kind == TokenKind::Symbol(b':') =>
        {
            is_type(third.name(rest))
        }
        [first, second, ..] if first.is(rest, "AS") => is_type(second.name(rest)),
        _ => false,
    }
}

/// The length of what opens a string.
fn opening(written: &str) -> usize {
    match written.strip_prefix('$') {
        Some(rest) => rest.find('$').map_or(1, |tag| tag + 2),
        None => written.find('\'').map_or(0, |at| at + 1),
    }
}

#[cfg(test)]
mod tests;
