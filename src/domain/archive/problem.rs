//! Owns the reasons why an archive is not written or not imported.

/// The most names that a sentence lists.
const NAMED_MAX: usize = 20;

/// Why an archive is not written or not imported. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
pub enum ArchiveProblem {
    /// A file of the archive is not what the form prescribes.
    #[error("the archive is not valid: {member}, at byte {offset}: {why}")]
    #[strum(serialize = "archive_invalid")]
    Invalid {
        /// The file.
        member: String,
        /// Where in the archive.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// What was read or stored has another digest or count than the manifest says.
    #[error("the archive is damaged: {member} has another {what} than the manifest says")]
    #[strum(serialize = "archive_digest")]
    Digest {
        /// The file or the table.
        member: String,
        /// What differs: digest, number of rows.
        what: &'static str,
    },
    /// The signature is not that of a key that is trusted here.
    #[error("the signature of the archive is not accepted: {0}")]
    #[strum(serialize = "archive_signature")]
    Signature(String),
    /// A later program wrote the archive.
    #[error("the archive has format {found}, and this program reads format {known}")]
    #[strum(serialize = "archive_newer_format")]
    NewerFormat {
        /// The format of the archive.
        found: u32,
        /// The format that this program reads.
        known: u32,
    },
    /// The archive was made with migrations that are not here.
    #[error(
        "the archive was made with {file}, which is not among the migrations here; install the program that has it"
    )]
    #[strum(serialize = "archive_ahead")]
    Ahead {
        /// The first file that is missing.
        file: String,
    },
    /// The archive was made with other migrations of the same version.
    #[error("the migrations of the archive differ from those here: {0}")]
    #[strum(serialize = "archive_diverged")]
    Diverged(String),
    /// The archive is encrypted.
    #[error("the archive is encrypted; decrypt it with `age --decrypt` first")]
    #[strum(serialize = "archive_encrypted")]
    Encrypted,
    /// A file of the archive is larger than it may be.
    #[error("{member} of the archive has more than {limit} bytes")]
    #[strum(serialize = "archive_too_large")]
    TooLarge {
        /// The file.
        member: String,
        /// The most that it may have.
        limit: u64,
    },
    /// The archive has tables, columns or sequences that the migrations do not make, or lacks some that they make.
    #[error("the tables are not those that the migrations make: {}", named(.0))]
    #[strum(serialize = "tenant_drifted")]
    Drifted(Vec<String>),
    /// The tenant does not have tables that a command names.
    #[error("the tenant does not have these tables: {}", named(.0))]
    #[strum(serialize = "unknown_tables")]
    UnknownTables(Vec<String>),
    /// Extensions are not installed here.
    #[error("the archive needs extensions that are not installed here: {}", named(.0))]
    #[strum(serialize = "extension_missing")]
    ExtensionMissing(Vec<String>),
    /// A tenant, a vacancy or a schema has the id.
    #[error("the id of the archive's tenant is taken here")]
    #[strum(serialize = "id_taken")]
    IdTaken,
    /// The database stores text in another encoding than UTF-8.
    #[error("the database stores text as {0}, and an archive has UTF-8")]
    #[strum(serialize = "encoding_not_utf8")]
    Encoding(String),
    /// The migrations cannot be run for the archive's tenant.
    #[error("the migrations fail for this archive: {0}")]
    #[strum(serialize = "archive_migration_failed")]
    MigrationFailed(String),
    /// The server refuses the rows.
    #[error("the rows of {table} cannot be stored: {why}")]
    #[strum(serialize = "archive_rows_refused")]
    RowsRefused {
        /// The table.
        table: String,
        /// What the server says.
        why: String,
    },
    /// The schema that was made is not what the migrations make.
    #[error("the imported schema is not what the migrations make: {}", named(.0))]
    #[strum(serialize = "archive_check_failed")]
    CheckFailed(Vec<String>),
    /// Requests hold the tables of one of the tenants, or another swap of one of them runs.
    #[error(
        "transactions inside of the tenants did not end in time, or another swap of one of them runs"
    )]
    #[strum(serialize = "swap_busy")]
    SwapBusy,
    /// The tenants have other migrations.
    #[error(
        "the tenants have other migrations, {one} and {other}; migrate both to the same version"
    )]
    #[strum(serialize = "swap_version_differs")]
    SwapVersionDiffers {
        /// The version of the one.
        one: String,
        /// The version of the other.
        other: String,
    },
    /// Both tenants of a swap are the same.
    #[error("a tenant is not swapped with itself")]
    #[strum(serialize = "swap_with_itself")]
    SwapWithItself,
    /// The reader of the archive takes less than 1 MiB a second.
    #[error(
        "what the archive is written to took less than 1 MiB a second for a minute; write it to a file"
    )]
    #[strum(serialize = "archive_reader_stalled")]
    ReaderStalled,
    /// Another export of the tenant is running.
    #[error("an export of the tenant is running")]
    #[strum(serialize = "export_running")]
    ExportRunning,
    /// The archive is in a state that does not allow the request.
    #[error("the archive is {0}")]
    #[strum(serialize = "archive_not_ready")]
    NotReady(String),
    /// The range that was asked for is behind the end of the archive.
    #[error("the archive has {0} bytes, and the range is not among them")]
    #[strum(serialize = "range_not_satisfiable")]
    OutOfRange(u64),
    /// The store of archives cannot be read or written.
    #[error("the store of archives is not available; its server tells why in its log")]
    #[strum(serialize = "store_unavailable")]
    StoreUnavailable,
    /// There is no room for the archive.
    #[error("there is no room for the archive")]
    #[strum(serialize = "insufficient_storage")]
    NoRoom,
}

impl ArchiveProblem {
    /// Returns the stable code for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.into()
    }
}

fn named(names: &[String]) -> String {
    let first = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first}; and {more} more"),
    }
}
