//! The request for a migration: which tenants, which of them first, and how many at a time.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::error::{Error, Result};
use crate::domain::operation::Then;
use crate::domain::rule::{FieldProblem, Rule};
use crate::pg::PublicTx;
use crate::pg::control::migration_sets;

/// What to migrate, and how.
#[derive(Debug, Clone, Default)]
pub struct MigrationRequest {
    /// Only these tenants, by slug or id; all that are behind if the list is empty.
    pub tenants: Vec<String>,
    /// Tenants to migrate first.
    pub canary: Option<Canary>,
    /// How many tenants to migrate at the same time.
    pub workers: Option<usize>,
    /// Pause as soon as this many have failed.
    pub max_failures: Option<usize>,
}

/// Tenants to migrate first.
#[derive(Debug, Clone)]
pub struct Canary {
    /// This many, the oldest ones.
    pub count: u32,
    /// And these, by slug or id.
    pub tenants: Vec<String>,
    /// What follows if all of them were migrated.
    pub then: Then,
}

impl MigrationRequest {
    /// The request as the operation's row keeps it.
    pub(super) fn options(&self) -> Value {
        let canary = self.canary.as_ref().map(|canary| {
            json!({
                "count": canary.count, "tenants": canary.tenants, "then": canary.then.as_str(),
            })
        });
        json!({
            "tenants": self.tenants, "canary": canary, "workers": self.workers,
            "max_failures": self.max_failures,
        })
    }
}

/// Returns the ids of the named tenants, in the order of their names; `None` if none are named.
///
/// # Errors
/// [`Rule::UnknownTenant`] for each name, at its place in `field`.
pub(in crate::service) async fn resolve(
    tx: &PublicTx,
    field: &str,
    named: &[String],
) -> Result<Option<Vec<Uuid>>> {
    if named.is_empty() {
        return Ok(None);
    }
    let found = migration_sets::resolve(tx, named).await?;
    let unknown: Vec<FieldProblem> = named
        .iter()
        .enumerate()
        .filter(|(_, name)| !found.contains_key(*name))
        .map(|(at, _)| FieldProblem::new(format!("/{field}/{at}"), Rule::UnknownTenant))
        .collect();
    if unknown.is_empty() {
        Ok(Some(named.iter().filter_map(|name| found.get(name).copied()).collect()))
    } else {
        Err(Error::Invalid(unknown))
    }
}
