//! The manifest of an archive, `manifest.json`: how much is in it, and the digests by which it is checked.

use serde::{Deserialize, Serialize};

/// The last file but one. Its signature makes it certain who wrote the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the form.
    pub format: u32,
    /// The rows of each table, in the order of the header.
    pub tables: Vec<Rows>,
    /// The audit events of the tenant.
    pub audit: Rows,
    /// The sequences of the schema.
    pub sequences: Vec<SequenceState>,
    /// The rows of all tables.
    pub rows: u64,
    /// The bytes of CSV of all tables, without the lines of column names.
    pub bytes: u64,
    /// The SHA-256 of all bytes before the manifest, in hex.
    pub sha256: String,
}

/// The rows of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The table.
    pub name: String,
    /// How many there are.
    pub rows: u64,
    /// Their bytes as CSV, without the lines of column names.
    pub bytes: u64,
    /// The SHA-256 of these bytes, in hex.
    pub sha256: String,
    /// The parts, at least one.
    pub parts: Vec<Part>,
}

/// A part: one file of the archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The rows in it.
    pub rows: u64,
    /// The bytes of CSV, the line of column names included.
    pub bytes: u64,
    /// The compressed bytes.
    pub packed: u64,
    /// The SHA-256 of the compressed bytes, in hex.
    pub sha256: String,
}

/// The state of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceState {
    /// The name.
    pub name: String,
    /// The last value that it gave, or the first that it will give.
    pub last_value: i64,
    /// Whether it has given a value.
    pub is_called: bool,
}
