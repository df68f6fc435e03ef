//! The header of an archive, `rowhouse.json`, and its members, `members.json`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::domain::Role;

/// The first file: whose data it is, and which structure the data has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Header {
    /// The version of the form.
    pub format: u32,
    /// `rowhouse`.
    pub product: String,
    /// The version of the program that wrote it.
    pub program: String,
    /// When the snapshot was taken (RFC 3339).
    pub made_at: String,
    /// The version of PostgreSQL.
    pub server_version: String,
    /// The tenant.
    pub tenant: TenantEntry,
    /// The migrations that its schema had.
    pub migrations: Vec<MigrationFile>,
    /// The extensions to which types of its columns belong.
    pub extensions: Vec<String>,
    /// The tables, in the order in which their rows follow: a table after those that it references.
    pub tables: Vec<Table>,
    /// What the archive lacks, in sentences.
    pub warnings: Vec<String>,
}

/// The tenant in the control plane.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TenantEntry {
    /// The id.
    pub id: Uuid,
    /// The slug.
    pub slug: String,
    /// The display name.
    pub name: String,
    /// The organisation behind it.
    pub org: Option<String>,
    /// The address of its contact.
    pub contact: Option<String>,
    /// The id in its creator's own system.
    pub external_id: Option<String>,
    /// The status.
    pub status: String,
    /// When it was set up (RFC 3339).
    pub created_at: String,
    /// The application's own settings, as they were written.
    pub settings: Box<RawValue>,
}

/// A migration that the schema had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationFile {
    /// The version; negative for a file that runs again when it changes.
    pub version: i32,
    /// The name without version and extension.
    pub name: String,
    /// The checksum of version, name and text.
    pub checksum: String,
}

/// A table whose rows the archive has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The name.
    pub name: String,
    /// The columns, in the order of the CSV. Generated columns are not among them.
    pub columns: Vec<Column>,
    /// How many rows the table has, as the server estimates.
    pub estimate: i64,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The type. One of the tenant's own has no schema.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A member of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEntry {
    /// The address of the account.
    pub email: String,
    /// The given name.
    pub first_name: String,
    /// The family name.
    pub last_name: String,
    /// The role in the tenant.
    pub role: Role,
}
