//! Several processes on one data dir: they share one server, and nobody stops it under another. A process is
//! played by a call here: the locks are of the open file, not of the process.

use crate::embedded::tests::*;

async fn reached(data_dir: &Path) -> (Config, ServerHandle) {
    attach_or_start(&settings(data_dir), "rowhouse").await.expect("there is a server")
}

/// The server of the one who started it.
fn own(host: ServerHandle) -> Server {
    match host {
        ServerHandle::Own(server) => *server,
        ServerHandle::Other(_) => panic!("it is another's server"),
    }
}

fn is_guest(host: &ServerHandle) -> bool {
    matches!(host, ServerHandle::Other(_))
}

#[tokio::test]
async fn a_server_is_not_stopped_under_a_guest() {
    let folder = TempDir::new().unwrap();
    let (_, host) = reached(folder.path()).await;
    let pid = server_pid(folder.path());
    let (config, usage) = reached(folder.path()).await;
    assert!(is_guest(&usage));
    let client = connect(&config).await.unwrap();
    let mut stopping = tokio::spawn(own(host).stop());
    // Long enough for a server that is told to stop to be gone; one that is not told never is.
    let early = tokio::time::timeout(Duration::from_secs(1), &mut stopping).await;
    assert!(early.is_err(), "it waits for its guest");
    // Who comes now is let in, and keeps it going when the first guest leaves.
    let (_, second) = reached(folder.path()).await;
    assert!(is_guest(&second));
    drop(usage);
    let row =
        client.query_one("SELECT 'still here'::text", &[]).await.expect("the server is there");
    assert_eq!(row.get::<_, &str>(0), "still here");
    assert!(!stopping.is_finished());
    assert_eq!(server_pid(folder.path()), pid);
    drop(second);
    stopping.await.unwrap().expect("it stops when the last guest has gone");
    assert!(!folder.path().join("postgres/postmaster.pid").exists());
}

#[tokio::test]
async fn of_many_who_come_at_once_one_starts_the_server_and_all_work_on_it() {
    let folder = TempDir::new().unwrap();
    let settings = settings(folder.path());
    let visits = (0..6).map(|_| {
        let settings = settings.clone();
        tokio::spawn(async move {
            let (config, host) = attach_or_start(&settings, "rowhouse").await.expect("a server");
            assert_eq!(ask(&config, "SELECT current_database()::text").await, "rowhouse");
            if let ServerHandle::Own(server) = host {
                server.stop().await.expect("it stops");
            }
        })
    });
    for visit in visits.collect::<Vec<_>>() {
        visit.await.unwrap();
    }
    assert!(!folder.path().join("postgres/postmaster.pid").exists());
}

#[tokio::test]
async fn a_server_that_stays_waits_for_one_of_a_command_and_refuses_one_that_stays() {
    let folder = TempDir::new().unwrap();
    let (_, host) = reached(folder.path()).await;
    let wish = settings(folder.path());
    let staying = tokio::spawn(async move { Server::start_to_stay(&wish).await });
    tokio::task::yield_now().await;
    own(host).stop().await.expect("it stops");
    let server = staying.await.unwrap().expect("it starts when the command is done");
    let refused = Server::start_to_stay(&settings(folder.path())).await;
    assert!(matches!(refused, Err(EmbeddedError::AlreadyRunning { .. })), "{refused:?}");
    let (config, usage) = reached(folder.path()).await;
    assert!(is_guest(&usage));
    assert_eq!(ask(&config, "SELECT 'fine'::text").await, "fine");
    drop(usage);
    server.stop().await.expect("it stops");
}
