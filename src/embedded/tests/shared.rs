//! One server for several processes, which ends with the last of them. Where no process is killed, each call of
//! `attach_or_start` acts as a process: the system counts open files, not processes.

use crate::embedded::tests::*;

/// Tells the re-executed test program which server to use.
const SHARED_DIR: &str = "ROWHOUSE_TEST_SHARED_DIR";
const GRACE: Duration = Duration::from_secs(1);

async fn attached(data_dir: &Path) -> SharedServer {
    let server = SharedServer::attach_or_start(&settings(data_dir), GRACE).await;
    server.expect("there is a server")
}

/// The folder in which the server really is: another one if its account cannot enter the folder of the test.
fn home(data_dir: &Path) -> PathBuf {
    fs::canonicalize(data_dir.join("postgres")).expect("there is a cluster")
}

/// Starts this program as another process, which uses the server and waits.
fn user(data_dir: &Path) -> Child {
    let (_, module) = module_path!().split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::a_user_to_be_killed"), "--ignored", "--nocapture"])
        .env(SHARED_DIR, data_dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "the process that other tests start and kill"]
async fn a_user_to_be_killed() {
    let Some(data_dir) = std::env::var_os(SHARED_DIR) else { return };
    let _server = attached(Path::new(&data_dir)).await;
    println!("serving");
    io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

fn kill(mut child: Child) {
    child.kill().expect("it can be killed");
    child.wait().expect("it has ended");
}

async fn ends(top: &TempDir, pid: u32, home: &Path) {
    soon("the server has ended", || !stale_server::is_program_on(pid, home)).await;
    soon("nothing is left", || names(top.path()).is_empty() && !home.exists()).await;
}

#[tokio::test]
async fn a_shared_server_ends_with_the_last_process_that_used_it_and_leaves_nothing() {
    let top = TempDir::new().unwrap();
    let folder = top.path().join("shared");
    let mut first = user(&folder);
    wait_until_serving(&mut first);
    let (pid, home) = (server_pid(&folder), home(&folder));
    let mut second = user(&folder);
    wait_until_serving(&mut second);
    assert_eq!(server_pid(&folder), pid, "both use one server");
    // The one that started it.
    kill(first);
    let third = attached(&folder).await;
    tokio::time::sleep(GRACE * 2).await;
    assert_eq!(ask(&third.connect_config("postgres"), "SELECT 'still here'").await, "still here");
    assert_eq!(server_pid(&folder), pid);
    drop(third);
    kill(second);
    ends(&top, pid, &home).await;
}

#[tokio::test]
async fn the_next_process_finds_the_server_running_that_the_last_has_just_left() {
    let top = TempDir::new().unwrap();
    let folder = top.path().join("shared");
    let mut pids = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let server = attached(&folder).await;
        assert_eq!(ask(&server.connect_config("postgres"), "SELECT 'there'").await, "there");
        pids.insert(server_pid(&folder));
    }
    assert_eq!(pids.len(), 1, "it was not started again: {pids:?}");
    let (pid, home) = (server_pid(&folder), home(&folder));
    ends(&top, pid, &home).await;
}

#[tokio::test]
async fn of_many_processes_one_starts_the_server_and_all_use_it() {
    let top = TempDir::new().unwrap();
    let folder = top.path().join("shared");
    let users: Vec<_> = (0..8)
        .map(|_| {
            let folder = folder.clone();
            tokio::spawn(async move {
                let server = attached(&folder).await;
                ask(&server.connect_config("postgres"), "SELECT pg_postmaster_start_time()::text")
                    .await
            })
        })
        .collect();
    let mut started = std::collections::BTreeSet::new();
    for user in users {
        started.insert(user.await.unwrap());
    }
    assert_eq!(started.len(), 1, "{started:?}");
}

#[tokio::test]
async fn a_start_that_is_killed_at_any_moment_leaves_nothing() {
    for milliseconds in [20, 60, 120, 250, 500, 900] {
        let top = TempDir::new().unwrap();
        let folder = top.path().join("shared");
        let starting = user(&folder);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        kill(starting);
        // A process that is killed before it has started the watcher leaves its folder, with a lock file, to the next.
        soon("nothing is left", || {
            names(top.path()).is_empty()
                || fs::read_dir(&folder).is_ok_and(|entries| entries.count() == 1)
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_whose_watcher_was_killed_is_replaced() {
    let top = TempDir::new().unwrap();
    let folder = top.path().join("shared");
    let first = attached(&folder).await;
    let (pid, old_home) = (server_pid(&folder), home(&folder));
    let watcher = fs::read_to_string(folder.join("watcher.pid")).unwrap();
    os::send_signal(watcher.parse().unwrap(), libc::SIGKILL).unwrap();
    let stat = format!("/proc/{}/stat", watcher.trim());
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(first);
    let second = attached(&folder).await;
    assert_eq!(ask(&second.connect_config("postgres"), "SELECT 'there'").await, "there");
    assert_ne!(server_pid(&folder), pid);
    assert!(!stale_server::is_program_on(pid, &old_home), "the old server has ended");
    let (pid, home) = (server_pid(&folder), home(&folder));
    drop(second);
    ends(&top, pid, &home).await;
}

#[tokio::test]
async fn without_server_programs_nothing_is_created() {
    let top = TempDir::new().unwrap();
    let folder = top.path().join("shared");
    let settings = Settings { bin_dir: Some(top.path().to_path_buf()), ..settings(&folder) };
    let refused = SharedServer::attach_or_start(&settings, GRACE).await.unwrap_err();
    assert!(matches!(refused, EmbeddedError::BinariesNotThere { .. }), "{refused}");
    assert_eq!(names(top.path()), Vec::<String>::new());
}
