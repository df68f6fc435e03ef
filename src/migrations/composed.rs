//! Sets of an application: files that are built into its program, behind the built-in tenant set or instead of it.

use super::check::Whose;
use super::error::{LoadError, Refusal};
use super::file::File;
use super::{MigrationSet, file_name, folder, tenant_set};

/// Where the numbers of an application's files begin that run behind the built-in ones.
pub const BUILT_IN_BELOW: i32 = 100;

/// The name of the file with the allowances of the lint, beside the migrations.
const ALLOW_FILE: &str = super::lint::ALLOW_FILE;

/// The migration files of an application, from [`embed_migrations!`](crate::embed_migrations).
///
/// As tenant migrations they run behind the built-in ones, which create the tables of profiles; their numbers begin
/// at 100. [`instead_of_built_in`](Self::instead_of_built_in) leaves those out, and with them the routes that need
/// their tables.
#[derive(Debug, Clone)]
pub struct Migrations {
    files: &'static [(&'static str, &'static [u8])],
    instead: bool,
}

impl Migrations {
    /// Wraps files; [`embed_migrations!`](crate::embed_migrations) calls it.
    #[doc(hidden)]
    #[must_use]
    pub const fn embedded(files: &'static [(&'static str, &'static [u8])]) -> Self {
        Self { files, instead: false }
    }

    /// Returns the same files as the whole tenant set, without the built-in ones.
    #[must_use]
    pub const fn instead_of_built_in(mut self) -> Self {
        self.instead = true;
        self
    }

    /// Returns the text of a file that is not a migration, if there is one with this name.
    pub(crate) fn text(&self, name: &str) -> Option<&'static str> {
        let (_, bytes) = self.files.iter().find(|(file, _)| *file == name)?;
        std::str::from_utf8(bytes).ok()
    }

    /// Returns the allowances of the lint for these files.
    pub(crate) fn allowances(&self) -> &'static str {
        self.text(ALLOW_FILE).unwrap_or_default()
    }

    /// Whether they are the whole tenant set.
    pub(crate) const fn replaces_built_in(&self) -> bool {
        self.instead
    }
}

impl MigrationSet {
    /// The tenant set of an application: its files, behind the built-in ones unless they replace those.
    ///
    /// # Errors
    /// All that is wrong with the files; two files with one number, and a number of an application that is reserved for
    /// built-in files.
    pub fn of_application(own: &Migrations) -> Result<Self, LoadError> {
        let mut refusals = Vec::new();
        let mut files = folder::of_entries(own.files, &mut refusals);
        if own.instead {
            return Self::checked(files, Whose::Tenants, refusals);
        }
        let runner = tenant_set::migrations::runner();
        let built_in: Vec<File> = runner.get_migrations().iter().map(File::built_in).collect();
        for file in &files {
            let is_taken = built_in.iter().any(|other| other.version() == file.version());
            if !file.is_repeatable() && file.version() < BUILT_IN_BELOW && !is_taken {
                let message = format!(
                    "the numbers below {BUILT_IN_BELOW} are those of the built-in files; renumber it"
                );
                refusals.push(Refusal::of_file(&file_name(file), message));
            }
        }
        files.extend(built_in);
        let set = Self::checked(files, Whose::Tenants, refusals)?;
        Ok(Self { built_in_below: BUILT_IN_BELOW, ..set })
    }

    /// The set of the tables that all tenants of an application share.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub fn shared(own: &Migrations) -> Result<Self, LoadError> {
        let mut refusals = Vec::new();
        let files = folder::of_entries(own.files, &mut refusals);
        Self::checked(files, Whose::Tenants, refusals)
    }

    /// Whether the files create the tables of profiles, which some routes need.
    #[must_use]
    pub fn has_profiles(&self) -> bool {
        ["profiles", "profile_versions", "profile_events"]
            .iter()
            .all(|table| self.migrations.iter().any(|file| creates(file.sql(), table)))
    }
}

/// Whether a text creates a table of this name.
fn creates(sql: &str, table: &str) -> bool {
    let words: Vec<String> = sql
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .filter(|word| !["if", "not", "exists"].contains(&word.as_str()))
        .collect();
    words.windows(3).any(|three| three[0] == "create" && three[1] == "table" && three[2] == table)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: (&str, &[u8]) =
        ("V100__create_notes.sql", b"CREATE TABLE notes (id uuid PRIMARY KEY)");

    fn refused(files: &'static [(&'static str, &'static [u8])]) -> String {
        MigrationSet::of_application(&Migrations::embedded(files)).unwrap_err().to_string()
    }

    #[test]
    fn the_files_of_an_application_run_behind_the_built_in_ones_or_instead_of_them() {
        let own = Migrations::embedded(&[NOTES, ("README.md", b"notes")]);
        let built_in = MigrationSet::tenant().unwrap();
        let after = MigrationSet::of_application(&own).unwrap();
        let mut expected = built_in.files();
        expected.push("V100__create_notes.sql".to_owned());
        assert_eq!(after.files(), expected);
        assert!(built_in.has_profiles() && after.has_profiles());
        let instead = MigrationSet::of_application(&own.instead_of_built_in()).unwrap();
        assert_eq!(instead.files(), ["V100__create_notes.sql"]);
        assert!(!instead.has_profiles());
    }

    #[test]
    fn two_files_with_one_number_are_refused_by_both_names() {
        let text = refused(&[("V1__create_notes.sql", b"SELECT 1")]);
        assert!(
            text.contains("V1__create_notes.sql") && text.contains("V1__create_profiles.sql"),
            "{text}"
        );
        let text = refused(&[NOTES, ("V100__create_tags.sql", b"SELECT 1")]);
        assert!(text.contains("V100__create_tags.sql") && text.contains("same version"), "{text}");
    }

    #[test]
    fn a_number_that_a_later_built_in_file_may_have_is_refused() {
        let text = refused(&[("V99__create_notes.sql", b"SELECT 1")]);
        assert!(text.contains("V99__create_notes.sql") && text.contains("below 100"), "{text}");
        let text = refused(&[("more/V101__create_notes.sql", b"")]);
        assert!(text.contains("more/V101__create_notes.sql"), "{text}");
    }

    #[test]
    fn a_built_in_file_that_is_newer_than_one_of_the_application_is_not_late() {
        let set = MigrationSet::of_application(&Migrations::embedded(&[NOTES])).unwrap();
        let mut applied = set.history();
        let late = applied.iter().position(|row| row.version == 5).unwrap();
        applied.remove(late);
        assert_eq!(set.names(&set.pending(&applied).unwrap()), ["V5__protect_profile_events.sql"]);
        let built_in = MigrationSet::tenant().unwrap();
        let mut applied = built_in.history();
        applied.remove(2);
        assert!(built_in.pending(&applied).is_err(), "within one list it is late");
    }
}
