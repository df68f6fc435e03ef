//! Statements on `public.migration_sets`, which has the files of each fingerprint, and on the fingerprints in tenants'
//! rows: one query over both tells which tenants are behind by what, without reading a schema.

use std::collections::HashMap;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::migrations::{Applied, MigrationSet};
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// Tenants that were made by one set.
#[derive(Debug, Clone)]
pub struct Group {
    /// Fingerprint of the set.
    pub fingerprint: String,
    /// Its highest version, according to the tenants' rows.
    pub version: i32,
    /// How many tenants.
    pub count: i64,
    /// The oldest of them.
    pub first: TenantId,
    /// The slugs of some of them.
    pub slugs: Vec<String>,
    /// The set's files; empty if they are not recorded.
    pub files: Vec<Applied>,
}

/// Records the files of a set. Does nothing if they are recorded already.
pub async fn record(
    tx: &PublicTx,
    fingerprint: &str,
    files: &[Applied],
    now: OffsetDateTime,
) -> Result<()> {
    let versions: Vec<i64> = files.iter().map(|file| i64::from(file.version)).collect();
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let checksums: Vec<String> = files.iter().map(|file| file.checksum.clone()).collect();
    tx.execute(
        "INSERT INTO migration_sets (fingerprint, version, name, checksum, recorded_at)
         SELECT $1, file.version::int4, file.name, file.checksum, $5
           FROM unnest($2::bigint[], $3::text[], $4::text[]) AS file (version, name, checksum)
         ON CONFLICT (fingerprint, version) DO NOTHING",
        &[&fingerprint, &versions, &names, &checksums, &now],
    )
    .await
    .map(drop)
    .during("record a set of migrations")
}

/// Groups tenants by the set that made them; only the tenants in `only` if it is given. Tenants that are being deleted
/// are left out.
pub async fn groups(tx: &PublicTx, only: Option<&[Uuid]>) -> Result<Vec<Group>> {
    let only: Option<Vec<Uuid>> = only.map(<[Uuid]>::to_vec);
    let rows = tx
        .query(
            "SELECT g.fingerprint, g.version, g.count, g.ids[1] AS first, g.slugs,
                    f.versions, f.names, f.checksums
               FROM (SELECT migrations_fingerprint AS fingerprint, max(migrations_version) AS version,
                            count(*) AS count,
                            (array_agg(id ORDER BY created_at, id))[1:1] AS ids,
                            (array_agg(slug ORDER BY created_at, id))[1:5] AS slugs
                       FROM tenants
                      WHERE status <> 'deleting' AND ($1::uuid[] IS NULL OR id = ANY ($1))
                      GROUP BY migrations_fingerprint) g
               LEFT JOIN LATERAL (
                    SELECT array_agg(s.version::bigint ORDER BY s.version) AS versions,
                           array_agg(s.name ORDER BY s.version) AS names,
                           array_agg(s.checksum ORDER BY s.version) AS checksums
                      FROM migration_sets s
                     WHERE s.fingerprint = g.fingerprint) f ON true
              ORDER BY g.count DESC, g.fingerprint",
            &[&only],
        )
        .await
        .during("list who is behind")?;
    Ok(rows.iter().map(group).collect())
}

fn group(row: &crate::pg::Row) -> Group {
    let versions: Vec<i64> = row.get::<_, Option<_>>("versions").unwrap_or_default();
    let names: Vec<String> = row.get::<_, Option<_>>("names").unwrap_or_default();
    let checksums: Vec<String> = row.get::<_, Option<_>>("checksums").unwrap_or_default();
    let files = versions.into_iter().zip(names).zip(checksums);
    Group {
        fingerprint: row.get("fingerprint"),
        version: row.get("version"),
        count: row.get("count"),
        first: row.get("first"),
        slugs: row.get("slugs"),
        files: files
            .map(|((version, name), checksum)| Applied {
                version: i32::try_from(version).unwrap_or(i32::MAX),
                name,
                checksum,
            })
            .collect(),
    }
}

/// Reads the version and the fingerprint of the migrations that a tenant has applied, from its row.
pub async fn of_tenant(tx: &PublicTx, tenant: TenantId) -> Result<(i32, String)> {
    let sql = "SELECT migrations_version, migrations_fingerprint FROM tenants WHERE id = $1";
    let row = tx.query_one(sql, &[&tenant]).await.during("read the migrations of a tenant")?;
    Ok((row.get("migrations_version"), row.get("migrations_fingerprint")))
}

/// A file that runs outside a transaction and has run half-way in some tenants.
#[derive(Debug, Clone)]
pub struct HalfRun {
    /// The file's version.
    pub version: i32,
    /// How many tenants.
    pub count: i64,
    /// The slugs of some of them.
    pub slugs: Vec<String>,
}

/// Lists the files that have run half-way; only in the tenants in `only` if it is given.
pub async fn half_run(tx: &PublicTx, only: Option<&[Uuid]>) -> Result<Vec<HalfRun>> {
    let only: Option<Vec<Uuid>> = only.map(<[Uuid]>::to_vec);
    let rows = tx
        .query(
            "SELECT s.version, count(*) AS count,
                    (array_agg(t.slug ORDER BY t.created_at, t.id))[1:5] AS slugs
               FROM (SELECT DISTINCT tenant_id, version FROM migration_statements) s
               JOIN tenants t ON t.id = s.tenant_id
              WHERE t.status <> 'deleting' AND ($1::uuid[] IS NULL OR t.id = ANY ($1))
              GROUP BY s.version
              ORDER BY s.version",
            &[&only],
        )
        .await
        .during("list files that ran half-way")?;
    let half_run = |row: &crate::pg::Row| HalfRun {
        version: row.get("version"),
        count: row.get("count"),
        slugs: row.get("slugs"),
    };
    Ok(rows.iter().map(half_run).collect())
}

/// Returns the tenants in which files of these versions ran half-way, each with the version.
pub async fn half_run_in(tx: &PublicTx, versions: &[i32]) -> Result<Vec<(TenantId, i32)>> {
    let versions: Vec<i64> = versions.iter().map(|version| i64::from(*version)).collect();
    let sql = "SELECT DISTINCT tenant_id, version FROM migration_statements
                WHERE version::bigint = ANY ($1) ORDER BY tenant_id, version";
    let rows = tx.query(sql, &[&versions]).await.during("list files that ran half-way")?;
    Ok(rows.iter().map(|row| (row.get("tenant_id"), row.get("version"))).collect())
}

/// Forgets which statements of these files ran in a tenant; returns the versions of those that had run half-way.
pub async fn forget_statements(
    tx: &PublicTx,
    tenant: TenantId,
    versions: &[i32],
) -> Result<Vec<i32>> {
    let versions: Vec<i64> = versions.iter().map(|version| i64::from(*version)).collect();
    let sql = "WITH forgotten AS (
                   DELETE FROM migration_statements WHERE tenant_id = $1 AND version::bigint = ANY ($2)
                   RETURNING version)
               SELECT DISTINCT version FROM forgotten ORDER BY version";
    let rows = tx.query(sql, &[&tenant, &versions]).await.during("forget statements")?;
    Ok(rows.iter().map(|row| row.get("version")).collect())
}

/// Counts the tenants that are being deleted and therefore not migrated.
pub async fn count_deleting(tx: &PublicTx) -> Result<i64> {
    let sql = "SELECT count(*) AS total FROM tenants WHERE status = 'deleting'";
    Ok(tx.query_one(sql, &[]).await.during("count deleted tenants")?.get("total"))
}

/// Returns the ids of tenants by slug or id, without the names that no tenant has.
pub async fn resolve(tx: &PublicTx, named: &[String]) -> Result<HashMap<String, Uuid>> {
    let named: Vec<String> = named.to_vec();
    let rows = tx
        .query(
            "SELECT n.name, t.id
               FROM unnest($1::text[]) AS n (name)
               JOIN tenants t ON t.slug = n.name OR t.id::text = n.name",
            &[&named],
        )
        .await
        .during("look tenants up")?;
    Ok(rows.iter().map(|row| (row.get("name"), row.get("id"))).collect())
}

/// Whether these files have this fingerprint.
#[must_use]
pub fn are_those_of(files: &[Applied], fingerprint: &str) -> bool {
    MigrationSet::fingerprint_of(files) == fingerprint
}
