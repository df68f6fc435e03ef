//! Statements on `public.slugs`: which tenant has a slug, or had it last.

use time::OffsetDateTime;

use crate::domain::error::Result;
use crate::domain::names::{Slug, TenantId};
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// The condition under which the row of a slug can be taken by another tenant: it was freed at `$<rested>` or earlier,
/// or its tenant is gone or renamed by a program that does not know the table. The row is locked when this is
/// evaluated, and in its latest version.
macro_rules! can_be_taken {
    ($rested:literal) => {
        concat!(
            "(slugs.freed_at <= ",
            $rested,
            " OR (slugs.freed_at IS NULL
                  AND NOT EXISTS (SELECT FROM tenants t WHERE t.slug = slugs.slug)))"
        )
    };
}

pub(in crate::pg) use can_be_taken;

/// Gives a slug to a tenant: one that no tenant had, one that was freed at `rested` or earlier, or one that this tenant
/// had itself. Returns whether the tenant has it now. Locks the slug until the transaction ends.
pub async fn claim(
    tx: &PublicTx,
    slug: &Slug,
    tenant: TenantId,
    rested: OffsetDateTime,
) -> Result<bool> {
    let sql = concat!(
        "INSERT INTO slugs (slug, tenant_id)
         VALUES ($1, $2)
         ON CONFLICT (slug) DO UPDATE
            SET tenant_id = excluded.tenant_id, freed_at = NULL
          WHERE slugs.tenant_id = excluded.tenant_id OR ",
        can_be_taken!("$3")
    );
    let touched = tx.execute(sql, &[slug, &tenant, &rested]).await.during("claim a slug")?;
    Ok(touched == 1)
}

/// Records that a tenant gives its slug up.
pub async fn free(tx: &PublicTx, slug: &Slug, tenant: TenantId, now: OffsetDateTime) -> Result<()> {
    tx.execute(
        "INSERT INTO slugs (slug, tenant_id, freed_at)
         VALUES ($1, $2, $3)
         ON CONFLICT (slug) DO UPDATE
            SET tenant_id = excluded.tenant_id, freed_at = excluded.freed_at",
        &[slug, &tenant, &now],
    )
    .await
    .during("free a slug")?;
    Ok(())
}

/// Returns whether a slug was freed and no tenant has taken it since.
pub async fn is_free(tx: &PublicTx, slug: &Slug) -> Result<bool> {
    let sql =
        "SELECT EXISTS (SELECT FROM slugs WHERE slug = $1 AND freed_at IS NOT NULL) AS is_free";
    Ok(tx.query_one(sql, &[slug]).await.during("read a slug")?.get("is_free"))
}

/// Deletes the slugs that were freed at `rested` or earlier.
pub async fn delete_rested(tx: &PublicTx, rested: OffsetDateTime) -> Result<()> {
    tx.execute("DELETE FROM slugs WHERE freed_at <= $1", &[&rested])
        .await
        .during("delete rested slugs")?;
    Ok(())
}
