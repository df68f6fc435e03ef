//! The cost of an attempt for each of its outcomes.

use std::sync::atomic::{AtomicI64, Ordering};

use ::time::OffsetDateTime;

use futures_util::FutureExt;

use super::*;
use crate::domain::error::{AuthProblem, InvitationProblem};

const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

/// A burst of one and one per minute, for each limit.
fn limits() -> (Limits, impl Fn(i64)) {
    let seconds = Arc::new(AtomicI64::new(0));
    let reading = Arc::clone(&seconds);
    let clock = Clock::from_fn(move || {
        OffsetDateTime::from_unix_timestamp(reading.load(Ordering::SeqCst)).unwrap()
    });
    let one = "1/1".parse().unwrap();
    let settings = Settings {
        login_pair: one,
        login_account: one,
        login_address: one,
        token_address: one,
        requests_token: one,
        requests_tenant: one,
        exports_tenant: one,
    };
    let pass = move |by| {
        seconds.fetch_add(by, Ordering::SeqCst);
    };
    (Limits::new(&settings, clock, Arc::new(Metrics::default())), pass)
}

/// The outcome of an admission that waits for nothing.
trait Now<T> {
    fn now(self) -> T;
}

impl<T, F: Future<Output = T>> Now<T> for F {
    fn now(self) -> T {
        self.now_or_never().expect("nothing is being checked")
    }
}

fn wrong() -> Result<()> {
    Err(Error::Unauthenticated(AuthProblem::WrongPassword))
}

#[test]
fn a_dropped_attempt_counts_as_wrong() {
    let (limits, pass) = limits();
    drop(limits.password("una", HERE).now().unwrap());
    assert!(limits.password("una", HERE).now().is_err());
    drop(limits.credential("a token", HERE).now().unwrap());
    assert!(limits.credential("a token", HERE).now().is_err());
    pass(60);
    assert!(limits.password("una", HERE).now().is_ok());
}

#[test]
fn an_attempt_that_fails_through_our_fault_costs_nothing() {
    let (limits, _) = limits();
    for _ in 0..5 {
        let away: Result<()> = Err(Error::unavailable("read user row", "the database is away"));
        limits.password("una", HERE).now().unwrap().settle(&away);
        limits.credential("a token", HERE).now().unwrap().settle(&away);
    }
}

#[test]
fn a_token_of_no_invitation_counts_as_a_wrong_credential_and_a_used_one_does_not() {
    let (limits, _) = limits();
    for problem in [InvitationProblem::Used, InvitationProblem::Expired] {
        let used: Result<()> = Err(Error::Invitation(problem));
        limits.credential("rhi_x", HERE).now().unwrap().settle(&used);
    }
    let unknown: Result<()> = Err(Error::Invitation(InvitationProblem::Unknown));
    limits.credential("rhi_x", HERE).now().unwrap().settle(&unknown);
    assert!(limits.credential("rhi_y", HERE).now().is_err());
}

#[test]
fn a_right_password_that_opens_no_session_does_not_make_the_address_known() {
    let (limits, pass) = limits();
    limits.password("una", HERE).now().unwrap().close(false);
    limits.password("una", HERE).now().unwrap().close(true);
    assert!(limits.password("una", HERE).now().is_err());
    pass(60);
    // The bucket of the account is used up from elsewhere, and this address is no exception to it.
    let elsewhere = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    limits.password("una", elsewhere).now().unwrap().close(true);
    assert!(limits.password("una", HERE).now().is_err());
}

#[test]
fn an_attempt_refused_by_one_bucket_is_charged_to_none() {
    let (limits, _) = limits();
    limits.password("una", HERE).now().unwrap().settle(&wrong());
    // The address has used up its limit; these accounts have not.
    for account in ["bob", "carol", "bob", "carol"] {
        assert!(limits.password(account, HERE).now().is_err());
    }
    let elsewhere = "198.51.100.1".parse().ok();
    limits.password("bob", elsewhere).now().unwrap().settle(&Ok(()));
    limits.password("carol", elsewhere).now().unwrap().settle(&wrong());
    assert!(limits.password("carol", elsewhere).now().is_err());
}

#[test]
fn an_address_is_remembered_for_a_month() {
    let (limits, pass) = limits();
    let (home, away) = (HERE, "198.51.100.1".parse().ok());
    limits.password("una", home).now().unwrap().settle(&Ok(()));
    limits.password("una", away).now().unwrap().settle(&wrong());
    limits.password("una", home).now().unwrap().settle(&Ok(()));
    pass(31 * 24 * 3600);
    limits.password("una", away).now().unwrap().settle(&wrong());
    assert!(limits.password("una", home).now().is_err());
}

#[test]
fn a_client_that_waits_as_told_is_not_too_early() {
    let (limits, pass) = limits();
    limits.request("a token", &Principal::Root, &Remaining::default()).unwrap();
    pass(1);
    let Err(Error::TooMany { retry_after }) =
        limits.request("a token", &Principal::Root, &Remaining::default())
    else {
        panic!("the second request is let through")
    };
    assert_eq!(retry_after, Duration::from_secs(59));
    pass(59);
    limits.request("a token", &Principal::Root, &Remaining::default()).unwrap();
    assert_eq!(whole_seconds(Duration::from_millis(1)), Duration::from_secs(1));
    assert_eq!(whole_seconds(Duration::from_secs(2)), Duration::from_secs(2));
}

#[test]
fn a_credential_is_refused_without_a_look_up_for_as_long_as_its_caller_is_and_no_longer() {
    let (limits, pass) = limits();
    assert!(limits.still_refused("a token", &Remaining::default()).is_ok());
    limits.request("a token", &Principal::Root, &Remaining::default()).unwrap();
    assert!(
        limits.still_refused("a token", &Remaining::default()).is_ok(),
        "it was not refused yet"
    );
    assert!(limits.request("a token", &Principal::Root, &Remaining::default()).is_err());
    for left in (1..60).rev() {
        let Err(Error::TooMany { retry_after }) =
            limits.still_refused("a token", &Remaining::default())
        else {
            panic!("it is looked up {left} s too early")
        };
        assert_eq!(retry_after, Duration::from_secs(left + 1));
        assert!(limits.still_refused("another", &Remaining::default()).is_ok());
        pass(1);
    }
    // The last second is the caller's bucket's, which knows its fractions.
    assert!(limits.still_refused("a token", &Remaining::default()).is_ok());
    pass(1);
    limits.request("a token", &Principal::Root, &Remaining::default()).unwrap();
}

#[test]
fn the_command_line_and_calls_without_a_credential_are_not_counted() {
    let (limits, _) = limits();
    for _ in 0..3 {
        limits.request("a token", &Principal::Operator, &Remaining::default()).unwrap();
        limits.request("a token", &Principal::Anonymous, &Remaining::default()).unwrap();
    }
}

/// A burst of two.
fn limits_of_two() -> Limits {
    let (one, two) = ("60/60".parse().unwrap(), "1/2".parse().unwrap());
    let settings = Settings {
        login_pair: two,
        login_account: one,
        login_address: one,
        token_address: two,
        requests_token: one,
        requests_tenant: one,
        exports_tenant: one,
    };
    Limits::new(&settings, Clock::from_fn(|| OffsetDateTime::UNIX_EPOCH), Arc::default())
}

#[test]
fn an_attempt_without_a_cell_waits_for_those_that_are_being_checked() {
    let limits = limits_of_two();
    let (first, second) = (limits.password("una", HERE).now(), limits.password("una", HERE).now());
    let mut third = Box::pin(limits.password("una", HERE));
    let mut fourth = Box::pin(limits.password("una", HERE));
    assert!(third.as_mut().now_or_never().is_none() && fourth.as_mut().now_or_never().is_none());
    assert!(limits.password_from(HERE).is_ok());
    first.unwrap().settle(&Ok(()));
    // Of those who are woken, one gets the cell, and the other waits again.
    let third = third.now().unwrap();
    assert!(fourth.as_mut().now_or_never().is_none());
    second.unwrap().settle(&wrong());
    third.settle(&wrong());
    // All cells are of wrong attempts.
    assert!(matches!(fourth.now(), Err(Error::TooMany { .. })));
}

#[test]
fn a_burst_of_guesses_gets_no_more_attempts_than_there_are_cells() {
    let limits = limits_of_two();
    let mut waiting: Vec<_> =
        (0..50).map(|_| Some(Box::pin(limits.credential("a guess", HERE)))).collect();
    let (mut checked, mut refused) = (0, 0);
    while checked + refused < 50 {
        let mut admitted = Vec::new();
        for slot in &mut waiting {
            let Some(attempt) = slot else { continue };
            if let Some(outcome) = attempt.as_mut().now_or_never() {
                *slot = None;
                match outcome {
                    Ok(attempt) => admitted.push(attempt),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(admitted.len() <= 2);
        checked += admitted.len();
        for attempt in admitted {
            attempt.settle(&wrong());
        }
    }
    assert_eq!((checked, refused), (2, 48));
}

#[test]
fn an_attempt_that_is_dropped_while_it_is_checked_wakes_those_that_wait() {
    let limits = limits_of_two();
    let (first, second) = (limits.password("una", HERE).now(), limits.password("una", HERE).now());
    let mut third = Box::pin(limits.password("una", HERE));
    assert!(third.as_mut().now_or_never().is_none());
    drop((first, second));
    assert!(third.now().is_err());
}
