//! Owns the migration files: loads and checks them, and compares them with a schema's history. `pg::schema` runs
//! them.
//!
//! refinery's own driver commits after each file; ours does not, because a tenant is created completely or
//! not at all. A file that ended the transaction itself would commit half a tenant and write its next tables
//! into `public`. Such a file is refused when it is loaded ([`check`]), and after each file the runner
//! asks the server whether it is still in the same transaction and the same schema.
//!
//! A file that begins with the line [`NO_TRANSACTION`] holds statements that PostgreSQL only runs outside a
//! transaction. In a schema that is in use it runs statement by statement. In a schema that is being created
//! no other transaction could wait, so there it runs like any other file, without its `CONCURRENTLY`.
//!
//! To add a file: `V<next number>__<verb>_<object>.sql` in `public_migrations/` or `tenant_migrations/`,
//! one purpose a file. Never edit a merged file: every schema stores its checksum. One in `public_migrations/` says in
//! its first line which programs it works with ([`oldest_program`]).

mod check;
mod composed;
mod copy;
pub(crate) mod digest;
mod error;
mod file;
mod folder;
mod history;
mod lexer;
pub mod lint;
mod oldest_program;
mod pieces;
pub mod repair;
mod splitter;
pub(crate) mod statements;

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use crate::migrations::check::Whose;
use crate::migrations::pieces::{Facts, Mentions};
use crate::migrations::statements::{Split, Statement};

pub use composed::{BUILT_IN_BELOW, Migrations};
pub use error::{HistoryError, LoadError, Refusal};
pub(crate) use file::File;
pub(crate) use history::HistoryGuard;
pub use history::{Applied, AppliedPrefix, NonTransactionalFile, Pending, Segment};
pub use oldest_program::OldestProgram;
pub(crate) use pieces::{Mention, Piece};
pub(crate) use splitter::messages;
pub use statements::NO_TRANSACTION;

mod public_set {
    refinery::embed_migrations!("public_migrations");
}

mod tenant_set {
    refinery::embed_migrations!("tenant_migrations");
}

/// refinery's history table, one in each schema.
pub const HISTORY_TABLE: &str = "refinery_schema_history";

const REPEATABLE_OUTSIDE: &str =
    "a repeatable file runs in the transaction; delete the line, or make it a file with a number";
const NUL: &str = "the file holds a NUL character, which is not text; remove it";

/// A set of migrations that was loaded and checked.
#[derive(Debug, Clone)]
pub struct MigrationSet {
    pub(crate) migrations: Vec<File>,
    /// For each file, how it runs outside a transaction; `None` for a file that runs in a transaction.
    pub(crate) non_transactional: Vec<Option<NonTransactional>>,
    /// What is known of each file from its text.
    facts: Vec<Facts>,
    /// What the files mention, once it was asked for.
    mentions: OnceLock<Mentions>,
    fingerprint: String,
    /// The files with lower numbers are built-in ones, of which new ones may come behind those of an application.
    built_in_below: i32,
}

/// A file that runs outside a transaction.
#[derive(Debug, Clone)]
pub(crate) struct NonTransactional {
    pub(crate) statements: Vec<Statement>,
    /// The file's text as it runs in a transaction, without `CONCURRENTLY`.
    pub(crate) transactional_sql: String,
}

impl MigrationSet {
    /// The control plane's own migrations.
    ///
    /// # Errors
    /// None if the program passed its tests; the set is checked like any other.
    pub fn public() -> Result<Self, LoadError> {
        Self::public_with(None)
    }

    /// The control plane's own migrations, and those in a folder, as a later program has them.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub fn public_with(later: Option<&Path>) -> Result<Self, LoadError> {
        // Checked once: a command line or a test opens several backends.
        static BUILT_IN: OnceLock<MigrationSet> = OnceLock::new();
        if later.is_none()
            && let Some(set) = BUILT_IN.get()
        {
            return Ok(set.clone());
        }
        let runner = public_set::migrations::runner();
        let mut files: Vec<File> = runner.get_migrations().iter().map(File::built_in).collect();
        let mut refusals = Vec::new();
        if let Some(folder) = later {
            files.extend(folder::read(folder, &mut refusals)?);
        }
        let set = Self::checked(files, Whose::ControlPlane, refusals)?;
        let refusals = set.check_oldest_programs();
        if !refusals.is_empty() {
            return Err(refusals.into());
        }
        Ok(if later.is_none() { BUILT_IN.get_or_init(|| set).clone() } else { set })
    }

    /// The built-in tenant migrations.
    ///
    /// # Errors
    /// As [`MigrationSet::public`].
    pub fn tenant() -> Result<Self, LoadError> {
        let runner = tenant_set::migrations::runner();
        let files = runner.get_migrations().iter().map(File::built_in).collect();
        Self::checked(files, Whose::Tenants, Vec::new())
    }

    /// The migrations in a folder, which replace the built-in tenant set.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        let mut refusals = Vec::new();
        let files = folder::read(folder, &mut refusals)?;
        Self::checked(files, Whose::Tenants, refusals)
    }

    /// A tenants' set with these files, each with its name without the extension.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(stem, sql): &(&str, &str)| match stem.strip_prefix("R__") {
            Some(name) => File::repeatable(stem, name, (*sql).to_owned()),
            None => File::built_in(&refinery_core::Migration::unapplied(stem, sql).unwrap()),
        };
        Self::checked(files.iter().map(file).collect(), Whose::Tenants, Vec::new()).unwrap()
    }

    /// Checks the files; what is wrong is added to `refusals`.
    fn checked(
        mut migrations: Vec<File>,
        whose: Whose,
        mut refusals: Vec<Refusal>,
    ) -> Result<Self, LoadError> {
        migrations.sort_by(|a, b| {
            (a.is_repeatable(), a.version(), a.name()).cmp(&(
                b.is_repeatable(),
                b.version(),
                b.name(),
            ))
        });
        for pair in migrations.windows(2) {
            if pair[0].version() == pair[1].version() {
                let first = file_name(&pair[0]);
                let message = if pair[0].is_repeatable() {
                    format!(
                        "in the history its name could not be told from that of {first}; rename one of them"
                    )
                } else {
                    format!("{first} has the same version; renumber one of them")
                };
                refusals.push(Refusal::of_file(&file_name(&pair[1]), message));
            }
        }
        // Repeatable files run in the order of their names.
        migrations.sort_by(|a, b| match (a.is_repeatable(), b.is_repeatable()) {
            (true, true) => a.name().cmp(b.name()),
            (a_repeats, b_repeats) => (a_repeats, a.version()).cmp(&(b_repeats, b.version())),
        });
        let mut non_transactional = Vec::with_capacity(migrations.len());
        let mut facts = Vec::with_capacity(migrations.len());
        for migration in &migrations {
            let (file, sql) = (file_name(migration), migration.sql());
            if let Some(before) = sql.split_once('\0').map(|(before, _)| before) {
                let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
                refusals.push(Refusal::at_line(&file, line, NUL));
            }
            let Split { statements, commands } = statements::split(&file, sql, &mut refusals);
            check::check(&file, sql, &statements, whose, &mut refusals);
            check::check_commands(&file, sql, &commands, &mut refusals);
            facts.push(Facts::of(sql, &statements));
            if migration.is_repeatable() && statements::is_non_transactional(sql) {
                refusals.push(Refusal::at_line(&file, 1, REPEATABLE_OUTSIDE));
            }
            non_transactional.push(statements::is_non_transactional(sql).then(|| {
                let transactional_sql = statements::without_concurrently(sql, &statements);
                NonTransactional { statements, transactional_sql }
            }));
        }
        if !refusals.is_empty() {
            return Err(refusals.into());
        }
        let (mentions, fingerprint, built_in_below) = (OnceLock::new(), String::new(), 0);
        let mut set =
            Self { migrations, non_transactional, facts, mentions, fingerprint, built_in_below };
        set.fingerprint = Self::fingerprint_of(&set.history());
        Ok(set)
    }

    /// The highest version in the set; 0 for an empty set.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.migrations.iter().map(File::version).max().unwrap_or_default().max(0)
    }

    /// A digest of the whole set; two schemas with the same fingerprint were created by the same files.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The files, lowest version first, then the repeatable ones by name.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.migrations.iter().map(file_name).collect()
    }

    /// The files with their texts, in the order in which they run.
    #[must_use]
    pub fn texts(&self) -> Vec<(String, &str)> {
        self.migrations.iter().map(|file| (file_name(file), file.sql())).collect()
    }

    /// The first files of the set, up to and including this version, and the repeatable ones. `None` if no file has that
    /// version; version 0 gives a set without versioned files.
    #[must_use]
    pub fn up_to(&self, version: i32) -> Option<Self> {
        let is_of_prefix = |file: &&File| file.version() <= version;
        let migrations: Vec<File> = self.migrations.iter().filter(is_of_prefix).cloned().collect();
        let found = migrations.iter().map(File::version).max().unwrap_or_default().max(0);
        (found == version).then_some(())?;
        // A prefix of a validated set is valid.
        let mut prefix = Self::checked(migrations, Whose::ControlPlane, Vec::new()).ok()?;
        prefix.built_in_below = self.built_in_below;
        Some(prefix)
    }

    /// The files of the set that a schema with this history has. A repeatable file that has changed since is not among
    /// them. `None` if the files alone do not make a set.
    #[must_use]
    pub fn applied_part(&self, applied: &[Applied]) -> Option<Self> {
        let is_applied = |file: &&File| {
            let mut rows = applied.iter();
            rows.any(|row| row.version == file.version() && file.accepts(&row.checksum))
        };
        let migrations = self.migrations.iter().filter(is_applied).cloned().collect();
        let mut part = Self::checked(migrations, Whose::ControlPlane, Vec::new()).ok()?;
        part.built_in_below = self.built_in_below;
        Some(part)
    }

    /// The history of a schema with all versioned files applied, as text: one line a file, `version name checksum`,
    /// lowest version first.
    #[must_use]
    pub fn history_text(&self) -> String {
        history::history_text(&self.history())
    }

    /// The files as one script: the lower bound that the provisioning benchmark compares with.
    #[doc(hidden)]
    #[must_use]
    pub fn script_for_benchmarks(&self) -> String {
        self.migrations.iter().map(File::sql).collect::<Vec<_>>().join("\n;\n")
    }
}

pub(crate) fn file_name(migration: &impl fmt::Display) -> String {
    format!("{migration}.sql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_sets_can_be_loaded() {
        assert!(MigrationSet::public().unwrap().version() > 0);
        assert!(MigrationSet::tenant().unwrap().version() > 0);
    }

    #[test]
    fn a_folder_is_loaded_or_refused_with_the_name_of_the_file() {
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
