//! Writes and reads the audit trail, and detects changed and removed events.
//!
//! Every event is sealed with a hash of itself and of the previous seal. A changed event does not match its seal, a
//! removed one leaves a gap in the positions, and one missing from the end leaves the chain shorter than its head,
//! which is stored separately. Events are sealed a moment after they are written: if each writer hashed the seal
//! of the previous event, all set-ups would queue from their event to their commit. Instead the sealing transaction
//! takes a lock that writers never take, and gives positions to all events that are committed by then. An event that
//! commits later gets a later position, whatever its time.
//!
//! Positions are in commit order wherever the order of two commits matters: a change that waited for another one gets
//! its event's number after it, from the database and under the same locks, and is committed after it. So a reader that
//! applies the events by position ends with the present state.
//!
//! A server seals what it writes about 100 ms after the commit, and every `events.seal_interval` what others left.
//!
//! Limits: an event can be changed undetected until it is sealed. And an attacker who may write the tables can build a
//! new chain: store the head that `verify` returns in another place, and compare.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::refusals::Refusals;
use super::sealing::Sealing;
use super::tenants::active_part;
use crate::auth::CallContext;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{Email, ExternalId, Slug, TenantId};
use crate::domain::page::{Cursor, Page, Window};
use crate::domain::{AuditAction, Permission};
use crate::pg::control::audit_chain::{self, Head};
use crate::pg::control::audit_events::{self, Event};
use crate::pg::control::users;
use crate::pg::{Db, During, PublicTx};
use crate::telemetry::Metrics;

pub use crate::pg::control::audit_chain::{Entry, Filter, Link};

/// How many events one statement seals or reads.
const EVENTS_AT_ONCE: i64 = 1000;

/// The audit trail.
#[derive(Clone)]
pub struct Audit {
    db: Db,
    refusals: Refusals,
    sealing: Sealing,
}

/// The outcome of a search for events to seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealOutcome {
    /// All events that were committed are sealed.
    Done,
    /// Another process is sealing, and may have begun before the last of them was committed.
    Busy,
}

/// The result of verifying the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Number of events in the chain.
    pub events: i64,
    /// The last seal, in hex; store it elsewhere to detect a chain that was built anew.
    pub head: String,
    /// The first break of the chain; none in an intact one.
    pub broken: Option<Break>,
}

/// A break of the chain, with its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The event at this position is missing.
    Missing(i64),
    /// The event at this position does not match its seal.
    Changed(i64),
}

impl Audit {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(db: Db, refusals: Refusals, sealing: Sealing) -> Self {
        Self { db, refusals, sealing }
    }

    /// Returns a page of the events that the caller may view, newest first. For the admin of some tenants these are
    /// the events of those tenants. What this process has refused is written first, so that it is in the list. The
    /// filter may name a user by their e-mail address.
    ///
    /// # Errors
    /// Those of the rights check; [`Noun::Tenant`] not found where the filter names a tenant that the caller may
    /// not view, and where the caller's rights come from tenants that are not active.
    pub async fn list(
        &self,
        ctx: &CallContext,
        filter: &Filter,
        window: &Window,
    ) -> Result<Page<Entry>> {
        let reach = ctx.reach(Permission::ViewAudit)?;
        if let Err(error) = self.refusals.write(ctx).await {
            // They are counted on. A reader of the trail must not wait for what comes later anyway.
            tracing::warn!(error = %error.chain(), "failed to write what was refused");
        }
        let tx = self.db.public().await.during("list audit events")?;
        let reach = active_part(&tx, reach).await?;
        if filter.tenant.is_some_and(|tenant| !reach.covers(tenant)) {
            return Err(Error::NotFound(Noun::Tenant));
        }
        let filter = &with_user(&tx, filter).await?;
        let rows = audit_chain::list(&tx, reach.limits(), filter, window).await?;
        Ok(Page::cut(rows, window, |entry| Cursor { at: entry.at, id: entry.id }))
    }

    /// Returns the actions that events can have.
    ///
    /// # Errors
    /// Those of the rights check; [`Noun::Tenant`] not found where the caller's rights come from tenants that are not
    /// active.
    pub async fn actions(&self, ctx: &CallContext) -> Result<Vec<&'static str>> {
        let reach = ctx.reach(Permission::ViewAudit)?;
        let tx = self.db.public().await.during("read the tenants of a caller")?;
        active_part(&tx, reach).await?;
        Ok(AuditAction::ALL.iter().map(|action| action.as_str()).collect())
    }

    /// Seals all unsealed events and returns their number. Waits while another process seals.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn seal(&self, ctx: &CallContext) -> Result<usize> {
        ctx.require(Permission::ViewAudit)?;
        let mut sealed = 0;
        loop {
            let tx = self.db.public().await.during("seal audit events")?;
            audit_chain::lock(&tx).await?;
            let some = self.seal_some(tx).await?;
            if some == 0 {
                return Ok(sealed);
            }
            sealed += some;
        }
    }

    /// Looks once for unsealed events, with one statement, and seals them unless another process is doing that.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn tend(&self, ctx: &CallContext) -> Result<SealOutcome> {
        ctx.require(Permission::ViewAudit)?;
        let tx = self.db.public().await.during("look for unsealed audit events")?;
        let backlog = audit_chain::backlog(tx).await?;
        self.sealing.saw(backlog.head, backlog.oldest_seconds);
        if backlog.oldest_seconds.is_none() {
            return Ok(SealOutcome::Done);
        }
        loop {
            let tx = self.db.public().await.during("seal audit events")?;
            if !audit_chain::try_lock(&tx).await? {
                return Ok(SealOutcome::Busy);
            }
            if self.seal_some(tx).await? == 0 {
                return Ok(SealOutcome::Done);
            }
        }
    }

    /// Waits until this process has written an event since the last wait, or a reader of the feed came.
    pub async fn asked(&self) {
        self.db.event_signal().raised().await;
    }

    /// Sets the metrics.
    pub fn measure(&self, metrics: &Metrics) {
        metrics.set_events_unsealed_age(self.sealing.unsealed_age());
    }

    /// Whether readers of this process wait for the next event.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.sealing.is_awaited()
    }

    /// Verifies the whole chain, after sealing the unsealed events.
    ///
    /// # Errors
    /// Those of the rights check and of the database; a broken chain is a result, not an error.
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

    /// Returns the sealed event at this position, or the next one after it, to show where [`Audit::verify`] found a
    /// break.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn sealed_from(&self, ctx: &CallContext, position: i64) -> Result<Option<Link>> {
        ctx.require(Permission::ViewAudit)?;
        let tx = self.db.public().await.during("read a sealed audit event")?;
        let mut links = audit_chain::list_sealed(&tx, position - 1, 1).await?;
        Ok(links.pop())
    }

    /// Seals some events in a transaction that has the lock. It was locked before the first read, so that the seals of
    /// the previous run are visible.
    async fn seal_some(&self, tx: PublicTx) -> Result<usize> {
        let links = audit_chain::list_unsealed(&tx, EVENTS_AT_ONCE).await?;
        let mut head = audit_chain::head(&tx).await?;
        if links.is_empty() {
            self.sealing.saw(head.position, None);
            return Ok(0);
        }
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
        self.sealing.moved_to(head.position);
        Ok(links.len())
    }
}

/// Returns the filter with the actor as events name it, where it has the e-mail address of a user.
async fn with_user(tx: &PublicTx, filter: &Filter) -> Result<Filter> {
    let mut filter = filter.clone();
    let address = filter.actor.as_deref().filter(|actor| actor.contains('@'));
    if let Some(email) = address.and_then(|address| Email::parse(address).ok())
        && let Some(user) = users::find_id_by_email(tx, &email).await?
    {
        filter.actor = Some(format!("user:{user}"));
    }
    Ok(filter)
}

/// Returns the head after `link`, if `link` is the event that was sealed after `before`.
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

/// Returns the seal of an event that follows `before`. Each part is prefixed with its length, so that no two events
/// give the same bytes.
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

/// Writes an audit event of the caller, in the transaction that makes the change.
pub(super) async fn note(
    tx: &PublicTx,
    ctx: &CallContext,
    action: AuditAction,
    tenant: impl Into<Option<TenantId>>,
    details: Value,
) -> Result<()> {
    note_as(tx, ctx, &ctx.principal.label(), action, tenant.into(), details).await
}

/// As [`note`], for an actor whom the context does not name: a user who is logging in.
pub(super) async fn note_as(
    tx: &PublicTx,
    ctx: &CallContext,
    actor: &str,
    action: AuditAction,
    tenant: Option<TenantId>,
    details: Value,
) -> Result<()> {
    audit_events::insert(tx, &event(ctx, actor, action, tenant, details)).await
}

/// Returns the event that [`note`] would write, for a statement that writes it together with the change.
pub(super) fn event<'a>(
    ctx: &'a CallContext,
    actor: &'a str,
    action: AuditAction,
    tenant: Option<TenantId>,
    details: Value,
) -> Event<'a> {
    Event { at: ctx.now, actor, action, tenant, request_id: &ctx.request_id, details }
}

/// Adds to the details of a `tenant.*` event what tells the tenant apart, and the revision that its record has after the
/// change, by which a reader orders the changes of one tenant.
pub(super) fn of_tenant(
    slug: &Slug,
    external_id: Option<&ExternalId>,
    revision: i64,
    mut details: Value,
) -> Value {
    details["slug"] = json!(slug);
    details["external_id"] = json!(external_id);
    details["revision"] = json!(revision);
    details
}
