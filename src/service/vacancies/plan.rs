//! Decides the next step for the stock of vacancies, from what is in stock and what each process wants.
//!
//! Promises: no I/O; several processes that each do what this says, one step at a time under one lock, come to
//! rest, whatever versions and settings they have. The rules:
//! - a vacancy *fits* a process if it has the isolation and the migrations of that process;
//! - there are as many that fit as the live replenisher of the same kind that wants most;
//! - new ones are begun when half of them are gone, several at once, because each transaction that makes roles costs
//!   every backend (`schema::create_roles`);
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
/// The most vacancies whose roles one transaction makes.
const BATCH: usize = 16;

/// The process that asks for the next step, and what it wants.
pub(super) struct Requester<'a> {
    /// Its id as a replenisher; `None` for a command, which keeps no stock.
    pub(super) replenisher: Option<Uuid>,
    pub(super) pattern: &'a Pattern,
    pub(super) wanted: usize,
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
        if let Some(begun) = stock.iter().find(|vacancy| vacancy.state == State::Building) {
            return Some(Step::Build(begun.id));
        }
        let enough = if aim == Aim::Fill { wanted } else { wanted / 2 + 1 };
        if stock.len() < enough && !other_is_ahead {
            return Some(Step::Reserve((wanted - stock.len()).min(BATCH)));
        }
    }
    let surplus = stock.get(wanted..).and_then(<[_]>::last).copied();
    let unwanted = vacancies.iter().find(|vacancy| {
        vacancy.state == State::Dropping
            || (!requester.is_stock(vacancy) && is_unwanted(requester, vacancy, &others))
    });
    unwanted.or(surplus).cloned().map(Step::Drop)
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
mod tests {
    use super::*;
    use crate::pg::rules::Isolation;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn pattern(version: i32) -> Pattern {
        Pattern { isolation: Isolation::Role, version, fingerprint: format!("set {version}") }
    }

    fn edited(version: i32) -> Pattern {
        Pattern { fingerprint: "edited".to_owned(), ..pattern(version) }
    }

    fn vacancies(count: usize, state: State, pattern: &Pattern) -> Vec<Vacancy> {
        let one = || Vacancy {
            id: TenantId::generate(),
            state,
            pattern: pattern.clone(),
            created_at: NOW,
        };
        (0..count).map(|_| one()).collect()
    }

    fn replenisher(pattern: Pattern, wanted: usize) -> Replenisher {
        Replenisher { id: Uuid::now_v7(), pattern, wanted, seen_at: NOW }
    }

    /// The next step of a command on version 5 that wants this many.
    fn next_for_command(
        wanted: usize,
        there: &[Vacancy],
        replenishers: &[Replenisher],
        aim: Aim,
    ) -> Option<Step> {
        let pattern = pattern(5);
        next(
            &Requester { replenisher: None, pattern: &pattern, wanted, now: NOW },
            there,
            replenishers,
            aim,
        )
    }

    fn dropped(step: Option<Step>) -> TenantId {
        match step {
            Some(Step::Drop(vacancy)) => vacancy.id,
            other => panic!("nothing is dropped: {other:?}"),
        }
    }

    #[test]
    fn new_vacancies_are_begun_together_when_half_are_gone() {
        let ready = vacancies(8, State::Ready, &pattern(5));
        for (there, maintain, fill) in
            [(8, None, None), (5, None, Some(3)), (4, Some(4), Some(4)), (0, Some(8), Some(8))]
        {
            let reserve = |count: Option<usize>| count.map(Step::Reserve);
            assert_eq!(
                next_for_command(8, &ready[..there], &[], Aim::Maintain),
                reserve(maintain),
                "{there}"
            );
            assert_eq!(
                next_for_command(8, &ready[..there], &[], Aim::Fill),
                reserve(fill),
                "{there}"
            );
        }
        assert_eq!(next_for_command(1, &[], &[], Aim::Maintain), Some(Step::Reserve(1)));
        assert_eq!(next_for_command(1, &ready[..1], &[], Aim::Maintain), None);
        assert_eq!(next_for_command(1000, &[], &[], Aim::Fill), Some(Step::Reserve(BATCH)));
        assert_eq!(next_for_command(0, &[], &[], Aim::Fill), None);
    }

    #[test]
    fn a_begun_vacancy_is_built_before_another_is_begun() {
        let mut there = vacancies(2, State::Ready, &pattern(5));
        // One that an older process has begun counts too: there is nothing in it yet.
        there.extend(vacancies(1, State::Building, &pattern(4)));
        assert_eq!(next_for_command(8, &there, &[], Aim::Maintain), Some(Step::Build(there[2].id)));
        assert_eq!(next_for_command(8, &there, &[], Aim::RebuildStale), None);
    }

    #[test]
    fn a_vacancy_that_is_behind_is_migrated_if_wanted_and_dropped_if_surplus() {
        let behind = vacancies(1, State::Ready, &pattern(4));
        assert_eq!(
            next_for_command(1, &behind, &[], Aim::RebuildStale),
            Some(Step::Migrate(behind[0].id))
        );
        let mut there = behind.clone();
        there.extend(vacancies(1, State::Ready, &pattern(5)));
        assert_eq!(dropped(next_for_command(1, &there, &[], Aim::Maintain)), behind[0].id);
        assert_eq!(dropped(next_for_command(0, &behind, &[], Aim::Maintain)), behind[0].id);
        // Its replenisher is alive and behind: it will find none and build its own.
        let old = replenisher(pattern(4), 8);
        assert_eq!(dropped(next_for_command(1, &there, &[old], Aim::Maintain)), behind[0].id);
    }

    #[test]
    fn an_older_process_leaves_vacancies_that_are_ahead_and_makes_none() {
        let ahead = vacancies(3, State::Ready, &pattern(6));
        let new = replenisher(pattern(6), 3);
        assert_eq!(next_for_command(8, &ahead, std::slice::from_ref(&new), Aim::Fill), None);
        assert_eq!(next_for_command(0, &ahead, &[], Aim::Maintain), None);
        // After a rollback no process is ahead any more.
        let gone = Replenisher { seen_at: NOW - ALIVE_FOR, ..new };
        assert_eq!(next_for_command(8, &ahead, &[gone], Aim::Fill), Some(Step::Reserve(8)));
    }

    #[test]
    fn vacancies_of_another_set_of_the_same_version_stay_while_its_replenisher_is_alive() {
        let mut there = vacancies(1, State::Ready, &pattern(5));
        there.extend(vacancies(1, State::Ready, &edited(5)));
        let theirs = replenisher(edited(5), 1);
        assert_eq!(next_for_command(1, &there, std::slice::from_ref(&theirs), Aim::Maintain), None);
        let gone = Replenisher { seen_at: NOW - ALIVE_FOR, ..theirs };
        assert_eq!(dropped(next_for_command(1, &there, &[gone], Aim::Maintain)), there[1].id);
    }

    #[test]
    fn the_stock_is_as_large_as_the_replenisher_that_wants_most_says() {
        let there = vacancies(4, State::Ready, &pattern(5));
        let greedy = replenisher(pattern(5), 4);
        assert_eq!(next_for_command(2, &there, std::slice::from_ref(&greedy), Aim::Maintain), None);
        assert_eq!(next_for_command(0, &there, &[greedy], Aim::Maintain), None);
        assert_eq!(
            dropped(next_for_command(2, &there, &[], Aim::Maintain)),
            there[3].id,
            "the newest goes first"
        );
        assert_eq!(dropped(next_for_command(0, &there, &[], Aim::Maintain)), there[3].id);
    }

    #[test]
    fn a_half_dropped_vacancy_is_dropped() {
        let there = vacancies(1, State::Dropping, &pattern(9));
        assert_eq!(dropped(next_for_command(0, &there, &[], Aim::Maintain)), there[0].id);
    }

    #[test]
    fn a_replenisher_records_that_it_is_alive_once_a_minute_unless_it_wants_none() {
        let pattern = pattern(5);
        let mut me = replenisher(pattern.clone(), 0);
        let ask = |wanted, me: &Replenisher, known: &[Replenisher]| {
            let requester =
                Requester { replenisher: Some(me.id), pattern: &pattern, wanted, now: NOW };
            next(&requester, &vacancies(wanted, State::Ready, &pattern), known, Aim::Maintain)
        };
        assert_eq!(ask(2, &me, &[]), Some(Step::Register));
        assert_eq!(ask(0, &me, &[]), None);
        assert_eq!(ask(2, &me, std::slice::from_ref(&me)), None);
        me.seen_at = NOW - SEEN_EVERY;
        assert_eq!(ask(2, &me, std::slice::from_ref(&me)), Some(Step::Register));
    }

    /// Two processes take turns: whatever each wants, after some steps neither has anything to do.
    #[test]
    fn two_processes_come_to_rest() {
        for (ours, theirs) in [
            (pattern(5), pattern(5)),
            (pattern(5), pattern(6)),
            (pattern(5), edited(5)),
            (Pattern { isolation: Isolation::SearchPath, ..pattern(5) }, pattern(6)),
        ] {
            for (few, many) in [(0, 3), (3, 0), (2, 5), (4, 4)] {
                let replenishers =
                    [replenisher(ours.clone(), few), replenisher(theirs.clone(), many)];
                let live: Vec<Replenisher> = replenishers
                    .iter()
                    .filter(|replenisher| replenisher.wanted > 0)
                    .cloned()
                    .collect();
                let mut there = vacancies(3, State::Ready, &pattern(4));
                let mut idle = 0;
                for turn in 0..200 {
                    let me = &replenishers[turn % 2];
                    let (replenisher, pattern) = (Some(me.id), &me.pattern);
                    let requester = Requester { replenisher, pattern, wanted: me.wanted, now: NOW };
                    idle = match next(&requester, &there, &live, Aim::Maintain) {
                        None => idle + 1,
                        Some(step) => {
                            carry_out(step, &mut there, pattern);
                            0
                        }
                    };
                }
                assert!(idle > 100, "{ours:?} {few}, {theirs:?} {many}: {there:?}");
                let fit = there.iter().filter(|v| v.pattern == theirs).count();
                assert!(fit <= few.max(many), "{there:?}");
            }
        }
    }

    fn carry_out(step: Step, there: &mut Vec<Vacancy>, pattern: &Pattern) {
        match step {
            Step::Register => {}
            Step::Migrate(id) | Step::Build(id) => {
                let vacancy = there.iter_mut().find(|vacancy| vacancy.id == id).unwrap();
                (vacancy.state, vacancy.pattern) = (State::Ready, pattern.clone());
            }
            Step::Reserve(count) => there.extend(vacancies(count, State::Building, pattern)),
            Step::Drop(gone) => there.retain(|vacancy| vacancy.id != gone.id),
        }
    }
}
