//! Replaces what is in a tenant by an archive.

use std::fmt::Write as _;

use time::OffsetDateTime;
use tokio::io::AsyncRead;

use super::swap::{SwapTenants, Swapped};
use super::{Archives, ImportTenant, Imported, MemberPolicy, NewId, OnProgress};
use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::archive::ArchiveProblem;
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{SLUG_MAX, Slug};
use crate::pg::During;
use crate::pg::control::tenants;
use crate::pg::portability::control;
use crate::service::tenants::registry::Expected;
use crate::service::tenants::{TenantRef, locate_id, require_kept};

const INTO: &str = "import an archive into a tenant";

/// How many replacements of one tenant on one day can be kept.
const KEPT_A_DAY: u32 = 100;

/// The command to replace what is in a tenant.
#[derive(Debug, Clone)]
pub struct ImportInto {
    /// The tenant.
    pub tenant: TenantRef,
    /// Tables of the archive that are not stored.
    pub leave_out: Vec<String>,
    /// The JSON Web Key Set of another installation whose archives are trusted.
    pub trust: Option<String>,
    /// Whether the archive is imported and rolled back, and nothing is replaced.
    pub dry_run: bool,
}

/// What is made of an archive.
#[derive(Debug, Clone)]
pub enum ImportCommand {
    /// A tenant.
    Tenant(ImportTenant),
    /// The content of a tenant that there is.
    Into(ImportInto),
}

/// A tenant whose content was replaced, or would be.
#[derive(Debug, Clone)]
pub struct ImportedInto {
    /// What was imported; its id and slug are those of the tenant that keeps what was there before.
    pub imported: Imported,
    /// The slug of the tenant.
    pub slug: Slug,
    /// Both tenants; none of a dry run.
    pub swapped: Option<Swapped>,
}

impl Archives {
    pub(super) async fn replace(
        &self,
        ctx: &CallContext,
        reach: &Reach,
        command: &ImportInto,
        input: &mut (dyn AsyncRead + Unpin + Send),
        on_progress: OnProgress<'_>,
    ) -> Result<ImportedInto> {
        let tx = self.db.public().await.during(INTO)?;
        let id = locate_id(&tx, reach, &command.tenant).await?;
        let record = tenants::lookup_record(&tx, id).await?.ok_or(Error::NotFound(Noun::Tenant))?;
        require_kept(&record)?;
        // Before all the work; the swap checks it again.
        let (version, fingerprint) = control::version(&tx, id).await?;
        if fingerprint != self.set.fingerprint() {
            let (one, other) = (format!("V{version}"), format!("V{}", self.set.version()));
            return Err(ArchiveProblem::SwapVersionDiffers { one, other }.into());
        }
        let mut beside = None;
        for number in 1..=KEPT_A_DAY {
            let slug = kept_slug(&record.tenant.slug, ctx.now, number)?;
            if tenants::find_by_slug(&tx, &slug).await?.is_none() {
                beside = Some(slug);
                break;
            }
        }
        drop(tx); // it only read
        let import = ImportTenant {
            slug: beside.ok_or(Error::Conflict(Conflict::SlugTaken))?,
            name: None,
            external_id: None,
            id: NewId::New,
            members: MemberPolicy::None,
            suspended: true,
            leave_out: command.leave_out.clone(),
            trust: command.trust.clone(),
            dry_run: command.dry_run,
        };
        let end = ctx.now.checked_add(self.grace_period);
        // The swap ends a recorded import, and not what is made beside.
        let beside = Self { import: None, ..self.clone() };
        let imported = Box::pin(beside.read_archive(ctx, &import, end, input, on_progress)).await?;
        if command.dry_run {
            let slug = record.tenant.slug;
            return Ok(ImportedInto { imported, slug, swapped: None });
        }
        let swap = SwapTenants {
            tenant: TenantRef::Id(id),
            expected: Expected::Any,
            with: TenantRef::Id(imported.id),
            with_expected: Expected::Any,
            idempotency_key: None,
        };
        match self.swap_tenants(ctx, reach, &swap, Some(&imported)).await {
            Ok(swapped) => {
                let slug = swapped.tenant.tenant.slug.clone();
                Ok(ImportedInto { imported, slug, swapped: Some(swapped) })
            }
            Err(error) => {
                // What was imported is not needed then, and is purged with the tenants that have ended.
                let tx = self.db.public().await.during(INTO)?;
                control::end(&tx, imported.id, ctx.now).await?;
                tx.commit().await.during(INTO)?;
                Err(error)
            }
        }
    }
}

/// Returns the slug of the tenant that keeps what was there before, such as `acme-before-20261128`.
fn kept_slug(slug: &Slug, now: OffsetDateTime, number: u32) -> Result<Slug> {
    let (year, month, day) = now.to_calendar_date();
    let mut end = format!("-before-{year:04}{:02}{day:02}", u8::from(month));
    if number > 1 {
        let _ = write!(end, "-{number}");
    }
    let room = SLUG_MAX.saturating_sub(end.len());
    let begin: String = slug.as_str().chars().take(room).collect();
    let kept = format!("{}{end}", begin.trim_end_matches('-'));
    Slug::parse(&kept).map_err(|rule| Error::invalid("slug", rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_tenant_has_the_slug_with_the_day_and_not_more_than_a_slug_may_have() {
        let day = time::macros::datetime!(2026-01-08 12:00 UTC);
        let of = |slug: &str, number| {
            let slug = Slug::stored(slug.to_owned());
            kept_slug(&slug, day, number).unwrap().to_string()
        };
        assert_eq!(of("acme", 1), "acme-before-20260108");
        assert_eq!(of("acme", 2), "acme-before-20260108-2");
        let long = of(&"a-".repeat(40), 100);
        assert!(long.len() <= SLUG_MAX && long.ends_with("a-before-20260108-100"), "{long}");
    }
}
