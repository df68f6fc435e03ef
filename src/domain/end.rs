//! Owns when a tenant ends, as a request says it, and the fields of an upsert that an existing tenant cannot take.

use time::{Duration, OffsetDateTime};

use super::rule::Rule;

/// An end that was asked for differs from the present one by less than this part of its length: it is the same.
const SAME_WITHIN: i32 = 20;

/// When a tenant ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At this time.
    At(OffsetDateTime),
    /// This long after the request.
    In(Duration),
}

impl End {
    /// Parses a length of time, such as `24h`.
    ///
    /// # Errors
    /// [`Rule::Lifetime`].
    pub fn parse_length(text: &str) -> Result<Self, Rule> {
        let length = humantime::parse_duration(text).map_err(|_no_length| Rule::Lifetime)?;
        Duration::try_from(length).map(Self::In).map_err(|_too_long| Rule::Lifetime)
    }

    /// Returns the name of the field that says it.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::At(_) => "expires_at",
            Self::In(_) => "expires_in",
        }
    }

    /// Returns the point in time.
    ///
    /// # Errors
    /// [`Rule::Past`] unless it is in the future; [`Rule::Lifetime`] if the calendar does not reach so far.
    pub fn resolve(self, now: OffsetDateTime) -> Result<OffsetDateTime, Rule> {
        let at = match self {
            Self::At(at) => at,
            Self::In(length) => now.checked_add(length).ok_or(Rule::Lifetime)?,
        };
        // PostgreSQL keeps microseconds.
        let at = at.replace_microsecond(at.microsecond()).unwrap_or(at);
        if at > now { Ok(at) } else { Err(Rule::Past) }
    }

    /// Whether a tenant that ends at `present` already ends as asked for. A length of time is met within a twentieth of
    /// it, so that a pipeline that runs twice in a row changes nothing the second time.
    #[must_use]
    pub fn is_met_by(self, present: OffsetDateTime, now: OffsetDateTime) -> bool {
        match self {
            Self::At(at) => at == present,
            Self::In(length) => {
                let asked = now.checked_add(length);
                asked.is_some_and(|asked| (asked - present).abs() < length / SAME_WITHIN)
            }
        }
    }
}

/// A change of a tenant's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndChange {
    /// Another end, for a tenant that has one.
    Move(End),
    /// An end, also for a tenant that was made without one.
    Give(End),
    /// No end: the tenant stays.
    Remove,
}

/// The fields in which an upsert differs from the tenant that it found, and which it cannot apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Differing {
    /// The slug: links lead to the tenant, so that only an update changes it.
    pub slug: bool,
    /// The admin, whom this caller may not link.
    pub admin: bool,
    /// The end of a tenant that was made without one.
    pub end: bool,
}

impl Differing {
    /// Whether there is any.
    #[must_use]
    pub const fn any(self) -> bool {
        self.slug || self.admin || self.end
    }

    /// Returns the names of the fields.
    #[must_use]
    pub fn fields(self) -> Vec<&'static str> {
        let all = [("slug", self.slug), ("admin", self.admin), ("expires_at", self.end)];
        all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_met_within_a_twentieth_and_a_point_in_time_exactly() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let (day, minute) = (End::In(Duration::DAY), Duration::MINUTE);
        let end = day.resolve(now).unwrap();
        for (later, met) in
            [(0, true), (1, true), (71, true), (72, false), (-71, true), (-72, false)]
        {
            assert_eq!(day.is_met_by(end, now + minute * later), met, "{later} minutes later");
        }
        assert!(End::At(end).is_met_by(end, now));
        assert!(!End::At(end + minute).is_met_by(end, now));
        assert!(!End::In(Duration::DAY * 2).is_met_by(end, now));
    }

    #[test]
    fn an_end_is_in_the_future_and_in_the_calendar() {
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(End::At(now).resolve(now), Err(Rule::Past));
        assert_eq!(End::parse_length("0s").unwrap().resolve(now), Err(Rule::Past));
        assert_eq!(End::parse_length("9000y").unwrap().resolve(now), Err(Rule::Lifetime));
        for bad in ["", "24", "-1h", "soon", "99999999999999999999y"] {
            assert_eq!(End::parse_length(bad), Err(Rule::Lifetime), "{bad:?}");
        }
    }
}
