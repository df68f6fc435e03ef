//! Numbers into SVG: lines over the last hour, with what a screen reader says of them and the numbers as a table.
//!
//! Pure: no request, no service. Colours, widths and dashes are those of `assets/console.css`, by class; nothing is told by
//! colour alone. The names and units in it are constants of ours, and are written without escaping.

use std::fmt::Write as _;

use time::OffsetDateTime;

use crate::telemetry::Measurements;

/// The width and the height of the drawing, which is stretched to its place.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 60.0;

/// What a drawing spans at most and at least, in seconds: that of a young process is not stretched to nothing.
const LONGEST: f64 = 3600.0;
const SHORTEST: f64 = 600.0;

/// The most parts of that time that have a point each: more of them would be no finer.
const POINTS: usize = 120;

/// The shortest part, in seconds: each has a measurement, and a line has no gaps.
const PART: usize = 15;

/// The parts of it that have a row each in the table.
const ROWS: usize = 12;

/// A drawing of some series of the measurements.
#[derive(Debug, Clone, Copy)]
struct Chart {
    title: &'static str,
    unit: &'static str,
    /// The names of the series and what they are called here.
    lines: &'static [(&'static str, &'static str)],
    /// Whether the budget of connections is the upper end.
    is_of_connections: bool,
}

const CHARTS: [Chart; 7] = [
    chart(
        "Requests",
        "/s",
        &[
            ("requests_succeeded", "succeeded"),
            ("requests_refused", "refused"),
            ("requests_failed", "failed"),
        ],
    ),
    chart("Duration of requests", "ms", &[("duration_p50", "p50"), ("duration_p95", "p95")]),
    Chart {
        is_of_connections: true,
        ..chart("Database connections", "", &[("connections_in_use", "in use")])
    },
    chart(
        "Set-ups of tenants",
        "/s",
        &[("setups_with_vacancy", "with a vacancy"), ("setups_without_vacancy", "without")],
    ),
    chart(
        "Waiting",
        "",
        &[("hashes_waiting", "password hashes"), ("connection_waits", "for a connection, /s")],
    ),
    chart("Refused by a limit", "/s", &[("limited", "requests")]),
    chart("Fleet migration", "/s", &[("tenants_migrated", "tenants")]),
];

const fn chart(
    title: &'static str,
    unit: &'static str,
    lines: &'static [(&'static str, &'static str)],
) -> Chart {
    Chart { title, unit, lines, is_of_connections: false }
}

/// Draws every chart of the measurements.
pub(super) fn draw_all(measured: &Measurements) -> String {
    CHARTS.iter().map(|chart| chart.draw(measured)).collect()
}

/// Draws the charts that say how it goes at a glance.
pub(super) fn draw_first(measured: &Measurements) -> String {
    CHARTS.iter().take(6).map(|chart| chart.draw(measured)).collect()
}

/// Draws the chart with a title; nothing if there is none.
pub(super) fn draw(measured: &Measurements, title: &str) -> String {
    CHARTS.iter().filter(|chart| chart.title == title).map(|chart| chart.draw(measured)).collect()
}

/// A value at a place in the time: 0 is its beginning, and 1 is now.
type Point = (f64, f64);

impl Chart {
    fn draw(&self, measured: &Measurements) -> String {
        let lines: Vec<(&str, &[Option<f64>])> =
            self.lines.iter().map(|(name, label)| (*label, measured.values(name))).collect();
        let highest = lines.iter().flat_map(|(_label, values)| values.iter().flatten());
        let highest = highest.copied().fold(0.0, f64::max);
        let top = if self.is_of_connections && measured.connections_max > 0 {
            as_float(measured.connections_max).max(highest)
        } else {
            ceiling(highest)
        };
        let mut html = format!(
            "<figure class=\"chart\"><figcaption><b>{}</b>{}</figcaption>",
            self.title,
            self.legend(&lines)
        );
        if measured.times.is_empty() {
            html.push_str(
                "<p class=\"muted\">The first measurement comes in ten seconds.</p></figure>",
            );
            return html;
        }
        let _ = write!(
            html,
            "<svg role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\">",
            self.sentence(&lines),
        );
        let _ = write!(
            html,
            "<path class=\"grid\" d=\"M0 0.5H{WIDTH}M0 {0}H{WIDTH}M0 {1}H{WIDTH}\"/>",
            HEIGHT / 2.0,
            HEIGHT - 0.5
        );
        let span = span(&measured.times);
        let parts = parts(span);
        let places = places(&measured.times, span);
        for (number, (_label, values)) in lines.iter().enumerate() {
            let runs = runs(&highest_by_part(&places, values, parts));
            let number = number + 1;
            if number == 1 {
                let _ = write!(html, "<path class=\"area s1\" d=\"{}\"/>", area(&runs, top));
            }
            let _ = write!(html, "<path class=\"line s{number}\" d=\"{}\"/>", line(&runs, top));
        }
        let _ = write!(
            html,
            "</svg><p class=\"axis\" aria-hidden=\"true\"><span>{:.0} min ago</span><span>top {}</span><span>now</span></p>",
            span / 60.0,
            self.with_unit(top)
        );
        html.push_str(&self.table(&lines, &places, &measured.times));
        html.push_str("</figure>");
        html
    }

    /// Each line with its key and its last value.
    fn legend(&self, lines: &[(&str, &[Option<f64>])]) -> String {
        let mut html = String::new();
        for (number, (label, values)) in lines.iter().enumerate() {
            let now = values
                .last()
                .copied()
                .flatten()
                .map_or("\u{2013}".to_owned(), |v| self.with_unit(v));
            let _ =
                write!(html, " <span class=\"key s{}\">{label} <b>{now}</b></span>", number + 1);
        }
        html
    }

    /// What a screen reader says in place of the drawing.
    fn sentence(&self, lines: &[(&str, &[Option<f64>])]) -> String {
        let mut text = format!("{} in the last hour.", self.title);
        for (label, values) in lines {
            let known: Vec<f64> = values.iter().flatten().copied().collect();
            let Some(now) = known.last() else {
                let _ = write!(text, " {label}: nothing was measured.");
                continue;
            };
            let lowest = known.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = known.iter().copied().fold(0.0, f64::max);
            let _ = write!(
                text,
                " {label}: lowest {}, highest {}, now {}.",
                self.with_unit(lowest),
                self.with_unit(highest),
                self.with_unit(*now)
            );
        }
        text
    }

    /// The numbers, the highest of each twelfth of the time.
    fn table(
        &self,
        lines: &[(&str, &[Option<f64>])],
        places: &[f64],
        times: &[OffsetDateTime],
    ) -> String {
        let mut html = format!(
            "<details><summary>Numbers</summary><table><caption class=\"hidden\">{}: the highest of each part \
             of the time, by its end</caption><thead><tr><th scope=\"col\">Until</th>",
            self.title
        );
        for (label, _values) in lines {
            let _ = write!(html, "<th scope=\"col\" class=\"number\">{label}</th>");
        }
        html.push_str("</tr></thead><tbody>");
        for part in (0..ROWS).rev() {
            let inside = |place: &f64| part_of(*place, ROWS) == part;
            let Some(last) = places.iter().rposition(inside) else { continue };
            let until = times[last];
            let _ = write!(
                html,
                "<tr><th scope=\"row\"><time datetime=\"{}\">{:02}:{:02}</time></th>",
                rfc3339(until),
                until.hour(),
                until.minute()
            );
            for (_label, values) in lines {
                let of_part = places.iter().zip(*values).filter(|(place, _)| inside(place));
                let highest = of_part.filter_map(|(_, value)| *value).reduce(f64::max);
                let text = highest.map_or("\u{2013}".to_owned(), number);
                let _ = write!(html, "<td class=\"number\">{text}</td>");
            }
            html.push_str("</tr>");
        }
        html.push_str("</tbody></table></details>");
        html
    }

    fn with_unit(&self, value: f64) -> String {
        let number = number(value);
        match self.unit {
            "" => number,
            unit => format!("{number} {unit}"),
        }
    }
}

/// Returns how many seconds a drawing of these times spans.
fn span(times: &[OffsetDateTime]) -> f64 {
    let ends = times.first().zip(times.last());
    ends.map_or(LONGEST, |(first, last)| (*last - *first).as_seconds_f64().clamp(SHORTEST, LONGEST))
}

/// Returns into how many parts a span is divided.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most an hour")]
fn parts(span: f64) -> usize {
    (span as usize / PART).clamp(1, POINTS)
}

/// Where the times are in the span that ends with the last of them.
fn places(times: &[OffsetDateTime], span: f64) -> Vec<f64> {
    let Some(end) = times.last() else { return Vec::new() };
    times.iter().map(|at| 1.0 - (*end - *at).as_seconds_f64() / span).collect()
}

/// Returns the part of the time that a place is in.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place is from 0 to 1, and there are few parts"
)]
fn part_of(place: f64, parts: usize) -> usize {
    ((place.clamp(0.0, 1.0) * parts as f64) as usize).min(parts - 1)
}

/// Returns the highest value of each part of the time; `None` where a part has none.
fn highest_by_part(places: &[f64], values: &[Option<f64>], parts: usize) -> Vec<Option<f64>> {
    let mut highest: Vec<Option<f64>> = vec![None; parts];
    for (place, value) in places.iter().zip(values) {
        if *place < 0.0 {
            continue;
        }
        if let Some(value) = value {
            let found = &mut highest[part_of(*place, parts)];
            *found = Some(found.map_or(*value, |other| other.max(*value)));
        }
    }
    highest
}

/// Splits the parts into runs of points without a gap.
fn runs(parts: &[Option<f64>]) -> Vec<Vec<Point>> {
    let width = 1.0 / as_float(i64::try_from(parts.len()).unwrap_or(1));
    let mut runs = vec![Vec::new()];
    for (index, value) in parts.iter().enumerate() {
        match (value, runs.last_mut()) {
            (Some(value), Some(run)) => {
                let middle = as_float(i64::try_from(index).unwrap_or(0)) + 0.5;
                run.push((middle * width, *value));
            }
            (None, Some(run)) if !run.is_empty() => runs.push(Vec::new()),
            _ => {}
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

fn place((at, value): Point, top: f64) -> (f64, f64) {
    let height = if top > 0.0 { value / top } else { 0.0 };
    (at * WIDTH, 1.0 + (1.0 - height) * (HEIGHT - 2.0))
}

/// The path of a line; a run of one point is a dot, drawn by the round ends of the line.
fn line(runs: &[Vec<Point>], top: f64) -> String {
    let mut path = String::new();
    for run in runs {
        for (index, point) in run.iter().enumerate() {
            let (x, y) = place(*point, top);
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
        }
        if run.len() == 1 {
            path.push_str("h.01");
        }
    }
    path
}

/// The path of what is below a line.
fn area(runs: &[Vec<Point>], top: f64) -> String {
    let mut path = String::new();
    for run in runs {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let _ = write!(path, "M{:.1} {HEIGHT}", place(*first, top).0);
        for point in run {
            let (x, y) = place(*point, top);
            let _ = write!(path, "L{x:.1} {y:.1}");
        }
        let _ = write!(path, "L{:.1} {HEIGHT}Z", place(*last, top).0);
    }
    path
}

/// Returns the lowest of 1, 2, 5, 10, 20 .. that is not below a value.
fn ceiling(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= value * (1.0 - 1e-9));
    step.unwrap_or(10.0) * power
}

/// Writes a number with as many digits as a reader compares.
fn number(value: f64) -> String {
    if value == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else {
        let digits = if value >= 10.0 { 1 } else { 2 };
        let text = format!("{value:.digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "counts of connections and parts are small")]
const fn as_float(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
