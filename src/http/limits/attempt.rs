//! Attempts with a password or a credential: each takes its cells before it is checked and gives them back if it was not
//! wrong.
//!
//! Twenty right log-ins at the same moment take more cells than there are, for as long as their passwords are compared. So
//! an attempt that finds no cell is not refused while others are being checked that may give theirs back: it waits for
//! the next one to end, and asks again. When none is left that could, all cells are of wrong attempts, and it is refused.
//! However many arrive together, no more are being checked than there are cells, so a burst of guesses gains nothing.
//!
//! What is taken and what is being checked change together, under one lock, so that no end of an attempt is missed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::rate::Bucket;
use super::table::Key;
use super::{CREDENTIAL_REMEMBERED, Client, Gate, KNOWN_ADDRESS_REMEMBERED, Limits};
use crate::domain::error::{Error, InvitationProblem, Result};

/// The most attempts that wait for others, in the whole process.
const WAITING_MAX: usize = 1024;

/// A cell of a gate that has a bucket.
#[derive(Clone)]
struct Cell<'a> {
    gate: &'a Gate,
    bucket: Arc<Bucket>,
    key: Key,
}

/// The cells of one attempt.
type Cells<'a> = [Option<Cell<'a>>; 3];

/// The kind of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Password,
    Credential,
}

/// An attempt that was admitted and charged. Dropped, it stays charged: a client that disconnects before the answer has
/// made its attempt.
#[must_use = "an attempt that is not settled counts as wrong"]
pub struct Attempt<'a> {
    limits: &'a Limits,
    /// The cells that were taken.
    cells: Cells<'a>,
    kind: Kind,
    /// The key to remember if the attempt succeeds.
    key: Key,
    /// Whether the cells are given back.
    is_refunded: bool,
}

impl Attempt<'_> {
    /// Refunds the charge, unless the attempt was wrong.
    pub fn settle<T>(mut self, outcome: &Result<T>) {
        let limits = self.limits;
        match (outcome, self.kind) {
            (Ok(_), Kind::Password) => {
                limits.remember(&limits.known_addresses, self.key, KNOWN_ADDRESS_REMEMBERED);
            }
            (Ok(_), Kind::Credential) => {
                limits.remember(&limits.known_credentials, self.key, CREDENTIAL_REMEMBERED);
            }
            // It was revoked or has expired, and counts as wrong from now on.
            (
                Err(Error::Unauthenticated(_) | Error::Invitation(InvitationProblem::Unknown)),
                Kind::Credential,
            ) => {
                return limits.known_credentials.forget(self.key);
            }
            // A typing error does not make the address unknown.
            (Err(Error::Unauthenticated(_)), Kind::Password) => return,
            (Err(_), _) => {}
        }
        self.is_refunded = true;
    }

    /// Ends an attempt that opens no session: it stays charged if it was wrong, and leaves the address as known or
    /// unknown as it is.
    pub fn close(mut self, was_wrong: bool) {
        self.is_refunded = !was_wrong;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.limits.in_flight.end(&self.cells, self.is_refunded);
    }
}

impl Limits {
    /// Admits an attempt through all of these gates or through none.
    pub(super) async fn admit<'a>(
        &'a self,
        gates: [Option<(&'a Gate, Key)>; 3],
        from: Option<IpAddr>,
        kind: Kind,
        key: Key,
    ) -> Result<Attempt<'a>> {
        let cells = gates.map(|gate| {
            let (gate, key) = gate?;
            Some(Cell { gate, bucket: gate.bucket()?, key })
        });
        let mut waiting = None;
        loop {
            let next_end = match self.in_flight.begin(&cells) {
                Ok(()) => {
                    return Ok(Attempt { limits: self, cells, kind, key, is_refunded: false });
                }
                Err(NoCell::YetAgain(next_end)) => next_end,
                Err(NoCell::Left(Cell { gate, key, .. }, wait)) => {
                    return Err(self.refuse(gate, key, Client::Address(from), wait));
                }
            };
            if waiting.is_none() {
                waiting = Some(self.in_flight.wait()?);
            }
            next_end.await;
        }
    }
}

/// Why an attempt cannot be checked now.
enum NoCell<'a> {
    /// A cell may be given back by an attempt that is being checked; ready when the next one ends.
    YetAgain(OwnedNotified),
    /// All cells of this bucket are of wrong attempts; the time until one is free.
    Left(Cell<'a>, Duration),
}

/// The attempts that are being checked, by the cells that they have taken.
#[derive(Default)]
pub(super) struct InFlight {
    counts: Mutex<HashMap<(&'static str, Key), Count>>,
    waiting: AtomicUsize,
}

/// How many attempts have taken cells of one key.
#[derive(Default)]
struct Count {
    attempts: usize,
    /// Notifies the attempts that wait when one ends.
    ended: Arc<Notify>,
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, HashMap<(&'static str, Key), Count>> {
        // Every statement that can panic leaves whole counts.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all cells or none.
    fn begin<'a>(&self, cells: &Cells<'a>) -> Result<(), NoCell<'a>> {
        if cells.iter().all(Option::is_none) {
            return Ok(());
        }
        let mut counts = self.lock();
        for (at, cell) in cells.iter().enumerate() {
            let Some(cell) = cell else { continue };
            let Err(wait) = cell.bucket.take(cell.key) else { continue };
            for taken in cells.iter().take(at).flatten() {
                taken.bucket.give_back(taken.key);
            }
            return Err(match counts.get(&cell.id()) {
                Some(count) => NoCell::YetAgain(Arc::clone(&count.ended).notified_owned()),
                None => NoCell::Left(cell.clone(), wait),
            });
        }
        for cell in cells.iter().flatten() {
            counts.entry(cell.id()).or_default().attempts += 1;
        }
        Ok(())
    }

    /// Ends an attempt, and gives its cells back if it was not wrong.
    fn end(&self, cells: &Cells<'_>, is_refunded: bool) {
        if cells.iter().all(Option::is_none) {
            return;
        }
        let mut counts = self.lock();
        for cell in cells.iter().flatten() {
            if is_refunded {
                cell.bucket.give_back(cell.key);
            }
            if let Some(count) = counts.get_mut(&cell.id()) {
                count.attempts -= 1;
                count.ended.notify_waiters();
                if count.attempts == 0 {
                    counts.remove(&cell.id());
                }
            }
        }
    }

    /// Whether a bucket has a cell, or may get one back from an attempt that is being checked.
    ///
    /// # Errors
    /// The time until a cell is free.
    pub(super) fn probe(&self, gate: &Gate, bucket: &Bucket, key: Key) -> Result<(), Duration> {
        let counts = self.lock();
        match bucket.take(key) {
            Ok(()) => bucket.give_back(key),
            Err(_) if counts.contains_key(&(gate.name, key)) => {}
            Err(wait) => return Err(wait),
        }
        Ok(())
    }

    /// Counts an attempt as waiting until the result is dropped.
    fn wait(&self) -> Result<Waiting<'_>> {
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return Err(Error::unavailable("check a credential", TooManyWait));
        }
        Ok(waiting)
    }
}

impl Cell<'_> {
    const fn id(&self) -> (&'static str, Key) {
        (self.gate.name, self.key)
    }
}

/// An attempt that waits for others to end.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why an attempt is not checked at all.
#[derive(Debug, thiserror::Error)]
#[error("{WAITING_MAX} attempts wait already for others with the same account or address")]
struct TooManyWait;
