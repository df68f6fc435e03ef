//! Checks that no statement of a file ends its transaction or changes its schema or role.

use crate::migrations::error::Refusal;
use crate::migrations::statements::{Statement, first_words};

const ENDS: &str = "migrations run inside one transaction with the rest of the tenant";
const SCOPE: &str = "it would change the schema or the role that the next statements run in";
const LEAKS: &str = "it would outlive the transaction; write SET LOCAL";

/// Adds a refusal for each statement that would end its transaction or change its schema or role.
pub(super) fn check(file: &str, sql: &str, statements: &[Statement], refusals: &mut Vec<Refusal>) {
    for statement in statements {
        let words = first_words(statement.text(sql), 4);
        let refused = (1..=words.len()).find_map(|count| {
            let words = words.split_at_checked(count)?.0;
            Some((words.join(" "), refuse(words)?))
        });
        if let Some((words, reason)) = refused {
            refusals.push(Refusal::of_statement(file, statement.line, &words, reason));
        }
    }
}

/// Returns why a statement that starts with these words is refused, if it is.
fn refuse(words: &[String]) -> Option<&'static str> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT"]
        | ["PREPARE", "TRANSACTION"] => Some(ENDS),
        [
            "SET",
            "LOCAL" | "SESSION",
            "SEARCH_PATH" | "ROLE" | "SCHEMA" | "AUTHORIZATION" | "SESSION",
        ]
        | ["SET", "SEARCH_PATH" | "ROLE" | "SCHEMA"]
        | ["RESET", "SEARCH_PATH" | "ROLE" | "ALL" | "SESSION"]
        | ["DISCARD"] => Some(SCOPE),
        ["SET", "LOCAL" | "CONSTRAINTS" | "SESSION"] => None,
        ["SET", _] => Some(LEAKS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::statements::split;

    fn refusals(sql: &str) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let statements = split("V1__x.sql", sql, &mut refusals);
        check("V1__x.sql", sql, &statements, &mut refusals);
        refusals
    }

    #[test]
    fn a_file_that_would_end_the_transaction_is_refused_with_its_line() {
        for (sql, line) in [
            ("COMMIT", 1),
            ("CREATE TABLE t (a int);\n\ncommit;", 3),
            ("SELECT 1; -- fine\n/* x */ ROLLBACK", 2),
            ("BEGIN; SELECT 1", 1),
            ("START TRANSACTION", 1),
            ("END;", 1),
            ("ABORT", 1),
            ("PREPARE TRANSACTION 'x'", 1),
            ("SET search_path = public", 1),
            ("SET LOCAL search_path TO public", 1),
            ("set session search_path = x", 1),
            ("SET ROLE postgres", 1),
            ("SET LOCAL ROLE postgres", 1),
            ("RESET ROLE", 1),
            ("SET SESSION AUTHORIZATION postgres", 1),
            ("DISCARD ALL", 1),
            ("SET statement_timeout = 0", 1),
        ] {
            let refusals = refusals(sql);
            assert_eq!(
                refusals.iter().map(|each| each.line).collect::<Vec<_>>(),
                [Some(line)],
                "{sql}"
            );
        }
    }

    #[test]
    fn words_inside_literals_bodies_and_names_are_ignored() {
        for sql in [
            "INSERT INTO t VALUES ('COMMIT; ROLLBACK;')",
            "INSERT INTO t VALUES (E'it\\'s; COMMIT;')",
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN; COMMIT; END $$",
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $body$ BEGIN RETURN 1; END; $body$;",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 1",
            "-- COMMIT;\nSELECT 1",
            "/* COMMIT; /* nested */ ROLLBACK; */ SELECT 1",
            "CREATE TABLE \"commit\" (\"begin\" int)",
            "SAVEPOINT x; RELEASE x",
            "SET LOCAL work_mem = '64MB'",
            "SET CONSTRAINTS ALL DEFERRED",
            "SELECT case when a then b end FROM t",
            "",
        ] {
            assert_eq!(refusals(sql), [], "{sql}");
        }
    }
}
