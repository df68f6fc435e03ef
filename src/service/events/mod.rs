//! The feed: the audit events that other systems follow, in the order in which they were sealed, by a cursor that misses
//! none.
//!
//! There is one log. The feed shows those of its events that [`AuditAction::event_type`] names, each as an
//! [`Event`] that is made of the stored event alone, so that it is the same whenever it is read. A reader stores the
//! cursor of the last page it has dealt with; nothing of it is stored here, and no cursor expires.
//!
//! - [`catalogue`]: the types, what each tells, and its JSON schema; [`data`]: what each tells, as Rust.
//! - [`envelope`]: an event on the wire.

mod catalogue;
mod data;
mod envelope;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use super::sealing::Sealing;
use super::tenants::active_part;
use crate::auth::CallContext;
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::TenantId;
use crate::domain::{AuditAction, EventType, FeedCursor, Permission};
use crate::pg::control::feed::{self, Selection};
use crate::pg::{Db, During};

pub use catalogue::TypeInfo;
pub use envelope::{Event, EventTenant};

/// Positions that one statement looks through.
const SPAN: i64 = 50_000;

/// How long one call looks for the first event that it may show, if the log is long and it finds none.
const SEARCH_TIME: Duration = Duration::from_secs(3);

/// How many of the readers that wait look into the database at the same time, so that they do not keep other requests of
/// the same pool from a connection.
const READERS_AT_ONCE: usize = 2;

/// The feed of events.
#[derive(Clone)]
pub struct Events {
    db: Db,
    sealing: Sealing,
    /// Held while a reader that waits looks into the database: one seal wakes all of them.
    looking: Arc<Semaphore>,
}

/// The events to read.
#[derive(Debug, Clone)]
pub struct Query {
    /// The position after which the events begin.
    pub after: FeedCursor,
    /// The largest number of events.
    pub limit: u16,
    /// Only of these types; all if none is given.
    pub types: Vec<EventType>,
    /// Only about this tenant, which may no longer exist.
    pub tenant: Option<TenantId>,
}

/// A part of the feed.
#[derive(Debug)]
pub struct Batch {
    /// The events, in the order of the log.
    pub events: Vec<Event>,
    /// The place behind everything that was looked at, from which the next read goes on.
    pub next: FeedCursor,
    /// Whether the log had more to look at.
    pub has_more: bool,
}

impl Events {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(db: Db, sealing: Sealing) -> Self {
        let looking = Arc::new(Semaphore::new(READERS_AT_ONCE));
        Self { db, sealing, looking }
    }

    /// Returns the events after a place, those that the caller may view: for the admin of some tenants those of these
    /// tenants.
    ///
    /// # Errors
    /// Those of the rights check; [`Noun::Tenant`] not found where the query names a tenant that the caller may not
    /// view, and where the caller's rights come from tenants that are not active; [`Conflict::CursorAhead`].
    pub async fn list(&self, ctx: &CallContext, query: &Query) -> Result<Batch> {
        let reach = ctx.reach(Permission::ViewAudit)?;
        let tx = self.db.public().await.during("read the event feed")?;
        let reach = active_part(&tx, reach).await?;
        if query.tenant.is_some_and(|tenant| !reach.covers(tenant)) {
            return Err(Error::NotFound(Noun::Tenant));
        }
        let actions = actions(&query.types);
        let selection = Selection { actions: &actions, tenant: query.tenant, only: reach.limits() };
        let end = Instant::now() + SEARCH_TIME;
        let mut after = query.after;
        loop {
            let limit = i64::from(query.limit);
            let part = feed::read(&tx, &selection, after.position, SPAN, limit).await?;
            if !after.is_in_log(part.head, part.seal_before.as_deref()) {
                return Err(Error::Conflict(Conflict::CursorAhead));
            }
            let is_full = part.events.len() >= usize::from(query.limit);
            let next = match part.events.last() {
                Some(last) if is_full => FeedCursor::behind(last.position, Some(&last.seal)),
                Some(_) | None => FeedCursor::behind(part.last, part.last_seal.as_deref()),
            };
            let has_more = next.position < part.head;
            if !part.events.is_empty() || !has_more || Instant::now() >= end {
                let events = part.events.iter().filter_map(Event::of).collect();
                return Ok(Batch { events, next, has_more });
            }
            after = next;
        }
    }

    /// As [`Events::list`], but waits for the next event if there is none, without a connection. Returns an empty part
    /// when the time is over or the server stops. A caller that has waited is looked up again by `renewed`: its rights may
    /// have ended meanwhile.
    ///
    /// # Errors
    /// As [`Events::list`], and those of `renewed`.
    pub async fn wait(
        &self,
        ctx: &CallContext,
        mut query: Query,
        wait: Duration,
        renewed: impl AsyncFn() -> Result<CallContext>,
    ) -> Result<Batch> {
        ctx.reach(Permission::ViewAudit)?;
        let deadline = Instant::now() + wait;
        let mut waiter = self.sealing.wait();
        // The task that seals looks more often while there are waiters, since another server may have written the event.
        self.db.event_signal().raise();
        let mut has_waited = false;
        loop {
            let looking = self.looking.acquire().await;
            // Before the read, so that what is sealed after it ends the wait.
            waiter.mark();
            let batch = if has_waited {
                self.list(&renewed().await?, &query).await?
            } else {
                self.list(ctx, &query).await?
            };
            drop(looking);
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            if !batch.has_more && !waiter.is_sealed_before(deadline).await {
                return Ok(batch);
            }
            query.after = batch.next;
            has_waited = true;
        }
    }

    /// Returns the place behind the last event of the log.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn end(&self, ctx: &CallContext) -> Result<FeedCursor> {
        ctx.require(Permission::ViewAudit)?;
        let tx = self.db.public().await.during("read the event feed")?;
        let nothing = Selection { actions: &[], tenant: None, only: None };
        let part = feed::read(&tx, &nothing, 0, i64::from(u32::MAX), 0).await?;
        Ok(FeedCursor::behind(part.last, part.last_seal.as_deref()))
    }

    /// Returns the types of events.
    ///
    /// # Errors
    /// Those of the rights check; [`Noun::Tenant`] not found where the caller's rights come from tenants that are not
    /// active.
    pub async fn types(&self, ctx: &CallContext) -> Result<Vec<TypeInfo>> {
        let reach = ctx.reach(Permission::ViewAudit)?;
        let tx = self.db.public().await.during("read the tenants of a caller")?;
        active_part(&tx, reach).await?;
        Ok(catalogue::types())
    }

    /// Returns an event by its id.
    ///
    /// # Errors
    /// Those of the rights check; [`Noun::AuditEvent`] not found, also where it is not sealed yet, is not of the feed, or
    /// is about a tenant that the caller may not view.
    pub async fn read(&self, ctx: &CallContext, id: Uuid) -> Result<Event> {
        let reach = ctx.reach(Permission::ViewAudit)?;
        let tx = self.db.public().await.during("read an event")?;
        let reach = active_part(&tx, reach).await?;
        let found = feed::find(&tx, id).await?.filter(|event| match event.entry.tenant {
            Some(tenant) => reach.covers(tenant),
            None => reach.limits().is_none(),
        });
        let event = found.as_ref().and_then(Event::of);
        event.ok_or(Error::NotFound(Noun::AuditEvent))
    }

    /// Ends all waits of this process, now and from now on.
    pub fn stop(&self) {
        self.sealing.stop();
    }
}

/// Returns the words of the actions whose events are of these types; of all types if none is given.
fn actions(types: &[EventType]) -> Vec<&'static str> {
    let is_wanted = |action: &AuditAction| match action.event_type() {
        Some(kind) => types.is_empty() || types.contains(&kind),
        None => false,
    };
    AuditAction::ALL
        .iter()
        .filter(|action| is_wanted(action))
        .map(|action| action.as_str())
        .collect()
}

#[cfg(test)]
mod tests;
