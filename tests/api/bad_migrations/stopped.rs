//! A file that hangs where no tenant is migrated yet: in the tenant that is built to prove that new ones can be made.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::Fixture;
use crate::fleet::kills::signal;

const SLEEPERS: &str = "SELECT count(*) FROM pg_stat_activity
                         WHERE datname = current_database() AND wait_event = 'PgSleep'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_a_run_that_hangs_before_the_first_tenant_and_nothing_is_left() {
    let fixture = Fixture::new().await;
    fixture.program().create_tenant("acme").expect(0);
    fixture.write("V2__sleep.sql", "CREATE TABLE second ();\nSELECT pg_sleep(3600);\n");
    let program = fixture.program();
    let mut process = program.command(env!("CARGO_BIN_EXE_rowhouse"), &["migrate"]);
    let mut process =
        process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    while fixture.number(SLEEPERS).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let began = Instant::now();
    signal("INT", process.id());
    let ended = process.wait().expect("the process ends");
    assert!(ended.code() == Some(1) && began.elapsed() < Duration::from_secs(10), "{ended:?}");
    // The statement was cancelled, and does not sleep on.
    while fixture.number(SLEEPERS).await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fixture.assert_nothing_is_left(1).await;
    let plan = program.run(&["migrate", "--plan"]).expect(0);
    assert!(plan.stdout.contains("lack V2__sleep.sql (acme)"), "{plan:?}");
    fixture.write("V2__sleep.sql", "CREATE TABLE second ();\n");
    program.run(&["migrate"]).expect(0);
}
