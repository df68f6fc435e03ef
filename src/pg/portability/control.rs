//! What the control plane has of a tenant that is exported or imported. Names are qualified: the transaction may be inside
//! the schema of a tenant.

use serde_json::Value;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::Role;
use crate::domain::archive::{MemberEntry, TenantEntry};
use crate::domain::error::{Error, Result};
use crate::domain::names::{Email, SchemaName, TenantId, UserId};
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

const READ: &str = "read the tenant for an archive";

/// Reads the row of a tenant; `None` if there is none.
pub async fn tenant(tx: &PublicTx, tenant: TenantId) -> Result<Option<TenantEntry>> {
    let sql = "SELECT id, slug, name, org, contact_email, external_id, status, created_at, settings::text AS settings
                 FROM public.tenants WHERE id = $1";
    let Some(row) = tx.query_opt(sql, &[&tenant]).await.during(READ)? else { return Ok(None) };
    let created_at: OffsetDateTime = row.get("created_at");
    let settings = RawValue::from_string(row.get("settings"));
    Ok(Some(TenantEntry {
        id: row.get::<_, TenantId>("id").uuid(),
        slug: row.get("slug"),
        name: row.get("name"),
        org: row.get("org"),
        contact: row.get("contact_email"),
        external_id: row.get("external_id"),
        status: row.get("status"),
        created_at: created_at.format(&Rfc3339).unwrap_or_default(),
        settings: settings.map_err(|error| Error::internal(READ, error))?,
    }))
}

/// Reads the members of a tenant, in the order in which they joined.
pub async fn members(tx: &PublicTx, tenant: TenantId) -> Result<Vec<MemberEntry>> {
    let sql = "SELECT u.email, u.first_name, u.last_name, m.role
                 FROM public.memberships m
                 JOIN public.users u ON u.id = m.user_id
                WHERE m.tenant_id = $1
                ORDER BY m.created_at, m.user_id";
    let rows = tx.query(sql, &[&tenant]).await.during(READ)?;
    rows.iter()
        .map(|row| {
            let role: &str = row.get("role");
            Ok(MemberEntry {
                email: row.get("email"),
                first_name: row.get("first_name"),
                last_name: row.get("last_name"),
                role: role.parse::<Role>().map_err(|error| Error::internal(READ, error))?,
            })
        })
        .collect()
}

/// Whether a tenant, a vacancy or a schema has the id. A role may have it: roles belong to the server, and another
/// database of it may have the tenant too.
pub async fn is_id_taken(tx: &PublicTx, tenant: TenantId) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM public.tenants WHERE id = $1)
                   OR EXISTS (SELECT FROM public.vacancies WHERE id = $1)
                   OR EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $2) AS is_taken";
    let schema = SchemaName::of(tenant);
    let row = tx.query_one(sql, &[&tenant, &schema.as_str()]).await.during("look for an id")?;
    Ok(row.get("is_taken"))
}

/// Returns those of the extensions that are not installed in the database, and its encoding.
pub async fn missing_extensions(
    tx: &PublicTx,
    extensions: &[String],
) -> Result<(Vec<String>, String)> {
    let sql = "SELECT ARRAY(SELECT name FROM unnest($1::text[]) name
                             WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = name)) AS missing,
                      current_setting('server_encoding') AS encoding";
    let row = tx.query_one(sql, &[&extensions.to_vec()]).await.during("look for extensions")?;
    Ok((row.get("missing"), row.get("encoding")))
}

/// Makes the account with this address a member, if its address is proven. Returns whether it did.
pub async fn link_member(
    tx: &PublicTx,
    tenant: TenantId,
    email: &Email,
    role: Role,
    accepted_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<bool> {
    let sql = "INSERT INTO public.memberships (tenant_id, user_id, role, created_at, accepted_at)
               SELECT $1, id, $3, $4, $5
                 FROM public.users
                WHERE email = $2 AND (address_proven_at IS NOT NULL OR platform_role IS NOT NULL)
               ON CONFLICT (tenant_id, user_id) DO NOTHING";
    let params: [&dyn crate::pg::Param; 5] = [&tenant, email, &role.as_str(), &now, &accepted_at];
    Ok(tx.execute(sql, &params).await.during("link a member")? == 1)
}

/// Creates an account without a password, unless the address has one. Its address is proven where the caller vouches for
/// it.
pub async fn create_account(
    tx: &PublicTx,
    member: &MemberEntry,
    email: &Email,
    proven_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<bool> {
    let sql = "INSERT INTO public.users (id, email, first_name, last_name, created_at, updated_at, address_proven_at)
               VALUES ($1, $2, $3, $4, $5, $5, $6)
               ON CONFLICT (email) DO NOTHING";
    let id = UserId::generate();
    let (first, last) = (&member.first_name, &member.last_name);
    let written = tx.execute(sql, &[&id, email, first, last, &now, &proven_at]).await;
    Ok(written.during("create the account of a member")? == 1)
}

/// Returns the version and the fingerprint of the migrations that a tenant's schema has.
pub async fn version(tx: &PublicTx, tenant: TenantId) -> Result<(i32, String)> {
    let sql = "SELECT migrations_version, migrations_fingerprint FROM public.tenants WHERE id = $1";
    let row = tx.query_one(sql, &[&tenant]).await.during("read the version of a tenant")?;
    Ok((row.get("migrations_version"), row.get("migrations_fingerprint")))
}

/// Ends a tenant, which is then purged.
pub async fn end(tx: &PublicTx, tenant: TenantId, now: OffsetDateTime) -> Result<()> {
    let sql = "UPDATE public.tenants SET expires_at = $2, revision = revision + 1, updated_at = $2 WHERE id = $1";
    tx.execute(sql, &[&tenant, &now]).await.during("end the imported tenant").map(drop)
}

/// Suspends a tenant that was just made.
pub async fn suspend(tx: &PublicTx, tenant: TenantId) -> Result<()> {
    let sql = "UPDATE public.tenants SET status = 'suspended' WHERE id = $1";
    tx.execute(sql, &[&tenant]).await.during("suspend the imported tenant").map(drop)
}

/// Keeps the public half of a key that signs archives.
pub async fn keep_key(tx: &PublicTx, kid: &str, public: &Value, now: OffsetDateTime) -> Result<()> {
    let sql = "INSERT INTO public.archive_keys (kid, public_key, created_at) VALUES ($1, $2, $3)
               ON CONFLICT (kid) DO NOTHING";
    tx.execute(sql, &[&kid, public, &now]).await.during("keep the key of an archive").map(drop)
}

/// Reads the public half of a key that signed archives here.
pub async fn find_key(tx: &PublicTx, kid: &str) -> Result<Option<Value>> {
    let sql = "SELECT public_key FROM public.archive_keys WHERE kid = $1";
    let row = tx.query_opt(sql, &[&kid]).await.during("read the key of an archive")?;
    Ok(row.map(|row| row.get("public_key")))
}

/// Forgets a key, so that what it signed is no longer trusted.
pub async fn forget_key(tx: &PublicTx, kid: &str) -> Result<()> {
    let sql = "DELETE FROM public.archive_keys WHERE kid = $1";
    tx.execute(sql, &[&kid]).await.during("forget the key of an archive").map(drop)
}
