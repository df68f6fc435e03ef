//! Owns one child process for as long as it lives, and sees that it does not outlive us.
//!
//! A thread of its own, the keeper, starts the child and waits for it. That thread must not end
//! earlier: Linux ties the parent-death signal to the thread that called fork, so a child started
//! from tokio's blocking pool would be stopped whenever the pool shrinks. Where there is no such
//! signal, a small shell waits on a pipe that closes when we die, however we die.
//!
//! Knows nothing of PostgreSQL but that SIGINT means *stop, and quickly*.

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

/// How long a drop waits for the child to go, so that a temporary folder can be removed right after.
const DROP_PATIENCE: Duration = Duration::from_millis(500);
const DROP_POLL: Duration = Duration::from_millis(5);
/// What we report for a child that somebody else reaped.
const UNKNOWN_STATUS: i32 = 1 << 8;

/// A running child. Dropped, it is told to stop.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    /// False once the child is reaped, when its id may belong to another process.
    ours: Arc<Mutex<bool>>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts the command on a keeper thread.
    pub(super) async fn spawn(command: Command) -> io::Result<Process> {
        let (started, start) = oneshot::channel();
        thread::Builder::new()
            .name("postgres-keeper".to_owned())
            .spawn(move || keep(command, started))?;
        start.await.map_err(io::Error::other)?
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// How the child ended, if it has.
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits for the end of the child.
    pub(super) async fn exited(&mut self) -> ExitStatus {
        let seen = self.exit.wait_for(Option::is_some).await;
        seen.ok().and_then(|status| *status).unwrap_or_else(|| ExitStatus::from_raw(UNKNOWN_STATUS))
    }

    /// Sends the child a signal; one that has ended needs none.
    pub(super) fn signal(&self, signal: libc::c_int) {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        if *ours && let Err(error) = os::send_signal(self.pid, signal) {
            tracing::warn!(pid = self.pid, signal, %error, "failed to signal the child process");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(libc::SIGINT);
        let deadline = Instant::now() + DROP_PATIENCE;
        while self.exit_status().is_none() && Instant::now() < deadline {
            thread::sleep(DROP_POLL);
        }
    }
}

fn keep(mut command: Command, started: oneshot::Sender<io::Result<Process>>) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return drop(started.send(Err(error))),
    };
    let pid = child.id();
    #[cfg(not(target_os = "linux"))]
    let watcher = Watcher::start(pid);
    let ours = Arc::new(Mutex::new(true));
    let (ended, exit) = watch::channel(None);
    let process = Process { pid, ours: Arc::clone(&ours), exit };
    // The other side may be gone, a cancelled start say. What cannot be delivered is dropped, and
    // so told to stop, on a thread that still has to wait for it: hence the helper.
    if let Err(undelivered) = started.send(Ok(process)) {
        thread::spawn(move || drop(undelivered));
    }

    os::wait_without_reaping(pid);
    let status = {
        let mut ours = ours.lock().unwrap_or_else(PoisonError::into_inner);
        *ours = false;
        child.wait().unwrap_or_else(|_| ExitStatus::from_raw(UNKNOWN_STATUS))
    };
    #[cfg(not(target_os = "linux"))]
    match watcher {
        Ok(watcher) => watcher.dismiss(),
        Err(error) => {
            tracing::warn!(%error, "no watcher: the server would have survived this process")
        }
    }
    ended.send_replace(Some(status));
}

/// A shell that stops a process when ours is gone.
///
/// It reads one line. A line means that all is well and nothing is left to watch; the end of the
/// pipe without one means that whoever held the other side has died.
#[cfg(any(not(target_os = "linux"), test))]
pub(super) struct Watcher(std::process::Child);

#[cfg(any(not(target_os = "linux"), test))]
impl Watcher {
    pub(super) fn start(pid: u32) -> io::Result<Watcher> {
        use std::{os::unix::process::CommandExt, process::Stdio};
        // Its own group, or Ctrl-C would end the watcher first.
        Command::new("/bin/sh")
            .args(["-c", "read -r line || kill -INT \"$1\"", "rowhouse-watcher", &pid.to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Watcher)
    }

    /// Sends the watcher home, with its process left alone.
    pub(super) fn dismiss(mut self) {
        use std::io::Write;
        if let Some(mut pipe) = self.0.stdin.take() {
            // It fails only if the watcher is gone already.
            let _ = pipe.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}
