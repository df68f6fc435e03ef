//! What is examined beside the schemas of tenants: the walls between them, what is nobody's, what the server has
//! room for.

use crate::domain::error::Result;
use crate::domain::names::SchemaName;
use crate::pg::During;
use crate::pg::bootstrap::{self, BootstrapError, privileges};
use crate::pg::catalog::inventory::{self, SchemaOwner, TenantSchema};
use crate::pg::catalog::{self};
use crate::pg::control::capacity;
use crate::pg::rules::Isolation;
use crate::service::doctor::capacity::judge;
use crate::service::doctor::check::{DROP, Exam, FIX, finding};
use crate::service::doctor::report::{Area, Finding, Gravity, Remedy, Subject};

impl Exam<'_> {
    /// What a tenant could do beyond its own schema.
    pub(super) async fn walls(&self) -> Result<Vec<Finding>> {
        let wrong = |what: String, next: String| {
            Finding::new(Area::Walls, Gravity::Wrong, None, what, next)
        };
        let exposures = {
            let tx = self.public().await?;
            privileges::exposures(&tx).await.during("read what everybody may do")?
        };
        let mut findings: Vec<Finding> = exposures
            .into_iter()
            .map(|exposure| {
                if exposure.may_revoke {
                    let next = format!("{FIX}, or: {}", exposure.statement);
                    return wrong(exposure.risk.clone(), next).with_remedy(Remedy::Close(exposure));
                }
                // Known at each start, and nothing that this login could change.
                let next = format!(
                    "this login may not prevent it; let a superuser run: {}",
                    exposure.statement
                );
                Finding::new(Area::Walls, Gravity::Warning, None, exposure.risk, next)
            })
            .collect();
        // What else it tells, that a tenant has no role, is told with the tenant.
        if let Err(error) = bootstrap::self_test(&self.doctor.db).await {
            let next = match error {
                BootstrapError::IsolationBroken { .. } => {
                    "see who granted it, and take it back; `rowhouse serve` refuses to start like this"
                }
                _ => "see that the runtime login works; `rowhouse serve` sets it up",
            };
            findings.push(wrong(error.to_string(), next.to_owned()));
        }
        Ok(findings)
    }

    /// Schemas and roles that are nobody's.
    pub(super) async fn orphans(&self, houses: &[TenantSchema]) -> Result<Vec<Finding>> {
        let mut findings: Vec<Finding> = houses
            .iter()
            .filter(|house| matches!(house.owner, SchemaOwner::None))
            .map(|house| {
                let what = format!("the schema {} belongs to no tenant", SchemaName::of(house.id));
                finding(house, Area::Orphans, Gravity::Wrong, what, DROP)
                    .with_remedy(Remedy::DropSchema)
            })
            .collect();
        if self.isolation() == Isolation::Role {
            let tx = self.public().await?;
            for id in inventory::orphan_roles(&tx).await.during("list roles")? {
                let subject = Subject { slug: None, id };
                let what = format!("the role {} belongs to no tenant", SchemaName::of(id));
                // Before PostgreSQL 16 many roles are slow; otherwise it harms nobody.
                let gravity = Gravity::Warning;
                findings.push(
                    Finding::new(Area::Orphans, gravity, Some(&subject), what, DROP)
                        .with_remedy(Remedy::DropRole),
                );
            }
        }
        Ok(findings)
    }

    /// What the server will run out of.
    pub(super) async fn capacity(&mut self) -> Result<Vec<Finding>> {
        let facts = {
            let tx = self.public().await?;
            catalog::set_catalog_wide_limits(&tx).await.during("read the server's settings")?;
            capacity::read(&tx).await.during("read the server's settings")?
        };
        let version = self.doctor.set.version();
        let locks = match self.reference(version).await? {
            Ok(reference) => reference.locks,
            Err(reason) => {
                let what = format!("no tenant can be made: {reason}");
                return Ok(vec![Finding::new(
                    Area::Structure,
                    Gravity::Wrong,
                    None,
                    what,
                    "mend the tenant migrations",
                )]);
            }
        };
        Ok(judge(&facts, &self.doctor.budget, locks))
    }
}
