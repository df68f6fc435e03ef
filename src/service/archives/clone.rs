//! Makes a tenant of the data of another one.

use serde_json::{Value, json};
use uuid::Uuid;

use super::export::table_entry;
use super::load::{refused, require_same_structure};
use super::row::Row;
use super::{Archives, OnProgress, Progress};
use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::AuditAction;
use crate::domain::archive::{ArchiveProblem, Table};
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{SchemaName, Slug, TenantId, TenantName};
use crate::domain::tenant::TenantRecord;
use crate::pg::catalog::Object;
use crate::pg::control::tenants;
use crate::pg::portability::clone::{Source, begin, copy_members};
use crate::pg::portability::control;
use crate::pg::portability::copy_in::Loading;
use crate::pg::portability::tables as pg_tables;
use crate::pg::{During, PublicTx};
use crate::service::audit::{event, of_tenant};
use crate::service::keyed;
use crate::service::tenants::{TenantRef, locate_id};

const CLONE: &str = "clone a tenant";

/// The command to make a tenant of the data of another one.
#[derive(Debug, Clone)]
pub struct CloneTenant {
    /// The slug of the new tenant.
    pub slug: Slug,
    /// Its name; `None` for that of the other one.
    pub name: Option<TenantName>,
    /// Tables that it gets without their rows; a partitioned table stands for its partitions.
    pub exclude_data: Vec<String>,
    /// Whether it is suspended until an operator resumes it.
    pub suspended: bool,
    /// The key under which the same command makes one tenant, however often it is given.
    pub idempotency_key: Option<String>,
}

/// A tenant that was made of the data of another one.
#[derive(Debug, Clone)]
pub struct Cloned {
    /// The new tenant.
    pub record: TenantRecord,
    /// Whether an earlier command with the same idempotency key made it.
    pub is_replayed: bool,
}

impl Archives {
    pub(super) async fn copy_tenant(
        &self,
        ctx: &CallContext,
        reach: &Reach,
        which: &TenantRef,
        command: &CloneTenant,
        on_progress: OnProgress<'_>,
    ) -> Result<Cloned> {
        self.slugs.require_not_reserved(&command.slug)?;
        let tx = self.db.public().await.during(CLONE)?;
        let from = locate_id(&tx, reach, which).await?;
        let (key, what) = (command.idempotency_key.as_deref(), command.as_json(from));
        // Before the key, whose request has taken the slug if it has an answer.
        let is_taken = tenants::find_by_slug(&tx, &command.slug).await?.is_some();
        if let Some(made) = keyed::find(&tx, ctx, key, &what).await? {
            return replayed(&tx, made).await;
        }
        if is_taken {
            return Err(Error::Conflict(Conflict::SlugTaken));
        }
        let (_, fingerprint) = control::version(&tx, from).await?;
        drop(tx); // it only read
        let migrated = self.migrated_objects(&fingerprint, ctx.now).await?;
        self.vacancies.new_tenants().require_fit(ctx.now).await?;
        let source = begin(&self.db, &SchemaName::of(from)).await.during(CLONE)?;
        let limits = &self.db.rules().limits;
        if let Some(made) = keyed::claim(&source.tx, ctx, key, &what, limits).await? {
            return replayed(&source.tx, made).await;
        }
        if source.history.is_empty() && source.tables.is_empty() {
            // Its schema is gone, or a purge has dropped most of it.
            return Err(Error::Conflict(Conflict::PurgeStarted));
        }
        require_known(&command.exclude_data, &source.tables)?;
        let record = tenants::lookup_record(&source.tx, from).await?;
        let record = record.ok_or(Error::NotFound(Noun::Tenant))?;
        let id = TenantId::generate();
        let parts = (migrated, command.exclude_data.as_slice());
        let rows = Box::pin(self.copy(ctx, &source, (from, id), parts, on_progress)).await?;
        self.make_clone(source.tx, ctx, command, (&record, id), rows).await
    }

    /// Builds the schema, fills it, migrates it forward and checks it. Returns how many rows were copied.
    async fn copy(
        &self,
        ctx: &CallContext,
        source: &Source,
        (from, to): (TenantId, TenantId),
        (migrated, excluded): (Option<Vec<Object>>, &[String]),
        on_progress: OnProgress<'_>,
    ) -> Result<u64> {
        let (tx, schema) = (&source.tx, SchemaName::of(to));
        let set = self.set_of(&source.history)?;
        let expected = self.build(tx, &schema, &set, migrated, ctx.now).await?;
        let mut loading = Loading::enter(tx, &schema, self.db.rules()).await.during(CLONE)?;
        let (copied, left): (Vec<_>, Vec<_>) =
            source.tables.iter().partition(|table| !is_excluded(table, excluded));
        let left: Vec<String> = left.into_iter().map(|table| table.name.clone()).collect();
        let entries: Vec<Table> = source.tables.iter().map(table_entry).collect();
        require_same_structure(&entries, &loading.tables, &left)?;
        let estimates: Vec<(&str, i64)> =
            copied.iter().map(|table| (table.name.as_str(), table.estimate)).collect();
        loading.prepare(&estimates).await.during("prepare the tables of a clone")?;
        let wanted: Vec<&str> = copied.iter().map(|table| table.name.as_str()).collect();
        let mut progress = Progress { of: wanted.len(), ..Progress::default() };
        let on_table = |rows| {
            progress.tables += 1;
            progress.rows += rows;
            on_progress(progress);
        };
        let stored = loading.copy_from(&SchemaName::of(from), &wanted, on_table).await;
        stored.map_err(|(table, failure)| refused(&table, failure))?;
        loading.finish().await.map_err(|failure| refused("the tenant", failure))?;
        loading.leave().await.during(CLONE)?;
        self.migrate(tx, &schema, ctx.now).await?;
        self.check(tx, &schema, &expected).await?;
        Ok(progress.rows)
    }

    /// Writes the tenant's row, its members and the audit event, and commits.
    async fn make_clone(
        &self,
        tx: PublicTx,
        ctx: &CallContext,
        command: &CloneTenant,
        (from, id): (&TenantRecord, TenantId),
        rows: u64,
    ) -> Result<Cloned> {
        let (actor, name) = (ctx.principal.label(), command.name.as_ref());
        let name = name.unwrap_or(&from.tenant.name);
        let details = json!({
            "name": name,
            "from": from.tenant.slug,
            "rows": rows,
            "excluded": command.exclude_data,
        });
        let details = of_tenant(&command.slug, None, 1, details);
        let row = Row {
            id,
            slug: &command.slug,
            name,
            org: from.tenant.org.as_deref(),
            contact: from.contact.as_ref(),
            external_id: None,
            settings: &from.settings,
            expires_at: None,
            event: event(ctx, &actor, AuditAction::TenantClone, None, details),
        };
        let tx = self.insert_tenant(tx, ctx, row).await?;
        if command.suspended {
            control::suspend(&tx, id).await?;
        }
        copy_members(&tx, from.tenant.id, id, ctx.now).await?;
        let key = command.idempotency_key.as_deref();
        keyed::complete_in_snapshot(&tx, ctx, key, id.uuid()).await?;
        let record = tenants::lookup_record(&tx, id).await?;
        let record = record.ok_or_else(|| Error::internal(CLONE, "the tenant has no row"))?;
        tx.commit().await.during(CLONE)?;
        let (from, slug) = (&from.tenant.slug, &command.slug);
        tracing::info!(tenant.id = %id, tenant.slug = %slug, from = %from, principal = %actor, "cloned a tenant");
        Ok(Cloned { record, is_replayed: false })
    }
}

impl CloneTenant {
    /// Returns what the same idempotency key must be given with.
    fn as_json(&self, from: TenantId) -> Value {
        json!({
            "clone": from,
            "slug": self.slug,
            "name": self.name,
            "exclude_data": self.exclude_data,
            "suspended": self.suspended,
        })
    }
}

/// Returns the tenant that an earlier command made.
async fn replayed(tx: &PublicTx, made: Uuid) -> Result<Cloned> {
    let record = tenants::lookup_record(tx, TenantId::new(made)).await?;
    let record = record.ok_or(Error::NotFound(Noun::Tenant))?;
    Ok(Cloned { record, is_replayed: true })
}

/// Whether a table, or the partitioned one that it is a part of, is to have no rows.
fn is_excluded(table: &pg_tables::Table, excluded: &[String]) -> bool {
    excluded.iter().any(|name| *name == table.name || *name == table.root_name)
}

/// Refuses names of tables that the tenant does not have.
fn require_known(excluded: &[String], tables: &[pg_tables::Table]) -> Result<()> {
    let is_known = |name: &&String| {
        tables.iter().any(|table| table.name == **name || table.root_name == **name)
    };
    let unknown: Vec<String> = excluded.iter().filter(|name| !is_known(name)).cloned().collect();
    if unknown.is_empty() { Ok(()) } else { Err(ArchiveProblem::UnknownTables(unknown).into()) }
}
