//! Decides the paths and owners of the embedded server's files.
//!
//! ```text
//! <data dir>/postgres            the cluster
//! <data dir>/postgres.tmp-<pid>  a cluster that initdb is still making
//! <data dir>/postgres.lock       locked while a server is being started
//! <data dir>/postgres.usage      locked by the processes that use a server which another process started
//! <data dir>/postgres.ephemeral  locked while a server runs that a command started for itself
//! <data dir>/postgres.log        the server's log
//! <data dir>/postgres-password   for TCP, mode 0600
//! <data dir>/socket              the unix socket, mode 0700
//! <data dir>/shared.lock         locked while a process joins or starts a shared server
//! <data dir>/users               a FIFO, written by the processes that use a shared server
//! <data dir>/watcher.pid         the process that ends a shared server
//! ```
//!
//! PostgreSQL refuses to run as root. When root starts it, the server runs as the owner of the cluster if
//! there is one, otherwise as `postgres`, otherwise as `nobody`. That account owns the cluster and the
//! socket folder; this process owns the rest. If the account cannot reach the data dir (for example a checkout in
//! `/root`), cluster and socket move to their own folder under `/var/lib/rowhouse`, and
//! `<data dir>/postgres` becomes a link to it, so that the next start finds the same data. Only the data
//! dir itself is made passable; the permissions of other folders are never changed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::embedded::error::Context;
use crate::embedded::os::{self, Account};
use crate::embedded::{Durability, EmbeddedError, Settings};

/// `sun_path` holds 108 bytes on Linux and 104 on macOS and the BSDs, with a NUL at the end.
const LONGEST_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// The longest name that the server gives its socket.
const SOCKET_FILE: &str = ".s.PGSQL.65535";
/// The accounts that run the server when root starts it, in order of preference.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];
/// The parent folder of a durable cluster that cannot be in the data dir.
const FALLBACK_HOME: &str = "/var/lib/rowhouse";
/// A log larger than this is renamed at the next start; one old log is kept.
const LONGEST_LOG: u64 = 8 * 1024 * 1024;

/// The absolute paths of the server's files.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) data_dir: PathBuf,
    /// Holds the cluster and the socket; nearly always the data dir itself.
    pub(super) home: PathBuf,
    pub(super) cluster: PathBuf,
    pub(super) socket_dir: PathBuf,
    /// The account that runs the server; `None` unless this process runs as root.
    pub(super) account: Option<Account>,
}

impl Paths {
    /// The path of the cluster in a data dir. Creates nothing.
    pub(super) fn cluster_in(data_dir: &Path) -> PathBuf {
        data_dir.join("postgres")
    }

    /// Creates the data dir if needed, and opens the file in it that is locked while a server is being started.
    pub(super) fn open_lock(data_dir: &Path) -> Result<(PathBuf, File), EmbeddedError> {
        Self::open_lock_named(data_dir, "postgres.lock")
    }

    /// Creates the data dir if needed, and opens a lock file in it.
    pub(super) fn open_lock_named(
        data_dir: &Path,
        name: &str,
    ) -> Result<(PathBuf, File), EmbeddedError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .context("create", data_dir)?;
        let data_dir = fs::canonicalize(data_dir).context("resolve", data_dir)?;
        let path = data_dir.join(name);
        match OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let owner = fs::metadata(&data_dir).context("read", &data_dir)?.uid();
                Err(EmbeddedError::NotOurs { path: data_dir, owner })
            }
            lock => Ok((data_dir, lock.context("open", path)?)),
        }
    }

    /// Determines all paths and creates the socket folder. The caller holds the lock.
    pub(super) fn resolve(data_dir: PathBuf, settings: &Settings) -> Result<Paths, EmbeddedError> {
        let link = Paths::cluster_in(&data_dir);
        let account = match os::effective_uid() {
            0 => Some(account_for(&link)?),
            _ => None,
        };
        let home = home_for(&data_dir, &link, account, settings.durability)?;
        let cluster = home.join("postgres");
        let (expected, _) = owner(account);
        if let Ok(found) = fs::metadata(&cluster)
            && found.uid() != expected
        {
            return Err(EmbeddedError::NotOurs { path: cluster, owner: found.uid() });
        }
        let socket_dir = socket_dir_for(&home, account)?;
        private_folder(&socket_dir, account)?;
        Ok(Paths { data_dir, home, cluster, socket_dir, account })
    }

    pub(super) fn password_file(&self) -> PathBuf {
        self.data_dir.join("postgres-password")
    }

    /// Opens the server's log for appending; returns also the offset at which this run's part begins.
    pub(super) fn open_log(&self) -> Result<(File, u64), EmbeddedError> {
        let path = self.log_file();
        if fs::metadata(&path).is_ok_and(|log| log.len() > LONGEST_LOG) {
            let aside = path.with_extension("log.1");
            fs::rename(&path, &aside).context("rename", &path)?;
        }
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .context("open", &path)?;
        let begin = log.metadata().context("read", &path)?.len();
        Ok((log, begin))
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }
}

/// Creates a folder that only the server's account may enter, or restricts one that this process or that account
/// already owns.
pub(super) fn private_folder(path: &Path, account: Option<Account>) -> Result<(), EmbeddedError> {
    let (uid, gid) = owner(account);
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // In a temporary folder any account may have created the path before, even as a link.
            let found = fs::symlink_metadata(path).context("read", path)?;
            if !found.is_dir() || ![uid, os::effective_uid()].contains(&found.uid()) {
                return Err(EmbeddedError::SocketDir { path: path.to_path_buf() });
            }
            fs::set_permissions(path, Permissions::from_mode(0o700)).context("restrict", path)?;
        }
        created => created.context("create", path)?,
    }
    if account.is_some() {
        std::os::unix::fs::lchown(path, Some(uid), gid).context("hand over", path)?;
    }
    Ok(())
}

fn owner(account: Option<Account>) -> (u32, Option<u32>) {
    account.map_or_else(|| (os::effective_uid(), None), |account| (account.uid, Some(account.gid)))
}

/// The account that runs the server when root starts it.
fn account_for(cluster: &Path) -> Result<Account, EmbeddedError> {
    match fs::metadata(cluster) {
        Ok(found) if found.uid() != 0 => Ok(Account { uid: found.uid(), gid: found.gid() }),
        _ => ACCOUNTS.into_iter().find_map(os::account).ok_or(EmbeddedError::NoAccount),
    }
}

fn home_for(
    data_dir: &Path,
    link: &Path,
    account: Option<Account>,
    durability: Durability,
) -> Result<PathBuf, EmbeddedError> {
    if let Ok(target) = fs::read_link(link) {
        // Created by an earlier start. Its target may have been deleted meanwhile.
        let home = target.parent().unwrap_or(data_dir).to_path_buf();
        return passable_folder(&home, account).map(|()| home);
    }
    let Some(account) = account else { return Ok(data_dir.to_path_buf()) };
    make_passable(data_dir)?;
    let Some(blocked_by) = obstacle(data_dir, account) else { return Ok(data_dir.to_path_buf()) };
    if link.exists() {
        // Another folder would hide the existing data.
        return Err(EmbeddedError::Unreachable { uid: account.uid, blocked_by });
    }
    let parent = match durability {
        Durability::Full => PathBuf::from(FALLBACK_HOME),
        Durability::None => std::env::temp_dir(),
    };
    let home = parent.join(format!("rowhouse-{}", Uuid::new_v4().simple()));
    passable_folder(&home, Some(account))?;
    std::os::unix::fs::symlink(home.join("postgres"), link).context("link", link)?;
    tracing::warn!(
        blocked_by = %blocked_by.display(), home = %home.display(),
        "the account that runs PostgreSQL cannot reach the data dir: the cluster is kept in another folder"
    );
    Ok(home)
}

fn passable_folder(path: &Path, account: Option<Account>) -> Result<(), EmbeddedError> {
    DirBuilder::new().recursive(true).mode(0o711).create(path).context("create", path)?;
    match account.and_then(|account| Some((account.uid, obstacle(path, account)?))) {
        Some((uid, blocked_by)) => Err(EmbeddedError::Unreachable { uid, blocked_by }),
        None => Ok(()),
    }
}

/// Lets other accounts pass through a folder of this account, but not list it.
fn make_passable(path: &Path) -> Result<(), EmbeddedError> {
    let found = fs::metadata(path).context("read", path)?;
    if found.uid() == os::effective_uid() && found.mode() & 0o011 != 0o011 {
        fs::set_permissions(path, Permissions::from_mode(found.mode() | 0o011))
            .context("make passable", path)?;
    }
    Ok(())
}

/// The first folder of the path, from the root, that the account may not enter.
fn obstacle(path: &Path, account: Account) -> Option<PathBuf> {
    let ancestors: Vec<&Path> = path.ancestors().collect();
    let enters = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|found| {
            let bit = match (found.uid() == account.uid, found.gid() == account.gid) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            found.mode() & bit != 0
        })
    };
    ancestors.into_iter().rev().find(|folder| !enters(folder)).map(Path::to_path_buf)
}

/// The folder of the socket: in the home, or in the temporary folder if the path would be too long for a socket.
/// Its name is derived from the home's path, so that every start of one data dir uses the same folder.
fn socket_dir_for(home: &Path, account: Option<Account>) -> Result<PathBuf, EmbeddedError> {
    let near = home.join("socket");
    if holds_a_socket(&near) {
        return Ok(near);
    }
    let digest = hex::encode(Sha256::digest(home.as_os_str().as_bytes()));
    let name = format!("rowhouse-{}", digest.get(..16).unwrap_or(&digest));
    let reachable =
        |folder: &PathBuf| account.is_none_or(|account| obstacle(folder, account).is_none());
    [std::env::temp_dir(), PathBuf::from("/tmp")]
        .into_iter()
        .filter(reachable)
        .map(|folder| folder.join(&name))
        .find(|short| holds_a_socket(short))
        .ok_or(EmbeddedError::SocketDir { path: near })
}

/// Whether the server can listen in this folder and clients can name it: libpq and our driver split a host at
/// commas, and a path that is not UTF-8 does not fit in a URL.
pub(super) fn holds_a_socket(folder: &Path) -> bool {
    let length = folder.join(SOCKET_FILE).as_os_str().len();
    length <= LONGEST_SOCKET_PATH && folder.to_str().is_some_and(|path| !path.contains(','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_stays_in_the_home_unless_its_path_would_be_too_long_or_ambiguous() {
        let home = |length: usize| PathBuf::from(format!("/{}", "d".repeat(length - 1)));
        let longest = LONGEST_SOCKET_PATH - "/socket/".len() - SOCKET_FILE.len();
        assert_eq!(socket_dir_for(&home(longest), None).unwrap(), home(longest).join("socket"));
        for home in [home(longest + 1), PathBuf::from("/data,more")] {
            let short = socket_dir_for(&home, None).unwrap();
            assert!(short.starts_with(std::env::temp_dir()), "{}", short.display());
            assert_eq!(short, socket_dir_for(&home, None).unwrap());
        }
    }

    #[test]
    fn the_first_closed_folder_of_the_path_is_the_obstacle() {
        let top = tempfile::tempdir().unwrap();
        let closed = top.path().join("closed");
        let inner = closed.join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(top.path(), Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
        let other = Account { uid: 4_000_000, gid: 4_000_000 };
        assert_eq!(obstacle(&inner, other), Some(closed.clone()));
        fs::set_permissions(&closed, Permissions::from_mode(0o711)).unwrap();
        assert_eq!(obstacle(&inner, other), None);
    }

    #[test]
    fn a_link_is_never_used_as_the_folder_of_the_socket() {
        let top = tempfile::tempdir().unwrap();
        let link = top.path().join("link");
        std::os::unix::fs::symlink(top.path(), &link).unwrap();
        assert!(matches!(private_folder(&link, None), Err(EmbeddedError::SocketDir { .. })));
    }
}
