//! The flags of `migrate` without a verb, and the request that they make.

use clap::Args;

use crate::cli::{Failure, Output};
use crate::domain::operation::Then;
use crate::service::fleet::{Canary, MigrationRequest, RehearsalTarget};

#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "clap prints these comments, and backticks with them")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag on the command line")]
pub(super) struct Flags {
    /// Migrate the control plane and no tenant; servers of the release before serve on
    #[arg(long, conflicts_with_all = ["plan", "lint", "rehearse", "retry_failed", "canary", "canary_tenants", "go_on", "tenants", "workers", "max_failures"])]
    pub(super) control_plane_only: bool,
    /// Show which tenants are behind and by what, and change nothing
    #[arg(long, conflicts_with_all = ["rehearse", "retry_failed", "canary", "canary_tenants"])]
    pub(super) plan: bool,
    /// Check the tenant migrations, without a database, for statements that a distributed engine, a rolling
    /// deployment or traffic would not survive; exits with 1 if there are any
    #[arg(long, conflicts_with_all = ["plan", "rehearse", "retry_failed", "canary", "canary_tenants", "tenants", "workers", "max_failures"])]
    pub(super) lint: bool,
    /// Rehearse on one tenant (the first that is behind, or the one named) and roll it back
    #[arg(long, value_name = "TENANT", num_args = 0..=1, conflicts_with_all = ["retry_failed", "canary", "canary_tenants", "tenants"])]
    #[expect(clippy::option_option, reason = "how clap represents a flag with an optional value")]
    pub(super) rehearse: Option<Option<String>>,
    /// Rehearse on a vacancy, which has no users
    #[arg(long, requires = "rehearse")]
    pub(super) vacancy: bool,
    /// Migrate only this tenant, by slug or id; can be repeated
    #[arg(long = "tenant", value_name = "TENANT")]
    pub(super) tenants: Vec<String>,
    /// Migrate the N oldest first, then pause until `migrate resume`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) canary: Option<u32>,
    /// Migrate this tenant first, then pause; can be repeated
    #[arg(long = "canary-tenant", value_name = "TENANT")]
    pub(super) canary_tenants: Vec<String>,
    /// Do not pause after a canary that went well
    #[arg(long)]
    pub(super) go_on: bool,
    /// Tenants at the same time [env: ROWHOUSE_FLEET__WORKERS]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) workers: Option<u32>,
    /// Pause as soon as N tenants have failed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_failures: Option<u32>,
    /// Try the tenants again that failed in the last operation
    #[arg(long, conflicts_with_all = ["tenants", "canary", "canary_tenants", "workers", "max_failures"])]
    pub(super) retry_failed: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

impl Flags {
    pub(super) fn request(&self) -> MigrationRequest {
        let is_canary = self.canary.is_some() || !self.canary_tenants.is_empty();
        let then = if self.go_on { Then::Continue } else { Then::Pause };
        let number = |given: Option<u32>| given.and_then(|number| usize::try_from(number).ok());
        MigrationRequest {
            tenants: self.tenants.clone(),
            canary: is_canary.then(|| Canary {
                count: self.canary.unwrap_or(0),
                tenants: self.canary_tenants.clone(),
                then,
            }),
            workers: number(self.workers),
            max_failures: number(self.max_failures),
        }
    }

    /// Returns the schema to rehearse on.
    pub(super) fn rehearsal(&self) -> Result<RehearsalTarget, Failure> {
        match (self.rehearse.clone().flatten(), self.vacancy) {
            (Some(_), true) => {
                Err(Failure::usage("--vacancy goes with --rehearse without a tenant"))
            }
            (Some(named), false) => Ok(RehearsalTarget::Tenant(named)),
            (None, true) => Ok(RehearsalTarget::Vacancy),
            (None, false) => Ok(RehearsalTarget::FirstBehind),
        }
    }

    /// Refuses flags that contradict each other.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.go_on && self.canary.is_none() && self.canary_tenants.is_empty() {
            return Err(Failure::usage("--go-on needs --canary or --canary-tenant"));
        }
        Ok(())
    }

    /// Whether the flags ask for more than to migrate all tenants.
    pub(super) fn is_particular(&self) -> bool {
        !self.tenants.is_empty() || self.canary.is_some() || !self.canary_tenants.is_empty()
    }
}
