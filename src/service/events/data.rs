//! What each type of event tells beside the envelope, made from the details of the stored event.
//!
//! Thin on purpose: ids, changed names, a revision. A reader that needs more asks for the resource. No address, hint,
//! setting or other value that could be a secret.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::domain::AuditAction;
use crate::pg::control::audit_chain::Entry;

/// What an event tells, from the stored event.
pub(super) trait Data: Serialize + ToSchema {
    fn of(entry: &Entry) -> Self;
}

fn text(details: &Value, key: &str) -> Option<String> {
    details[key].as_str().map(str::to_owned)
}

/// A tenant was set up.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantCreated {
    /// The revision of the tenant's record; null in events from before events told it.
    #[schema(required)]
    revision: Option<i64>,
    /// Its name.
    #[schema(required)]
    name: Option<String>,
    /// Whether the account of its first admin was `created` or `linked`; null without an admin.
    #[schema(required)]
    admin: Option<String>,
    /// The schema of another tool that became the tenant's; null for a new one.
    #[schema(required)]
    adopted_schema: Option<String>,
    /// When it ends and is purged; absent if it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    expires_at: Option<String>,
}

impl Data for TenantCreated {
    fn of(entry: &Entry) -> Self {
        let details = &entry.details;
        Self {
            revision: details["revision"].as_i64(),
            name: text(details, "name"),
            admin: text(details, "admin"),
            adopted_schema: text(details, "schema"),
            expires_at: text(details, "expires_at"),
        }
    }
}

/// The old and the new value of a field.
#[derive(Serialize, ToSchema)]
#[schema(as = EventChange)]
pub(super) struct Change {
    /// The value before; null if there was none.
    #[schema(required)]
    from: Option<String>,
    /// The value after; null if there is none.
    #[schema(required)]
    to: Option<String>,
}

/// What was changed.
#[derive(Serialize, ToSchema)]
#[schema(as = EventChanges)]
pub(super) struct Changes {
    /// The slug; absent if it stayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    slug: Option<Change>,
    /// The name; absent if it stayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    name: Option<Change>,
    /// The organisation; absent if it stayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    org: Option<Change>,
    /// When it ends; absent if that stayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    expires_at: Option<Change>,
    /// True if the contact's address changed, which is personal and not told; absent if it stayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    contact_changed: Option<bool>,
    /// The names of the changed settings, whose values may be secret; absent if all stayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    settings: Option<Vec<String>>,
}

/// A tenant's record was changed.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantUpdated {
    /// The revision of the tenant's record; null in events from before events told it.
    #[schema(required)]
    revision: Option<i64>,
    /// What was changed.
    #[schema(inline)]
    changes: Changes,
}

impl Data for TenantUpdated {
    fn of(entry: &Entry) -> Self {
        let details = &entry.details;
        // An event from before had the changes themselves as its details.
        let nothing = Map::new();
        let changes = details["changes"].as_object().or(details.as_object()).unwrap_or(&nothing);
        let change = |key: &str| {
            let change = changes.get(key).filter(|change| change.is_object())?;
            Some(Change { from: text(change, "from"), to: text(change, "to") })
        };
        let names = |names: &Value| -> Option<Vec<String>> {
            Some(names.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        Self {
            revision: details["revision"].as_i64(),
            changes: Changes {
                slug: change("slug"),
                name: change("name"),
                org: change("org"),
                expires_at: change("expires_at"),
                contact_changed: changes.get("contact_changed").and_then(Value::as_bool),
                settings: changes.get("settings").and_then(names),
            },
        }
    }
}

/// A tenant's status was changed.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantMoved {
    /// The revision of the tenant's record; null in events from before events told it.
    #[schema(required)]
    revision: Option<i64>,
    /// Its status: `active`, `suspended` or `deleting`.
    #[schema(required)]
    status: Option<String>,
    /// Its status before.
    #[schema(required)]
    previous_status: Option<String>,
}

impl Data for TenantMoved {
    fn of(entry: &Entry) -> Self {
        let details = &entry.details;
        Self {
            revision: details["revision"].as_i64(),
            status: text(details, "to"),
            previous_status: text(details, "from"),
        }
    }
}

/// A tenant was deleted and can be restored until its purge.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantDeletionScheduled {
    /// The revision of the tenant's record; null in events from before events told it.
    #[schema(required)]
    revision: Option<i64>,
    /// Its status: `deleting`.
    #[schema(required)]
    status: Option<String>,
    /// Its status before.
    #[schema(required)]
    previous_status: Option<String>,
    /// When its purge is due; null in events from before events told it.
    #[schema(required, format = DateTime)]
    purge_after: Option<String>,
}

impl Data for TenantDeletionScheduled {
    fn of(entry: &Entry) -> Self {
        let TenantMoved { revision, status, previous_status } = TenantMoved::of(entry);
        let purge_after = text(&entry.details, "purge_after");
        Self { revision, status, previous_status, purge_after }
    }
}

/// A tenant came to its end.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantExpired {
    /// The revision of the tenant's record.
    #[schema(required)]
    revision: Option<i64>,
    /// Its status: `deleting`.
    #[schema(required)]
    status: Option<String>,
    /// Its status before.
    #[schema(required)]
    previous_status: Option<String>,
    /// When it ended.
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
}

impl Data for TenantExpired {
    fn of(entry: &Entry) -> Self {
        let TenantMoved { revision, status, previous_status } = TenantMoved::of(entry);
        let expires_at = text(&entry.details, "expires_at");
        Self { revision, status, previous_status, expires_at }
    }
}

/// A tenant was purged: its data is gone.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantPurged {
    /// Higher than every revision that the tenant's record had; null in events from before events told it.
    #[schema(required)]
    revision: Option<i64>,
    /// Its last name.
    #[schema(required)]
    name: Option<String>,
}

impl Data for TenantPurged {
    fn of(entry: &Entry) -> Self {
        let details = &entry.details;
        Self { revision: details["revision"].as_i64(), name: text(details, "name") }
    }
}

/// A member of a tenant.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberChanged {
    /// The id of the user.
    #[schema(required, format = Uuid)]
    user_id: Option<String>,
    /// The role; the last one of a member who was removed.
    #[schema(required)]
    role: Option<String>,
}

impl Data for MemberChanged {
    fn of(entry: &Entry) -> Self {
        Self { user_id: text(&entry.details, "user"), role: text(&entry.details, "role") }
    }
}

/// A member's role was changed.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberRoleChanged {
    /// The id of the user.
    #[schema(required, format = Uuid)]
    user_id: Option<String>,
    /// The role.
    #[schema(required)]
    role: Option<String>,
    /// The role before.
    #[schema(required)]
    previous_role: Option<String>,
}

impl Data for MemberRoleChanged {
    fn of(entry: &Entry) -> Self {
        let details = &entry.details;
        Self {
            user_id: text(details, "user"),
            role: text(details, "to"),
            previous_role: text(details, "from"),
        }
    }
}

/// A token or an API key.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenChanged {
    /// The id of the token.
    #[schema(required, format = Uuid)]
    token_id: Option<String>,
    /// Its kind: `token`, `api_key`, `xtoken` or `person`; null in events from before events told it.
    #[schema(required)]
    kind: Option<String>,
}

impl Data for TokenChanged {
    fn of(entry: &Entry) -> Self {
        let of_key = || match entry.action.parse() {
            Ok(
                AuditAction::ApiKeyCreate | AuditAction::ApiKeyRevoke | AuditAction::ApiKeyRotate,
            ) => Some("api_key".to_owned()),
            _ => None,
        };
        let details = &entry.details;
        Self { token_id: text(details, "token"), kind: text(details, "kind").or_else(of_key) }
    }
}

/// Counts of the tenants of a migration by state.
#[derive(Serialize, ToSchema)]
#[schema(as = EventMigrationCounts)]
pub(super) struct Counts {
    /// All tenants.
    total: i64,
    /// Not begun.
    pending: i64,
    /// Begun.
    running: i64,
    /// Migrated.
    done: i64,
    /// Could not be migrated.
    failed: i64,
    /// Skipped.
    skipped: i64,
}

/// A fleet migration, as it is after the event.
#[derive(Serialize, ToSchema)]
pub(super) struct MigrationChanged {
    /// The id of the migration.
    #[schema(required, format = Uuid)]
    migration_id: Option<String>,
    /// Its state: `planned`, `running`, `paused`, `done`, `failed` or `cancelled`; null in events from before events told
    /// it.
    #[schema(required)]
    state: Option<String>,
    /// Why it is paused: `asked`, `canary`, `canary_failed` or `max_failures`; null if it is not.
    #[schema(required)]
    reason: Option<String>,
    /// Counts of its tenants; null in events from before events told them.
    #[schema(required, inline)]
    counts: Option<Counts>,
    /// Where to read it, with the result of each tenant.
    #[schema(required)]
    path: Option<String>,
}

impl Data for MigrationChanged {
    fn of(entry: &Entry) -> Self {
        let details = &entry.details;
        let count = |name: &str| details["counts"][name].as_i64().unwrap_or_default();
        let id = text(details, "operation");
        Self {
            path: id.as_ref().map(|id| format!("/control/v1/migrations/{id}")),
            migration_id: id,
            state: text(details, "state"),
            reason: text(details, "reason"),
            counts: details["counts"].is_object().then(|| Counts {
                total: count("total"),
                pending: count("pending"),
                running: count("running"),
                done: count("done"),
                failed: count("failed"),
                skipped: count("skipped"),
            }),
        }
    }
}

/// A user's password was set by another caller.
#[derive(Serialize, ToSchema)]
pub(super) struct PasswordReset {
    /// The id of the user.
    #[schema(required, format = Uuid)]
    user_id: Option<String>,
}

impl Data for PasswordReset {
    fn of(entry: &Entry) -> Self {
        Self { user_id: text(&entry.details, "user") }
    }
}

/// A refresh token was used twice.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionReuse {
    /// The id of the user whose session ended.
    #[schema(required, format = Uuid)]
    user_id: Option<String>,
}

impl Data for SessionReuse {
    fn of(entry: &Entry) -> Self {
        Self { user_id: entry.actor.strip_prefix("user:").map(str::to_owned) }
    }
}
