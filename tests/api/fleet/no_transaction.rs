//! Files that run outside a transaction: statement by statement, resumed at the interrupted one.

use rowhouse::service::fleet::MigrationRequest;
use tokio_postgres::Client;

use super::fixture::{Fixture, migrate, outcome, provision};

const FILE: (&str, &str) = (
    "V2__index_notes.sql",
    "-- rowhouse: no-transaction
UPDATE notes SET runs = runs + 1;
CREATE UNIQUE INDEX CONCURRENTLY notes_runs_key ON notes (runs);
CREATE INDEX CONCURRENTLY notes_id_idx ON notes (id, extensions_of_mine(runs));
DROP INDEX CONCURRENTLY IF EXISTS notes_old_idx;
",
);

/// Creates a function in the tenant's schema that only the search path finds.
const FIRST: (&str, &str) = (
    "V1__create_notes.sql",
    "CREATE TABLE notes (id integer CONSTRAINT notes_pkey PRIMARY KEY, runs integer NOT NULL);
     INSERT INTO notes VALUES (1, 0);
     CREATE INDEX notes_old_idx ON notes (runs);
     CREATE FUNCTION extensions_of_mine(n integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT n';",
);

async fn indexed_fixture(count: usize) -> Fixture {
    let mut fixture = Fixture::with(0).await;
    fixture.write(FIRST);
    let backend = fixture.direct_backend().await;
    for number in 0..count {
        fixture.tenants.push(provision(&backend, &format!("t{number}")).await);
    }
    backend.close().await;
    fixture.write(FILE);
    fixture
}

/// Returns the names of a tenant's indexes, invalid ones marked.
async fn indexes(sql: &Client, fixture: &Fixture, number: usize) -> Vec<String> {
    let list = "SELECT c.relname || CASE WHEN i.indisvalid THEN '' ELSE ' (not valid)' END
                  FROM pg_index i
                  JOIN pg_class c ON c.oid = i.indexrelid
                  JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = $1 AND c.relname LIKE 'notes%'
                 ORDER BY 1";
    let rows = sql.query(list, &[&fixture.schema(number)]).await.expect("indexes can be listed");
    rows.iter().map(|row| row.get(0)).collect()
}

const AFTER: [&str; 3] = ["notes_id_idx", "notes_pkey", "notes_runs_key"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_transaction_file_runs_statement_by_statement_and_inside_the_set_up_of_a_new_tenant() {
    let mut fixture = indexed_fixture(3).await;
    fixture.write(("V3__after.sql", "UPDATE notes SET runs = runs + 10;"));
    let backend = fixture.direct_backend().await;
    fixture.tenants.push(provision(&backend, "new").await);
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    let sql = fixture.sql().await;
    for number in 0..4 {
        assert_eq!(indexes(&sql, &fixture, number).await, AFTER, "tenant {number}");
        assert_eq!(fixture.versions(number).await, [1, 2, 3]);
    }
    assert_eq!(fixture.runs().await, [11; 4]);
    let checksums = |number| {
        let schema = fixture.schema(number);
        let sql = &sql;
        async move {
            let all = format!(
                "SELECT string_agg(name || checksum, ' ' ORDER BY version) FROM {schema}.refinery_schema_history"
            );
            sql.query_one(&all, &[]).await.unwrap().get::<_, String>(0)
        }
    };
    assert_eq!(
        checksums(0).await,
        checksums(3).await,
        "both histories record the checksum of the file"
    );
    let journal = "SELECT count(*) FROM migration_statements";
    assert_eq!(sql.query_one(journal, &[]).await.unwrap().get::<_, i64>(0), 0);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_file_resumes_at_its_statement_after_dropping_invalid_indexes() {
    let fixture = indexed_fixture(1).await;
    let sql = fixture.sql().await;
    let schema = fixture.schema(0);
    // Two equal rows: creating the unique index fails and leaves an invalid one.
    sql.batch_execute(&format!("INSERT INTO {schema}.notes VALUES (2, 0)")).await.unwrap();
    let backend = fixture.direct_backend().await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 0, 1, 0]));
    let error: String =
        sql.query_one("SELECT error FROM operation_tenants", &[]).await.unwrap().get(0);
    assert!(error.starts_with("V2__index_notes.sql, line 3: "), "{error}");
    let now = indexes(&sql, &fixture, 0).await;
    assert!(now.contains(&"notes_runs_key (not valid)".to_owned()), "{now:?}");
    assert_eq!(fixture.versions(0).await, [1]);

    sql.batch_execute(&format!("DELETE FROM {schema}.notes WHERE id = 2")).await.unwrap();
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    fleet.retry(&ctx, record.id, &[]).await.unwrap();
    let record = fleet.run(&ctx, record.id, super::fixture::no_events()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 1, 0, 0]));
    assert_eq!(indexes(&sql, &fixture, 0).await, AFTER);
    assert_eq!(fixture.runs().await, [1], "the earlier statement is not repeated");
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_completed_but_not_journaled_is_not_repeated() {
    let fixture = indexed_fixture(1).await;
    let sql = fixture.sql().await;
    let schema = fixture.schema(0);
    for statement in [
        format!(
            "INSERT INTO migration_statements (tenant_id, version, position, is_done, started_at)
             VALUES ('{0}', 2, 1, true, now()), ('{0}', 2, 2, false, now()), ('{0}', 2, 4, false, now())",
            fixture.tenants[0]
        ),
        format!("CREATE UNIQUE INDEX notes_runs_key ON {schema}.notes (runs)"),
        format!("DROP INDEX {schema}.notes_old_idx"),
    ] {
        sql.batch_execute(&statement).await.unwrap();
    }
    let backend = fixture.direct_backend().await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 1, 0, 0]));
    assert_eq!(indexes(&sql, &fixture, 0).await, AFTER);
    assert_eq!(fixture.runs().await, [0], "the journal records the first statement as done");
    backend.close().await;
}

#[test]
fn concurrently_without_the_no_transaction_mark_is_refused_on_load() {
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
