//! The files of a set, in the order in which they run.

use std::path::{Path, PathBuf};

/// The first line of a file that does not run in a transaction.
const NO_TRANSACTION: &str = "-- rowhouse: no-transaction";

pub(super) struct Set {
    pub(super) files: Vec<File>,
}

pub(super) struct File {
    pub(super) name: String,
    pub(super) sql: String,
}

impl File {
    pub(super) fn runs_in_transaction(&self) -> bool {
        !self.sql.starts_with(NO_TRANSACTION)
    }

    pub(super) fn write(&self, folder: &Path) {
        std::fs::write(self.path(folder), &self.sql).expect("a file can be written");
    }

    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(&self.name)
    }

    fn version(&self) -> u32 {
        let number = self.name.strip_prefix('V').and_then(|rest| rest.split("__").next());
        number.and_then(|number| number.parse().ok()).expect("the name has a version")
    }
}

impl Set {
    /// Reads all files of a folder.
    pub(super) fn read(folder: &Path) -> Self {
        let entries = std::fs::read_dir(folder).expect("the folder is there");
        let mut files: Vec<File> = entries
            .map(|entry| {
                let path = entry.expect("the folder can be listed").path();
                let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
                File { name, sql: std::fs::read_to_string(path).expect("a file can be read") }
            })
            .collect();
        files.sort_by_key(File::version);
        Self { files }
    }
}
