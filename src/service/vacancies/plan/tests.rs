//! What each stock leads to.

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
    let one =
        || Vacancy { id: TenantId::generate(), state, pattern: pattern.clone(), created_at: NOW };
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
        &Requester { replenisher: None, pattern: &pattern, wanted, spare_roles: 0, now: NOW },
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
        assert_eq!(next_for_command(8, &ready[..there], &[], Aim::Fill), reserve(fill), "{there}");
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
fn a_replenisher_whose_vacancies_are_outrun_makes_roles_first_and_keeps_what_is_left() {
    let next_of = |spare_roles, ready, begun| {
        let pattern = pattern(5);
        let mut there = vacancies(ready, State::Ready, &pattern);
        there.extend(vacancies(begun, State::Building, &pattern));
        let me = replenisher(pattern.clone(), 4);
        let (replenisher, pattern, wanted) = (Some(me.id), &pattern, 4);
        let requester = Requester { replenisher, pattern, wanted, spare_roles, now: NOW };
        match next(&requester, &there, &[me], Aim::Maintain) {
            Some(Step::Reserve(count)) => format!("reserve {count}"),
            Some(Step::Build(_)) => "build".to_owned(),
            Some(Step::Drop(vacancy)) => format!("drop {:?}", vacancy.state),
            None => "rest".to_owned(),
            other => format!("{other:?}"),
        }
    };
    for (spare_roles, ready, begun, expected) in [
        (0, 0, 0, "reserve 4"),
        (32, 0, 0, "reserve 32"),
        (32, 4, 15, "reserve 17"),
        (32, 2, 16, "build"),
        (32, 4, 16, "rest"),
        // The burst is over.
        (0, 2, 100, "build"),
        (0, 4, 100, "rest"),
        (0, 5, 100, "drop Ready"),
        (0, 4, 4 + SPARE_ROLES_MAX + 1, "drop Building"),
    ] {
        assert_eq!(next_of(spare_roles, ready, begun), expected, "{spare_roles} {ready} {begun}");
    }
}

#[test]
fn roles_are_dropped_once_no_process_wants_a_vacancy() {
    let begun = vacancies(3, State::Building, &pattern(5));
    assert_eq!(dropped(next_for_command(0, &begun, &[], Aim::Maintain)), begun[2].id);
    let other = replenisher(pattern(5), 2);
    assert_eq!(next_for_command(0, &begun, &[other], Aim::Maintain), None);
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
        let replenisher = Some(me.id);
        let requester =
            Requester { replenisher, pattern: &pattern, wanted, spare_roles: 0, now: NOW };
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
            let replenishers = [replenisher(ours.clone(), few), replenisher(theirs.clone(), many)];
            let live: Vec<Replenisher> =
                replenishers.iter().filter(|replenisher| replenisher.wanted > 0).cloned().collect();
            let mut there = vacancies(3, State::Ready, &pattern(4));
            let mut idle = 0;
            for turn in 0..200 {
                let me = &replenishers[turn % 2];
                let (replenisher, pattern) = (Some(me.id), &me.pattern);
                let (wanted, spare_roles) = (me.wanted, 0);
                let requester = Requester { replenisher, pattern, wanted, spare_roles, now: NOW };
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
