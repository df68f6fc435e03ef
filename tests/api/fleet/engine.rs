//! A run migrates every tenant once, each independently of the others.

use std::time::Duration;

use rowhouse::domain::operation::{FleetProblem, WorkState};
use rowhouse::domain::page::Window;
use rowhouse::domain::{Error, Rule};
use rowhouse::service::fleet::{MigrationRequest, RehearsalTarget, WorkFilter};

use super::fixture::{
    END_WAITING, Fixture, MigrationLock, SECOND, WAITS_FOR_LOCK, migrate, no_events, outcome,
    provision, wait_for,
};

const ALL_ROWS: Window = Window { after: None, limit: 100 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_migrates_each_tenant_once_and_records_it() {
    let fixture = Fixture::with(5).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let plan = fleet.plan(&ctx, &[]).await.unwrap();
    assert_eq!((plan.behind_count(), plan.current_count), (5, 0));
    assert_eq!(plan.behind[0].files, ["V2__add_mood.sql"]);
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 5, 0, 0]));
    assert!(record.ended_at.is_some() && !record.is_held);
    assert_eq!(fixture.runs().await, [1; 5]);
    assert_eq!(fixture.versions(0).await, [1, 2]);
    let work = fleet.tenants(&ctx, record.id, &WorkFilter::default(), &ALL_ROWS).await.unwrap();
    for row in &work.rows {
        assert_eq!((row.state, row.attempts, row.error.as_deref()), (WorkState::Done, 1, None));
        assert_eq!(row.applied.as_deref(), Some(&["V2__add_mood.sql".to_owned()][..]));
        assert!(row.started_at.is_some() && row.ended_at.is_some());
    }
    assert_eq!(work.rows.len(), 5);
    // A second run has no tenant to migrate and ends as done.
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 0, 0, 0]));
    let events = "SELECT count(*) FROM audit_events WHERE action = 'migration.start'";
    let events: i64 = fixture.sql().await.query_one(events, &[]).await.unwrap().get(0);
    assert_eq!(events, 2);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_or_locked_tenant_does_not_stop_the_others() {
    let fixture = Fixture::with(5).await;
    fixture.write(SECOND);
    let sql = fixture.sql().await;
    sql.batch_execute(&format!("ALTER TABLE {}.notes RENAME TO lost", fixture.schema(1)))
        .await
        .unwrap();
    let locking = fixture.sql().await;
    locking.batch_execute(&format!("BEGIN; LOCK TABLE {}.notes", fixture.schema(3))).await.unwrap();
    let backend = fixture.backend(&[("database.lock_timeout", "50ms")]).await;
    let record =
        migrate(&backend, &MigrationRequest { workers: Some(1), ..MigrationRequest::default() })
            .await;
    assert_eq!(outcome(&record), ("failed", None, [0, 3, 2, 0]));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let failed = fleet
        .tenants(
            &ctx,
            record.id,
            &WorkFilter { state: Some(WorkState::Failed), ..WorkFilter::default() },
            &ALL_ROWS,
        )
        .await
        .unwrap();
    let of = |slug: &str| failed.rows.iter().find(|row| row.slug.as_str() == slug).unwrap();
    let (broken, locked) = (of("t1"), of("t3"));
    assert_eq!(broken.attempts, 1, "an error in the file is not retried");
    let error = broken.error.as_deref().unwrap();
    assert!(error.contains("V2__add_mood.sql") && error.contains("42P01"), "{error}");
    assert!(locked.attempts > 1, "{locked:?}");
    let error = locked.error.as_deref().unwrap();
    assert!(error.contains("V2__add_mood.sql") && error.contains("55P03"), "{error}");
    assert_eq!(fixture.versions(1).await, [1], "the schema is unchanged");

    // A retry attempts only the failed tenants.
    locking.batch_execute("ROLLBACK").await.unwrap();
    sql.batch_execute(&format!("ALTER TABLE {}.lost RENAME TO notes", fixture.schema(1)))
        .await
        .unwrap();
    let again = fleet.retry(&ctx, record.id, &[]).await.unwrap();
    assert_eq!(outcome(&again), ("planned", None, [2, 3, 0, 0]));
    let record = fleet.run(&ctx, again.id, no_events()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 5, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 5]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_pipelined_behind_a_failing_one_are_migrated_once() {
    let fixture = Fixture::with(10).await;
    fixture.write(SECOND);
    let (sql, locking) = (fixture.sql().await, fixture.sql().await);
    // The first tenant is sent alone, then four at a time: two tenants are pipelined behind the locked one,
    // one behind the broken one.
    locking.batch_execute(&format!("BEGIN; LOCK TABLE {}.notes", fixture.schema(2))).await.unwrap();
    sql.batch_execute(&format!("ALTER TABLE {}.notes RENAME TO lost", fixture.schema(7)))
        .await
        .unwrap();
    let backend = fixture.backend(&[("database.lock_timeout", "50ms")]).await;
    let record =
        migrate(&backend, &MigrationRequest { workers: Some(1), ..MigrationRequest::default() })
            .await;
    assert_eq!(outcome(&record), ("failed", None, [0, 8, 2, 0]));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let work = fleet.tenants(&ctx, record.id, &WorkFilter::default(), &ALL_ROWS).await.unwrap();
    for row in &work.rows {
        let of_all = match row.slug.as_str() {
            "t2" => (WorkState::Failed, row.attempts > 1),
            "t7" => (WorkState::Failed, row.attempts == 1),
            _ => (WorkState::Done, row.attempts == 1),
        };
        assert_eq!(of_all, (row.state, true), "{row:?}");
    }
    locking.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(fixture.runs().await, [1, 1, 0, 1, 1, 1, 1, -1, 1, 1]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_released_in_time_costs_an_attempt_and_the_tenant_succeeds() {
    let fixture = Fixture::with(1).await;
    fixture.write(SECOND);
    let locking = fixture.sql().await;
    let lock = format!("BEGIN; LOCK TABLE {}.notes", fixture.schema(0));
    locking.batch_execute(&lock).await.unwrap();
    let backend = fixture.backend(&[("database.lock_timeout", "50ms")]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, &MigrationRequest::default()).await.unwrap();
    let (notify, retried) = tokio::sync::oneshot::channel();
    let notify = std::sync::Mutex::new(Some(notify));
    let events: rowhouse::service::fleet::Events = std::sync::Arc::new(move |event| {
        if matches!(event, rowhouse::service::fleet::Event::Retrying { .. })
            && let Some(notify) = notify.lock().unwrap().take()
        {
            let _ = notify.send(());
        }
    });
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, events), async {
        retried.await.unwrap();
        locking.batch_execute("ROLLBACK").await.unwrap();
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 1, 0, 0]));
    let work = fleet.tenants(&ctx, made.id, &WorkFilter::default(), &ALL_ROWS).await.unwrap();
    assert!(work.rows[0].attempts > 1, "{work:?}");
    backend.close().await;
}

/// Another process could have the run by then. It does not: the lease is renewed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_is_entered_after_the_end_of_a_lease_is_tried_again() {
    let fixture = Fixture::with(1).await;
    // Rows are sent alone: no attempt comes before that shares a message with other tenants.
    fixture.write((
        "V2__add_moods.sql",
        "CREATE TABLE moods (name text);\nCOPY moods FROM stdin;\ncalm\n\\.\n",
    ));
    let locking = fixture.sql().await;
    let schema = fixture.schema(0);
    let lock = format!(
        "BEGIN; INSERT INTO public.locks (name) VALUES ('{schema}') ON CONFLICT (name) DO NOTHING;
         SELECT FROM public.locks WHERE name = '{schema}' FOR UPDATE"
    );
    locking.batch_execute(&lock).await.unwrap();
    let backend = fixture.backend(&[("fleet.lease", "1s")]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, &MigrationRequest::default()).await.unwrap();
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, no_events()), async {
        let waits = "SELECT count(*) FROM pg_stat_activity
                      WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while locking.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        locking.batch_execute("ROLLBACK").await.unwrap();
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 1, 0, 0]));
    let moods = format!("SELECT name FROM {schema}.moods");
    let moods = locking.query_one(&moods, &[]).await.unwrap();
    assert_eq!(moods.get::<_, &str>(0), "calm");
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_run_is_refused_and_names_the_lease_owner() {
    let fixture = Fixture::with(2).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let (one, two) = (fixture.backend(&[]).await, fixture.backend(&[]).await);
    let ctx = one.operator();
    let made = one.services.fleet.start(&ctx, &MigrationRequest::default()).await.unwrap();
    let (ran, ()) = tokio::join!(one.services.fleet.run(&ctx, made.id, no_events()), async {
        lock.wait_until_waiting().await;
        let fleet = &two.services.fleet;
        for refused in [
            fleet.start(&ctx, &MigrationRequest::default()).await.map(drop),
            fleet.run(&ctx, made.id, no_events()).await.map(drop),
        ] {
            let Err(Error::Fleet(problem)) = refused else { panic!("{refused:?}") };
            let FleetProblem::Held(owner) = *problem else { panic!("{problem:?}") };
            assert_eq!(owner.operation, made.id);
            assert_eq!(owner.pid.unsigned_abs(), std::process::id());
            assert!(!owner.host.is_empty());
        }
        lock.release().await;
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 2, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 2]);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_lost_its_lease_starts_no_further_tenant() {
    let fixture = Fixture::with(2).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let backend = fixture.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet
        .start(&ctx, &MigrationRequest { workers: Some(1), ..MigrationRequest::default() })
        .await
        .unwrap();
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, no_events()), async {
        lock.wait_until_waiting().await;
        // Another process takes the run over after the lease has expired.
        let sql = fixture.sql().await;
        sql.batch_execute(
            "UPDATE operations SET runner = gen_random_uuid(), runner_host = 'elsewhere';
             UPDATE operation_tenants SET runner = gen_random_uuid() WHERE state = 'running';
             SELECT pg_sleep(2.1)",
        )
        .await
        .unwrap();
        lock.release().await;
    });
    let Err(Error::Fleet(problem)) = ran else { panic!("{ran:?}") };
    assert!(problem.to_string().contains("on elsewhere since"), "{problem}");
    // The tenant in progress is finished and its row is updated; the ledger belongs to the new lease owner.
    assert_eq!(fixture.runs().await, [1, 0]);
    let recorded =
        "SELECT migrations_version, state FROM tenants JOIN operation_tenants ON tenant_id = id
                 ORDER BY tenants.slug";
    let recorded: Vec<(i32, String)> =
        (fixture.sql().await.query(recorded, &[]).await.unwrap().iter())
            .map(|row| (row.get(0), row.get(1)))
            .collect();
    assert_eq!(recorded, [(2, "running".to_owned()), (1, "running".to_owned())]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_tenant_row_does_not_delay_other_tenants() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[("database.lock_timeout", "50ms")]).await;
    let locking = fixture.sql().await;
    let hold = "BEGIN; SELECT FROM tenants WHERE slug = 't0' FOR UPDATE";
    locking.batch_execute(hold).await.unwrap();
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, &MigrationRequest::default()).await.unwrap();
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, no_events()), async {
        let sql = fixture.sql().await;
        wait_for(&sql, "SELECT count(*) = 2 FROM operation_tenants WHERE state = 'done'").await;
        locking.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 3, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 3]);
    // If the row stays locked, the tenant is reported as failed; the retry finds it migrated.
    fixture.write(("V3__count.sql", "UPDATE notes SET runs = runs + 1;"));
    let backend_after = fixture.backend(&[("database.lock_timeout", "50ms")]).await;
    locking.batch_execute(hold).await.unwrap();
    let record = migrate(&backend_after, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 2, 1, 0]));
    locking.batch_execute("COMMIT").await.unwrap();
    let (fleet, ctx) = (&backend_after.services.fleet, backend_after.operator());
    fleet.retry(&ctx, record.id, &[]).await.unwrap();
    let record = fleet.run(&ctx, record.id, no_events()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    assert_eq!(fixture.runs().await, [2; 3]);
    backend.close().await;
    backend_after.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_tenants_are_migrated_and_deleted_ones_are_not() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let sql = fixture.sql().await;
    sql.batch_execute(
        "UPDATE tenants SET status = 'suspended' WHERE slug = 't1';
         UPDATE tenants SET status = 'deleting', purge_after = now() + interval '1 day' WHERE slug = 't2'",
    )
    .await
    .unwrap();
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]));
    assert_eq!(fixture.runs().await, [1, 1, 0]);
    // A restored tenant is behind and is migrated by the next run.
    sql.batch_execute("UPDATE tenants SET status = 'active', purge_after = NULL").await.unwrap();
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 1, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 3]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_tenant_is_current_from_the_start() {
    let fixture = Fixture::with(1).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    provision(&backend, "new").await;
    let plan = backend.services.fleet.plan(&backend.operator(), &[]).await.unwrap();
    assert_eq!((plan.current_count, plan.behind_count()), (1, 1));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_named_tenants_are_migrated() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    let named = vec!["t2".to_owned(), fixture.tenants[0].to_string()];
    let record =
        migrate(&backend, &MigrationRequest { tenants: named, ..MigrationRequest::default() })
            .await;
    assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]));
    assert_eq!(fixture.runs().await, [1, 0, 1]);
    let command = MigrationRequest {
        tenants: vec!["t1".to_owned(), "unknown".to_owned()],
        ..MigrationRequest::default()
    };
    let refused = backend.services.fleet.start(&backend.operator(), &command).await;
    let Err(Error::Invalid(problems)) = refused else { panic!("{refused:?}") };
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].field.as_ref(), problems[0].rule), ("/tenants/1", Rule::UnknownTenant));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_costs_an_attempt_and_the_tenant_succeeds() {
    let fixture = Fixture::with(2).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let backend = fixture.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet
        .start(&ctx, &MigrationRequest { workers: Some(1), ..MigrationRequest::default() })
        .await
        .unwrap();
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, no_events()), async {
        lock.wait_until_waiting().await;
        assert_eq!(fixture.sql().await.query(END_WAITING, &[]).await.unwrap().len(), 1);
        lock.release().await;
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 2, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 2]);
    let work = fleet.tenants(&ctx, made.id, &WorkFilter::default(), &ALL_ROWS).await.unwrap();
    let attempts: i32 = work.rows.iter().map(|row| row.attempts).sum();
    assert_eq!(attempts, 3, "{work:?}");
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_recorded_as_done() {
    let fixture = Fixture::with(2).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let backend = fixture.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet
        .start(&ctx, &MigrationRequest { workers: Some(1), ..MigrationRequest::default() })
        .await
        .unwrap();
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, no_events()), async {
        lock.wait_until_waiting().await;
        // The migration is committed before the connection is terminated.
        let sql = fixture.sql().await;
        sql.batch_execute(&format!("{}; {END_WAITING}", fixture.as_if_committed(0, fleet.set())))
            .await
            .unwrap();
        lock.release().await;
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 2, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 2]);
    let work = fleet.tenants(&ctx, made.id, &WorkFilter::default(), &ALL_ROWS).await.unwrap();
    for row in &work.rows {
        assert_eq!(row.applied.as_deref(), Some(&["V2__wait.sql".to_owned()][..]), "{row:?}");
    }
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_differs_from_its_tenants_row_gets_only_the_missing_migrations() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let third = ("V3__count.sql", "UPDATE notes SET runs = runs + 10;");
    let backend = fixture.backend(&[]).await;
    let command =
        MigrationRequest { tenants: vec!["t0".to_owned()], ..MigrationRequest::default() };
    assert_eq!(outcome(&migrate(&backend, &command).await), ("done", None, [0, 1, 0, 0]));
    backend.close().await;
    fixture.write(third);
    let backend = fixture.backend(&[]).await;
    // The schema is migrated, and its tenant's row is older, as after a restore of the control plane.
    let sql = fixture.sql().await;
    let first = "UPDATE tenants
                    SET (migrations_version, migrations_fingerprint) =
                        (SELECT migrations_version, migrations_fingerprint FROM tenants WHERE slug = 't1')
                  WHERE slug = 't0'";
    sql.execute(first, &[]).await.unwrap();
    // Another schema has lost the only row of its history.
    let history = format!("{}.refinery_schema_history", fixture.schema(2));
    sql.batch_execute(&format!("DELETE FROM {history}")).await.unwrap();
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 2, 1, 0]));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let work = fleet.tenants(&ctx, record.id, &WorkFilter::default(), &ALL_ROWS).await.unwrap();
    let of = |slug: &str| work.rows.iter().find(|row| row.slug.as_str() == slug).unwrap();
    assert_eq!(of("t0").applied.as_deref(), Some(&["V3__count.sql".to_owned()][..]));
    assert_eq!(of("t1").applied.as_ref().map(Vec::len), Some(2));
    let error = of("t2").error.as_deref().unwrap();
    assert!(error.starts_with("V1__create_notes.sql"), "{error}");
    assert_eq!(fixture.runs().await, [11, 11, 0]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_claims_a_bounded_batch_of_tenants() {
    const MANY: usize = 300;
    let fixture = Fixture::with(1).await;
    // Tenants without a schema are claimed like others.
    let more = format!(
        "INSERT INTO tenants (id, slug, name, status, cluster, migrations_version, migrations_fingerprint,
                              created_at, updated_at)
         SELECT gen_random_uuid(), 'more-' || n, 'More', 'active', cluster, migrations_version,
                migrations_fingerprint, now(), now()
           FROM tenants, generate_series(2, {MANY}) n"
    );
    let sql = fixture.sql().await;
    sql.batch_execute(&more).await.unwrap();
    // An earlier operation has ended, so that the planner's statistics know every operation but the next one.
    fixture.write(WAITS_FOR_LOCK);
    let backend = fixture.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let earlier = fleet.start(&ctx, &MigrationRequest::default()).await.unwrap();
    sql.batch_execute(
        "UPDATE operation_tenants SET state = 'done'; ANALYZE operation_tenants; ANALYZE tenants",
    )
    .await
    .unwrap();
    fleet.run(&ctx, earlier.id, no_events()).await.unwrap();
    let lock = MigrationLock::hold(&fixture).await;
    let command = MigrationRequest { workers: Some(1), ..MigrationRequest::default() };
    let made = fleet.start(&ctx, &command).await.unwrap();
    let (ran, claimed) = tokio::join!(fleet.run(&ctx, made.id, no_events()), async {
        lock.wait_until_waiting().await;
        let claimed = "SELECT count(*) FROM operation_tenants WHERE state = 'running'";
        let claimed: i64 = sql.query_one(claimed, &[]).await.unwrap().get(0);
        lock.release().await;
        claimed
    });
    let all = i64::try_from(MANY).unwrap();
    assert_eq!(outcome(&ran.unwrap()), ("failed", None, [0, 1, all - 1, 0]));
    assert!((1..all / 2).contains(&claimed), "{claimed} of {all}");
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_changes_the_search_path_is_rolled_back() {
    let fixture = Fixture::with(1).await;
    fixture.write((
        "V2__move.sql",
        // Written so that it is not recognized when the file is read, and changes nothing in a new tenant.
        "DO $$ BEGIN IF (SELECT xmin::text <> pg_current_xact_id()::xid::text FROM notes) THEN
             UPDATE notes SET runs = 7;
             EXECUTE 'SET LOC' || 'AL search_' || 'path = pg_catalog';
         END IF; END $$;",
    ));
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 0, 1, 0]));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let work = fleet.tenants(&ctx, record.id, &WorkFilter::default(), &ALL_ROWS).await.unwrap();
    let error = work.rows[0].error.as_deref().unwrap();
    assert!(error.contains("V2__move.sql: a file ended the transaction or changed"), "{error}");
    assert_eq!((fixture.runs().await, fixture.versions(0).await), (vec![0], vec![1]));
    let rehearsed =
        fleet.rehearse(&ctx, RehearsalTarget::FirstBehind).await.unwrap().unwrap().outcome();
    assert!(rehearsed.unwrap_err().contains("V2__move.sql"));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_migration_commits_asynchronously_and_its_ledger_rows_synchronously() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    let sql = fixture.sql().await;
    // The test server runs without durability, so synchronous_commit is turned on here.
    sql.batch_execute(&format!(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = on', current_database()); END $$;
         CREATE TABLE seen (what text, waits text);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.seen VALUES
                 (concat_ws(' ', TG_TABLE_NAME, to_jsonb(NEW)->>'state'), current_setting('synchronous_commit'));
             RETURN NULL;
         END $$;
         CREATE TRIGGER see AFTER UPDATE ON operations FOR EACH ROW EXECUTE FUNCTION see();
         CREATE TRIGGER see AFTER UPDATE ON operation_tenants FOR EACH ROW EXECUTE FUNCTION see();
         CREATE TRIGGER see AFTER INSERT ON {}.refinery_schema_history FOR EACH ROW EXECUTE FUNCTION see();
         ALTER TABLE {}.notes RENAME TO lost",
        fixture.schema(0),
        fixture.schema(1)
    ))
    .await
    .unwrap();
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 1, 1, 0]));
    let seen = "SELECT DISTINCT what || ': ' || waits FROM seen ORDER BY 1";
    let seen: Vec<String> =
        sql.query(seen, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(
        seen,
        [
            "operation_tenants done: on",
            "operation_tenants failed: on",
            "operation_tenants running: on",
            "operations failed: on",
            "operations running: on",
            "refinery_schema_history: off",
        ]
    );
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_deleted_or_purged_during_a_run_are_recorded_as_done_or_skipped() {
    let fixture = Fixture::with(2).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let backend = fixture.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet
        .start(&ctx, &MigrationRequest { workers: Some(1), ..MigrationRequest::default() })
        .await
        .unwrap();
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, no_events()), async {
        lock.wait_until_waiting().await;
        let gone = format!(
            "UPDATE tenants SET status = 'deleting', purge_after = now() + interval '1 day' WHERE slug = 't0';
             DROP SCHEMA {} CASCADE; DELETE FROM tenants WHERE slug = 't1'",
            fixture.schema(1)
        );
        fixture.sql().await.batch_execute(&gone).await.unwrap();
        lock.release().await;
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 1, 0, 1]));
    // Once restored, the tenant is not behind.
    let recorded = "SELECT slug, migrations_version FROM tenants";
    let recorded = fixture.sql().await.query_one(recorded, &[]).await.unwrap();
    assert_eq!((recorded.get(0), recorded.get(1)), ("t0", 2));
    assert_eq!((fixture.runs().await, fixture.versions(0).await), (vec![1, -1], vec![1, 2]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_failing_file_among_many_is_named_with_its_line() {
    let fixture = Fixture::with(1).await;
    // More files than one batch holds, so that some have run when this one fails.
    let count =
        |number: i32| (format!("V{number}__count.sql"), "UPDATE notes SET runs = runs + 1;");
    for number in 2..=40 {
        let (name, sql) = count(number);
        fixture.write((&name, sql));
    }
    let (name, _) = count(29);
    fixture.write((&name, "SELECT 1;\nSELECT 1 /\n(count(*) = 1)::int FROM notes;"));
    let two_rows = format!("INSERT INTO {}.notes VALUES (2, 0)", fixture.schema(0));
    fixture.sql().await.batch_execute(&two_rows).await.unwrap();
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 0, 1, 0]));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let work = fleet.tenants(&ctx, record.id, &WorkFilter::default(), &ALL_ROWS).await.unwrap();
    let error = work.rows[0].error.as_deref().unwrap();
    assert!(error.starts_with("V29__count.sql, line 2: "), "{error}");
    assert_eq!((fixture.runs().await, fixture.versions(0).await), (vec![0], vec![1]));
    let (name, sql) = count(29);
    fixture.write((&name, sql));
    backend.close().await;
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 1, 0, 0]));
    assert_eq!((fixture.runs().await, fixture.versions(0).await), (vec![39], (1..=40).collect()));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_revokes_its_tenants_write_privilege_on_the_history() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    let sql = fixture.sql().await;
    let [open, closed] = [0, 1].map(|at| fixture.schema(at));
    let grant = format!("GRANT INSERT ON {open}.refinery_schema_history TO {open}");
    sql.batch_execute(&grant).await.unwrap();
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]));
    for schema in [open, closed] {
        let may = format!(
            "SELECT has_table_privilege('{schema}', '{schema}.refinery_schema_history', 'INSERT')"
        );
        assert!(!sql.query_one(&may, &[]).await.unwrap().get::<_, bool>(0), "{schema}");
    }
    backend.close().await;
}
