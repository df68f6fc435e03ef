//! An archive is of one moment, whatever is written meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fixture::{app_of, clone, clone_command, csv, export, manifest, run, schema_of, value};
use super::rounds;

const FILES: [(&str, &str); 1] = [(
    "V1__create_accounts.sql",
    "CREATE TABLE accounts (id int CONSTRAINT accounts_pkey PRIMARY KEY, amount bigint NOT NULL);
     CREATE TABLE savings (id int CONSTRAINT savings_pkey PRIMARY KEY, amount bigint NOT NULL);
     INSERT INTO accounts SELECT n, 1000 FROM generate_series(1, 1000) n;
     INSERT INTO savings SELECT n, 0 FROM generate_series(1, 1000) n;",
)];

/// Returns the sum of the second column.
fn sum(csv: &str) -> i64 {
    let amount = |line: &str| {
        let (_, amount) = line.split_once(',').expect("two columns");
        amount.parse::<i64>().expect("a number")
    };
    csv.lines().skip(1).map(amount).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_are_exact_while_money_moves_between_two_tables() {
    let (app, _files) = app_of(&FILES).await;
    let schema = schema_of(&app.sql().await, "acme").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..4 {
        let (sql, schema, stop) = (app.sql().await, schema.clone(), Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            let (mut moved, mut id) = (0, writer);
            while !stop.load(Ordering::Relaxed) {
                id = (id + 7) % 1000;
                let row = id + 1;
                run(
                    &sql,
                    &format!(
                        "BEGIN; UPDATE {schema}.accounts SET amount = amount - 1 WHERE id = {row};
                     UPDATE {schema}.savings SET amount = amount + 1 WHERE id = {row}; COMMIT"
                    ),
                )
                .await;
                moved += 1;
            }
            moved
        }));
    }
    let mut saved = Vec::new();
    for _ in 0..rounds(8) {
        let archive = export(&app, "acme").await;
        let (accounts, savings) = (sum(&csv(&archive, "accounts")), sum(&csv(&archive, "savings")));
        assert_eq!(accounts + savings, 1_000_000);
        saved.push(savings);
    }
    for number in 0..3 {
        let slug = format!("clone-{number}");
        clone(&app, "acme", &clone_command(&slug)).await.expect("it is cloned");
        let schema = schema_of(&app.sql().await, &slug).await;
        let sums = format!(
            "SELECT concat_ws(' ', (SELECT sum(amount) FROM {schema}.accounts) + (SELECT sum(amount) FROM {schema}.savings))"
        );
        assert_eq!(value(&app.sql().await, &sums).await, "1000000");
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    assert!(saved.first() < saved.last(), "nothing was moved: {saved:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_rewritten_meanwhile_is_never_exported_empty() {
    let (app, _files) = app_of(&FILES).await;
    let sql = app.sql().await;
    let schema = schema_of(&sql, "acme").await;
    let stop = Arc::new(AtomicBool::new(false));
    let rewriting = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let (mut rewrites, mut kind) = (0, "bigint");
            while !stop.load(Ordering::Relaxed) {
                kind = if kind == "bigint" { "numeric" } else { "bigint" };
                run(
                    &sql,
                    &format!("ALTER TABLE {schema}.accounts ALTER COLUMN amount TYPE {kind}"),
                )
                .await;
                rewrites += 1;
            }
            rewrites
        }
    });
    for _ in 0..rounds(15) {
        let manifest = manifest(&export(&app, "acme").await);
        for table in manifest["tables"].as_array().unwrap() {
            assert_eq!(table["rows"], 1000, "{table}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(rewriting.await.unwrap() > 5);
}
