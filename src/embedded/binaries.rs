//! Finds the programs of a PostgreSQL server on this machine, or names the command that installs them.
//!
//! A folder from the settings is used or refused; no other folder is then searched. Otherwise PATH comes
//! first (an operator put that server there on purpose), then the folders of the distributions, newest
//! version first. An existing cluster decides the major version: after an upgrade of the system the old
//! programs are often still installed, and only they can read the data.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::embedded::EmbeddedError;
use crate::embedded::error::Context;

/// The oldest supported major version; the SQL is written for 15 to 18. Before 15 every role could create tables
/// in `public`.
const OLDEST_MAJOR: u32 = 15;

/// Folders that hold several versions side by side: the parent, the prefix of the version number, the subfolder.
const VERSIONED_FOLDERS: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),          // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                   // Fedora and RHEL, from postgresql.org
    ("/usr/lib", "postgresql", "bin"),           // openSUSE
    ("/usr/lib64", "postgresql-", "bin"),        // Gentoo
    ("/usr/libexec", "postgresql", ""),          // Alpine
    ("/opt/homebrew/opt", "postgresql@", "bin"), // Homebrew, Apple silicon
    ("/usr/local/opt", "postgresql@", "bin"),    // Homebrew, Intel
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"), // Homebrew, Linux
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"), // Postgres.app
    ("/Library/PostgreSQL", "", "bin"),          // EDB's installer
];

/// Folders that hold a single version.
const PLAIN_FOLDERS: &[&str] =
    &["/usr/bin", "/usr/local/bin", "/usr/local/pgsql/bin", "/opt/homebrew/bin", "/opt/local/bin"];

/// Package managers: the program, the command that installs a server, whether it needs root. The system's own
/// come before Homebrew, which may be installed beside them.
const PACKAGE_MANAGERS: &[(&str, &str, bool)] = &[
    #[cfg(target_os = "macos")]
    ("brew", "brew install postgresql@17", false),
    ("apt-get", "apt-get install -y postgresql", true),
    ("dnf", "dnf install -y postgresql-server", true),
    ("yum", "yum install -y postgresql-server", true),
    ("apk", "apk add postgresql", true),
    ("pacman", "pacman -S --noconfirm postgresql", true),
    ("zypper", "zypper install -y postgresql-server", true),
    ("xbps-install", "xbps-install -y postgresql", true),
    ("pkg", "pkg install -y postgresql17-server", true),
    #[cfg(not(target_os = "macos"))]
    ("brew", "brew install postgresql@17", false),
];

/// A server's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) folder: PathBuf,
    /// As `postgres --version` prints it: `15.18`, `18beta1`.
    pub(super) version: String,
    pub(super) major: u32,
}

impl Binaries {
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The psql command: the bare name where PATH has it, otherwise the full path.
    pub(super) fn psql(&self) -> PathBuf {
        let on_path = on_path().any(|folder| folder.join("psql").is_file());
        let beside = self.program("psql");
        if on_path || !beside.is_file() { PathBuf::from("psql") } else { beside }
    }

    /// Returns the programs in one folder, if both are there and the version can be read.
    fn in_folder(folder: &Path) -> Option<Binaries> {
        // PATH often holds links; the folder that they point to has the other programs and names the version.
        let real = fs::canonicalize(folder.join("postgres")).ok()?;
        let folder = real.parent().filter(|real| real.join("initdb").is_file()).unwrap_or(folder);
        if !folder.join("initdb").is_file() {
            return None;
        }
        let output =
            Command::new(folder.join("postgres")).arg("--version").env_clear().output().ok()?;
        let (version, major) = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Binaries { folder: folder.to_path_buf(), version, major })
    }
}

/// Finds programs that can run the existing cluster, or create a new one.
pub(super) fn find(named: Option<&Path>, cluster: &Path) -> Result<Binaries, EmbeddedError> {
    match named {
        Some(folder) => {
            let folder = std::path::absolute(folder).context("resolve", folder)?;
            find_among(std::iter::once(folder), named, cluster)
        }
        None => find_among(candidates(), None, cluster),
    }
}

fn find_among(
    folders: impl Iterator<Item = PathBuf>,
    named: Option<&Path>,
    cluster: &Path,
) -> Result<Binaries, EmbeddedError> {
    let made_by = cluster_major(cluster);
    let unfit = match choose(folders.filter_map(|folder| Binaries::in_folder(&folder)), made_by) {
        Ok(binaries) => return Ok(binaries),
        Err(unfit) => unfit,
    };
    let install =
        || install_command(|program| on_path().any(|folder| folder.join(program).is_file()));
    Err(match (unfit, made_by, named) {
        (Some(Binaries { version, folder, major }), Some(made_by), _) if made_by != major => {
            EmbeddedError::OtherMajorVersion {
                cluster: cluster.to_path_buf(),
                made_by,
                version,
                folder,
            }
        }
        (Some(Binaries { version, folder, .. }), ..) => {
            EmbeddedError::TooOld { version, folder, install: install() }
        }
        (None, _, Some(folder)) => EmbeddedError::BinariesNotThere { folder: folder.to_path_buf() },
        (None, _, None) => EmbeddedError::BinariesNotFound { install: install() },
    })
}

/// Returns the first suitable server; if there is none, the newest of the others, for the error.
fn choose(
    found: impl Iterator<Item = Binaries>,
    made_by: Option<u32>,
) -> Result<Binaries, Option<Binaries>> {
    let mut newest: Option<Binaries> = None;
    for binaries in found {
        let fits =
            binaries.major >= OLDEST_MAJOR && made_by.is_none_or(|major| binaries.major == major);
        if fits {
            return Ok(binaries);
        }
        if newest.as_ref().is_none_or(|newest| binaries.major > newest.major) {
            newest = Some(binaries);
        }
    }
    Err(newest)
}

/// The major version that created a cluster; `None` if there is no cluster or it cannot be read.
fn cluster_major(cluster: &Path) -> Option<u32> {
    fs::read_to_string(cluster.join("PG_VERSION")).ok()?.trim().parse().ok()
}

fn on_path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .collect::<Vec<_>>()
        .into_iter()
}

fn candidates() -> impl Iterator<Item = PathBuf> {
    let mut versioned: Vec<(u32, PathBuf)> = VERSIONED_FOLDERS
        .iter()
        .flat_map(|(parent, before, after)| versions(Path::new(parent), before, after))
        .collect();
    versioned.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    on_path()
        .chain(versioned.into_iter().map(|(_, folder)| folder))
        .chain(PLAIN_FOLDERS.iter().map(PathBuf::from))
}

fn versions(parent: &Path, before: &str, after: &str) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let version =
        |name: &OsStr| name.to_str()?.strip_prefix(before)?.split('.').next()?.parse().ok();
    entries
        .filter_map(|entry| Some((version(&entry.file_name())?, entry.path().join(after))))
        .collect()
}

/// Takes `15.18` and 15 out of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(line: &str) -> Option<(String, u32)> {
    let version = line
        .split_whitespace()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    let major = version.split(|digit: char| !digit.is_ascii_digit()).next()?.parse().ok()?;
    Some((version.to_owned(), major))
}

/// Returns the command that installs a server on this machine, by its package manager.
fn install_command(has: impl Fn(&str) -> bool) -> String {
    let (_, command, needs_root) =
        PACKAGE_MANAGERS.iter().find(|(program, ..)| has(program)).unwrap_or(&PACKAGE_MANAGERS[0]);
    let sudo = if *needs_root && crate::embedded::os::effective_uid() != 0 { "sudo " } else { "" };
    format!("{sudo}{command}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str, major: u32) -> Binaries {
        Binaries { folder: PathBuf::from("/opt").join(version), version: version.to_owned(), major }
    }

    #[test]
    fn a_version_is_read_from_the_version_output_of_any_build() {
        let cases = [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(("15.18", 15))),
            ("postgres (PostgreSQL) 18beta1\n", Some(("18beta1", 18))),
            ("postgres (PostgreSQL) 9.6.24\n", Some(("9.6.24", 9))),
            ("something else\n", None),
        ];
        for (line, expected) in cases {
            assert_eq!(
                parse_version(line),
                expected.map(|(v, major)| (v.to_owned(), major)),
                "{line}"
            );
        }
    }

    #[test]
    fn the_first_suitable_server_is_chosen_and_the_data_decides_the_major_version() {
        let found = || [server("14.2", 14), server("17.1", 17), server("15.3", 15)].into_iter();
        assert_eq!(choose(found(), None), Ok(server("17.1", 17)));
        assert_eq!(choose(found(), Some(15)), Ok(server("15.3", 15)));
        assert_eq!(choose(found(), Some(16)), Err(Some(server("17.1", 17))));
        assert_eq!(choose(found().take(1), None), Err(Some(server("14.2", 14))));
        assert_eq!(choose(found().take(0), None), Err(None));
    }

    #[test]
    fn the_newest_of_versioned_folders_comes_first() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["pgsql-9.6", "pgsql-15", "pgsql-17", "pgsql-latest", "other-18"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        let mut found: Vec<u32> =
            versions(parent.path(), "pgsql-", "bin").into_iter().map(|(v, _)| v).collect();
        found.sort_unstable();
        assert_eq!(found, [9, 15, 17]);
    }

    #[test]
    fn without_programs_the_error_names_an_install_command_and_database_url() {
        let nowhere = tempfile::tempdir().unwrap();
        let folders = std::iter::once(nowhere.path().to_path_buf());
        let error = find_among(folders, None, nowhere.path()).unwrap_err().to_string();
        let installs = PACKAGE_MANAGERS.iter().any(|(_, command, _)| error.contains(command));
        assert!(installs && error.contains("DATABASE_URL"), "{error}");
    }

    #[test]
    fn the_install_command_is_the_platforms_own() {
        let cases = [
            ("apt-get", "apt-get install -y postgresql"),
            ("apk", "apk add postgresql"),
            ("brew", "brew install"),
        ];
        for (manager, expected) in cases {
            let command = install_command(|program| program == manager);
            assert!(command.contains(expected), "{manager}: {command}");
        }
    }
}
