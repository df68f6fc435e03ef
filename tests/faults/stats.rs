//! What the requests of a scenario were answered, and whether that is right at that time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long no request may fail before a fault counts as healed.
const QUIET: Duration = Duration::from_millis(700);
/// How many requests must have succeeded in that time.
const SUCCESSES: usize = 10;
/// The largest number of wrong answers that are kept in full.
const KEPT: usize = 20;

/// What goes on while a request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No fault: every request succeeds.
    Calm,
    /// A fault, or what follows from it: a request may be refused by 503 or 429.
    Fault,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Success,
    /// The status tells that the request can be sent again.
    Refused {
        status: u16,
        has_retry_after: bool,
    },
    /// No answer: the connection broke or the client gave up waiting.
    Cut(String),
    /// Any other answer, in words.
    Wrong(String),
}

/// The endings of all requests of a scenario.
pub(crate) struct Stats {
    inner: Mutex<Inner>,
    /// Whether connections may break, because a server itself is killed or stopped.
    allows_cuts: bool,
}

struct Inner {
    phase: Phase,
    counts: BTreeMap<String, usize>,
    wrong: Vec<String>,
    wrong_count: usize,
    last_failure: Option<Instant>,
    successes_since: usize,
    /// When each request in flight was sent.
    in_flight: BTreeMap<u64, Instant>,
    next: u64,
}

impl Stats {
    pub(crate) fn new(allows_cuts: bool) -> Self {
        let inner = Inner {
            phase: Phase::Calm,
            counts: BTreeMap::new(),
            wrong: Vec::new(),
            wrong_count: 0,
            last_failure: None,
            successes_since: 0,
            in_flight: BTreeMap::new(),
            next: 0,
        };
        Self { inner: Mutex::new(inner), allows_cuts }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics while holding the lock")
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.inner().phase = phase;
    }

    /// Notes that a request is sent; returns its number.
    pub(crate) fn begin(&self) -> u64 {
        let mut inner = self.inner();
        inner.next += 1;
        let number = inner.next;
        inner.in_flight.insert(number, Instant::now());
        number
    }

    /// Notes how a request ended. `what` names it.
    pub(crate) fn end(&self, number: u64, what: &str, ending: &Ending) {
        let mut inner = self.inner();
        inner.in_flight.remove(&number);
        let (name, fails) = match ending {
            Ending::Success => ("ok".to_owned(), false),
            Ending::Refused { status, .. } => (status.to_string(), true),
            Ending::Cut(_) => ("cut".to_owned(), true),
            Ending::Wrong(_) => ("wrong".to_owned(), true),
        };
        *inner.counts.entry(name).or_default() += 1;
        let phase = inner.phase;
        let wrong = match ending {
            Ending::Wrong(text) => Some(text.clone()),
            Ending::Refused { status, .. } if phase == Phase::Calm => {
                Some(format!("{status} without a fault"))
            }
            Ending::Cut(why) if phase == Phase::Calm => {
                Some(format!("no answer without a fault: {why}"))
            }
            Ending::Cut(why) if !self.allows_cuts => Some(format!("no answer: {why}")),
            Ending::Refused { status, has_retry_after: false } => {
                Some(format!("{status} without Retry-After"))
            }
            Ending::Success | Ending::Refused { .. } | Ending::Cut(_) => None,
        };
        if let Some(text) = wrong {
            inner.wrong_count += 1;
            if inner.wrong.len() < KEPT {
                inner.wrong.push(format!("{what}: {text}"));
            }
        }
        if fails {
            inner.last_failure = Some(Instant::now());
            inner.successes_since = 0;
        } else {
            inner.successes_since += 1;
        }
    }

    /// Returns how long after `fault_ended` the last request failed, if none has failed for a while, enough have
    /// succeeded since, and none is left that was sent before.
    pub(crate) fn healed(&self, fault_ended: Instant) -> Option<Duration> {
        let inner = self.inner();
        let last = inner.last_failure.map_or(fault_ended, |last| last.max(fault_ended));
        let is_quiet = last.elapsed() >= QUIET && inner.successes_since >= SUCCESSES;
        let is_answered = inner.in_flight.values().all(|sent| *sent > fault_ended);
        (is_quiet && is_answered).then(|| last.duration_since(fault_ended))
    }

    /// Returns how many requests ended by this name.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.inner().counts.get(name).copied().unwrap_or_default()
    }

    /// Returns the endings by count, for people.
    pub(crate) fn summary(&self) -> String {
        let inner = self.inner();
        let parts = inner.counts.iter().map(|(name, count)| format!("{name} {count}"));
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Returns what no request may be answered.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let inner = self.inner();
        let mut wrong = inner.wrong.clone();
        if inner.wrong_count > wrong.len() {
            wrong.push(format!("and {} more", inner.wrong_count - wrong.len()));
        }
        wrong
    }
}
