//! Looks for a person across all tenants: the answer to "what do you hold about me, everywhere".
//!
//! Three gates, in this order: the caller is the main tenant's admin, the unlock is fresh and the
//! caller's own, and an audit event is written, also where the call is refused. Each tenant is then asked
//! in a transaction of its own, a bounded number at a time; one that is not asked, because it is suspended
//! or does not answer, is named in the outcome and not left out in silence.

use futures_util::stream::{self, StreamExt};
use serde_json::json;
use time::Duration;

use super::audit::note;
use super::profiles::{Profile, Profiles, author};
use crate::auth::CallContext;
use crate::auth::token::{Kind, OpaqueToken, TokenDigest};
use crate::domain::error::{AuthProblem, Conflict, Error, Result};
use crate::domain::names::TenantId;
use crate::domain::profile::{Identity, ProfileId};
use crate::domain::{Permission, Tenant, TenantStatus};
use crate::pg::control::{sessions, tenants, tokens, unlocks};
use crate::pg::tenant::profiles;
use crate::pg::{Db, During, TenantTx};

/// How long an unlock is good.
const UNLOCK_LIFETIME: Duration = Duration::seconds(60);

/// How many tenants are asked at once.
const TENANTS_AT_ONCE: usize = 8;

/// Most rows that a search gives of one tenant.
const SEARCH_LIMIT: i64 = 100;

/// Most rows that a search gives of all tenants together; it tells how many there are.
const SEARCH_LIMIT_EVERYWHERE: usize = 1000;

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

/// What was found, and who was not asked.
#[derive(Debug)]
pub struct Outcome<T> {
    /// By tenant, in the order of their numbers.
    pub found: Vec<T>,
    /// How many there are, where not all of them are listed.
    pub total: i64,
    /// The tenants that were not asked, and why.
    pub unasked: Vec<(Tenant, Unasked)>,
}

/// Why a tenant was not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unasked {
    /// It is suspended or on its way out, and answers nothing.
    NotActive,
    /// It was asked and did not answer.
    Failed,
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

/// What one tenant answered: some rows, and how many there are.
type Rows<T> = (i64, Vec<T>);

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

    /// Refuses who may not list in bulk, and an unlock that is missing, unknown, expired or somebody
    /// else's.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`AuthProblem::Unlock`].
    pub async fn check_unlock(&self, ctx: &CallContext, unlock: Option<&str>) -> Result<()> {
        ctx.reach(Permission::BulkProfiles)?;
        let unlock = unlock.ok_or(Error::Unauthenticated(AuthProblem::Unlock))?;
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
        self.ask_all(usize::MAX, |tenant, tx| async move {
            let found = profiles::find(tx, identity, now).await?;
            Ok(whole(all_of(&tenant, found)))
        })
        .await
    }

    /// All profiles that a text is part of, in every tenant: a hundred at most of each and a thousand
    /// together, and how many there are.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn search(&self, ctx: &CallContext, _: Pass, text: &str) -> Result<Outcome<Found>> {
        let now = ctx.now;
        self.ask_all(SEARCH_LIMIT_EVERYWHERE, |tenant, tx| async move {
            let (total, found) = profiles::search(tx, text, now, SEARCH_LIMIT).await?;
            Ok((total, all_of(&tenant, found)))
        })
        .await
    }

    /// Deletes all profiles of a person, in every tenant or in one.
    ///
    /// # Errors
    /// [`Conflict::TenantNotActive`] of the one; those of the database.
    pub async fn delete(
        &self,
        ctx: &CallContext,
        _: Pass,
        identity: &Identity,
        only: Option<&Tenant>,
    ) -> Result<Outcome<(Tenant, ProfileId)>> {
        let author = &author(ctx);
        let everywhere = match only {
            Some(tenant) => vec![active(tenant)?.clone()],
            None => self.tenants().await?,
        };
        self.ask(everywhere, usize::MAX, |tenant, tx| async move {
            let gone = profiles::delete(tx, identity, author).await?;
            Ok(whole(gone.into_iter().map(|id| (tenant.clone(), id)).collect()))
        })
        .await
    }

    /// Puts a deleted profile back, under the id that it had.
    ///
    /// # Errors
    /// Nothing to restore, a key taken meanwhile, the profile is not deleted, or its tenant not active.
    pub async fn restore(
        &self,
        ctx: &CallContext,
        _: Pass,
        tenant: &Tenant,
        id: ProfileId,
    ) -> Result<Profile> {
        self.profiles.restore(ctx, active(tenant)?.id, id).await
    }

    /// Counts what the whole house holds.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn stats(&self, ctx: &CallContext) -> Result<(Stats, Vec<(Tenant, Unasked)>)> {
        ctx.require(Permission::CrossTenant)?;
        let now = ctx.now;
        let counts: Outcome<()> = self
            .ask_all(0, |_, tx| async move { Ok((profiles::count(&tx, now).await?, Vec::new())) })
            .await?;
        let tx = self.db.public().await.during("count what there is")?;
        let stats = Stats {
            profile_count: counts.total,
            tenant_count: tenants::count(&tx).await?,
            token_count: tokens::count(&tx, now).await?,
            session_count: sessions::count(&tx, now).await?,
        };
        Ok((stats, counts.unasked))
    }

    /// The three gates. The event is written before the work, so that work that crashes is told too, and
    /// also where the call is refused.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for all but the main tenant's admin, [`AuthProblem::Unlock`] for a bad unlock.
    pub async fn pass(
        &self,
        ctx: &CallContext,
        unlock: Option<&str>,
        action: Action,
    ) -> Result<Pass> {
        ctx.require_authenticated()?;
        let verdict = match ctx.require(Permission::CrossTenant) {
            Ok(()) => self.check_unlock(ctx, unlock).await,
            refused => refused,
        };
        let refusal = verdict.as_ref().err().map(Error::code);
        let details = json!({ "allowed": refusal.is_none(), "refusal": refusal });
        let tx = self.db.public().await.during("write audit event")?;
        note(&tx, ctx, action.as_str(), None::<TenantId>, details).await?;
        tx.commit().await.during("write audit event")?;
        verdict.map(|()| Pass(()))
    }

    async fn tenants(&self) -> Result<Vec<Tenant>> {
        let tx = self.db.public().await.during("list tenants")?;
        tenants::list_everywhere(&tx).await
    }

    async fn ask_all<T, F>(
        &self,
        limit: usize,
        question: impl Fn(Tenant, TenantTx) -> F,
    ) -> Result<Outcome<T>>
    where
        F: Future<Output = Result<Rows<T>>>,
    {
        let everywhere = self.tenants().await?;
        self.ask(everywhere, limit, question).await
    }

    /// Asks each tenant the same question, some at once, and keeps the order of the tenants and so many of
    /// the rows.
    async fn ask<T, F>(
        &self,
        everywhere: Vec<Tenant>,
        limit: usize,
        question: impl Fn(Tenant, TenantTx) -> F,
    ) -> Result<Outcome<T>>
    where
        F: Future<Output = Result<Rows<T>>>,
    {
        let question = &question;
        let mut answers = stream::iter(everywhere)
            .map(|tenant| async move {
                if active(&tenant).is_err() {
                    return (tenant, Err(Unasked::NotActive));
                }
                let answer = match self.profiles.open(tenant.id).await {
                    Ok(tx) => question(tenant.clone(), tx).await,
                    Err(error) => Err(error),
                };
                let answer = answer.map_err(|error| {
                    tracing::warn!(tenant.id = %tenant.id, error = %error.chain(), "failed to ask a tenant");
                    Unasked::Failed
                });
                (tenant, answer)
            })
            .buffered(TENANTS_AT_ONCE);
        let mut outcome = Outcome { found: Vec::new(), total: 0, unasked: Vec::new() };
        while let Some((tenant, answer)) = answers.next().await {
            match answer {
                Ok((total, mut rows)) => {
                    rows.truncate(limit.saturating_sub(outcome.found.len()));
                    outcome.found.extend(rows);
                    outcome.total += total;
                }
                Err(why) => outcome.unasked.push((tenant, why)),
            }
        }
        Ok(outcome)
    }
}

/// The tenant, if it answers.
fn active(tenant: &Tenant) -> Result<&Tenant> {
    match tenant.status {
        TenantStatus::Active => Ok(tenant),
        TenantStatus::Suspended | TenantStatus::Deleting => {
            Err(Error::Conflict(Conflict::TenantNotActive))
        }
    }
}

/// Rows of which none is left out.
fn whole<T>(rows: Vec<T>) -> Rows<T> {
    (i64::try_from(rows.len()).unwrap_or(i64::MAX), rows)
}

fn all_of(tenant: &Tenant, profiles: impl IntoIterator<Item = Profile>) -> Vec<Found> {
    let found = |profile| Found { tenant: tenant.clone(), profile };
    profiles.into_iter().map(found).collect()
}
