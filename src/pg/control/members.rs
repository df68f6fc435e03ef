//! Statements on `public.memberships`, read together with the users.

use time::OffsetDateTime;

use crate::domain::Role;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{Email, PersonName, TenantId, UserId};
use crate::domain::page::Window;
use crate::pg::Row;
use crate::pg::control::{memberships, users};
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

/// The columns of a [`Member`], of `memberships m` and `users u`.
const COLUMNS: &str = "m.user_id, u.email, u.first_name, u.last_name, m.role, m.created_at";

/// A user as a member of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Id of the user.
    pub user: UserId,
    /// Address.
    pub email: Email,
    /// Given name.
    pub first_name: PersonName,
    /// Family name.
    pub last_name: PersonName,
    /// Role in the tenant.
    pub role: Role,
    /// When the user became a member.
    pub since: OffsetDateTime,
}

/// Reads a page of a tenant's members, in the order in which they joined.
pub async fn list(tx: &PublicTx, tenant: TenantId, window: &Window) -> Result<Vec<Member>> {
    let sql = format!(
        "SELECT {COLUMNS}
           FROM memberships m
           JOIN users u ON u.id = m.user_id
          WHERE m.tenant_id = $1
            AND ($2::timestamptz IS NULL OR (m.created_at, m.user_id) > ($2, $3))
          ORDER BY m.created_at, m.user_id
          LIMIT $4"
    );
    let (at, after) = window.position();
    let rows = tx
        .query(&sql, &[&tenant, &at, &after, &window.rows_to_read()])
        .await
        .during("list members")?;
    rows.iter().map(from_row).collect()
}

/// Reads a page of a tenant's members, in the order in which they joined, each with their platform role, and counts
/// all members.
pub async fn page(
    tx: &PublicTx,
    tenant: TenantId,
    offset: i64,
    limit: i64,
) -> Result<(i64, Vec<(Member, Option<Role>)>)> {
    let total = count(tx, tenant, None).await?;
    let sql = format!(
        "SELECT {COLUMNS}, u.platform_role
           FROM memberships m
           JOIN users u ON u.id = m.user_id
          WHERE m.tenant_id = $1
          ORDER BY m.created_at, m.user_id
         OFFSET $2 LIMIT $3"
    );
    let rows = tx.query(&sql, &[&tenant, &offset, &limit]).await.during("list members")?;
    let rows = rows.iter().map(|row| Ok((from_row(row)?, users::role(row.get("platform_role"))?)));
    Ok((total, rows.collect::<Result<_>>()?))
}

/// Reads one member.
pub async fn lookup(tx: &PublicTx, tenant: TenantId, user: UserId) -> Result<Option<Member>> {
    let sql = format!(
        "SELECT {COLUMNS}
           FROM memberships m
           JOIN users u ON u.id = m.user_id
          WHERE m.tenant_id = $1 AND m.user_id = $2"
    );
    let row = tx.query_opt(&sql, &[&tenant, &user]).await.during("read member")?;
    row.as_ref().map(from_row).transpose()
}

/// Adds a user, who agrees, to a tenant.
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
            "INSERT INTO memberships (tenant_id, user_id, role, created_at, accepted_at)
             VALUES ($1, $2, $3, $4, $4)
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

/// Removes a user from a tenant.
pub async fn delete(tx: &PublicTx, tenant: TenantId, user: UserId) -> Result<()> {
    let touched = tx
        .execute("DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2", &[&tenant, &user])
        .await
        .during("delete member")?;
    if touched == 1 { Ok(()) } else { Err(Failure::RowCount.during("delete member")) }
}

/// Counts the members of a tenant, or only those with a role.
pub async fn count(tx: &PublicTx, tenant: TenantId, role: Option<Role>) -> Result<i64> {
    let row = tx
        .query_one(
            "SELECT count(*) AS total
               FROM memberships
              WHERE tenant_id = $1 AND ($2::text IS NULL OR role = $2)",
            &[&tenant, &role.map(Role::as_str)],
        )
        .await
        .during("count members")?;
    Ok(row.get("total"))
}

fn from_row(row: &Row) -> Result<Member> {
    Ok(Member {
        user: row.get("user_id"),
        email: row.get("email"),
        first_name: row.get("first_name"),
        last_name: row.get("last_name"),
        role: memberships::role(row)?,
        since: row.get("created_at"),
    })
}
