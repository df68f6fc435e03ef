//! `rowhouse migrate` on the command line.

use serde_json::Value;

use super::fixture::{Fixture, MigrationLock, SECOND, WAITS_FOR_LOCK};
use crate::support::Snapshot;

fn lines(stdout: &str) -> Vec<Value> {
    let lines = stdout.lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plan_and_rehearse_print_pending_migrations_and_change_nothing() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    let program = fixture.program();
    let sql = fixture.sql().await;
    program.run(&["migrate", "--plan"]).expect(0);
    let before = Snapshot::take(&sql).await;
    let plan = program.run(&["migrate", "--plan"]).expect(0);
    assert_eq!(
        plan.stdout,
        "tenants: 0 current, 2 behind\n  2 at version 1 lack V2__add_mood.sql (t0, t1)\n"
    );
    let plan = program.run(&["migrate", "--plan", "--json"]).expect(0).json();
    assert_eq!(
        (&plan["behind_count"], &plan["behind"][0]["files"][0]),
        (&2.into(), &"V2__add_mood.sql".into())
    );
    let first = program.run(&["migrate", "--rehearse"]).expect(0);
    let prefix =
        format!("{}: would apply V2__add_mood.sql; all of it was rolled back\n", fixture.schema(0));
    let time = first.stdout.strip_prefix(&prefix).unwrap_or_else(|| panic!("{first:?}"));
    assert!(
        time.starts_with("  V2__add_mood.sql: ")
            && time.ends_with(" ms\na new tenant can be made from all files\n"),
        "{time}"
    );
    let named = program.run(&["migrate", "--rehearse", "t1", "--json"]).expect(0).json();
    assert_eq!((&named["schema"], &named["error"]), (&fixture.schema(1).into(), &Value::Null));
    let migration = &named["migrations"][0];
    assert_eq!(
        (&migration["file"], &migration["state"]),
        (&"V2__add_mood.sql".into(), &"applied".into())
    );
    assert!(migration["duration_ms"].as_f64().is_some_and(|time| time > 0.0), "{migration}");
    // No vacancy exists yet.
    let none = program.run(&["migrate", "--rehearse", "--vacancy"]).expect(4);
    assert!(none.stderr.contains("vacancy"), "{none:?}");
    program.run(&["migrate", "--rehearse", "t1", "--vacancy"]).expect(2);
    program.run(&["migrate", "--vacancy"]).expect(2);
    assert_eq!(Snapshot::take(&sql).await, before);

    fixture.write((SECOND.0, "SELECT 1;\nSELECT nonsense;"));
    let ran = program.run(&["migrate", "--rehearse"]).expect(1);
    assert!(ran.stdout.contains("would fail: V2__add_mood.sql, line 2: "), "{ran:?}");
    let no_tenant = "  V2__add_mood.sql: fails\nno new tenant can be made from the migrations: V2__add_mood.sql, line 2: ";
    assert!(ran.stdout.contains(no_tenant), "{ran:?}");
    program.run(&["migrate", "--rehearse", "unknown"]).expect(4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_canary_is_resumed_by_command_and_json_output_is_one_event_a_line() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let program = fixture.program();
    program.run(&["migrate", "status"]).expect(4);
    let ran = program.run(&["migrate", "--canary", "1"]).expect(0);
    assert!(ran.stdout.contains("tenants: 1 migrated, 2 not tried"), "{ran:?}");
    assert!(ran.stdout.contains("`rowhouse migrate resume` continues it"), "{ran:?}");
    let refused = program.run(&["migrate"]).expect(1);
    assert!(
        refused.stderr.contains("is paused") && refused.stderr.contains("migrate cancel"),
        "{refused:?}"
    );
    let status = program.run(&["migrate", "status", "--json"]).expect(0).json();
    assert_eq!((&status["state"], &status["pause_reason"]), (&"paused".into(), &"canary".into()));
    let resumed = program.run(&["migrate", "resume", "--json"]).expect(0);
    let events = lines(&resumed.stdout);
    assert_eq!(events[0]["event"], "begun");
    assert_eq!(events.iter().filter(|line| line["event"] == "tenant").count(), 2);
    let end = events.last().unwrap();
    assert_eq!((&end["event"], &end["operation"]["tenants"]["done"]), (&"end".into(), &3.into()));
    assert!(!resumed.stderr.contains('\u{1b}') && !resumed.stdout.contains('\u{1b}'));
    let status = program.run(&["migrate", "status"]).expect(0);
    assert!(status.stdout.contains(": done\ntenants: 3 migrated"), "{status:?}");
    program.run(&["migrate", "pause"]).expect(4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_tenants_are_retried_and_the_exit_code_tells_partial_from_complete() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let (program, sql) = (fixture.program(), fixture.sql().await);
    let rename = format!("ALTER TABLE {}.notes RENAME TO lost", fixture.schema(0));
    sql.batch_execute(&rename).await.unwrap();
    let ran = program.run(&["migrate", "--max-failures", "1", "--workers", "1"]).expect(3);
    assert!(ran.stdout.contains("1 failed: t0, 2 not tried"), "{ran:?}");
    program.run(&["migrate", "resume"]).expect(3);
    let repair = format!("ALTER TABLE {}.lost RENAME TO notes", fixture.schema(0));
    sql.batch_execute(&repair).await.unwrap();
    let ran = program.run(&["migrate", "--retry-failed"]).expect(0);
    assert!(ran.stdout.contains("tenants: 3 migrated"), "{ran:?}");
    assert_eq!(fixture.runs().await, [1; 3]);
    for arguments in [
        &["migrate", "--canary", "0"][..],
        &["migrate", "--go-on"],
        &["migrate", "--plan", "--retry-failed"],
        &["migrate", "--tenant", "unknown"],
        &["migrate", "--workers", "none"],
        &["migrate", "pause", "no-id"],
    ] {
        // Malformed arguments and unknown tenants are refused before any work starts.
        let ran = program.run(arguments);
        assert!(matches!(ran.code, Some(1 | 2)), "{arguments:?}: {ran:?}");
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_migrate_names_the_running_process_and_pause_stops_it() {
    let fixture = Fixture::with(3).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let program = fixture.program();
    let mut first = program
        .command(env!("CARGO_BIN_EXE_rowhouse"), &["migrate", "--workers", "1"])
        .spawn()
        .expect("the program starts");
    lock.wait_until_waiting().await;
    let refused = program.run(&["migrate"]).expect(1);
    let pid = format!("process {} on ", first.id());
    assert!(refused.stderr.contains(&pid) && refused.stderr.contains(" since "), "{refused:?}");
    let status = program.run(&["migrate", "status"]).expect(0);
    assert!(status.stdout.contains(": running, process "), "{status:?}");
    let paused = program.run(&["migrate", "pause"]).expect(0);
    assert!(paused.stdout.contains(": paused"), "{paused:?}");
    super::transitions::wait_for_two_heartbeats(&fixture.sql().await).await;
    lock.release().await;
    let code = first.wait().expect("the process ends").code();
    assert_eq!(code, Some(3));
    assert_eq!(fixture.runs().await.iter().sum::<i32>(), 1);
    program.run(&["migrate", "cancel"]).expect(0);
    program.run(&["migrate"]).expect(0);
    assert_eq!(fixture.runs().await, [1; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_on_the_control_plane_work_beside_files_that_are_refused() {
    let fixture = Fixture::with(1).await;
    fixture.write(("V2__reach.sql", "DROP TABLE IF EXISTS public.users CASCADE;"));
    let program = fixture.program();
    program.run(&["migrate"]).expect(1);
    for command in
        [&["member", "list", "t0"][..], &["tenant", "list"], &["tenant", "suspend", "t0"]]
    {
        program.run(command).expect(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_makes_no_new_tenant_is_told_once() {
    let fixture = Fixture::with(1).await;
    fixture.write(("V2__wrong.sql", "SELECT 1;\nSELECT nonsense;"));
    let ran = fixture.program().run(&["migrate"]).expect(1);
    assert_eq!(ran.stderr.matches("V2__wrong.sql, line 2: ").count(), 1, "{ran:?}");
    assert_eq!(fixture.versions(0).await, [1]);
}
