//! Examines the purges that are due or have begun: whether they can be carried out.

use crate::domain::error::{Error, Result};
use crate::domain::names::SchemaName;
use crate::pg::catalog::inventory::TenantSchema;
use crate::pg::control::{purges, tenants};
use crate::pg::{During, schema};
use crate::service::doctor::check::Check;
use crate::service::doctor::check::findings::finding;
use crate::service::doctor::report::{Area, Finding, Gravity};

/// The most purges that are examined.
const EXAMINED_MAX: i64 = 1000;

const DURING: &str = "examine the purge of a tenant";

impl Check<'_> {
    /// Finds the purges that cannot go on, and what prevents each. Tries in a transaction that is rolled back.
    pub(super) async fn purges(&self, entries: &[TenantSchema]) -> Result<Vec<Finding>> {
        let due = {
            let tx = self.public().await?;
            tenants::list_due(&tx, self.now, &[], EXAMINED_MAX).await?
        };
        let mut findings = Vec::new();
        for entry in entries.iter().filter(|entry| due.contains(&entry.id)) {
            let tx = self.public().await?;
            let allowed = purges::list_allowed(&tx, entry.id).await?;
            let possible = schema::check(&tx, &SchemaName::of(entry.id), &allowed).await;
            drop(tx);
            match possible.during(DURING) {
                // A purge that runs at this moment has the locks.
                Ok(()) | Err(Error::Conflict(_)) => {}
                Err(Error::Purge(problem)) => {
                    let what = format!("it is to be purged by now, and cannot be: {problem}");
                    let next = "do what it says; the purge then goes on by itself, or by `rowhouse tenant purge`";
                    let (area, gravity) = (Area::Structure, Gravity::Wrong);
                    findings.push(finding(entry, area, gravity, what, next));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(findings)
    }
}
