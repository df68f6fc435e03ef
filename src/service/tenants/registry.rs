//! Creates tenants, and changes their names, organisation, contact and settings.
//!
//! [`Registry::ensure`] creates a tenant once for each of the caller's own ids. It never changes a tenant that
//! exists: an operator may have renamed it since, and a pipeline that runs again must not undo that. So the same
//! command finds the same tenant, and a command that the tenant no longer matches is a conflict, which
//! [`Registry::update`] can resolve.

use serde_json::{Map, Value, json};

use super::slugs::SlugRules;
use super::{TenantRef, lock, require_kept};
use crate::auth::CallContext;
use crate::domain::error::{Conflict, Error, Noun, Precondition, Result};
use crate::domain::names::{Email, ExternalId, Slug, TenantName};
use crate::domain::rule::Rule;
use crate::domain::tenant::TenantRecord;
use crate::domain::{AccountOrigin, AuditAction, Document, FieldProblem, Permission};
use crate::pg::control::tenants;
use crate::pg::{Db, During};
use crate::service::audit::{note, of_tenant};
use crate::service::provisioning::{Extras, ProvisionTenant, Provisioning};

/// Largest settings of a tenant, in bytes of their text.
pub const SETTINGS_MAX: usize = 65_536;

/// Creates and changes tenants.
#[derive(Clone)]
pub struct Registry {
    db: Db,
    provisioning: Provisioning,
    slugs: SlugRules,
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
}

/// Whether a command created the tenant of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command created it.
    Made,
    /// It existed.
    Found,
}

/// A tenant that was created or found.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The tenant.
    pub record: TenantRecord,
    /// Whether the command created it.
    pub origin: Origin,
    /// Whether the command that created it, this one or an earlier one with the same idempotency key, created the
    /// admin's account or linked it; `None` without an admin, and for a tenant that was found by its external id.
    pub admin: Option<AccountOrigin>,
}

impl Registry {
    /// Creates the service on `db`; new tenants are created by `provisioning`.
    #[must_use]
    pub fn new(db: Db, provisioning: Provisioning, slugs: SlugRules) -> Self {
        Self { db, provisioning, slugs }
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

    /// Creates a tenant unless the caller's own id for it has one.
    ///
    /// # Errors
    /// As [`Registry::create`], and [`Conflict::ExternalIdDiffers`].
    pub async fn ensure(
        &self,
        ctx: &CallContext,
        external_id: ExternalId,
        command: ProvisionTenant,
        extras: Extras,
    ) -> Result<Registered> {
        ctx.require(Permission::CreateTenant)?;
        let (slug, name) = (command.slug.clone(), command.name.clone());
        let same = |record: TenantRecord| {
            if record.tenant.slug == slug && record.tenant.name == name {
                Ok(Registered { record, origin: Origin::Found, admin: None })
            } else {
                Err(Error::Conflict(Conflict::ExternalIdDiffers))
            }
        };
        if let Some(record) = self.find_by_external_id(&external_id).await? {
            return same(record);
        }
        let extras = Extras { external_id: Some(external_id.clone()), ..extras };
        match self.create(ctx, command, extras).await {
            // Another request with this id was first. Any of these constraints may have reported it.
            Err(error) if may_be_found(&error) => {
                match self.find_by_external_id(&external_id).await? {
                    Some(record) => same(record),
                    None => Err(error),
                }
            }
            outcome => outcome,
        }
    }

    /// Changes a tenant's record. Changes that leave it as it is write nothing, and the revision stays.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, [`Precondition::Failed`], [`Conflict::SlugTaken`], [`Conflict::SlugResting`],
    /// [`Rule::Reserved`] for a slug, [`Conflict::TenantNotActive`] while the tenant is being deleted.
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
        require_kept(&before)?;
        let after = changes.apply(before.clone())?;
        if after == before {
            return Ok(before);
        }
        let (id, slugs) = (before.tenant.id, (&before.tenant.slug, &after.tenant.slug));
        if slugs.0 != slugs.1 {
            self.slugs.rename(&tx, id, slugs, ctx.now).await?;
        }
        tenants::update(&tx, &after, ctx.now).await?;
        let revision = before.revision + 1;
        let details = json!({ "changes": differences(&before, &after) });
        let details = of_tenant(&after.tenant.slug, after.external_id.as_ref(), revision, details);
        note(&tx, ctx, AuditAction::TenantUpdate, id, details).await?;
        tx.commit().await.during("update tenant record")?;
        Ok(TenantRecord { revision, updated_at: ctx.now, ..after })
    }

    async fn find_by_external_id(&self, external_id: &ExternalId) -> Result<Option<TenantRecord>> {
        let tx = self.db.public().await.during("read tenant record")?;
        tenants::find_record_by_external_id(&tx, external_id).await
    }
}

impl Expected {
    /// Refuses unless the record is in an expected revision.
    pub(super) fn check(&self, record: &TenantRecord) -> Result<()> {
        match self {
            Self::Any => Ok(()),
            Self::OneOf(revisions) if revisions.contains(&record.revision) => Ok(()),
            Self::OneOf(_) => Err(Error::Precondition(Precondition::Failed)),
        }
    }
}

impl Changes {
    fn apply(self, mut record: TenantRecord) -> Result<TenantRecord> {
        if let Some(patch) = &self.settings {
            record.settings = merge(&record.settings, patch)?;
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
        Value::Null => Document::parse(json!({})),
        patch => settings.merged(patch),
    };
    let settings = patched.map_err(|rule| Error::invalid("settings", rule))?;
    check_settings(&settings)?;
    Ok(settings)
}

fn check_settings(settings: &Document) -> Result<()> {
    if settings.as_value().to_string().len() > SETTINGS_MAX {
        let problem = FieldProblem::new("settings", Rule::TooLong(SETTINGS_MAX));
        return Err(Error::Invalid(vec![problem]));
    }
    Ok(())
}

/// Returns what changed, for the details of an audit event. Settings may hold secrets, so only their names are
/// included. The contact's address is personal data, so only the fact that it changed is.
fn differences(before: &TenantRecord, after: &TenantRecord) -> Value {
    let (old, new) = (&before.tenant, &after.tenant);
    let mut details = Map::new();
    for (field, from, to) in [
        ("slug", json!(old.slug), json!(new.slug)),
        ("name", json!(old.name), json!(new.name)),
        ("org", json!(old.org), json!(new.org)),
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
    Value::Object(details)
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
fn unknown_admin(error: Error) -> Error {
    match error {
        Error::NotFound(Noun::User) => Error::invalid("admin/email", Rule::UnknownUser),
        other => other,
    }
}

/// Whether a tenant may be there after all, because another request made it at the same moment.
fn may_be_found(error: &Error) -> bool {
    matches!(error, Error::Conflict(Conflict::SlugTaken | Conflict::ExternalIdTaken))
        || error.is_lost_race()
}
