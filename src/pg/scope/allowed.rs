//! Decides which statements may run inside a tenant, by their first word.
//!
//! White space and comments are skipped exactly as PostgreSQL's lexer skips them, so that the word checked here
//! is the first word that the server parses.

use crate::pg::error::Failure;

/// The words that a statement inside a tenant may start with. `SET`, `RESET`, `DO`, `COPY`, `CALL`,
/// `EXPLAIN`, `PREPARE` and transaction control are not among them.
pub const ALLOWED: [&str; 8] =
    ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE"];

/// Refuses a statement that does not start with one of [`ALLOWED`].
pub(in crate::pg) fn check_allowed(sql: &str) -> Result<(), Failure> {
    let word = first_word(sql);
    if ALLOWED.iter().any(|allowed| word.eq_ignore_ascii_case(allowed)) {
        Ok(())
    } else {
        Err(Failure::NotAllowed(word.to_owned()))
    }
}

/// Returns the first word of a statement, after white space, comments and opening parentheses.
fn first_word(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '(');
        if let Some(comment) = rest.strip_prefix("--") {
            // A carriage return ends a comment too (PostgreSQL, src/backend/parser/scan.l: non_newline).
            rest = comment.split_once(['\n', '\r']).map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_block_comment(comment);
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            return rest.split_at(end).0;
        }
    }
}

/// Returns the text after a block comment. Block comments nest in PostgreSQL.
fn after_block_comment(mut inside: &str) -> &str {
    let mut depth = 1_usize;
    while depth > 0 {
        let (open, close) = (inside.find("/*"), inside.find("*/"));
        let next = match (open, close) {
            (_, None) => return "",
            (Some(open), Some(close)) if open < close => {
                depth += 1;
                open
            }
            (_, Some(close)) => {
                depth -= 1;
                close
            }
        };
        inside = inside.split_at(next + 2).1;
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_that_cannot_change_the_scope_are_let_through() {
        for good in [
            "SELECT 1",
            "  select 1",
            "(SELECT 1)",
            "-- why\nSELECT 1",
            "/* a /* nested */ comment */ WITH x AS (SELECT 1) TABLE x",
            "insert into t values (1)",
            "VALUES (1)",
            "--\rSELECT 1",
            "\u{c}\r\n\tSELECT 1",
            "/**/SELECT/**/1",
        ] {
            assert!(check_allowed(good).is_ok(), "{good}");
        }
        for bad in [
            "SET ROLE other",
            "set local search_path = other",
            "RESET ROLE",
            "DO $$ BEGIN END $$",
            "COMMIT",
            "COPY t TO STDOUT",
            "EXPLAIN ANALYZE SELECT 1",
            "PREPARE x AS SELECT 1",
            "EXECUTE x",
            "CALL p()",
            "CREATE TABLE t (a int)",
            "LISTEN x",
            "DISCARD ALL",
            "SELECTED",
            "-- SELECT\nSET ROLE other",
            "/* SELECT */ SET ROLE other",
            "/* /* */ SELECT */ SET ROLE other",
            "/* SELECT",
            "-- SELECT",
            "--\rSET ROLE other /*\nSELECT */",
            "-- x\r\nSET ROLE other",
            ";SET ROLE other",
            "/**/SET ROLE other /* SELECT */",
            "/*/ SELECT */ SET ROLE other",
            "/*/**/*/SET ROLE other",
            "/*/*/ SELECT */*/SET ROLE other",
            "\u{feff}SELECT 1",
            "\u{a0}SELECT 1",
            "\u{2003}SET ROLE other",
            "\u{b}SELECT 1", // white space from PostgreSQL 16 on, refused everywhere
            "",
        ] {
            assert!(check_allowed(bad).is_err(), "{bad}");
        }
    }
}
