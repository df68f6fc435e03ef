//! Real servers in real folders. A parent that has to die is this very program, started again with
//! one ignored test to run.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio_postgres::{Config, NoTls, config::Host};

use super::{process::Watcher, *};

/// Tells the re-executed test program where to start a server.
const PARENT_DIR: &str = "ROWHOUSE_TEST_PARENT_DIR";
const SOON: Duration = Duration::from_secs(20);

fn settings(data_dir: &Path) -> Settings {
    Settings {
        data_dir: data_dir.to_path_buf(),
        bin_dir: None,
        durability: Durability::None,
        listen_tcp: None,
        max_connections: 20,
    }
}

async fn started(data_dir: &Path) -> Server {
    Server::start(&settings(data_dir)).await.expect("the server starts")
}

async fn refused(settings: &Settings) -> EmbeddedError {
    Server::start(settings).await.expect_err("the server does not start")
}

async fn ask(config: &Config, query: &str) -> String {
    let client = connect(config).await.expect("the server lets us in");
    client.query_one(query, &[]).await.expect("the query runs").get(0)
}

async fn execute(server: &Server, statements: &str) {
    let client = connect(&server.connect_config("rowhouse")).await.expect("the server lets us in");
    client.batch_execute(statements).await.expect("the statements run");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < SOON, "not soon: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn server_pid(data_dir: &Path) -> u32 {
    let text =
        fs::read_to_string(data_dir.join("postgres/postmaster.pid")).expect("a server is running");
    text.lines().next().unwrap().parse().unwrap()
}

/// Starts this program as another process that starts a server, writes one row and stays.
fn parent(data_dir: &Path) -> Child {
    let (_, module) = module_path!().split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::a_parent_to_be_killed"), "--ignored", "--nocapture"])
        .env(PARENT_DIR, data_dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_until_serving(parent: &mut Child) {
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("serving")), "the parent's server starts");
}

#[tokio::test]
#[ignore = "the parent that other tests start and kill"]
async fn a_parent_to_be_killed() {
    let Some(data_dir) = std::env::var_os(PARENT_DIR) else { return };
    let durable = Settings { durability: Durability::Full, ..settings(Path::new(&data_dir)) };
    let server = Server::start(&durable).await.unwrap();
    execute(&server, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('kept')").await;
    println!("serving");
    io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn it_starts_in_an_empty_folder_and_answers() {
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("with blank/and 'quote'");
    fs::create_dir_all(&data_dir).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let server = started(&data_dir).await;
    let config = server.connect_config("rowhouse");
    assert_eq!(
        ask(&config, "SELECT current_user || ' ' || current_database()").await,
        "rowhouse rowhouse"
    );
    assert_eq!(ask(&config, "SHOW server_encoding").await, "UTF8");
    assert_eq!(ask(&config, "SHOW listen_addresses").await, "");
    assert!(ask(&config, "SHOW server_version").await.starts_with(server.version()));
    assert_eq!(fs::metadata(server.socket_dir()).unwrap().mode() & 0o777, 0o700);
    server.stop().await.expect("it stops");
}

#[tokio::test]
async fn what_it_prints_for_people_and_programs_leads_to_it() {
    let folder = TempDir::new().unwrap();
    let server = started(folder.path()).await;
    let url: Config = server.database_url("rowhouse").parse().expect("the URL parses");
    assert_eq!(url.get_hosts(), [Host::Unix(server.socket_dir().to_path_buf())]);
    assert_eq!(ask(&url, "SELECT current_user::text").await, "rowhouse");
    let line = server.psql_line("rowhouse") + " -Atc 'SELECT 6 * 7'";
    let said = Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "42\n", "{line}: {said:?}");
}

#[tokio::test]
async fn the_runtime_login_gets_in_without_a_password() {
    let folder = TempDir::new().unwrap();
    let server = started(folder.path()).await;
    execute(&server, "CREATE ROLE rowhouse_runtime LOGIN").await;
    let config = server.connect_config("rowhouse").user("rowhouse_runtime").clone();
    assert_eq!(ask(&config, "SELECT current_user::text").await, "rowhouse_runtime");
}

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
async fn durability_is_on_unless_it_is_turned_off() {
    let folder = TempDir::new().unwrap();
    let durable = Settings { durability: Durability::Full, ..settings(folder.path()) };
    let query = "SELECT string_agg(setting, ' ' ORDER BY name) FROM pg_settings \
                 WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'data_checksums')";
    // The second start in the same folder: nothing lingers from the first.
    for (settings, expected) in
        [(settings(folder.path()), "on off off off"), (durable, "on on on on")]
    {
        let server = Server::start(&settings).await.expect("the server starts");
        assert_eq!(ask(&server.connect_config("rowhouse"), query).await, expected);
        server.stop().await.expect("it stops");
    }
}

#[tokio::test]
async fn a_killed_parent_takes_the_server_along_and_the_next_start_recovers() {
    let folder = TempDir::new().unwrap();
    let mut parent = parent(folder.path());
    wait_until_serving(&mut parent);
    let orphan = server_pid(folder.path());
    parent.kill().unwrap();
    // Not waiting for the orphan: that is for the next start to do.
    let server = started(folder.path()).await;
    assert_ne!(server_pid(folder.path()), orphan);
    // What is dead and not yet reaped works nowhere.
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
    soon("initdb is at work", busy).await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    let leftover = unfinished();
    assert!(!folder.path().join("postgres").exists(), "a half-made cluster is never in place");
    let server = started(folder.path()).await;
    assert_eq!(unfinished(), None, "swept: {leftover:?}");
    assert_eq!(ask(&server.connect_config("rowhouse"), "SELECT 'whole'").await, "whole");
}

#[tokio::test]
async fn a_live_server_on_the_folder_is_refused_with_its_process_id() {
    let folder = TempDir::new().unwrap();
    let server = started(folder.path()).await;
    let pid = server_pid(folder.path());
    let error = refused(&settings(folder.path())).await;
    assert!(
        matches!(error, EmbeddedError::AlreadyRunning { pid: named, .. } if named == pid),
        "{error}"
    );
    assert!(error.to_string().contains(&pid.to_string()), "{error}");
    assert_eq!(ask(&server.connect_config("rowhouse"), "SELECT 'unharmed'").await, "unharmed");
}

#[tokio::test]
async fn of_two_starts_at_once_exactly_one_wins() {
    let folder = TempDir::new().unwrap();
    let settings = settings(folder.path());
    let outcomes = tokio::join!(Server::start(&settings), Server::start(&settings));
    let (won, lost) = match outcomes {
        (Ok(server), Err(error)) | (Err(error), Ok(server)) => (server, error),
        both => panic!("one wins: {both:?}"),
    };
    assert!(matches!(lost, EmbeddedError::AlreadyRunning { .. }), "{lost}");
    assert_eq!(ask(&won.connect_config("rowhouse"), "SELECT 'one'").await, "one");
}

#[tokio::test]
async fn a_process_id_that_now_belongs_to_another_program_is_no_obstacle() {
    let folder = TempDir::new().unwrap();
    let server = started(folder.path()).await;
    let lock_file = folder.path().join("postgres/postmaster.pid");
    let text = fs::read_to_string(&lock_file).unwrap();
    let old = server_pid(folder.path());
    server.stop().await.expect("it stops");

    // Of the server's own account: PostgreSQL would take this one for a living server.
    let owner = fs::metadata(folder.path().join("postgres")).unwrap();
    let mut stranger = Command::new("sleep");
    if os::effective_uid() == 0 {
        stranger.uid(owner.uid()).gid(owner.gid());
    }
    let mut stranger = stranger.arg("60").spawn().unwrap();
    fs::write(&lock_file, text.replacen(&old.to_string(), &stranger.id().to_string(), 1)).unwrap();
    let outcome = Server::start(&settings(folder.path())).await;
    assert!(os::is_alive(stranger.id()), "strangers are left alone");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    outcome.expect("the server starts");
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_works_all_the_same() {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let data_dir = folder.path().join("l".repeat(60)).join("o".repeat(60));
    fs::create_dir_all(&data_dir).unwrap();
    let server = started(&data_dir).await;
    let socket_dir = server.socket_dir().to_path_buf();
    assert!(!socket_dir.starts_with(folder.path()), "{}", socket_dir.display());
    assert_eq!(ask(&server.connect_config("rowhouse"), "SELECT 'there'").await, "there");
    server.stop().await.expect("it stops");
    fs::remove_dir(socket_dir).expect("nothing is left in the folder of the socket");
}

#[tokio::test]
async fn tcp_asks_for_the_kept_password() {
    let folder = TempDir::new().unwrap();
    let settings = Settings { listen_tcp: Some(0), ..settings(folder.path()) };
    let server = Server::start(&settings).await.expect("the server starts");
    let port = server.tcp_port().expect("TCP was asked for");
    let first = server.database_url("rowhouse");
    assert_eq!(ask(&first.parse().unwrap(), "SELECT 'in'").await, "in");
    for password in ["", ":wrong"] {
        let url = format!("postgresql://rowhouse{password}@127.0.0.1:{port}/rowhouse");
        assert!(url.parse::<Config>().unwrap().connect(NoTls).await.is_err(), "{url}");
    }
    let password_file = folder.path().join("postgres-password");
    assert_eq!(fs::metadata(&password_file).unwrap().mode() & 0o777, 0o600);
    let kept = fs::read_to_string(&password_file).unwrap();
    assert!(!format!("{server:?}").contains(&kept), "the password stays out of logs");
    server.stop().await.expect("it stops");
    let server = Server::start(&settings).await.expect("the server starts");
    assert!(server.database_url("rowhouse").contains(&kept));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_server_is_never_root_and_out_of_reach_of_ctrl_c() {
    let folder = TempDir::new().unwrap();
    let server = started(folder.path()).await;
    let ours = folder.path().join("postgres");
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let working_here =
        |process: &PathBuf| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == ours);
    let mut seen = 0;
    for process in processes.filter(working_here) {
        let status = fs::read_to_string(process.join("status")).unwrap();
        let uids = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert!(uids.split_whitespace().skip(1).all(|uid| uid != "0"), "{uids}");
        seen += 1;
    }
    assert!(seen > 1, "the server and its workers, not {seen}");
    let pid = server.process.pid();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let group = stat.rsplit(')').next().unwrap().split_whitespace().nth(2).unwrap();
    assert_eq!(group, pid.to_string(), "a group of its own");
}

#[tokio::test]
async fn root_keeps_the_data_elsewhere_when_the_account_cannot_reach_it() {
    if os::effective_uid() != 0 {
        return;
    }
    // Of mode 0700, and not the data dir itself: like a checkout under /root.
    let closed = TempDir::new().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let data_dir = closed.path().join(".rowhouse");
    for expected in ["1", "2"] {
        let server = started(&data_dir).await;
        execute(
            &server,
            "CREATE TABLE IF NOT EXISTS starts (n int); INSERT INTO starts VALUES (1)",
        )
        .await;
        let counted =
            ask(&server.connect_config("rowhouse"), "SELECT count(*)::text FROM starts").await;
        assert_eq!(counted, expected, "both starts find the same data");
        server.stop().await.expect("it stops");
    }
    assert_eq!(
        fs::metadata(closed.path()).unwrap().mode() & 0o777,
        0o700,
        "other folders are left as they are"
    );
    let cluster = fs::read_link(data_dir.join("postgres")).expect("a link leads to the data");
    fs::remove_dir_all(cluster.parent().unwrap()).unwrap();
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
async fn a_server_that_cannot_start_shows_its_log() {
    let folder = TempDir::new().unwrap();
    let error = refused(&Settings { max_connections: 0, ..settings(folder.path()) }).await;
    assert!(
        matches!(&error, EmbeddedError::Exited { log, .. } if log.contains("max_connections")),
        "{error}"
    );
}

#[tokio::test]
async fn a_folder_without_programs_is_named_and_nothing_is_created() {
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("data");
    let error =
        refused(&Settings { bin_dir: Some(folder.path().to_path_buf()), ..settings(&data_dir) })
            .await;
    assert!(matches!(error, EmbeddedError::BinariesNotThere { .. }), "{error}");
    assert!(!data_dir.exists());
}

#[tokio::test]
async fn a_server_that_is_too_old_is_named_with_its_folder() {
    let folder = TempDir::new().unwrap();
    // Written by another process: a file that this one has open for writing while a test beside us
    // forks could not be run (ETXTBSY).
    let script = "cd \"$0\" && echo '#!/bin/sh\necho \"postgres (PostgreSQL) 13.4\"' > postgres \
                  && cp postgres initdb && chmod +x postgres initdb";
    let made = Command::new("/bin/sh")
        .args([OsStr::new("-c"), OsStr::new(script), folder.path().as_os_str()])
        .status();
    assert!(made.unwrap().success());
    let named = Settings {
        bin_dir: Some(folder.path().to_path_buf()),
        ..settings(&folder.path().join("data"))
    };
    let error = refused(&named).await.to_string();
    assert!(error.contains("13.4") && error.contains(&*folder.path().to_string_lossy()), "{error}");
}

#[tokio::test]
async fn data_of_another_major_version_is_refused_and_both_are_named() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("postgres")).unwrap();
    fs::write(folder.path().join("postgres/PG_VERSION"), "12\n").unwrap();
    let error = refused(&settings(folder.path())).await;
    assert!(matches!(error, EmbeddedError::OtherMajorVersion { made_by: 12, .. }), "{error}");
    assert!(error.to_string().contains("pg_upgrade"), "{error}");
}

#[tokio::test]
async fn a_folder_that_is_no_cluster_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let precious = folder.path().join("postgres/precious");
    fs::create_dir(folder.path().join("postgres")).unwrap();
    fs::write(&precious, "x").unwrap();
    let nobodys = refused(&settings(folder.path())).await;
    assert!(
        matches!(nobodys, EmbeddedError::NotACluster { .. } | EmbeddedError::NotOurs { .. }),
        "{nobodys}"
    );
    assert!(precious.exists());
}

#[test]
fn the_watcher_stops_its_process_only_when_our_end_of_the_pipe_closes_unsaid() {
    let sleeper = || Command::new("sleep").arg("60").spawn().unwrap();
    let (mut watched, mut dismissed) = (sleeper(), sleeper());
    Watcher::start(dismissed.id()).unwrap().dismiss();
    drop(Watcher::start(watched.id()).unwrap());
    assert!(!watched.wait().unwrap().success(), "stopped by the watcher");
    assert!(dismissed.try_wait().unwrap().is_none(), "left alone");
    dismissed.kill().unwrap();
    dismissed.wait().unwrap();
}
