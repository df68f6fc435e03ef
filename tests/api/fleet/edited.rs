//! A file outside a transaction that failed half-way and was edited: what ran is neither skipped as another statement
//! nor run again.

use tokio_postgres::Client;

use super::fixture::Fixture;

const NAME: &str = "V2__lang.sql";
const MARK: &str = "-- rowhouse: no-transaction\n";
const ADD_LANG: &str = "ALTER TABLE notes ADD COLUMN lang text DEFAULT 'de-secret';\n";
const COUNT: &str = "UPDATE notes SET runs = runs + 1;\n";
/// Fails in the tenants of [`half_run`], and not in a new one.
const FAILS: &str = "CREATE TABLE moods (id integer CONSTRAINT moods_pkey PRIMARY KEY);\n";
const ADD_MOOD: &str = "ALTER TABLE notes ADD COLUMN mood text;\n";

/// A fixture in which a file of [`ADD_LANG`] and [`COUNT`] ran, and [`FAILS`] failed, in each tenant.
async fn half_run(count: usize) -> Fixture {
    let fixture = Fixture::with(count).await;
    let sql = fixture.sql().await;
    for number in 0..count {
        let table = format!("CREATE TABLE {}.moods ()", fixture.schema(number));
        sql.batch_execute(&table).await.expect("a table can be made");
    }
    fixture.write((NAME, &[MARK, ADD_LANG, COUNT, FAILS].concat()));
    let ran = fixture.direct_program().run(&["migrate"]).expect(3);
    assert!(ran.stderr.contains("V2__lang.sql, line 4: "), "{ran:?}");
    assert_eq!(fixture.runs().await, vec![1; count]);
    fixture
}

/// Edits the file, migrates, and returns why the tenant is refused.
async fn refusal(fixture: &Fixture, parts: &[&str]) -> String {
    fixture.write((NAME, &([&[MARK], parts].concat()).concat()));
    let ran = fixture.direct_program().run(&["migrate"]).expect(3);
    assert_eq!(fixture.versions(0).await, [1], "{ran:?}");
    assert_eq!(fixture.runs().await, [1], "no statement ran again: {ran:?}");
    assert!(!ran.stderr.contains("secret"), "{ran:?}");
    ran.stderr
}

async fn default_of_lang(sql: &Client, fixture: &Fixture, number: usize) -> String {
    let default = "SELECT column_default FROM information_schema.columns
                    WHERE table_schema = $1 AND column_name = 'lang'";
    sql.query_one(default, &[&fixture.schema(number)]).await.expect("there is a column").get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_ran_and_was_changed_moved_or_deleted_is_refused_by_line() {
    let fixture = half_run(1).await;
    let changed = ADD_LANG.replace("de-secret", "en");
    for (parts, line, became) in [
        (&[&changed, COUNT, ADD_MOOD][..], ", line 2: ", "is another one now"),
        (&[COUNT, ADD_LANG, ADD_MOOD], ", line 2: ", "is on line 3 now"),
        (&[COUNT, ADD_MOOD], ", line 2: ", "is another one now"),
        (&["SELECT 1;\n", ADD_LANG, COUNT, ADD_MOOD], ", line 2: ", "is on line 3 now"),
        (&[ADD_LANG, "SELECT 1;\n", COUNT, ADD_MOOD], ", line 3: ", "is on line 4 now"),
        (&[ADD_LANG], ": statement 2 ", "is not in the file any more"),
    ] {
        let refused = refusal(&fixture, parts).await;
        let named = format!("{NAME}{line}");
        assert!(refused.contains(&named) && refused.contains(became), "{parts:?}: {refused}");
        let remedy = format!("--forget-statements V2 --tenant {}", fixture.tenants[0]);
        assert!(refused.contains(&remedy), "{refused}");
    }
    let refused = refusal(&fixture, &[&changed, COUNT, ADD_MOOD]).await;
    assert!(
        refused.contains(
            "ran in this tenant as `ALTER TABLE notes ADD COLUMN lang text DEFAULT '..'`"
        ),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_was_not_reached_or_is_appended_runs_and_layout_and_comments_do_not_count()
{
    let fixture = half_run(2).await;
    let again = ADD_LANG.replace("TABLE ", "TABLE\n  ").replace("COLUMN", "COLUMN /* 'new' */");
    let added = "ALTER TABLE notes ALTER lang SET DEFAULT 'en';\n";
    fixture.write((NAME, &[MARK, "-- edited\n", &again, COUNT, ADD_MOOD, added].concat()));
    fixture.direct_program().run(&["migrate"]).expect(0);
    let sql = fixture.sql().await;
    for number in 0..2 {
        assert_eq!(default_of_lang(&sql, &fixture, number).await, "'en'::text");
        assert_eq!(fixture.versions(number).await, [1, 2]);
    }
    assert_eq!(fixture.runs().await, [1; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_advice_works_to_undo_and_forget_what_ran() {
    let fixture = half_run(2).await;
    fixture.write((NAME, &[MARK, &ADD_LANG.replace("de-secret", "en"), COUNT, ADD_MOOD].concat()));
    let program = fixture.direct_program();
    program.run(&["migrate"]).expect(3);
    let sql = fixture.sql().await;
    for undo in ["ALTER TABLE {}.notes DROP COLUMN lang", "UPDATE {}.notes SET runs = 0"] {
        sql.batch_execute(&undo.replace("{}", &fixture.schema(0))).await.unwrap();
    }
    let id = fixture.tenants[0].to_string();
    let forget = ["migrate", "repair", "--forget-statements", "V2", "--tenant", &id];
    program.run(&forget).expect(0);
    program.run(&["migrate"]).expect(3);
    program.run(&[&forget[..], &["--yes"]].concat()).expect(0);
    let ran = program.run(&["migrate"]).expect(3);
    assert!(ran.stdout.contains("1 migrated, 1 failed: t1"), "{ran:?}");
    assert_eq!(default_of_lang(&sql, &fixture, 0).await, "'en'::text");
    assert_eq!(default_of_lang(&sql, &fixture, 1).await, "'de-secret'::text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_ran_half_way_is_not_run_under_another_number_or_in_a_transaction() {
    let fixture = half_run(1).await;
    let file = [MARK, ADD_LANG, COUNT, ADD_MOOD].concat();
    fixture.remove(NAME);
    for (name, text) in [("V3__lang.sql", file.as_str()), (NAME, &file[MARK.len()..])] {
        fixture.write((name, text));
        let refused = fixture.direct_program().run(&["migrate"]).expect(1);
        assert!(
            refused.stderr.contains("V2 ran half-way outside a transaction")
                && refused.stderr.contains("(t0)"),
            "{refused:?}"
        );
        fixture.remove(name);
    }
    assert_eq!(fixture.runs().await, [1]);
    fixture.write((NAME, &file));
    fixture.direct_program().run(&["migrate"]).expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_index_of_a_statement_that_was_changed_is_dropped() {
    let fixture = Fixture::with(1).await;
    let sql = fixture.sql().await;
    let schema = fixture.schema(0);
    sql.batch_execute(&format!("INSERT INTO {schema}.notes VALUES (2, 0)")).await.unwrap();
    let file = |name: &str, on: &str| {
        format!("{MARK}CREATE UNIQUE INDEX CONCURRENTLY {name} ON notes ({on});\n")
    };
    fixture.write((NAME, &file("notes_runs_key", "runs")));
    let program = fixture.direct_program();
    program.run(&["migrate"]).expect(3);
    fixture.write((NAME, &file("notes_runs_id_key", "runs, id")));
    program.run(&["migrate"]).expect(0);
    let list = "SELECT string_agg(c.relname, ' ' ORDER BY c.relname)
                  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                 WHERE c.relnamespace = to_regnamespace($1) AND c.relname LIKE 'notes%'";
    let found: String = sql.query_one(list, &[&schema]).await.unwrap().get(0);
    assert_eq!(found, "notes_pkey notes_runs_id_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_another_statement_made_is_not_dropped_when_a_refused_one_is_renamed() {
    let fixture = Fixture::with(1).await;
    let sql = fixture.sql().await;
    let index = format!("CREATE INDEX notes_mine_idx ON {}.notes (runs)", fixture.schema(0));
    sql.batch_execute(&index).await.unwrap();
    let file = |name: &str| format!("{MARK}CREATE INDEX CONCURRENTLY {name} ON notes (runs);\n");
    fixture.write((NAME, &file("notes_mine_idx")));
    let program = fixture.direct_program();
    let ran = program.run(&["migrate"]).expect(3);
    assert!(ran.stderr.contains("already exists"), "{ran:?}");
    fixture.write((NAME, &file("notes_runs_idx")));
    program.run(&["migrate"]).expect(0);
    let count = "SELECT count(*) FROM pg_index WHERE indrelid = to_regclass($1)";
    let table = format!("{}.notes", fixture.schema(0));
    assert_eq!(sql.query_one(count, &[&table]).await.unwrap().get::<_, i64>(0), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_an_older_program_ran_is_recognized_by_its_place() {
    let fixture = half_run(1).await;
    let sql = fixture.sql().await;
    sql.batch_execute("UPDATE migration_statements SET digest = NULL, summary = NULL")
        .await
        .unwrap();
    let refused = refusal(&fixture, &[ADD_LANG]).await;
    assert!(
        refused.contains(": statement 2 of the file ran in this tenant and is not"),
        "{refused}"
    );
    fixture.write((NAME, &[MARK, &ADD_LANG.replace("de-secret", "en"), COUNT, ADD_MOOD].concat()));
    fixture.direct_program().run(&["migrate"]).expect(0);
    assert_eq!(default_of_lang(&sql, &fixture, 0).await, "'de-secret'::text");
    assert_eq!(fixture.runs().await, [1]);
}
