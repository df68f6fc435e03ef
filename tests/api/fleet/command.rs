//! `rowhouse migrate` as its users type it.

use serde_json::Value;

use super::ground::{GATED, Gate, Ground, SECOND};
use crate::support::Snapshot;

fn lines(stdout: &str) -> Vec<Value> {
    let lines = stdout.lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plan_and_rehearse_tell_what_would_be_done_and_do_nothing() {
    let ground = Ground::with(2).await;
    ground.write(SECOND);
    let program = ground.program();
    let sql = ground.sql().await;
    program.run(&["migrate", "--plan"]).expect(0);
    let before = Snapshot::take(&sql).await;
    let plan = program.run(&["migrate", "--plan"]).expect(0);
    assert_eq!(
        plan.stdout,
        "tenants: 0 current, 2 behind\n  2 at version 1 lack V2__add_mood.sql (t0, t1)\n"
    );
    let plan = program.run(&["migrate", "--plan", "--json"]).expect(0).json();
    assert_eq!(
        (&plan["behindCount"], &plan["behind"][0]["files"][0]),
        (&2.into(), &"V2__add_mood.sql".into())
    );
    let first = program.run(&["migrate", "--rehearse"]).expect(0);
    let words =
        format!("{}: would apply V2__add_mood.sql; all of it was taken back\n", ground.schema(0));
    let time = first.stdout.strip_prefix(&words).unwrap_or_else(|| panic!("{first:?}"));
    assert!(time.starts_with("  V2__add_mood.sql: ") && time.ends_with(" ms\n"), "{time}");
    let named = program.run(&["migrate", "--rehearse", "t1", "--json"]).expect(0).json();
    assert_eq!((&named["schema"], &named["error"]), (&ground.schema(1).into(), &Value::Null));
    let tried = &named["migrations"][0];
    assert_eq!((&tried["file"], &tried["state"]), (&"V2__add_mood.sql".into(), &"applied".into()));
    assert!(tried["durationMs"].as_f64().is_some_and(|time| time > 0.0), "{tried}");
    // There is none yet; with one, the tenants need not be asked.
    let none = program.run(&["migrate", "--rehearse", "--vacancy"]).expect(1);
    assert!(none.stderr.contains("vacancy"), "{none:?}");
    program.run(&["migrate", "--rehearse", "t1", "--vacancy"]).expect(2);
    program.run(&["migrate", "--vacancy"]).expect(2);
    assert_eq!(Snapshot::take(&sql).await, before);

    ground.write((SECOND.0, "SELECT 1;\nSELECT nonsense;"));
    let ran = program.run(&["migrate", "--rehearse"]).expect(1);
    assert!(ran.stdout.contains("would fail: V2__add_mood.sql, line 2: "), "{ran:?}");
    assert!(ran.stdout.ends_with("  V2__add_mood.sql: fails\n"), "{ran:?}");
    program.run(&["migrate", "--rehearse", "nobody"]).expect(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_is_resumed_by_a_word_and_machines_read_lines() {
    let ground = Ground::with(3).await;
    ground.write(SECOND);
    let program = ground.program();
    program.run(&["migrate", "status"]).expect(1);
    let ran = program.run(&["migrate", "--canary", "1"]).expect(0);
    assert!(ran.stdout.contains("tenants: 1 migrated, 2 not tried"), "{ran:?}");
    assert!(ran.stdout.contains("`rowhouse migrate resume` goes on"), "{ran:?}");
    let refused = program.run(&["migrate"]).expect(1);
    assert!(
        refused.stderr.contains("is paused") && refused.stderr.contains("migrate cancel"),
        "{refused:?}"
    );
    let status = program.run(&["migrate", "status", "--json"]).expect(0).json();
    assert_eq!((&status["state"], &status["pauseReason"]), (&"paused".into(), &"canary".into()));
    let resumed = program.run(&["migrate", "resume", "--json"]).expect(0);
    let told = lines(&resumed.stdout);
    assert_eq!(told[0]["event"], "begun");
    assert_eq!(told.iter().filter(|line| line["event"] == "tenant").count(), 2);
    let end = told.last().unwrap();
    assert_eq!((&end["event"], &end["operation"]["migratedCount"]), (&"end".into(), &3.into()));
    assert!(!resumed.stderr.contains('\u{1b}') && !resumed.stdout.contains('\u{1b}'));
    let status = program.run(&["migrate", "status"]).expect(0);
    assert!(status.stdout.contains(": done\ntenants: 3 migrated"), "{status:?}");
    program.run(&["migrate", "pause"]).expect(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_tried_again_and_the_exit_code_tells_parts_from_wholes() {
    let ground = Ground::with(3).await;
    ground.write(SECOND);
    let (program, sql) = (ground.program(), ground.sql().await);
    let rename = format!("ALTER TABLE {}.notes RENAME TO lost", ground.schema(0));
    sql.batch_execute(&rename).await.unwrap();
    let ran = program.run(&["migrate", "--max-failures", "1", "--workers", "1"]).expect(3);
    assert!(ran.stdout.contains("1 failed: t0, 2 not tried"), "{ran:?}");
    program.run(&["migrate", "resume"]).expect(3);
    let mend = format!("ALTER TABLE {}.lost RENAME TO notes", ground.schema(0));
    sql.batch_execute(&mend).await.unwrap();
    let ran = program.run(&["migrate", "--retry-failed"]).expect(0);
    assert!(ran.stdout.contains("tenants: 3 migrated"), "{ran:?}");
    assert_eq!(ground.runs().await, [1; 3]);
    for wrong in [
        &["migrate", "--canary", "0"][..],
        &["migrate", "--go-on"],
        &["migrate", "--plan", "--retry-failed"],
        &["migrate", "--tenant", "nobody"],
        &["migrate", "--workers", "none"],
        &["migrate", "pause", "no-id"],
    ] {
        // Named before anything is done, where it is wrong by its form; an unknown tenant is one, too.
        let ran = program.run(wrong);
        assert!(matches!(ran.code, Some(1 | 2)), "{wrong:?}: {ran:?}");
        assert!(!ran.stderr.is_empty(), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_command_names_the_first_and_a_third_pauses_it() {
    let ground = Ground::with(3).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let program = ground.program();
    let mut first = program
        .command(env!("CARGO_BIN_EXE_rowhouse"), &["migrate", "--workers", "1"])
        .spawn()
        .expect("the program starts");
    gate.reached(&ground).await;
    let refused = program.run(&["migrate"]).expect(1);
    let pid = format!("process {} on ", first.id());
    assert!(refused.stderr.contains(&pid) && refused.stderr.contains(" since "), "{refused:?}");
    let status = program.run(&["migrate", "status"]).expect(0);
    assert!(status.stdout.contains(": running, process "), "{status:?}");
    let paused = program.run(&["migrate", "pause"]).expect(0);
    assert!(paused.stdout.contains(": paused"), "{paused:?}");
    super::moves::heard_twice(&ground.sql().await).await;
    gate.open().await;
    let code = first.wait().expect("it ends").code();
    assert_eq!(code, Some(3));
    assert_eq!(ground.runs().await.iter().sum::<i32>(), 1);
    program.run(&["migrate", "cancel"]).expect(0);
    program.run(&["migrate"]).expect(0);
    assert_eq!(ground.runs().await, [1; 3]);
}
