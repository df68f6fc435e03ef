//! Reads the versions of profiles and their audit events.

use uuid::Uuid;

use super::{Event, Profile, Profiles, Version};
use crate::auth::CallContext;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::profile::Identity;
use crate::domain::{Permission, Tenant};
use crate::pg::tenant::profiles;

impl Profiles {
    /// Returns one version of a profile.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found, also where it has no such version.
    pub async fn read_version(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identity: &Identity,
        version: i32,
    ) -> Result<Profile> {
        let profile = self.read(ctx, tenant, identity).await?;
        let found =
            profiles::find_version(self.open(tenant.id).await?, profile.id, version).await?;
        let document = found.ok_or(Error::NotFound(Noun::Profile))?;
        Ok(Profile { document, version, ..profile })
    }

    /// Returns the versions of a profile, oldest first.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found.
    pub async fn versions(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identity: &Identity,
    ) -> Result<Vec<Version>> {
        let profile = self.read(ctx, tenant, identity).await?;
        profiles::list_versions(self.open(tenant.id).await?, profile.id).await
    }

    /// Returns a page of a profile's events, newest first, and their total number.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found.
    pub async fn events(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identity: &Identity,
        offset: i64,
        limit: i64,
    ) -> Result<(i64, Vec<Event>)> {
        ctx.require_in(Permission::ViewAudit, tenant.id)?;
        let id = match identity {
            // The events of a deleted profile can still be read by its id.
            Identity::Id(id) => *id,
            Identity::Key(..) => self.read(ctx, tenant, identity).await?.id,
        };
        let (total, events) =
            profiles::list_events(self.open(tenant.id).await?, id, offset, limit).await?;
        if total == 0 { Err(Error::NotFound(Noun::Profile)) } else { Ok((total, events)) }
    }

    /// Returns one event of a profile.
    ///
    /// # Errors
    /// [`Noun::AuditEvent`] not found.
    pub async fn event(&self, ctx: &CallContext, tenant: &Tenant, id: Uuid) -> Result<Event> {
        ctx.require_in(Permission::ViewAudit, tenant.id)?;
        let found = profiles::find_event(self.open(tenant.id).await?, id).await?;
        found.ok_or(Error::NotFound(Noun::AuditEvent))
    }
}
