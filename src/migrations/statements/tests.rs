use super::*;

fn non_transactional(sql: &str) -> String {
    format!("{NO_TRANSACTION}\n{sql}")
}

fn cut(sql: &str) -> Vec<(usize, &str)> {
    let mut refusals = Vec::new();
    let split = split("V1__x.sql", sql, &mut refusals);
    assert_eq!((refusals, split.commands), (vec![], vec![]), "{sql}");
    split.statements.iter().map(|s| (s.line, s.text(sql))).collect()
}

#[test]
fn a_file_is_split_at_the_semicolons_between_statements_only() {
    let sql = "CREATE TABLE t (a text DEFAULT ';');\n-- a ; comment\n\nINSERT INTO t VALUES ('é;x') ;;\n\
               CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$";
    assert_eq!(
        cut(sql),
        [
            (1, "CREATE TABLE t (a text DEFAULT ';')"),
            (4, "INSERT INTO t VALUES ('é;x')"),
            (5, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$"),
        ]
    );
    for none in ["", " \n", ";;", "-- only a comment", "/* a ; */\n"] {
        assert_eq!(cut(none), [], "{none:?}");
    }
}

#[test]
fn semicolons_within_bodies_and_parentheses_do_not_end_a_statement() {
    for first in [
        "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
        "create or replace procedure p() begin atomic select t.end, 1 as end from t; select 2; end",
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT 1; SELECT 2;'",
        "DO $a$ BEGIN EXECUTE $$ x; $$; END $a$",
    ] {
        let sql = format!("{first};\nSELECT 1");
        assert_eq!(cut(&sql), [(1, first), (2, "SELECT 1")], "{sql}");
    }
}

#[test]
fn a_non_transactional_statement_is_recognized_with_its_index() {
    for (sql, kind) in [
        (
            "CREATE INDEX CONCURRENTLY Notes_Idx ON notes (a)",
            Kind::CreateIndex { index: "notes_idx".to_owned() },
        ),
        (
            "create unique index concurrently if not exists \"A b\" on t (a)",
            Kind::CreateIndex { index: "A b".to_owned() },
        ),
        ("DROP INDEX CONCURRENTLY IF EXISTS i", Kind::DropIndex { index: "i".to_owned() }),
        ("ALTER TABLE t ADD COLUMN concurrently_made int", Kind::Ordinary),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY v", Kind::Ordinary),
        ("INSERT INTO t VALUES ('CREATE INDEX CONCURRENTLY')", Kind::Ordinary),
    ] {
        let mut refusals = Vec::new();
        let sql = non_transactional(sql);
        let statements = split("V1__x.sql", &sql, &mut refusals).statements;
        assert_eq!((&statements[0].kind, refusals), (&kind, vec![]), "{sql}");
    }
}

#[test]
fn a_statement_that_cannot_be_resumed_is_refused_with_a_reason() {
    for (sql, words) in [
        ("CREATE INDEX CONCURRENTLY i ON t (a)".to_owned(), "begin the file with the line"),
        ("DROP INDEX CONCURRENTLY i".to_owned(), "begin the file with the line"),
        (non_transactional("CREATE INDEX CONCURRENTLY ON t (a)"), "needs a name"),
        (non_transactional("DROP INDEX CONCURRENTLY a.i"), "must not be qualified"),
        (non_transactional("DROP INDEX CONCURRENTLY a, b"), "one index at a time"),
        (non_transactional("VACUUM t"), "are supported"),
        (non_transactional("REINDEX TABLE CONCURRENTLY t"), "are supported"),
        (non_transactional("ALTER TABLE t DETACH PARTITION p CONCURRENTLY"), "are supported"),
        (non_transactional("COPY t FROM stdin;\n1\n\\.\n"), "a file that runs in a transaction"),
    ] {
        let mut refusals = Vec::new();
        split("V1__x.sql", &sql, &mut refusals);
        let messages: Vec<_> = refusals.iter().map(ToString::to_string).collect();
        assert_eq!(messages.len(), 1, "{sql}: {messages:?}");
        assert!(messages[0].contains(words), "{sql}: {messages:?}");
    }
}

#[test]
fn a_string_a_name_or_a_comment_without_an_end_is_named_with_its_line() {
    for sql in ["SELECT 1;\n\nSELECT 'a;\n", "\n\n/* a /* b */", "\n\nSELECT \"a", "\n\nDO $$ a"] {
        let mut refusals = Vec::new();
        split("V1__x.sql", sql, &mut refusals);
        assert_eq!(refusals[0].line, Some(3), "{sql}");
    }
}

#[test]
fn in_a_transaction_the_word_is_blank_and_every_position_stays() {
    let sql = non_transactional(
        "/* CONCURRENTLY */ CREATE INDEX concurrently i ON t (concurrently);\nSELECT 'é CONCURRENTLY'",
    );
    let plain = without_concurrently(&sql, &split("V1__x.sql", &sql, &mut Vec::new()).statements);
    assert_eq!(
        plain,
        non_transactional(
            "/* CONCURRENTLY */ CREATE INDEX              i ON t (concurrently);\nSELECT 'é CONCURRENTLY'"
        )
    );
}
