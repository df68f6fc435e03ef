//! Finds out who holds a cluster, and waits for a server that is on its way out.
//!
//! `postmaster.pid` names a process, and a number proves little: the process may be dead, dying, or
//! by now somebody else's. PostgreSQL itself settles the first case. The last one it cannot: where
//! process ids are few and repeat, or the dead stay listed (containers), it would refuse for ever.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::embedded::error::Context;
use crate::embedded::{EmbeddedError, os};

/// A server whose parent has just been killed needs a moment to notice.
const NOTICE_PATIENCE: Duration = Duration::from_secs(2);
/// A server that says it is stopping writes a checkpoint first.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// The line of `postmaster.pid` (counted from zero) where the server says what it is doing.
const STATUS_LINE: usize = 7;

/// A server at work on a cluster.
#[derive(Debug)]
struct Holder {
    pid: u32,
    stopping: bool,
}

/// Waits until nobody holds the cluster, or refuses where somebody means to stay.
pub(super) async fn wait_until_free(cluster: &Path) -> Result<(), EmbeddedError> {
    let begin = Instant::now();
    loop {
        let Some(holder) = holder(cluster)? else { return Ok(()) };
        let timeout = if holder.stopping { STOP_TIMEOUT } else { NOTICE_PATIENCE };
        if begin.elapsed() > timeout {
            return Err(EmbeddedError::AlreadyRunning {
                pid: holder.pid,
                cluster: cluster.to_path_buf(),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Removes the lock beside a socket that nobody serves any more, as the caller has made sure.
///
/// The server trusts that number too: it would not listen while *some* process has it, be it a dead
/// one that nobody has reaped (again containers, whose first process rarely does that).
pub(super) fn free_socket(socket_dir: &Path) -> Result<(), EmbeddedError> {
    for entry in fs::read_dir(socket_dir).context("read", socket_dir)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "lock") {
            fs::remove_file(entry.path()).context("remove", entry.path())?;
        }
    }
    Ok(())
}

fn holder(cluster: &Path) -> Result<Option<Holder>, EmbeddedError> {
    let path = cluster.join("postmaster.pid");
    // Not there, or gone between two looks.
    let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
    let mut lines = text.lines();
    let Some(pid) = lines.next().and_then(|line| line.trim().parse().ok()) else { return Ok(None) };
    if !os::is_alive(pid) {
        return Ok(None);
    }
    if serves(pid, cluster) {
        // One line is consumed already.
        let stopping = lines.nth(STATUS_LINE - 1).is_some_and(|status| status.trim() == "stopping");
        return Ok(Some(Holder { pid, stopping }));
    }
    // The number was given to another program meanwhile. A new server takes its parent's id for
    // stale, so we put our own in its place. Removing the file would be simpler and wrong: its
    // other lines let the server find processes of the old one that still use the shared memory.
    tracing::info!(pid, "the process named in postmaster.pid is not a server on this data");
    if pid != std::process::id() {
        let ours = text.replacen(&pid.to_string(), &std::process::id().to_string(), 1);
        fs::write(&path, ours).context("write", &path)?;
    }
    Ok(None)
}

/// Whether a living process is a server on this cluster: such a one works in the cluster's folder,
/// and names it when it was started by us.
#[cfg(target_os = "linux")]
fn serves(pid: u32, cluster: &Path) -> bool {
    // Root without CAP_SYS_PTRACE (an ordinary container) may not see where others' processes work.
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(folder) => folder == cluster,
        Err(_) => {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| mentions(&line, cluster))
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn serves(pid: u32, cluster: &Path) -> bool {
    let ps = std::process::Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
        .output();
    ps.is_ok_and(|said| mentions(&said.stdout, cluster))
}

fn mentions(command_line: &[u8], cluster: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let wanted = cluster.as_os_str().as_bytes();
    command_line.windows(wanted.len()).any(|part| part == wanted)
}
