//! Writes the data of a tenant to an archive, and makes a tenant of an archive.
//!
//! An archive carries data and never code. Its rows are loaded into a schema that the migrations of this installation
//! build, at the version that the archive has, and that is migrated forward in the same transaction. Everything is read
//! back and compared before the tenant's row is written, which is the last step: a tenant is imported whole or not at all.
//!
//! A clone is the same without an archive: the rows go from one schema to the other. A swap exchanges what is in two
//! tenants, and an import into a tenant is one beside it and a swap.
//!
//! Promises: memory does not grow with the tenant; an archive holds no password, token, key or session.

mod clone;
mod entries;
mod export;
mod import;
mod inspect;
mod into;
mod load;
mod manifest;
mod pack;
mod reader;
pub(in crate::service) mod recorded;
mod row;
mod scan;
mod swap;
mod unpack;
mod writer;

use std::sync::Arc;

use time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use uuid::Uuid;

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::migrations::MigrationSet;
use crate::pg::Db;
use crate::service::tenants::TenantRef;
use crate::service::tenants::slugs::SlugRules;
use crate::service::{SigningKeys, Vacancies};

pub use self::clone::{CloneTenant, Cloned};
pub use self::export::Exported;
pub use self::import::{ImportTenant, Imported, MemberPolicy, NewId};
pub use self::inspect::Inspected;
pub use self::into::{ImportCommand, ImportInto, ImportedInto};
#[doc(hidden)]
pub use self::scan::scan_unauthorized;
pub use self::swap::{SwapTenants, Swapped};

/// Archives of tenants.
#[derive(Clone)]
pub struct Archives {
    db: Db,
    set: Arc<MigrationSet>,
    server_version: u32,
    signing_keys: SigningKeys,
    slugs: SlugRules,
    vacancies: Vacancies,
    level: i32,
    /// How long what a tenant had is kept beside what was put in its place.
    grace_period: Duration,
    /// Whether an export has the members.
    has_members: bool,
    /// The import that ends when a tenant is made.
    import: Option<Uuid>,
}

/// How far an export or an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Tables that are done.
    pub tables: usize,
    /// All tables.
    pub of: usize,
    /// Rows.
    pub rows: u64,
    /// Bytes of CSV.
    pub bytes: u64,
}

/// What is told about progress.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

impl Archives {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(
        db: Db,
        set: Arc<MigrationSet>,
        server_version: u32,
        signing_keys: SigningKeys,
        slugs: SlugRules,
        vacancies: Vacancies,
    ) -> Self {
        Self {
            db,
            set,
            server_version,
            signing_keys,
            slugs,
            vacancies,
            level: writer::LEVEL,
            grace_period: Duration::ZERO,
            has_members: true,
            import: None,
        }
    }

    /// The same on the pools of another runtime.
    #[must_use]
    pub fn on(&self, db: Db) -> Self {
        Self { signing_keys: self.signing_keys.on(db.clone()), db, ..self.clone() }
    }

    /// Compresses at this level.
    #[must_use]
    pub const fn at_level(mut self, level: i32) -> Self {
        self.level = level;
        self
    }

    /// Keeps what a tenant had for this long when an archive takes its place.
    #[must_use]
    pub const fn keeping(mut self, grace_period: Duration) -> Self {
        self.grace_period = grace_period;
        self
    }

    /// Exports the members, or leaves them out.
    #[must_use]
    pub const fn with_members(mut self, has_members: bool) -> Self {
        self.has_members = has_members;
        self
    }

    /// Writes the data of a tenant to an archive, from one snapshot. What the archive is written to must take it without
    /// delay: the snapshot keeps the server from removing old rows of all tenants.
    ///
    /// # Errors
    /// [`Noun::Tenant`](crate::domain::error::Noun::Tenant) not found, also where the caller may not export it;
    /// [`ArchiveProblem`](crate::domain::archive::ArchiveProblem).
    pub async fn export(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
        out: &mut (dyn AsyncWrite + Unpin + Send),
        on_progress: OnProgress<'_>,
    ) -> Result<Exported> {
        let reach = ctx.reach(Permission::ExportTenant)?;
        Box::pin(self.write_archive(ctx, &reach, which, out, on_progress)).await
    }

    /// Makes a tenant of an archive, in one transaction; a dry run does all of it and rolls back.
    ///
    /// # Errors
    /// [`ArchiveProblem`](crate::domain::archive::ArchiveProblem), and those of a set-up; nothing is changed.
    pub async fn import(
        &self,
        ctx: &CallContext,
        command: &ImportTenant,
        input: &mut (dyn AsyncRead + Unpin + Send),
        on_progress: OnProgress<'_>,
    ) -> Result<Imported> {
        ctx.require(Permission::ImportTenant)?;
        Box::pin(self.read_archive(ctx, command, None, input, on_progress)).await
    }

    /// Makes a tenant of the data of another one as it is at one moment, in one transaction. Its accounts become members
    /// of both.
    ///
    /// # Errors
    /// [`Noun::Tenant`](crate::domain::error::Noun::Tenant) not found, also where the caller may not export it;
    /// [`ArchiveProblem`](crate::domain::archive::ArchiveProblem), and those of a set-up; nothing is changed.
    pub async fn clone_tenant(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
        command: &CloneTenant,
        on_progress: OnProgress<'_>,
    ) -> Result<Cloned> {
        ctx.require(Permission::CreateTenant)?;
        let reach = ctx.reach(Permission::ExportTenant)?;
        Box::pin(self.copy_tenant(ctx, &reach, which, command, on_progress)).await
    }

    /// Exchanges what is in two tenants, in one transaction; what belongs to them in the control plane stays where it is.
    /// Requests that come meanwhile are told to come back in a moment. The same call undoes it.
    ///
    /// # Errors
    /// [`Noun::Tenant`](crate::domain::error::Noun::Tenant) not found, also where the caller may not change it; a revision
    /// that is not current; [`ArchiveProblem`](crate::domain::archive::ArchiveProblem). Nothing is changed.
    pub async fn swap(&self, ctx: &CallContext, command: &SwapTenants) -> Result<Swapped> {
        let reach = ctx.reach(Permission::UpdateTenant)?;
        ctx.require(Permission::ImportTenant)?;
        Box::pin(self.swap_tenants(ctx, &reach, command, None)).await
    }

    /// Replaces what is in a tenant by an archive: imports it beside, checks it and swaps the two. What was in it is kept
    /// as a suspended tenant for the grace period.
    ///
    /// # Errors
    /// As [`Archives::import`] and [`Archives::swap`]; the tenant is then as it was.
    pub async fn import_into(
        &self,
        ctx: &CallContext,
        command: &ImportInto,
        input: &mut (dyn AsyncRead + Unpin + Send),
        on_progress: OnProgress<'_>,
    ) -> Result<ImportedInto> {
        let reach = ctx.reach(Permission::UpdateTenant)?;
        ctx.require(Permission::ImportTenant)?;
        Box::pin(self.replace(ctx, &reach, command, input, on_progress)).await
    }
}

#[cfg(test)]
mod tests;
