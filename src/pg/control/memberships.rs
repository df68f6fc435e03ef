//! Statements on `public.memberships` that read the roles of a user and record what the user agreed to.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::Role;
use crate::domain::error::{Error, Result};
use crate::domain::names::{TenantId, UserId};
use crate::pg::Row;
use crate::pg::control::users;
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

/// A user's membership, with what the user agreed to.
pub struct Held {
    /// The tenant.
    pub tenant: TenantId,
    /// The role in it.
    pub role: Role,
    /// Whether the user agreed to it.
    pub is_accepted: bool,
    /// Whether it is older than the record of agreements, so that nothing tells whether the user agreed.
    pub predates_acceptance: bool,
}

/// Reads the roles of a user in all tenants, whatever their status, and locks these rows until the transaction
/// ends.
pub async fn lock_of_user(tx: &PublicTx, user: UserId) -> Result<Vec<Held>> {
    let rows = tx
        .query(
            "SELECT tenant_id, role, accepted_at IS NOT NULL AS is_accepted, predates_acceptance
               FROM memberships
              WHERE user_id = $1
              ORDER BY tenant_id
                FOR UPDATE",
            &[&user],
        )
        .await
        .during("lock membership rows")?;
    rows.iter().map(held).collect()
}

/// Reads a user's membership in a tenant and locks its row until the transaction ends.
pub async fn lock(tx: &PublicTx, tenant: TenantId, user: UserId) -> Result<Option<Held>> {
    let row = tx
        .query_opt(
            "SELECT tenant_id, role, accepted_at IS NOT NULL AS is_accepted, predates_acceptance
               FROM memberships
              WHERE tenant_id = $1 AND user_id = $2
                FOR UPDATE",
            &[&tenant, &user],
        )
        .await
        .during("lock membership row")?;
    row.as_ref().map(held).transpose()
}

/// Records that a user agrees to a membership, with this role.
pub async fn accept(
    tx: &PublicTx,
    tenant: TenantId,
    user: UserId,
    role: Role,
    now: OffsetDateTime,
) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE memberships SET accepted_at = $4, role = $3 WHERE tenant_id = $1 AND user_id = $2",
            &[&tenant, &user, &role.as_str(), &now],
        )
        .await
        .during("accept a membership")?;
    if touched == 1 { Ok(()) } else { Err(Failure::RowCount.during("accept a membership")) }
}

/// Records that a user agrees to a membership if their password has this hash, and returns whether it did.
pub async fn accept_by_password(
    tx: &PublicTx,
    tenant: TenantId,
    user: UserId,
    password_hash: &str,
    now: OffsetDateTime,
) -> Result<bool> {
    let touched = tx
        .execute(
            "UPDATE memberships m
                SET accepted_at = $4
               FROM users u
              WHERE m.tenant_id = $1 AND m.user_id = $2 AND m.accepted_at IS NULL
                AND u.id = m.user_id AND u.password_hash = $3",
            &[&tenant, &user, &password_hash, &now],
        )
        .await
        .during("accept a membership")?;
    Ok(touched == 1)
}

/// Forgets what a user agreed to, because it was another person who agreed.
pub async fn forget_acceptances(tx: &PublicTx, user: UserId) -> Result<()> {
    tx.execute(
        "UPDATE memberships SET accepted_at = NULL, predates_acceptance = false WHERE user_id = $1",
        &[&user],
    )
    .await
    .during("forget the acceptance of memberships")?;
    Ok(())
}

/// Returns the higher of a user's platform role and their role in a tenant; `None` where the user has neither.
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
    row.map_or(Ok(None), |row| highest_role(&row))
}

/// The present roles of a user, found by one of their sessions.
pub struct Memberships {
    /// When the session was last used, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// The role that applies everywhere.
    pub platform_role: Option<Role>,
    /// The role in each tenant.
    pub memberships: Vec<(TenantId, Role)>,
}

/// Reads the present roles of the bearer of an access token in one query, so that a removed user, an ended session
/// and a changed role take effect at once. `None` where the user does not exist, or the session has ended or was
/// opened before `opened_after`.
pub async fn find_by_session(
    tx: PublicTx,
    user: UserId,
    session: Uuid,
    opened_after: OffsetDateTime,
) -> Result<Option<Memberships>> {
    let rows = tx
        .query_and_commit(
            "SELECT u.platform_role, s.last_used_at, m.tenant_id, m.role
               FROM users u
               JOIN sessions s
                 ON s.user_id = u.id AND s.id = $2 AND s.revoked_at IS NULL AND s.created_at > $3
               LEFT JOIN memberships m ON m.user_id = u.id
              WHERE u.id = $1",
            &[&user, &session, &opened_after],
        )
        .await
        .during("read the roles of a user")?;
    let Some(first) = rows.first() else { return Ok(None) };
    let platform_role = users::role(first.get("platform_role"))?;
    let mut memberships = Vec::new();
    for row in &rows {
        // Without any membership the outer join gives one row of nulls.
        if let Some(tenant) = row.get::<_, Option<TenantId>>("tenant_id") {
            memberships.push((tenant, role(row)?));
        }
    }
    let last_used_at = first.get("last_used_at");
    Ok(Some(Memberships { last_used_at, platform_role, memberships }))
}

fn held(row: &Row) -> Result<Held> {
    Ok(Held {
        tenant: row.get("tenant_id"),
        role: role(row)?,
        is_accepted: row.get("is_accepted"),
        predates_acceptance: row.get("predates_acceptance"),
    })
}

/// Reads the role of a membership from the column `role`.
pub(in crate::pg) fn role(row: &Row) -> Result<Role> {
    users::role(row.get("role"))?
        .ok_or_else(|| Error::internal("read membership row", "a membership without a role"))
}

/// Returns the higher role of the columns `platform_role` and `role`, either of which may be null.
pub(in crate::pg) fn highest_role(row: &Row) -> Result<Option<Role>> {
    Ok(users::role(row.get("platform_role"))?.max(users::role(row.get("role"))?))
}
