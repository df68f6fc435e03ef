//! The file or the pipe that an archive is written to.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::Failure;
use super::control::{ArchiveView, Control};

/// Whether an archive goes to stdout.
pub(super) fn is_stdout(file: Option<&Path>) -> Result<bool, Failure> {
    let is_stdout = file == Some(Path::new("-"));
    if is_stdout && io::stdout().is_terminal() {
        return Err(Failure::usage("an archive is not for a terminal; name a file with -o"));
    }
    Ok(is_stdout)
}

pub(super) fn open_stdout() -> Result<tokio::fs::File, Failure> {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    Ok(tokio::fs::File::from_std(stdout.map_err(Failure::io("open stdout"))?))
}

/// Returns the file to write an archive to.
pub(super) fn output_file(file: Option<&Path>, view: &ArchiveView) -> PathBuf {
    file.map_or_else(|| PathBuf::from(view.file_name()), Path::to_owned)
}

/// Writes the content of an archive to a file, which has its name only once it is complete.
pub(super) async fn save(
    control: &Control,
    view: &ArchiveView,
    file: &Path,
) -> Result<(), Failure> {
    let part = Partial::create(file).await?;
    let mut out = part.open().await?;
    control.fetch_archive(view, &mut out).await?;
    part.finish(out, file).await
}

/// A file that has its name only once it is complete.
pub(super) struct Partial(PathBuf);

impl Partial {
    pub(super) async fn create(file: &Path) -> Result<Self, Failure> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = Self(file.with_file_name(name));
        tokio::fs::File::create(&part.0).await.map_err(Failure::io("create the archive"))?;
        Ok(part)
    }

    pub(super) async fn open(&self) -> Result<tokio::fs::File, Failure> {
        let options = tokio::fs::OpenOptions::new().write(true).open(&self.0).await;
        options.map_err(Failure::io("open the archive"))
    }

    pub(super) async fn finish(mut self, out: tokio::fs::File, file: &Path) -> Result<(), Failure> {
        out.sync_all().await.map_err(Failure::io("write the archive to disk"))?;
        let part = std::mem::take(&mut self.0);
        tokio::fs::rename(part, file).await.map_err(Failure::io("name the archive"))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // What failed is reported; a file that is left is only in the way.
            let _ = std::fs::remove_file(&self.0);
        }
    }
}
