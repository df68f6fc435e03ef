//! Decides when a credential expires and how long a replaced secret stays good.

use time::{Duration, OffsetDateTime};

use crate::domain::error::{Error, Result};
use crate::domain::rule::Rule;

/// The longest overlap of a rotation.
pub const OVERLAP_MAX: Duration = Duration::days(30);

/// The limits of credentials, from the settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lifetimes {
    /// The longest lifetime of a credential; `None` for no limit.
    pub max: Option<Duration>,
    /// The lifetime of a credential whose maker asks for none; `None` for no end.
    pub default: Option<Duration>,
    /// How long the secret that a rotation replaces stays good if the caller does not say.
    pub overlap: Duration,
}

impl Lifetimes {
    /// Refuses an end that is beyond the greatest lifetime.
    pub(in crate::service) fn check(
        &self,
        asked: Option<OffsetDateTime>,
        now: OffsetDateTime,
        field: &'static str,
    ) -> Result<()> {
        match (self.max, asked, self.latest(now)) {
            (Some(max), Some(asked), Some(latest)) if asked > latest => {
                Err(Error::invalid(field, Rule::AtMost(max)))
            }
            _ => Ok(()),
        }
    }

    /// Returns when a credential expires that is made now. One without an end gets the default lifetime, and never more
    /// than the greatest one or than its maker has left.
    ///
    /// # Errors
    /// [`Rule::AtMost`]; [`Rule::WithinParent`] where the end is later than that of the maker.
    pub(in crate::service) fn end(
        &self,
        asked: Option<OffsetDateTime>,
        now: OffsetDateTime,
        maker_ends_at: Option<OffsetDateTime>,
        field: &'static str,
    ) -> Result<Option<OffsetDateTime>> {
        self.check(asked, now, field)?;
        if let (Some(asked), Some(limit)) = (asked, maker_ends_at)
            && asked > limit
        {
            return Err(Error::invalid(field, Rule::WithinParent(limit)));
        }
        let default = self.default.and_then(|default| now.checked_add(default));
        Ok(asked.or_else(|| earliest([default, self.latest(now), maker_ends_at])))
    }

    /// Returns the end of a credential that its kind gives an end or none, shortened to the greatest lifetime and to what
    /// its maker has left.
    pub(in crate::service) fn shortened(
        &self,
        end: Option<OffsetDateTime>,
        now: OffsetDateTime,
        maker_ends_at: Option<OffsetDateTime>,
    ) -> Option<OffsetDateTime> {
        earliest([end, self.latest(now), maker_ends_at])
    }

    /// Returns the latest end of a credential that is made now.
    fn latest(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.max.and_then(|max| now.checked_add(max))
    }
}

fn earliest(ends: [Option<OffsetDateTime>; 3]) -> Option<OffsetDateTime> {
    ends.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn day(count: i64) -> OffsetDateTime {
        NOW + Duration::days(count)
    }

    #[test]
    fn an_end_is_asked_for_or_the_earliest_that_the_limits_give() {
        let of = |max: Option<i64>, default: Option<i64>| Lifetimes {
            max: max.map(Duration::days),
            default: default.map(Duration::days),
            overlap: Duration::HOUR,
        };
        let too_long = Err(Rule::AtMost(Duration::days(90)));
        let beyond_parent = Err(Rule::WithinParent(NOW + Duration::days(5)));
        for (limits, asked, parent, expected) in [
            (of(None, None), None, None, Ok(None)),
            (of(None, None), Some(day(9000)), None, Ok(Some(day(9000)))),
            (of(None, Some(30)), None, None, Ok(Some(day(30)))),
            (of(None, Some(30)), Some(day(400)), None, Ok(Some(day(400)))),
            (of(Some(90), None), None, None, Ok(Some(day(90)))),
            (of(Some(90), Some(30)), None, None, Ok(Some(day(30)))),
            (of(Some(90), None), Some(day(90)), None, Ok(Some(day(90)))),
            (of(Some(90), None), Some(day(91)), None, too_long),
            (of(None, None), None, Some(day(5)), Ok(Some(day(5)))),
            (of(Some(90), Some(30)), None, Some(day(5)), Ok(Some(day(5)))),
            (of(Some(90), None), Some(day(5)), Some(day(5)), Ok(Some(day(5)))),
            (of(None, None), Some(day(6)), Some(day(5)), beyond_parent),
            (of(Some(90), None), Some(day(91)), Some(day(5)), too_long),
        ] {
            let end = limits.end(asked, NOW, parent, "expiresAt").map_err(|error| match error {
                Error::Invalid(problems) => problems[0].rule,
                other => panic!("{other}"),
            });
            assert_eq!(end, expected, "{limits:?} {asked:?} {parent:?}");
        }
        assert_eq!(of(Some(90), Some(30)).shortened(None, NOW, None), Some(day(90)));
        assert_eq!(of(None, Some(30)).shortened(None, NOW, None), None, "no default");
    }
}
