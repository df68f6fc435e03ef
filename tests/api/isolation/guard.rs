//! The rules of `pg::scope`, checked one by one.

use std::time::Duration;

use rowhouse::domain::Access;
use rowhouse::domain::names::TenantId;
use rowhouse::pg::rules::{Isolation, Statements};
use rowhouse::pg::{Db, Failure};
use tokio_postgres::error::SqlState;

use crate::support::TestEngine;

use super::fixture::{Fixture, STATEMENT_MODES, schema, secret, session_state};

async fn body(db: &Db, tenant: TenantId) -> Result<String, Failure> {
    let tx = db.tenant(tenant).await?;
    let rows = tx.query_and_commit("SELECT DISTINCT body FROM notes", &[]).await?;
    Ok(rows[0].get(0))
}

#[tokio::test]
async fn one_connection_serves_each_tenant_its_own_rows_in_turn() {
    let fixture = Fixture::build(Isolation::Role, 2).await;
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        for _ in 0..5 {
            for tenant in &fixture.tenants {
                assert_eq!(body(&db, *tenant).await.expect("a query runs"), secret(*tenant));
            }
        }
    }
}

#[tokio::test]
async fn a_transaction_has_its_tenants_role_search_path_and_timeouts() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    let name = schema(fixture.tenants[0]);
    for statements in STATEMENT_MODES {
        let tx = fixture.db(statements, 1).tenant(fixture.tenants[0]).await.expect("a tenant");
        let row = tx
            .query_one(
                "SELECT current_user::text, current_setting('search_path'),
                        current_setting('statement_timeout'), current_setting('lock_timeout'),
                        current_setting('idle_in_transaction_session_timeout')",
                &[],
            )
            .await
            .expect("a query runs");
        assert_eq!(row.get::<_, String>(0), name);
        assert_eq!(row.get::<_, String>(1), format!("{name}, extensions, pg_temp"));
        assert_eq!(["30s", "5s", "30s"], [2, 3, 4].map(|at| row.get::<_, String>(at)).as_slice());
    }
}

#[tokio::test]
async fn a_transaction_that_reads_refuses_every_statement_that_writes() {
    for isolation in [Isolation::Role, Isolation::SearchPath] {
        let fixture = Fixture::build(isolation, 1).await;
        let tenant = fixture.tenants[0];
        for statements in STATEMENT_MODES {
            let db = fixture.db(statements, 1);
            for sql in [
                "INSERT INTO notes (id, body) VALUES (gen_random_uuid(), 'x')",
                "UPDATE notes SET body = 'x'",
                "DELETE FROM notes",
                "MERGE INTO notes n USING notes v ON n.id = v.id WHEN MATCHED THEN DELETE",
                "WITH x AS (DELETE FROM notes RETURNING 1) SELECT count(*) FROM x",
                "SELECT body FROM notes FOR UPDATE",
            ] {
                let tx = db.tenant_with(tenant, Access::Read).await.expect("a tenant");
                let refused = tx.query(sql, &[]).await.expect_err("the transaction is read-only");
                let state = refused.sqlstate().map(SqlState::code);
                assert_eq!(state, Some("25006"), "{sql}: {refused:?}");
                drop(tx);
                let tx = db.tenant_with(tenant, Access::Read).await.expect("a tenant");
                assert!(tx.query_and_commit(sql, &[]).await.is_err(), "{sql}");
            }
            assert_eq!(body(&db, tenant).await.expect("a query runs"), secret(tenant));
            // The mode ends with the transaction.
            let tx = db.tenant(tenant).await.expect("a tenant can be entered");
            tx.execute("UPDATE notes SET body = body", &[]).await.expect("it may write");
        }
    }
}

/// The server makes a transaction writable again only before its first query, and only by a statement that the guard
/// refuses.
#[tokio::test]
async fn a_transaction_that_reads_cannot_be_made_to_write() {
    const MODE: &str = "SELECT current_setting('transaction_read_only')";
    let fixture = Fixture::build(Isolation::Role, 1).await;
    let tenant = fixture.tenants[0];
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        for sql in [
            "SET TRANSACTION READ WRITE",
            "SET LOCAL transaction_read_only = off",
            "RESET transaction_read_only",
            "START TRANSACTION READ WRITE",
        ] {
            let tx = db.tenant_with(tenant, Access::Read).await.expect("a tenant");
            let refused = tx.query(sql, &[]).await.expect_err("the guard refuses it");
            assert!(matches!(refused, Failure::NotAllowed(_)), "{sql}: {refused:?}");
            let row = tx.query_one(MODE, &[]).await.expect("the transaction goes on");
            assert_eq!(row.get::<_, String>(0), "on", "{sql}");
        }
        // As an expression it is part of a query, which has begun when it runs; that is so for the first one too, and
        // where the privilege on set_config is open.
        fixture
            .query_text("GRANT EXECUTE ON FUNCTION set_config(text, text, boolean) TO PUBLIC")
            .await;
        for sql in [
            "SELECT set_config('transaction_read_only', 'off', true)",
            "VALUES (set_config('transaction_read_only', 'off', true))",
            "SELECT set_config('transaction_read_only', 'off', false)",
        ] {
            let tx = db.tenant_with(tenant, Access::Read).await.expect("a tenant");
            let refused = tx.query(sql, &[]).await.expect_err("a query has begun");
            let state = refused.sqlstate().map(SqlState::code);
            assert_eq!(state, Some("25001"), "{sql}: {refused:?}");
            drop(tx);
            let tx = db.tenant_with(tenant, Access::Read).await.expect("a tenant");
            let sql = format!(
                "WITH x AS MATERIALIZED ({sql}) INSERT INTO notes SELECT gen_random_uuid(), 'x' FROM x"
            );
            assert!(tx.query(&sql, &[]).await.is_err(), "{sql}");
        }
    }
    // The same without the guard: the statement of its own works before the first query, and not after it.
    let raw = fixture.raw().await;
    let enter = fixture.enter_sql(tenant).replacen("BEGIN", "BEGIN READ ONLY", 1);
    let write = "INSERT INTO notes (id, body) VALUES (gen_random_uuid(), 'x')";
    for (before, expected) in
        [("", Some("25006")), ("; SELECT 1; SET TRANSACTION READ WRITE", Some("25001"))]
    {
        let begun = raw.batch_execute(&format!("{enter}{before}")).await;
        let refused = match begun {
            Ok(()) => raw.batch_execute(write).await,
            refused => refused,
        };
        let error = refused.expect_err("the server refuses it");
        assert_eq!(error.code().map(SqlState::code), expected, "{before}");
        raw.batch_execute("ROLLBACK").await.expect("it rolls back");
    }
    let writes = format!("{enter}; SET TRANSACTION READ WRITE; {write}; ROLLBACK");
    let written = raw.batch_execute(&writes).await;
    // On a cluster the transaction of the node has begun as one that reads.
    let only_the_guard_stops_it = TestEngine::of_run() != TestEngine::Citus;
    assert_eq!(written.is_ok(), only_the_guard_stops_it, "{written:?}");
}

#[tokio::test]
async fn a_transaction_of_one_known_query_is_one_round_trip() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    let db = fixture.db(Statements::Unnamed, 1);
    body(&db, fixture.tenants[0]).await.expect("a query runs");
    let tx = db.tenant_with(fixture.tenants[0], Access::Read).await.expect("a tenant");
    let mut work = Box::pin(tx.query_and_commit("SELECT DISTINCT body FROM notes", &[]));
    // All three messages leave with the first poll; the future is not polled again until the server is done.
    assert!(futures_util::poll!(work.as_mut()).is_pending());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let idle = "SELECT count(*)::text FROM pg_stat_activity WHERE usename = 'rowhouse_runtime'
                 AND datname = current_database() AND state = 'idle' AND query = 'COMMIT'";
    // Only a superuser sees the queries of another login.
    let superuser = fixture.database.connect_as_superuser().await;
    let row = superuser.query_one(idle, &[]).await.expect("activity can be read");
    assert_eq!(row.get::<_, &str>(0), "1");
    assert_eq!(work.await.expect("a query runs").len(), 1);
}

#[tokio::test]
async fn a_tenant_without_a_role_is_not_entered_and_no_query_runs() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        let clean = session_state(&db).await;
        let tx = db.tenant(TenantId::generate()).await.expect("a connection can be had");
        let failure = tx.query("SELECT 1", &[]).await.expect_err("the role does not exist");
        assert_eq!(failure.sqlstate().map(SqlState::code), Some("22023"), "{failure:?}");
        let again = tx.query("SELECT 1", &[]).await.expect_err("the transaction was not entered");
        assert!(matches!(again, Failure::NotEntered), "{again:?}");
        assert!(tx.commit().await.is_err());
        assert_eq!(session_state(&db).await, clean);

        let tx = db.tenant(TenantId::generate()).await.expect("a connection can be had");
        assert!(tx.query_and_commit("SELECT 1", &[]).await.is_err());
        assert_eq!(session_state(&db).await, clean);
    }
}

#[tokio::test]
async fn committing_a_failed_transaction_is_an_error() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    let note = "INSERT INTO notes (id, body) VALUES (gen_random_uuid(), 'lost')";
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
        tx.execute(note, &[]).await.expect("a note can be written");
        assert!(tx.query("SELECT 1 / 0", &[]).await.is_err());
        assert!(tx.commit().await.is_err());

        let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
        tx.execute(note, &[]).await.expect("a note can be written");
        assert!(tx.query("SELECT 1 / 0", &[]).await.is_err());
        assert!(tx.query_and_commit("SELECT 1", &[]).await.is_err());
    }
    let lost =
        format!("SELECT count(*) FROM {}.notes WHERE body = 'lost'", schema(fixture.tenants[0]));
    assert_eq!(fixture.query_text(&lost).await, "0");
}

#[tokio::test]
async fn a_statement_whose_table_changed_succeeds_on_the_next_attempt() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    let (tenant, name) = (fixture.tenants[0], schema(fixture.tenants[0]));
    let star = "SELECT * FROM notes";
    for (statements, column) in [(Statements::Unnamed, "one"), (Statements::Cached, "two")] {
        let db = fixture.db(statements, 1);
        let columns = async || -> Result<usize, Failure> {
            let tx = db.tenant(tenant).await?;
            let rows = tx.query_and_commit(star, &[]).await?;
            Ok(rows[0].columns().len())
        };
        let before = columns().await.expect("a query runs");
        fixture.query_text(&format!("ALTER TABLE {name}.notes ADD COLUMN {column} int")).await;
        let after = match (statements, columns().await) {
            (Statements::Cached, Err(failure)) => {
                assert_eq!(failure.sqlstate().map(SqlState::code), Some("0A000"), "{failure:?}");
                columns().await
            }
            (_, outcome) => outcome,
        };
        assert_eq!(after.expect("a query runs"), before + 1, "{statements:?}");
    }
}

#[tokio::test]
async fn a_statement_that_the_server_deallocated_succeeds_on_the_next_attempt() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    let db = fixture.db(Statements::Cached, 1);
    body(&db, fixture.tenants[0]).await.expect("a query runs");
    deallocate_all(&db).await;
    let failure = body(&db, fixture.tenants[0]).await.expect_err("the statement was deallocated");
    assert_eq!(failure.sqlstate().map(SqlState::code), Some("26000"), "{failure:?}");
    assert_eq!(
        body(&db, fixture.tenants[0]).await.expect("a query runs"),
        secret(fixture.tenants[0])
    );
}

async fn deallocate_all(db: &Db) {
    let connection = db.unguarded_for_benchmarks().await.expect("a connection can be had");
    connection.batch_execute("DEALLOCATE ALL").await.expect("statements can be dropped");
}

/// tokio-postgres looks up an unknown type with a query behind the rows, which it does not read meanwhile.
#[tokio::test]
async fn a_column_of_a_custom_type_does_not_hang_with_many_rows() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    let many = "SELECT mood, repeat('x', 100) FROM notes, generate_series(1, 2000)";
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        for round in 0..2 {
            let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
            let rows = async {
                if round == 0 {
                    tx.query(many, &[]).await
                } else {
                    tx.query_and_commit(many, &[]).await
                }
            };
            let rows = tokio::time::timeout(Duration::from_secs(10), rows).await;
            let rows = rows.unwrap_or_else(|_| panic!("the query hangs ({statements:?}, {round})"));
            assert_eq!(rows.expect("a query runs").len(), 6_000);
        }
        // A new connection knows the statement's text but not its column type.
        let other = fixture.db(statements, 1);
        let tx = other.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
        let rows = tokio::time::timeout(Duration::from_secs(10), tx.query_and_commit(many, &[]));
        assert_eq!(
            rows.await.expect("the query does not hang").expect("a query runs").len(),
            6_000
        );
    }
}

#[tokio::test]
async fn unnamed_statements_leave_no_prepared_statement() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    let db = fixture.db(Statements::Unnamed, 1);
    for number in 0..20 {
        let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
        let sql = format!("SELECT count(*) FROM notes WHERE {number} = {number}");
        if number % 2 == 0 {
            tx.query(&sql, &[]).await.expect("a query runs");
        } else {
            tx.query_and_commit(&sql, &[]).await.expect("a query runs");
        }
    }
    let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
    let names = tx.query_one("SELECT count(*) FROM pg_prepared_statements", &[]).await;
    // The statement of this query itself is described first and closed before it runs.
    assert_eq!(names.expect("a query runs").get::<_, i64>(0), 0);
}

#[tokio::test]
async fn the_number_of_cached_statements_is_bounded() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    let db = fixture.db(Statements::Cached, 1);
    let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
    for number in 0..1_100 {
        tx.query(&format!("SELECT {number}"), &[]).await.expect("a query runs");
    }
    let names = tx.query_one("SELECT count(*) FROM pg_prepared_statements", &[]).await;
    let names: i64 = names.expect("a query runs").get(0);
    assert!(names <= 1_000, "{names} statements are prepared");
}

#[tokio::test]
async fn many_notices_do_not_block_a_query() {
    let fixture = Fixture::build(Isolation::Role, 1).await;
    for statements in STATEMENT_MODES {
        let db = fixture.db(statements, 1);
        let clean = session_state(&db).await;
        let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
        let row = tx.query_one("SELECT make_noise($1)", &[&5_000_i32]).await;
        assert_eq!(row.expect("a query runs").get::<_, i32>(0), 5_000);
        drop(tx);
        assert_eq!(session_state(&db).await, clean);
    }
}

#[tokio::test]
async fn the_random_numbers_of_one_tenant_do_not_continue_in_the_next() {
    let fixture = Fixture::build(Isolation::Role, 2).await;
    let db = fixture.db(Statements::Unnamed, 1);
    let draw = async |tenant: TenantId| -> f64 {
        let tx = db.tenant(tenant).await.expect("a tenant can be entered");
        let rows = tx.query_and_commit("SELECT random()", &[]).await.expect("a query runs");
        rows[0].get(0)
    };
    let seed = async || {
        let raw = db.unguarded_for_benchmarks().await.expect("a connection can be had");
        raw.batch_execute("SET seed = 0.25; RESET seed").await.expect("the seed can be set");
    };
    draw(fixture.tenants[0]).await;
    seed().await;
    let known = draw(fixture.tenants[0]).await;
    seed().await;
    // Without another tenant in between the numbers continue.
    assert_eq!(draw(fixture.tenants[0]).await.to_bits(), known.to_bits());
    seed().await;
    assert_ne!(draw(fixture.tenants[1]).await.to_bits(), known.to_bits());
    seed().await;
    assert_ne!(draw(fixture.tenants[0]).await.to_bits(), known.to_bits());
}

/// In cached mode the texts of a session's prepared statements can be read, but never their parameters.
#[tokio::test]
async fn cached_statements_show_their_text_to_other_tenants_and_never_their_parameters() {
    let fixture = Fixture::build(Isolation::Role, 2).await;
    let db = fixture.db(Statements::Cached, 1);
    let tx = db.tenant(fixture.tenants[0]).await.expect("a tenant can be entered");
    let parameter = "a parameter".to_owned();
    let sql = "SELECT body FROM notes WHERE body = $1";
    tx.query_and_commit(sql, &[&parameter]).await.expect("a query runs");
    let tx = db.tenant(fixture.tenants[1]).await.expect("a tenant can be entered");
    let rows = tx.query("SELECT statement FROM pg_prepared_statements", &[]).await;
    let texts: Vec<String> = rows.expect("a query runs").iter().map(|row| row.get(0)).collect();
    assert!(texts.contains(&sql.to_owned()), "{texts:?}");
    assert!(!texts.concat().contains(&parameter), "{texts:?}");
}
