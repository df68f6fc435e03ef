//! Checks the statements of a file: none may end its transaction, change its schema or role, or outlive its file; and in
//! a tenant's migration none may name another schema, or make what exists once in a database or server.
//!
//! The database refuses most of it too. Here it is refused before any tenant is touched, all at once, with what to do.

mod dump;
mod names;
mod psql;
mod statement;

use crate::migrations::error::Refusal;
use crate::migrations::splitter::Command;
use crate::migrations::statements::{self, Statement};

/// Whose migrations are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The control plane's: they make the schema `public`.
    ControlPlane,
    /// The tenants'.
    Tenants,
}

/// Adds what is wrong with the statements of a file.
pub(super) fn check(
    file: &str,
    sql: &str,
    statements: &[Statement],
    whose: Whose,
    refusals: &mut Vec<Refusal>,
) {
    let runs_in_transaction = !statements::is_non_transactional(sql);
    for statement in statements {
        let text = statement.text(sql);
        let mut forbidden = statement::in_any_set(text, runs_in_transaction);
        if whose == Whose::Tenants {
            forbidden =
                forbidden.or_else(|| statement::in_tenant_set(text, statement::Place::TopLevel));
        }
        if let Some((words, reason)) = forbidden {
            refusals.push(Refusal::of_statement(file, statement.line, &words, reason));
        }
        for found in names::check(text, whose) {
            let line = statement.line + lines_before(text, found.at);
            // One sentence a line is enough.
            if refusals.last().is_none_or(|last| last.file != file || last.line != Some(line)) {
                refusals.push(Refusal::of_statement(file, line, &found.what, found.reason));
            }
        }
    }
}

/// Adds a refusal for each command of psql, and a sentence if the file is a dump for psql.
pub(super) fn check_commands(
    file: &str,
    sql: &str,
    commands: &[Command<'_>],
    refusals: &mut Vec<Refusal>,
) {
    let refused = |command: &Command<'_>| {
        let message = psql::message(command.text);
        Refusal::at_line(file, command.line, message)
    };
    refusals.extend(commands.iter().map(refused));
    if refusals.iter().any(|refusal| refusal.file == file) && dump::is_dump(sql, commands) {
        refusals.push(Refusal::of_file(file, dump::ADVICE));
    }
}

/// How many lines end in a text before a position.
fn lines_before(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or_default().matches('\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::statements::Split;

    fn refusals(sql: &str) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let Split { statements, commands } = statements::split("V1__x.sql", sql, &mut refusals);
        check("V1__x.sql", sql, &statements, Whose::Tenants, &mut refusals);
        check_commands("V1__x.sql", sql, &commands, &mut refusals);
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
            "SAVEPOINT x; ROLLBACK TO x; RELEASE x",
            "SET LOCAL work_mem = '64MB'",
            "SET CONSTRAINTS ALL DEFERRED",
            "SELECT case when a then b end FROM t",
            "COPY t FROM stdin;\nCOMMIT;\npublic.users\n\\.\n",
            "",
        ] {
            assert_eq!(refusals(sql), [], "{sql}");
        }
    }

    #[test]
    fn a_line_within_a_statement_or_a_body_is_told() {
        let sql = "SELECT 1;\nDO $$\nBEGIN\n  DELETE FROM public.users;\n  EXECUTE '\n  DELETE FROM public.users';\nEND $$;\n\
                   SELECT a\n  FROM public.users;";
        let lines: Vec<_> = refusals(sql).iter().filter_map(|refusal| refusal.line).collect();
        assert_eq!(lines, [4, 6, 9]);
    }

    #[test]
    fn a_dump_for_psql_is_recognized_and_all_that_stands_in_the_way_is_told() {
        let sql = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET statement_timeout = 0;\n\
                   SELECT pg_catalog.set_config('search_path', '', false);\n\
                   CREATE TABLE public.notes (id int);\nALTER TABLE public.notes OWNER TO app;\n\\unrestrict abc\n";
        let found: Vec<_> = refusals(sql).into_iter().map(|refusal| refusal.line).collect();
        assert_eq!(found, [Some(7), Some(8), Some(9), Some(10), Some(5), Some(11), None]);
        let usable = "--\n-- PostgreSQL database dump\n--\nCREATE TABLE notes (id int);";
        assert_eq!(refusals(usable), []);
    }

    #[test]
    fn a_command_of_psql_within_a_statement_does_not_hide_the_next_one() {
        let found: Vec<_> =
            refusals("SELECT 'x' \\gexec\nCOMMIT;\nSELECT 'a\n\\b';\n\\.").into_iter().collect();
        let lines: Vec<_> = found.iter().map(|refusal| refusal.line).collect();
        assert_eq!(lines, [Some(2), Some(1), Some(5)], "{found:?}");
    }
}
