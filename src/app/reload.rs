//! Replaces settings of a running server: the filter of the log, the limits, and the TLS of the database.

use std::sync::Arc;

use super::BuildError;
use crate::config::Settings;
use crate::http::limits::Limits;
use crate::pg::connect::tls::TlsFiles;
use crate::telemetry;

/// Replaces settings of a running server. Cheap to clone.
#[derive(Clone)]
pub struct Reload {
    pub(super) limits: Arc<Limits>,
    pub(super) tls: Vec<TlsFiles>,
}

impl Reload {
    /// Takes the filter of the log and the limits from these settings, and reads the certificates of the database URL
    /// again, which new connections use. What is counted for a limit that stays the same stays counted. All other
    /// settings need a restart.
    ///
    /// # Errors
    /// [`BuildError`], which names the cause; then everything is as before.
    pub fn apply(&self, settings: &Settings) -> Result<(), BuildError> {
        telemetry::check_filter(&settings.log.filter)?;
        let read = self.tls.iter().map(TlsFiles::read).collect::<Result<Vec<_>, _>>()?;
        for (files, read) in self.tls.iter().zip(read) {
            files.replace(read);
        }
        telemetry::set_filter(&settings.log.filter)?;
        self.limits.replace(&settings.limits);
        Ok(())
    }
}
