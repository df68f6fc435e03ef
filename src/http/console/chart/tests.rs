use super::*;
use crate::telemetry::Metrics;

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds)
}

/// Measurements of which one series has these values, ten seconds apart.
fn measured(name: &str, values: &[Option<f64>]) -> Measurements {
    let mut measured = Metrics::default().measurements();
    measured.connections_max = 20;
    measured.times = (0..).map(|tens| at(tens * 10)).take(values.len()).collect();
    for (series, of_series) in &mut measured.series {
        *of_series = if series.name == name { values.to_vec() } else { vec![None; values.len()] };
    }
    measured
}

fn requests(values: &[Option<f64>]) -> String {
    CHARTS[0].draw(&measured("requests_succeeded", values))
}

#[test]
fn every_series_is_drawn_once() {
    let drawn: Vec<_> =
        CHARTS.iter().flat_map(|chart| chart.lines).map(|(name, _)| *name).collect();
    let mut names: Vec<_> =
        Metrics::default().measurements().series.iter().map(|(series, _)| series.name).collect();
    let mut sorted = drawn.clone();
    sorted.sort_unstable();
    names.sort_unstable();
    assert_eq!(sorted, names);
}

#[test]
fn a_chart_says_its_lowest_highest_and_present_value() {
    let html = requests(&[Some(3.0), Some(0.25), Some(12.0), Some(4.5)]);
    let sentence = "Requests in the last hour. succeeded: lowest 0.25 /s, highest 12 /s, now 4.5 /s. \
                    refused: nothing was measured. failed: nothing was measured.";
    assert!(html.contains(&format!("role=\"img\" aria-label=\"{sentence}\"")), "{html}");
    assert!(html.contains("top 20 /s"), "{html}");
}

#[test]
fn a_gap_ends_a_line_and_a_single_point_is_a_dot() {
    let parts = [Some(1.0), Some(2.0), None, Some(3.0)];
    let runs = runs(&parts);
    assert_eq!(runs, [vec![(0.125, 1.0), (0.375, 2.0)], vec![(0.875, 3.0)]]);
    let path = line(&runs, 4.0);
    assert_eq!(path, "M45.0 44.5L135.0 30.0M315.0 15.5h.01");
    assert!(area(&runs, 4.0).starts_with("M45.0 60L45.0 44.5L135.0 30.0L135.0 60Z"));
}

#[test]
fn a_young_process_is_drawn_at_the_end_of_ten_minutes() {
    let html = requests(&[Some(1.0), Some(1.0)]);
    assert!(html.contains("class=\"line s1\" d=\"M35") && html.contains("10 min ago"), "{html}");
}

#[test]
fn measurements_every_ten_seconds_make_a_line_without_gaps() {
    for count in [2, 30, 70, 360] {
        let html = requests(&vec![Some(1.0); count]);
        let path = html.split("line s1\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(path.matches('M').count(), 1, "{count}: {path}");
    }
}

#[test]
fn an_hour_has_at_most_as_many_points_as_pixels_and_twelve_rows() {
    let values: Vec<_> = (0..360).map(|index| Some(as_float(index))).collect();
    let html = requests(&values);
    let path = html.split("line s1\" d=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(path.matches('L').count() < POINTS, "{path}");
    assert_eq!(html.matches("<tr>").count(), 13, "{html}");
    assert!(html.len() < 6000, "{} bytes", html.len());
}

#[test]
fn nothing_measured_is_said_and_not_drawn() {
    let html = requests(&[]);
    assert!(html.contains("The first measurement comes in ten seconds."), "{html}");
    assert!(!html.contains("<svg"), "{html}");
}

#[test]
fn connections_are_drawn_against_their_budget() {
    let html = CHARTS[2].draw(&measured("connections_in_use", &[Some(5.0), Some(10.0)]));
    assert!(html.contains("top 20<") && html.contains("355.5 30.0h"), "{html}");
}

#[test]
fn no_style_and_no_script_is_written() {
    let html = draw_all(&measured("duration_p95", &[Some(5.0), None, Some(7.0)]));
    for forbidden in ["style", "script", " on", "NaN", "inf"] {
        assert!(!html.contains(forbidden), "{forbidden} in {html}");
    }
    assert_eq!(html.matches("<figure").count(), html.matches("</figure>").count());
}

#[test]
fn numbers_have_the_digits_that_a_reader_compares() {
    for (value, text) in
        [(0.0, "0"), (0.004, "0"), (0.25, "0.25"), (3.0, "3"), (12.34, "12.3"), (100.6, "101")]
    {
        assert_eq!(number(value), text);
    }
    for (value, top) in [(0.0, 1.0), (0.3, 0.5), (1.0, 1.0), (7.0, 10.0), (101.0, 200.0)] {
        assert!((ceiling(value) - top).abs() < 1e-9, "{value}");
    }
}
