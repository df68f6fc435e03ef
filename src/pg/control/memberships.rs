//! Statements on `public.memberships`, and the look-up behind every access token.

use uuid::Uuid;

use crate::domain::Role;
use crate::domain::error::{Error, Result};
use crate::domain::names::{TenantId, UserId};
use crate::pg::control::users;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// The roles of a user in all tenants, whatever their status, held until the transaction ends.
pub async fn lock_of_user(tx: &PublicTx, user: UserId) -> Result<Vec<(TenantId, Role)>> {
    let rows = tx
        .query(
            "SELECT tenant_id, role FROM memberships WHERE user_id = $1 ORDER BY tenant_id FOR UPDATE",
            &[&user],
        )
        .await
        .during("lock membership rows")?;
    rows.iter()
        .map(|row| {
            let role = users::role(row.get(1))?;
            let role = role.ok_or_else(|| {
                Error::internal("lock membership rows", "a membership without a role")
            })?;
            Ok((row.get(0), role))
        })
        .collect()
}

/// The highest role that a user has in a tenant, or outside of all; `None` where they have none.
pub async fn role_in(
    tx: &PublicTx,
    user: UserId,
    tenant: Option<TenantId>,
) -> Result<Option<Role>> {
    let row = tx
        .query_opt(
            "SELECT u.platform_role, m.role
               FROM users u
               LEFT JOIN memberships m ON m.user_id = u.id AND m.tenant_id = $2
              WHERE u.id = $1",
            &[&user, &tenant],
        )
        .await
        .during("read the role of a user")?;
    let Some(row) = row else { return Ok(None) };
    Ok(users::role(row.get(0))?.max(users::role(row.get(1))?))
}

/// The roles of a user whose session is alive; `None` where the user or the session is gone.
pub struct Standing {
    /// The role that holds everywhere.
    pub platform_role: Option<Role>,
    /// The role in each tenant that is there.
    pub memberships: Vec<(TenantId, Role)>,
}

/// Reads what the bearer of an access token may do now, in one query: a removed user, an ended session
/// and a changed role take effect at once.
pub async fn find_standing(tx: PublicTx, user: UserId, session: Uuid) -> Result<Option<Standing>> {
    let rows = tx
        .query_and_commit(
            "SELECT u.platform_role, m.tenant_id, m.role
               FROM users u
               JOIN sessions s ON s.user_id = u.id AND s.id = $2 AND s.revoked_at IS NULL
               LEFT JOIN memberships m ON m.user_id = u.id
              WHERE u.id = $1",
            &[&user, &session],
        )
        .await
        .during("read the roles of a user")?;
    let Some(first) = rows.first() else { return Ok(None) };
    let platform_role = users::role(first.get(0))?;
    let mut memberships = Vec::new();
    for row in &rows {
        if let (Some(tenant), Some(role)) =
            (row.get::<_, Option<TenantId>>(1), users::role(row.get(2))?)
        {
            memberships.push((tenant, role));
        }
    }
    Ok(Some(Standing { platform_role, memberships }))
}
