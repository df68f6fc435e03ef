//! Writes and reads the audit trail, and makes a changed or removed event show.
//!
//! Every event is sealed with a hash of itself and of the seal before it, so that a changed event no longer
//! fits its seal, a removed one leaves a gap, and one missing from the end falls short of the head, which is
//! kept apart. The chain is made some time after the events are: were each writer to hash what the last one
//! wrote, all set-ups would stand in one queue from their event to their commit. Instead whoever seals takes
//! a lock that writers never ask for, and gives places to all events that are committed by then; an event
//! that commits later gets a later place, whatever its time. A writer pays for two more index
//! entries.
//!
//! What that gives up: an event is open to change until it is sealed, for about `tenants.purge_interval` (the
//! same task seals), or until [`Audit::verify`], which seals first. And whoever may write the tables can
//! make a whole new chain: note the head that `verify` answers in another place, and compare.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::TenantId;
use crate::domain::page::{Cursor, Page, Window};
use crate::pg::control::audit_chain::{self, Head};
use crate::pg::control::audit_events::{self, Event};
use crate::pg::{Db, During, PublicTx};

pub use crate::pg::control::audit_chain::{Entry, Filter, Link};

/// Events that are sealed or checked in one go.
const EVENTS_AT_ONCE: i64 = 1000;

/// The audit trail.
#[derive(Clone)]
pub struct Audit {
    db: Db,
}

/// What a check of the chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How many events the chain has.
    pub events: i64,
    /// The last seal, in hex; note it elsewhere to find a chain that was made anew.
    pub head: String,
    /// The first place where the chain does not hold; none where it does.
    pub broken: Option<Break>,
}

/// Where and how a chain does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The event in this place is gone.
    Missing(i64),
    /// The event in this place is not what was sealed.
    Changed(i64),
}

impl Audit {
    /// Works through `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// A part of the events that the caller may see, newest first: all of them, or for the admin of some
    /// tenants those about these.
    ///
    /// # Errors
    /// Those of the rights check; [`Noun::Tenant`] not found where the filter names one that the caller
    /// may not know of.
    pub async fn list(
        &self,
        ctx: &CallContext,
        filter: &Filter,
        window: &Window,
    ) -> Result<Page<Entry>> {
        let reach = ctx.reach(Permission::ViewAudit)?;
        if filter.tenant.is_some_and(|tenant| !reach.covers(tenant)) {
            return Err(Error::NotFound(Noun::Tenant));
        }
        let tx = self.db.public().await.during("list audit events")?;
        let rows = audit_chain::list(&tx, reach.limits(), filter, window).await?;
        Ok(Page::cut(rows, window, |entry| Cursor { at: entry.at, id: entry.id }))
    }

    /// Seals what is written and not sealed; tells how many events.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn seal(&self, ctx: &CallContext) -> Result<usize> {
        ctx.require(Permission::ViewAudit)?;
        let mut sealed = 0;
        loop {
            let some = self.seal_some().await?;
            if some == 0 {
                return Ok(sealed);
            }
            sealed += some;
        }
    }

    /// Checks the whole chain, after sealing what is not yet in it.
    ///
    /// # Errors
    /// Those of the rights check and of the database; a chain that does not hold is an answer.
    pub async fn verify(&self, ctx: &CallContext) -> Result<Verdict> {
        ctx.require(Permission::ViewAudit)?;
        self.seal(ctx).await?;
        let tx = self.db.public().await.during("check the audit chain")?;
        let end = audit_chain::head(&tx).await?;
        let mut at = Head { position: 0, seal: Vec::new() };
        let mut broken = None;
        while broken.is_none() && at.position < end.position {
            let links = audit_chain::list_sealed(&tx, at.position, EVENTS_AT_ONCE).await?;
            if links.is_empty() {
                broken = Some(Break::Missing(at.position + 1));
            }
            for link in links {
                match check(&at, &link) {
                    Ok(next) => at = next,
                    Err(found) => {
                        broken = Some(found);
                        break;
                    }
                }
                if at.position == end.position {
                    break;
                }
            }
        }
        if broken.is_none() && at != end {
            broken = Some(Break::Changed(end.position));
        }
        Ok(Verdict { events: end.position, head: hex::encode(&end.seal), broken })
    }

    /// The sealed event that stands in this place, or the next one behind it: what there is to see where
    /// [`Audit::verify`] found a break.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn sealed_from(&self, ctx: &CallContext, position: i64) -> Result<Option<Link>> {
        ctx.require(Permission::ViewAudit)?;
        let tx = self.db.public().await.during("read a sealed audit event")?;
        let mut links = audit_chain::list_sealed(&tx, position - 1, 1).await?;
        Ok(links.pop())
    }

    async fn seal_some(&self) -> Result<usize> {
        let tx = self.db.public().await.during("seal audit events")?;
        // Before anything is read: what the one before us has sealed must show.
        audit_chain::lock(&tx).await?;
        let links = audit_chain::list_unsealed(&tx, EVENTS_AT_ONCE).await?;
        if links.is_empty() {
            return Ok(0);
        }
        let mut head = audit_chain::head(&tx).await?;
        let (mut ids, mut positions, mut seals) = (Vec::new(), Vec::new(), Vec::new());
        for link in &links {
            head = Head { position: head.position + 1, seal: seal_of(&head, link) };
            ids.push(link.id);
            positions.push(head.position);
            seals.push(head.seal.clone());
        }
        audit_chain::seal(&tx, ids, positions, seals).await?;
        audit_chain::set_head(&tx, &head).await?;
        tx.commit().await.during("seal audit events")?;
        Ok(links.len())
    }
}

/// The place and seal behind `before`, if the link is what was sealed there.
fn check(before: &Head, link: &Link) -> Result<Head, Break> {
    let position = before.position + 1;
    if link.position != Some(position) {
        return Err(Break::Missing(position));
    }
    let seal = seal_of(before, link);
    if link.seal.as_deref() == Some(seal.as_slice()) {
        Ok(Head { position, seal })
    } else {
        Err(Break::Changed(position))
    }
}

/// The seal of an event that follows `before`. Each part is led by its length, so that no two events
/// read alike.
fn seal_of(before: &Head, link: &Link) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    };
    add(&before.seal);
    add(&(before.position + 1).to_be_bytes());
    add(link.id.as_bytes());
    add(&link.at.unix_timestamp_nanos().to_be_bytes());
    add(link.actor.as_bytes());
    add(link.action.as_bytes());
    add(link.tenant.as_ref().map_or(&[][..], |tenant| tenant.as_bytes()));
    add(link.request_id.as_bytes());
    add(link.details.as_bytes());
    hash.finalize().to_vec()
}

/// Writes what the caller does into the audit trail, in the transaction that does it.
pub(super) async fn note(
    tx: &PublicTx,
    ctx: &CallContext,
    action: &'static str,
    tenant: impl Into<Option<TenantId>>,
    details: Value,
) -> Result<()> {
    note_as(tx, ctx, &ctx.principal.label(), action, tenant.into(), details).await
}

/// As [`note`], for what somebody does whom the context does not name: a user who is logging in.
pub(super) async fn note_as(
    tx: &PublicTx,
    ctx: &CallContext,
    actor: &str,
    action: &'static str,
    tenant: Option<TenantId>,
    details: Value,
) -> Result<()> {
    audit_events::insert(tx, &event(ctx, actor, action, tenant, details)).await
}

/// What [`note`] writes, for what is written in one statement with what it tells.
pub(super) fn event<'a>(
    ctx: &'a CallContext,
    actor: &'a str,
    action: &'static str,
    tenant: Option<TenantId>,
    details: Value,
) -> Event<'a> {
    Event { at: ctx.now, actor, action, tenant, request_id: &ctx.request_id, details }
}
