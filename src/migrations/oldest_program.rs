//! The oldest program that works with the control plane after one of its migrations, as the file says.
//!
//! A program is named by its newest migration. The first line of a file is `-- works with: V39` where every program that
//! has `V39` can still serve once the file has run; such a file only adds what those do not need. A file that takes
//! something away works with the first program that does not use it. So a change that takes something away needs two
//! releases: one that stops using it, and a later one that drops it.

use super::{MigrationSet, Refusal, file_name};

/// The beginning of the line.
const WORKS_WITH: &str = "-- works with: V";

/// The first file that has the line. A file from before works with its own program and later ones.
const FIRST: i32 = 40;

/// The control plane's version after a file, and the oldest program that works with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldestProgram {
    /// The file's version.
    pub version: i32,
    /// The newest migration of that program.
    pub program: i32,
}

impl MigrationSet {
    /// Returns the oldest program for each file that names one, lowest version first.
    #[must_use]
    pub fn oldest_programs(&self) -> Vec<OldestProgram> {
        let of_file = |file: &super::File| {
            let program = read(file.sql()).ok().flatten()?;
            Some(OldestProgram { version: file.version(), program })
        };
        self.migrations.iter().filter_map(of_file).collect()
    }

    /// Returns what is wrong with the lines of the control plane's files.
    pub(super) fn check_oldest_programs(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for file in &self.migrations {
            let version = file.version();
            let problem = match read(file.sql()) {
                Ok(None) if version < FIRST => continue,
                Ok(Some(program)) if (1..=version).contains(&program) => continue,
                Ok(None) => format!(
                    "the first line names the oldest program that works with the control plane after this file: \
                     {WORKS_WITH}{version}, or an earlier one"
                ),
                Ok(Some(_)) => "a program that works with this file has it, or is older".to_owned(),
                Err(text) => format!("{text:?} is not the number of a file"),
            };
            refusals.push(Refusal::at_line(&file_name(file), 1, problem));
        }
        refusals
    }
}

/// Reads the first line of a file.
fn read(sql: &str) -> Result<Option<i32>, &str> {
    let first = sql.lines().next().unwrap_or_default();
    let Some(number) = first.strip_prefix(WORKS_WITH) else { return Ok(None) };
    number.trim().parse().map(Some).map_err(|_no_number| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_control_plane_names_the_oldest_program_that_works_with_it() {
        let set = MigrationSet::public().unwrap();
        assert_eq!(set.check_oldest_programs(), []);
        let first = OldestProgram { version: FIRST, program: FIRST };
        assert_eq!(set.oldest_programs().first(), Some(&first));
    }

    #[test]
    fn a_file_that_names_no_program_or_a_later_one_is_refused() {
        for (sql, problem) in [
            ("-- works with: V40\nSELECT 1", None),
            ("-- works with: V41\nSELECT 1", None),
            ("SELECT 1", Some("the first line names")),
            ("-- works with: V42\nSELECT 1", Some("has it, or is older")),
            ("-- works with: V0\nSELECT 1", Some("has it, or is older")),
            ("-- works with: Vx\nSELECT 1", Some("\"x\" is not the number")),
        ] {
            let set = MigrationSet::of(&[("V41__add_column", sql)]);
            let refused = set.check_oldest_programs();
            let message = refused.first().map(|refusal| refusal.message.as_str());
            match (message, problem) {
                (None, None) => {}
                (Some(message), Some(problem)) => assert!(message.contains(problem), "{message}"),
                other => panic!("{sql}: {other:?}"),
            }
        }
    }
}
