//! A run: every tenant once, each by itself.

use rowhouse::domain::operation::{FleetProblem, WorkState};
use rowhouse::domain::page::Window;
use rowhouse::domain::{Error, Rule};
use rowhouse::service::fleet::{Stage, Wish};

use super::ground::{GATED, Gate, Ground, SECOND, migrate, outcome, provision, quiet, wait_for};

const EVERYBODY: Window = Window { after: None, limit: 100 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_migrates_every_tenant_once_and_writes_each_down() {
    let ground = Ground::with(5).await;
    ground.write(SECOND);
    let backend = ground.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let plan = fleet.plan(&ctx, &[]).await.unwrap();
    assert_eq!((plan.behind_count(), plan.current_count), (5, 0));
    assert_eq!(plan.behind[0].files, ["V2__add_mood.sql"]);
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 5, 0, 0]));
    assert!(record.ended_at.is_some() && !record.is_held);
    assert_eq!(ground.runs().await, [1; 5]);
    assert_eq!(ground.versions(0).await, [1, 2]);
    let work = fleet.tenants(&ctx, record.id, None, &EVERYBODY).await.unwrap();
    for row in &work.rows {
        assert_eq!((row.state, row.attempts, row.error.as_deref()), (WorkState::Done, 1, None));
        assert_eq!(row.applied.as_deref(), Some(&["V2__add_mood.sql".to_owned()][..]));
        assert!(row.started_at.is_some() && row.ended_at.is_some());
    }
    assert_eq!(work.rows.len(), 5);
    // Once more there is nothing to do, and a run over nothing is done.
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 0, 0, 0]));
    let events = "SELECT count(*) FROM audit_events WHERE action = 'migration.start'";
    let events: i64 = ground.sql().await.query_one(events, &[]).await.unwrap().get(0);
    assert_eq!(events, 2);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_tenant_and_a_locked_one_never_stop_the_others() {
    let ground = Ground::with(5).await;
    ground.write(SECOND);
    let sql = ground.sql().await;
    sql.batch_execute(&format!("ALTER TABLE {}.notes RENAME TO lost", ground.schema(1)))
        .await
        .unwrap();
    let holder = ground.sql().await;
    holder.batch_execute(&format!("BEGIN; LOCK TABLE {}.notes", ground.schema(3))).await.unwrap();
    let backend = ground.backend(&[("database.lock_timeout", "50ms")]).await;
    let record = migrate(&backend, &Wish { workers: Some(1), ..Wish::default() }).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 3, 2, 0]));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let failed = fleet.tenants(&ctx, record.id, Some(WorkState::Failed), &EVERYBODY).await.unwrap();
    let of = |slug: &str| failed.rows.iter().find(|row| row.slug.as_str() == slug).unwrap();
    let (broken, locked) = (of("t1"), of("t3"));
    assert_eq!(broken.attempts, 1, "its file is to blame, and not tried again");
    let error = broken.error.as_deref().unwrap();
    assert!(error.contains("V2__add_mood.sql") && error.contains("42P01"), "{error}");
    assert!(locked.attempts > 1, "{locked:?}");
    let error = locked.error.as_deref().unwrap();
    assert!(error.contains("V2__add_mood.sql") && error.contains("55P03"), "{error}");
    assert_eq!(ground.versions(1).await, [1], "it is as it was");

    // Mended, they are all that is tried.
    holder.batch_execute("ROLLBACK").await.unwrap();
    sql.batch_execute(&format!("ALTER TABLE {}.lost RENAME TO notes", ground.schema(1)))
        .await
        .unwrap();
    let again = fleet.retry(&ctx, record.id).await.unwrap();
    assert_eq!(outcome(&again), ("planned", None, [2, 3, 0, 0]));
    let record = fleet.run(&ctx, again.id, quiet()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 5, 0, 0]));
    assert_eq!(ground.runs().await, [1; 5]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_whose_migrations_travel_behind_one_that_fails_are_migrated_once() {
    let ground = Ground::with(10).await;
    ground.write(SECOND);
    let (sql, holder) = (ground.sql().await, ground.sql().await);
    // One message alone, then four at a time: behind the locked tenant there are two, behind the broken one one.
    holder.batch_execute(&format!("BEGIN; LOCK TABLE {}.notes", ground.schema(2))).await.unwrap();
    sql.batch_execute(&format!("ALTER TABLE {}.notes RENAME TO lost", ground.schema(7)))
        .await
        .unwrap();
    let backend = ground.backend(&[("database.lock_timeout", "50ms")]).await;
    let record = migrate(&backend, &Wish { workers: Some(1), ..Wish::default() }).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 8, 2, 0]));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let work = fleet.tenants(&ctx, record.id, None, &EVERYBODY).await.unwrap();
    for row in &work.rows {
        let of_all = match row.slug.as_str() {
            "t2" => (WorkState::Failed, row.attempts > 1),
            "t7" => (WorkState::Failed, row.attempts == 1),
            _ => (WorkState::Done, row.attempts == 1),
        };
        assert_eq!(of_all, (row.state, true), "{row:?}");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(ground.runs().await, [1, 1, 0, 1, 1, 1, 1, -1, 1, 1]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_let_go_in_time_costs_a_try_and_no_tenant() {
    let ground = Ground::with(1).await;
    ground.write(SECOND);
    let holder = ground.sql().await;
    let lock = format!("BEGIN; LOCK TABLE {}.notes", ground.schema(0));
    holder.batch_execute(&lock).await.unwrap();
    let backend = ground.backend(&[("database.lock_timeout", "50ms")]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, &Wish::default()).await.unwrap();
    let (told, tried) = tokio::sync::oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    let events: rowhouse::service::fleet::Events = std::sync::Arc::new(move |event| {
        if matches!(event, rowhouse::service::fleet::Event::Again { .. })
            && let Some(told) = told.lock().unwrap().take()
        {
            let _ = told.send(());
        }
    });
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, events), async {
        tried.await.unwrap();
        holder.batch_execute("ROLLBACK").await.unwrap();
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 1, 0, 0]));
    let work = fleet.tenants(&ctx, made.id, None, &EVERYBODY).await.unwrap();
    assert!(work.rows[0].attempts > 1, "{work:?}");
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_two_runs_is_told_who_has_the_first() {
    let ground = Ground::with(2).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let (one, two) = (ground.backend(&[]).await, ground.backend(&[]).await);
    let ctx = one.operator();
    let made = one.services.fleet.start(&ctx, &Wish::default()).await.unwrap();
    let (ran, ()) = tokio::join!(one.services.fleet.run(&ctx, made.id, quiet()), async {
        gate.reached(&ground).await;
        let fleet = &two.services.fleet;
        for refused in [
            fleet.start(&ctx, &Wish::default()).await.map(drop),
            fleet.run(&ctx, made.id, quiet()).await.map(drop),
        ] {
            let Err(Error::Fleet(problem)) = refused else { panic!("{refused:?}") };
            let FleetProblem::Held(holder) = *problem else { panic!("{problem:?}") };
            assert_eq!(holder.operation, made.id);
            assert_eq!(holder.pid.unsigned_abs(), std::process::id());
            assert!(!holder.host.is_empty());
        }
        gate.open().await;
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 2, 0, 0]));
    assert_eq!(ground.runs().await, [1; 2]);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_lost_its_lease_begins_nothing_more() {
    let ground = Ground::with(2).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let backend = ground.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, &Wish { workers: Some(1), ..Wish::default() }).await.unwrap();
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, quiet()), async {
        gate.reached(&ground).await;
        // As another process does that takes it up, when the lease has run out.
        let sql = ground.sql().await;
        sql.batch_execute(
            "UPDATE operations SET runner = gen_random_uuid(), runner_host = 'elsewhere';
             UPDATE operation_tenants SET runner = gen_random_uuid() WHERE state = 'running';
             SELECT pg_sleep(2.1)",
        )
        .await
        .unwrap();
        gate.open().await;
    });
    let Err(Error::Fleet(problem)) = ran else { panic!("{ran:?}") };
    assert!(problem.to_string().contains("on elsewhere since"), "{problem}");
    // What it had begun came to its end, and the tenant says so; the ledger is somebody else's.
    assert_eq!(ground.runs().await, [1, 0]);
    let said =
        "SELECT migrations_version, state FROM tenants JOIN operation_tenants ON tenant_id = id
                 ORDER BY tenants.slug";
    let said: Vec<(i32, String)> = (ground.sql().await.query(said, &[]).await.unwrap().iter())
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(said, [(2, "running".to_owned()), (1, "running".to_owned())]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_row_is_held_by_somebody_holds_nobody_up() {
    let ground = Ground::with(3).await;
    ground.write(SECOND);
    let backend = ground.backend(&[("database.lock_timeout", "50ms")]).await;
    let holder = ground.sql().await;
    let hold = "BEGIN; SELECT FROM tenants WHERE slug = 't0' FOR UPDATE";
    holder.batch_execute(hold).await.unwrap();
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, &Wish::default()).await.unwrap();
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, quiet()), async {
        let sql = ground.sql().await;
        wait_for(&sql, "SELECT count(*) = 2 FROM operation_tenants WHERE state = 'done'").await;
        holder.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 3, 0, 0]));
    assert_eq!(ground.runs().await, [1; 3]);
    // Held all the while, it is told to have failed, and found migrated by whoever tries again.
    ground.write(("V3__count.sql", "UPDATE notes SET runs = runs + 1;"));
    let backend_after = ground.backend(&[("database.lock_timeout", "50ms")]).await;
    holder.batch_execute(hold).await.unwrap();
    let record = migrate(&backend_after, &Wish::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 2, 1, 0]));
    holder.batch_execute("COMMIT").await.unwrap();
    let (fleet, ctx) = (&backend_after.services.fleet, backend_after.operator());
    fleet.retry(&ctx, record.id).await.unwrap();
    let record = fleet.run(&ctx, record.id, quiet()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    assert_eq!(ground.runs().await, [2; 3]);
    backend.close().await;
    backend_after.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_tenants_are_migrated_and_deleted_ones_are_not() {
    let ground = Ground::with(3).await;
    ground.write(SECOND);
    let sql = ground.sql().await;
    sql.batch_execute(
        "UPDATE tenants SET status = 'suspended' WHERE slug = 't1';
         UPDATE tenants SET status = 'deleting', purge_after = now() + interval '1 day' WHERE slug = 't2'",
    )
    .await
    .unwrap();
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]));
    assert_eq!(ground.runs().await, [1, 1, 0]);
    // Restored, it is behind, and found.
    sql.batch_execute("UPDATE tenants SET status = 'active', purge_after = NULL").await.unwrap();
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 1, 0, 0]));
    assert_eq!(ground.runs().await, [1; 3]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_is_made_meanwhile_is_current_from_its_first_moment() {
    let ground = Ground::with(1).await;
    ground.write(SECOND);
    let backend = ground.backend(&[]).await;
    provision(&backend, "new").await;
    let plan = backend.services.fleet.plan(&backend.operator(), &[]).await.unwrap();
    assert_eq!((plan.current_count, plan.behind_count()), (1, 1));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_tenants_that_are_named_are_migrated() {
    let ground = Ground::with(3).await;
    ground.write(SECOND);
    let backend = ground.backend(&[]).await;
    let named = vec!["t2".to_owned(), ground.tenants[0].to_string()];
    let record = migrate(&backend, &Wish { tenants: named, ..Wish::default() }).await;
    assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]));
    assert_eq!(ground.runs().await, [1, 0, 1]);
    let wish = Wish { tenants: vec!["t1".to_owned(), "nobody".to_owned()], ..Wish::default() };
    let refused = backend.services.fleet.start(&backend.operator(), &wish).await;
    let Err(Error::Invalid(problems)) = refused else { panic!("{refused:?}") };
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].field.as_ref(), problems[0].rule), ("/tenants/1", Rule::UnknownTenant));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_costs_a_try_and_no_tenant() {
    let ground = Ground::with(2).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let backend = ground.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, &Wish { workers: Some(1), ..Wish::default() }).await.unwrap();
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, quiet()), async {
        gate.reached(&ground).await;
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                     WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
        assert_eq!(ground.sql().await.query(kill, &[]).await.unwrap().len(), 1);
        gate.open().await;
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 2, 0, 0]));
    assert_eq!(ground.runs().await, [1; 2]);
    let work = fleet.tenants(&ctx, made.id, None, &EVERYBODY).await.unwrap();
    let attempts: i32 = work.rows.iter().map(|row| row.attempts).sum();
    assert_eq!(attempts, 3, "{work:?}");
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_leaves_a_tenant_that_is_done() {
    let ground = Ground::with(2).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let backend = ground.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, &Wish { workers: Some(1), ..Wish::default() }).await.unwrap();
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, quiet()), async {
        gate.reached(&ground).await;
        // Before the connection is cut.
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
        let sql = ground.sql().await;
        sql.batch_execute(&format!("{}; {cut}", ground.as_if_committed(0, fleet.set())))
            .await
            .unwrap();
        gate.open().await;
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 2, 0, 0]));
    assert_eq!(ground.runs().await, [1; 2]);
    let work = fleet.tenants(&ctx, made.id, None, &EVERYBODY).await.unwrap();
    for row in &work.rows {
        assert_eq!(row.applied.as_deref(), Some(&["V2__wait.sql".to_owned()][..]), "{row:?}");
    }
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_not_what_its_tenant_says_is_looked_at_and_only_lacks_what_it_lacks() {
    let ground = Ground::with(3).await;
    ground.write(SECOND);
    let third = ("V3__count.sql", "UPDATE notes SET runs = runs + 10;");
    let backend = ground.backend(&[]).await;
    let wish = Wish { tenants: vec!["t0".to_owned()], ..Wish::default() };
    assert_eq!(outcome(&migrate(&backend, &wish).await), ("done", None, [0, 1, 0, 0]));
    backend.close().await;
    ground.write(third);
    let backend = ground.backend(&[]).await;
    // Its schema was migrated; its row says otherwise, as after a restore of the control plane.
    let sql = ground.sql().await;
    let first = "UPDATE tenants
                    SET (migrations_version, migrations_fingerprint) =
                        (SELECT migrations_version, migrations_fingerprint FROM tenants WHERE slug = 't1')
                  WHERE slug = 't0'";
    sql.execute(first, &[]).await.unwrap();
    // Another has lost its history's only row.
    let history = format!("{}.refinery_schema_history", ground.schema(2));
    sql.batch_execute(&format!("DELETE FROM {history}")).await.unwrap();
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 2, 1, 0]));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let work = fleet.tenants(&ctx, record.id, None, &EVERYBODY).await.unwrap();
    let of = |slug: &str| work.rows.iter().find(|row| row.slug.as_str() == slug).unwrap();
    assert_eq!(of("t0").applied.as_deref(), Some(&["V3__count.sql".to_owned()][..]));
    assert_eq!(of("t1").applied.as_ref().map(Vec::len), Some(2));
    let error = of("t2").error.as_deref().unwrap();
    assert!(error.starts_with("V1__create_notes.sql"), "{error}");
    assert_eq!(ground.runs().await, [11, 11, 0]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_tenants_are_claimed_at_a_time_than_are_asked_for() {
    const MANY: usize = 300;
    let ground = Ground::with(1).await;
    // Tenants without a schema: what is claimed is claimed all the same.
    let more = format!(
        "INSERT INTO tenants (id, slug, name, status, cluster, migrations_version, migrations_fingerprint,
                              created_at, updated_at)
         SELECT gen_random_uuid(), 'more-' || n, 'More', 'active', cluster, migrations_version,
                migrations_fingerprint, now(), now()
           FROM tenants, generate_series(2, {MANY}) n"
    );
    let sql = ground.sql().await;
    sql.batch_execute(&more).await.unwrap();
    // An operation that ended, so that the statistics know every operation but the one that comes.
    ground.write(GATED);
    let backend = ground.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let earlier = fleet.start(&ctx, &Wish::default()).await.unwrap();
    sql.batch_execute(
        "UPDATE operation_tenants SET state = 'done'; ANALYZE operation_tenants; ANALYZE tenants",
    )
    .await
    .unwrap();
    fleet.run(&ctx, earlier.id, quiet()).await.unwrap();
    let gate = Gate::shut(&ground).await;
    let wish = Wish { workers: Some(1), ..Wish::default() };
    let made = fleet.start(&ctx, &wish).await.unwrap();
    let (ran, claimed) = tokio::join!(fleet.run(&ctx, made.id, quiet()), async {
        gate.reached(&ground).await;
        let claimed = "SELECT count(*) FROM operation_tenants WHERE state = 'running'";
        let claimed: i64 = sql.query_one(claimed, &[]).await.unwrap().get(0);
        gate.open().await;
        claimed
    });
    let all = i64::try_from(MANY).unwrap();
    assert_eq!(outcome(&ran.unwrap()), ("failed", None, [0, 1, all - 1, 0]));
    assert!((1..all / 2).contains(&claimed), "{claimed} of {all}");
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_moves_itself_out_of_its_schema_is_taken_back() {
    let ground = Ground::with(1).await;
    ground.write((
        "V2__move.sql",
        "UPDATE notes SET runs = 7; SELECT set_config('search_path', 'public', true);",
    ));
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 0, 1, 0]));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let work = fleet.tenants(&ctx, record.id, None, &EVERYBODY).await.unwrap();
    let error = work.rows[0].error.as_deref().unwrap();
    assert!(error.contains("V2__move.sql: a file ended the transaction or changed"), "{error}");
    assert_eq!((ground.runs().await, ground.versions(0).await), (vec![0], vec![1]));
    let rehearsed = fleet.rehearse(&ctx, Stage::FirstBehind).await.unwrap().unwrap().outcome();
    assert!(rehearsed.unwrap_err().contains("V2__move.sql"));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_does_not_wait_for_the_disk_and_whatever_is_written_down_of_it_does() {
    let ground = Ground::with(2).await;
    ground.write(SECOND);
    let sql = ground.sql().await;
    // The server of the tests waits for no disk at all.
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
        ground.schema(0),
        ground.schema(1)
    ))
    .await
    .unwrap();
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &Wish::default()).await;
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
async fn of_tenants_that_are_deleted_or_purged_meanwhile_what_is_left_says_what_it_is() {
    let ground = Ground::with(2).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let backend = ground.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, &Wish { workers: Some(1), ..Wish::default() }).await.unwrap();
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, quiet()), async {
        gate.reached(&ground).await;
        let gone = format!(
            "UPDATE tenants SET status = 'deleting', purge_after = now() + interval '1 day' WHERE slug = 't0';
             DROP SCHEMA {} CASCADE; DELETE FROM tenants WHERE slug = 't1'",
            ground.schema(1)
        );
        ground.sql().await.batch_execute(&gone).await.unwrap();
        gate.open().await;
    });
    assert_eq!(outcome(&ran.unwrap()), ("done", None, [0, 1, 0, 1]));
    // Restored, it would not be behind.
    let said = "SELECT slug, migrations_version FROM tenants";
    let said = ground.sql().await.query_one(said, &[]).await.unwrap();
    assert_eq!((said.get(0), said.get(1)), ("t0", 2));
    assert_eq!((ground.runs().await, ground.versions(0).await), (vec![1, -1], vec![1, 2]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_files_the_one_that_fails_is_named_with_its_line() {
    let ground = Ground::with(1).await;
    // More than travel together, so that some have run when this one fails.
    let count =
        |number: i32| (format!("V{number}__count.sql"), "UPDATE notes SET runs = runs + 1;");
    for number in 2..=40 {
        let (name, sql) = count(number);
        ground.write((&name, sql));
    }
    let (name, _) = count(29);
    ground.write((&name, "SELECT 1;\nUPDATE nothing\n   SET runs = 1;"));
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 0, 1, 0]));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let work = fleet.tenants(&ctx, record.id, None, &EVERYBODY).await.unwrap();
    let error = work.rows[0].error.as_deref().unwrap();
    assert!(error.starts_with("V29__count.sql, line 2: "), "{error}");
    assert_eq!((ground.runs().await, ground.versions(0).await), (vec![0], vec![1]));
    let (name, sql) = count(29);
    ground.write((&name, sql));
    backend.close().await;
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 1, 0, 0]));
    assert_eq!((ground.runs().await, ground.versions(0).await), (vec![39], (1..=40).collect()));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_its_tenant_may_write_is_closed_by_the_next_migration() {
    let ground = Ground::with(2).await;
    ground.write(SECOND);
    let sql = ground.sql().await;
    let [open, closed] = [0, 1].map(|at| ground.schema(at));
    let grant = format!("GRANT INSERT ON {open}.refinery_schema_history TO {open}");
    sql.batch_execute(&grant).await.unwrap();
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]));
    for schema in [open, closed] {
        let may = format!(
            "SELECT has_table_privilege('{schema}', '{schema}.refinery_schema_history', 'INSERT')"
        );
        assert!(!sql.query_one(&may, &[]).await.unwrap().get::<_, bool>(0), "{schema}");
    }
    backend.close().await;
}
