//! A running server: its settings, its connections, its account.

use crate::embedded::tests::*;

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
    assert_eq!(ask(&config, "SHOW timezone").await, "UTC");
    assert_eq!(ask(&config, "SHOW listen_addresses").await, "");
    assert!(ask(&config, "SHOW server_version").await.starts_with(server.version()));
    assert_eq!(fs::metadata(server.socket_dir()).unwrap().mode() & 0o777, 0o700);
    server.stop().await.expect("it stops");
}

#[tokio::test]
async fn its_url_and_psql_command_connect_to_it() {
    let folder = TempDir::new().unwrap();
    let server = started(folder.path()).await;
    let url: Config = server.database_url("rowhouse").parse().expect("the URL parses");
    assert_eq!(url.get_hosts(), [Host::Unix(server.socket_dir().to_path_buf())]);
    assert_eq!(ask(&url, "SELECT current_user::text").await, "rowhouse");
    let line = server.psql_line("rowhouse") + " -Atc 'SELECT 6 * 7'";
    // The caller's variables of libpq are for another server.
    let mut shell = Command::new("/bin/sh");
    let path = std::env::var_os("PATH").unwrap_or_default();
    shell.args(["-c", &line]).env_clear().env("PATH", path);
    let output = shell.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{line}: {output:?}");
}

#[tokio::test]
async fn the_runtime_login_connects_without_a_password() {
    let folder = TempDir::new().unwrap();
    let server = started(folder.path()).await;
    execute(&server, "CREATE ROLE rowhouse_runtime LOGIN").await;
    let config = server.connect_config("rowhouse").user("rowhouse_runtime").clone();
    assert_eq!(ask(&config, "SELECT current_user::text").await, "rowhouse_runtime");
}

#[tokio::test]
async fn durability_is_on_unless_it_is_turned_off() {
    let folder = TempDir::new().unwrap();
    let durable = Settings { durability: Durability::Full, ..settings(folder.path()) };
    let query = "SELECT string_agg(setting, ' ' ORDER BY name) FROM pg_settings \
                 WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'data_checksums')";
    // The second start in the same folder keeps no setting of the first.
    for (settings, expected) in
        [(settings(folder.path()), "on off off off"), (durable, "on on on on")]
    {
        let server = Server::start(&settings).await.expect("the server starts");
        assert_eq!(ask(&server.connect_config("rowhouse"), query).await, expected);
        server.stop().await.expect("it stops");
    }
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_still_works() {
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
async fn tcp_requires_the_stored_password() {
    let folder = TempDir::new().unwrap();
    let settings = Settings { listen_tcp: Some(0), ..settings(folder.path()) };
    let server = Server::start(&settings).await.expect("the server starts");
    let port = server.tcp_port().expect("TCP is on");
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
async fn the_server_never_runs_as_root_and_ctrl_c_does_not_reach_it() {
    let folder = TempDir::new().unwrap();
    let server = started(folder.path()).await;
    let pid = server.process.pid();
    let field = |status: &str, name: &str| {
        let line =
            status.lines().find(|line| line.starts_with(name)).expect("a status has every field");
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut seen = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(status) = fs::read_to_string(process.path().join("status")) else { continue };
        if [field(&status, "Pid:"), field(&status, "PPid:")].concat().contains(&pid.to_string()) {
            let uids = field(&status, "Uid:");
            assert!(uids.iter().all(|uid| uid != "0"), "{uids:?}");
            seen += 1;
        }
    }
    assert!(seen > 1, "the server and its workers, not {seen}");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let group = stat.rsplit(')').next().unwrap().split_whitespace().nth(2).unwrap();
    assert_eq!(group, pid.to_string(), "its own process group");
}

#[tokio::test]
async fn root_keeps_the_data_elsewhere_when_the_account_cannot_reach_it() {
    if os::effective_uid() != 0 {
        return;
    }
    // A parent folder of mode 0700, as for a checkout under /root.
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
        "the permissions of other folders are unchanged"
    );
    let cluster = fs::read_link(data_dir.join("postgres")).expect("a link leads to the data");
    fs::remove_dir_all(cluster.parent().unwrap()).unwrap();
}
