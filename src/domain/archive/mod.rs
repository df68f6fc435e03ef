//! Owns the form of an archive: one tenant's data, to be read here, elsewhere or without this program.
//!
//! An archive is a plain ustar stream of regular files in a fixed order ([`sequence`]): the header, the members, the
//! rows of each table in parts, the audit events in parts, the manifest and its signature. A part is one zstd frame of
//! CSV with a line of column names.
//!
//! Promises: an archive has data and never code; nothing in it is run or unpacked to a file system. Must not know: how
//! bytes are read, compressed or signed.

pub mod block;
pub mod header;
pub mod manifest;
pub mod problem;
pub mod sequence;

pub use block::{BLOCK, Block};
pub use header::{Column, Header, MemberEntry, MigrationFile, Table, TenantEntry};
pub use manifest::{Manifest, Part, Rows, SequenceState};
pub use problem::ArchiveProblem;
pub use sequence::{MemberKind, Sequence};

/// The version of the form that this program writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// The product in the header.
pub const PRODUCT: &str = "rowhouse";

/// The first bytes of a file that `age` has encrypted.
pub const AGE_MAGIC: &[u8] = b"age-encryption.org/";

/// A part is ended when it has this many compressed bytes.
pub const PART_PACKED: usize = 8 << 20;

/// A part is ended when it has this many bytes of CSV. One row alone may have more.
pub const PART_RAW: u64 = 64 << 20;

/// The most bytes of CSV in a part: those of the largest row.
pub const PART_RAW_MAX: u64 = 256 << 20;

/// The most compressed bytes of a part: what does not compress grows a little.
pub const PART_PACKED_MAX: u64 = PART_RAW_MAX + (4 << 20);

/// The most bytes of the header, of the members and of the manifest.
pub const JSON_MAX: u64 = 64 << 20;

/// The most bytes of the signature.
pub const SIGNATURE_MAX: u64 = 8 << 10;

/// The bytes at the end of an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Returns how many zero bytes follow a file of this size.
#[must_use]
pub fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    if over == 0 { 0 } else { BLOCK - over }
}

#[cfg(test)]
mod tests;
