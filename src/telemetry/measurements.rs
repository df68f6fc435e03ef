//! The last hour of this process, measured every ten seconds: what charts show.
//!
//! A rate is a difference of two readings by the time between them, and a quantile is interpolated in the differences of
//! a histogram, so that both are of those ten seconds and not of the whole life of the process. Readings that Prometheus
//! takes are independent of these.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

/// The time between two measurements.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// The measurements that are kept: those of an hour.
const KEPT: usize = 360;

/// The number of series.
const COUNT: usize = 12;

/// A route whose requests wait for what is to come: their duration says nothing of the server.
const LONG_POLL: &str = "/control/v1/events";

/// A series of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// Its stable name.
    pub name: &'static str,
    /// What is counted: `per_second`, `milliseconds` or `number`.
    pub unit: &'static str,
}

const fn series(name: &'static str, unit: &'static str) -> Series {
    Series { name, unit }
}

/// All series, in the order of the values of a sample.
pub(super) const SERIES: [Series; COUNT] = [
    series("requests_succeeded", "per_second"),
    series("requests_refused", "per_second"),
    series("requests_failed", "per_second"),
    series("duration_p50", "milliseconds"),
    series("duration_p95", "milliseconds"),
    series("setups_with_vacancy", "per_second"),
    series("setups_without_vacancy", "per_second"),
    series("connections_in_use", "number"),
    series("connection_waits", "per_second"),
    series("hashes_waiting", "number"),
    series("limited", "per_second"),
    series("tenants_migrated", "per_second"),
];

/// The measurements of about an hour, the oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurements {
    /// When each measurement was taken.
    pub times: Vec<OffsetDateTime>,
    /// Each series with its values, one for each time; `None` where nothing was to be measured.
    pub series: Vec<(Series, Vec<Option<f64>>)>,
    /// How many database connections this process may open.
    pub connections_max: i64,
}

impl Measurements {
    /// Returns the values of a series by its name.
    #[must_use]
    pub fn values(&self, name: &str) -> &[Option<f64>] {
        let found = self.series.iter().find(|(series, _values)| series.name == name);
        found.map_or(&[], |(_series, values)| values)
    }
}

/// What is counted for the measurements alone.
pub(super) struct Totals {
    answered: [AtomicU64; 3],
    bounds: Vec<f64>,
    /// One more than bounds: the last holds what took longer.
    durations: Vec<AtomicU64>,
    limited: AtomicU64,
}

impl Totals {
    pub(super) fn with_bounds(bounds: &[f64]) -> Self {
        let durations = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self {
            answered: Default::default(),
            bounds: bounds.to_vec(),
            durations,
            limited: AtomicU64::new(0),
        }
    }

    /// Counts an answered request.
    pub(super) fn count_request(&self, route: &str, status: u16, took: Duration) {
        let class = match status {
            0..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        self.answered[class].fetch_add(1, Ordering::Relaxed);
        if route != LONG_POLL {
            let took = took.as_secs_f64();
            let bucket = self.bounds.partition_point(|bound| *bound < took);
            self.durations[bucket].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a request that a limit refused.
    pub(super) fn count_limited(&self) {
        self.limited.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> (Vec<u64>, Vec<u64>, u64) {
        let read = |counts: &[AtomicU64]| {
            counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>()
        };
        (read(&self.answered), read(&self.durations), self.limited.load(Ordering::Relaxed))
    }
}

/// What is read of the other metrics.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) claimed: u64,
    pub(super) missed: u64,
    pub(super) connections_in_use: i64,
    pub(super) connection_waits: u64,
    pub(super) hashes_waiting: i64,
    pub(super) tenants_migrated: u64,
}

/// The totals and the load at one time.
struct Reading {
    at: OffsetDateTime,
    answered: Vec<u64>,
    durations: Vec<u64>,
    limited: u64,
    load: Load,
}

/// The values of one time; not a number where nothing was to be measured.
struct Sample {
    at: OffsetDateTime,
    values: [f64; COUNT],
}

/// The ring of measurements.
#[derive(Default)]
pub(super) struct Ring(Mutex<Held>);

#[derive(Default)]
struct Held {
    last: Option<Reading>,
    samples: VecDeque<Sample>,
}

impl Ring {
    /// Takes a measurement. The first one only begins the differences, and so does one that is not later than the last:
    /// a clock was set back.
    pub(super) fn measure(&self, totals: &Totals, load: Load, at: OffsetDateTime) {
        let (answered, durations, limited) = totals.read();
        let reading = Reading { at, answered, durations, limited, load };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(values) =
            held.last.as_ref().and_then(|last| reading.since(last, &totals.bounds))
        {
            if held.samples.len() == KEPT {
                held.samples.pop_front();
            }
            held.samples.push_back(Sample { at, values });
        }
        held.last = Some(reading);
    }

    /// Returns what is kept.
    pub(super) fn read(&self, connections_max: i64) -> Measurements {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values = |index: usize| {
            let values = held.samples.iter().map(|sample| sample.values[index]);
            values.map(|value| value.is_finite().then_some(value)).collect()
        };
        let series = SERIES.into_iter().enumerate();
        Measurements {
            times: held.samples.iter().map(|sample| sample.at).collect(),
            series: series.map(|(index, series)| (series, values(index))).collect(),
            connections_max,
        }
    }
}

impl Reading {
    /// Returns the values of the time since an earlier reading, in the order of [`SERIES`].
    fn since(&self, before: &Self, bounds: &[f64]) -> Option<[f64; COUNT]> {
        let seconds = (self.at - before.at).as_seconds_f64();
        if seconds <= 0.0 {
            return None;
        }
        let rate = |now: u64, before: u64| rounded(as_float(now.saturating_sub(before)) / seconds);
        let durations: Vec<u64> = self
            .durations
            .iter()
            .zip(&before.durations)
            .map(|(now, before)| now.saturating_sub(*before))
            .collect();
        let milliseconds =
            |share: f64| quantile(bounds, &durations, share).map_or(f64::NAN, |s| rounded(s * 1e3));
        let (now, then) = (&self.load, &before.load);
        Some([
            rate(self.answered[0], before.answered[0]),
            rate(self.answered[1], before.answered[1]),
            rate(self.answered[2], before.answered[2]),
            milliseconds(0.5),
            milliseconds(0.95),
            rate(now.claimed, then.claimed),
            rate(now.missed, then.missed),
            as_float(now.connections_in_use.unsigned_abs()),
            rate(now.connection_waits, then.connection_waits),
            as_float(now.hashes_waiting.unsigned_abs()),
            rate(self.limited, before.limited),
            rate(now.tenants_migrated, then.tenants_migrated),
        ])
    }
}

/// Returns a quantile in seconds, interpolated inside its bucket as Prometheus does; the last bound for what is above it,
/// and `None` of nothing.
fn quantile(bounds: &[f64], counts: &[u64], share: f64) -> Option<f64> {
    let all = as_float(counts.iter().sum());
    if all == 0.0 {
        return None;
    }
    let wanted = share * all;
    let (mut below, mut lower) = (0.0, 0.0);
    for (bound, count) in bounds.iter().zip(counts) {
        let count = as_float(*count);
        if count > 0.0 && below + count >= wanted {
            return Some(lower + (bound - lower) * ((wanted - below) / count));
        }
        below += count;
        lower = *bound;
    }
    bounds.last().copied()
}

/// Three digits after the point are more than a chart shows, and keep the answer small.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "counts of one process are below 2^53")]
const fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
#[path = "measurements/tests.rs"]
mod tests;
