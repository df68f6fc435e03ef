//! Owns the migration files: reading them, refusing what would break our promise, running them by
//! refinery inside a transaction of ours.
//!
//! refinery's own driver commits after each file; ours does not, because a tenant is made whole or not
//! at all. A file that ended the transaction itself would commit half a tenant and write its next tables
//! into `public`, so such a file is refused when it is loaded ([`check`]), and after each file the runner
//! asks the server whether it is still in the same transaction and the same schema.
//!
//! A file that begins with the line [`MARK`] holds what PostgreSQL runs outside of a transaction alone. In
//! a schema that tenants work in it runs statement by statement ([`outside`]); in one that is made just now
//! nobody could be waiting, so there it runs like any other file, without its `CONCURRENTLY`.
//!
//! To add a file: `V<next number>__<verb>_<object>.sql` in `public_migrations/` or `tenant_migrations/`,
//! one purpose a file, never edited once merged: its checksum is remembered in every schema.

mod check;
mod error;
mod history;
pub mod lint;
pub(crate) mod statements;

use std::path::Path;

use refinery_core::Migration;
use sha2::{Digest, Sha256};

use crate::migrations::statements::Statement;

pub use check::check;
pub use error::{HistoryError, LoadError};
pub use history::{Applied, Beginning, OutsideFile, Pending, Segment};
pub use statements::MARK;

mod public_set {
    refinery::embed_migrations!("public_migrations");
}

mod tenant_set {
    refinery::embed_migrations!("tenant_migrations");
}

/// refinery's history table, one in each schema.
pub const HISTORY_TABLE: &str = "refinery_schema_history";

/// A set of migrations, read and found fit to run inside a transaction.
#[derive(Debug, Clone)]
pub struct MigrationSet {
    pub(crate) migrations: Vec<Migration>,
    /// What of each file runs by itself; none for a file that runs in the tenant's one transaction.
    pub(crate) outside: Vec<Option<Outside>>,
    fingerprint: String,
}

/// A file that runs outside of a transaction.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    pub(crate) statements: Vec<Statement>,
    /// The same as it runs inside of one.
    pub(crate) inside: String,
}

impl MigrationSet {
    /// The control plane's own migrations.
    ///
    /// # Errors
    /// None in a program that passed its tests; the set is checked like any other.
    pub fn public() -> Result<Self, LoadError> {
        Self::new(public_set::migrations::runner().get_migrations().clone())
    }

    /// The tenant migrations that are built in.
    ///
    /// # Errors
    /// As [`MigrationSet::public`].
    pub fn tenant() -> Result<Self, LoadError> {
        Self::new(tenant_set::migrations::runner().get_migrations().clone())
    }

    /// The migrations in a folder, which replace the built-in tenant set.
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        let unreadable = |source| LoadError::Unreadable { folder: folder.to_owned(), source };
        let mut migrations = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let file =
                path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            // Notes and dot files may lie beside the migrations; an SQL file that is none may not.
            if path.extension().is_none_or(|extension| extension != "sql") {
                continue;
            }
            let sql = std::fs::read_to_string(&path).map_err(unreadable)?;
            let stem = file.trim_end_matches(".sql");
            let migration = Migration::unapplied(stem, &sql)
                .map_err(|_unnamed| LoadError::Name { file: file.clone() })?;
            if *migration.prefix().to_string() != *"V" {
                return Err(LoadError::Name { file });
            }
            migrations.push(migration);
        }
        Self::new(migrations)
    }

    fn new(mut migrations: Vec<Migration>) -> Result<Self, LoadError> {
        migrations.sort();
        for pair in migrations.windows(2) {
            if pair[0].version() == pair[1].version() {
                return Err(LoadError::Repeated {
                    first: pair[0].to_string(),
                    second: pair[1].to_string(),
                });
            }
        }
        let mut outside = Vec::with_capacity(migrations.len());
        for migration in &migrations {
            let (file, sql) = (file_name(migration), migration.sql().unwrap_or_default());
            check(&file, sql)?;
            outside.push(if statements::is_marked(sql) {
                let inside = statements::without_concurrently(&file, sql)?;
                Some(Outside { statements: statements::split(&file, sql)?, inside })
            } else {
                None
            });
        }
        let mut set = Self { migrations, outside, fingerprint: String::new() };
        set.fingerprint = Self::fingerprint_of(&set.history());
        Ok(set)
    }

    /// The fingerprint of a set with these files.
    #[must_use]
    pub fn fingerprint_of(files: &[Applied]) -> String {
        let mut hash = Sha256::new();
        for file in files {
            // Text that is no number never was refinery's.
            let checksum: u64 = file.checksum.parse().unwrap_or_default();
            hash.update(file.version.to_be_bytes());
            hash.update(checksum.to_be_bytes());
        }
        hex::encode(hash.finalize().get(..16).unwrap_or_default())
    }

    /// The highest version in the set; 0 for an empty set.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.migrations.last().map_or(0, Migration::version)
    }

    /// A digest of the whole set; two schemas with one fingerprint were made by the same files.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The files, lowest version first.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.migrations.iter().map(file_name).collect()
    }

    /// The files with their texts, lowest version first.
    #[must_use]
    pub fn texts(&self) -> Vec<(String, &str)> {
        let text =
            |migration| (file_name(migration), Migration::sql(migration).unwrap_or_default());
        self.migrations.iter().map(text).collect()
    }

    /// The first files of the set, up to this version: what a schema that stands there was made by. None
    /// where no file has that version; version 0 stands before the first.
    #[must_use]
    pub fn up_to(&self, version: i32) -> Option<Self> {
        let count = self.migrations.iter().filter(|file| file.version() <= version).count();
        let migrations = self.migrations.get(..count)?.to_vec();
        let found = migrations.last().map_or(0, Migration::version);
        (found == version).then_some(())?;
        // A part of a set that was found good is good.
        Self::new(migrations).ok()
    }

    /// The history that the files leave in a schema when all are applied, one line a file: `version name
    /// checksum`, lowest version first.
    #[must_use]
    pub fn trail(&self) -> String {
        history::trail_of(&self.history())
    }

    /// The same files as one script, as the floor that the benchmark measures provisioning against.
    #[doc(hidden)]
    #[must_use]
    pub fn script_for_benchmarks(&self) -> String {
        self.migrations.iter().filter_map(Migration::sql).collect::<Vec<_>>().join("\n;\n")
    }
}
pub(crate) fn file_name(migration: &Migration) -> String {
    format!("{migration}.sql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_that_are_built_in_are_fit_to_run() {
        assert!(MigrationSet::public().unwrap().version() > 0);
        assert!(MigrationSet::tenant().unwrap().version() > 0);
    }

    #[test]
    fn a_folder_is_read_or_refused_by_the_name_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, sql: &str| std::fs::write(folder.path().join(name), sql).unwrap();
        write("V1__create_notes.sql", "CREATE TABLE notes (id uuid PRIMARY KEY)");
        write("README.md", "notes");
        assert_eq!(MigrationSet::load(folder.path()).unwrap().files(), ["V1__create_notes.sql"]);

        write("create_tags.sql", "SELECT 1");
        let error = MigrationSet::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("create_tags.sql") && error.contains("V<number>"), "{error}");
        std::fs::remove_file(folder.path().join("create_tags.sql")).unwrap();

        write("V1__create_tags.sql", "SELECT 1");
        let error = MigrationSet::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("same version"), "{error}");

        let missing = folder.path().join("nowhere");
        assert!(MigrationSet::load(&missing).unwrap_err().to_string().contains("nowhere"));
    }
}
