//! What is counted, what is written when, and how little a flood makes.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const START: OffsetDateTime = time::macros::datetime!(2026-11-28 12:00 UTC);

fn refusal(address: IpAddr, second: i64) -> Refusal<'static> {
    Refusal {
        kind: Kind::Session,
        address: Some(address),
        actor: None,
        tenant: None,
        reason: "wrong_password",
        user: None,
        request_id: "x",
        at: START + Duration::seconds(second),
    }
}

fn host(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(n).into()
}

fn calls(due: &[(Key, Count)]) -> Vec<u64> {
    due.iter().map(|(_, count)| count.calls).collect()
}

#[test]
fn one_client_makes_one_event_a_minute_however_many_of_its_calls_are_refused() {
    let counters = Counters::default();
    let mut events = 0;
    for second in 0..600 {
        for _ in 0..50 {
            counters.add(&refusal(host(1), second));
        }
        // Asked for as often as an operator likes.
        events += counters.take_due(START + Duration::seconds(second)).len();
    }
    assert_eq!(events, 10);
    let rest = counters.take_due(START + Duration::seconds(600));
    assert_eq!(calls(&rest), [59 * 50], "no call is lost");
}

#[test]
fn a_flood_from_many_addresses_makes_a_bounded_number_of_events_and_loses_no_call() {
    let counters = Counters::default();
    for n in 0..10_000 {
        counters.add(&refusal(host(n), 0));
    }
    let due = counters.take_due(START);
    assert!(due.len() <= KEYS_MAX + 1, "{} events", due.len());
    assert_eq!(calls(&due).iter().sum::<u64>(), 10_000);
    // When the flood is over, the keys are forgotten.
    assert_eq!(counters.take_due(START + PAUSE).len(), 0);
    assert_eq!(counters.lock().len(), 0);
}

#[test]
fn an_ipv6_client_is_counted_by_its_network() {
    let counters = Counters::default();
    for n in 0..1000 {
        let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | n);
        counters.add(&refusal(address.into(), 0));
    }
    let due = counters.take_due(START);
    assert_eq!(calls(&due), [1000]);
    let (key, count) = due.first().expect("there is one");
    assert_eq!(event(key, count).details["address"], "2001:db8::/64");
}

#[test]
fn counts_that_could_not_be_written_are_written_later() {
    let counters = Counters::default();
    counters.add(&refusal(host(1), 0));
    let batch = Batch::take(&counters, START).expect("a count is due");
    counters.add(&refusal(host(1), 1));
    drop(batch);
    let due = counters.take_due(START + Duration::seconds(2));
    assert_eq!(calls(&due), [2]);
    let (_, count) = due.first().expect("there is one");
    assert_eq!((count.first_at, count.last_at), (START, START + Duration::seconds(1)));
}

#[test]
fn an_event_names_reasons_and_some_of_the_users() {
    let counters = Counters::default();
    for n in 0..30 {
        let user = Some(UserId::new(uuid::Uuid::from_u128(n)));
        let reason = if n < 5 { "wrong_password" } else { "too_many" };
        counters.add(&Refusal { reason, user, ..refusal(host(1), 0) });
    }
    let due = counters.take_due(START);
    let (key, count) = due.first().expect("there is one");
    let event = event(key, count);
    assert_eq!((event.action, event.actor), (AuditAction::SessionRefused, "anonymous"));
    assert_eq!(event.details["reasons"], json!({ "wrong_password": 5, "too_many": 25 }));
    assert_eq!(event.details["users"].as_array().map(Vec::len), Some(USERS_MAX));
}
