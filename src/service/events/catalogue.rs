//! The types of events: one row for each, with what it means, what it tells, and a JSON schema of all of it.
//!
//! To add a type: a variant of [`EventType`], a row in [`row`], and the action that it comes from in
//! [`AuditAction::event_type`](crate::domain::AuditAction::event_type).

use serde_json::{Value, json};

use super::data::{
    Data, MemberChanged, MemberRoleChanged, MigrationChanged, PasswordReset, SessionReuse,
    TenantCreated, TenantDeletionScheduled, TenantExpired, TenantMoved, TenantPurged,
    TenantUpdated, TokenChanged,
};
use crate::domain::EventType;
use crate::pg::control::audit_chain::Entry;

/// The version of the form of an event.
pub(super) const VERSION: i32 = 1;

/// A type of events.
#[derive(Debug)]
pub struct TypeInfo {
    /// The type.
    pub kind: EventType,
    /// What it means.
    pub description: &'static str,
    /// The version of the form of its events.
    pub version: i32,
    /// A JSON schema (draft 2020-12) that every event of this type and version satisfies.
    pub schema: Value,
}

/// A row of the catalogue.
struct Row {
    description: &'static str,
    data: fn(&Entry) -> Value,
    schema: fn() -> Value,
}

fn of<T: Data>(description: &'static str) -> Row {
    Row {
        description,
        data: |entry| serde_json::to_value(T::of(entry)).unwrap_or_default(),
        schema: || serde_json::to_value(T::schema()).unwrap_or_default(),
    }
}

fn row(kind: EventType) -> Row {
    match kind {
        EventType::TenantCreated => of::<TenantCreated>(
            "A tenant was set up, or made of a schema of another tool or of an archive.",
        ),
        EventType::TenantUpdated => of::<TenantUpdated>("A tenant's record was changed."),
        EventType::TenantSuspended => of::<TenantMoved>("A tenant was suspended."),
        EventType::TenantResumed => of::<TenantMoved>("A suspended tenant was made active."),
        EventType::TenantDeletionScheduled => of::<TenantDeletionScheduled>(
            "A tenant was deleted. It can be restored until its purge is due.",
        ),
        EventType::TenantExpired => of::<TenantExpired>(
            "A tenant came to the end that it was made with. It is purged next.",
        ),
        EventType::TenantRestored => of::<TenantMoved>("A deleted tenant was restored."),
        EventType::TenantPurged => of::<TenantPurged>("A tenant was purged: its data is gone."),
        EventType::MemberAdded => {
            of::<MemberChanged>("A member was added to a tenant, or accepted an invitation to it.")
        }
        EventType::MemberRoleChanged => of::<MemberRoleChanged>("A member's role was changed."),
        EventType::MemberRemoved => of::<MemberChanged>("A member was removed from a tenant."),
        EventType::TokenCreated => of::<TokenChanged>("A token or an API key was created."),
        EventType::TokenRevoked => of::<TokenChanged>("A token or an API key was revoked."),
        EventType::TokenRotated => of::<TokenChanged>("A token or an API key got a new secret."),
        EventType::MigrationStarted => of::<MigrationChanged>("A fleet migration was started."),
        EventType::MigrationPaused => of::<MigrationChanged>(
            "A fleet migration was paused; by itself where the actor is `system`.",
        ),
        EventType::MigrationResumed => of::<MigrationChanged>("A fleet migration was continued."),
        EventType::MigrationCancelled => of::<MigrationChanged>("A fleet migration was cancelled."),
        EventType::MigrationRetried => {
            of::<MigrationChanged>("The failed tenants of a fleet migration are tried again.")
        }
        EventType::MigrationFinished => of::<MigrationChanged>(
            "A fleet migration ended by itself: `done`, or `failed` if some tenants could not be migrated.",
        ),
        EventType::UserPasswordReset => {
            of::<PasswordReset>("A user's password was set by another caller.")
        }
        EventType::SecuritySessionReuse => of::<SessionReuse>(
            "A refresh token was used twice, as after a theft; its session has ended.",
        ),
    }
}

/// Returns all types.
pub(super) fn types() -> Vec<TypeInfo> {
    let info = |kind: &EventType| {
        let row = row(*kind);
        let schema = schema(*kind, &(row.schema)());
        TypeInfo { kind: *kind, description: row.description, version: VERSION, schema }
    };
    EventType::ALL.iter().map(info).collect()
}

/// Returns what an event of this type tells.
pub(super) fn data_of(kind: EventType, entry: &Entry) -> Value {
    (row(kind).data)(entry)
}

/// Returns the schema of a whole event whose `data` has this schema.
fn schema(kind: EventType, data: &Value) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": [
            "id", "type", "timestamp", "version", "position", "tenant", "actor", "request_id", "data",
        ],
        "properties": {
            "id": { "type": "string", "format": "uuid" },
            "type": { "const": kind.as_str() },
            "timestamp": { "type": "string", "format": "date-time" },
            "version": { "const": VERSION },
            "position": { "type": "integer", "minimum": 1 },
            "tenant": {
                "type": ["object", "null"],
                "required": ["id", "slug", "external_id"],
                "properties": {
                    "id": { "type": "string", "format": "uuid" },
                    "slug": { "type": ["string", "null"] },
                    "external_id": { "type": ["string", "null"] },
                },
            },
            "actor": { "type": "string" },
            "request_id": { "type": "string" },
            "data": data,
        },
    })
}
