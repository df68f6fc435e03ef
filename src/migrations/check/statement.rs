//! What a statement must not be, by its first words.

use crate::migrations::lexer::{Token, TokenKind};
use crate::migrations::pieces::extension;
use crate::migrations::splitter::tokens;

const ENDS: &str = "migrations run inside one transaction with the rest of the tenant; delete it";
const SCOPE: &str =
    "it would change the schema or the role that the next statements run in; delete it";
const LEAKS: &str = "it would outlive the transaction; write SET LOCAL";
const LEAKS_OUTSIDE: &str =
    "it would outlive its statement, and each statement of this file runs by itself; delete it";
const RESETS: &str = "it would also undo what the program has set for the run, and a setting of SET LOCAL ends with its \
                      file by itself; delete it";
const TRANSACTION: &str = "it would change how the rest of the tenant's migration runs; delete it";
const ENCODING: &str = "files are UTF-8, and are sent as UTF-8; delete it";
const STRINGS: &str =
    "files are read with standard_conforming_strings on, which is the default; delete it";
const LISTENS: &str =
    "no client waits for notifications on the connection of a migration; delete it";
const HELD: &str = "a cursor WITH HOLD would outlive the transaction; leave WITH HOLD out";
const LOADS: &str = "the library would stay loaded for the statements of other tenants; delete it";

const EXTENSION: &str = "an extension exists once in a database, for all tenants; write CREATE EXTENSION IF NOT EXISTS \
                         <name> SCHEMA extensions";
const EXTENSION_IN_BODY: &str = "an extension exists once in a database, for all tenants; write CREATE EXTENSION IF NOT \
                                 EXISTS <name> SCHEMA extensions, outside of a DO block or a function";
const EXTENSION_OF_ALL: &str = "an extension exists once in a database, for all tenants, and belongs to its operator; delete it";
const SCHEMA: &str =
    "a tenant has one schema, which the program makes; delete it, and write names without a schema";
const ROLE: &str =
    "a role exists once in a server, for all tenants, and belongs to its operator; delete it";
const MEMBERS: &str = "who is a member of a role is the same in the whole server, and is the operator's choice; delete it";
const ONCE: &str = "it exists once in a database, for all tenants, and belongs to the database's operator; delete it";
const SERVER: &str = "it changes the whole database or server, for all tenants; delete it";
const OWNER: &str =
    "objects belong to the role that runs migrations; delete the line, or dump with --no-owner";
const OWNED: &str = "it would reach the objects of all tenants; name the objects of this one";
const DEFAULTS: &str = "the program sets the default privileges of a tenant's schema; delete it, or grant on each table \
                        by its name";
const GRANTS: &str = "a tenant's migration grants on its own objects, by their names, and has no right on a schema, a \
                      database or a server; delete it";
const MOVES: &str = "it would move the object out of the tenant's schema; delete it";

/// What is not allowed: the statement's first words, and the reason.
pub(super) type Forbidden = (String, &'static str);

/// The first words of a statement in upper case. A quoted name is in quotes, any other token empty.
struct Head(Vec<String>);

impl Head {
    fn of(text: &str) -> Self {
        let upper = |token: Token| match token.kind {
            TokenKind::Word => token.text(text).to_ascii_uppercase(),
            TokenKind::Quoted => format!("\"{}\"", token.name(text).unwrap_or_default()),
            _ => String::new(),
        };
        Self(tokens(text).take(6).map(upper).collect())
    }

    fn words(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    fn first(&self, count: usize, reason: &'static str) -> Option<Forbidden> {
        let words: Vec<_> = self.words().into_iter().take_while(|word| !word.is_empty()).collect();
        Some((words.get(..count.min(words.len()))?.join(" "), reason))
    }
}

/// Returns why a statement of any set is refused: it would end its transaction, change its schema or role, or outlive
/// its file.
pub(super) fn in_any_set(text: &str, runs_in_transaction: bool) -> Option<Forbidden> {
    let head = Head::of(text);
    match head.words().as_slice() {
        ["ROLLBACK", "TO", ..] | ["ROLLBACK", "WORK" | "TRANSACTION", "TO", ..] => None,
        ["BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT", ..] => head.first(1, ENDS),
        ["PREPARE", "TRANSACTION", ..] => head.first(2, ENDS),
        ["SET", ..] => set(&head, runs_in_transaction),
        ["DISCARD", ..] | ["RESET", "SEARCH_PATH" | "ROLE" | "ALL" | "SESSION", ..] => {
            head.first(2, SCOPE)
        }
        ["RESET", ..] => head.first(2, RESETS),
        ["LISTEN" | "UNLISTEN", ..] => head.first(1, LISTENS),
        ["LOAD", ..] => head.first(1, LOADS),
        ["DECLARE", ..] if is_held(text) => head.first(1, HELD),
        _ => None,
    }
}

fn set(head: &Head, runs_in_transaction: bool) -> Option<Forbidden> {
    let words = head.words();
    let (scope, rest) = match words.as_slice() {
        ["SET", scope @ ("LOCAL" | "SESSION"), rest @ ..]
            if rest.first() != Some(&"AUTHORIZATION") =>
        {
            (Some(*scope), rest)
        }
        ["SET", rest @ ..] => (None, rest),
        _ => return None,
    };
    let count = words.len() - rest.len() + 1;
    let setting = rest.first().map(|name| name.trim_matches('"').to_ascii_uppercase())?;
    match setting.as_str() {
        "CONSTRAINTS" => None,
        "SEARCH_PATH" | "ROLE" | "SCHEMA" | "AUTHORIZATION" | "SESSION_AUTHORIZATION" => {
            head.first(count, SCOPE)
        }
        "SESSION" if rest.get(1) == Some(&"CHARACTERISTICS") => head.first(count + 1, TRANSACTION),
        "SESSION" => head.first(count + 1, SCOPE),
        "CHARACTERISTICS"
        | "TRANSACTION"
        | "TRANSACTION_ISOLATION"
        | "TRANSACTION_READ_ONLY"
        | "TRANSACTION_DEFERRABLE" => head.first(count, TRANSACTION),
        "NAMES" | "CLIENT_ENCODING" => head.first(count, ENCODING),
        "STANDARD_CONFORMING_STRINGS" => head.first(count, STRINGS),
        _ if scope == Some("LOCAL") => None,
        _ if runs_in_transaction => head.first(count, LEAKS),
        _ => head.first(count, LEAKS_OUTSIDE),
    }
}

/// Whether a cursor is declared `WITH HOLD`.
fn is_held(text: &str) -> bool {
    let mut with = false;
    for token in tokens(text).take_while(|token| !token.is(text, "FOR")) {
        if with && token.is(text, "HOLD") {
            return true;
        }
        with = token.is(text, "WITH");
    }
    false
}

/// Where a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the file itself.
    TopLevel,
    /// In the body of a `DO` block or a function.
    Body,
}

/// Returns why a statement of a tenant's migration is refused: it concerns what exists once in a database or server.
pub(super) fn in_tenant_set(text: &str, place: Place) -> Option<Forbidden> {
    let head = Head::of(text);
    let words = head.words();
    match words.as_slice() {
        ["CREATE", "EXTENSION", ..] if place == Place::TopLevel && extension(text).is_some() => {
            None
        }
        ["CREATE", "EXTENSION", ..] if place == Place::Body => head.first(2, EXTENSION_IN_BODY),
        ["CREATE", "EXTENSION", ..] => head.first(3, EXTENSION),
        ["ALTER", "DEFAULT", "PRIVILEGES", ..] => head.first(3, DEFAULTS),
        ["ALTER", "SYSTEM", ..] => head.first(2, SERVER),
        ["DROP" | "REASSIGN", "OWNED", ..] => head.first(2, OWNED),
        ["CREATE" | "ALTER" | "DROP", object @ ..] => once(object)
            .and_then(|(count, reason)| head.first(count + 1, reason))
            .or_else(|| (words.first() == Some(&"ALTER")).then(|| altered(&head, text)).flatten()),
        ["COMMENT", "ON", object @ ..] => {
            once(object).and_then(|(count, reason)| head.first(count + 2, reason))
        }
        ["GRANT" | "REVOKE", ..] => granted(text).and_then(|reason| head.first(1, reason)),
        _ => None,
    }
}

/// Returns why an object must not be created, changed or dropped, and how many words name its kind.
fn once(object: &[&str]) -> Option<(usize, &'static str)> {
    match object {
        ["EXTENSION", ..] => Some((1, EXTENSION_OF_ALL)),
        ["SCHEMA", ..] => Some((1, SCHEMA)),
        ["USER", "MAPPING", ..] | ["EVENT", "TRIGGER", ..] | ["ACCESS", "METHOD", ..] => {
            Some((2, ONCE))
        }
        ["FOREIGN", "DATA", "WRAPPER", ..] => Some((3, ONCE)),
        ["ROLE" | "USER" | "GROUP", ..] => Some((1, ROLE)),
        ["PUBLICATION" | "SUBSCRIPTION" | "SERVER" | "LANGUAGE", ..] => Some((1, ONCE)),
        ["OR", "REPLACE", rest @ ..] | ["TRUSTED" | "PROCEDURAL", rest @ ..] => {
            let skipped = object.len() - rest.len();
            once(rest).map(|(count, reason)| (count + skipped, reason))
        }
        ["DATABASE" | "TABLESPACE", ..] => Some((1, SERVER)),
        _ => None,
    }
}

/// Returns why `ALTER ..` is refused, though what it changes is the tenant's.
fn altered(head: &Head, text: &str) -> Option<Forbidden> {
    let mut last = None;
    for token in tokens(text) {
        let follows = |word| last.is_some_and(|last: Token| last.is(text, word));
        if follows("OWNER") && token.is(text, "TO") {
            let (words, _) = head.first(2, OWNER)?;
            return Some((format!("{words} .. OWNER TO"), OWNER));
        }
        if follows("SET") && token.is(text, "SCHEMA") {
            let (words, _) = head.first(2, MOVES)?;
            return Some((format!("{words} .. SET SCHEMA"), MOVES));
        }
        last = Some(token);
    }
    None
}

/// Returns why `GRANT` or `REVOKE` is refused.
fn granted(text: &str) -> Option<&'static str> {
    let mut before_names = tokens(text)
        .skip(1)
        .skip_while(|token| !["ON", "TO", "FROM"].iter().any(|word| token.is(text, word)));
    let first = before_names.next()?;
    if !first.is(text, "ON") {
        return Some(MEMBERS);
    }
    let kind = before_names.next()?;
    let is_once = ["SCHEMA", "DATABASE", "TABLESPACE", "LANGUAGE", "PARAMETER", "FOREIGN"]
        .iter()
        .any(|word| kind.is(text, word));
    let after = before_names.next();
    // Otherwise it is the name of a table.
    let is_named = after.is_some_and(|token| {
        !matches!(token.kind, TokenKind::Symbol(_))
            && !token.is(text, "TO")
            && !token.is(text, "FROM")
    });
    let of_schema =
        kind.is(text, "ALL") && before_names.take(2).any(|token| token.is(text, "SCHEMA"));
    ((is_once && is_named) || of_schema).then_some(GRANTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(sql: &str) -> Option<&'static str> {
        let any = in_any_set(sql, true).or_else(|| in_tenant_set(sql, Place::TopLevel));
        any.map(|(_, reason)| reason)
    }

    #[test]
    fn what_ends_the_transaction_or_outlives_it_is_refused() {
        for (sql, expected) in [
            ("ROLLBACK", ENDS),
            ("ROLLBACK WORK", ENDS),
            ("ROLLBACK AND CHAIN", ENDS),
            ("COMMIT PREPARED 'x'", ENDS),
            ("SET SESSION statement_timeout = 0", LEAKS),
            ("SET statement_timeout TO 0", LEAKS),
            ("SET myapp.tenant = 'x'", LEAKS),
            ("SET TIME ZONE 'UTC'", LEAKS),
            ("SET \"search_path\" = x", SCOPE),
            ("SET LOCAL SESSION AUTHORIZATION x", SCOPE),
            ("SET SESSION SESSION AUTHORIZATION x", SCOPE),
            ("SET session_authorization = x", SCOPE),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", TRANSACTION),
            ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", TRANSACTION),
            ("SET LOCAL TRANSACTION READ ONLY", TRANSACTION),
            ("SET transaction_read_only = on", TRANSACTION),
            ("SET NAMES 'latin1'", ENCODING),
            ("SET LOCAL client_encoding = 'LATIN1'", ENCODING),
            ("SET LOCAL standard_conforming_strings = off", STRINGS),
            ("RESET search_path", SCOPE),
            ("RESET ALL", SCOPE),
            ("RESET SESSION AUTHORIZATION", SCOPE),
            ("RESET statement_timeout", RESETS),
            ("DISCARD TEMP", SCOPE),
            ("LISTEN x", LISTENS),
            ("LOAD 'auto_explain'", LOADS),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", HELD),
            ("DECLARE c BINARY SCROLL CURSOR WITH HOLD FOR SELECT 1", HELD),
        ] {
            assert_eq!(reason(sql), Some(expected), "{sql}");
        }
        let outside = in_any_set("SET statement_timeout = 0", false).map(|(_, reason)| reason);
        assert_eq!(outside, Some(LEAKS_OUTSIDE));
    }

    #[test]
    fn what_exists_once_in_a_database_or_server_is_refused() {
        for (sql, expected) in [
            ("CREATE EXTENSION citext", EXTENSION),
            ("CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public", EXTENSION),
            ("DROP EXTENSION citext", EXTENSION_OF_ALL),
            ("ALTER EXTENSION citext UPDATE", EXTENSION_OF_ALL),
            ("COMMENT ON EXTENSION citext IS 'x'", EXTENSION_OF_ALL),
            ("CREATE SCHEMA IF NOT EXISTS audit", SCHEMA),
            ("DROP SCHEMA x CASCADE", SCHEMA),
            ("COMMENT ON SCHEMA public IS 'x'", SCHEMA),
            ("CREATE ROLE app", ROLE),
            ("CREATE USER app PASSWORD 'x'", ROLE),
            ("ALTER GROUP app ADD USER x", ROLE),
            ("ALTER ROLE app SET search_path = x", ROLE),
            ("GRANT app TO worker", MEMBERS),
            ("REVOKE ADMIN OPTION FOR app FROM worker", MEMBERS),
            ("CREATE PUBLICATION p FOR ALL TABLES", ONCE),
            ("ALTER SUBSCRIPTION s DISABLE", ONCE),
            ("CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION f()", ONCE),
            ("CREATE OR REPLACE TRUSTED PROCEDURAL LANGUAGE plperl", ONCE),
            ("CREATE LANGUAGE plperl", ONCE),
            ("CREATE SERVER s FOREIGN DATA WRAPPER w", ONCE),
            ("CREATE FOREIGN DATA WRAPPER w", ONCE),
            ("CREATE USER MAPPING FOR x SERVER s", ONCE),
            ("CREATE ACCESS METHOD m TYPE TABLE HANDLER h", ONCE),
            ("CREATE DATABASE d", SERVER),
            ("ALTER DATABASE d SET timezone = 'UTC'", SERVER),
            ("COMMENT ON DATABASE d IS 'x'", SERVER),
            ("DROP TABLESPACE t", SERVER),
            ("ALTER SYSTEM SET x = 1", SERVER),
            ("DROP OWNED BY app", OWNED),
            ("REASSIGN OWNED BY a TO b", OWNED),
            ("ALTER TABLE ONLY notes OWNER TO app", OWNER),
            ("ALTER FUNCTION f(int) OWNER TO app", OWNER),
            ("ALTER TABLE notes SET SCHEMA other", MOVES),
            ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app", DEFAULTS),
            ("ALTER DEFAULT PRIVILEGES IN SCHEMA x GRANT SELECT ON TABLES TO app", DEFAULTS),
            ("GRANT USAGE ON SCHEMA x TO app", GRANTS),
            ("REVOKE CREATE ON SCHEMA public FROM PUBLIC", GRANTS),
            ("GRANT CONNECT ON DATABASE d TO app", GRANTS),
            ("GRANT SELECT ON ALL TABLES IN SCHEMA x TO app", GRANTS),
            ("GRANT USAGE ON FOREIGN SERVER s TO app", GRANTS),
        ] {
            assert_eq!(reason(sql), Some(expected), "{sql}");
        }
    }

    #[test]
    fn what_is_the_tenants_own_is_allowed() {
        for sql in [
            "ROLLBACK TO SAVEPOINT x",
            "ROLLBACK TO x",
            "ROLLBACK WORK TO x",
            "SAVEPOINT x",
            "RELEASE SAVEPOINT x",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "SET LOCAL work_mem = '64MB'",
            "SET LOCAL TIME ZONE 'UTC'",
            "LOCK TABLE notes",
            "DECLARE c CURSOR FOR SELECT 1",
            "DECLARE c CURSOR WITHOUT HOLD FOR SELECT a FROM t WITH hold",
            "PREPARE q AS SELECT 1",
            "CREATE EXTENSION IF NOT EXISTS citext SCHEMA extensions",
            "CREATE TEMP TABLE x (a int)",
            "CREATE FOREIGN TABLE f (a int) SERVER s",
            "CREATE TABLE users (role text)",
            "CREATE TABLE role (a int)",
            "CREATE TRIGGER t AFTER INSERT ON notes EXECUTE FUNCTION f()",
            "ALTER SEQUENCE s OWNED BY notes.id",
            "ALTER TABLE notes SET (fillfactor = 80)",
            "ALTER TABLE notes ADD COLUMN owner text",
            "COMMENT ON TABLE notes IS 'x'",
            "GRANT SELECT ON notes TO app",
            "GRANT SELECT (id) ON notes TO app",
            "GRANT USAGE ON SEQUENCE s TO app",
            "REVOKE ALL ON FUNCTION f() FROM PUBLIC",
            "GRANT SELECT ON schema, database TO app",
            "GRANT SELECT ON schema TO app",
        ] {
            assert_eq!(reason(sql), None, "{sql}");
        }
    }
}
