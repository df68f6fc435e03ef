//! The connections that the servers on one PostgreSQL server may open together, and those that it gives.

use rowhouse::embedded::{Durability, Server, Settings as ServerSettings};

use crate::support::{Program, SECRET_KEY};

/// Starts a PostgreSQL server with few connections, of which three are reserved for superusers.
async fn postgres(folder: &std::path::Path, max_connections: u16) -> Server {
    let settings = ServerSettings {
        data_dir: folder.to_owned(),
        bin_dir: None,
        durability: Durability::None,
        listen_tcp: None,
        max_connections,
    };
    Server::start(&settings).await.expect("the server starts")
}

fn program(server: &Server, budget: &str) -> Program {
    Program::embedded()
        .with("DATABASE_URL", &server.database_url("rowhouse"))
        .with("ROWHOUSE_SECRET_KEY", SECRET_KEY)
        .with("ROWHOUSE_DATABASE__MAX_CONNECTIONS", budget)
}

#[tokio::test]
async fn a_start_warns_if_the_servers_together_may_open_more_connections_than_there_are() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let postgres = postgres(folder.path(), 40).await;
    let first = program(&postgres, "18");
    let running = first.serve(&[]);
    // 18 and 19 are all 37 that are not reserved, and `doctor` needs two.
    let second = program(&postgres, "19");
    let warned = second.serve(&[]);
    let log = warned.stderr_with("connections: ");
    assert!(log.contains("the 2 servers on it"), "{log}");
    assert!(log.contains("may open 37, doctor needs 2 more, and PostgreSQL gives 37"), "{log}");
    assert!(log.contains("database.max_connections to at most 17 on each"), "{log}");
    let report = second.run(&["doctor", "--json"]).expect(0).stdout;
    assert!(report.contains("the 2 servers on it"), "{report}");
    warned.stop("TERM").expect(0);

    // A server that is gone does not count.
    let third = program(&postgres, "17").serve(&[]);
    let log = third.stop("TERM").expect(0).stderr;
    assert!(!log.contains("connections: "), "{log}");
    let log = running.stop("TERM").expect(0).stderr;
    assert!(!log.contains("connections: "), "{log}");
    postgres.stop().await.expect("the server stops");
}

#[tokio::test]
async fn a_command_waits_for_a_connection_where_the_server_has_none_left() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let postgres = postgres(folder.path(), 20).await;
    let program = program(&postgres, "10");
    program.serve(&[]).stop("TERM").expect(0);
    // The owner is a superuser here, so that even the reserved connections are taken.
    let mut taken = Vec::new();
    while let Ok((client, connection)) =
        postgres.connect_config("rowhouse").connect(tokio_postgres::NoTls).await
    {
        tokio::spawn(connection);
        taken.push(client);
    }
    assert!(taken.len() >= 10, "{}", taken.len());
    let running = tokio::task::spawn_blocking(move || program.run(&["tenant", "list", "--json"]));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(!running.is_finished(), "it waits");
    // One for the command, and one because the process of a closed connection ends a moment later.
    taken.truncate(taken.len() - 2);
    running.await.expect("no panic").expect(0);
    postgres.stop().await.expect("the server stops");
}
