//! Decides which of the requests that wait for a connection gets the next one, so that one tenant cannot keep all others
//! from the database.
//!
//! 1. Of the tenants that wait, the one that holds the fewest connections goes first; of those that hold as many, the one
//!    whose request has waited longest. The requests of one tenant keep their order.
//! 2. While at least two tenants are active, the last connections are reserved: half of the [reserve](Fairness::reserve)
//!    for tenants that hold none, and all of it for tenants that hold none or give theirs back soon. A tenant is *slow*
//!    if it holds a connection for longer than [`Fairness::slow_after`] now, or does so on average. A share of the
//!    connections is rounded down, and is at least one: with a few connections the last one is for tenants that hold none.
//! 3. Meanwhile a tenant that has given none back lately takes no more than it leaves free: whether it is slow is not
//!    known yet, and several such tenants at once would take all before it is.
//!
//! The first rule alone does not help against a tenant whose connections are stuck behind a lock: fairness in the queue
//! does not return a connection that is held. A fixed limit for each tenant wastes connections when one tenant is alone,
//! and does not help against several. The reserve is idle only while a second tenant may need it.
//!
//! Work of no tenant counts as one more tenant, so it is neither starved nor preferred.
//!
//! Must not know: tasks, clocks, connections. It counts, and is told the time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use crate::domain::names::TenantId;
use crate::pg::rules::Fairness;

/// How long after its last request a tenant counts as active.
const ACTIVE_FOR: Duration = Duration::from_secs(10);

/// The weight of all earlier checkouts in a tenant's average; the latest one has the weight 1.
const EARLIER_WEIGHT: u32 = 7;

/// The number of known tenants from which on those that are no longer active are forgotten.
const SWEEP_AT_LEAST: usize = 64;

/// A request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) tenant: Option<TenantId>,
    /// The position among all requests by their time of arrival.
    pub(super) number: u64,
}

/// The connections of one pool, as a number, and the requests that wait for one. `W` is what is kept for each of them.
#[cfg_attr(test, derive(Clone))]
pub(super) struct Queue<W> {
    total: usize,
    held: usize,
    /// When connections that could not be opened may be tried again; until then they are not given out.
    withheld: Vec<Instant>,
    /// The number of free connections that only a tenant without one may take.
    for_none: usize,
    /// The number of free connections that a slow tenant may not take.
    for_quick: usize,
    slow_after: Duration,
    tenants: HashMap<Option<TenantId>, Share<W>, RandomState>,
    /// The tenants that wait: how many connections each holds, and the ticket of its first request.
    order: BTreeSet<(usize, u64, Option<TenantId>)>,
    next_number: u64,
    /// The number of tenants that hold or wait.
    active: usize,
    sightings: Sightings,
    sweep_at: usize,
    is_closed: bool,
}

/// What is known of one tenant.
#[cfg_attr(test, derive(Clone))]
struct Share<W> {
    /// When each of its connections was checked out, the earliest first.
    held_since: Vec<Instant>,
    /// How long it holds a connection on average, and when that was last computed.
    average: Option<(Duration, Instant)>,
    waiting: VecDeque<(u64, W)>,
}

impl<W> Default for Share<W> {
    fn default() -> Self {
        Self { held_since: Vec::new(), average: None, waiting: VecDeque::new() }
    }
}

impl<W> Share<W> {
    fn is_active(&self) -> bool {
        !self.held_since.is_empty() || !self.waiting.is_empty()
    }

    /// Returns its position among the tenants that wait.
    fn position(&self) -> Option<(usize, u64)> {
        let (number, _) = self.waiting.front()?;
        Some((self.held_since.len(), *number))
    }

    fn average(&self, now: Instant) -> Option<Duration> {
        let (average, at) = self.average?;
        (now.duration_since(at) <= ACTIVE_FOR).then_some(average)
    }

    fn is_slow(&self, slow_after: Duration, now: Instant) -> bool {
        let longest_now = self.held_since.first().map(|since| now.duration_since(*since));
        longest_now.max(self.average(now)).is_some_and(|longest| longest > slow_after)
    }

    fn give_back(&mut self, since: Instant, now: Instant) {
        if let Some(at) = self.held_since.iter().position(|held| *held == since) {
            self.held_since.remove(at);
        }
        let took = now.duration_since(since);
        let average = self
            .average(now)
            .map_or(took, |earlier| (earlier * EARLIER_WEIGHT + took) / (EARLIER_WEIGHT + 1));
        self.average = Some((average, now));
    }
}

/// When tenants were last seen, as far as it must be known to tell whether there are two.
#[derive(Default)]
#[cfg_attr(test, derive(Clone))]
struct Sightings {
    /// The tenant that was seen last, and when.
    last: Option<(Option<TenantId>, Instant)>,
    /// When a tenant other than the last one was last seen.
    other: Option<Instant>,
}

impl Sightings {
    fn note(&mut self, tenant: Option<TenantId>, now: Instant) {
        if let Some((last, at)) = self.last
            && last != tenant
        {
            self.other = Some(at);
        }
        self.last = Some((tenant, now));
    }

    /// Whether a tenant other than this one was seen lately.
    fn has_other_than(&self, tenant: Option<TenantId>, now: Instant) -> bool {
        let at = match self.last {
            Some((last, at)) if last != tenant => Some(at),
            _ => self.other,
        };
        at.is_some_and(|at| now.duration_since(at) <= ACTIVE_FOR)
    }
}

impl<W> Queue<W> {
    pub(super) fn new(total: usize, fairness: Fairness) -> Self {
        // Of one connection none is left to reserve.
        let least = usize::from(fairness.reserve > 0 && total > 1);
        Self {
            total,
            held: 0,
            withheld: Vec::new(),
            for_none: (total * fairness.reserve / 200).max(least),
            for_quick: (total * fairness.reserve / 100).max(least),
            slow_after: fairness.slow_after,
            tenants: HashMap::default(),
            order: BTreeSet::new(),
            next_number: 0,
            active: 0,
            sightings: Sightings::default(),
            sweep_at: SWEEP_AT_LEAST,
            is_closed: false,
        }
    }

    /// Takes a connection for a tenant, if there is one that it may have and no request waits.
    pub(super) fn try_take(&mut self, tenant: Option<TenantId>, now: Instant) -> bool {
        self.sightings.note(tenant, now);
        let is_free = self.order.is_empty() && self.may_take(tenant, now);
        if is_free {
            self.change(tenant, now, |share| share.held_since.push(now));
        }
        is_free
    }

    /// Adds a request to those that wait; with the number of an earlier ticket it keeps its position.
    pub(super) fn enqueue(
        &mut self,
        tenant: Option<TenantId>,
        number: Option<u64>,
        waiter: W,
        now: Instant,
    ) -> Ticket {
        let number = number.unwrap_or_else(|| {
            self.next_number += 1;
            self.next_number
        });
        self.change(tenant, now, |share| {
            let at = share.waiting.partition_point(|(other, _)| *other < number);
            share.waiting.insert(at, (number, waiter));
        });
        Ticket { tenant, number }
    }

    /// Takes a connection for the request that is next, and returns its tenant and its waiter. None if no connection is
    /// free, or none that one of the waiting tenants may have.
    pub(super) fn take_next(&mut self, now: Instant) -> Option<(Option<TenantId>, W)> {
        if self.free(now) == 0 {
            return None;
        }
        // Those behind the first one are looked at only if it may not take one, and then it holds one: there are no more
        // of these than connections.
        let tenant = self.order.iter().map(|(.., tenant)| *tenant);
        let tenant = tenant.into_iter().find(|tenant| self.may_take(*tenant, now))?;
        let waiter = self.change(tenant, now, |share| {
            let (_, waiter) = share.waiting.pop_front()?;
            share.held_since.push(now);
            Some(waiter)
        })?;
        Some((tenant, waiter))
    }

    /// Removes a request; false if it does not wait any more.
    pub(super) fn cancel(&mut self, ticket: Ticket, now: Instant) -> bool {
        if !self.tenants.contains_key(&ticket.tenant) {
            return false;
        }
        let removed = self.change(ticket.tenant, now, |share| {
            let at = share.waiting.binary_search_by_key(&ticket.number, |(number, _)| *number);
            at.ok().and_then(|at| share.waiting.remove(at))
        });
        removed.is_some()
    }

    /// Returns a connection that the tenant has held since `since`.
    pub(super) fn give_back(&mut self, tenant: Option<TenantId>, since: Instant, now: Instant) {
        self.sightings.note(tenant, now);
        self.change(tenant, now, |share| share.give_back(since, now));
    }

    /// Gives one connection less out until this time.
    pub(super) fn withhold(&mut self, until: Instant, now: Instant) {
        self.withheld.retain(|until| *until > now);
        self.withheld.push(until);
    }

    /// Returns how many connections the tenant holds.
    pub(super) fn held_by(&self, tenant: Option<TenantId>) -> usize {
        self.tenants.get(&tenant).map_or(0, |share| share.held_since.len())
    }

    /// Returns the number of requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.order
            .iter()
            .filter_map(|(.., tenant)| self.tenants.get(tenant))
            .map(|share| share.waiting.len())
            .sum()
    }

    /// Refuses all further requests, and returns the waiters of those that wait.
    pub(super) fn close(&mut self, now: Instant) -> Vec<W> {
        self.is_closed = true;
        let waiting: Vec<_> = self.order.iter().map(|(.., tenant)| *tenant).collect();
        let mut waiters = Vec::new();
        for tenant in waiting {
            let of_tenant = self.change(tenant, now, |share| std::mem::take(&mut share.waiting));
            waiters.extend(of_tenant.into_iter().map(|(_, waiter)| waiter));
        }
        waiters
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn free(&self, now: Instant) -> usize {
        let withheld = self.withheld.iter().filter(|until| **until > now).count();
        self.total.saturating_sub(self.held + withheld)
    }

    /// Whether a connection is free that this tenant may have.
    fn may_take(&self, tenant: Option<TenantId>, now: Instant) -> bool {
        let free = self.free(now);
        let share = self.tenants.get(&tenant);
        let Some(share) = share.filter(|share| !share.held_since.is_empty()) else {
            return free > 0;
        };
        if self.active < 2 && !self.sightings.has_other_than(tenant, now) {
            return free > 0;
        }
        if self.for_quick > 0 && share.average(now).is_none() && share.held_since.len() >= free {
            return false;
        }
        let reserved =
            if share.is_slow(self.slow_after, now) { self.for_quick } else { self.for_none };
        free > reserved
    }

    /// Changes the share of a tenant, and all that is derived from the shares. Nothing else changes one.
    fn change<R>(
        &mut self,
        tenant: Option<TenantId>,
        now: Instant,
        change: impl FnOnce(&mut Share<W>) -> R,
    ) -> R {
        let share = self.tenants.entry(tenant).or_default();
        let (position, held, was_active) =
            (share.position(), share.held_since.len(), share.is_active());
        let outcome = change(share);
        if share.position() != position {
            if let Some((held, number)) = position {
                self.order.remove(&(held, number, tenant));
            }
            self.order.extend(share.position().map(|(held, number)| (held, number, tenant)));
        }
        self.held = self.held - held + share.held_since.len();
        self.active = self.active - usize::from(was_active) + usize::from(share.is_active());
        if !share.is_active() {
            // Only that a tenant is slow is worth remembering.
            if !share.is_slow(self.slow_after, now) {
                self.tenants.remove(&tenant);
            } else if self.tenants.len() >= self.sweep_at {
                self.tenants.retain(|_, share| share.is_active() || share.average(now).is_some());
                self.sweep_at = SWEEP_AT_LEAST.max(2 * self.tenants.len());
            }
        }
        outcome
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
