//! Files with nothing in them, and files that end in the middle of a line.

use super::{Fixture, schema};

/// The name, the text, and what it does with the notes.
const FILES: [(&str, &str); 8] = [
    ("V2__empty.sql", ""),
    ("V3__blank.sql", "\n\n  \t\n"),
    ("V4__comment.sql", "-- only a comment"),
    ("V5__block.sql", "/* only\na /* nested */ comment */"),
    ("V6__semicolons.sql", ";;\n;"),
    ("V7__no_newline.sql", "INSERT INTO notes VALUES (7)"),
    ("V8__ends_in_a_comment.sql", "INSERT INTO notes VALUES (8); -- the end"),
    ("V9__outside.sql", "-- rowhouse: no-transaction\n-- nothing"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_with_only_comments_or_without_a_last_newline_run_in_new_tenants_and_in_lagging_ones()
{
    let fixture = Fixture::new().await;
    let program = fixture.program();
    let lagging = [program.create_tenant("by-file"), program.create_tenant("at-once")]
        .map(|ran| ran.expect(0));
    for (name, sql) in FILES {
        fixture.write(name, sql);
        program.run(&["migrate", "--tenant", "by-file"]).expect(0);
    }
    program.run(&["migrate"]).expect(0);
    let new = program.create_tenant("new").expect(0);
    for created in lagging.iter().chain([&new]) {
        let schema = schema(created);
        let sum = fixture.number(&format!("SELECT sum(id) FROM {schema}.notes")).await;
        let versions = format!("SELECT count(*) FROM {schema}.refinery_schema_history");
        assert_eq!((sum, fixture.number(&versions).await), (15, 9), "{created:?}");
    }
    let tenants = ["--tenant", "by-file", "--tenant", "at-once", "--tenant", "new"];
    program.run(&[&["doctor"][..], &tenants].concat()).expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_names_the_statement_at_its_line_also_if_the_file_cannot_be_parsed() {
    let fixture = Fixture::new().await;
    let rest = "SELECT 1;\nINSERT INTO notes VALUES (1);\n";
    for (wrong, said) in [
        (
            "SELECT FROM WHERE;",
            "line 3: syntax error at or near \"WHERE\" (SQLSTATE 42601), in: SELECT FROM WHERE",
        ),
        (
            "SELECT nothing;",
            "line 3: column \"nothing\" does not exist (SQLSTATE 42703), in: SELECT nothing",
        ),
        ("SELECT 1/0;", "line 3: division by zero (SQLSTATE 22012), in: SELECT 1/0"),
    ] {
        fixture.write("V2__wrong.sql", format!("{rest}{wrong}\nSELECT 2;\n"));
        let ran = fixture.program().create_tenant("acme").expect(1);
        let stderr = ran.stderr.replace("\\\"", "\"");
        assert!(stderr.contains(&format!("V2__wrong.sql, {said}")), "{ran:?}");
        fixture.assert_nothing_is_left(0).await;
    }
}
