//! Stopped, dropped and killed servers, and the next start after each.

use crate::embedded::tests::*;

#[tokio::test]
async fn a_second_start_keeps_the_data() {
    let folder = TempDir::new().unwrap();
    let server = started(folder.path()).await;
    execute(&server, "CREATE TABLE kept AS SELECT 'kept'::text AS word").await;
    server.stop().await.expect("it stops");
    let server = started(folder.path()).await;
    assert_eq!(ask(&server.connect_config("rowhouse"), "SELECT word FROM kept").await, "kept");
}

#[tokio::test]
async fn a_dropped_server_stops() {
    let folder = TempDir::new().unwrap();
    let server = started(folder.path()).await;
    let pid = server.process.pid();
    drop(server);
    soon("the dropped server is gone", || !os::is_alive(pid)).await;
}

#[tokio::test]
async fn a_killed_parent_takes_the_server_along_and_the_next_start_recovers() {
    let folder = TempDir::new().unwrap();
    let mut parent = parent(folder.path());
    wait_until_serving(&mut parent);
    let orphan = server_pid(folder.path());
    parent.kill().unwrap();
    // The next start waits for the orphaned server.
    let server = started(folder.path()).await;
    assert_ne!(server_pid(folder.path()), orphan);
    // A zombie has no working folder.
    #[cfg(target_os = "linux")]
    assert!(fs::read_link(format!("/proc/{orphan}/cwd")).is_err(), "{orphan} is gone");
    assert_eq!(ask(&server.connect_config("rowhouse"), "SELECT word FROM kept").await, "kept");
    parent.wait().unwrap();
}

#[tokio::test]
async fn a_server_that_is_killed_with_its_parent_recovers() {
    let folder = TempDir::new().unwrap();
    let mut parent = parent(folder.path());
    wait_until_serving(&mut parent);
    os::send_signal(server_pid(folder.path()), libc::SIGKILL).unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    let server = started(folder.path()).await;
    assert_eq!(ask(&server.connect_config("rowhouse"), "SELECT word FROM kept").await, "kept");
}

#[tokio::test]
async fn an_interrupted_initdb_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let mut parent = parent(folder.path());
    let unfinished =
        || names(folder.path()).into_iter().find(|name| name.starts_with("postgres.tmp-"));
    let busy = || unfinished().is_some_and(|name| folder.path().join(name).join("base").exists());
    soon("initdb is running", busy).await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    let leftover = unfinished();
    assert!(!folder.path().join("postgres").exists(), "a half-made cluster is never in place");
    let server = started(folder.path()).await;
    assert_eq!(unfinished(), None, "removed: {leftover:?}");
    assert_eq!(ask(&server.connect_config("rowhouse"), "SELECT 'whole'").await, "whole");
}

#[tokio::test]
async fn a_process_id_that_now_belongs_to_another_program_does_not_prevent_a_start() {
    let folder = TempDir::new().unwrap();
    let server = started(folder.path()).await;
    let lock_file = folder.path().join("postgres/postmaster.pid");
    let text = fs::read_to_string(&lock_file).unwrap();
    let old = server_pid(folder.path());
    server.stop().await.expect("it stops");

    // Of the server's own account: PostgreSQL would regard such a process as a running server.
    let owner = fs::metadata(folder.path().join("postgres")).unwrap();
    let mut other = Command::new("sleep");
    if os::effective_uid() == 0 {
        other.uid(owner.uid()).gid(owner.gid());
    }
    let mut other = other.arg("60").spawn().unwrap();
    fs::write(&lock_file, text.replacen(&old.to_string(), &other.id().to_string(), 1)).unwrap();
    let outcome = Server::start(&settings(folder.path())).await;
    assert!(os::is_alive(other.id()), "the other program still runs");
    other.kill().unwrap();
    other.wait().unwrap();
    outcome.expect("the server starts");
}

#[test]
fn the_watcher_stops_its_process_only_when_the_pipe_closes_without_a_line() {
    let sleeper = || Command::new("sleep").arg("60").spawn().unwrap();
    let (mut watched, mut dismissed) = (sleeper(), sleeper());
    Watcher::start(dismissed.id()).unwrap().dismiss();
    drop(Watcher::start(watched.id()).unwrap());
    assert!(!watched.wait().unwrap().success(), "stopped by the watcher");
    assert!(dismissed.try_wait().unwrap().is_none(), "left alone");
    dismissed.kill().unwrap();
    dismissed.wait().unwrap();
}
