//! Looks for a person across all tenants: the answer to "what do you hold about me, everywhere".
//!
//! Three gates, in this order: the caller is the main tenant's admin, the unlock is fresh and the
//! caller's own, and an audit event is written, also where the call is refused. Each tenant is then asked
//! in a transaction of its own, a bounded number at a time; one that cannot be asked is named in the
//! outcome and not left out in silence.

use futures_util::stream::{self, StreamExt};
use serde_json::json;
use time::Duration;

use super::profiles::{Profile, Profiles, author};
use crate::auth::CallContext;
use crate::auth::token::{Kind, OpaqueToken, TokenDigest};
use crate::domain::error::{AuthProblem, Error, Result};
use crate::domain::profile::{Identity, ProfileId};
use crate::domain::{Permission, Tenant, TenantStatus};
use crate::pg::audit_events::Event;
use crate::pg::{Db, During, TenantTx, audit_events, profiles, sessions, tenants, tokens, unlocks};

/// How long an unlock is good.
pub const UNLOCK_LIFETIME: Duration = Duration::seconds(60);

/// How many tenants are asked at once.
const TENANTS_AT_ONCE: usize = 8;

/// Most rows that a search gives of one tenant.
const SEARCH_LIMIT: i64 = 100;

/// Unlocks, and what they open.
#[derive(Clone)]
pub struct System {
    db: Db,
    profiles: Profiles,
}

/// Proof that the three gates were passed; good for one call.
#[derive(Debug)]
pub struct Pass(());

/// What the gates are passed for; the word in the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// [`System::find`].
    GetProfiles,
    /// [`System::search`].
    SearchProfiles,
    /// [`System::delete`].
    DeleteProfiles,
    /// [`System::restore`].
    RestoreProfile,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::GetProfiles => "system.get_profiles",
            Self::SearchProfiles => "system.search_profiles",
            Self::DeleteProfiles => "system.delete_profiles",
            Self::RestoreProfile => "system.restore_profile",
        }
    }
}

/// A profile and the tenant that it is in.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where.
    pub tenant: Tenant,
    /// What.
    pub profile: Profile,
}

/// What was found, and who could not be asked.
#[derive(Debug, Default)]
pub struct Outcome<T> {
    /// By tenant, in the order of their numbers.
    pub found: Vec<T>,
    /// The tenants that could not be asked.
    pub failed: Vec<Tenant>,
}

/// What the whole house holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Profiles, in all tenants.
    pub profile_count: i64,
    /// Tenants.
    pub tenant_count: i64,
    /// Credentials.
    pub token_count: i64,
    /// Log-ins that are still good.
    pub session_count: i64,
}

impl System {
    /// Works through `db`.
    #[must_use]
    pub fn new(db: Db, profiles: Profiles) -> Self {
        Self { db, profiles }
    }

    /// Takes an unlock: the second key of bulk and cross-tenant calls, good for a minute and for whoever
    /// took it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for who may not list in bulk anywhere.
    pub async fn unlock(&self, ctx: &CallContext) -> Result<OpaqueToken> {
        ctx.reach(Permission::BulkProfiles)?;
        let unlock = OpaqueToken::generate(Kind::Uuid);
        let tx = self.db.public().await.during("take an unlock")?;
        let expires_at = ctx.now + UNLOCK_LIFETIME;
        unlocks::insert(
            &tx,
            unlock.digest().as_bytes(),
            &ctx.principal.label(),
            ctx.now,
            expires_at,
        )
        .await?;
        tx.commit().await.during("take an unlock")?;
        Ok(unlock)
    }

    /// Refuses an unlock that is unknown, expired or somebody else's.
    ///
    /// # Errors
    /// [`AuthProblem::Unlock`].
    pub async fn check_unlock(&self, ctx: &CallContext, unlock: &str) -> Result<()> {
        ctx.reach(Permission::BulkProfiles)?;
        let tx = self.db.public().await.during("check an unlock")?;
        let digest = TokenDigest::of(unlock);
        if unlocks::is_good(tx, digest.as_bytes(), &ctx.principal.label(), ctx.now).await? {
            Ok(())
        } else {
            Err(Error::Unauthenticated(AuthProblem::Unlock))
        }
    }

    /// All profiles of a person, in every tenant.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find(
        &self,
        ctx: &CallContext,
        _: Pass,
        identity: &Identity,
    ) -> Result<Outcome<Found>> {
        let now = ctx.now;
        self.ask_all(|tenant, tx| async move {
            let found = profiles::find(tx, identity, now).await?;
            Ok(found.into_iter().map(|profile| Found { tenant: tenant.clone(), profile }).collect())
        })
        .await
    }

    /// All profiles that a text is part of, in every tenant.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn search(&self, ctx: &CallContext, _: Pass, text: &str) -> Result<Outcome<Found>> {
        let now = ctx.now;
        self.ask_all(|tenant, tx| async move {
            let found = profiles::search(tx, text, now, SEARCH_LIMIT).await?;
            Ok(found.into_iter().map(|profile| Found { tenant: tenant.clone(), profile }).collect())
        })
        .await
    }

    /// Deletes all profiles of a person, in every tenant or in one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delete(
        &self,
        ctx: &CallContext,
        _: Pass,
        identity: &Identity,
        only: Option<&Tenant>,
    ) -> Result<Outcome<(Tenant, ProfileId)>> {
        let author = &author(ctx);
        let everywhere = match only {
            Some(tenant) => vec![tenant.clone()],
            None => self.tenants().await?,
        };
        self.ask(everywhere, |tenant, tx| async move {
            let gone = profiles::delete(tx, identity, author).await?;
            Ok(gone.into_iter().map(|id| (tenant.clone(), id)).collect())
        })
        .await
    }

    /// Puts a deleted profile back, under the id that it had.
    ///
    /// # Errors
    /// Nothing to restore, a key taken meanwhile, or the profile is not deleted.
    pub async fn restore(
        &self,
        ctx: &CallContext,
        _: Pass,
        tenant: &Tenant,
        id: ProfileId,
    ) -> Result<Profile> {
        self.profiles.restore(ctx, tenant.id, id).await
    }

    /// Counts what the whole house holds.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn stats(&self, ctx: &CallContext) -> Result<Stats> {
        ctx.require(Permission::CrossTenant)?;
        let now = ctx.now;
        let counts =
            self.ask_all(|_, tx| async move { Ok(vec![profiles::count(&tx, now).await?]) }).await?;
        let tx = self.db.public().await.during("count what there is")?;
        Ok(Stats {
            profile_count: counts.found.iter().sum(),
            tenant_count: tenants::count(&tx).await?,
            token_count: tokens::count(&tx, now).await?,
            session_count: sessions::count(&tx, now).await?,
        })
    }

    /// The three gates. The event is written before the work, so that work that crashes is told too, and
    /// also where the call is refused.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for all but the main tenant's admin, [`AuthProblem::Unlock`] for a bad unlock.
    pub async fn pass(&self, ctx: &CallContext, unlock: &str, action: Action) -> Result<Pass> {
        ctx.require_authenticated()?;
        let verdict = match ctx.require(Permission::CrossTenant) {
            Ok(()) => self.check_unlock(ctx, unlock).await,
            refused => refused,
        };
        let refusal = verdict.as_ref().err().map(Error::code);
        let event = Event {
            at: ctx.now,
            actor: &ctx.principal.label(),
            action: action.as_str(),
            tenant: None,
            request_id: &ctx.request_id,
            details: json!({ "allowed": refusal.is_none(), "refusal": refusal }),
        };
        let tx = self.db.public().await.during("write audit event")?;
        audit_events::insert(&tx, &event).await?;
        tx.commit().await.during("write audit event")?;
        verdict.map(|()| Pass(()))
    }

    async fn tenants(&self) -> Result<Vec<Tenant>> {
        let tx = self.db.public().await.during("list tenants")?;
        let mut all = tenants::list_everywhere(&tx).await?;
        all.retain(|tenant| tenant.status == TenantStatus::Active);
        Ok(all)
    }

    async fn ask_all<T, F>(&self, question: impl Fn(Tenant, TenantTx) -> F) -> Result<Outcome<T>>
    where
        F: Future<Output = Result<Vec<T>>>,
    {
        let everywhere = self.tenants().await?;
        self.ask(everywhere, question).await
    }

    /// Asks each tenant the same question, some at once, and keeps the order of the tenants.
    async fn ask<T, F>(
        &self,
        everywhere: Vec<Tenant>,
        question: impl Fn(Tenant, TenantTx) -> F,
    ) -> Result<Outcome<T>>
    where
        F: Future<Output = Result<Vec<T>>>,
    {
        let question = &question;
        let mut answers = stream::iter(everywhere)
            .map(|tenant| async move {
                let answer = match self.profiles.open(tenant.id).await {
                    Ok(tx) => question(tenant.clone(), tx).await,
                    Err(error) => Err(error),
                };
                (tenant, answer)
            })
            .buffered(TENANTS_AT_ONCE);
        let mut outcome = Outcome { found: Vec::new(), failed: Vec::new() };
        while let Some((tenant, answer)) = answers.next().await {
            match answer {
                Ok(rows) => outcome.found.extend(rows),
                Err(error) => {
                    tracing::warn!(tenant.id = %tenant.id, error = %error.chain(), "failed to ask a tenant");
                    outcome.failed.push(tenant);
                }
            }
        }
        Ok(outcome)
    }
}
