//! `testing serve`: a server that exists for a test, for tests that are not written in Rust.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::parent_id;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::{Exit, Failure, output, stop};
use crate::app::Options;
use crate::disposable::{DisposableServer, TestError, TestPostgres};

/// How often it is checked whether the process that started this one still lives.
const PARENT_POLL: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
#[expect(clippy::doc_markdown, reason = "clap prints these comments, including their backticks")]
pub(super) enum Verb {
    /// Start a server on a free port and a new database, and print its address as one line of JSON
    ///
    /// The line has the members url, root_token and database_url. The database is on the PostgreSQL server that
    /// TEST_DATABASE_URL names, otherwise on an embedded one without durability that all such servers of one program
    /// share. The server stops, and everything is dropped, when stdin ends, on SIGINT and SIGTERM, and when the process
    /// that started it ends.
    Serve,
}

/// What a test needs to know of its server.
#[derive(Serialize)]
struct Started<'a> {
    url: &'a str,
    root_token: &'a str,
    database_url: String,
}

pub(super) async fn run(options: Options, verb: &Verb) -> Result<Exit, Failure> {
    let Verb::Serve = verb;
    let parent = parent_id();
    let mut ended = std::pin::pin!(ended(parent));
    let server = tokio::select! {
        started = DisposableServer::start(options, Vec::new()) => started.map_err(failure)?,
        // What was begun is dropped by the next process, or goes with the embedded server.
        () = &mut ended => return Ok(Exit::Done),
    };
    let postgres = TestPostgres::get().await.map_err(failure)?;
    let started = Started {
        url: &server.url,
        root_token: &server.root_token,
        database_url: postgres.tcp_url(server.database.name()),
    };
    let line = serde_json::to_string(&started)
        .map_err(|error| Failure::Other(format!("cannot serialize JSON: {error}")))?;
    output::data(&line)?;
    ended.await;
    server.stop().await.map_err(failure)?;
    Ok(Exit::Done)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn failure(error: TestError) -> Failure {
    Failure::Other(error.to_string())
}

/// Waits until the server is not needed any more.
async fn ended(parent: u32) {
    tokio::select! {
        () = stop::signalled() => {}
        () = stdin_ended() => {}
        () = parent_ended(parent) => {}
    }
}

/// Waits until stdin ends. A stdin that was never open for writing, such as `/dev/null`, does not count.
async fn stdin_ended() {
    let stdin = std::io::stdin();
    let file = stdin.as_fd().try_clone_to_owned().map(std::fs::File::from);
    let kind = file.and_then(|file| file.metadata()).map(|found| found.file_type());
    if !stdin.is_terminal() && !kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) {
        return std::future::pending().await;
    }
    // A thread of its own, which ends with the process: a read cannot be cancelled.
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

/// Waits until the process that started this one has ended, however it ended: another process is the parent then.
async fn parent_ended(parent: u32) {
    while parent_id() == parent {
        tokio::time::sleep(PARENT_POLL).await;
    }
}
