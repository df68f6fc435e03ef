//! Counts refused callers, and writes the counts into the audit trail: failed log-ins, credentials that are not valid,
//! and calls that the caller may not make, each with the client's address.
//!
//! An attacker decides how many calls are refused, so the cost of one must not be theirs to multiply. A refusal
//! changes a counter in memory, and costs no transaction and no wait. [`Refusals::write`] writes what was counted, in
//! one statement: at most one event a minute for each kind of refusal, client and caller. Of each kind at most
//! [`KEYS_MAX`] are counted apart in one minute; the others are added up in one event. So the trail grows by a fixed
//! number of rows a minute, however many calls are refused from however many addresses.
//!
//! What was submitted is in no event: instead of an identifier it can be a password, typed into the wrong field, of
//! which no fast digest must be stored. If it is the address of a user, the event has the user's id.
//!
//! A credential that has expired, and a call without one, are no events: clients find out so that they must refresh.
//! Counts that are not written yet are lost when the process is killed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::auth::CallContext;
use crate::domain::AuditAction;
use crate::domain::address::counted_as;
use crate::domain::error::Result;
use crate::domain::names::{TenantId, UserId};
use crate::pg::control::audit_events::{self, Event};
use crate::pg::{Db, During};

/// The shortest time between two events of one kind, client and caller.
const PAUSE: Duration = Duration::minutes(1);

/// How many clients and callers are counted apart, for each kind of refusal.
const KEYS_MAX: usize = 128;

/// How many users one event names.
const USERS_MAX: usize = 10;

/// The actor of a caller without a valid credential.
const ANONYMOUS: &str = "anonymous";

/// A kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A log-in failed.
    Session,
    /// A credential was not valid, or the present password of a change was not.
    Credential,
    /// The caller lacks the right to make the call.
    Access,
}

impl Kind {
    /// Returns the action of its events.
    #[must_use]
    pub const fn action(self) -> AuditAction {
        match self {
            Self::Session => AuditAction::SessionRefused,
            Self::Credential => AuditAction::CredentialRefused,
            Self::Access => AuditAction::AccessDenied,
        }
    }
}

/// A refused call.
#[derive(Debug)]
pub struct Refusal<'a> {
    /// What was refused.
    pub kind: Kind,
    /// Address of the client, if it is known.
    pub address: Option<IpAddr>,
    /// The caller, as [`Principal::label`](crate::auth::Principal::label) names it; `None` if there is no valid
    /// credential.
    pub actor: Option<&'a str>,
    /// The tenant that the caller is bound to.
    pub tenant: Option<TenantId>,
    /// Why, in one word of ours.
    pub reason: &'static str,
    /// The user whom the caller claimed to be.
    pub user: Option<UserId>,
    /// Id of the request.
    pub request_id: &'a str,
    /// Time of the call.
    pub at: OffsetDateTime,
}

/// Whom a count is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Caller {
        kind: Kind,
        address: Option<IpAddr>,
        actor: String,
    },
    /// All that are not counted apart.
    Others(Kind),
}

/// A count that is not written yet.
#[derive(Debug, Clone)]
struct Count {
    calls: u64,
    reasons: BTreeMap<&'static str, u64>,
    users: BTreeSet<UserId>,
    tenant: Option<TenantId>,
    request_id: String,
    first_at: OffsetDateTime,
    last_at: OffsetDateTime,
}

/// What is known of a key.
#[derive(Debug, Default)]
struct Slot {
    /// When its last event was written.
    written_at: Option<OffsetDateTime>,
    /// What was counted since.
    count: Option<Count>,
}

/// The counters of one process, shared by its workers.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Mutex<HashMap<Key, Slot>>>);

/// Counts refused callers and writes the counts.
#[derive(Clone)]
pub struct Refusals {
    db: Db,
    counters: Counters,
}

impl Refusals {
    /// Creates the service on `db`; the counters are those of the whole process.
    #[must_use]
    pub fn new(db: Db, counters: Counters) -> Self {
        Self { db, counters }
    }

    /// Counts a refused call.
    pub fn count(&self, refusal: &Refusal<'_>) {
        self.counters.add(refusal);
    }

    /// Writes an event for each count that is due, and returns their number. If it fails or is cancelled, the counts
    /// stay.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn write(&self, ctx: &CallContext) -> Result<usize> {
        ctx.require_authenticated()?;
        let Some(mut batch) = Batch::take(&self.counters, ctx.now) else { return Ok(0) };
        let events: Vec<_> = batch.due.iter().map(|(key, count)| event(key, count)).collect();
        let tx = self.db.public().await.during("write refusals")?;
        audit_events::insert_all(&tx, &events).await?;
        tx.commit().await.during("write refusals")?;
        let written = events.len();
        drop(events);
        batch.due.clear();
        Ok(written)
    }
}

/// Counts that are being written. What is left of them when it is dropped goes back to the counters.
struct Batch<'a> {
    counters: &'a Counters,
    due: Vec<(Key, Count)>,
}

impl<'a> Batch<'a> {
    /// Takes the counts that are due; `None` if none is.
    fn take(counters: &'a Counters, now: OffsetDateTime) -> Option<Self> {
        let due = counters.take_due(now);
        (!due.is_empty()).then_some(Self { counters, due })
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for (key, count) in self.due.drain(..) {
            self.counters.give_back(key, count);
        }
    }
}

impl Counters {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        // Every statement that can panic leaves whole counts.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, refusal: &Refusal<'_>) {
        let kind = refusal.kind;
        let address = refusal.address.map(counted_as);
        let actor = refusal.actor.unwrap_or(ANONYMOUS).to_owned();
        let mut slots = self.lock();
        let mut key = Key::Caller { kind, address, actor };
        if !slots.contains_key(&key)
            && slots.keys().filter(|key| key.kind() == kind).count() >= KEYS_MAX
        {
            key = Key::Others(kind);
        }
        let slot = slots.entry(key).or_default();
        let count = slot.count.get_or_insert_with(|| Count::none(refusal.at));
        count.add(refusal);
    }

    /// Takes what was counted under each key that has had no event for a minute, and forgets the keys under which
    /// nothing was.
    fn take_due(&self, now: OffsetDateTime) -> Vec<(Key, Count)> {
        let mut due = Vec::new();
        self.lock().retain(|key, slot| {
            if slot.written_at.is_some_and(|at| now < at + PAUSE) {
                return true;
            }
            let Some(count) = slot.count.take() else { return false };
            due.push((key.clone(), count));
            slot.written_at = Some(now);
            true
        });
        due
    }

    /// Adds a count that was taken and not written to what was counted since.
    fn give_back(&self, key: Key, count: Count) {
        let mut slots = self.lock();
        let slot = slots.entry(key).or_default();
        slot.written_at = None;
        slot.count = Some(match slot.count.take() {
            Some(since) => count.with(since),
            None => count,
        });
    }
}

impl Key {
    const fn kind(&self) -> Kind {
        match self {
            Self::Caller { kind, .. } | Self::Others(kind) => *kind,
        }
    }

    /// Returns the caller.
    fn actor(&self) -> &str {
        match self {
            Self::Caller { actor, .. } => actor,
            Self::Others(_) => ANONYMOUS,
        }
    }

    /// Returns the client's address, or the network of an IPv6 client.
    fn address(&self) -> Option<String> {
        match self {
            Self::Caller { address: Some(IpAddr::V4(address)), .. } => Some(address.to_string()),
            Self::Caller { address: Some(IpAddr::V6(network)), .. } => {
                Some(format!("{network}/64"))
            }
            Self::Caller { address: None, .. } => None,
            Self::Others(_) => Some("others".to_owned()),
        }
    }
}

impl Count {
    const fn none(at: OffsetDateTime) -> Self {
        Self {
            calls: 0,
            reasons: BTreeMap::new(),
            users: BTreeSet::new(),
            tenant: None,
            request_id: String::new(),
            first_at: at,
            last_at: at,
        }
    }

    fn add(&mut self, refusal: &Refusal<'_>) {
        self.calls += 1;
        *self.reasons.entry(refusal.reason).or_default() += 1;
        if let Some(user) = refusal.user.filter(|_| self.users.len() < USERS_MAX) {
            self.users.insert(user);
        }
        self.tenant = refusal.tenant;
        refusal.request_id.clone_into(&mut self.request_id);
        self.last_at = self.last_at.max(refusal.at);
    }

    /// Returns the sum of this count and a later one.
    fn with(mut self, later: Self) -> Self {
        for (reason, calls) in later.reasons {
            *self.reasons.entry(reason).or_default() += calls;
        }
        self.users.extend(later.users);
        while self.users.len() > USERS_MAX {
            self.users.pop_last();
        }
        Self {
            calls: self.calls + later.calls,
            first_at: self.first_at.min(later.first_at),
            last_at: self.last_at.max(later.last_at),
            tenant: later.tenant,
            request_id: later.request_id,
            ..self
        }
    }
}

fn event<'a>(key: &'a Key, count: &'a Count) -> Event<'a> {
    let text = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let mut details = json!({
        "address": key.address(),
        "count": count.calls,
        "reasons": count.reasons,
        "first_at": text(count.first_at),
        "last_at": text(count.last_at),
    });
    if !count.users.is_empty() {
        details["users"] = json!(count.users);
    }
    Event {
        at: count.last_at,
        actor: key.actor(),
        action: key.kind().action(),
        tenant: count.tenant,
        request_id: &count.request_id,
        details,
    }
}

#[cfg(test)]
mod tests;
