//! Statements on `public.users`.

use std::str::FromStr;

use time::OffsetDateTime;

use crate::domain::error::{Error, Result};
use crate::domain::names::{Email, UserId};
use crate::domain::{Role, User};
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

/// A user with their password hash, for a log-in.
pub struct Credentials {
    /// User.
    pub user: User,
    /// Stored hash; `None` for a user who cannot log in by password.
    pub password_hash: Option<String>,
}

/// What must be known of an account before another caller's word links it.
pub struct Account {
    /// Id.
    pub id: UserId,
    /// Stored hash; `None` for a user who cannot log in by password.
    pub password_hash: Option<String>,
    /// Whether it is certain that the account's holder owns its address.
    pub is_proven: bool,
}

/// Inserts a user whose address is proven, unless the address has a user, and returns whether it was inserted.
///
/// Of two concurrent inserts of one address the second waits for the first and then writes nothing.
pub async fn insert_if_absent(
    tx: &PublicTx,
    user: &User,
    password_hash: Option<&str>,
    now: OffsetDateTime,
) -> Result<bool> {
    let written = tx
        .execute(
            "INSERT INTO users
                 (id, email, first_name, last_name, password_hash, platform_role, created_at, updated_at,
                  address_proven_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $7)
             ON CONFLICT (email) DO NOTHING",
            &[
                &user.id,
                &user.email,
                &user.first_name,
                &user.last_name,
                &password_hash,
                &user.platform_role.map(Role::as_str),
                &now,
            ],
        )
        .await
        .during("insert user row")?;
    Ok(written == 1)
}

/// Returns the id of the user with this address.
pub async fn find_id_by_email(tx: &PublicTx, email: &Email) -> Result<Option<UserId>> {
    let row = tx
        .query_opt("SELECT id FROM users WHERE email = $1", &[email])
        .await
        .during("read user row")?;
    Ok(row.map(|row| row.get("id")))
}

/// Returns the account with this address. A user with a platform role counts as proven: only the root makes one.
pub async fn find_account(tx: &PublicTx, email: &Email) -> Result<Option<Account>> {
    let row = tx
        .query_opt(
            "SELECT id, password_hash,
                    address_proven_at IS NOT NULL OR platform_role IS NOT NULL AS is_proven
               FROM users
              WHERE email = $1",
            &[email],
        )
        .await
        .during("read user row")?;
    Ok(row.map(|row| Account {
        id: row.get("id"),
        password_hash: row.get("password_hash"),
        is_proven: row.get("is_proven"),
    }))
}

/// Locks an account whose address is not proven until the transaction ends. Returns whether there still is such an
/// account and it has this password hash.
pub async fn lock_unproven(tx: &PublicTx, id: UserId, password_hash: Option<&str>) -> Result<bool> {
    let row = tx
        .query_opt(
            "SELECT id
               FROM users
              WHERE id = $1 AND password_hash IS NOT DISTINCT FROM $2
                AND address_proven_at IS NULL AND platform_role IS NULL
                FOR UPDATE",
            &[&id, &password_hash],
        )
        .await
        .during("lock user row")?;
    Ok(row.is_some())
}

/// Records that the account's holder owns its address, unless that is recorded already.
pub async fn prove_address(tx: &PublicTx, id: UserId, now: OffsetDateTime) -> Result<()> {
    tx.execute(
        "UPDATE users SET address_proven_at = $2, updated_at = $2
          WHERE id = $1 AND address_proven_at IS NULL",
        &[&id, &now],
    )
    .await
    .during("record that an address is proven")?;
    Ok(())
}

/// Returns the credentials of the user with this address.
pub async fn find_credentials(tx: &PublicTx, email: &Email) -> Result<Option<Credentials>> {
    let row = tx
        .query_opt(
            "SELECT id, email, first_name, last_name, platform_role, password_hash
               FROM users
              WHERE email = $1",
            &[email],
        )
        .await
        .during("read user row")?;
    row.map(|row| {
        Ok(Credentials { user: from_row(&row)?, password_hash: row.get("password_hash") })
    })
    .transpose()
}

/// Returns the credentials of the user with this id.
pub async fn lookup_credentials(tx: &PublicTx, id: UserId) -> Result<Option<Credentials>> {
    let row = tx
        .query_opt(
            "SELECT id, email, first_name, last_name, platform_role, password_hash
               FROM users
              WHERE id = $1",
            &[&id],
        )
        .await
        .during("read user row")?;
    row.map(|row| {
        Ok(Credentials { user: from_row(&row)?, password_hash: row.get("password_hash") })
    })
    .transpose()
}

/// Sets a user's password and platform role, and records that the address is proven; for the admin of the settings.
pub async fn set_password_and_role(
    tx: &PublicTx,
    id: UserId,
    password_hash: &str,
    role: Role,
    now: OffsetDateTime,
) -> Result<()> {
    tx.execute(
        "UPDATE users
            SET password_hash = $2, platform_role = $3, updated_at = $4,
                address_proven_at = coalesce(address_proven_at, $4)
          WHERE id = $1",
        &[&id, &password_hash, &role.as_str(), &now],
    )
    .await
    .during("update user row")?;
    Ok(())
}

/// Reads a user's platform role, if they have one, and locks the user's row until the transaction ends, so that no
/// other transaction changes the user or adds them to a tenant. `None` where the user does not exist.
pub async fn lock_platform_role(tx: &PublicTx, id: UserId) -> Result<Option<Option<Role>>> {
    let row = tx
        .query_opt("SELECT platform_role FROM users WHERE id = $1 FOR UPDATE", &[&id])
        .await
        .during("lock user row")?;
    row.map(|row| role(row.get("platform_role"))).transpose()
}

/// Locks a user's row in share mode until the transaction ends, so that no other transaction changes it. Returns
/// whether the user exists.
pub async fn hold(tx: &PublicTx, id: UserId) -> Result<bool> {
    let row = tx
        .query_opt("SELECT id FROM users WHERE id = $1 FOR SHARE", &[&id])
        .await
        .during("hold user row")?;
    Ok(row.is_some())
}

/// Sets a user's password.
pub async fn set_password(
    tx: &PublicTx,
    id: UserId,
    password_hash: &str,
    now: OffsetDateTime,
) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE users SET password_hash = $2, updated_at = $3 WHERE id = $1",
            &[&id, &password_hash, &now],
        )
        .await
        .during("set a password")?;
    if touched == 1 { Ok(()) } else { Err(Failure::RowCount.during("set a password")) }
}

/// Replaces a stored hash, unless another transaction has replaced it, and returns whether it did. Locks the user's
/// row until the transaction ends.
pub async fn replace_hash(
    tx: &PublicTx,
    id: UserId,
    old: &str,
    new: &str,
    now: OffsetDateTime,
) -> Result<bool> {
    let touched = tx
        .execute(
            "UPDATE users SET password_hash = $3, updated_at = $4 WHERE id = $1 AND password_hash = $2",
            &[&id, &old, &new, &now],
        )
        .await
        .during("update user row")?;
    Ok(touched == 1)
}

/// Parses a role column.
pub(in crate::pg) fn role(text: Option<&str>) -> Result<Option<Role>> {
    text.map(Role::from_str).transpose().map_err(|e| Error::internal("read a role", e))
}

fn from_row(row: &crate::pg::Row) -> Result<User> {
    Ok(User {
        id: row.get("id"),
        email: row.get("email"),
        first_name: row.get("first_name"),
        last_name: row.get("last_name"),
        platform_role: role(row.get("platform_role"))?,
    })
}
