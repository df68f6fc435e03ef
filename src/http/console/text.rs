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

/// Browsers, by what their user agents hold; those that name others come first.
const BROWSERS: &[(&str, &str)] = &[
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

/// Systems, likewise.
const SYSTEMS: &[(&str, &str)] = &[
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
];

/// Names the browser and the system of a user agent; returns any other user agent as it is.
pub(super) fn client(agent: &str) -> String {
    let named = |names: &[(&str, &'static str)]| {
        let found = names.iter().find(|(part, _)| agent.contains(part));
        found.map(|(_, name)| *name)
    };
    match (named(BROWSERS), named(SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, _) => agent.to_owned(),
    }
}

/// Splits a sentence at its backticks, which mark what is typed: each part with whether it is between two of them.
pub(super) fn parts(text: &str) -> Vec<(bool, &str)> {
    let parts = text.split('`').enumerate().map(|(index, part)| (index % 2 == 1, part));
    parts.filter(|(_, part)| !part.is_empty()).collect()
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
    fn a_browser_is_named_with_its_system_and_any_other_program_as_it_names_itself() {
        for (agent, name) in [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 \
                 Safari/537.36 Edg/148.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/18.5 Mobile/15E148 Safari/604.1",
                "Safari on iPhone",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
            ),
            ("curl/8.5.0", "curl/8.5.0"),
            ("", ""),
        ] {
            assert_eq!(client(agent), name);
        }
    }

    #[test]
    fn what_is_between_backticks_is_a_part_of_its_own() {
        assert_eq!(parts("plain"), [(false, "plain")]);
        assert_eq!(
            parts("run `rowhouse migrate`, `x`"),
            [(false, "run "), (true, "rowhouse migrate"), (false, ", "), (true, "x")]
        );
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
