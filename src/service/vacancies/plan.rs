//! Decides the next step for the stock of vacancies, from what is in stock and what each process wants.
//!
//! Promises: no I/O; several processes that each do what this says, one step at a time under one lock, come to
//! rest, whatever versions and settings they have. The rules:
//! - a vacancy *fits* a process if it has the isolation and the migrations of that process;
//! - there are as many that fit as the live replenisher of the same kind that wants most;
//! - new ones are begun when half of them are gone, several at once, because each transaction that makes roles costs
//!   every backend (`schema::create_roles`);
//! - set-ups that find none take a role without a schema and build that. While they do, a replenisher keeps a stock of
//!   roles beside that of vacancies ([`Requester::spare_roles`]), and makes the roles before anything else. What is left of
//!   it stays for the next vacancies;
//! - a vacancy of a lower version is migrated by a process that is ahead and keeps a stock, or dropped if it is
//!   surplus or has another isolation. An older process then makes no new ones while a replenisher that is ahead is
//!   alive, and never touches a vacancy that is ahead of it, so two versions do not undo each other's work during a
//!   deployment;
//! - a vacancy of the same version that does not fit (an edited migration, another isolation) is dropped once no
//!   live replenisher wants its kind.

use std::cmp::Ordering;

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::domain::names::TenantId;
use crate::pg::control::vacancies::{Pattern, Replenisher, State, Vacancy};

/// How often a replenisher records that it is alive.
pub(super) const SEEN_EVERY: Duration = Duration::minutes(1);
/// How long a replenisher counts as alive after its last record. Several times [`SEEN_EVERY`], so that clocks may
/// differ and a process may be delayed.
pub(super) const ALIVE_FOR: Duration = Duration::minutes(5);
/// The most vacancies whose roles one transaction makes, but for spare ones.
const BATCH: usize = 16;
/// The most roles without a schema that are kept beyond the vacancies.
pub(super) const SPARE_ROLES_MAX: usize = 128;

/// The process that asks for the next step, and what it wants.
pub(super) struct Requester<'a> {
    /// Its id as a replenisher; `None` for a command, which keeps no stock.
    pub(super) replenisher: Option<Uuid>,
    pub(super) pattern: &'a Pattern,
    pub(super) wanted: usize,
    /// The number of roles that it keeps for set-ups that find no vacancy; 0 while all find one.
    pub(super) spare_roles: usize,
    pub(super) now: OffsetDateTime,
}

/// How much is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Keep the stock in order.
    Maintain,
    /// That, and make as many as are wanted at once.
    Fill,
    /// Only migrate or drop what does not fit.
    RebuildStale,
}

/// A step that is small enough for one transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Record that the requester is alive.
    Register,
    /// Migrate a vacancy of a lower version.
    Migrate(TenantId),
    /// Make the schema of a vacancy that has only its role.
    Build(TenantId),
    /// Make this many roles, whose schemas follow.
    Reserve(usize),
    /// Begin to drop a vacancy, or continue.
    Drop(Vacancy),
}

impl Requester<'_> {
    fn fits(&self, vacancy: &Vacancy) -> bool {
        vacancy.pattern == *self.pattern
    }

    /// Whether the vacancy counts as one that fits: it does, or will once this requester has built it.
    fn is_stock(&self, vacancy: &Vacancy) -> bool {
        match vacancy.state {
            State::Ready => self.fits(vacancy),
            State::Building => {
                vacancy.pattern.isolation == self.pattern.isolation
                    && (self.fits(vacancy) || vacancy.pattern.version < self.pattern.version)
            }
            State::Dropping => false,
        }
    }
}

/// The next step, if there is one.
pub(super) fn next(
    requester: &Requester<'_>,
    vacancies: &[Vacancy],
    replenishers: &[Replenisher],
    aim: Aim,
) -> Option<Step> {
    let alive = |replenisher: &&Replenisher| {
        Some(replenisher.id) != requester.replenisher
            && replenisher.seen_at + ALIVE_FOR > requester.now
    };
    let others: Vec<&Replenisher> = replenishers.iter().filter(alive).collect();
    if must_register(requester, replenishers) {
        return Some(Step::Register);
    }
    let same_pattern =
        others.iter().filter(|replenisher| replenisher.pattern == *requester.pattern);
    let wanted =
        same_pattern.map(|replenisher| replenisher.wanted).fold(requester.wanted, usize::max);
    let other_is_ahead =
        others.iter().any(|replenisher| replenisher.pattern.version > requester.pattern.version);
    let stock: Vec<&Vacancy> = vacancies.iter().filter(|v| requester.is_stock(v)).collect();
    let makes = requester.wanted > 0;
    let of_ready = |v: &&Vacancy| v.state == State::Ready;
    let (ready, begun): (Vec<&Vacancy>, Vec<&Vacancy>) =
        stock.iter().copied().partition(|vacancy| vacancy.state == State::Ready);
    let spare = requester.spare_roles;
    if makes && aim == Aim::Maintain && begun.len() < spare.div_ceil(2) && !other_is_ahead {
        return Some(Step::Reserve(spare - begun.len()));
    }
    if makes && stock.len() < wanted {
        let behind = vacancies.iter().filter(of_ready).find(|vacancy| {
            vacancy.pattern.version < requester.pattern.version
                && vacancy.pattern.isolation == requester.pattern.isolation
        });
        if let Some(behind) = behind {
            return Some(Step::Migrate(behind.id));
        }
    }
    if makes && aim != Aim::RebuildStale {
        if let Some(begun) = begun.first()
            && ready.len() < wanted
        {
            return Some(Step::Build(begun.id));
        }
        let enough = if aim == Aim::Fill { wanted } else { wanted / 2 + 1 };
        if stock.len() < enough && !other_is_ahead {
            return Some(Step::Reserve((wanted - stock.len()).min(BATCH)));
        }
    }
    let most_begun = if wanted == 0 { 0 } else { wanted.saturating_add(SPARE_ROLES_MAX) };
    let last_beyond = |stock: &[&Vacancy], most: usize| stock.get(most..)?.last().copied().cloned();
    let surplus = last_beyond(&ready, wanted).or_else(|| last_beyond(&begun, most_begun));
    let unwanted = vacancies.iter().find(|vacancy| {
        vacancy.state == State::Dropping
            || (!requester.is_stock(vacancy) && is_unwanted(requester, vacancy, &others))
    });
    unwanted.cloned().or(surplus).map(Step::Drop)
}

fn must_register(requester: &Requester<'_>, replenishers: &[Replenisher]) -> bool {
    let Some(id) = requester.replenisher.filter(|_| requester.wanted > 0) else { return false };
    let seen = replenishers
        .iter()
        .find(|replenisher| replenisher.id == id)
        .map(|replenisher| replenisher.seen_at);
    seen.is_none_or(|seen| seen + SEEN_EVERY <= requester.now)
}

/// True if no live replenisher wants this vacancy, which does not fit the requester.
fn is_unwanted(requester: &Requester<'_>, vacancy: &Vacancy, others: &[&Replenisher]) -> bool {
    let (theirs, ours) = (&vacancy.pattern, requester.pattern);
    let is_kept = others.iter().any(|replenisher| replenisher.pattern == *theirs);
    match theirs.version.cmp(&ours.version) {
        // Its replenisher sees that the requester is ahead, and makes no more.
        Ordering::Less => requester.wanted > 0 || !is_kept,
        Ordering::Equal => !is_kept,
        Ordering::Greater => false,
    }
}

#[cfg(test)]
mod tests;
