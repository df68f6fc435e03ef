//! Keeps the profiles of a tenant, one at a time: create, read, change, delete, restore. Many at once are in
//! `bulk`, what they were and what happened to them in `history`.
//!
//! Every statement runs inside the tenant's own transaction. A profile's own bearer may read it and
//! nothing else.

mod bulk;
mod history;

use serde_json::Value;
use time::Duration;

use crate::auth::token::{Kind, OpaqueToken};
use crate::auth::{CallContext, Principal};
use crate::domain::error::{Conflict, Error, FieldProblem, Noun, Result};
use crate::domain::names::{TenantId, TokenId};
use crate::domain::profile::{Document, Identity, Keys, Lifetime, ProfileId};
use crate::domain::{Permission, Tenant};
use crate::pg::control::tenants;
use crate::pg::control::tokens::{self, Token};
use crate::pg::tenant::profiles::{self, Author};
use crate::pg::{Db, During, TenantTx};

pub use crate::pg::tenant::profiles::{Event, Profile, Version};

/// How long a person's own token is good where nobody says.
const OWN_TOKEN_LIFETIME: Duration = Duration::minutes(10);

/// How often a change is tried that loses races against others.
const TRIES: u32 = 3;

/// Profiles.
#[derive(Clone)]
pub struct Profiles {
    db: Db,
}

/// The wish for a profile.
#[derive(Debug, Clone)]
pub struct NewProfile {
    /// What is to be stored.
    pub document: Document,
    /// How long it is to live.
    pub lifetime: Lifetime,
}

/// How a profile is to be changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// RFC 7396: fields replace fields, null removes.
    Merge(Value),
    /// RFC 6902: operations, all or none.
    Patch(Value),
}

impl Profiles {
    /// Works through `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Stores a profile under a fresh id.
    ///
    /// # Errors
    /// [`Conflict::KeyTaken`]; [`Error::Invalid`] for a key that is none.
    pub async fn create(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        wish: NewProfile,
    ) -> Result<Profile> {
        require(ctx, Permission::WriteProfiles, tenant.id)?;
        let keys = wish.document.keys().map_err(one)?;
        let expires_at = wish.lifetime.expires_at(ctx.now);
        let profile = Profile {
            id: ProfileId::generate(),
            document: wish.document,
            version: 1,
            lifetime: wish.lifetime,
            expires_at,
        };
        self.insert(ctx, tenant.id, &profile, &keys, "profile.create").await?;
        Ok(profile)
    }

    /// Reads a profile, which counts as its use.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found.
    pub async fn read(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identity: &Identity,
    ) -> Result<Profile> {
        let own = own_profile(ctx, tenant.id);
        if own.is_none() {
            require(ctx, Permission::ReadProfiles, tenant.id)?;
        }
        let found = profiles::find(self.open(tenant.id).await?, identity, ctx.now).await?;
        let is_own = |id| own.is_none_or(|own| own == id);
        let mut profile = match found {
            Some(profile) if is_own(profile.id) => profile,
            None if matches!(identity, Identity::Id(id) if is_own(*id)) || own.is_none() => {
                return Err(Error::NotFound(Noun::Profile));
            }
            // A person learns nothing about others, not even whether they are there.
            Some(_) | None => return Err(Error::missing(Permission::ReadProfiles)),
        };
        if profile.lifetime.sliding_seconds.is_some() {
            profile.expires_at = profile.lifetime.expires_at(ctx.now);
            profiles::slide(self.open(tenant.id).await?, profile.id, profile.expires_at).await?;
        }
        Ok(profile)
    }

    /// Changes a profile; the new state is its next version.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found, [`Conflict::KeyTaken`], [`Error::Invalid`] for a change that does not
    /// apply or whose result cannot be stored.
    pub async fn change(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identity: &Identity,
        change: &Change,
    ) -> Result<Profile> {
        require(ctx, Permission::WriteProfiles, tenant.id)?;
        let mut attempt = 1;
        loop {
            match self.change_once(ctx, tenant.id, identity, change).await {
                Err(Error::Conflict(Conflict::Concurrent)) if attempt < TRIES => {}
                Err(Error::Conflict(Conflict::KeyTaken(_))) if attempt == 1 => {
                    profiles::delete_expired(self.open(tenant.id).await?, ctx.now).await?;
                }
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    async fn change_once(
        &self,
        ctx: &CallContext,
        tenant: TenantId,
        identity: &Identity,
        change: &Change,
    ) -> Result<Profile> {
        let tx = self.open(tenant).await?;
        let found = profiles::find_for_update(&tx, identity, ctx.now).await?;
        let mut profile = found.ok_or(Error::NotFound(Noun::Profile))?;
        profile.document = match change {
            Change::Merge(patch) => {
                profile.document.merged(patch).map_err(|rule| Error::invalid("profile", rule))?
            }
            Change::Patch(patch) => {
                profile.document.patched(patch).map_err(|rule| Error::invalid("patch", rule))?
            }
        };
        let keys = profile.document.keys().map_err(one)?;
        profile.version += 1;
        profile.expires_at = profile.lifetime.expires_at(ctx.now);
        profiles::update(tx, &profile, &keys, &author(ctx)).await?;
        Ok(profile)
    }

    /// Deletes a profile. Its versions stay, so that it can be restored.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found.
    pub async fn delete(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identity: &Identity,
    ) -> Result<ProfileId> {
        require(ctx, Permission::WriteProfiles, tenant.id)?;
        let gone = profiles::delete(self.open(tenant.id).await?, identity, &author(ctx)).await?;
        gone.first().copied().ok_or(Error::NotFound(Noun::Profile))
    }

    /// Makes a token for the person behind a profile: good for reading it, for a while.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found.
    pub async fn create_own_token(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identity: &Identity,
        lifetime: Option<Duration>,
    ) -> Result<(ProfileId, OpaqueToken)> {
        require(ctx, Permission::WriteProfiles, tenant.id)?;
        let profile = self.read(ctx, tenant, identity).await?;
        let secret = OpaqueToken::generate(Kind::Uuid);
        let token = Token {
            id: TokenId::generate(),
            hint: secret.hint(),
            name: "a person's own".to_owned(),
            permissions: Vec::new(),
            tenant: Some(tenant.id),
            profile: Some(profile.id),
            user: None,
            created_by: ctx.principal.label(),
            created_at: ctx.now,
            expires_at: ctx.now.checked_add(lifetime.unwrap_or(OWN_TOKEN_LIFETIME)),
            last_used_at: None,
            revoked_at: None,
        };
        let tx = self.db.public().await.during("create a person's token")?;
        tokens::insert(&tx, &token, secret.digest().as_bytes()).await?;
        tx.commit().await.during("create a person's token")?;
        profiles::insert_event(
            self.open(tenant.id).await?,
            profile.id,
            "profile.token",
            &author(ctx),
        )
        .await?;
        Ok((profile.id, secret))
    }

    /// Erases the profiles of all tenants that have run out, with their versions, and the tokens of people
    /// that have. A tenant that cannot be reached is passed over until the next time.
    ///
    /// # Errors
    /// Those of the rights check, and of the database where it is away altogether.
    pub async fn erase_expired(&self, ctx: &CallContext) -> Result<usize> {
        ctx.require(Permission::CrossTenant)?;
        let tx = self.db.public().await.during("list tenants")?;
        let everywhere = tenants::list_everywhere(&tx).await?;
        tokens::delete_expired_of_profiles(&tx, ctx.now).await?;
        tx.commit().await.during("erase tokens of people")?;
        let mut count = 0;
        // One after the other: nobody waits for it.
        for tenant in everywhere {
            let erased = match self.open(tenant.id).await {
                Ok(tx) => profiles::delete_expired(tx, ctx.now).await,
                Err(error) => Err(error),
            };
            match erased {
                Ok(erased) => count += erased,
                Err(error) => {
                    tracing::warn!(tenant.id = %tenant.id, error = %error.chain(), "failed to erase what has run out");
                }
            }
        }
        Ok(count)
    }

    /// Puts a deleted profile back as it last was, under the id that it had and with the end that it had.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found where there is no history, or its end has passed;
    /// [`Conflict::KeyTaken`] where somebody has taken one of its keys meanwhile;
    /// [`Conflict::NotDeleted`].
    pub(super) async fn restore(
        &self,
        ctx: &CallContext,
        tenant: TenantId,
        id: ProfileId,
    ) -> Result<Profile> {
        // One that has run out and is not erased yet must not come back.
        profiles::delete_expired(self.open(tenant).await?, ctx.now).await?;
        let last = profiles::find_last_version(self.open(tenant).await?, id, ctx.now).await?;
        let mut profile = last.ok_or(Error::NotFound(Noun::Profile))?;
        profile.expires_at = profile.lifetime.expires_at(ctx.now);
        let keys = profile.document.keys().map_err(one)?;
        self.insert(ctx, tenant, &profile, &keys, "profile.restore").await?;
        Ok(profile)
    }

    /// Writes a profile. A key that is taken by a profile that has run out is free: that one is erased,
    /// and the writing tried again.
    async fn insert(
        &self,
        ctx: &CallContext,
        tenant: TenantId,
        profile: &Profile,
        keys: &Keys,
        action: &'static str,
    ) -> Result<()> {
        let author = author(ctx);
        let mut attempt = 1;
        loop {
            let tx = self.open(tenant).await?;
            match profiles::insert(tx, profile, keys, &author, action).await {
                Err(Error::Conflict(Conflict::Concurrent)) if attempt < TRIES => {}
                Err(Error::Conflict(Conflict::KeyTaken(_))) if attempt == 1 => {
                    profiles::delete_expired(self.open(tenant).await?, ctx.now).await?;
                }
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    pub(super) async fn open(&self, tenant: TenantId) -> Result<TenantTx> {
        self.db.tenant(tenant).await.during("open a tenant transaction")
    }
}

/// Refuses unless the caller holds the permission in the tenant.
fn require(ctx: &CallContext, permission: Permission, tenant: TenantId) -> Result<()> {
    ctx.require_authenticated()?;
    if ctx.principal.may_in(permission, tenant) { Ok(()) } else { Err(Error::missing(permission)) }
}

/// The profile whose bearer calls, where it is one of this tenant.
fn own_profile(ctx: &CallContext, tenant: TenantId) -> Option<ProfileId> {
    match ctx.principal {
        Principal::Profile { tenant: home, profile, .. } if home == tenant => Some(profile),
        _ => None,
    }
}

pub(super) fn author(ctx: &CallContext) -> Author {
    Author { actor: ctx.principal.label(), at: ctx.now, request_id: ctx.request_id.clone() }
}

fn one(problem: FieldProblem) -> Error {
    Error::Invalid(vec![problem])
}
