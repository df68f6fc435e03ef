//! Examines what is beside the schemas of tenants: privileges that reach across tenants, orphans, the capacity of the
//! server, and credentials that are forgotten.

use time::Duration;

use crate::domain::error::Result;
use crate::domain::names::SchemaName;
use crate::pg::During;
use crate::pg::bootstrap::{self, BootstrapError, Exposure, privileges};
use crate::pg::catalog::cluster;
use crate::pg::catalog::inventory::{self, SchemaOwner, TenantSchema};
use crate::pg::catalog::{self};
use crate::pg::control::{capacity, tokens};
use crate::pg::rules::Isolation;
use crate::service::doctor::capacity::judge;
use crate::service::doctor::check::Check;
use crate::service::doctor::check::findings::{DROP, FIX, NODE_AWAY, finding};
use crate::service::doctor::report::{Area, Finding, Gravity, Remedy, Subject};

/// After how long without a use a token that never expires is reported.
const UNUSED_FOR: Duration = Duration::days(90);

/// The most tokens that are reported.
const UNUSED_MAX: i64 = 1000;

impl Check<'_> {
    /// Finds what a tenant could do outside of its own schema.
    pub(super) async fn privileges(&self) -> Result<Vec<Finding>> {
        let wrong = |what: String, next: String| {
            Finding::new(Area::Privileges, Gravity::Wrong, None, what, next)
        };
        let (exposures, unread) = {
            let tx = self.public().await?;
            let read = privileges::exposures(&tx, self.db.rules().engine).await;
            read.during("read the privileges of PUBLIC")?
        };
        let mut findings: Vec<Finding> =
            exposures.into_iter().map(|exposure| self.exposure(exposure)).collect();
        findings.extend(
            unread.into_iter().map(|what| {
                Finding::new(Area::Privileges, Gravity::Warning, None, what, NODE_AWAY)
            }),
        );
        if self.db.rules().engine.has_nodes() {
            let tx = self.public().await?;
            let lacking = privileges::nodes_without_right(&tx).await.during("ask the nodes")?;
            findings.extend(lacking.map(|nodes| wrong(nodes.what(), nodes.remedy())));
        }
        // That a tenant has no role, which it reports as well, is a finding of that tenant.
        if let Err(error) = bootstrap::self_test(self.db).await {
            let next = match error {
                BootstrapError::IsolationBroken { .. } => {
                    "see who granted it, and revoke it; `rowhouse serve` refuses to start like this"
                }
                _ => "check that the runtime login works; `rowhouse serve` sets it up",
            };
            findings.push(wrong(error.to_string(), next.to_owned()));
        }
        Ok(findings)
    }

    /// The finding that an exposure is open. One that is not accepted keeps a server from starting, unless this login
    /// may close it, as a start does.
    fn exposure(&self, exposure: Exposure) -> Finding {
        let accepted = exposure.name.filter(|name| self.db.rules().accepted.contains(*name));
        let statement = exposure.statement.clone();
        let (gravity, next) = match (accepted, exposure.may_revoke) {
            (Some(name), _) => (
                Gravity::Warning,
                format!(
                    "nothing: database.accept_exposures accepts {name}; this closes it: {statement}"
                ),
            ),
            (None, true) => (Gravity::Wrong, format!("{FIX}, or: {statement}")),
            (None, false) => {
                let accept = exposure.name.map_or_else(String::new, |name| {
                    format!(", or accept {name} in database.accept_exposures")
                });
                let next = format!(
                    "this login may not prevent it, and `rowhouse serve` refuses to start; let a superuser run: \
                     {statement}{accept}"
                );
                (Gravity::Wrong, next)
            }
        };
        let found = Finding::new(Area::Privileges, gravity, None, exposure.risk.clone(), next);
        if accepted.is_none() && exposure.may_revoke {
            return found.with_remedy(Remedy::Close(exposure));
        }
        found
    }

    /// Finds tenants and vacancies whose tables are on the coordinator of a cluster.
    pub(super) async fn undistributed(&self, entries: &[TenantSchema]) -> Result<Vec<Finding>> {
        if !self.db.rules().engine.has_nodes() {
            return Ok(Vec::new());
        }
        let tx = self.public().await?;
        let placements = cluster::placements(&tx).await.during("read the nodes of the cluster")?;
        let is_local = |entry: &&TenantSchema| {
            !matches!(entry.owner, SchemaOwner::None) && placements.get(&entry.id) == Some(&None)
        };
        let what = "it is not distributed: its tables are on the coordinator";
        let next = "run `rowhouse cluster distribute --all`";
        let found = |entry| finding(entry, Area::Structure, Gravity::Warning, what, next);
        Ok(entries.iter().filter(is_local).map(found).collect())
    }

    /// Finds schemas and roles that belong to no tenant and no vacancy.
    pub(super) async fn orphans(&self, entries: &[TenantSchema]) -> Result<Vec<Finding>> {
        let mut findings: Vec<Finding> = entries
            .iter()
            .filter(|entry| matches!(entry.owner, SchemaOwner::None))
            .map(|entry| {
                let what = format!("the schema {} belongs to no tenant", SchemaName::of(entry.id));
                finding(entry, Area::Orphans, Gravity::Wrong, what, DROP)
                    .with_remedy(Remedy::DropSchema)
            })
            .collect();
        if self.isolation() == Isolation::Role {
            let tx = self.public().await?;
            for id in inventory::orphan_roles(&tx).await.during("list roles")? {
                let subject = Subject { slug: None, id };
                let what = format!("the role {} belongs to no tenant", SchemaName::of(id));
                // Before PostgreSQL 16 many roles are slow; otherwise an unused role does no harm.
                let gravity = Gravity::Warning;
                findings.push(
                    Finding::new(Area::Orphans, gravity, Some(&subject), what, DROP)
                        .with_remedy(Remedy::DropRole),
                );
            }
        }
        Ok(findings)
    }

    /// Finds what the server will run out of.
    pub(super) async fn capacity(&mut self) -> Result<Vec<Finding>> {
        let facts = {
            let tx = self.public().await?;
            catalog::set_catalog_wide_limits(&tx).await.during("read the server's settings")?;
            capacity::read(&tx).await.during("read the server's settings")?
        };
        let version = self.set.version();
        let locks = match self.reference(version).await? {
            Ok(reference) => reference.locks,
            Err(reason) => {
                let what = format!("no tenant can be made: {reason}");
                return Ok(vec![Finding::new(
                    Area::Structure,
                    Gravity::Wrong,
                    None,
                    what,
                    "correct the tenant migrations",
                )]);
            }
        };
        Ok(judge(&facts, self.budget, locks))
    }

    /// Finds tokens and API keys that never expire and that no program seems to need.
    pub(super) async fn credentials(&self) -> Result<Vec<Finding>> {
        let since = self.now - UNUSED_FOR;
        let tx = self.public().await?;
        let unused = tokens::list_unused(&tx, since, UNUSED_MAX).await?;
        let finding = |token: tokens::Unused| {
            let days = UNUSED_FOR.whole_days();
            let tenant = token.tenant.map(|(id, slug)| Subject { slug: Some(slug), id });
            let what = match &tenant {
                Some(_) => format!(
                    "the token {:?} never expires and was not used for {days} days",
                    token.name
                ),
                None => format!(
                    "the token {} ({:?}) never expires and was not used for {days} days",
                    token.id, token.name
                ),
            };
            let next = format!("run `rowhouse token revoke {}` if no program needs it", token.id);
            Finding::new(Area::Credentials, Gravity::Warning, tenant.as_ref(), what, next)
        };
        Ok(unused.into_iter().map(finding).collect())
    }
}
