//! A fleet migration meets tenants that are being exported.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rowhouse::domain::names::TenantId;
use rowhouse::service::fleet::{Event, MigrationRequest};
use rowhouse::service::stored_archives::Export;
use rowhouse::service::tenants::TenantRef;

use super::fixture::{run, value};
use super::rounds;
use crate::fleet::fixture::{Fixture, SECOND, migrate, outcome, wait_for};

/// Rewrites the table.
const WIDEN: (&str, &str) =
    ("V2__widen.sql", "ALTER TABLE notes ALTER COLUMN runs TYPE bigint USING runs + 1;");

/// Migrations in the suite.
const ROUNDS: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_is_being_exported_is_migrated_after_all_others() {
    let fixture = Fixture::with(4).await;
    fixture.write(SECOND);
    let (sql, inside) = (fixture.sql().await, fixture.sql().await);
    // What an export holds: its row, and the locks of the tables.
    let exported = fixture.tenants[0];
    run(
        &sql,
        &format!(
            "INSERT INTO archives (id, kind, state, tenant_id, slug, actor, request_id, lease_until, created_at)
             VALUES (gen_random_uuid(), 'export', 'running', '{exported}', 't0', 'root', 'x', now() + interval '1 hour', now())"
        ),
    )
    .await;
    run(&inside, &format!("BEGIN; LOCK TABLE {}.notes IN ACCESS SHARE MODE", fixture.schema(0)))
        .await;
    let backend =
        fixture.backend(&[("database.lock_timeout", "50ms"), ("fleet.workers", "1")]).await;
    let (ended, retried) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let events = {
        let (ended, retried) = (Arc::clone(&ended), Arc::clone(&retried));
        Arc::new(move |event: &Event| match event {
            Event::Ended { slug, .. } => ended.lock().expect("no panic").push(slug.to_string()),
            Event::Retrying { reason, .. } => {
                retried.lock().expect("no panic").push(reason.clone());
            }
            Event::Started { .. } => {}
        })
    };
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, &MigrationRequest::default()).await.expect("it can be started");
    let running = fleet.run(&ctx, made.id, events);
    let watching = async {
        wait_for(&sql, "SELECT count(*) = 3 FROM operation_tenants WHERE state = 'done'").await;
        wait_for(&sql, "SELECT count(*) = 1 FROM operation_tenants WHERE state = 'running'").await;
        // It is not tried repeatedly: nothing queues behind its lock.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) {
            let waiting =
                "SELECT count(*)::text FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                            WHERE d.datname = current_database() AND NOT granted";
            assert_eq!(value(&sql, waiting).await, "0");
        }
        run(&inside, "COMMIT").await;
        run(&sql, "UPDATE archives SET state = 'failed', ended_at = now()").await;
    };
    let (record, ()) = tokio::join!(Box::pin(running), watching);
    let record = record.expect("it runs");
    assert_eq!(outcome(&record), ("done", None, [0, 4, 0, 0]));
    assert_eq!(ended.lock().expect("no panic").last().map(String::as_str), Some("t0"));
    let retried = retried.lock().expect("no panic").clone();
    assert_eq!(retried, ["it is being exported; it comes after the others"]);
    assert_eq!(fixture.runs().await, [1, 1, 1, 1]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_rewrites_tables_spoils_no_export_and_fails_in_no_tenant() {
    let fixture = Fixture::with(2).await;
    let sql = fixture.sql().await;
    for number in 0..2 {
        let notes = format!("{}.notes", fixture.schema(number));
        run(&sql, &format!("INSERT INTO {notes} SELECT n, 0 FROM generate_series(2, 20000) n"))
            .await;
    }
    let before = "SELECT DISTINCT migrations_fingerprint FROM tenants";
    let before = value(&sql, before).await;
    fixture.write(WIDEN);
    let store = tempfile::tempdir().expect("a folder can be made");
    let store = store.path().display().to_string();
    let exporting = fixture.backend(&[("archives.store", &store)]).await;
    let migrating = fixture.backend(&[("database.lock_timeout", "30ms")]).await;
    let exported = |number: usize| Export {
        tenant: TenantRef::Id(TenantId::new(fixture.tenants[number])),
        members: true,
    };
    let (archives, ctx) = (&exporting.services.stored_archives, exporting.operator());
    let took = Instant::now();
    archives.export(&ctx, &exported(0), &|_| ()).await.expect("it is exported");
    let took = took.elapsed();
    for round in 0..rounds(ROUNDS) {
        // At one moment of the exports, or shortly before them, and each at another one.
        let moment = took.mul_f64(f64::from(round * 7 % 20) / 16.0);
        let exports = async {
            let (one, other) = (exported(0), exported(1));
            let exports = tokio::join!(
                Box::pin(archives.export(&ctx, &one, &|_| ())),
                Box::pin(archives.export(&ctx, &other, &|_| ()))
            );
            for archive in [exports.0, exports.1] {
                let archive = archive.unwrap_or_else(|error| panic!("{round}: {}", error.chain()));
                assert_eq!(archive.progress.rows, 20_000, "round {round}");
            }
        };
        let migration = async {
            tokio::time::sleep(moment).await;
            let record = migrate(&migrating, &MigrationRequest::default()).await;
            assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]), "round {round}");
        };
        tokio::join!(Box::pin(exports), Box::pin(migration));
        // Back to the first version.
        for number in 0..2 {
            let schema = fixture.schema(number);
            run(
                &sql,
                &format!(
                    "ALTER TABLE {schema}.notes ALTER COLUMN runs TYPE integer;
                     DELETE FROM {schema}.refinery_schema_history WHERE version = 2"
                ),
            )
            .await;
        }
        let back = format!(
            "UPDATE tenants SET migrations_version = 1, migrations_fingerprint = '{before}'"
        );
        run(&sql, &back).await;
    }
    exporting.close().await;
    migrating.close().await;
}
