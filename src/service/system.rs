//! Looks for a person across all tenants: the answer to "what do you hold about me, everywhere".
//!
//! Three checks come first, in this order: the caller is the main tenant's admin, the unlock is valid and was
//! issued to the caller, and an audit event is written, also where the call is refused. Each tenant is then
//! queried in its own transaction, a bounded number at a time. The outcome names each tenant that was not
//! queried, because it is suspended or fails.

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
use crate::domain::{AuditAction, Permission, Tenant, TenantStatus};
use crate::pg::control::{sessions, tenants, tokens, unlocks};
use crate::pg::tenant::profiles;
use crate::pg::{Db, During, TenantTx};

/// How long an unlock is valid.
const UNLOCK_LIFETIME: Duration = Duration::seconds(60);

/// How many tenants are queried at once.
const TENANTS_AT_ONCE: usize = 8;

/// Most rows of one tenant that a search returns.
const SEARCH_LIMIT: i64 = 100;

/// Most rows of all tenants together that a search returns; the total counts the others, too.
const SEARCH_LIMIT_EVERYWHERE: usize = 1000;

/// Issues unlocks, and runs the cross-tenant calls that need one.
#[derive(Clone)]
pub struct System {
    db: Db,
    profiles: Profiles,
}

/// Proof that the three checks succeeded; valid for one call.
#[derive(Debug)]
pub struct Pass(());

/// A cross-tenant call.
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
    /// Returns the action in the audit trail.
    const fn audited(self) -> AuditAction {
        match self {
            Self::GetProfiles => AuditAction::SystemGetProfiles,
            Self::SearchProfiles => AuditAction::SystemSearchProfiles,
            Self::DeleteProfiles => AuditAction::SystemDeleteProfiles,
            Self::RestoreProfile => AuditAction::SystemRestoreProfile,
        }
    }
}

/// A profile and its tenant.
#[derive(Debug, Clone)]
pub struct Found {
    /// Tenant.
    pub tenant: Tenant,
    /// Profile.
    pub profile: Profile,
}

/// The results of a cross-tenant call, and the tenants that are missing from it.
#[derive(Debug)]
pub struct QueryOutcome<T> {
    /// By tenant, in the order of their numbers.
    pub found: Vec<T>,
    /// Number of all results, also of those that are not in `found`.
    pub total: i64,
    /// The tenants that were not queried, and why.
    pub unasked: Vec<(Tenant, Unasked)>,
}

/// Why a tenant was not queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unasked {
    /// It is suspended or being deleted.
    NotActive,
    /// The query failed.
    Failed,
}

/// Counts over the whole database.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Profiles, in all tenants.
    pub profile_count: i64,
    /// Tenants.
    pub tenant_count: i64,
    /// Tokens and API keys that are valid.
    pub token_count: i64,
    /// Sessions that can still be refreshed.
    pub session_count: i64,
}

/// The result of one tenant: the number of all rows, and some of them.
type Rows<T> = (i64, Vec<T>);

impl System {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(db: Db, profiles: Profiles) -> Self {
        Self { db, profiles }
    }

    /// Issues an unlock: the second credential of bulk and cross-tenant calls, valid for a minute and only for the
    /// caller to whom it was issued.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a caller who may not list in bulk in any tenant.
    pub async fn unlock(&self, ctx: &CallContext) -> Result<OpaqueToken> {
        ctx.reach(Permission::BulkProfiles)?;
        let unlock = OpaqueToken::generate(Kind::Uuid);
        let tx = self.db.public().await.during("issue an unlock")?;
        let expires_at = ctx.now + UNLOCK_LIFETIME;
        unlocks::insert(
            &tx,
            unlock.digest().as_bytes(),
            &ctx.principal.label(),
            ctx.now,
            expires_at,
        )
        .await?;
        tx.commit().await.during("issue an unlock")?;
        Ok(unlock)
    }

    /// Refuses a caller who may not list in bulk, and an unlock that is missing, unknown, expired or issued to
    /// another caller.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`AuthProblem::Unlock`].
    pub async fn check_unlock(&self, ctx: &CallContext, unlock: Option<&str>) -> Result<()> {
        ctx.reach(Permission::BulkProfiles)?;
        let unlock = unlock.ok_or(Error::Unauthenticated(AuthProblem::Unlock))?;
        let tx = self.db.public().await.during("check an unlock")?;
        let digest = TokenDigest::of(unlock);
        if unlocks::is_valid(tx, digest.as_bytes(), &ctx.principal.label(), ctx.now).await? {
            Ok(())
        } else {
            Err(Error::Unauthenticated(AuthProblem::Unlock))
        }
    }

    /// Returns all profiles of a person, in every tenant.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find(
        &self,
        ctx: &CallContext,
        _: Pass,
        identity: &Identity,
    ) -> Result<QueryOutcome<Found>> {
        let now = ctx.now;
        self.query_all(usize::MAX, |tenant, tx| async move {
            let found = profiles::find(tx, identity, now).await?;
            Ok(whole(all_of(&tenant, found)))
        })
        .await
    }

    /// Returns the profiles that contain a text, in every tenant: at most a hundred of each tenant and a thousand in
    /// all, and the number of all matches.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn search(
        &self,
        ctx: &CallContext,
        _: Pass,
        text: &str,
    ) -> Result<QueryOutcome<Found>> {
        let now = ctx.now;
        self.query_all(SEARCH_LIMIT_EVERYWHERE, |tenant, tx| async move {
            let (total, found) = profiles::search(tx, text, now, SEARCH_LIMIT).await?;
            Ok((total, all_of(&tenant, found)))
        })
        .await
    }

    /// Deletes all profiles of a person, in every tenant or in one.
    ///
    /// # Errors
    /// [`Conflict::TenantNotActive`] where the one tenant is not active; those of the database.
    pub async fn delete(
        &self,
        ctx: &CallContext,
        _: Pass,
        identity: &Identity,
        only: Option<&Tenant>,
    ) -> Result<QueryOutcome<(Tenant, ProfileId)>> {
        let author = &author(ctx);
        let everywhere = match only {
            Some(tenant) => vec![active(tenant)?.clone()],
            None => self.tenants().await?,
        };
        self.query(everywhere, usize::MAX, |tenant, tx| async move {
            let gone = profiles::delete(tx, identity, author).await?;
            Ok(whole(gone.into_iter().map(|id| (tenant.clone(), id)).collect()))
        })
        .await
    }

    /// Restores a deleted profile under the id that it had.
    ///
    /// # Errors
    /// Those of a profile's restoration: nothing to restore, a key that another profile has taken, a profile that
    /// is not deleted; [`Conflict::TenantNotActive`].
    pub async fn restore(
        &self,
        ctx: &CallContext,
        _: Pass,
        tenant: &Tenant,
        id: ProfileId,
    ) -> Result<Profile> {
        self.profiles.restore(ctx, active(tenant)?.id, id).await
    }

    /// Counts profiles, tenants, tokens and sessions over the whole database.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn stats(&self, ctx: &CallContext) -> Result<(Stats, Vec<(Tenant, Unasked)>)> {
        ctx.require(Permission::CrossTenant)?;
        let now = ctx.now;
        let counts: QueryOutcome<()> = self
            .query_all(0, |_, tx| async move { Ok((profiles::count(&tx, now).await?, Vec::new())) })
            .await?;
        let tx = self.db.public().await.during("count tenants, tokens and sessions")?;
        let stats = Stats {
            profile_count: counts.total,
            tenant_count: tenants::count(&tx).await?,
            token_count: tokens::count(&tx, now).await?,
            session_count: sessions::count(&tx, now).await?,
        };
        Ok((stats, counts.unasked))
    }

    /// Runs the three checks. The audit event is committed before the call does its work, so that a call that
    /// crashes is recorded too, and so is a refused one.
    ///
    /// # Errors
    /// [`Error::Forbidden`] unless the caller is the main tenant's admin, [`AuthProblem::Unlock`] for an invalid
    /// unlock.
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
        note(&tx, ctx, action.audited(), None::<TenantId>, details).await?;
        tx.commit().await.during("write audit event")?;
        verdict.map(|()| Pass(()))
    }

    async fn tenants(&self) -> Result<Vec<Tenant>> {
        let tx = self.db.public().await.during("list tenants")?;
        tenants::list_everywhere(&tx).await
    }

    async fn query_all<T, F>(
        &self,
        limit: usize,
        query: impl Fn(Tenant, TenantTx) -> F,
    ) -> Result<QueryOutcome<T>>
    where
        F: Future<Output = Result<Rows<T>>>,
    {
        let everywhere = self.tenants().await?;
        self.query(everywhere, limit, query).await
    }

    /// Runs a query in each tenant, several at once. Keeps the order of the tenants and at most `limit` rows.
    async fn query<T, F>(
        &self,
        everywhere: Vec<Tenant>,
        limit: usize,
        query: impl Fn(Tenant, TenantTx) -> F,
    ) -> Result<QueryOutcome<T>>
    where
        F: Future<Output = Result<Rows<T>>>,
    {
        let query = &query;
        let mut answers = stream::iter(everywhere)
            .map(|tenant| async move {
                if active(&tenant).is_err() {
                    return (tenant, Err(Unasked::NotActive));
                }
                let answer = match self.profiles.open(tenant.id).await {
                    Ok(tx) => query(tenant.clone(), tx).await,
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(rows) => (tenant, Ok(rows)),
                    Err(error) => self.explain(tenant, &error).await,
                }
            })
            .buffered(TENANTS_AT_ONCE);
        let mut outcome = QueryOutcome { found: Vec::new(), total: 0, unasked: Vec::new() };
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

    /// Says why a tenant was not queried. One that was purged since the tenants were listed holds nothing any more.
    async fn explain<T>(
        &self,
        tenant: Tenant,
        error: &Error,
    ) -> (Tenant, Result<Rows<T>, Unasked>) {
        let status = async {
            let tx = self.db.public().await.during("read tenant row")?;
            Ok::<_, Error>(tenants::lookup(&tx, tenant.id).await?.map(|tenant| tenant.status))
        };
        match status.await {
            Ok(None) => (tenant, Ok((0, Vec::new()))),
            Ok(Some(TenantStatus::Suspended | TenantStatus::Deleting)) => {
                (tenant, Err(Unasked::NotActive))
            }
            Ok(Some(TenantStatus::Active)) | Err(_) => {
                tracing::warn!(tenant.id = %tenant.id, error = %error.chain(), "failed to query a tenant");
                (tenant, Err(Unasked::Failed))
            }
        }
    }
}

/// Returns the tenant if it is active.
fn active(tenant: &Tenant) -> Result<&Tenant> {
    match tenant.status {
        TenantStatus::Active => Ok(tenant),
        TenantStatus::Suspended | TenantStatus::Deleting => {
            Err(Error::Conflict(Conflict::TenantNotActive))
        }
    }
}

/// Returns rows together with their number.
fn whole<T>(rows: Vec<T>) -> Rows<T> {
    (i64::try_from(rows.len()).unwrap_or(i64::MAX), rows)
}

fn all_of(tenant: &Tenant, profiles: impl IntoIterator<Item = Profile>) -> Vec<Found> {
    let found = |profile| Found { tenant: tenant.clone(), profile };
    profiles.into_iter().map(found).collect()
}
