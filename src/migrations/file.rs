//! A file of a set: its name, its version, its text and its checksums.

use std::fmt;
use std::sync::OnceLock;

use refinery_core::Migration;

/// A file that was read.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Its name in the folder, without the extension.
    stem: String,
    version: i32,
    /// The name without version and extension.
    name: String,
    checksum: u64,
    /// The checksums of the same text with other line ends, or with a byte order mark: a checkout on another system, or
    /// a history from before line ends were made equal. Computed when they are first asked for.
    equal_checksums: OnceLock<Vec<u64>>,
    sql: String,
}

impl File {
    /// A file that runs once, `V<version>__<name>.sql`.
    pub(crate) fn versioned(stem: &str, version: i32, name: &str, text: String) -> Self {
        Self::new(stem, version, name, text)
    }

    /// A file that runs again when it changes, `R__<name>.sql`. In the history its version is a negative number that
    /// is derived from the name.
    pub(crate) fn repeatable(stem: &str, name: &str, text: String) -> Self {
        Self::new(stem, repeatable_version(name), name, text)
    }

    fn new(stem: &str, version: i32, name: &str, text: String) -> Self {
        let sql = if text.contains("\r\n") { text.replace("\r\n", "\n") } else { text };
        Self {
            stem: stem.to_owned(),
            version,
            name: name.to_owned(),
            checksum: checksum(version, name, &sql),
            equal_checksums: OnceLock::new(),
            sql,
        }
    }

    /// A file that is built into the program.
    pub(super) fn built_in(migration: &Migration) -> Self {
        let text = migration.sql().unwrap_or_default().to_owned();
        Self::versioned(&migration.to_string(), migration.version(), migration.name(), text)
    }

    /// The file as refinery knows it.
    pub(crate) fn to_refinery(&self) -> Option<Migration> {
        Migration::unapplied(&format!("V{}__{}", self.version, self.name), &self.sql).ok()
    }

    pub(crate) fn version(&self) -> i32 {
        self.version
    }

    /// Whether it runs again when it changes.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.version < 0
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// refinery's checksum of version, name and text.
    pub(crate) fn checksum(&self) -> u64 {
        self.checksum
    }

    /// Whether a recorded checksum is of the same text, whatever its line ends.
    pub(crate) fn accepts(&self, recorded: &str) -> bool {
        let Ok(recorded) = recorded.parse::<u64>() else { return false };
        recorded == self.checksum
            || self.equal_checksums.get_or_init(|| self.equal()).contains(&recorded)
    }

    fn equal(&self) -> Vec<u64> {
        const MARK: char = '\u{feff}';
        let of = |text: &str| checksum(self.version, &self.name, text);
        let crlf = self.sql.replace('\n', "\r\n");
        vec![of(&crlf), of(&format!("{MARK}{crlf}")), of(&format!("{MARK}{}", self.sql))]
    }

    /// Its text, with line feeds alone at the ends of lines.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stem)
    }
}

/// The version of a repeatable file in the history.
fn repeatable_version(name: &str) -> i32 {
    let hash = crc32fast::hash(name.as_bytes()) & 0x3fff_ffff;
    -1 - i32::try_from(hash).unwrap_or_default()
}

/// refinery's checksum. A repeatable file, which refinery does not know, is given the version 0.
fn checksum(version: i32, name: &str, sql: &str) -> u64 {
    let stem = format!("V{}__{name}", version.max(0));
    Migration::unapplied(&stem, sql).map_or(0, |migration| migration.checksum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_a_byte_order_mark_make_no_other_file() {
        let lf = "SELECT 1;\n-- é\nSELECT 2;\n";
        let crlf = lf.replace('\n', "\r\n");
        let of = |text: &str| File::versioned("V3__x", 3, "x", text.to_owned());
        assert_eq!(of(lf).checksum(), of(&crlf).checksum());
        assert_eq!(of(&crlf).sql(), lf);
        let refinery = |text: &str| Migration::unapplied("V3__x", text).unwrap().checksum();
        assert_eq!(of(lf).checksum(), refinery(lf));
        for recorded in [lf, &crlf, &format!("\u{feff}{lf}"), &format!("\u{feff}{crlf}")] {
            assert!(of(lf).accepts(&refinery(recorded).to_string()), "{recorded:?}");
            assert!(of(&crlf).accepts(&refinery(recorded).to_string()), "{recorded:?}");
        }
        assert!(!of(lf).accepts(&refinery("SELECT 1;\n").to_string()));
        assert!(!of(lf).accepts("none"));
    }

    #[test]
    fn a_repeatable_file_has_a_negative_version() {
        let of = |name: &str| File::repeatable(&format!("R__{name}"), name, "SELECT 1".to_owned());
        assert!(of("views").version() < 0 && of("views").is_repeatable());
        assert_eq!(of("views").version(), of("views").version());
        assert_ne!(of("views").version(), of("functions").version());
        assert_ne!(of("views").checksum(), 0);
    }
}
