//! Finds a server that already runs on a cluster, and waits for one that is stopping.
//!
//! `postmaster.pid` names a process id, which may belong to a dead process, a dying one, or by now to another
//! program. PostgreSQL itself handles the first case. It cannot handle the last: where process ids are reused
//! soon, or zombies stay listed (containers), it would refuse to start for ever.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::embedded::error::Context;
use crate::embedded::{EmbeddedError, os};

/// How long to wait for a server whose parent has just been killed to notice.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for a server that is stopping; it writes a checkpoint first.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// The line of `postmaster.pid`, counted from zero, that holds the server's status.
const STATUS_LINE: usize = 7;

/// A server that runs on a cluster.
#[derive(Debug)]
struct RunningServer {
    pid: u32,
    is_stopping: bool,
}

/// Waits until no server runs on the cluster.
///
/// # Errors
/// [`EmbeddedError::AlreadyRunning`] if one still does after the timeout.
pub(super) async fn wait_until_free(cluster: &Path) -> Result<(), EmbeddedError> {
    let begin = Instant::now();
    loop {
        let Some(running_server) = running_server(cluster)? else { return Ok(()) };
        let timeout = if running_server.is_stopping { STOP_TIMEOUT } else { NOTICE_TIMEOUT };
        if begin.elapsed() > timeout {
            return Err(EmbeddedError::AlreadyRunning {
                pid: running_server.pid,
                cluster: cluster.to_path_buf(),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Removes the lock files beside a socket that no server uses any more. The caller has made sure of that.
///
/// The server trusts the process id in such a file: it would not listen while *any* process has that id, even a
/// zombie (common in containers, whose first process rarely reaps).
pub(super) fn free_socket(socket_dir: &Path) -> Result<(), EmbeddedError> {
    for entry in fs::read_dir(socket_dir).context("read", socket_dir)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "lock") {
            fs::remove_file(entry.path()).context("remove", entry.path())?;
        }
    }
    Ok(())
}

/// Ends the server that runs on a cluster whose data is not needed any more, if one does.
pub(super) async fn kill(cluster: &Path) -> Result<(), EmbeddedError> {
    for signal in [libc::SIGQUIT, libc::SIGKILL] {
        let begin = Instant::now();
        while let Some(server) = running_server(cluster)? {
            if begin.elapsed() > NOTICE_TIMEOUT {
                break;
            }
            // It fails if the server has just ended.
            let _ = os::send_signal(server.pid, signal);
            tokio::time::sleep(POLL).await;
        }
    }
    wait_until_free(cluster).await
}

fn running_server(cluster: &Path) -> Result<Option<RunningServer>, EmbeddedError> {
    let path = cluster.join("postmaster.pid");
    // The file does not exist, or was removed meanwhile.
    let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
    let mut lines = text.lines();
    let Some(pid) = lines.next().and_then(|line| line.trim().parse().ok()) else { return Ok(None) };
    if !os::is_alive(pid) {
        return Ok(None);
    }
    if serves(pid, cluster) {
        // The iterator has passed the first line.
        let is_stopping =
            lines.nth(STATUS_LINE - 1).is_some_and(|status| status.trim() == "stopping");
        return Ok(Some(RunningServer { pid, is_stopping }));
    }
    // Another program has the id now. A new server regards its parent's id as stale, so our own id replaces
    // it. Removing the file would be simpler but wrong: its other lines let the new server find processes of
    // the old one that still use the shared memory.
    tracing::info!(pid, "the process named in postmaster.pid is not a server on this cluster");
    if pid != std::process::id() {
        let ours = text.replacen(&pid.to_string(), &std::process::id().to_string(), 1);
        fs::write(&path, ours).context("write", &path)?;
    }
    Ok(None)
}

/// Whether a running process is a server on this cluster: its working folder is the cluster's, and the command
/// line of a server that we started names that folder.
#[cfg(target_os = "linux")]
fn serves(pid: u32, cluster: &Path) -> bool {
    // Root without CAP_SYS_PTRACE (an ordinary container) cannot read the working folder of other accounts' processes.
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(folder) => folder == cluster,
        Err(_) => is_program_on(pid, cluster),
    }
}

#[cfg(not(target_os = "linux"))]
fn serves(pid: u32, cluster: &Path) -> bool {
    is_program_on(pid, cluster)
}

/// Whether the command line of a running process names a path.
#[cfg(target_os = "linux")]
pub(super) fn is_program_on(pid: u32, path: &Path) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| mentions(&line, path))
}

/// Whether the command line of a running process names a path.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_program_on(pid: u32, path: &Path) -> bool {
    let ps = std::process::Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
        .output();
    ps.is_ok_and(|output| mentions(&output.stdout, path))
}

fn mentions(command_line: &[u8], path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let wanted = path.as_os_str().as_bytes();
    command_line.windows(wanted.len()).any(|part| part == wanted)
}
