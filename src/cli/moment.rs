//! Points in time in arguments: a time, or a length of time before now.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Failure;

/// Parses an RFC 3339 time, or a duration before `now`.
pub(super) fn point_in_time(
    flag: &str,
    given: &str,
    now: OffsetDateTime,
) -> Result<OffsetDateTime, Failure> {
    let ago = || {
        let ago = time::Duration::try_from(humantime::parse_duration(given).ok()?).ok()?;
        now.checked_sub(ago)
    };
    OffsetDateTime::parse(given, &Rfc3339).ok().or_else(ago).ok_or_else(|| {
        Failure::usage(format!(
            "{flag} must be a time, such as 2026-11-21T12:00:00Z, or a duration before now, such as 24h"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_timestamp_or_a_duration_before_now() {
        let now = time::macros::datetime!(2026-11-22 12:00 UTC);
        for (given, at) in [
            ("2026-11-21T12:00:00Z", Some(time::macros::datetime!(2026-11-21 12:00 UTC))),
            ("2026-11-21T12:00:00+02:00", Some(time::macros::datetime!(2026-11-21 10:00 UTC))),
            ("24h", Some(time::macros::datetime!(2026-11-21 12:00 UTC))),
            ("1h 30m", Some(time::macros::datetime!(2026-11-22 10:30 UTC))),
            ("yesterday", None),
            ("2026-11-21", None),
            ("", None),
            ("999999999999 years", None),
        ] {
            assert_eq!(point_in_time("--since", given, now).ok(), at, "{given:?}");
        }
    }
}
