//! Imports of stored archives, in the background.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use uuid::Uuid;

use super::keeper::{Keeper, LEASE, explain};
use super::{Content, StoredArchives, lookup};
use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::page::{Cursor, Page, Window};
use crate::pg::control::background::{self, Work};
use crate::pg::control::imports::{self, NewImport};
use crate::pg::control::tenants;
use crate::pg::{During, PublicTx};
use crate::service::archives::{
    ImportCommand, ImportTenant, NewId, OnProgress, Progress, recorded,
};
use crate::service::keyed;
use crate::service::tenants::locate_id;

pub use crate::pg::control::imports::{Filter as ImportFilter, Record as Import};

/// The words for the state of an import.
pub const IMPORT_STATES: &[&str] = &["running", "done", "failed", "cancelled"];

const IMPORT: &str = "import a stored archive";

/// An import, and whether it is the answer to an earlier request with the same idempotency key.
#[derive(Debug)]
pub struct BegunImport {
    /// The import.
    pub import: Import,
    /// Whether it is an earlier answer.
    pub is_replayed: bool,
}

impl StoredArchives {
    /// Starts an import of a stored archive in the background; [`import`](Self::import) tells what becomes of it.
    ///
    /// # Errors
    /// [`Noun::Archive`] and [`Noun::Tenant`] not found;
    /// [`NotReady`](crate::domain::archive::ArchiveProblem::NotReady); those of the rights check, of an idempotency key and of the database.
    pub async fn start_import(
        &self,
        ctx: &CallContext,
        archive: Uuid,
        command: ImportCommand,
        key: Option<&str>,
    ) -> Result<BegunImport> {
        ctx.require(Permission::ImportTenant)?;
        let (begun, content) = self.begin_import(ctx, archive, &command, key).await?;
        if !begun.is_replayed {
            let (keeper, ctx, id) = (Arc::clone(&self.keeper), ctx.clone(), begun.import.id);
            self.keeper.spawn(async move {
                let archive = (archive, content);
                let told = &|_| ();
                if let Err(error) = Box::pin(keeper.import(&ctx, id, archive, &command, told)).await
                {
                    tracing::warn!(import.id = %id, error = %error.chain(), "an import failed");
                }
            });
        }
        Ok(begun)
    }

    /// Imports a stored archive, and returns how that ended.
    ///
    /// # Errors
    /// As [`start_import`](Self::start_import), and those of an import.
    pub async fn run_import(
        &self,
        ctx: &CallContext,
        archive: Uuid,
        command: &ImportCommand,
        on_progress: OnProgress<'_>,
    ) -> Result<Import> {
        ctx.require(Permission::ImportTenant)?;
        let (begun, content) = self.begin_import(ctx, archive, command, None).await?;
        let (id, archive) = (begun.import.id, (archive, content));
        let imported = self.keeper.import(ctx, id, archive, command, on_progress);
        Box::pin(imported).await?;
        self.import(ctx, id).await
    }

    /// Reads an import.
    ///
    /// # Errors
    /// [`Noun::Import`] not found; those of the rights check and of the database.
    pub async fn import(&self, ctx: &CallContext, id: Uuid) -> Result<Import> {
        ctx.require(Permission::ImportTenant)?;
        let tx = self.db.public().await.during("read an import")?;
        find(&tx, id).await
    }

    /// Lists a page of the imports, newest first.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list_imports(
        &self,
        ctx: &CallContext,
        filter: &ImportFilter,
        window: &Window,
    ) -> Result<Page<Import>> {
        ctx.require(Permission::ImportTenant)?;
        let tx = self.db.public().await.during("list imports")?;
        let rows = imports::list(&tx, filter, window).await?;
        Ok(Page::cut(rows, window, |import| Cursor { at: import.created_at, id: import.id }))
    }

    /// Cancels a running import, which then leaves nothing; one that has ended stays as it is.
    ///
    /// # Errors
    /// As [`import`](Self::import).
    pub async fn cancel_import(&self, ctx: &CallContext, id: Uuid) -> Result<Import> {
        ctx.require(Permission::ImportTenant)?;
        let tx = self.db.public().await.during("cancel an import")?;
        let is_cancelled = background::cancel(&tx, Work::Import(id), ctx.now).await?;
        let import = find(&tx, id).await?;
        tx.commit().await.during("cancel an import")?;
        if is_cancelled {
            self.keeper.look_again();
        }
        Ok(import)
    }

    async fn begin_import(
        &self,
        ctx: &CallContext,
        archive: Uuid,
        command: &ImportCommand,
        key: Option<&str>,
    ) -> Result<(BegunImport, Content)> {
        let tx = self.db.public().await.during(IMPORT)?;
        let content = lookup(&tx, archive, &Reach::Everything).await?.stored()?.clone();
        let (slug, what) = match command {
            ImportCommand::Tenant(command) => (command.slug.clone(), as_json(archive, command)),
            ImportCommand::Into(into) => {
                let reach = ctx.reach(Permission::UpdateTenant)?;
                let tenant = locate_id(&tx, &reach, &into.tenant).await?;
                let found = tenants::lookup(&tx, tenant).await?;
                let what = json!({
                    "import": archive,
                    "into": tenant,
                    "leave_out": into.leave_out,
                    "trust": into.trust,
                    "dry_run": into.dry_run,
                });
                (found.ok_or(Error::NotFound(Noun::Tenant))?.slug, what)
            }
        };
        let limits = &self.db.rules().limits;
        if let Some(id) = keyed::claim(&tx, ctx, key, &what, limits).await? {
            let import = find(&tx, id).await?;
            return Ok((BegunImport { import, is_replayed: true }, content));
        }
        let id = Uuid::now_v7();
        let actor = ctx.principal.label();
        let new = NewImport {
            id,
            archive,
            slug: slug.as_str(),
            is_dry_run: is_dry_run(command),
            actor: &actor,
            request_id: &ctx.request_id,
            lease: LEASE,
            now: ctx.now,
        };
        imports::insert(&tx, &new).await?;
        let import = find(&tx, id).await?;
        keyed::complete(&tx, ctx, key, id).await?;
        tx.commit().await.during(IMPORT)?;
        Ok((BegunImport { import, is_replayed: false }, content))
    }
}

async fn find(tx: &PublicTx, id: Uuid) -> Result<Import> {
    imports::lookup(tx, id).await?.ok_or(Error::NotFound(Noun::Import))
}

const fn is_dry_run(command: &ImportCommand) -> bool {
    match command {
        ImportCommand::Tenant(command) => command.dry_run,
        ImportCommand::Into(into) => into.dry_run,
    }
}

/// Returns what the same idempotency key must be given with.
fn as_json(archive: Uuid, command: &ImportTenant) -> Value {
    json!({
        "import": archive,
        "slug": command.slug,
        "name": command.name,
        "external_id": command.external_id,
        "same_id": command.id == NewId::Same,
        "members": format!("{:?}", command.members),
        "suspended": command.suspended,
        "leave_out": command.leave_out,
        "trust": command.trust,
        "dry_run": command.dry_run,
    })
}

impl Keeper {
    /// Runs an import that was begun, and records how it ended.
    async fn import(
        &self,
        ctx: &CallContext,
        id: Uuid,
        archive: (Uuid, Content),
        command: &ImportCommand,
        told: OnProgress<'_>,
    ) -> Result<()> {
        let work = Work::Import(id);
        let _running = self.running(work);
        let progress = Mutex::new(Progress::default());
        let on_progress = |done| {
            *progress.lock().unwrap_or_else(PoisonError::into_inner) = done;
            told(done);
        };
        let imported = tokio::select! {
            imported = self.run_import(ctx, id, archive, command, &on_progress) => imported,
            // It was cancelled, or its tenant is made just now.
            () = self.keep_alive(&self.db, work, &progress) => return Ok(()),
        };
        if let Err(error) = &imported {
            self.fail(work, (error.detailed_code(), &error.to_string())).await;
        }
        imported
    }

    async fn run_import(
        &self,
        ctx: &CallContext,
        id: Uuid,
        (archive, content): (Uuid, Content),
        command: &ImportCommand,
        on_progress: OnProgress<'_>,
    ) -> Result<()> {
        // Never closed.
        let _permit = self.permits.acquire().await;
        let stored = self.store.open(archive, 0..content.bytes).await;
        let mut stored = stored.map_err(|error| explain(&error, IMPORT))?;
        let archives = self.archives.clone().recording(id);
        let (imported, slug) = match command {
            ImportCommand::Tenant(command) => {
                let imported = archives.import(ctx, command, &mut stored, on_progress).await?;
                (imported, None)
            }
            ImportCommand::Into(into) => {
                let made = archives.import_into(ctx, into, &mut stored, on_progress).await?;
                (made.imported, Some(made.slug))
            }
        };
        if !is_dry_run(command) {
            return Ok(());
        }
        let mut report = recorded::report(&imported, true);
        if let Some(slug) = slug {
            report["slug"] = json!(slug);
        }
        let tx = self.db.public().await.during(IMPORT)?;
        let progress = recorded::progress(&imported);
        imports::finish(&tx, id, progress, &report, self.clock.now()).await?;
        tx.commit().await.during(IMPORT)
    }
}
