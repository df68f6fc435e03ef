//! Sets the passwords of other users.
//!
//! A caller who knows a user's password can act as that user in every tenant. So it is not enough to outrank the
//! user in the tenant that the request names: the caller must outrank them wherever they have a role. Otherwise an
//! admin of one tenant could take over another one through a member of both.
//!
//! A membership counts only if the user agreed to it. Otherwise a caller could make a stranger a member, to gain power
//! over the account; or to keep the admins of the stranger's own tenant from resetting a password that was stolen.

use serde_json::json;

use super::audit::note;
use super::tenants::require_active;
use super::tokens::end_of_user;
use crate::auth::CallContext;
use crate::auth::context::Membership;
use crate::auth::password::Hasher;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{NewPassword, TenantId, UserId};
use crate::domain::{AuditAction, Permission};
use crate::pg::control::{memberships, sessions, users};
use crate::pg::{Db, During, PublicTx};

/// Sets passwords.
#[derive(Clone)]
pub struct Passwords {
    db: Db,
    hasher: Hasher,
}

impl Passwords {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(db: Db, hasher: Hasher) -> Self {
        Self { db, hasher }
    }

    /// Gives a user of a tenant a new password and ends their sessions and the tokens and API keys that they
    /// created, in all tenants, at once, in every process. It is the remedy for an account that was taken over,
    /// and the attacker may have created a key.
    /// A caller that vouches for addresses may do it for users of no tenant, too.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where it is not active; [`Noun::User`] not found, also where the user is
    /// not a member of the tenant or has not agreed to be; [`Error::Forbidden`] unless the caller outranks the user
    /// everywhere.
    pub async fn reset(
        &self,
        ctx: &CallContext,
        tenant: TenantId,
        user: UserId,
        password: &NewPassword,
    ) -> Result<()> {
        ctx.require_in(Permission::ResetUserPassword, tenant)?;
        let tx = self.db.public().await.during("reset a password")?;
        require_active(&tx, tenant).await?;
        require_outranks(&tx, ctx, tenant, user).await?;
        drop(tx); // the hash below needs no connection
        let hash = self.hasher.for_client(ctx.client).hash(password.as_password()).await?;
        let tx = self.db.public().await.during("reset a password")?;
        require_active(&tx, tenant).await?;
        // Checked again in the transaction that writes: the user may have become an admin of another tenant.
        require_outranks(&tx, ctx, tenant, user).await?;
        users::set_password(&tx, user, hash.as_str(), ctx.now).await?;
        let ended = sessions::revoke_all(&tx, user, ctx.now).await?;
        let tokens = end_of_user(&tx, ctx, user, None, "user.reset_password").await?;
        let details = json!({ "user": user, "sessions_ended": ended, "tokens_ended": tokens });
        note(&tx, ctx, AuditAction::UserResetPassword, tenant, details).await?;
        tx.commit().await.during("reset a password")
    }
}

/// Refuses unless the caller outranks the user wherever the user has a role that counts. Locks the user and their memberships
/// until the transaction ends, so that the result stays valid.
async fn require_outranks(
    tx: &PublicTx,
    ctx: &CallContext,
    tenant: TenantId,
    user: UserId,
) -> Result<()> {
    let not_found = || Error::NotFound(Noun::User);
    // The user first: a concurrent new membership waits for this lock or is visible to the next statement.
    let platform_role = users::lock_platform_role(tx, user).await?.ok_or_else(not_found)?;
    let held = memberships::lock_of_user(tx, user).await?;
    let is_member = held.iter().any(|held| held.tenant == tenant && held.is_accepted);
    if !is_member && !ctx.principal.vouches() {
        return Err(not_found());
    }
    let roles: Vec<_> = held
        .into_iter()
        .filter(|held| held.is_accepted || held.predates_acceptance)
        .map(|held| Membership { tenant: held.tenant, role: held.role })
        .collect();
    if ctx.principal.outranks(platform_role, &roles) {
        Ok(())
    } else {
        Err(Error::Forbidden { missing: Vec::new() })
    }
}
