//! Decides what is to be done next to the stock of vacancies, from what is there and who wants what.
//!
//! Promises: no I/O; several processes that each do what this says, one step at a time under one lock,
//! come to rest, whatever versions and settings they have. The rules:
//! - a vacancy *fits* a process if isolation and migrations are those of the process;
//! - of those that fit there are as many as the most demanding live keeper of the same kind wants;
//! - new ones are begun when half of them are gone, several at once, since each making of roles costs
//!   every backend (`schema::create_roles`);
//! - a vacancy of a lower version is migrated by whoever is ahead and keeps a stock, or dropped where it is
//!   one too many or is for another isolation. An older process then makes no new ones while a keeper that
//!   is ahead lives, and never touches what is ahead of it: so two versions do not fight during a
//!   deployment;
//! - a vacancy of the same version that does not fit (an edited migration, another isolation) is dropped
//!   once no live keeper wants its kind.

use std::cmp::Ordering;

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::domain::names::TenantId;
use crate::pg::control::vacancies::{Keeper, Pattern, State, Vacancy};

/// How often a keeper says that it lives.
pub(super) const SEEN_EVERY: Duration = Duration::minutes(1);
/// How long a keeper that says nothing counts as alive. Several times [`SEEN_EVERY`], so that clocks may
/// differ and a process may be held up.
pub(super) const ALIVE_FOR: Duration = Duration::minutes(5);
/// Most vacancies whose roles are made in one transaction.
const BATCH: usize = 16;

/// Who asks, and what it needs.
pub(super) struct Asker<'a> {
    /// Its name as a keeper; none for a command, which looks after nothing.
    pub(super) keeper: Option<Uuid>,
    pub(super) pattern: &'a Pattern,
    pub(super) wanted: usize,
    pub(super) now: OffsetDateTime,
}

/// How much is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// What keeps the stock in order.
    Order,
    /// That, and as many as are wanted at once.
    Full,
    /// No more than migrating or dropping what does not fit.
    Fitting,
}

/// One piece of work, small enough for one transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Say that the asker lives.
    Register,
    /// Bring a vacancy of a lower version up to date.
    Migrate(TenantId),
    /// Make the schema of a vacancy that has only its role.
    Build(TenantId),
    /// Make so many roles, for schemas to come.
    Reserve(usize),
    /// Tear a vacancy down, or go on with it.
    Drop(Vacancy),
}

impl Asker<'_> {
    fn fits(&self, vacancy: &Vacancy) -> bool {
        vacancy.pattern == *self.pattern
    }

    /// Whether it counts as one that fits: it does, or will once this asker has built it.
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

/// What to do next, if anything.
pub(super) fn next(
    asker: &Asker<'_>,
    vacancies: &[Vacancy],
    keepers: &[Keeper],
    aim: Aim,
) -> Option<Step> {
    let alive = |keeper: &&Keeper| {
        Some(keeper.id) != asker.keeper && keeper.seen_at + ALIVE_FOR > asker.now
    };
    let others: Vec<&Keeper> = keepers.iter().filter(alive).collect();
    if must_register(asker, keepers) {
        return Some(Step::Register);
    }
    let like_minded = others.iter().filter(|keeper| keeper.pattern == *asker.pattern);
    let wanted = like_minded.map(|keeper| keeper.wanted).fold(asker.wanted, usize::max);
    let somebody_is_ahead =
        others.iter().any(|keeper| keeper.pattern.version > asker.pattern.version);
    let stock: Vec<&Vacancy> = vacancies.iter().filter(|v| asker.is_stock(v)).collect();
    let makes = asker.wanted > 0;
    let of_ready = |v: &&Vacancy| v.state == State::Ready;
    if makes && stock.len() < wanted {
        let behind = vacancies.iter().filter(of_ready).find(|vacancy| {
            vacancy.pattern.version < asker.pattern.version
                && vacancy.pattern.isolation == asker.pattern.isolation
        });
        if let Some(behind) = behind {
            return Some(Step::Migrate(behind.id));
        }
    }
    if makes && aim != Aim::Fitting {
        if let Some(begun) = stock.iter().find(|vacancy| vacancy.state == State::Building) {
            return Some(Step::Build(begun.id));
        }
        let enough = if aim == Aim::Full { wanted } else { wanted / 2 + 1 };
        if stock.len() < enough && !somebody_is_ahead {
            return Some(Step::Reserve((wanted - stock.len()).min(BATCH)));
        }
    }
    let surplus = stock.get(wanted..).and_then(<[_]>::last).copied();
    let unwanted = vacancies.iter().find(|vacancy| {
        vacancy.state == State::Dropping
            || (!asker.is_stock(vacancy) && is_unwanted(asker, vacancy, &others))
    });
    unwanted.or(surplus).cloned().map(Step::Drop)
}

fn must_register(asker: &Asker<'_>, keepers: &[Keeper]) -> bool {
    let Some(id) = asker.keeper.filter(|_| asker.wanted > 0) else { return false };
    let seen = keepers.iter().find(|keeper| keeper.id == id).map(|keeper| keeper.seen_at);
    seen.is_none_or(|seen| seen + SEEN_EVERY <= asker.now)
}

/// Whether a vacancy that is of no use to the asker is of none to anybody.
fn is_unwanted(asker: &Asker<'_>, vacancy: &Vacancy, others: &[&Keeper]) -> bool {
    let (theirs, ours) = (&vacancy.pattern, asker.pattern);
    let is_kept = others.iter().any(|keeper| keeper.pattern == *theirs);
    match theirs.version.cmp(&ours.version) {
        // Their keeper sees the one who asks, and makes no more.
        Ordering::Less => asker.wanted > 0 || !is_kept,
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

    fn keeper(pattern: Pattern, wanted: usize) -> Keeper {
        Keeper { id: Uuid::now_v7(), pattern, wanted, seen_at: NOW }
    }

    /// What a command on version 5 that wants so many does next.
    fn asked(wanted: usize, there: &[Vacancy], keepers: &[Keeper], aim: Aim) -> Option<Step> {
        let pattern = pattern(5);
        next(&Asker { keeper: None, pattern: &pattern, wanted, now: NOW }, there, keepers, aim)
    }

    fn dropped(step: Option<Step>) -> TenantId {
        match step {
            Some(Step::Drop(vacancy)) => vacancy.id,
            other => panic!("nothing is dropped: {other:?}"),
        }
    }

    #[test]
    fn new_ones_are_begun_together_when_half_are_gone() {
        let ready = vacancies(8, State::Ready, &pattern(5));
        for (there, order, full) in
            [(8, None, None), (5, None, Some(3)), (4, Some(4), Some(4)), (0, Some(8), Some(8))]
        {
            let reserve = |count: Option<usize>| count.map(Step::Reserve);
            assert_eq!(asked(8, &ready[..there], &[], Aim::Order), reserve(order), "{there}");
            assert_eq!(asked(8, &ready[..there], &[], Aim::Full), reserve(full), "{there}");
        }
        assert_eq!(asked(1, &[], &[], Aim::Order), Some(Step::Reserve(1)));
        assert_eq!(asked(1, &ready[..1], &[], Aim::Order), None);
        assert_eq!(asked(1000, &[], &[], Aim::Full), Some(Step::Reserve(BATCH)));
        assert_eq!(asked(0, &[], &[], Aim::Full), None);
    }

    #[test]
    fn what_was_begun_is_built_before_more_is_begun() {
        let mut there = vacancies(2, State::Ready, &pattern(5));
        // Of a process on an older version, too: there is nothing in it yet.
        there.extend(vacancies(1, State::Building, &pattern(4)));
        assert_eq!(asked(8, &there, &[], Aim::Order), Some(Step::Build(there[2].id)));
        assert_eq!(asked(8, &there, &[], Aim::Fitting), None);
    }

    #[test]
    fn what_is_behind_is_migrated_as_far_as_it_is_wanted_and_dropped_beyond() {
        let behind = vacancies(1, State::Ready, &pattern(4));
        assert_eq!(asked(1, &behind, &[], Aim::Fitting), Some(Step::Migrate(behind[0].id)));
        let mut there = behind.clone();
        there.extend(vacancies(1, State::Ready, &pattern(5)));
        assert_eq!(dropped(asked(1, &there, &[], Aim::Order)), behind[0].id);
        assert_eq!(dropped(asked(0, &behind, &[], Aim::Order)), behind[0].id);
        // Its keeper is alive and behind: it will find none and build for itself.
        let old = keeper(pattern(4), 8);
        assert_eq!(dropped(asked(1, &there, &[old], Aim::Order)), behind[0].id);
    }

    #[test]
    fn an_older_process_leaves_what_is_ahead_and_makes_none_beside_it() {
        let ahead = vacancies(3, State::Ready, &pattern(6));
        let new = keeper(pattern(6), 3);
        assert_eq!(asked(8, &ahead, std::slice::from_ref(&new), Aim::Full), None);
        assert_eq!(asked(0, &ahead, &[], Aim::Order), None);
        // After a rollback nobody is ahead any more.
        let gone = Keeper { seen_at: NOW - ALIVE_FOR, ..new };
        assert_eq!(asked(8, &ahead, &[gone], Aim::Full), Some(Step::Reserve(8)));
    }

    #[test]
    fn another_set_of_the_same_version_keeps_its_stock_as_long_as_its_keeper_lives() {
        let mut there = vacancies(1, State::Ready, &pattern(5));
        there.extend(vacancies(1, State::Ready, &edited(5)));
        let theirs = keeper(edited(5), 1);
        assert_eq!(asked(1, &there, std::slice::from_ref(&theirs), Aim::Order), None);
        let gone = Keeper { seen_at: NOW - ALIVE_FOR, ..theirs };
        assert_eq!(dropped(asked(1, &there, &[gone], Aim::Order)), there[1].id);
    }

    #[test]
    fn there_are_as_many_as_the_most_demanding_wants() {
        let there = vacancies(4, State::Ready, &pattern(5));
        let greedy = keeper(pattern(5), 4);
        assert_eq!(asked(2, &there, std::slice::from_ref(&greedy), Aim::Order), None);
        assert_eq!(asked(0, &there, &[greedy], Aim::Order), None);
        assert_eq!(
            dropped(asked(2, &there, &[], Aim::Order)),
            there[3].id,
            "the newest goes first"
        );
        assert_eq!(dropped(asked(0, &there, &[], Aim::Order)), there[3].id);
    }

    #[test]
    fn what_is_half_torn_down_is_finished() {
        let there = vacancies(1, State::Dropping, &pattern(9));
        assert_eq!(dropped(asked(0, &there, &[], Aim::Order)), there[0].id);
    }

    #[test]
    fn a_keeper_says_that_it_lives_once_a_minute_and_not_where_it_wants_none() {
        let pattern = pattern(5);
        let mut me = keeper(pattern.clone(), 0);
        let ask = |wanted, me: &Keeper, known: &[Keeper]| {
            let asker = Asker { keeper: Some(me.id), pattern: &pattern, wanted, now: NOW };
            next(&asker, &vacancies(wanted, State::Ready, &pattern), known, Aim::Order)
        };
        assert_eq!(ask(2, &me, &[]), Some(Step::Register));
        assert_eq!(ask(0, &me, &[]), None);
        assert_eq!(ask(2, &me, std::slice::from_ref(&me)), None);
        me.seen_at = NOW - SEEN_EVERY;
        assert_eq!(ask(2, &me, std::slice::from_ref(&me)), Some(Step::Register));
    }

    /// Two processes take turns, whatever each wants: after some steps neither has anything to do.
    #[test]
    fn two_processes_come_to_rest() {
        for (ours, theirs) in [
            (pattern(5), pattern(5)),
            (pattern(5), pattern(6)),
            (pattern(5), edited(5)),
            (Pattern { isolation: Isolation::SearchPath, ..pattern(5) }, pattern(6)),
        ] {
            for (few, many) in [(0, 3), (3, 0), (2, 5), (4, 4)] {
                let keepers = [keeper(ours.clone(), few), keeper(theirs.clone(), many)];
                let live: Vec<Keeper> =
                    keepers.iter().filter(|keeper| keeper.wanted > 0).cloned().collect();
                let mut there = vacancies(3, State::Ready, &pattern(4));
                let mut idle = 0;
                for turn in 0..200 {
                    let me = &keepers[turn % 2];
                    let (keeper, pattern) = (Some(me.id), &me.pattern);
                    let asker = Asker { keeper, pattern, wanted: me.wanted, now: NOW };
                    idle = match next(&asker, &there, &live, Aim::Order) {
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
