//! What a bootstrap found, and whether a server may start with it.

use super::error::BootstrapError;
use super::exposure::{self, Exposure};
use crate::pg::rules::Isolation;
use crate::pg::rules::engine::Engine;
use crate::pg::rules::exposure::Exposures;

/// What the bootstrap found and did, for the log, `doctor` and the metrics.
#[derive(Debug, Clone)]
pub struct Posture {
    /// The version of the server, such as 150018.
    pub server_version: u32,
    /// The engine behind the database.
    pub engine: Engine,
    /// Its version, where it is an extension, such as 13.2-1.
    pub engine_version: Option<String>,
    /// How tenants are isolated.
    pub isolation: Isolation,
    /// The owner's login, quoted as an identifier.
    pub owner: String,
    /// What defeats the isolation and could not be revoked.
    pub exposures: Vec<Exposure>,
    /// What an operator should know besides, one sentence each.
    pub warnings: Vec<String>,
    /// The migrations of the control plane that this start applied.
    pub applied: Vec<String>,
}

impl Posture {
    /// Returns the names of the exposures that are open.
    #[must_use]
    pub fn open(&self) -> Exposures {
        exposure::names(&self.exposures)
    }

    /// Refuses exposures that are open and not accepted.
    ///
    /// # Errors
    /// [`BootstrapError::Exposed`], with a sentence for each and the two remedies.
    pub fn require_accepted(&self, accepted: &Exposures) -> Result<(), BootstrapError> {
        let is_accepted =
            |found: &&Exposure| found.name.is_some_and(|name| accepted.contains(name));
        let refused: Vec<Exposure> =
            self.exposures.iter().filter(|found| !is_accepted(found)).cloned().collect();
        if refused.is_empty() {
            return Ok(());
        }
        // The list that is printed is complete: it has what is accepted already.
        let accept = accepted.iter().chain(exposure::names(&refused).iter()).collect();
        Err(BootstrapError::Exposed { owner: self.owner.clone(), refused, accept })
    }

    /// Returns a sentence for each exposure and each warning, for the log.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let exposures = self.exposures.iter().map(|found| {
            format!(
                "{}; {} may not revoke it, a superuser may: {}",
                found.risk, self.owner, found.statement
            )
        });
        exposures.chain(self.warnings.iter().cloned()).collect()
    }
}
