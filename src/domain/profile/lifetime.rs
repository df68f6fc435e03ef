//! The lifetime of a profile or a credential: parsed from the caller's text, which is kept.

use time::{Duration, OffsetDateTime};

use crate::domain::rule::{FieldProblem, Rule};

/// The lifetime of a profile, as given and as computed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lifetime {
    /// The time until the end, as given.
    pub final_time: Option<String>,
    /// The time after the last use, as given.
    pub sliding_time: Option<String>,
    /// The time of the end.
    pub final_at: Option<OffsetDateTime>,
    /// The time after the last use, in seconds.
    pub sliding_seconds: Option<i64>,
}

impl Lifetime {
    /// Parses both; `now` is the time at which the profile is stored.
    ///
    /// # Errors
    /// The field and the rule that it breaks.
    pub fn parse(
        final_time: Option<String>,
        sliding_time: Option<String>,
        now: OffsetDateTime,
    ) -> Result<Self, FieldProblem> {
        let length = |field: &'static str, text: &Option<String>| {
            text.as_deref()
                .map(|text| {
                    parse_length(text, MonthOrMinute::Month)
                        .ok_or(FieldProblem::new(field, Rule::Lifetime))
                })
                .transpose()
        };
        let final_length = length("finaltime", &final_time)?;
        let sliding = length("slidingtime", &sliding_time)?;
        Ok(Self {
            final_at: final_length.and_then(|length| now.checked_add(length)),
            sliding_seconds: sliding.map(Duration::whole_seconds),
            final_time,
            sliding_time,
        })
    }

    /// Returns the time at which the profile ends if `now` is its last use.
    #[must_use]
    pub fn expires_at(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let sliding =
            self.sliding_seconds.and_then(|seconds| now.checked_add(Duration::seconds(seconds)));
        match (self.final_at, sliding) {
            (Some(end), Some(sliding)) => Some(end.min(sliding)),
            (end, sliding) => end.or(sliding),
        }
    }
}

/// The meaning of a bare `m`, which the vendor's documents use for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonthOrMinute {
    /// Thirty days: for records, where too short a time would lose data.
    Month,
    /// Sixty seconds: for credentials, where too long a time would be a risk.
    Minute,
}

/// Parses a length of time: `30d`, `1y`, `24h`, `2s`, `6w`, `3m`, or a bare number of seconds. Returns `None` for one
/// beyond a hundred years.
#[must_use]
pub fn parse_length(text: &str, m: MonthOrMinute) -> Option<Duration> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits)?;
    let count: i64 = digits.parse().ok().filter(|count| *count > 0)?;
    let unit_seconds = match (unit, m) {
        ("" | "s", _) => 1,
        ("h", _) => 3600,
        ("d", _) => 86_400,
        ("w", _) => 7 * 86_400,
        ("m", MonthOrMinute::Month) => 30 * 86_400,
        ("m", MonthOrMinute::Minute) => 60,
        ("y", _) => 365 * 86_400,
        _ => return None,
    };
    let seconds = count.checked_mul(unit_seconds)?;
    (seconds <= 100 * 365 * 86_400).then(|| Duration::seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_in_the_documented_units() {
        for (text, seconds) in [
            ("30d", 2_592_000),
            ("1y", 31_536_000),
            ("24h", 86_400),
            ("2s", 2),
            ("15", 15),
            ("3m", 7_776_000),
        ] {
            assert_eq!(
                parse_length(text, MonthOrMinute::Month),
                Some(Duration::seconds(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_length("30m", MonthOrMinute::Minute), Some(Duration::minutes(30)));
        for bad in
            ["", "d", "0d", "-1d", "1.5h", "soon", "1x", "9999999999999999999d", "1000y", "1 d"]
        {
            assert_eq!(parse_length(bad, MonthOrMinute::Month), None, "{bad}");
        }
    }
}
