//! Creates, reads, changes, deletes and restores single profiles of a tenant. `bulk` does so for many profiles at
//! once; `history` reads their versions and events.
//!
//! Every statement runs in a transaction inside the tenant. The bearer of a person's own token may read that
//! person's profile and nothing else.

mod bulk;
mod history;

use std::sync::Arc;

use crate::domain::json::Value;
use time::Duration;

use crate::auth::token::{Kind, OpaqueToken};
use crate::auth::{CallContext, Principal};
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::TenantId;
use crate::domain::profile::{Document, Identity, Keys, Lifetime, ProfileId};
use crate::domain::rule::FieldProblem;
use crate::domain::{Permission, Tenant, TokenKind};
use crate::pg::control::tenants;
use crate::pg::control::tokens::{self, Token};
use crate::pg::tenant::profiles::{self, Author};
use crate::pg::{Db, During, TenantTx};
use crate::service::tokens::{Lifetimes, hold_maker};

pub use crate::pg::tenant::profiles::{Event, Profile, Version};

/// Default lifetime of a person's own token.
const OWN_TOKEN_LIFETIME: Duration = Duration::minutes(10);

/// How often a change is tried that conflicts with concurrent ones.
const TRIES: u32 = 3;

/// Profiles.
#[derive(Clone)]
pub struct Profiles {
    db: Db,
    lifetimes: Lifetimes,
}

/// A profile to create.
#[derive(Debug, Clone)]
pub struct NewProfile {
    /// Content.
    pub document: Document,
    /// When it expires.
    pub lifetime: Lifetime,
}

/// A change of a profile.
#[derive(Debug, Clone)]
pub enum Change {
    /// A merge patch (RFC 7396): fields replace fields, null removes.
    Merge(Value),
    /// A JSON patch (RFC 6902): either all operations are applied or none.
    Patch(Value),
}

impl Change {
    /// Returns the document with the change.
    fn apply(&self, document: &Document) -> Result<Document> {
        match self {
            Self::Merge(patch) => {
                document.merged(patch).map_err(|rule| Error::invalid("profile", rule))
            }
            Self::Patch(patch) => {
                document.patched(patch).map_err(|rule| Error::invalid("patch", rule))
            }
        }
    }
}

impl Profiles {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(db: Db, lifetimes: Lifetimes) -> Self {
        Self { db, lifetimes }
    }

    /// Stores a profile under a new id.
    ///
    /// # Errors
    /// [`Conflict::KeyTaken`]; [`Error::Invalid`] for a malformed key.
    pub async fn create(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        new: NewProfile,
    ) -> Result<Profile> {
        ctx.require_in(Permission::WriteProfiles, tenant.id)?;
        let keys = new.document.keys().map_err(invalid)?;
        let expires_at = new.lifetime.expires_at(ctx.now);
        let profile = Profile {
            id: ProfileId::generate(),
            document: new.document,
            version: 1,
            lifetime: new.lifetime,
            expires_at,
        };
        self.insert(ctx, tenant.id, &profile, &keys, "profile.create").await?;
        Ok(profile)
    }

    /// Reads a profile, which extends a sliding lifetime.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found.
    pub async fn read(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identity: &Identity,
    ) -> Result<Profile> {
        let own = require_own_or_any(ctx, tenant.id)?;
        let found = profiles::find(self.open(tenant.id).await?, identity, ctx.now).await?;
        let is_own = |id| own.is_none_or(|own| own == id);
        let mut profile = match found {
            Some(profile) if is_own(profile.id) => profile,
            None if matches!(identity, Identity::Id(id) if is_own(*id)) || own.is_none() => {
                return Err(Error::NotFound(Noun::Profile));
            }
            // A person learns nothing about other people, not even whether they have a profile.
            Some(_) | None => return Err(Error::missing(Permission::ReadProfiles)),
        };
        if profile.lifetime.sliding_seconds.is_some() {
            profile.expires_at = profile.lifetime.expires_at(ctx.now);
            profiles::slide(self.open(tenant.id).await?, profile.id, profile.expires_at).await?;
        }
        Ok(profile)
    }

    /// Changes a profile and stores the result as its next version.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found, [`Conflict::KeyTaken`], [`Error::Invalid`] for a change that cannot be applied
    /// or whose result cannot be stored.
    pub async fn change(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identity: &Identity,
        change: Change,
    ) -> Result<Profile> {
        ctx.require_in(Permission::WriteProfiles, tenant.id)?;
        let change = Arc::new(change);
        let mut attempt = 1;
        loop {
            match self.change_once(ctx, tenant.id, identity, &change).await {
                Err(error) if error.is_lost_race() && attempt < TRIES => {}
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
        change: &Arc<Change>,
    ) -> Result<Profile> {
        let tx = self.open(tenant).await?;
        let found = profiles::find_for_update(&tx, identity, ctx.now).await?;
        let mut profile = found.ok_or(Error::NotFound(Noun::Profile))?;
        let (change, document) = (Arc::clone(change), profile.document);
        // Up to a tenth of a second for the largest, in which the worker answers other requests.
        let changed = tokio::task::spawn_blocking(move || change.apply(&document)).await;
        profile.document =
            changed.map_err(|panicked| Error::internal("change a profile", panicked))??;
        let keys = profile.document.keys().map_err(invalid)?;
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
        ctx.require_in(Permission::WriteProfiles, tenant.id)?;
        let deleted = profiles::delete(self.open(tenant.id).await?, identity, &author(ctx)).await?;
        deleted.first().copied().ok_or(Error::NotFound(Noun::Profile))
    }

    /// Creates a token for the person of a profile. It permits reading that profile and expires after `lifetime`, or
    /// by default after ten minutes; it ends no later than the credential with which it is created, and with it.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found; [`Error::Invalid`] for a lifetime beyond a limit.
    pub async fn create_own_token(
        &self,
        ctx: &CallContext,
        tenant: &Tenant,
        identity: &Identity,
        lifetime: Option<Duration>,
    ) -> Result<(ProfileId, OpaqueToken)> {
        ctx.require_in(Permission::WriteProfiles, tenant.id)?;
        let profile = self.read(ctx, tenant, identity).await?;
        let asked = lifetime.and_then(|lifetime| ctx.now.checked_add(lifetime));
        self.lifetimes.check(asked, ctx.now, "finaltime")?;
        let tx = self.db.public().await.during("create a person's token")?;
        let maker = hold_maker(&tx, ctx, Some(tenant.id), &[Permission::WriteProfiles]).await?;
        let expires_at = if asked.is_some() {
            self.lifetimes.end(asked, ctx.now, maker.ends_at, "finaltime")?
        } else {
            let default = ctx.now.checked_add(OWN_TOKEN_LIFETIME);
            self.lifetimes.shortened(default, ctx.now, maker.ends_at)
        };
        let secret = OpaqueToken::generate(Kind::Uuid);
        let (name, label) = ("a person's own".to_owned(), ctx.principal.label());
        let token = Token {
            tenant: Some(tenant.id),
            profile: Some(profile.id),
            user: ctx.principal.user(),
            parent: maker.credential,
            expires_at,
            ..Token::new(TokenKind::Person, name, secret.hint(), label, ctx.now)
        };
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

    /// Erases the expired profiles of all tenants, with their versions, and the expired tokens of people. Returns the
    /// number of profiles. A tenant that cannot be reached is skipped until the next run.
    ///
    /// # Errors
    /// Those of the rights check, and of the database when the tenants cannot be listed.
    pub async fn erase_expired(&self, ctx: &CallContext) -> Result<usize> {
        ctx.require(Permission::CrossTenant)?;
        let tx = self.db.public().await.during("list tenants")?;
        let everywhere = tenants::list_everywhere(&tx).await?;
        tokens::delete_expired_of_profiles(&tx, ctx.now).await?;
        tx.commit().await.during("erase tokens of people")?;
        let mut count = 0;
        // Sequentially: no caller waits for the result.
        for tenant in everywhere {
            let erased = match self.open(tenant.id).await {
                Ok(tx) => profiles::delete_expired(tx, ctx.now).await,
                Err(error) => Err(error),
            };
            match erased {
                Ok(erased) => count += erased,
                // Its tables are being dropped, with what has expired.
                Err(_) if self.is_being_purged(tenant.id).await => {}
                Err(error) => {
                    tracing::warn!(tenant.id = %tenant.id, error = %error.chain(), "failed to erase expired profiles");
                }
            }
        }
        Ok(count)
    }

    /// Whether a tenant is gone or its purge has begun, as far as can be read.
    async fn is_being_purged(&self, tenant: TenantId) -> bool {
        let is_whole = async {
            let tx = self.db.public().await.during("read tenant row")?;
            tenants::is_whole(&tx, tenant).await
        };
        matches!(is_whole.await, Ok(false))
    }

    /// Restores the last version of a deleted profile, under the same id and with the same expiry.
    ///
    /// # Errors
    /// [`Noun::Profile`] not found where there is no history or the profile has expired;
    /// [`Conflict::KeyTaken`] where another profile has taken one of its keys;
    /// [`Conflict::NotDeleted`].
    pub(super) async fn restore(
        &self,
        ctx: &CallContext,
        tenant: TenantId,
        id: ProfileId,
    ) -> Result<Profile> {
        // An expired profile that is not erased yet must not be restored.
        profiles::delete_expired(self.open(tenant).await?, ctx.now).await?;
        let last = profiles::find_last_version(self.open(tenant).await?, id, ctx.now).await?;
        let mut profile = last.ok_or(Error::NotFound(Noun::Profile))?;
        profile.expires_at = profile.lifetime.expires_at(ctx.now);
        let keys = profile.document.keys().map_err(invalid)?;
        self.insert(ctx, tenant, &profile, &keys, "profile.restore").await?;
        Ok(profile)
    }

    /// Inserts a profile. A key of an expired profile is free: on a conflict the expired profiles are erased and the
    /// insert is tried again.
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
                Err(error) if error.is_lost_race() && attempt < TRIES => {}
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

/// Returns the caller's own profile if the caller is a person of this tenant. Refuses any other caller who may not
/// read profiles there.
fn require_own_or_any(ctx: &CallContext, tenant: TenantId) -> Result<Option<ProfileId>> {
    match ctx.principal {
        Principal::Profile { tenant: home, profile, .. } if home == tenant => Ok(Some(profile)),
        _ => ctx.require_in(Permission::ReadProfiles, tenant).map(|()| None),
    }
}

pub(super) fn author(ctx: &CallContext) -> Author {
    Author { actor: ctx.principal.label(), at: ctx.now, request_id: ctx.request_id.clone() }
}

fn invalid(problem: FieldProblem) -> Error {
    Error::Invalid(vec![problem])
}
