//! A rate as the settings write it, and the bucket that enforces it.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};

use super::table::{Buckets, Key, Table};
use super::time::Steady;

/// Largest number in a rate. The time that fills a bucket must fit the clock's nanoseconds.
const MOST: u32 = 1_000_000;

/// A number per minute and a burst. In the settings `60/120`; `60` alone means `60/60`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The number per minute.
    pub per_minute: NonZeroU32,
    /// The burst: the number at once after a pause.
    pub at_once: NonZeroU32,
}

/// A [`Rate`], or no limit, in the settings `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<Rate>);

impl FromStr for Limit {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| {
            let number = text.trim().parse::<u32>().ok();
            number.filter(|number| *number <= MOST).ok_or(())
        };
        let (per_minute, at_once) = match text.split_once('/') {
            None => (number(text)?, number(text)?),
            Some((per_minute, at_once)) => (number(per_minute)?, number(at_once)?),
        };
        match (NonZeroU32::new(per_minute), NonZeroU32::new(at_once)) {
            (Some(per_minute), Some(at_once)) => Ok(Self(Some(Rate { per_minute, at_once }))),
            (None, None) => Ok(Self(None)),
            // One of the two is a mistake, and it is unclear which.
            _ => Err(()),
        }
    }
}

/// What is left of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// The number of further requests that would be admitted now.
    pub(super) requests: u32,
    /// When there is as much left as there can be, or, where nothing is left, when the next request is admitted.
    pub(super) reset: Duration,
}

impl Left {
    /// Nothing, until the next request is admitted.
    pub(super) const fn nothing(wait: Duration) -> Self {
        Self { requests: 0, reset: wait }
    }
}

/// A bucket of cells for each key. It refills over time, up to the burst.
#[derive(Debug)]
pub(super) struct Bucket {
    limiter: RateLimiter<Key, Buckets, Steady, StateInformationMiddleware>,
    buckets: Buckets,
    rate: Rate,
}

impl Bucket {
    pub(super) fn new(rate: Rate, time: Steady) -> Self {
        let quota = Quota::per_minute(rate.per_minute).allow_burst(rate.at_once);
        let cell = Nanos::from(quota.replenish_interval());
        let buckets = Buckets { table: Arc::new(Table::default()), cell };
        Self { limiter: RateLimiter::new(quota, buckets.clone(), time), buckets, rate }
    }

    /// Takes a cell. A refusal costs nothing: further attempts do not lengthen the wait.
    ///
    /// # Errors
    /// The time until a cell is free.
    pub(super) fn take(&self, key: Key) -> Result<(), Duration> {
        self.check(key).map(drop)
    }

    /// As [`take`](Self::take), and returns what the key has left then.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(super) fn take_and_tell(&self, key: Key) -> Result<Left, Duration> {
        let requests = self.check(key)?.remaining_burst_capacity();
        let taken = self.rate.at_once.get().saturating_sub(requests);
        let reset = Duration::from(self.buckets.cell).saturating_mul(taken);
        Ok(Left { requests, reset })
    }

    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    fn check(&self, key: Key) -> Result<StateSnapshot, Duration> {
        let taken = self.limiter.check_key(&key);
        taken.map_err(|until| until.wait_time_from(self.limiter.clock().now()))
    }

    /// Returns a cell that was taken.
    pub(super) fn give_back(&self, key: Key) {
        self.buckets.table.shorten(key, self.buckets.cell);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::super::table::Keys;
    use super::*;
    use crate::domain::Clock;

    fn bucket(rate: &str) -> (Bucket, impl Fn(i64)) {
        let seconds = Arc::new(AtomicI64::new(0));
        let reading = Arc::clone(&seconds);
        let clock = Clock::from_fn(move || {
            time::OffsetDateTime::from_unix_timestamp(reading.load(Ordering::SeqCst)).unwrap()
        });
        let Limit(Some(rate)) = rate.parse().unwrap() else { panic!("{rate} is no rate") };
        let bucket = Bucket::new(rate, Steady::new(clock));
        (bucket, move |by| {
            seconds.fetch_add(by, Ordering::SeqCst);
        })
    }

    #[test]
    fn a_rate_is_a_number_per_minute_and_a_burst() {
        for (text, expected) in [
            ("60/120", Some(Some((60, 120)))),
            (" 6 / 30 ", Some(Some((6, 30)))),
            ("60", Some(Some((60, 60)))),
            ("0", Some(None)),
            ("0/0", Some(None)),
            ("0/5", None),
            ("5/0", None),
            ("-1", None),
            ("5/5/5", None),
            ("many", None),
            ("1000000", Some(Some((1_000_000, 1_000_000)))),
            ("1000001", None),
            ("1/4294967295", None),
            ("", None),
        ] {
            let found = text.parse::<Limit>().ok();
            let numbers =
                found.map(|limit| limit.0.map(|rate| (rate.per_minute.get(), rate.at_once.get())));
            assert_eq!(numbers, expected, "{text:?}");
        }
    }

    #[test]
    fn a_burst_of_cells_can_be_taken_and_refills_over_time() {
        let (bucket, pass) = bucket("6/3");
        let key = Keys::default().of("one");
        assert_eq!([(); 4].map(|()| bucket.take(key).is_ok()), [true, true, true, false]);
        assert_eq!(bucket.take(key), Err(Duration::from_secs(10)));
        pass(4);
        assert_eq!(bucket.take(key), Err(Duration::from_secs(6)), "trying costs nothing");
        pass(6);
        assert_eq!([(); 2].map(|()| bucket.take(key).is_ok()), [true, false]);
        pass(3600);
        assert_eq!([(); 4].map(|()| bucket.take(key).is_ok()), [true, true, true, false]);
    }

    #[test]
    fn what_is_left_and_when_it_is_full_again_are_told() {
        let (bucket, pass) = bucket("6/3");
        let key = Keys::default().of("one");
        let take = || {
            let taken = bucket.take_and_tell(key);
            taken.map(|left| (left.requests, left.reset.as_secs()))
        };
        assert_eq!([take(), take(), take()], [Ok((2, 10)), Ok((1, 20)), Ok((0, 30))]);
        assert_eq!(take(), Err(Duration::from_secs(10)));
        pass(20);
        assert_eq!(take(), Ok((1, 20)));
    }

    #[test]
    fn a_returned_cell_can_be_taken_again() {
        let (bucket, pass) = bucket("1/1");
        let key = Keys::default().of("one");
        for _ in 0..100 {
            assert_eq!(bucket.take(key), Ok(()));
            bucket.give_back(key);
        }
        pass(7);
        assert_eq!(bucket.take(key), Ok(()));
        bucket.give_back(Keys::default().of("another"));
        assert_eq!(bucket.take(key), Err(Duration::from_mins(1)));
    }

    #[test]
    fn the_largest_rates_can_be_enforced() {
        for rate in ["1/1000000", "1000000/1", "1000000"] {
            let (bucket, pass) = bucket(rate);
            let key = Keys::default().of("one");
            assert_eq!(bucket.take(key), Ok(()), "{rate}");
            pass(100 * 365 * 24 * 3600);
            assert_eq!(bucket.take(key), Ok(()), "{rate}");
        }
    }

    #[test]
    fn keys_do_not_share_cells() {
        let (bucket, _) = bucket("1/1");
        let keys = Keys::default();
        for key in 0..100 {
            assert_eq!(bucket.take(keys.of(key)), Ok(()));
            assert!(bucket.take(keys.of(key)).is_err());
        }
    }
}
