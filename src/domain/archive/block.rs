//! The 512 bytes before each file of an archive.
//!
//! A block is read by writing it again: it is accepted only if it equals, byte for byte, the block that this program
//! writes for the same name, size and time. So links, devices, PAX and GNU extensions, names of other forms and numbers
//! in base 256 have no way in.

use tar::{EntryType, Header};

/// The size of a block.
pub const BLOCK: usize = 512;

/// What a block says of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The name.
    pub name: String,
    /// The size in bytes.
    pub size: u64,
    /// When the archive was made, in seconds since 1970.
    pub made_at: u64,
}

/// The longest name in a block.
const NAME_MAX: usize = 100;

/// The largest size that fits in eleven octal digits.
const SIZE_MAX: u64 = (1 << 33) - 1;

impl Block {
    /// Returns the 512 bytes; `None` if the name or the size does not fit.
    #[must_use]
    pub fn to_bytes(&self) -> Option<[u8; BLOCK]> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        let is_named = !self.name.is_empty()
            && self.name.len() < NAME_MAX
            && self.name.bytes().all(is_plain)
            && self.name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if !is_named || self.size > SIZE_MAX || self.made_at > SIZE_MAX {
            return None;
        }
        let mut header = Header::new_ustar();
        header.set_path(&self.name).ok()?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(self.size);
        header.set_mtime(self.made_at);
        header.set_cksum();
        Some(*header.as_bytes())
    }

    /// Reads a block.
    ///
    /// # Errors
    /// Why it is not one of ours.
    pub fn read(bytes: &[u8; BLOCK]) -> Result<Self, &'static str> {
        let header = Header::from_byte_slice(bytes);
        if header.as_ustar().is_none() {
            return Err("the block is not a ustar header");
        }
        if header.entry_type() != EntryType::Regular {
            return Err("the entry is not a regular file");
        }
        let name = String::from_utf8(header.path_bytes().into_owned());
        let name = name.map_err(|_not_text| "the name is not text")?;
        let size = header.size().map_err(|_no_number| "the size is not a number")?;
        let made_at = header.mtime().map_err(|_no_number| "the time is not a number")?;
        let block = Self { name, size, made_at };
        match block.to_bytes() {
            Some(expected) if expected == *bytes => Ok(block),
            Some(_) => Err("the block has other fields than an archive of this program"),
            None => Err("the name or the size is not one of an archive"),
        }
    }
}
