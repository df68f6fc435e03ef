//! Links accounts whose address is not proven.
//!
//! The caller that creates an account writes an address, which need not be the address of its holder. So an account
//! whose address is not proven is linked to a tenant only
//!
//! - by a caller that vouches for the address ([`Principal::vouches`](crate::auth::Principal::vouches)): the account
//!   is proven from then on. Where the caller gives a password and it is not the account's own, the account is taken
//!   over: its password was chosen by another person, so it gets the new one, and everything that the other person
//!   could use to act as the account ends.
//! - by the account's own password, which only its holder knows. Such an account stays unproven.

use serde_json::json;

use super::audit::note;
use super::tokens::end_of_user;
use crate::auth::CallContext;
use crate::auth::password::{Hasher, PasswordHash};
use crate::domain::AuditAction;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{Password, UserId};
use crate::pg::PublicTx;
use crate::pg::control::users::{self, Account};
use crate::pg::control::{memberships, sessions};

/// An account whose address is not proven, and how it may be linked.
pub(super) struct Unproven {
    user: UserId,
    /// Its password when it was looked at.
    hash: Option<String>,
    claim: Claim,
}

/// Why an account may be linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// The caller vouches for the address and gives no password.
    Vouched,
    /// The caller gives the account's own password.
    OwnPassword,
    /// The caller vouches for the address and gives another password.
    TakeOver,
}

impl Unproven {
    /// Decides how an account may be linked; `None` if its address is proven, so that nothing is to be decided.
    /// Compares the password without a connection.
    ///
    /// # Errors
    /// [`Conflict::AdminUnproven`] if the caller may not link it.
    pub(super) async fn examine(
        ctx: &CallContext,
        hasher: &Hasher,
        account: Account,
        password: Option<&Password>,
    ) -> Result<Option<Self>> {
        if account.is_proven {
            return Ok(None);
        }
        let is_own = match password {
            Some(password) => {
                let stored = account.password_hash.clone().map(PasswordHash::stored);
                hasher.for_client(ctx.client).verify(password, stored.as_ref()).await?
            }
            None => false,
        };
        let claim = match (ctx.principal.vouches(), password) {
            (_, Some(_)) if is_own => Claim::OwnPassword,
            (true, Some(_)) => Claim::TakeOver,
            (true, None) => Claim::Vouched,
            (false, _) => return Err(Error::Conflict(Conflict::AdminUnproven)),
        };
        Ok(Some(Self { user: account.id, hash: account.password_hash, claim }))
    }

    /// Locks the account and does what its linking takes. `password` is the hash of the password that the caller
    /// gives.
    ///
    /// # Errors
    /// [`Conflict::Concurrent`] if the account has changed since it was looked at.
    pub(super) async fn settle(
        &self,
        tx: &PublicTx,
        ctx: &CallContext,
        password: Option<&PasswordHash>,
    ) -> Result<()> {
        if !users::lock_unproven(tx, self.user, self.hash.as_deref()).await? {
            return Err(Error::Conflict(Conflict::Concurrent));
        }
        if let (Claim::TakeOver, Some(password)) = (self.claim, password) {
            users::set_password(tx, self.user, password.as_str(), ctx.now).await?;
            end_access(tx, ctx, self.user).await?;
        }
        if ctx.principal.vouches() {
            users::prove_address(tx, self.user, ctx.now).await?;
        }
        Ok(())
    }
}

/// Ends everything by which the holder of an account could act as it, except the password, and forgets what that
/// holder agreed to. The caller has locked the user's row.
pub(super) async fn end_access(tx: &PublicTx, ctx: &CallContext, user: UserId) -> Result<()> {
    let ended = sessions::revoke_all(tx, user, ctx.now).await?;
    let tokens = end_of_user(tx, ctx, user, None, "user.take_over").await?;
    memberships::forget_acceptances(tx, user).await?;
    let details = json!({ "user": user, "sessions_ended": ended, "tokens_ended": tokens });
    note(tx, ctx, AuditAction::UserTakeOver, None, details).await
}
