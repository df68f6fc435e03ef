//! The names of the files of an archive, and the order in which they follow each other.

use super::header::Table;

/// The name of the header.
pub const HEADER: &str = "rowhouse.json";
/// The name of the members.
pub const MEMBERS: &str = "members.json";
/// The name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// The name of the signature.
pub const SIGNATURE: &str = "manifest.jws";

/// The most characters of a table's name in the name of its folder.
const LABEL_MAX: usize = 40;

/// The most tables of an archive.
pub const TABLES_MAX: usize = 9_999;

/// A file of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// Whose data it is.
    Header,
    /// The members of the tenant.
    Members,
    /// Rows of a table.
    Rows {
        /// The table, from 0.
        table: usize,
        /// The part, from 0.
        part: usize,
    },
    /// Audit events.
    Audit {
        /// The part, from 0.
        part: usize,
    },
    /// The manifest.
    Manifest,
    /// The signature of the manifest.
    Signature,
}

impl MemberKind {
    /// Returns the name of the file.
    #[must_use]
    pub fn name(self, tables: &[Table]) -> String {
        match self {
            Self::Header => HEADER.to_owned(),
            Self::Members => MEMBERS.to_owned(),
            Self::Rows { table, part } => {
                let name = tables.get(table).map_or("", |table| table.name.as_str());
                format!("data/{:04}-{}/{part:06}.csv.zst", table + 1, label(name))
            }
            Self::Audit { part } => format!("audit/{part:06}.csv.zst"),
            Self::Manifest => MANIFEST.to_owned(),
            Self::Signature => SIGNATURE.to_owned(),
        }
    }
}

/// Returns the part of a table's name that a file system and a tar header take.
fn label(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    name.chars().take(LABEL_MAX).map(plain).collect()
}

/// The position in an archive that is being read.
#[derive(Debug, Default)]
pub struct Sequence {
    last: Option<MemberKind>,
}

impl Sequence {
    /// Accepts the name of the next file and returns which file that is; `None` if it is not one that may follow.
    pub fn accept(&mut self, name: &str, tables: &[Table]) -> Option<MemberKind> {
        let found = self.next(tables).into_iter().find(|kind| kind.name(tables) == name)?;
        self.last = Some(found);
        Some(found)
    }

    /// Returns the files that may follow.
    fn next(&self, tables: &[Table]) -> Vec<MemberKind> {
        let after_table = |table: usize| {
            if table < tables.len() {
                MemberKind::Rows { table, part: 0 }
            } else {
                MemberKind::Audit { part: 0 }
            }
        };
        match self.last {
            None => vec![MemberKind::Header],
            Some(MemberKind::Header) => vec![MemberKind::Members],
            Some(MemberKind::Members) => vec![after_table(0)],
            Some(MemberKind::Rows { table, part }) => {
                vec![MemberKind::Rows { table, part: part + 1 }, after_table(table + 1)]
            }
            Some(MemberKind::Audit { part }) => {
                vec![MemberKind::Audit { part: part + 1 }, MemberKind::Manifest]
            }
            Some(MemberKind::Manifest) => vec![MemberKind::Signature],
            Some(MemberKind::Signature) => Vec::new(),
        }
    }

    /// Whether the last file has been read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.last == Some(MemberKind::Signature)
    }
}
