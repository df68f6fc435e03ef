//! The server programs of an installed PostgreSQL and the account that runs them, for the test binaries that start
//! servers of their own.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the folder of the server's programs.
pub(crate) fn binaries() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    std::env::split_paths(&path)
        .chain(debian.map(|version| version.path().join("bin")))
        .find(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
        // The path may hold links to some of them only.
        .and_then(|folder| Some(fs::canonicalize(folder.join("initdb")).ok()?.parent()?.to_owned()))
        .expect("PostgreSQL's server binaries, on the PATH or where Debian keeps them")
}

/// Returns the user and group to run PostgreSQL as, if the test process runs as root: PostgreSQL refuses
/// to run as root, so the user `postgres` of its installation runs it.
fn server_user(folder: &Path) -> Option<(u32, u32)> {
    let id = |flag| {
        let output = Command::new("id").args([flag, "postgres"]).output().expect("run id");
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().expect("a postgres user")
    };
    // The owner of a new file is the effective user; the folder itself may already belong to another.
    let probe = folder.join("owner-probe");
    fs::write(&probe, "").expect("a file can be written");
    let owner = fs::metadata(probe).expect("it was just written").uid();
    (owner == 0).then(|| (id("-u"), id("-g")))
}

/// Builds a command that runs as the account of the server, in this folder.
pub(crate) fn as_server(folder: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    // Whatever the caller's environment holds: a port, options of libpq, a locale that is not there.
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.current_dir(folder).env_clear().env("PATH", path).env("LC_ALL", "C").env("TZ", "UTC");
    if let Some((user, group)) = server_user(folder) {
        command.uid(user).gid(group);
    }
    command
}

/// Gives a file or a folder to the account of the server.
pub(crate) fn chown_to_server_user(path: &Path) {
    let folder = if path.is_dir() { path } else { path.parent().expect("a file is in a folder") };
    if let Some((user, group)) = server_user(folder) {
        chown(path, Some(user), Some(group)).expect("root may give files away");
    }
}
