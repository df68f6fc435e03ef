//! The row of a tenant whose schema was made and filled in the same transaction.

use time::OffsetDateTime;

use super::Archives;
use crate::auth::CallContext;
use crate::domain::Document;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{Email, ExternalId, Slug, TenantId, TenantName};
use crate::pg::control::audit_events::Event;
use crate::pg::control::tenant_setup::{self, Admin, NewTenant, Word};
use crate::pg::control::vacancies::Pattern;
use crate::pg::{During, PublicTx};
use crate::service::tenants::slugs::why_taken;

/// What the row has.
pub(super) struct Row<'a> {
    pub(super) id: TenantId,
    pub(super) slug: &'a Slug,
    pub(super) name: &'a TenantName,
    pub(super) org: Option<&'a str>,
    pub(super) contact: Option<&'a Email>,
    pub(super) external_id: Option<&'a ExternalId>,
    pub(super) settings: &'a Document,
    pub(super) expires_at: Option<OffsetDateTime>,
    /// The audit event.
    pub(super) event: Event<'a>,
}

impl Archives {
    /// Inserts the row, without members. It comes last: a slug that is held for minutes would hold up set-ups.
    pub(super) async fn insert_tenant(
        &self,
        tx: PublicTx,
        ctx: &CallContext,
        row: Row<'_>,
    ) -> Result<PublicTx> {
        let slug = row.slug;
        let new = NewTenant {
            id: Some(row.id),
            pattern: &Pattern::of(&self.set, self.db.rules().isolation),
            slug,
            rested: self.slugs.rested(ctx.now),
            name: row.name,
            org: row.org,
            contact: row.contact,
            external_id: row.external_id,
            settings: row.settings,
            expires_at: row.expires_at,
            admin: Admin::None,
            word: Word::None,
            event: row.event,
        };
        match tenant_setup::insert(&tx, &new).await {
            Ok(Some(_)) => Ok(tx),
            Ok(None) => Err(Error::internal("insert the row of a tenant", "no row was inserted")),
            Err(Error::Conflict(Conflict::SlugTaken)) => {
                drop(tx); // it has failed
                let tx = self.db.public().await.during("read a slug")?;
                Err(why_taken(&tx, slug).await?)
            }
            Err(error) => Err(error),
        }
    }
}
