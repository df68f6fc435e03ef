//! Owns one child process, which does not outlive this process unless it is to ([`Lifetime`]).
//!
//! A supervisor thread starts the child and waits for it. The thread must not end earlier: Linux ties the
//! parent-death signal to the thread that called fork, so a child started from tokio's blocking pool would
//! be stopped whenever the pool shrinks. On systems without that signal a small shell waits on a pipe that
//! closes when this process ends, however it ends.
//!
//! Knows only one thing about PostgreSQL: SIGINT means a fast shutdown.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};

use crate::embedded::os;

/// How long a drop waits for the child to end, so that a temporary folder can be removed right after.
const DROP_TIMEOUT: Duration = Duration::from_millis(500);
const DROP_POLL: Duration = Duration::from_millis(5);
/// The status reported for a child that other code of this process reaped.
const UNKNOWN_STATUS: i32 = 1 << 8;

/// Whether a child ends with this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// It does, however this process ends.
    OfThisProcess,
    /// It runs on; what ends it is the caller's concern.
    Unbound,
}

/// A running child process. Dropping it sends SIGINT and waits up to [`DROP_TIMEOUT`], unless it is unbound.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    lifetime: Lifetime,
    /// False once the child is reaped, when its id may belong to another process.
    is_unreaped: Arc<Mutex<bool>>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts the command on a supervisor thread.
    pub(super) async fn spawn(mut command: Command, lifetime: Lifetime) -> io::Result<Process> {
        if lifetime == Lifetime::OfThisProcess {
            os::stop_with_parent(&mut command);
        }
        let (started, start) = oneshot::channel();
        thread::Builder::new()
            .name("postgres-child".to_owned())
            .spawn(move || supervise(command, lifetime, started))?;
        start.await.map_err(io::Error::other)?
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The child's exit status, if it has ended.
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits until the child ends.
    pub(super) async fn exited(&mut self) -> ExitStatus {
        let seen = self.exit.wait_for(Option::is_some).await;
        seen.ok().and_then(|status| *status).unwrap_or_else(|| ExitStatus::from_raw(UNKNOWN_STATUS))
    }

    /// Sends the child a signal; does nothing if it has ended.
    pub(super) fn signal(&self, signal: libc::c_int) {
        let is_unreaped = self.is_unreaped.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_unreaped && let Err(error) = os::send_signal(self.pid, signal) {
            tracing::warn!(pid = self.pid, signal, %error, "failed to signal the child process");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Unbound {
            return;
        }
        self.signal(libc::SIGINT);
        let deadline = Instant::now() + DROP_TIMEOUT;
        while self.exit_status().is_none() && Instant::now() < deadline {
            thread::sleep(DROP_POLL);
        }
    }
}

fn supervise(
    mut command: Command,
    lifetime: Lifetime,
    started: oneshot::Sender<io::Result<Process>>,
) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return drop(started.send(Err(error))),
    };
    let pid = child.id();
    #[cfg(not(target_os = "linux"))]
    let watcher = (lifetime == Lifetime::OfThisProcess).then(|| Watcher::start(pid));
    let is_unreaped = Arc::new(Mutex::new(true));
    let (ended, exit) = watch::channel(None);
    let process = Process { pid, lifetime, is_unreaped: Arc::clone(&is_unreaped), exit };
    // The receiver may be gone, for example after a cancelled start. The process is then dropped, which stops
    // it. The drop waits for the exit status that this thread reports below, so it runs on another thread.
    if let Err(undelivered) = started.send(Ok(process)) {
        thread::spawn(move || drop(undelivered));
    }

    os::wait_without_reaping(pid);
    let status = {
        let mut is_unreaped = is_unreaped.lock().unwrap_or_else(PoisonError::into_inner);
        *is_unreaped = false;
        child.wait().unwrap_or_else(|_| ExitStatus::from_raw(UNKNOWN_STATUS))
    };
    #[cfg(not(target_os = "linux"))]
    match watcher {
        None => {}
        Some(Ok(watcher)) => watcher.dismiss(),
        Some(Err(error)) => {
            tracing::warn!(%error, "failed to start the watcher: the server could have outlived this process")
        }
    }
    ended.send_replace(Some(status));
}

/// A shell that stops a process when this process ends.
///
/// It reads one line from a pipe. A line means that there is nothing left to watch; the end of the pipe
/// without a line means that this process has died.
#[cfg(any(not(target_os = "linux"), test))]
pub(super) struct Watcher(std::process::Child);

#[cfg(any(not(target_os = "linux"), test))]
impl Watcher {
    pub(super) fn start(pid: u32) -> io::Result<Watcher> {
        use std::{os::unix::process::CommandExt, process::Stdio};
        // In its own process group, or Ctrl-C would end the watcher first.
        Command::new("/bin/sh")
            .args(["-c", "read -r line || kill -INT \"$1\"", "rowhouse-watcher", &pid.to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Watcher)
    }

    /// Ends the watcher without stopping its process.
    pub(super) fn dismiss(mut self) {
        use std::io::Write;
        if let Some(mut pipe) = self.0.stdin.take() {
            // It fails only if the watcher has already ended.
            let _ = pipe.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}
