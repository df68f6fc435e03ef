//! Tests that other tests run as processes of their own: `processes` starts this program for each.

use std::io::Write as _;

use rowhouse::testing::{TestPostgres, TestTenant};
use serde_json::json;
use uuid::Uuid;

use super::application::{INSERT, broken, notes};

/// Prints a line that the test that started this one waits for: the database of this process, and its server.
async fn report(t: &TestTenant) {
    let rows = t.rows("SELECT current_database()::text AS name", &[]).await;
    let name: String = rows[0].get("name");
    let mut stdout = std::io::stdout();
    let server = TestPostgres::get().await.expect("there is a server").url("postgres");
    writeln!(stdout, "DATABASE {name} ON {server}").expect("stdout is read");
    stdout.flush().expect("stdout is read");
}

#[rowhouse::test(notes)]
#[ignore = "another test runs it"]
async fn passes(t: TestTenant) {
    report(&t).await;
    t.post("/notes", json!({ "body": "x" })).await.expect(201);
    assert_eq!(t.get("/notes").await.expect(200).body, json!(["x"]));
}

#[rowhouse::test(notes)]
#[ignore = "another test runs it, and it fails"]
async fn panics_in_a_transaction(t: TestTenant) {
    report(&t).await;
    let tx = t.tx().await;
    tx.execute(INSERT, &[&Uuid::now_v7(), &"x"]).await.expect("a row is written");
    panic!("this test fails on purpose");
}

#[rowhouse::test(notes)]
#[ignore = "another test runs it, and kills it"]
async fn never_ends(t: TestTenant) {
    let tx = t.tx().await;
    tx.execute(INSERT, &[&Uuid::now_v7(), &"x"]).await.expect("a row is written");
    report(&t).await;
    std::future::pending::<()>().await;
}

#[rowhouse::test(broken)]
#[ignore = "another test runs it, and it fails"]
async fn has_a_migration_that_fails(_t: TestTenant) {}
