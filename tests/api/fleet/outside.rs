//! Files that run outside of a transaction: statement by statement, taken up where they broke off.

use rowhouse::service::fleet::Wish;
use tokio_postgres::Client;

use super::ground::{Ground, migrate, outcome, provision};

const FILE: (&str, &str) = (
    "V2__index_notes.sql",
    "-- rowhouse: no-transaction
UPDATE notes SET runs = runs + 1;
CREATE UNIQUE INDEX CONCURRENTLY notes_runs_key ON notes (runs);
CREATE INDEX CONCURRENTLY notes_id_idx ON notes (id, extensions_of_mine(runs));
DROP INDEX CONCURRENTLY IF EXISTS notes_old_idx;
",
);

/// A function of the tenant's own, which is found by its path alone.
const FIRST: (&str, &str) = (
    "V1__create_notes.sql",
    "CREATE TABLE notes (id integer CONSTRAINT notes_pkey PRIMARY KEY, runs integer NOT NULL);
     INSERT INTO notes VALUES (1, 0);
     CREATE INDEX notes_old_idx ON notes (runs);
     CREATE FUNCTION extensions_of_mine(n integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT n';",
);

async fn ground(count: usize) -> Ground {
    let mut ground = Ground::with(0).await;
    ground.write(FIRST);
    let backend = ground.backend(&[]).await;
    for number in 0..count {
        ground.tenants.push(provision(&backend, &format!("t{number}")).await);
    }
    backend.close().await;
    ground.write(FILE);
    ground
}

/// The indexes of a tenant, those that are not valid with a mark.
async fn indexes(sql: &Client, ground: &Ground, number: usize) -> Vec<String> {
    let list = "SELECT c.relname || CASE WHEN i.indisvalid THEN '' ELSE ' (not valid)' END
                  FROM pg_index i
                  JOIN pg_class c ON c.oid = i.indexrelid
                  JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = $1 AND c.relname LIKE 'notes%'
                 ORDER BY 1";
    let rows = sql.query(list, &[&ground.schema(number)]).await.expect("indexes can be listed");
    rows.iter().map(|row| row.get(0)).collect()
}

const AFTER: [&str; 3] = ["notes_id_idx", "notes_pkey", "notes_runs_key"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marked_file_runs_by_itself_in_a_tenant_and_within_the_set_up_of_a_new_one() {
    let mut ground = ground(3).await;
    ground.write(("V3__after.sql", "UPDATE notes SET runs = runs + 10;"));
    let backend = ground.backend(&[]).await;
    ground.tenants.push(provision(&backend, "new").await);
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    let sql = ground.sql().await;
    for number in 0..4 {
        assert_eq!(indexes(&sql, &ground, number).await, AFTER, "tenant {number}");
        assert_eq!(ground.versions(number).await, [1, 2, 3]);
    }
    assert_eq!(ground.runs().await, [11; 4]);
    let checksums = |number| {
        let schema = ground.schema(number);
        let sql = &sql;
        async move {
            let all = format!(
                "SELECT string_agg(name || checksum, ' ' ORDER BY version) FROM {schema}.refinery_schema_history"
            );
            sql.query_one(&all, &[]).await.unwrap().get::<_, String>(0)
        }
    };
    assert_eq!(checksums(0).await, checksums(3).await, "both remember the file as it is written");
    let journal = "SELECT count(*) FROM migration_statements";
    assert_eq!(sql.query_one(journal, &[]).await.unwrap().get::<_, i64>(0), 0);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_broke_off_goes_on_at_its_statement_and_what_is_not_valid_goes_first() {
    let ground = ground(1).await;
    let sql = ground.sql().await;
    let schema = ground.schema(0);
    // Two rows that will be equal: the unique index fails and leaves one that is not valid.
    sql.batch_execute(&format!("INSERT INTO {schema}.notes VALUES (2, 0)")).await.unwrap();
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 0, 1, 0]));
    let error: String =
        sql.query_one("SELECT error FROM operation_tenants", &[]).await.unwrap().get(0);
    assert!(error.starts_with("V2__index_notes.sql, line 3: "), "{error}");
    let now = indexes(&sql, &ground, 0).await;
    assert!(now.contains(&"notes_runs_key (not valid)".to_owned()), "{now:?}");
    assert_eq!(ground.versions(0).await, [1]);

    sql.batch_execute(&format!("DELETE FROM {schema}.notes WHERE id = 2")).await.unwrap();
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    fleet.retry(&ctx, record.id).await.unwrap();
    let record = fleet.run(&ctx, record.id, super::ground::quiet()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 1, 0, 0]));
    assert_eq!(indexes(&sql, &ground, 0).await, AFTER);
    assert_eq!(ground.runs().await, [1], "the statement before was not run again");
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_was_done_before_the_journal_said_so_is_not_done_again() {
    let ground = ground(1).await;
    let sql = ground.sql().await;
    let schema = ground.schema(0);
    sql.batch_execute(&format!(
        "INSERT INTO migration_statements (tenant_id, version, position, is_done, started_at)
         VALUES ('{0}', 2, 1, true, now()), ('{0}', 2, 2, false, now()), ('{0}', 2, 4, false, now());
         CREATE UNIQUE INDEX notes_runs_key ON {schema}.notes (runs);
         DROP INDEX {schema}.notes_old_idx",
        ground.tenants[0]
    ))
    .await
    .unwrap();
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 1, 0, 0]));
    assert_eq!(indexes(&sql, &ground, 0).await, AFTER);
    assert_eq!(ground.runs().await, [0], "the journal said that the first was done");
    backend.close().await;
}

#[test]
fn concurrently_without_the_mark_is_refused_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("V1__index.sql");
    std::fs::write(file, "SELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (a);").unwrap();
    let refused = rowhouse::migrations::MigrationSet::load(folder.path()).unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.contains("V1__index.sql, line 2")
            && refused.contains("-- rowhouse: no-transaction"),
        "{refused}"
    );
}
