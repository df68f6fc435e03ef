//! Statements on `public.invitations`.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::Role;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{Email, InvitationId, TenantId, TokenId, UserId};
use crate::domain::page::Window;
use crate::pg::Row;
use crate::pg::control::memberships;
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

/// The columns of an [`Invitation`].
const COLUMNS: &str = "id, tenant_id, email, role, created_by, inviter_user_id, inviter_token_id, created_at, \
                       expires_at, accepted_at, accepted_by, revoked_at";

/// An invitation without its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Id.
    pub id: InvitationId,
    /// The tenant.
    pub tenant: TenantId,
    /// Whose account becomes the member.
    pub email: Email,
    /// Role in the tenant.
    pub role: Role,
    /// Inviter, as the audit events name callers.
    pub created_by: String,
    /// Whose rights are asked for when it is used.
    pub inviter: Inviter,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it expires.
    pub expires_at: OffsetDateTime,
    /// When it was accepted.
    pub accepted_at: Option<OffsetDateTime>,
    /// The account that accepted it.
    pub accepted_by: Option<UserId>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
}

/// The inviter, whose rights are asked for when the invitation is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inviter {
    /// The root or the operator.
    Server,
    /// A user.
    User(UserId),
    /// An API token or API key.
    Token(TokenId),
}

/// Inserts an invitation.
///
/// # Errors
/// [`Noun::Tenant`] not found.
pub async fn insert(tx: &PublicTx, invitation: &Invitation, digest: &[u8]) -> Result<()> {
    let (user, token) = match invitation.inviter {
        Inviter::Server => (None, None),
        Inviter::User(user) => (Some(user), None),
        Inviter::Token(token) => (None, Some(token)),
    };
    tx.execute(
        "INSERT INTO invitations
             (id, digest, tenant_id, email, role, created_by, inviter_user_id, inviter_token_id, created_at,
              expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[
            &invitation.id,
            &digest,
            &invitation.tenant,
            &invitation.email,
            &invitation.role.as_str(),
            &invitation.created_by,
            &user,
            &token,
            &invitation.created_at,
            &invitation.expires_at,
        ],
    )
    .await
    .map(|_| ())
    .map_err(|failure| {
        if failure.violates("invitations_tenant_id_fkey") {
            Error::NotFound(Noun::Tenant)
        } else {
            failure.during("insert invitation row")
        }
    })
}

/// Reads a page of a tenant's invitations, oldest first.
pub async fn list(tx: &PublicTx, tenant: TenantId, window: &Window) -> Result<Vec<Invitation>> {
    let sql = format!(
        "SELECT {COLUMNS}
           FROM invitations
          WHERE tenant_id = $1
            AND ($2::timestamptz IS NULL OR (created_at, id) > ($2, $3))
          ORDER BY created_at, id
          LIMIT $4"
    );
    let (at, after) = window.position();
    let rows = tx
        .query(&sql, &[&tenant, &at, &after, &window.rows_to_read()])
        .await
        .during("list invitations")?;
    rows.iter().map(from_row).collect()
}

/// Finds an invitation by the digest of its token.
pub async fn find_by_digest(tx: &PublicTx, digest: &[u8]) -> Result<Option<Invitation>> {
    let sql = format!("SELECT {COLUMNS} FROM invitations WHERE digest = $1");
    let row = tx.query_opt(&sql, &[&digest]).await.during("read invitation row")?;
    row.as_ref().map(from_row).transpose()
}

/// Reads an invitation and locks its row until the transaction ends, so that of two concurrent uses the second sees
/// the first.
pub async fn lock(tx: &PublicTx, id: InvitationId) -> Result<Option<Invitation>> {
    let sql = format!("SELECT {COLUMNS} FROM invitations WHERE id = $1 FOR UPDATE");
    let row = tx.query_opt(&sql, &[&id]).await.during("lock invitation row")?;
    row.as_ref().map(from_row).transpose()
}

/// Records that an invitation is used, and by which account.
pub async fn mark_accepted(
    tx: &PublicTx,
    id: InvitationId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE invitations SET accepted_at = $3, accepted_by = $2
              WHERE id = $1 AND accepted_at IS NULL AND revoked_at IS NULL",
            &[&id, &user, &now],
        )
        .await
        .during("accept an invitation")?;
    if touched == 1 { Ok(()) } else { Err(Failure::RowCount.during("accept an invitation")) }
}

/// Revokes an invitation; a revoked one keeps its time.
pub async fn revoke(tx: &PublicTx, id: InvitationId, now: OffsetDateTime) -> Result<()> {
    tx.execute(
        "UPDATE invitations SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
        &[&id, &now],
    )
    .await
    .during("revoke an invitation")?;
    Ok(())
}

/// Deletes the invitations of a tenant that expired before a time, because each holds a person's address.
pub async fn delete_expired(tx: &PublicTx, tenant: TenantId, before: OffsetDateTime) -> Result<()> {
    tx.execute(
        "DELETE FROM invitations WHERE tenant_id = $1 AND expires_at < $2",
        &[&tenant, &before],
    )
    .await
    .during("delete expired invitations")?;
    Ok(())
}

fn from_row(row: &Row) -> Result<Invitation> {
    let user: Option<Uuid> = row.get("inviter_user_id");
    let token: Option<Uuid> = row.get("inviter_token_id");
    let inviter = match (user, token) {
        (Some(user), _) => Inviter::User(UserId::new(user)),
        (None, Some(token)) => Inviter::Token(TokenId::new(token)),
        (None, None) => Inviter::Server,
    };
    Ok(Invitation {
        id: row.get("id"),
        tenant: row.get("tenant_id"),
        email: row.get("email"),
        role: memberships::role(row)?,
        created_by: row.get("created_by"),
        inviter,
        created_at: row.get("created_at"),
        expires_at: row.get("expires_at"),
        accepted_at: row.get("accepted_at"),
        accepted_by: row.get("accepted_by"),
        revoked_at: row.get("revoked_at"),
    })
}
