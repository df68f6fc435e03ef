//! The two text forms of the metrics: Prometheus' text format 0.0.4, and `OpenMetrics` for a client that asks for it.
//!
//! The registry writes `OpenMetrics`. The text format differs in little: a counter's `HELP` and `TYPE` lines have its
//! whole name, and nothing marks the end.

/// A form of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl Exposition {
    /// Returns the form that an `Accept` header asks for: `OpenMetrics` if it names that, and not `text/plain` with a
    /// higher weight; else the text format.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let weight = |wanted: &str| {
            let ranges = accept.split(',').map(|range| range.split(';').map(str::trim));
            let of_type = ranges.filter_map(|mut range| {
                let is_wanted = range.next()?.eq_ignore_ascii_case(wanted);
                is_wanted
                    .then(|| range.find_map(|word| word.strip_prefix("q=")).map_or(1.0, quality))
            });
            of_type.fold(0.0, f64::max)
        };
        let open_metrics = weight(OPEN_METRICS);
        if open_metrics > 0.0 && open_metrics >= weight("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Returns the media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Reads a weight (RFC 9110, 12.4.2); one that cannot be read counts as none.
fn quality(text: &str) -> f64 {
    text.parse().ok().filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or_default()
}

/// Rewrites `OpenMetrics` text in the text format.
pub(super) fn in_text_format(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            break;
        }
        // `HELP` comes first, and the line after it tells the type.
        let kind = if line.starts_with("# HELP ") { lines.peek().copied() } else { Some(line) };
        let is_counter =
            kind.is_some_and(|kind| kind.starts_with("# TYPE ") && kind.ends_with(" counter"));
        let mut words = line.splitn(4, ' ');
        match (is_counter, words.next(), words.next(), words.next()) {
            (true, Some(hash), Some(word), Some(name)) => {
                let rest = words.next().unwrap_or_default();
                text.extend([hash, " ", word, " ", name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_answered_only_to_a_client_that_prefers_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let plain_first = "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.5";
        for (accept, expected) in [
            ("", Exposition::Text),
            ("*/*", Exposition::Text),
            ("text/plain", Exposition::Text),
            ("application/openmetrics-text;q=0", Exposition::Text),
            ("application/openmetrics-text;q=nan", Exposition::Text),
            (plain_first, Exposition::Text),
            (prometheus, Exposition::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0", Exposition::OpenMetrics),
        ] {
            assert_eq!(Exposition::accepted(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_counter_has_its_whole_name_in_every_line_of_the_text_format() {
        let open_metrics = "# HELP requests Requests answered.\n# TYPE requests counter\nrequests_total{a=\"# EOF\"} 1\n\
                            # HELP open Open.\n# TYPE open gauge\nopen 2\n# EOF\n";
        assert_eq!(
            in_text_format(open_metrics),
            "# HELP requests_total Requests answered.\n# TYPE requests_total counter\nrequests_total{a=\"# EOF\"} 1\n\
             # HELP open Open.\n# TYPE open gauge\nopen 2\n"
        );
    }
}
