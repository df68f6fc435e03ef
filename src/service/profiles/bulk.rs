//! Many profiles of a tenant at once: stored, deleted, searched and listed.

use std::collections::HashSet;

use super::{Profile, Profiles, TRIES, author, one, require};
use crate::auth::CallContext;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::TenantId;
use crate::domain::profile::{Document, Identity, KeyKind, Keys, Lifetime, ProfileId};
use crate::domain::{Permission, Tenant};
use crate::pg::During;
use crate::pg::tenant::profiles;

/// Most rows that a search gives.
const SEARCH_LIMIT: i64 = 100;

impl Profiles {
    /// Stores many profiles with one lifetime: in one transaction, so that whoever is cut off has stored
    /// none. Gives for each document, in their order, the profile or why it was not stored.
    ///
    /// # Errors
    /// Those of the rights check and of the database, and then nothing is stored.
    pub async fn create_many(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        documents: Vec<Document>,
        lifetime: &Lifetime,
    ) -> Result<Vec<Result<Profile>>> {
        require(ctx, Permission::WriteProfiles, tenant.id)?;
        let expires_at = lifetime.expires_at(ctx.now);
        let wishes: Vec<Result<(Profile, Keys)>> = documents
            .into_iter()
            .map(|document| {
                let keys = document.keys().map_err(one)?;
                let (id, lifetime) = (ProfileId::generate(), lifetime.clone());
                Ok((Profile { id, document, version: 1, lifetime, expires_at }, keys))
            })
            .collect();
        let good: Vec<(Profile, Keys)> =
            wishes.iter().filter_map(|wish| wish.as_ref().ok().cloned()).collect();
        profiles::delete_expired(self.open(tenant.id).await?, ctx.now).await?;
        let mut attempt = 1;
        let (written, taken) = loop {
            match self.insert_many(ctx, tenant.id, &good).await {
                Err(Error::Conflict(Conflict::Concurrent)) if attempt < TRIES => attempt += 1,
                outcome => break outcome?,
            }
        };
        let outcome = |wish: Result<(Profile, Keys)>| {
            let (profile, keys) = wish?;
            if written.contains(&profile.id) {
                return Ok(profile);
            }
            let taken = keys.iter().find(|key| taken.contains(key));
            // Whoever had the key is gone again; whoever asked may ask again.
            Err(Error::Conflict(
                taken.map_or(Conflict::Concurrent, |(kind, _)| Conflict::KeyTaken(kind)),
            ))
        };
        Ok(wishes.into_iter().map(outcome).collect())
    }

    /// Writes the profiles whose keys are free, and tells which keys the others found taken.
    async fn insert_many(
        &self,
        ctx: &CallContext,
        tenant: TenantId,
        wishes: &[(Profile, Keys)],
    ) -> Result<(HashSet<ProfileId>, HashSet<(KeyKind, String)>)> {
        let tx = self.open(tenant).await?;
        let written: HashSet<ProfileId> =
            profiles::insert_many(&tx, wishes, &author(ctx)).await?.into_iter().collect();
        let refused: Vec<&Keys> = wishes
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

    /// Deletes many profiles at once; who is unknown is passed over. Tells how many were there.
    ///
    /// # Errors
    /// Those of the rights check and of the database, and then nothing is deleted.
    pub async fn delete_many(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identities: &[Identity],
    ) -> Result<usize> {
        require(ctx, Permission::WriteProfiles, tenant.id)?;
        let mut attempt = 1;
        loop {
            let tx = self.open(tenant.id).await?;
            match profiles::delete_many(tx, identities, &author(ctx)).await {
                Err(Error::Conflict(Conflict::Concurrent)) if attempt < TRIES => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    /// Finds the profiles that a text is part of, a hundred at most, and tells how many there are.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn search(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        text: &str,
    ) -> Result<(i64, Vec<Profile>)> {
        require(ctx, Permission::BulkProfiles, tenant.id)?;
        profiles::search(self.open(tenant.id).await?, text, ctx.now, SEARCH_LIMIT).await
    }

    /// Finds the profiles behind some identities; who is unknown is left out.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list_some(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identities: &[Identity],
    ) -> Result<Vec<Profile>> {
        require(ctx, Permission::BulkProfiles, tenant.id)?;
        profiles::find_all(self.open(tenant.id).await?, identities, ctx.now).await
    }

    /// One page of all profiles, oldest first, and how many there are.
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
        require(ctx, Permission::BulkProfiles, tenant.id)?;
        profiles::list(self.open(tenant.id).await?, ctx.now, offset, limit).await
    }
}
