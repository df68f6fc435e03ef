//! Keeps the register of tenants: lists, reads, makes, renames them and holds their settings, each record
//! with a revision, for dashboards and pipelines.
//!
//! A tenant is named by its id or its slug; where a slug looks like somebody's id, the id wins. Who may
//! see some tenants only, sees those: any other is not found, whether or not it is there.
//!
//! [`Registry::ensure`] makes a tenant once for each of the caller's own ids. It never changes one that is
//! there: somebody may have renamed it since, and a pipeline that runs again must not undo that. So the
//! same wish finds the same tenant, and a wish that the tenant no longer answers to is a conflict, which
//! [`Registry::update`] can settle.

use serde_json::{Value, json};

use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::error::{Conflict, Error, Noun, Precondition, Result, Rule};
use crate::domain::names::{ExternalId, Slug, TenantId, TenantName};
use crate::domain::page::{Cursor, Page, Window};
use crate::domain::tenant::{TenantRecord, TenantStatus};
use crate::domain::{Document, FieldProblem, Permission};
use crate::pg::control::tenant_records;
use crate::pg::{Db, During, PublicTx};
use crate::service::audit::note;
use crate::service::provisioning::{Extras, ProvisionTenant, Provisioning};

pub use crate::pg::control::tenant_records::Filter;

/// Largest settings of a tenant, in bytes of their text.
pub const SETTINGS_MAX: usize = 65_536;

/// The register of tenants.
#[derive(Clone)]
pub struct Registry {
    db: Db,
    provisioning: Provisioning,
}

/// The revisions that a request may be carried out on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Whichever it is; the caller said so.
    Any,
    /// One of these.
    OneOf(Vec<i64>),
}

/// What is to change of a record; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// A new slug.
    pub slug: Option<Slug>,
    /// A new name.
    pub name: Option<TenantName>,
    /// A JSON merge patch (RFC 7396) for the settings; null empties them.
    pub settings: Option<Value>,
}

/// How a tenant came to be in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was made just now.
    Made,
    /// It was there.
    Found,
}

impl Registry {
    /// Reads and writes through `db`, makes through `provisioning`.
    #[must_use]
    pub fn new(db: Db, provisioning: Provisioning) -> Self {
        Self { db, provisioning }
    }

    /// A part of the tenants that the caller may view, oldest first.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list(
        &self,
        ctx: &CallContext,
        filter: &Filter,
        window: &Window,
    ) -> Result<Page<TenantRecord>> {
        let reach = ctx.reach(Permission::ViewTenants)?;
        let tx = self.db.public().await.during("list tenant records")?;
        let rows = tenant_records::list(&tx, reach.limits(), filter, window).await?;
        Ok(Page::cut(rows, window, |record| Cursor {
            at: record.tenant.created_at,
            id: record.tenant.id.uuid(),
        }))
    }

    /// One tenant that the caller may view.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where it exists and the caller may not know.
    pub async fn read(&self, ctx: &CallContext, named: &str) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::ViewTenants)?;
        let tx = self.db.public().await.during("read tenant record")?;
        locate(&tx, &reach, named).await
    }

    /// The tenant that the caller's own system calls so, if the caller may view it.
    ///
    /// # Errors
    /// As [`Registry::read`].
    pub async fn read_by_external_id(
        &self,
        ctx: &CallContext,
        external_id: &ExternalId,
    ) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::ViewTenants)?;
        let found = self.find_by_external_id(external_id).await?;
        found.filter(|record| reach.covers(record.tenant.id)).ok_or(Error::NotFound(Noun::Tenant))
    }

    /// Makes a tenant, or answers what was made before under the same idempotency key.
    ///
    /// # Errors
    /// Those of [`Provisioning::provision`], [`Conflict::ExternalIdTaken`], [`Rule::UnknownUser`], and
    /// [`Noun::Tenant`] not found where the tenant of an earlier answer is gone.
    pub async fn create(
        &self,
        ctx: &CallContext,
        wish: ProvisionTenant,
        extras: Extras,
    ) -> Result<(TenantRecord, Origin)> {
        ctx.require(Permission::CreateTenant)?;
        check_settings(&extras.settings)?;
        let made =
            self.provisioning.provision_with(ctx, wish, extras).await.map_err(unknown_admin)?;
        let tx = self.db.public().await.during("read tenant record")?;
        let record = tenant_records::lookup(&tx, made.id).await?;
        let origin = if made.replayed { Origin::Found } else { Origin::Made };
        Ok((record.ok_or(Error::NotFound(Noun::Tenant))?, origin))
    }

    /// Makes a tenant unless the caller's own id for it has one.
    ///
    /// # Errors
    /// As [`Registry::create`], and [`Conflict::ExternalIdDiffers`].
    pub async fn ensure(
        &self,
        ctx: &CallContext,
        external_id: ExternalId,
        wish: ProvisionTenant,
        extras: Extras,
    ) -> Result<(TenantRecord, Origin)> {
        ctx.require(Permission::CreateTenant)?;
        let (slug, name) = (wish.slug.clone(), wish.name.clone());
        let same = |record: TenantRecord| {
            if record.tenant.slug == slug && record.tenant.name == name {
                Ok((record, Origin::Found))
            } else {
                Err(Error::Conflict(Conflict::ExternalIdDiffers))
            }
        };
        if let Some(record) = self.find_by_external_id(&external_id).await? {
            return same(record);
        }
        let extras = Extras { external_id: Some(external_id.clone()), ..extras };
        match self.create(ctx, wish, extras).await {
            // The same request got there first; whichever constraint told so, the tenant is there.
            Err(
                error @ Error::Conflict(
                    Conflict::SlugTaken | Conflict::ExternalIdTaken | Conflict::Concurrent,
                ),
            ) => match self.find_by_external_id(&external_id).await? {
                Some(record) => same(record),
                None => Err(error),
            },
            outcome => outcome,
        }
    }

    /// Changes a tenant's record.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, [`Precondition::Failed`], [`Conflict::SlugTaken`],
    /// [`Conflict::TenantNotActive`] while it is being deleted.
    pub async fn update(
        &self,
        ctx: &CallContext,
        named: &str,
        expected: &Expected,
        changes: Changes,
    ) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::UpdateTenant)?;
        let tx = self.db.public().await.during("update tenant record")?;
        let before = lock(&tx, &reach, named).await?;
        expected.check(&before)?;
        require_kept(&before)?;
        let mut after = before.clone();
        if let Some(patch) = &changes.settings {
            after.settings = merge(&before.settings, patch)?;
        }
        after.tenant.slug = changes.slug.unwrap_or(after.tenant.slug);
        after.tenant.name = changes.name.unwrap_or(after.tenant.name);
        if after == before {
            return Ok(before); // nothing to write, nothing to tell
        }
        let (tenant, settings) = (&after.tenant, &after.settings);
        tenant_records::update(&tx, tenant.id, &tenant.slug, &tenant.name, settings, ctx.now)
            .await?;
        note(&tx, ctx, "tenant.update", tenant.id, differences(&before, &after)).await?;
        tx.commit().await.during("update tenant record")?;
        Ok(TenantRecord { revision: before.revision + 1, updated_at: ctx.now, ..after })
    }

    async fn find_by_external_id(&self, external_id: &ExternalId) -> Result<Option<TenantRecord>> {
        let tx = self.db.public().await.during("read tenant record")?;
        tenant_records::find_by_external_id(&tx, external_id).await
    }
}

impl Expected {
    /// Refuses unless the record is in a revision that the caller decided on.
    pub(in crate::service) fn check(&self, record: &TenantRecord) -> Result<()> {
        match self {
            Self::Any => Ok(()),
            Self::OneOf(revisions) if revisions.contains(&record.revision) => Ok(()),
            Self::OneOf(_) => Err(Error::Precondition(Precondition::Failed)),
        }
    }
}

/// Finds the tenant that a caller names, within what the caller may know of.
pub(in crate::service) async fn locate(
    tx: &PublicTx,
    reach: &Reach,
    named: &str,
) -> Result<TenantRecord> {
    let by_id = match named.parse() {
        Ok(id) => tenant_records::lookup(tx, TenantId::new(id)).await?,
        Err(_no_id) => None,
    };
    let found = match (by_id, Slug::parse(named)) {
        (Some(record), _) => Some(record),
        (None, Ok(slug)) => tenant_records::find_by_slug(tx, &slug).await?,
        (None, Err(_no_slug)) => None,
    };
    found.filter(|record| reach.covers(record.tenant.id)).ok_or(Error::NotFound(Noun::Tenant))
}

/// As [`locate`], and holds the tenant until the transaction ends.
pub(in crate::service) async fn lock(
    tx: &PublicTx,
    reach: &Reach,
    named: &str,
) -> Result<TenantRecord> {
    let id = locate(tx, reach, named).await?.tenant.id;
    tenant_records::lock(tx, id).await?.ok_or(Error::NotFound(Noun::Tenant))
}

/// Refuses what would change a tenant that is being deleted: restore it first.
pub(in crate::service) fn require_kept(record: &TenantRecord) -> Result<()> {
    match record.tenant.status {
        TenantStatus::Active | TenantStatus::Suspended => Ok(()),
        TenantStatus::Deleting => Err(Error::Conflict(Conflict::TenantNotActive)),
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

/// What changed, for the audit trail. Settings may hold secrets, so of them only the names are told.
fn differences(before: &TenantRecord, after: &TenantRecord) -> Value {
    let mut told = serde_json::Map::new();
    let (old, new) = (&before.tenant, &after.tenant);
    if old.slug != new.slug {
        told.insert("slug".to_owned(), json!({ "from": old.slug, "to": new.slug }));
    }
    if old.name != new.name {
        told.insert("name".to_owned(), json!({ "from": old.name, "to": new.name }));
    }
    let (old, new) = (before.settings.as_value(), after.settings.as_value());
    if old != new {
        let keys = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let (old, new) = (keys(old), keys(new));
        let mut changed: Vec<&String> =
            old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).collect();
        changed.sort();
        changed.dedup();
        told.insert("settings".to_owned(), json!(changed));
    }
    Value::Object(told)
}

/// An admin who is to be there and is not is a bad field of the request, since nobody else is named in it.
fn unknown_admin(error: Error) -> Error {
    match error {
        Error::NotFound(Noun::User) => Error::invalid("admin/email", Rule::UnknownUser),
        other => other,
    }
}
