//! Stores, deletes, searches and lists many profiles of a tenant at once.

use std::collections::HashSet;

use super::{Profile, Profiles, TRIES, author, invalid};
use crate::auth::CallContext;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::TenantId;
use crate::domain::profile::{Document, Identity, KeyKind, Keys, Lifetime, ProfileId};
use crate::domain::{Permission, Tenant};
use crate::pg::During;
use crate::pg::tenant::profiles;

/// Most rows that a search returns.
const SEARCH_LIMIT: i64 = 100;

impl Profiles {
    /// Stores many profiles with one lifetime, in one transaction, so that an interrupted call stores none. Returns for
    /// each document, in order, the profile or the reason why it was not stored.
    ///
    /// # Errors
    /// Those of the rights check and of the database; then nothing is stored.
    pub async fn create_many(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        documents: Vec<Document>,
        lifetime: &Lifetime,
    ) -> Result<Vec<Result<Profile>>> {
        ctx.require_in(Permission::WriteProfiles, tenant.id)?;
        let expires_at = lifetime.expires_at(ctx.now);
        let requested: Vec<Result<(Profile, Keys)>> = documents
            .into_iter()
            .map(|document| {
                let keys = document.keys().map_err(invalid)?;
                let (id, lifetime) = (ProfileId::generate(), lifetime.clone());
                Ok((Profile { id, document, version: 1, lifetime, expires_at }, keys))
            })
            .collect();
        let valid: Vec<(Profile, Keys)> =
            requested.iter().filter_map(|new| new.as_ref().ok().cloned()).collect();
        profiles::delete_expired(self.open(tenant.id).await?, ctx.now).await?;
        let mut attempt = 1;
        let (written, taken) = loop {
            match self.insert_many(ctx, tenant.id, &valid).await {
                Err(error) if error.is_lost_race() && attempt < TRIES => attempt += 1,
                outcome => break outcome?,
            }
        };
        let outcome = |new: Result<(Profile, Keys)>| {
            let (profile, keys) = new?;
            if written.contains(&profile.id) {
                return Ok(profile);
            }
            let taken = keys.iter().find(|key| taken.contains(key));
            // The profile that had the key has been deleted since; the caller may try again.
            Err(Error::Conflict(
                taken.map_or(Conflict::Concurrent, |(kind, _)| Conflict::KeyTaken(kind)),
            ))
        };
        Ok(requested.into_iter().map(outcome).collect())
    }

    /// Inserts the profiles whose keys are free. Returns their ids, and the keys of the others that are taken.
    async fn insert_many(
        &self,
        ctx: &CallContext,
        tenant: TenantId,
        new: &[(Profile, Keys)],
    ) -> Result<(HashSet<ProfileId>, HashSet<(KeyKind, String)>)> {
        let tx = self.open(tenant).await?;
        let written: HashSet<ProfileId> =
            profiles::insert_many(&tx, new, &author(ctx)).await?.into_iter().collect();
        let refused: Vec<&Keys> = new
            .iter()
            .filter(|(profile, _)| !written.contains(&profile.id))
            .map(|(_, keys)| keys)
            .collect();
        let taken = match refused.as_slice() {
            [] => HashSet::new(),
            refused => profiles::find_taken(&tx, refused).await?,
        };
        tx.commit().await.during("commit profile rows")?;
        Ok((written, taken))
    }

    /// Deletes many profiles at once and returns their number; unknown identities are ignored.
    ///
    /// # Errors
    /// Those of the rights check and of the database; then nothing is deleted.
    pub async fn delete_many(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identities: &[Identity],
    ) -> Result<usize> {
        ctx.require_in(Permission::WriteProfiles, tenant.id)?;
        let mut attempt = 1;
        loop {
            let tx = self.open(tenant.id).await?;
            match profiles::delete_many(tx, identities, &author(ctx)).await {
                Err(error) if error.is_lost_race() && attempt < TRIES => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    /// Returns the profiles that contain a text, at most a hundred, and the number of all matches.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn search(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        text: &str,
    ) -> Result<(i64, Vec<Profile>)> {
        ctx.require_in(Permission::BulkProfiles, tenant.id)?;
        profiles::search(self.open(tenant.id).await?, text, ctx.now, SEARCH_LIMIT).await
    }

    /// Returns the profiles with some identities; unknown identities are ignored.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list_some(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identities: &[Identity],
    ) -> Result<Vec<Profile>> {
        ctx.require_in(Permission::BulkProfiles, tenant.id)?;
        profiles::find_all(self.open(tenant.id).await?, identities, ctx.now).await
    }

    /// Returns a page of all profiles, oldest first, and their total number.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list_all(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        offset: i64,
        limit: i64,
    ) -> Result<(i64, Vec<Profile>)> {
        ctx.require_in(Permission::BulkProfiles, tenant.id)?;
        profiles::list(self.open(tenant.id).await?, ctx.now, offset, limit).await
    }
}
