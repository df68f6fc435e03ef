//! Starts that are refused, and their errors.

use crate::embedded::tests::*;

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
async fn exactly_one_of_two_concurrent_starts_succeeds() {
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
    // Another process writes the files: a file that this process has open for writing while a parallel test
    // forks cannot be executed (ETXTBSY).
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
    let error = refused(&settings(folder.path())).await;
    assert!(
        matches!(error, EmbeddedError::NotACluster { .. } | EmbeddedError::NotOurs { .. }),
        "{error}"
    );
    assert!(precious.exists());
}
