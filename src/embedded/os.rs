//! System calls that the standard library lacks; all unsafe code of this module is here.

use std::{
    ffi::CString,
    io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::Path,
    process::Command,
};

/// Buffer for one entry of the account database; glibc suggests 1 KiB, directory services (LDAP) may need more.
const ACCOUNT_BUFFER: usize = 16 * 1024;

/// An account to run a program as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The effective user id of this process.
#[expect(unsafe_code, reason = "std has no geteuid; it takes nothing and cannot fail")]
pub(super) fn effective_uid() -> u32 {
    unsafe { libc::geteuid() }
}

/// Looks up an account by name in the system's account database.
#[expect(unsafe_code, reason = "std has no getpwnam_r; every pointer outlives the call")]
pub(super) fn account(name: &str) -> Option<Account> {
    let name = CString::new(name).ok()?;
    let mut buffer = vec![0; ACCOUNT_BUFFER];
    let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
    let mut found = std::ptr::null_mut();
    // Only numbers are read from the entry, so nothing points into the buffer afterwards.
    unsafe {
        let code = libc::getpwnam_r(
            name.as_ptr(),
            entry.as_mut_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        );
        (code == 0 && !found.is_null())
            .then(|| Account { uid: (*found).pw_uid, gid: (*found).pw_gid })
    }
}

/// Sends a signal; signal 0 only checks whether one could be sent.
#[expect(unsafe_code, reason = "std sends no signals to other processes; kill takes plain numbers")]
pub(super) fn send_signal(pid: u32, signal: libc::c_int) -> io::Result<()> {
    // Zero and negative ids would address whole process groups.
    let pid = libc::pid_t::try_from(pid)
        .ok()
        .filter(|pid| *pid > 0)
        .ok_or(io::ErrorKind::InvalidInput)?;
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a process with this id exists, whatever account it belongs to.
pub(super) fn is_alive(pid: u32) -> bool {
    send_signal(pid, 0)
        .map_or_else(|error| error.kind() == io::ErrorKind::PermissionDenied, |()| true)
}

/// Blocks until a child has ended, without reaping it: until it is reaped its id cannot be reused, so a signal
/// cannot reach another process.
#[expect(
    unsafe_code,
    reason = "std reaps what it waits for; the struct is ours and outlives the call"
)]
pub(super) fn wait_without_reaping(pid: u32) {
    loop {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::uninit();
        let code = unsafe {
            libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT)
        };
        if code == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// Makes the kernel send SIGINT to the program when the *thread* that starts it ends.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the closure runs between fork and exec: system calls only, no allocation"
)]
pub(super) fn stop_with_parent(command: &mut Command) {
    let parent = std::process::id();
    unsafe {
        command.pre_exec(move || {
            let signal = libc::SIGINT.cast_unsigned();
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(signal)) != 0 {
                return Err(io::Error::last_os_error());
            }
            // If the parent died before the call above, the signal never comes.
            if libc::getppid().cast_unsigned() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Other systems have no such call; [`crate::embedded::process`] starts a watcher instead.
#[cfg(not(target_os = "linux"))]
pub(super) fn stop_with_parent(_command: &mut Command) {}

/// Makes the command run as an account and in its own process group: Ctrl-C in the terminal then reaches only
/// this process, which stops the server after everything that still needs it.
pub(super) fn detach(command: &mut Command, account: Option<Account>) {
    command.process_group(0);
    if let Some(Account { uid, gid }) = account {
        // For root, std drops the supplementary groups as well.
        command.gid(gid).uid(uid);
    }
}

/// Creates a FIFO that only this account may use.
#[expect(unsafe_code, reason = "std has no mkfifo; the path outlives the call")]
pub(super) fn make_fifo(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    if unsafe { libc::mkfifo(name.as_ptr(), 0o600) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
