//! Replaces the secret of a credential. The id, the permissions and the place in the line stay; the secret before stays
//! good for an overlap, so that what uses it can change over without a refused request.
//!
//! The new secret is as good as the credential itself, so it goes only to a caller that has it already or that made it:
//! the root and the operator, the user for whom it works, and the credential itself or one from which it descends. Any
//! other caller could keep access that it would otherwise lose.

use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::lifetime::OVERLAP_MAX;
use super::managed::managed;
use super::{Tokens, hold_user, require_role};
use crate::auth::token::{Kind, OpaqueToken};
use crate::auth::{CallContext, Principal};
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::TokenId;
use crate::domain::rule::Rule;
use crate::domain::{AuditAction, Permission, TokenKind};
use crate::pg::During;
use crate::pg::control::managed_tokens;
use crate::pg::control::token_lines::{self, Line};
use crate::pg::control::tokens::{self, NewSecret, Token};
use crate::service::audit::note;
use crate::service::tenants::active_part;

/// A rotation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rotation {
    /// How long the secret before stays good; by default as the settings say. Zero ends it at once.
    pub overlap: Option<Duration>,
    /// When the token expires from now on; by default as before.
    pub expires_at: Option<OffsetDateTime>,
}

impl Tokens {
    /// Gives a token or an API key a new secret and returns both. The secret before stays good for the overlap; the one
    /// before that ends at once.
    ///
    /// # Errors
    /// [`Noun::Token`] not found, also where the caller does not manage it; [`Error::Forbidden`] where the caller manages
    /// it and must not have its secret; [`Conflict::TokenEnded`]; [`Error::Invalid`] for an overlap beyond
    /// [`OVERLAP_MAX`], and for an expiry in the past or beyond a limit.
    pub async fn rotate(
        &self,
        ctx: &CallContext,
        id: TokenId,
        rotation: Rotation,
    ) -> Result<(Token, OpaqueToken)> {
        let reach = ctx.reach(Permission::ManageApiKeys)?;
        let overlap = rotation.overlap.unwrap_or(self.lifetimes.overlap);
        if overlap > OVERLAP_MAX {
            return Err(Error::invalid("overlap", Rule::AtMost(OVERLAP_MAX)));
        }
        if rotation.expires_at.is_some_and(|end| end <= ctx.now) {
            return Err(Error::invalid("expiresAt", Rule::Past));
        }
        self.lifetimes.check(rotation.expires_at, ctx.now, "expiresAt")?;
        let tx = self.db.public().await.during("rotate token")?;
        let reach = active_part(&tx, reach).await?;
        let missing = || Error::NotFound(Noun::Token);
        let managed = managed(ctx, &reach);
        let token = managed_tokens::lookup(&tx, &managed, id).await?.ok_or_else(missing)?;
        hold_user(&tx, ctx, token.tenant).await?;
        let line = token_lines::lock(&tx, id).await?;
        require_secret(ctx, &token, &line)?;
        require_role(&tx, ctx, token.tenant, &token.permissions).await?;
        if !line.is_good(ctx.now) {
            return Err(Error::Conflict(Conflict::TokenEnded));
        }
        // Read again, now that it is locked: another rotation may have changed the end.
        let token = tokens::lookup(&tx, id).await?.ok_or_else(missing)?;
        let expires_at = self.expiry(ctx, &token, &line, rotation.expires_at)?;
        let secret = OpaqueToken::generate(kind_of_secret(token.kind));
        let (digest, hint) = (secret.digest(), secret.hint());
        let new = NewSecret {
            digest: digest.as_bytes(),
            hint: &hint,
            previous_until: overlap.is_positive().then(|| ctx.now.saturating_add(overlap)),
            expires_at,
        };
        let token = tokens::rotate(&tx, id, &new, ctx.now).await?;
        let action = match token.kind {
            TokenKind::ApiKey => AuditAction::ApiKeyRotate,
            TokenKind::Token | TokenKind::Xtoken | TokenKind::Person => AuditAction::TokenRotate,
        };
        let details = json!({
            "token": id, "kind": token.kind, "overlap_seconds": overlap.whole_seconds(),
        });
        note(&tx, ctx, action, token.tenant, details).await?;
        tx.commit().await.during("rotate token")?;
        Ok((token, secret))
    }

    /// Returns when a token expires after its rotation.
    fn expiry(
        &self,
        ctx: &CallContext,
        token: &Token,
        line: &Line,
        asked: Option<OffsetDateTime>,
    ) -> Result<Option<OffsetDateTime>> {
        let limit = match ctx.principal.credential() {
            // Otherwise a token could extend its own life.
            Some(caller) if caller == token.id => line.ends_at(),
            _ => line.ancestors_end_at(),
        };
        match (asked, token.expires_at) {
            (None, Some(end)) => Ok(Some(end)),
            (None, None) => Ok(self.lifetimes.shortened(None, ctx.now, limit)),
            (Some(_), _) => self.lifetimes.end(asked, ctx.now, limit, "expiresAt"),
        }
    }
}

/// Refuses to hand the secret of a token to a caller that neither has it nor made it.
fn require_secret(ctx: &CallContext, token: &Token, line: &Line) -> Result<()> {
    let may = match &ctx.principal {
        Principal::Root | Principal::Operator => true,
        Principal::User { id, .. } => token.user == Some(*id),
        Principal::Token { id, .. } | Principal::ApiKey { id, .. } => line.contains(*id),
        Principal::Anonymous | Principal::Profile { .. } => false,
    };
    if may { Ok(()) } else { Err(Error::Forbidden { missing: Vec::new() }) }
}

const fn kind_of_secret(kind: TokenKind) -> Kind {
    match kind {
        TokenKind::Token => Kind::Api,
        TokenKind::ApiKey => Kind::ApiKey,
        TokenKind::Xtoken | TokenKind::Person => Kind::Uuid,
    }
}
