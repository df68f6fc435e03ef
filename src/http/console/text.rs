//! Writes times and numbers for people.

use std::fmt;

use askama::filters::HtmlSafe;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, UtcOffset};

use crate::domain::rule::Rule;
use crate::http::cursor::timestamp;

/// A point in time, or a reference to one: a template passes a value by reference.
pub(super) trait Time {
    /// Returns it.
    fn time(&self) -> OffsetDateTime;
}

impl Time for OffsetDateTime {
    fn time(&self) -> OffsetDateTime {
        *self
    }
}

impl<T: Time> Time for &T {
    fn time(&self) -> OffsetDateTime {
        (**self).time()
    }
}

/// A number, or a reference to one.
pub(super) trait Number {
    /// Returns it.
    fn number(&self) -> i64;
}

impl Number for i64 {
    fn number(&self) -> i64 {
        *self
    }
}

impl<T: Number> Number for &T {
    fn number(&self) -> i64 {
        (**self).number()
    }
}

/// A point in time, as a `<time>` element in UTC. The script of the console shows it in the reader's time zone.
#[derive(Debug, Clone, Copy)]
pub(super) struct When<T>(pub(super) T);

impl<T: Time> fmt::Display for When<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.0.time().to_offset(UtcOffset::UTC);
        let short = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
        let (machine, text) = (at.format(&Rfc3339), at.format(&short));
        let (Ok(machine), Ok(text)) = (machine, text) else { return Err(fmt::Error) };
        write!(f, "<time datetime=\"{machine}\" title=\"{text} UTC\">{text}</time>")
    }
}

impl<T: Time> HtmlSafe for When<T> {}

/// A number with a separator between its thousands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count<T>(pub(super) T);

impl<T: Number> fmt::Display for Count<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.number();
        let digits = number.unsigned_abs().to_string();
        let sign = if number < 0 { "-" } else { "" };
        f.write_str(sign)?;
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl<T: Number> HtmlSafe for Count<T> {}

/// Writes a number of bytes in the unit that keeps it short.
pub(super) fn size(bytes: impl Number) -> String {
    let mut unit = "B";
    let mut whole = bytes.number();
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 10_240 {
            break;
        }
        (whole, unit) = (whole / 1024, next);
    }
    format!("{} {unit}", Count(whole))
}

/// Reads a day as a browser's field for dates sends it, or a point in time in RFC 3339; a day stands for its beginning in
/// UTC.
pub(super) fn day(text: &str) -> Result<OffsetDateTime, Rule> {
    let day = Date::parse(text, &format_description!("[year]-[month]-[day]"));
    match day {
        Ok(day) => Ok(day.midnight().assume_utc()),
        Err(_no_day) => timestamp(text),
    }
}

/// Writes a time for a query.
pub(super) fn rfc3339(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_a_separator_between_its_thousands() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567"), (-4321, "-4,321")]
        {
            assert_eq!(Count(number).to_string(), text);
        }
    }

    #[test]
    fn a_time_is_written_in_utc() {
        let at = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let moved = at.to_offset(UtcOffset::from_hms(5, 0, 0).unwrap());
        for at in [at, moved] {
            assert_eq!(
                When(at).to_string(),
                "<time datetime=\"2023-11-14T22:13:20Z\" title=\"2023-11-14 22:13:20 UTC\">2023-11-14 22:13:20</time>"
            );
        }
    }
}
