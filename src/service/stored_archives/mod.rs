//! The archives that a server keeps: exports that run in the background, and uploads; and imports of them.
//!
//! An archive has a row in the database and, once it is ready, its content in the [`Store`](crate::store::Store) under the
//! same id. Nothing reads a content whose row is not ready. The server that writes it renews a lease; if that server is
//! gone, the archive has failed, and [`sweep`](StoredArchives::sweep) removes what is left of it.
//!
//! An export goes to the store and is fetched from there, so that a slow reader never holds a snapshot.

mod check;
mod export;
mod imports;
mod keeper;
mod sweep;
mod upload;

use std::ops::Range;
use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::archive::ArchiveProblem;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::TenantId;
use crate::domain::page::{Cursor, Page, Window};
use crate::domain::{AuditAction, Permission};
use crate::pg::control::archives;
use crate::pg::control::background::{self, Work};
use crate::pg::{Db, During, PublicTx};
use crate::service::Archives;
use crate::service::audit::note;
use crate::service::tenants::{TenantRef, active_part, locate_id};
use crate::store;

pub use self::export::Export;
pub use self::imports::{BegunImport, IMPORT_STATES, Import, ImportFilter};
pub use self::keeper::{Keeper, Limits};
pub use crate::pg::control::archives::{Check, Content, Filter, Record};
pub use crate::pg::control::background::Progress;

/// The words for the kind of an archive.
pub const KINDS: &[&str] = &["export", "upload"];

/// The words for the state of an archive.
pub const STATES: &[&str] = &["running", "ready", "failed", "cancelled"];

const READ: &str = "read an archive";

/// Starts, reads and deletes stored archives.
#[derive(Clone)]
pub struct StoredArchives {
    /// For short statements, from the runtime of the caller.
    db: Db,
    /// On `db`.
    archives: Archives,
    keeper: Arc<Keeper>,
}

/// An archive, and whether it is the answer to an earlier request with the same idempotency key.
#[derive(Debug)]
pub struct Begun {
    /// The archive.
    pub record: Record,
    /// Whether it is an earlier answer.
    pub is_replayed: bool,
}

impl StoredArchives {
    /// Reads and starts through `db`; `keeper` runs what takes longer.
    #[must_use]
    pub fn new(db: Db, archives: Archives, keeper: Arc<Keeper>) -> Self {
        Self { db, archives, keeper }
    }

    /// Reads an archive.
    ///
    /// # Errors
    /// [`Noun::Archive`] not found, also for one of a tenant that the caller may not export, and for an upload where the
    /// caller may not export every tenant; those of the database.
    pub async fn read(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        let reach = ctx.reach(Permission::ExportTenant)?;
        let tx = self.db.public().await.during(READ)?;
        let reach = active_part(&tx, reach).await?;
        lookup(&tx, id, &reach).await
    }

    /// Lists a page of the archives, newest first; of a caller who may export some tenants alone, those of their exports.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found for a caller who may not export the tenant of the filter; those of the rights check and of
    /// the database.
    pub async fn list(
        &self,
        ctx: &CallContext,
        filter: &Filter,
        window: &Window,
    ) -> Result<Page<Record>> {
        let reach = ctx.reach(Permission::ExportTenant)?;
        let tx = self.db.public().await.during("list archives")?;
        let reach = active_part(&tx, reach).await?;
        let mut filter = filter.clone();
        // A caller who may export every tenant can also name one that is gone.
        if let (Some(named), Reach::Tenants(_)) = (&filter.tenant, &reach) {
            let which = TenantRef::IdOrSlug(named.clone());
            filter.tenant = Some(locate_id(&tx, &reach, &which).await?.to_string());
        }
        let rows = archives::list(&tx, &filter, reach.limits(), window).await?;
        Ok(Page::cut(rows, window, |record| Cursor { at: record.created_at, id: record.id }))
    }

    /// Returns a range of the content of an archive, to be read in any time.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`ArchiveProblem::NotReady`], [`ArchiveProblem::StoreUnavailable`].
    pub async fn fetch(
        &self,
        ctx: &CallContext,
        id: Uuid,
        range: Range<u64>,
    ) -> Result<store::Content> {
        let reach = ctx.reach(Permission::ExportTenant)?;
        let tx = self.db.public().await.during(READ)?;
        let reach = active_part(&tx, reach).await?;
        let record = lookup(&tx, id, &reach).await?;
        let stored = record.stored()?;
        let content = self.keeper.store.open(id, range).await;
        let content = content.map_err(|error| keeper::explain(&error, "read an archive"))?;
        let details = json!({
            "archive": id,
            "slug": record.slug,
            "manifest_sha256": stored.manifest_sha256,
        });
        note(&tx, ctx, AuditAction::ArchiveFetch, of_export(&record), details).await?;
        tx.commit().await.during(READ)?;
        Ok(content)
    }

    /// Cancels an archive that is being written; one that has ended stays as it is.
    ///
    /// # Errors
    /// [`Noun::Archive`] not found; those of the rights check and of the database.
    pub async fn cancel(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::ManageArchives)?;
        let tx = self.db.public().await.during("cancel an archive")?;
        let is_cancelled = background::cancel(&tx, Work::Archive(id), ctx.now).await?;
        let record = lookup(&tx, id, &Reach::Everything).await?;
        tx.commit().await.during("cancel an archive")?;
        if is_cancelled {
            self.keeper.look_again();
        }
        Ok(record)
    }

    /// Deletes an archive.
    ///
    /// # Errors
    /// [`Noun::Archive`] not found; [`ArchiveProblem::NotReady`] for one that is being written; those of the rights check
    /// and of the database.
    pub async fn delete(&self, ctx: &CallContext, id: Uuid) -> Result<()> {
        ctx.require(Permission::ManageArchives)?;
        let tx = self.db.public().await.during("delete an archive")?;
        let record = lookup(&tx, id, &Reach::Everything).await?;
        self.remove(tx, ctx, &record).await
    }

    /// Marks an archive as deleted, and then removes its content; if that fails, the next sweep does it.
    async fn remove(&self, tx: PublicTx, ctx: &CallContext, record: &Record) -> Result<()> {
        if !archives::delete(&tx, record.id, ctx.now).await? {
            return Err(ArchiveProblem::NotReady(record.state.clone()).into());
        }
        let details = json!({
            "archive": record.id,
            "slug": record.slug,
            "manifest_sha256": record.content.as_ref().map(|content| &content.manifest_sha256),
        });
        note(&tx, ctx, AuditAction::ArchiveDelete, of_export(record), details).await?;
        tx.commit().await.during("delete an archive")?;
        if let Err(error) = self.keeper.store.delete(record.id).await {
            keeper::explain(&error, "delete the content of an archive");
        }
        Ok(())
    }
}

/// Returns an archive that the reach includes: any one, or an export of one of its tenants.
async fn lookup(tx: &PublicTx, id: Uuid, reach: &Reach) -> Result<Record> {
    let found = archives::lookup(tx, id, reach.limits()).await?;
    found.ok_or(Error::NotFound(Noun::Archive))
}

/// The tenant of an export. An upload may have data of a tenant of another installation.
fn of_export(record: &Record) -> Option<TenantId> {
    record.tenant.filter(|_| record.kind == "export")
}

impl Record {
    /// Returns what is stored.
    ///
    /// # Errors
    /// [`ArchiveProblem::NotReady`].
    pub fn stored(&self) -> Result<&Content> {
        let content = self.content.as_ref().filter(|_| self.state == "ready");
        content.ok_or_else(|| ArchiveProblem::NotReady(self.state.clone()).into())
    }
}
