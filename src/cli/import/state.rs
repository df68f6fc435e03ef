//! The state file of `tenant import`: which lines are done.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rows::Row;
use crate::cli::Failure;

/// The version of the form of the file.
const VERSION: u32 = 1;

/// What is done, and the file that keeps it.
pub(super) struct State {
    file: Option<PathBuf>,
    kept: Kept,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    /// By external id.
    done: BTreeMap<String, Done>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    /// The digest of the line. A line that was changed since is done again.
    digest: String,
    id: Uuid,
}

impl State {
    /// Reads the file, or creates it, so that one that cannot be written is told before anything is done. A dry run only
    /// reads it.
    pub(super) fn open(file: Option<&Path>, dry_run: bool) -> Result<Self, Failure> {
        let nothing = Kept { version: VERSION, done: BTreeMap::new() };
        let Some(file) = file else { return Ok(Self { file: None, kept: nothing }) };
        let unusable = |what: &str| Failure::usage(format!("--resume {}: {what}", file.display()));
        let kept = match fs::read(file) {
            Ok(text) => serde_json::from_slice(&text)
                .ok()
                .filter(|kept: &Kept| kept.version == VERSION)
                .ok_or_else(|| {
                    unusable("it is not a state file of this command; name another file")
                })?,
            Err(error) if error.kind() == ErrorKind::NotFound => nothing,
            Err(error) => return Err(unusable(&error.to_string())),
        };
        let state = Self { file: (!dry_run).then(|| file.to_owned()), kept };
        state.write().map_err(|error| unusable(&error.to_string()))?;
        Ok(state)
    }

    /// Whether a line is done.
    pub(super) fn has(&self, row: &Row) -> bool {
        let done = self.kept.done.get(row.upsert.external_id.as_str());
        done.is_some_and(|done| done.digest == row.digest)
    }

    /// Records that a line is done.
    pub(super) fn add(&mut self, row: &Row, id: Uuid) -> Result<(), Failure> {
        let done = Done { digest: row.digest.clone(), id };
        self.kept.done.insert(row.upsert.external_id.to_string(), done);
        self.write().map_err(Failure::io("write the state file"))
    }

    /// Writes the whole file anew beside the old one and puts it in its place, so that a kill leaves one of the two.
    fn write(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut name = file.as_os_str().to_owned();
        name.push(".new");
        let next = PathBuf::from(name);
        let mut out = fs::File::create(&next)?;
        out.write_all(&serde_json::to_vec(&self.kept)?)?;
        fs::rename(next, file)
    }
}
