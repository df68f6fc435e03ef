//! Roles that are made ahead of the schemas: set-ups that find no vacancy take one, because each transaction that makes a
//! role costs every backend.

use rowhouse::domain::error::{Conflict, Error};
use tokio_postgres::Client;

use super::process::{Process, catalog, has_role, schema, vacancies};
use crate::support::TestDatabase;

/// Counts the transactions that made the roles of the tenants.
async fn transactions(sql: &Client) -> i64 {
    let made = "SELECT count(DISTINCT a.xmin::text)
                  FROM pg_authid a JOIN tenants t ON a.rolname = 'tenant_' || replace(t.id::text, '-', '')";
    sql.query_one(made, &[]).await.expect("roles can be read").get(0)
}

#[tokio::test]
async fn the_roles_of_set_ups_that_outrun_the_stock_are_made_in_few_transactions() {
    let database = TestDatabase::create().await;
    let (process, sql) = (Process::on(&database, 2).await, database.connect_as_superuser().await);
    process.replenish_fully().await;
    for number in 0..3 {
        process.set_up(&format!("first-{number}")).await;
    }
    assert_eq!(transactions(&sql).await, 2, "the third one found no vacancy");
    process.replenish_fully().await;
    assert!(vacancies(&sql, "building").await.len() >= 8);
    let stock = vacancies(&sql, "ready").await;
    assert_eq!(stock.len(), 2);
    for number in 0..10 {
        process.set_up(&format!("then-{number}")).await;
    }
    assert!(transactions(&sql).await <= 3, "{}", transactions(&sql).await);
    // What is left is used for the next vacancies.
    let begun = vacancies(&sql, "building").await;
    process.fill().await;
    assert!(vacancies(&sql, "ready").await.iter().all(|id| begun.contains(id)));
    process.close().await;
}

#[tokio::test]
async fn a_tenant_whose_role_was_made_ahead_is_as_any_other() {
    let database = TestDatabase::create().await;
    let (process, sql) = (Process::on(&database, 1).await, database.connect_as_superuser().await);
    process.replenish_fully().await;
    let claimed = process.set_up("claimed").await;
    let built = process.set_up("built").await;
    process.replenish_fully().await;
    process.set_up("claims-the-vacancy").await;
    let begun = vacancies(&sql, "building").await;
    let ahead = process.set_up("ahead").await;
    assert!(begun.contains(&ahead));
    let of_claimed = catalog(&sql, claimed).await;
    assert_eq!(of_claimed, catalog(&sql, built).await);
    assert_eq!(of_claimed, catalog(&sql, ahead).await);
    process.close().await;
}

#[tokio::test]
async fn a_set_up_that_fails_returns_the_role_and_one_whose_role_is_gone_is_not_taken() {
    let database = TestDatabase::create().await;
    let (process, sql) = (Process::on(&database, 1).await, database.connect_as_superuser().await);
    process.replenish_fully().await;
    for slug in ["first", "taken"] {
        process.set_up(slug).await;
    }
    process.replenish_fully().await;
    process.set_up("claims-the-vacancy").await;
    let begun = vacancies(&sql, "building").await;
    let failed = process.try_to_set_up("taken").await;
    assert!(matches!(failed, Err(Error::Conflict(Conflict::SlugTaken))), "{failed:?}");
    assert_eq!(vacancies(&sql, "building").await, begun);
    let newest = *begun.last().expect("there are roles");
    let drop_role = format!("DROP ROLE {}", schema(newest));
    sql.batch_execute(&drop_role).await.expect("nothing depends on the role");
    let made = process.set_up("acme").await;
    assert!(made != newest && begun.contains(&made));
    assert!(has_role(&sql, made).await);
    process.close().await;
}
