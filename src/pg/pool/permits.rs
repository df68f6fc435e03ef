//! Permits to use a connection of one pool. Which request gets the next one is decided in [`queue`](super::queue).
//!
//! Promises: a permit that was given out comes back, whether its owner finished, panicked or was cancelled, also at the
//! moment at which it was handed over; and a request that waits is never passed over for good. Both rest on one thing: a
//! permit is handed over as a value that returns itself when it is dropped, wherever that happens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::queue::{Queue, Ticket};
use crate::domain::names::TenantId;
use crate::pg::error::Failure;
use crate::pg::rules::Fairness;

/// The interval at which a request that waits has the queue look again: a reserve ends, and a connection that could not
/// be opened may be tried again, as time passes, without an event.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Why a request got no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pg) enum Denied {
    /// The time is over, and the tenant itself holds connections.
    Busy,
    /// The time is over, and others hold the connections.
    Late,
    /// The pool is closed.
    Closed,
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Busy => Self::TenantBusy,
            Denied::Late => Self::NoConnection,
            Denied::Closed => Self::Pool(PoolError::Closed),
        }
    }
}

/// A request for a permit. It can be made more than once, and keeps its position among those that wait.
pub(in crate::pg) struct Request {
    tenant: Option<TenantId>,
    pub(in crate::pg) asked_at: Instant,
    deadline: Instant,
    number: Option<u64>,
    /// Whether the tenant held a connection when it asked.
    pub(in crate::pg) holds_some: bool,
}

impl Request {
    /// Makes a request of a tenant, or of no certain tenant, that waits this long at most.
    pub(in crate::pg) fn new(tenant: Option<TenantId>, wait: Duration) -> Self {
        let now = Instant::now();
        // A wait that no clock can hold is as good as a very long one.
        let deadline = now.checked_add(wait).unwrap_or(now + Duration::from_hours(24));
        Self { tenant, asked_at: now, deadline, number: None, holds_some: false }
    }
}

/// The permits of one pool.
pub(in crate::pg) struct Permits(Mutex<Queue<oneshot::Sender<Permit>>>);

/// The right to use one connection. Dropped, it is given to the next request.
pub(in crate::pg) struct Permit {
    permits: Arc<Permits>,
    tenant: Option<TenantId>,
    since: Instant,
    withhold: Option<Duration>,
}

impl Permits {
    pub(in crate::pg) fn new(total: usize, fairness: Fairness) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Queue::new(total, fairness))))
    }

    /// Waits for a permit. A dropped future leaves the queue.
    pub(in crate::pg) async fn acquire(
        self: &Arc<Self>,
        request: &mut Request,
    ) -> Result<Permit, Denied> {
        let mut waiter = match self.take_or_enqueue(request)? {
            Ok(permit) => return Ok(permit),
            Err(waiter) => waiter,
        };
        loop {
            // Also before the first wait: the reserve does not count for every tenant.
            self.hand_out();
            let now = Instant::now();
            if now >= request.deadline {
                return waiter.give_up();
            }
            let until = request.deadline.min(now + LOOK_AGAIN);
            match timeout_at(until, &mut waiter.receiver).await {
                Ok(Ok(permit)) => return Ok(permit),
                Ok(Err(_dropped)) => return Err(Denied::Closed),
                Err(_elapsed) => {}
            }
        }
    }

    fn take_or_enqueue(
        self: &Arc<Self>,
        request: &mut Request,
    ) -> Result<Result<Permit, Waiter<'_>>, Denied> {
        let (now, tenant) = (Instant::now(), request.tenant);
        let mut queue = self.queue();
        if queue.is_closed() {
            return Err(Denied::Closed);
        }
        if request.number.is_none() {
            request.holds_some = queue.held_by(tenant) > 0;
        }
        if queue.try_take(tenant, now) {
            drop(queue);
            return Ok(Ok(self.permit(tenant, now)));
        }
        let (sender, receiver) = oneshot::channel();
        let ticket = queue.enqueue(tenant, request.number, sender, now);
        request.number = Some(ticket.number);
        Ok(Err(Waiter { permits: self, ticket, receiver }))
    }

    /// Gives every free permit to the request that is next.
    fn hand_out(self: &Arc<Self>) {
        let now = Instant::now();
        let next = self.queue().take_next(now);
        self.hand_out_from(next, now);
    }

    fn hand_out_from(
        self: &Arc<Self>,
        mut next: Option<(Option<TenantId>, oneshot::Sender<Permit>)>,
        now: Instant,
    ) {
        while let Some((tenant, sender)) = next {
            // Not under the lock: if the request was cancelled just now, the permit is dropped here, and gives itself back.
            drop(sender.send(self.permit(tenant, now)));
            next = self.queue().take_next(now);
        }
    }

    fn permit(self: &Arc<Self>, tenant: Option<TenantId>, since: Instant) -> Permit {
        Permit { permits: Arc::clone(self), tenant, since, withhold: None }
    }

    /// Refuses all further requests and those that wait.
    pub(in crate::pg) fn close(&self) {
        let waiters = self.queue().close(Instant::now());
        drop(waiters);
    }

    pub(in crate::pg) fn is_closed(&self) -> bool {
        self.queue().is_closed()
    }

    /// Returns the number of requests that wait.
    pub(in crate::pg) fn waiting(&self) -> usize {
        self.queue().waiting()
    }

    fn queue(&self) -> MutexGuard<'_, Queue<oneshot::Sender<Permit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Gives it to no request for a while once it is dropped: its connection cannot be opened now.
    pub(in crate::pg) const fn withhold(&mut self, pause: Duration) {
        self.withhold = Some(pause);
    }
}

impl AsMut<Self> for Permit {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = Instant::now();
        let next = {
            let mut queue = self.permits.queue();
            queue.give_back(self.tenant, self.since, now);
            if let Some(pause) = self.withhold {
                queue.withhold(now + pause, now);
            }
            queue.take_next(now)
        };
        self.permits.hand_out_from(next, now);
    }
}

/// A request in the queue. Dropped, it leaves the queue; a permit that was on its way is dropped with the receiver.
struct Waiter<'a> {
    permits: &'a Arc<Permits>,
    ticket: Ticket,
    receiver: oneshot::Receiver<Permit>,
}

impl Waiter<'_> {
    /// Stops waiting; returns a permit that came at the last moment.
    fn give_up(mut self) -> Result<Permit, Denied> {
        let holds_some = {
            let mut queue = self.permits.queue();
            queue.cancel(self.ticket, Instant::now());
            queue.held_by(self.ticket.tenant) > 0
        };
        self.receiver.try_recv().map_err(|_none| match self.ticket.tenant {
            Some(_) if holds_some => Denied::Busy,
            Some(_) | None => Denied::Late,
        })
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.permits.queue().cancel(self.ticket, Instant::now());
    }
}

#[cfg(test)]
mod tests;
