//! The rules of `pg::scope`, one by one.

use std::time::Duration;

use rowhouse::domain::names::TenantId;
use rowhouse::pg::rules::{Isolation, Statements};
use rowhouse::pg::{Db, Failure};
use tokio_postgres::error::SqlState;

use super::house::{House, MODES, next_borrower_finds, schema, secret};

async fn body(db: &Db, tenant: TenantId) -> Result<String, Failure> {
    let tx = db.tenant(tenant).await?;
    let rows = tx.query_and_commit("SELECT DISTINCT body FROM notes", &[]).await?;
    Ok(rows[0].get(0))
}

#[tokio::test]
async fn one_connection_serves_each_tenant_its_own_rows_in_turn() {
    let house = House::build(Isolation::Role, 2).await;
    for statements in MODES {
        let db = house.door(statements, 1);
        for _ in 0..5 {
            for tenant in &house.tenants {
                assert_eq!(body(&db, *tenant).await.expect("a query runs"), secret(*tenant));
            }
        }
    }
}

#[tokio::test]
async fn inside_a_transaction_role_path_and_time_limits_are_the_tenants() {
    let house = House::build(Isolation::Role, 1).await;
    let name = schema(house.tenants[0]);
    for statements in MODES {
        let tx = house.door(statements, 1).tenant(house.tenants[0]).await.expect("a tenant");
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
async fn a_unit_of_one_query_is_one_round_trip_once_its_text_is_known() {
    let house = House::build(Isolation::Role, 1).await;
    let db = house.door(Statements::Unnamed, 1);
    body(&db, house.tenants[0]).await.expect("a query runs");
    let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
    let mut unit = Box::pin(tx.query_and_commit("SELECT DISTINCT body FROM notes", &[]));
    // All three messages leave with the first poll; nobody polls again until the server is done.
    assert!(futures_util::poll!(unit.as_mut()).is_pending());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'rowhouse_runtime'
                 AND datname = current_database() AND state = 'idle' AND query = 'COMMIT'";
    assert_eq!(house.ask(idle).await, "1");
    assert_eq!(unit.await.expect("a query runs").len(), 1);
}

#[tokio::test]
async fn a_tenant_without_a_role_is_not_entered_and_nothing_runs_outside() {
    let house = House::build(Isolation::Role, 1).await;
    for statements in MODES {
        let db = house.door(statements, 1);
        let clean = next_borrower_finds(&db).await;
        let tx = db.tenant(TenantId::generate()).await.expect("a connection can be had");
        let failure = tx.query("SELECT 1", &[]).await.expect_err("there is no such role");
        assert_eq!(failure.sqlstate().map(SqlState::code), Some("22023"), "{failure:?}");
        let again = tx.query("SELECT 1", &[]).await.expect_err("nor is there now");
        assert!(matches!(again, Failure::NotEntered), "{again:?}");
        assert!(tx.commit().await.is_err());
        assert_eq!(next_borrower_finds(&db).await, clean);

        let tx = db.tenant(TenantId::generate()).await.expect("a connection can be had");
        assert!(tx.query_and_commit("SELECT 1", &[]).await.is_err());
        assert_eq!(next_borrower_finds(&db).await, clean);
    }
}

#[tokio::test]
async fn committing_a_failed_transaction_is_an_error() {
    let house = House::build(Isolation::Role, 1).await;
    let note = "INSERT INTO notes (id, body) VALUES (gen_random_uuid(), 'lost')";
    for statements in MODES {
        let db = house.door(statements, 1);
        let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
        tx.execute(note, &[]).await.expect("a note can be written");
        assert!(tx.query("SELECT 1 / 0", &[]).await.is_err());
        assert!(tx.commit().await.is_err());

        let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
        tx.execute(note, &[]).await.expect("a note can be written");
        assert!(tx.query("SELECT 1 / 0", &[]).await.is_err());
        assert!(tx.query_and_commit("SELECT 1", &[]).await.is_err());
    }
    let lost =
        format!("SELECT count(*) FROM {}.notes WHERE body = 'lost'", schema(house.tenants[0]));
    assert_eq!(house.ask(&lost).await, "0");
}

#[tokio::test]
async fn a_statement_whose_table_changed_works_at_the_next_try() {
    let house = House::build(Isolation::Role, 1).await;
    let (tenant, name) = (house.tenants[0], schema(house.tenants[0]));
    let star = "SELECT * FROM notes";
    for (statements, column) in [(Statements::Unnamed, "one"), (Statements::Cached, "two")] {
        let db = house.door(statements, 1);
        let columns = async || -> Result<usize, Failure> {
            let tx = db.tenant(tenant).await?;
            let rows = tx.query_and_commit(star, &[]).await?;
            Ok(rows[0].columns().len())
        };
        let before = columns().await.expect("a query runs");
        house.ask(&format!("ALTER TABLE {name}.notes ADD COLUMN {column} int")).await;
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
async fn a_statement_that_the_server_has_lost_works_at_the_next_try() {
    let house = House::build(Isolation::Role, 1).await;
    let db = house.door(Statements::Cached, 1);
    body(&db, house.tenants[0]).await.expect("a query runs");
    forget_everything(&db).await;
    let failure = body(&db, house.tenants[0]).await.expect_err("the statement is gone");
    assert_eq!(failure.sqlstate().map(SqlState::code), Some("26000"), "{failure:?}");
    assert_eq!(body(&db, house.tenants[0]).await.expect("a query runs"), secret(house.tenants[0]));
}

async fn forget_everything(db: &Db) {
    let connection = db.unguarded_for_benchmarks().await.expect("a connection can be had");
    connection.batch_execute("DEALLOCATE ALL").await.expect("statements can be dropped");
}

/// tokio-postgres asks for an unknown type behind the rows that it does not read meanwhile.
#[tokio::test]
async fn a_column_of_a_type_of_ones_own_does_not_hang_however_many_rows_there_are() {
    let house = House::build(Isolation::Role, 1).await;
    let many = "SELECT mood, repeat('x', 100) FROM notes, generate_series(1, 2000)";
    for statements in MODES {
        let db = house.door(statements, 1);
        for round in 0..2 {
            let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
            let rows = async {
                if round == 0 {
                    tx.query(many, &[]).await
                } else {
                    tx.query_and_commit(many, &[]).await
                }
            };
            let rows = tokio::time::timeout(Duration::from_secs(10), rows).await;
            let rows = rows.unwrap_or_else(|_| panic!("it hangs ({statements:?}, {round})"));
            assert_eq!(rows.expect("a query runs").len(), 6_000);
        }
        // A new connection knows the statement's text and not yet its type.
        let other = house.door(statements, 1);
        let tx = other.tenant(house.tenants[0]).await.expect("a tenant can be entered");
        let rows = tokio::time::timeout(Duration::from_secs(10), tx.query_and_commit(many, &[]));
        assert_eq!(rows.await.expect("it does not hang").expect("a query runs").len(), 6_000);
    }
}

#[tokio::test]
async fn unnamed_statements_leave_no_name_behind() {
    let house = House::build(Isolation::Role, 1).await;
    let db = house.door(Statements::Unnamed, 1);
    for number in 0..20 {
        let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
        let sql = format!("SELECT count(*) FROM notes WHERE {number} = {number}");
        if number % 2 == 0 {
            tx.query(&sql, &[]).await.expect("a query runs");
        } else {
            tx.query_and_commit(&sql, &[]).await.expect("a query runs");
        }
    }
    let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
    let names = tx.query_one("SELECT count(*) FROM pg_prepared_statements", &[]).await;
    // The one that asks is described first, and closed before it runs.
    assert_eq!(names.expect("a query runs").get::<_, i64>(0), 0);
}

#[tokio::test]
async fn cached_statements_do_not_grow_without_bound() {
    let house = House::build(Isolation::Role, 1).await;
    let db = house.door(Statements::Cached, 1);
    let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
    for number in 0..1_100 {
        tx.query(&format!("SELECT {number}"), &[]).await.expect("a query runs");
    }
    let names = tx.query_one("SELECT count(*) FROM pg_prepared_statements", &[]).await;
    let names: i64 = names.expect("a query runs").get(0);
    assert!(names <= 1_000, "{names} statements are prepared");
}

#[tokio::test]
async fn a_flood_of_notices_drowns_nobody() {
    let house = House::build(Isolation::Role, 1).await;
    for statements in MODES {
        let db = house.door(statements, 1);
        let clean = next_borrower_finds(&db).await;
        let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
        let row = tx.query_one("SELECT make_noise($1)", &[&5_000_i32]).await;
        assert_eq!(row.expect("a query runs").get::<_, i32>(0), 5_000);
        drop(tx);
        assert_eq!(next_borrower_finds(&db).await, clean);
    }
}

/// In the mode that keeps statements, a session's own are there to be read: texts, never parameters.
#[tokio::test]
async fn cached_statements_show_their_text_to_other_tenants_and_never_their_parameters() {
    let house = House::build(Isolation::Role, 2).await;
    let db = house.door(Statements::Cached, 1);
    let tx = db.tenant(house.tenants[0]).await.expect("a tenant can be entered");
    let parameter = "a parameter".to_owned();
    let sql = "SELECT body FROM notes WHERE body = $1";
    tx.query_and_commit(sql, &[&parameter]).await.expect("a query runs");
    let tx = db.tenant(house.tenants[1]).await.expect("a tenant can be entered");
    let rows = tx.query("SELECT statement FROM pg_prepared_statements", &[]).await;
    let texts: Vec<String> = rows.expect("a query runs").iter().map(|row| row.get(0)).collect();
    assert!(texts.contains(&sql.to_owned()), "{texts:?}");
    assert!(!texts.concat().contains(&parameter), "{texts:?}");
}
