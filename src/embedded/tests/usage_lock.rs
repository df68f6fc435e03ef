//! Several processes on one data dir share one server, which is not stopped while another process uses it. Here
//! each call of `attach_or_start` acts as a process: the locks belong to the open file, not to the process.

use crate::embedded::tests::*;

async fn attached(data_dir: &Path) -> (Config, ServerHandle) {
    attach_or_start(&settings(data_dir), "rowhouse").await.expect("there is a server")
}

/// The server of the process that started it.
fn own(handle: ServerHandle) -> Server {
    match handle {
        ServerHandle::Own(server) => *server,
        ServerHandle::Other(_) => panic!("another process started the server"),
    }
}

fn is_other(handle: &ServerHandle) -> bool {
    matches!(handle, ServerHandle::Other(_))
}

#[tokio::test]
async fn a_server_is_not_stopped_while_another_process_uses_it() {
    let folder = TempDir::new().unwrap();
    let (_, handle) = attached(folder.path()).await;
    let pid = server_pid(folder.path());
    let (config, usage) = attached(folder.path()).await;
    assert!(is_other(&usage));
    let client = connect(&config).await.unwrap();
    let mut stopping = tokio::spawn(own(handle).stop());
    // Long enough for a server to stop if it had been told to.
    let early = tokio::time::timeout(Duration::from_secs(1), &mut stopping).await;
    assert!(early.is_err(), "it waits for the other process");
    // A process that attaches now succeeds, and keeps the server running when the first one has finished.
    let (_, second) = attached(folder.path()).await;
    assert!(is_other(&second));
    drop(usage);
    let row =
        client.query_one("SELECT 'still here'::text", &[]).await.expect("the server is there");
    assert_eq!(row.get::<_, &str>(0), "still here");
    assert!(!stopping.is_finished());
    assert_eq!(server_pid(folder.path()), pid);
    drop(second);
    stopping.await.unwrap().expect("it stops when the last process has finished");
    assert!(!folder.path().join("postgres/postmaster.pid").exists());
}

#[tokio::test]
async fn one_of_many_concurrent_processes_starts_the_server_and_all_use_it() {
    let folder = TempDir::new().unwrap();
    let settings = settings(folder.path());
    let commands = (0..6).map(|_| {
        let settings = settings.clone();
        tokio::spawn(async move {
            let (config, handle) = attach_or_start(&settings, "rowhouse").await.expect("a server");
            assert_eq!(ask(&config, "SELECT current_database()::text").await, "rowhouse");
            if let ServerHandle::Own(server) = handle {
                server.stop().await.expect("it stops");
            }
        })
    });
    for command in commands.collect::<Vec<_>>() {
        command.await.unwrap();
    }
    assert!(!folder.path().join("postgres/postmaster.pid").exists());
}

#[tokio::test]
async fn a_long_running_start_waits_for_an_ephemeral_server_and_refuses_a_long_running_one() {
    let folder = TempDir::new().unwrap();
    let (_, handle) = attached(folder.path()).await;
    let settings_of_second = settings(folder.path());
    let staying = tokio::spawn(async move { Server::start_to_stay(&settings_of_second).await });
    tokio::task::yield_now().await;
    own(handle).stop().await.expect("it stops");
    let server = staying.await.unwrap().expect("it starts when the command is done");
    let refused = Server::start_to_stay(&settings(folder.path())).await;
    assert!(matches!(refused, Err(EmbeddedError::AlreadyRunning { .. })), "{refused:?}");
    let (config, usage) = attached(folder.path()).await;
    assert!(is_other(&usage));
    assert_eq!(ask(&config, "SELECT 'fine'::text").await, "fine");
    drop(usage);
    server.stop().await.expect("it stops");
}
