//! Exports to the store.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use uuid::Uuid;

use super::keeper::{Keeper, LEASE, explain, stored};
use super::{Begun, Record, StoredArchives, lookup};
use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::Permission;
use crate::domain::archive::ArchiveProblem;
use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::pg::During;
use crate::pg::control::archives::{self, Content, NewArchive, Ready};
use crate::pg::control::background::Work;
use crate::service::archives::{OnProgress, Progress};
use crate::service::keyed;
use crate::service::tenants::{TenantRef, locate_id};

const START: &str = "start an export";

/// What is exported.
#[derive(Debug, Clone)]
pub struct Export {
    /// The tenant.
    pub tenant: TenantRef,
    /// Whether the archive has its members.
    pub members: bool,
}

impl StoredArchives {
    /// Starts an export of a tenant in the background; [`read`](Self::read) tells what becomes of it. `admit` is asked before
    /// one starts whether the tenant may have another one.
    ///
    /// # Errors
    /// [`Noun::Tenant`](crate::domain::error::Noun::Tenant) not found, also where the caller may not export it;
    /// [`ArchiveProblem::ExportRunning`], [`ArchiveProblem::NoRoom`], [`ArchiveProblem::StoreUnavailable`]; those of `admit`
    /// and of an idempotency key.
    pub async fn start_export(
        &self,
        ctx: &CallContext,
        what: &Export,
        key: Option<&str>,
        admit: &(dyn Fn(TenantId) -> Result<()> + Sync),
    ) -> Result<Begun> {
        let reach = ctx.reach(Permission::ExportTenant)?;
        let (begun, tenant) = self.begin(ctx, &reach, what, key, admit).await?;
        let has_members = what.members;
        if !begun.is_replayed {
            let (keeper, ctx, id) = (Arc::clone(&self.keeper), ctx.clone(), begun.record.id);
            self.keeper.spawn(async move {
                let told = &|_| ();
                let written = Box::pin(keeper.export(&ctx, id, (tenant, has_members), told)).await;
                if let Err(error) = written {
                    tracing::warn!(archive.id = %id, tenant.id = %tenant, error = %error.chain(), "an export failed");
                }
            });
        }
        Ok(begun)
    }

    /// Exports a tenant to the store, and returns when that is done. It is not cancelled by [`Keeper::stop`], but by the
    /// drop of the future.
    ///
    /// # Errors
    /// As [`start_export`](Self::start_export), and those of an export.
    pub async fn export(
        &self,
        ctx: &CallContext,
        what: &Export,
        on_progress: OnProgress<'_>,
    ) -> Result<Record> {
        let reach = ctx.reach(Permission::ExportTenant)?;
        let (begun, tenant) = self.begin(ctx, &reach, what, None, &|_| Ok(())).await?;
        let (id, tenant) = (begun.record.id, (tenant, what.members));
        Box::pin(self.keeper.export(ctx, id, tenant, on_progress)).await?;
        let tx = self.db.public().await.during(START)?;
        lookup(&tx, id, &Reach::Everything).await
    }

    async fn begin(
        &self,
        ctx: &CallContext,
        reach: &Reach,
        what: &Export,
        key: Option<&str>,
        admit: &(dyn Fn(TenantId) -> Result<()> + Sync),
    ) -> Result<(Begun, TenantId)> {
        let tx = self.db.public().await.during(START)?;
        let tenant = locate_id(&tx, reach, &what.tenant).await?;
        let what = json!({ "export": tenant, "members": what.members });
        let limits = &self.db.rules().limits;
        if let Some(id) = keyed::claim(&tx, ctx, key, &what, limits).await? {
            let record = lookup(&tx, id, reach).await?;
            return Ok((Begun { record, is_replayed: true }, tenant));
        }
        self.keeper.allowance(&tx).await?;
        let id = Uuid::now_v7();
        let actor = ctx.principal.label();
        let new = NewArchive {
            id,
            tenant: Some(tenant),
            actor: &actor,
            request_id: &ctx.request_id,
            lease: LEASE,
            now: ctx.now,
        };
        if !archives::insert(&tx, &new).await? {
            return Err(ArchiveProblem::ExportRunning.into());
        }
        admit(tenant)?;
        let record = lookup(&tx, id, &Reach::Everything).await?;
        keyed::complete(&tx, ctx, key, id).await?;
        tx.commit().await.during(START)?;
        Ok((Begun { record, is_replayed: false }, tenant))
    }
}

impl Keeper {
    /// Writes an archive that was begun, and records how that ended.
    async fn export(
        &self,
        ctx: &CallContext,
        id: Uuid,
        tenant: (TenantId, bool),
        told: OnProgress<'_>,
    ) -> Result<()> {
        let work = Work::Archive(id);
        let _running = self.running(work);
        let progress = Mutex::new(Progress::default());
        let on_progress = |done| {
            *progress.lock().unwrap_or_else(PoisonError::into_inner) = done;
            told(done);
        };
        let written = tokio::select! {
            written = self.write(ctx, id, tenant, &on_progress) => written,
            // It was cancelled, or is recorded as complete just now.
            () = self.keep_alive(&self.db, work, &progress) => return Ok(()),
        };
        if let Err(error) = &written {
            self.fail(work, (error.detailed_code(), &error.to_string())).await;
        }
        written
    }

    async fn write(
        &self,
        ctx: &CallContext,
        id: Uuid,
        (tenant, has_members): (TenantId, bool),
        on_progress: OnProgress<'_>,
    ) -> Result<()> {
        const WRITE: &str = "write an archive to the store";
        // Never closed.
        let _permit = self.permits.acquire().await;
        let tx = self.db.public().await.during(WRITE)?;
        let allowed = self.allowance(&tx).await?;
        drop(tx); // it only read
        let draft = self.store.create(id, allowed.bytes).await;
        let mut draft = draft.map_err(|error| explain(&error, WRITE))?;
        let which = TenantRef::Id(tenant);
        let archives = self.archives.clone().with_members(has_members);
        let exported = archives.export(ctx, &which, &mut draft, on_progress).await;
        let exported = exported.map_err(|error| allowed.of(&draft, error))?;
        let complete = draft.finish().await.map_err(|error| explain(&error, WRITE))?;
        let done = Progress {
            tables: exported.tables,
            of: exported.tables,
            rows: exported.rows,
            bytes: exported.raw,
        };
        let now = self.clock.now();
        let ready = Ready {
            tenant: tenant.uuid(),
            slug: &exported.slug,
            progress: stored(done),
            content: Content {
                bytes: complete.bytes,
                sha256: complete.sha256,
                manifest_sha256: exported.manifest_sha256,
            },
            warnings: &exported.warnings,
            is_trusted: true,
            keep_until: self.limits.keep_exports.map(|length| now + length),
        };
        let tx = self.db.public().await.during(WRITE)?;
        if archives::finish(&tx, id, &ready, now).await? {
            return tx.commit().await.during(WRITE);
        }
        // It was cancelled in the last moment.
        self.store.delete(id).await.map_err(|error| explain(&error, WRITE))?;
        Err(ArchiveProblem::NotReady("cancelled".to_owned()).into())
    }
}
