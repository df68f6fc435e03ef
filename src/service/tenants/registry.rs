//! Creates tenants, and changes their names, organisation, contact, settings and end.

use serde_json::{Map, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::slugs::SlugRules;
use super::{TenantRef, lock, require_kept};
use crate::auth::CallContext;
use crate::domain::end::EndChange;
use crate::domain::error::{Conflict, Error, Noun, Precondition, Result};
use crate::domain::json::Value;
use crate::domain::names::{Email, Slug, TenantName};
use crate::domain::rule::Rule;
use crate::domain::tenant::TenantRecord;
use crate::domain::{AccountOrigin, AuditAction, Document, FieldProblem, Permission};
use crate::pg::control::tenants::{self, MAIN_NUMBER};
use crate::pg::{Db, During, PublicTx};
use crate::service::audit::{note, of_tenant};
use crate::service::members::Members;
use crate::service::provisioning::{Extras, ProvisionTenant, Provisioning};

/// Largest settings of a tenant, in bytes of their text.
pub const SETTINGS_MAX: usize = 65_536;

/// Creates and changes tenants.
#[derive(Clone)]
pub struct Registry {
    pub(super) db: Db,
    provisioning: Provisioning,
    slugs: SlugRules,
    pub(super) members: Members,
}

/// The revisions of a record on which a command may be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Any revision; the caller said so.
    Any,
    /// One of these.
    OneOf(Vec<i64>),
}

/// The changes of a record; a field that is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// A new slug. It takes effect at once in every process, because no process remembers the old one.
    pub slug: Option<Slug>,
    /// A new name.
    pub name: Option<TenantName>,
    /// A new organisation.
    pub org: Option<String>,
    /// A new contact address.
    pub contact: Option<Email>,
    /// A JSON merge patch (RFC 7396) for the settings; null empties them.
    pub settings: Option<Value>,
    /// Settings that replace all that are there.
    pub replacement: Option<Document>,
    /// Another end, or none.
    pub end: Option<EndChange>,
}

/// Whether a command created the tenant of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command created it.
    Made,
    /// It existed, and the command changed it.
    Changed,
    /// It existed as the command says, and was not changed.
    Found,
}

impl Origin {
    /// Returns the word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Made => "created",
            Self::Changed => "changed",
            Self::Found => "unchanged",
        }
    }
}

/// A tenant that was created or found.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The tenant.
    pub record: TenantRecord,
    /// Whether the command created it.
    pub origin: Origin,
    /// Whether the command, or an earlier one with the same idempotency key, created the admin's account or linked it;
    /// `None` without an admin, and for a tenant that was found with its admin.
    pub admin: Option<AccountOrigin>,
}

impl Registry {
    /// Creates the service on `db`; new tenants are created by `provisioning`.
    #[must_use]
    pub fn new(db: Db, provisioning: Provisioning, slugs: SlugRules, members: Members) -> Self {
        Self { db, provisioning, slugs, members }
    }

    /// Creates a tenant, or returns the one that was created under the same idempotency key.
    ///
    /// # Errors
    /// Those of [`Provisioning::provision`], [`Conflict::ExternalIdTaken`], [`Rule::UnknownUser`], and
    /// [`Noun::Tenant`] not found where the tenant of an earlier answer no longer exists.
    pub async fn create(
        &self,
        ctx: &CallContext,
        command: ProvisionTenant,
        extras: Extras,
    ) -> Result<Registered> {
        ctx.require(Permission::CreateTenant)?;
        check_settings(&extras.settings)?;
        let made =
            self.provisioning.provision_with(ctx, command, extras).await.map_err(unknown_admin)?;
        let tx = self.db.public().await.during("read tenant record")?;
        let record = tenants::lookup_record(&tx, made.id).await?;
        let origin = if made.replayed { Origin::Found } else { Origin::Made };
        let record = record.ok_or(Error::NotFound(Noun::Tenant))?;
        Ok(Registered { record, origin, admin: made.admin })
    }

    /// Changes a tenant's record. Changes that leave it as it is write nothing, and the revision stays.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, [`Precondition::Failed`], [`Conflict::SlugTaken`], [`Conflict::SlugResting`],
    /// [`Rule::Reserved`] for a slug, [`Conflict::TenantNotActive`] while the tenant is being deleted,
    /// [`Conflict::TenantHasNoEnd`] for another end of a tenant that was made without one.
    pub async fn update(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
        expected: &Expected,
        changes: Changes,
    ) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::UpdateTenant)?;
        let tx = self.db.public().await.during("update tenant record")?;
        let before = lock(&tx, &reach, which).await?;
        expected.check(&before)?;
        let after = self.write(&tx, ctx, before, changes).await?;
        tx.commit().await.during("update tenant record")?;
        Ok(after)
    }

    /// Changes a record whose row `tx` has locked. Returns it as it is then, and as it was where nothing changes.
    pub(super) async fn write(
        &self,
        tx: &PublicTx,
        ctx: &CallContext,
        before: TenantRecord,
        changes: Changes,
    ) -> Result<TenantRecord> {
        require_kept(&before)?;
        let after = changes.apply(before.clone(), ctx.now)?;
        if after == before {
            return Ok(before);
        }
        let (id, slugs) = (before.tenant.id, (&before.tenant.slug, &after.tenant.slug));
        if slugs.0 != slugs.1 {
            self.slugs.rename(tx, id, slugs, ctx.now).await?;
        }
        tenants::update(tx, &after, ctx.now).await?;
        let revision = before.revision + 1;
        let details = json!({ "changes": differences(&before, &after) });
        let details = of_tenant(&after.tenant.slug, after.external_id.as_ref(), revision, details);
        note(tx, ctx, AuditAction::TenantUpdate, id, details).await?;
        Ok(TenantRecord { revision, updated_at: ctx.now, ..after })
    }
}

impl Expected {
    /// Refuses unless the record is in an expected revision.
    pub(in crate::service) fn check(&self, record: &TenantRecord) -> Result<()> {
        match self {
            Self::Any => Ok(()),
            Self::OneOf(revisions) if revisions.contains(&record.revision) => Ok(()),
            Self::OneOf(_) => Err(Error::Precondition(Precondition::Failed)),
        }
    }
}

impl Changes {
    fn apply(self, mut record: TenantRecord, now: OffsetDateTime) -> Result<TenantRecord> {
        match self.end {
            None => {}
            Some(EndChange::Remove) => record.expires_at = None,
            Some(EndChange::Move(_)) if record.expires_at.is_none() => {
                return Err(Error::Conflict(Conflict::TenantHasNoEnd));
            }
            Some(EndChange::Give(_)) if record.tenant.number == MAIN_NUMBER => {
                return Err(Error::Conflict(Conflict::MainTenant));
            }
            Some(EndChange::Move(end) | EndChange::Give(end)) => {
                let at = end.resolve(now).map_err(|rule| Error::invalid(end.field(), rule))?;
                record.expires_at = Some(at);
            }
        }
        if let Some(patch) = &self.settings {
            record.settings = merge(&record.settings, patch)?;
        }
        if let Some(settings) = self.replacement {
            check_settings(&settings)?;
            record.settings = settings;
        }
        record.tenant.slug = self.slug.unwrap_or(record.tenant.slug);
        record.tenant.name = self.name.unwrap_or(record.tenant.name);
        record.tenant.org = self.org.or(record.tenant.org);
        record.contact = self.contact.or(record.contact);
        Ok(record)
    }
}

fn merge(settings: &Document, patch: &Value) -> Result<Document> {
    let patched = match patch {
        Value::Null => Document::parse(Value::object()),
        patch => settings.merged(patch),
    };
    let settings = patched.map_err(|rule| Error::invalid("settings", rule))?;
    check_settings(&settings)?;
    Ok(settings)
}

pub(super) fn check_settings(settings: &Document) -> Result<()> {
    if settings.as_value().to_string().len() > SETTINGS_MAX {
        let problem = FieldProblem::new("settings", Rule::TooLong(SETTINGS_MAX));
        return Err(Error::Invalid(vec![problem]));
    }
    Ok(())
}

/// Returns what changed, for the details of an audit event. Settings may hold secrets, so only their names are
/// included. The contact's address is personal data, so only the fact that it changed is.
fn differences(before: &TenantRecord, after: &TenantRecord) -> serde_json::Value {
    let (old, new) = (&before.tenant, &after.tenant);
    let mut details = Map::new();
    let end = |record: &TenantRecord| record.expires_at.and_then(|end| end.format(&Rfc3339).ok());
    for (field, from, to) in [
        ("slug", json!(old.slug), json!(new.slug)),
        ("name", json!(old.name), json!(new.name)),
        ("org", json!(old.org), json!(new.org)),
        ("expires_at", json!(end(before)), json!(end(after))),
    ] {
        if from != to {
            details.insert(field.to_owned(), json!({ "from": from, "to": to }));
        }
    }
    if before.contact != after.contact {
        details.insert("contact_changed".to_owned(), json!(true));
    }
    if before.settings != after.settings {
        let changed = changed_keys(before.settings.as_value(), after.settings.as_value());
        details.insert("settings".to_owned(), json!(changed));
    }
    serde_json::Value::Object(details)
}

fn changed_keys(old: &Value, new: &Value) -> Vec<String> {
    let keys = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (old, new) = (keys(old), keys(new));
    let mut changed: Vec<String> = old
        .keys()
        .chain(new.keys())
        .filter(|key| old.get(*key) != new.get(*key))
        .cloned()
        .collect();
    changed.sort();
    changed.dedup();
    changed
}

/// Turns an unknown admin into a bad field of the request, since the request names no other user.
pub(super) fn unknown_admin(error: Error) -> Error {
    match error {
        Error::NotFound(Noun::User) => Error::invalid("admin/email", Rule::UnknownUser),
        other => other,
    }
}
