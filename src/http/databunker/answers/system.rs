//! The response bodies of unlocks and of the calls across tenants.
//!
//! A call across tenants that could not ask all of them is an error with the results of the others: the vendor's clients
//! look for `"status": "ok"`, and would take what is missing for what is not there.

use crate::domain::json::Value;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Status;
use crate::domain::Tenant;
use crate::service::system::{Found, Unasked};

/// An unlock.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerUnlock)]
pub(crate) struct Unlock {
    pub(crate) status: Status,
    /// The unlock, valid for 60 seconds.
    pub(crate) unlockuuid: String,
}

/// The status of a call across tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = DatabunkerCompleteness)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Completeness {
    /// Every active tenant was asked.
    Ok,
    /// Some tenants could not be asked; `errors` lists them.
    Error,
}

/// The status of a call across tenants, and the sentence of one that is incomplete.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerOutcome)]
pub(crate) struct Outcome {
    pub(crate) status: Completeness,
    /// What is missing, for people; absent if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    message: Option<&'static str>,
}

impl Outcome {
    /// A tenant that is suspended or being deleted is left out on purpose, and makes no call incomplete.
    pub(crate) fn of(unasked: &[(Tenant, Unasked)]) -> Self {
        if unasked.iter().all(|(_, why)| *why != Unasked::Failed) {
            return Self { status: Completeness::Ok, message: None };
        }
        let message =
            "Some tenants could not be asked; errors lists them, and the result lacks them";
        Self { status: Completeness::Error, message: Some(message) }
    }
}

/// A person's records in all tenants.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerFound)]
pub(crate) struct FoundPage {
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// The number of matching records, which can be more than the rows.
    pub(crate) total: i64,
    pub(crate) rows: Vec<FoundRow>,
    /// The tenants that were not searched; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) errors: Vec<UnaskedRow>,
}

/// A person's record in a tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerFoundRow)]
pub(crate) struct FoundRow {
    tenantid: i64,
    tenantname: String,
    token: Uuid,
    #[schema(value_type = Object, additional_properties = true)]
    profile: Value,
}

impl From<&Found> for FoundRow {
    fn from(found: &Found) -> Self {
        Self {
            tenantid: found.tenant.number,
            tenantname: found.tenant.slug.to_string(),
            token: found.profile.id.uuid(),
            profile: found.profile.document.as_value().clone(),
        }
    }
}

/// A tenant that was not processed.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerUnasked)]
pub(crate) struct UnaskedRow {
    tenantid: i64,
    tenantname: String,
    /// The reason, for people.
    message: &'static str,
}

impl UnaskedRow {
    pub(crate) fn all(unasked: &[(Tenant, Unasked)]) -> Vec<Self> {
        let row = |(tenant, why): &(Tenant, Unasked)| Self {
            tenantid: tenant.number,
            tenantname: tenant.slug.to_string(),
            message: match why {
                Unasked::NotActive => "The tenant is not active",
                Unasked::Failed => "The tenant could not be asked",
            },
        };
        unasked.iter().map(row).collect()
    }
}

/// The records that were deleted.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerErased)]
pub(crate) struct DeletedPage {
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    pub(crate) total: usize,
    pub(crate) rows: Vec<DeletedRow>,
    /// The tenants in which the records were not deleted; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) errors: Vec<UnaskedRow>,
}

/// A record that was deleted.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerErasedRow)]
pub(crate) struct DeletedRow {
    pub(crate) token: Uuid,
    pub(crate) tenantid: i64,
    pub(crate) tenantname: String,
}

/// A restored record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerRestored)]
pub(crate) struct Restored {
    pub(crate) status: Status,
    /// Always `restored`.
    pub(crate) result: &'static str,
    /// The token of the record, the same as before.
    pub(crate) token: Uuid,
    #[schema(value_type = Object, additional_properties = true)]
    pub(crate) profile: Value,
}

/// The totals of all tenants.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerStats)]
pub(crate) struct StatsRead {
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    pub(crate) stats: Stats,
    /// The tenants that are not counted; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) errors: Vec<UnaskedRow>,
}

/// The totals.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerCounts)]
pub(crate) struct Stats {
    pub(crate) numusers: i64,
    pub(crate) numtenants: i64,
    pub(crate) numtokens: i64,
    pub(crate) numsessions: i64,
    pub(crate) totalnumrecords: i64,
}
