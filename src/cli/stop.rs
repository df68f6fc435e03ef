//! What ends a command that would run on: a signal, and a reader that is gone.

use std::io::stdout;
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGINT (Ctrl-C) or SIGTERM.
pub(super) async fn signalled() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => if outcome.is_err() { std::future::pending().await },
        _ = terminated.recv() => {},
    }
}

/// Waits until the reader of stdout has closed it (`| head`), which a command that has nothing to write would not notice.
/// A file is never closed.
pub(super) async fn reader_gone() {
    // Only watched, never written to: the program's other writes to stdout block, and must go on to do so.
    let watched = stdout().as_fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
    match watched {
        Ok(stdout) if stdout.ready(Interest::ERROR).await.is_ok() => {}
        _ => std::future::pending().await,
    }
}
