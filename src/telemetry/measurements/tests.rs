use super::*;

const BOUNDS: [f64; 3] = [0.01, 0.1, 1.0];

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds)
}

fn last(ring: &Ring, name: &str) -> Option<f64> {
    *ring.read(5).values(name).last().expect("there is a sample")
}

#[test]
fn a_rate_is_the_difference_by_the_time_between_two_readings() {
    let (ring, totals) = (Ring::default(), Totals::with_bounds(&BOUNDS));
    for _ in 0..7 {
        totals.count_request("/before", 200, Duration::ZERO);
    }
    ring.measure(&totals, Load::default(), at(0));
    assert!(ring.read(5).times.is_empty(), "the first reading only begins the differences");
    for (status, count) in [(200, 30), (304, 10), (404, 20), (500, 10)] {
        for _ in 0..count {
            totals.count_request("/", status, Duration::from_millis(5));
        }
    }
    totals.count_limited();
    let load = Load {
        claimed: 3,
        missed: 1,
        connections_in_use: 4,
        connection_waits: 50,
        hashes_waiting: 2,
        tenants_migrated: 300,
    };
    ring.measure(&totals, load, at(10));
    let measured = ring.read(5);
    assert_eq!(measured.times, [at(10)]);
    let values: Vec<_> =
        measured.series.iter().map(|(series, values)| (series.name, values[0])).collect();
    assert_eq!(
        values,
        [
            ("requests_succeeded", Some(4.0)),
            ("requests_refused", Some(2.0)),
            ("requests_failed", Some(1.0)),
            ("duration_p50", Some(5.0)),
            ("duration_p95", Some(9.5)),
            ("setups_with_vacancy", Some(0.3)),
            ("setups_without_vacancy", Some(0.1)),
            ("connections_in_use", Some(4.0)),
            ("connection_waits", Some(5.0)),
            ("hashes_waiting", Some(2.0)),
            ("limited", Some(0.1)),
            ("tenants_migrated", Some(30.0)),
        ]
    );
}

#[test]
fn a_duration_without_a_request_is_none_and_not_zero() {
    let (ring, totals) = (Ring::default(), Totals::with_bounds(&BOUNDS));
    ring.measure(&totals, Load::default(), at(0));
    ring.measure(&totals, Load::default(), at(10));
    assert_eq!(last(&ring, "duration_p95"), None);
    assert_eq!(last(&ring, "requests_succeeded"), Some(0.0));
}

#[test]
fn a_request_that_waits_for_events_is_counted_and_not_timed() {
    let (ring, totals) = (Ring::default(), Totals::with_bounds(&BOUNDS));
    ring.measure(&totals, Load::default(), at(0));
    totals.count_request(LONG_POLL, 200, Duration::from_secs(20));
    ring.measure(&totals, Load::default(), at(10));
    assert_eq!(last(&ring, "requests_succeeded"), Some(0.1));
    assert_eq!(last(&ring, "duration_p50"), None);
}

#[test]
fn the_ring_keeps_the_last_hour() {
    let (ring, totals) = (Ring::default(), Totals::with_bounds(&BOUNDS));
    for tens in 0..400 {
        ring.measure(&totals, Load::default(), at(tens * 10));
    }
    let times = ring.read(5).times;
    assert_eq!((times.len(), times[0], times[359]), (360, at(400), at(3990)));
}

#[test]
fn a_clock_that_is_set_back_begins_the_differences_anew() {
    let (ring, totals) = (Ring::default(), Totals::with_bounds(&BOUNDS));
    ring.measure(&totals, Load::default(), at(100));
    ring.measure(&totals, Load::default(), at(50));
    assert!(ring.read(5).times.is_empty());
    totals.count_request("/", 200, Duration::ZERO);
    ring.measure(&totals, Load::default(), at(60));
    assert_eq!(last(&ring, "requests_succeeded"), Some(0.1));
}

#[test]
fn a_quantile_is_interpolated_and_ends_at_the_last_bound() {
    for (counts, share, expected) in [
        ([0, 0, 0, 0], 0.5, None),
        ([10, 0, 0, 0], 0.5, Some(0.005)),
        ([0, 10, 0, 0], 0.5, Some(0.055)),
        ([5, 0, 5, 0], 0.5, Some(0.01)),
        ([0, 0, 0, 3], 0.95, Some(1.0)),
    ] {
        let found = quantile(&BOUNDS, &counts, share);
        let equal = match (found, expected) {
            (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
            (found, expected) => found == expected,
        };
        assert!(equal, "{counts:?}, {share}: {found:?} and not {expected:?}");
    }
}
