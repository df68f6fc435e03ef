//! Statements on `public.memberships` with the people behind them.

use time::OffsetDateTime;

use crate::domain::Role;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{Email, PersonName, TenantId, UserId};
use crate::domain::page::Window;
use crate::pg::control::users;
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

/// A user's place in a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// Address.
    pub email: Email,
    /// Given name.
    pub first_name: PersonName,
    /// Family name.
    pub last_name: PersonName,
    /// As what.
    pub role: Role,
    /// Since when.
    pub since: OffsetDateTime,
}

/// One part of a tenant's members, those of longest standing first.
pub async fn list(tx: &PublicTx, tenant: TenantId, window: &Window) -> Result<Vec<Member>> {
    let rows = tx
        .query(
            "SELECT m.user_id, u.email, u.first_name, u.last_name, m.role, m.created_at
               FROM memberships m
               JOIN users u ON u.id = m.user_id
              WHERE m.tenant_id = $1
                AND ($2::timestamptz IS NULL OR (m.created_at, m.user_id) > ($2, $3))
              ORDER BY m.created_at, m.user_id
              LIMIT $4",
            &[
                &tenant,
                &window.after.map(|cursor| cursor.at),
                &window.after.map(|cursor| cursor.id),
                &window.rows_to_read(),
            ],
        )
        .await
        .during("list members")?;
    rows.iter().map(from_row).collect()
}

/// A page of a tenant's members, those of longest standing first, each with the role that they hold
/// everywhere, and how many members there are.
pub async fn page(
    tx: &PublicTx,
    tenant: TenantId,
    offset: i64,
    limit: i64,
) -> Result<(i64, Vec<(Member, Option<Role>)>)> {
    let total = tx
        .query_one("SELECT count(*) FROM memberships WHERE tenant_id = $1", &[&tenant])
        .await
        .during("count members")?;
    let rows = tx
        .query(
            "SELECT m.user_id, u.email, u.first_name, u.last_name, m.role, m.created_at, u.platform_role
               FROM memberships m
               JOIN users u ON u.id = m.user_id
              WHERE m.tenant_id = $1
              ORDER BY m.created_at, m.user_id
             OFFSET $2 LIMIT $3",
            &[&tenant, &offset, &limit],
        )
        .await
        .during("list members")?;
    let rows = rows.iter().map(|row| Ok((from_row(row)?, users::role(row.get(6))?)));
    Ok((total.get(0), rows.collect::<Result<_>>()?))
}

/// Reads one member.
pub async fn lookup(tx: &PublicTx, tenant: TenantId, user: UserId) -> Result<Option<Member>> {
    let row = tx
        .query_opt(
            "SELECT m.user_id, u.email, u.first_name, u.last_name, m.role, m.created_at
               FROM memberships m
               JOIN users u ON u.id = m.user_id
              WHERE m.tenant_id = $1 AND m.user_id = $2",
            &[&tenant, &user],
        )
        .await
        .during("read member")?;
    row.as_ref().map(from_row).transpose()
}

/// Links a user to a tenant.
///
/// # Errors
/// [`Conflict::AlreadyMember`].
pub async fn insert(
    tx: &PublicTx,
    tenant: TenantId,
    user: UserId,
    role: Role,
    now: OffsetDateTime,
) -> Result<()> {
    let written = tx
        .execute(
            "INSERT INTO memberships (tenant_id, user_id, role, created_at)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant_id, user_id) DO NOTHING",
            &[&tenant, &user, &role.as_str(), &now],
        )
        .await
        .during("insert member")?;
    if written == 1 { Ok(()) } else { Err(Error::Conflict(Conflict::AlreadyMember)) }
}

/// Changes a member's role.
pub async fn set_role(tx: &PublicTx, tenant: TenantId, user: UserId, role: Role) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE memberships SET role = $3 WHERE tenant_id = $1 AND user_id = $2",
            &[&tenant, &user, &role.as_str()],
        )
        .await
        .during("set a member's role")?;
    if touched == 1 { Ok(()) } else { Err(Failure::RowCount.during("set a member's role")) }
}

/// Takes a user out of a tenant.
pub async fn delete(tx: &PublicTx, tenant: TenantId, user: UserId) -> Result<()> {
    let touched = tx
        .execute("DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2", &[&tenant, &user])
        .await
        .during("delete member")?;
    if touched == 1 { Ok(()) } else { Err(Failure::RowCount.during("delete member")) }
}

/// How many members of a tenant have a role.
pub async fn count(tx: &PublicTx, tenant: TenantId, role: Role) -> Result<i64> {
    let row = tx
        .query_one(
            "SELECT count(*) FROM memberships WHERE tenant_id = $1 AND role = $2",
            &[&tenant, &role.as_str()],
        )
        .await
        .during("count members")?;
    Ok(row.get(0))
}

fn from_row(row: &crate::pg::Row) -> Result<Member> {
    let role = users::role(row.get(4))?
        .ok_or_else(|| Error::internal("read member", "a membership without a role"))?;
    Ok(Member {
        user: row.get(0),
        email: row.get(1),
        first_name: row.get(2),
        last_name: row.get(3),
        role,
        since: row.get(5),
    })
}
