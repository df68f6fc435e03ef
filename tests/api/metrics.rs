//! The metrics as Prometheus wants them: names, types, the two text forms, and what they tell.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::json;

use crate::support::callers::send;
use crate::support::{Answer, TestApp};

/// Reads the metrics as a client that accepts these media types.
async fn accepting(app: &TestApp, accept: &str) -> Answer {
    let request = app.anonymous().request(Method::GET, "/metrics").header("accept", accept);
    send(request).await
}

/// Returns the value of a series.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("{series} is not in\n{metrics}"));
    value.parse().unwrap_or_else(|error| panic!("{series} is {value}: {error}"))
}

/// A server that has done a little of everything, so that most series are there.
async fn used_server() -> TestApp {
    let app = TestApp::builder().with("tenants.vacancies", "1").spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    admin.get("/api/tenant").await;
    app.anonymous().get("/api/tenant").await;
    app.anonymous().get("/nowhere").await;
    app
}

/// The metrics of a text in Prometheus' text format: for each its type and its lines.
fn parsed(metrics: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut found: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut current = String::new();
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a metric has a help text");
            assert!(help.len() > 5, "{line}");
            assert!(helped.insert(name.to_owned()), "{name} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a metric has a type");
            assert!(helped.contains(name), "{name} has no help text before its type");
            name.clone_into(&mut current);
            assert!(found.insert(current.clone(), (kind.to_owned(), Vec::new())).is_none());
        } else {
            assert!(
                !line.starts_with('#') && !line.is_empty(),
                "{line:?} is no line of the format"
            );
            let name = line.split(['{', ' ']).next().expect("a line has a name");
            let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|s| name.strip_suffix(s));
            let (kind, lines) = found.get_mut(&current).expect("a type comes first");
            let is_histogram = kind == "histogram" && base == Some(current.as_str());
            assert!(is_histogram || name == current, "{line} is below {current}");
            lines.push(line.to_owned());
        }
    }
    found
}

#[tokio::test]
async fn every_counter_ends_in_total_and_no_limit_is_a_state() {
    let app = used_server().await;
    let metrics = app.anonymous().get("/metrics").await.text;
    let found = parsed(&metrics);
    assert!(found.len() > 25, "{:?}", found.keys());
    for (name, (kind, lines)) in &found {
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name} is a {kind}");
        assert!(!lines.is_empty(), "{name} has no series");
        for limit in ["budget", "wanted", "max", "limit"] {
            let state = format!("state=\"{limit}\"");
            assert!(!lines.iter().any(|line| line.contains(&state)), "{lines:?}");
        }
    }
    let max = |purpose: &str| {
        value(&metrics, &format!("rowhouse_db_connections_max{{purpose=\"{purpose}\"}}"))
    };
    assert!(max("control") >= 1.0 && max("runtime") >= 1.0);
    assert!((value(&metrics, "rowhouse_vacancies_wanted") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn the_text_format_is_answered_unless_openmetrics_is_asked_for() {
    let app = TestApp::spawn().await;
    let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    for (accept, media, ends) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", false),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8", false),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8", false),
        (prometheus, "application/openmetrics-text; version=1.0.0; charset=utf-8", true),
    ] {
        let answer = accepting(&app, accept).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(media)), "{accept}");
        assert_eq!(answer.text.ends_with("# EOF\n"), ends, "{accept}");
        let kind = if ends {
            "# TYPE http_requests counter"
        } else {
            "# TYPE http_requests_total counter"
        };
        let answer = accepting(&app, accept).await;
        assert!(answer.text.contains(kind), "{accept}: {}", answer.text);
    }
}

#[tokio::test]
async fn durations_are_told_by_method_route_and_class_up_to_the_time_limit() {
    let app = TestApp::builder().with("http.request_timeout", "7s").spawn().await;
    app.root().get("/api/tenant").await;
    app.anonymous().get("/api/tenant").await;
    let metrics = app.anonymous().get("/metrics").await.text;
    let of = |suffix: &str, class: &str, more: &str| {
        let labels = format!("method=\"GET\",route=\"/api/tenant\",status_class=\"{class}\"{more}");
        let name = format!("http_request_duration_seconds{suffix}");
        let line = metrics.lines().find(|line| {
            line.starts_with(&name) && labels.split(',').all(|label| line.contains(label))
        });
        let line = line.unwrap_or_else(|| panic!("{name} {labels} is not in\n{metrics}"));
        line.rsplit(' ').next().expect("a line has a value").parse::<f64>().expect("a number")
    };
    for class in ["2xx", "4xx"] {
        assert!((of("_count", class, "") - 1.0).abs() < f64::EPSILON);
        assert!(of("_sum", class, "") > 0.0);
        for bound in ["le=\"7.0\"", "le=\"+Inf\""] {
            let count = of("_bucket", class, &format!(",{bound}"));
            assert!((count - 1.0).abs() < f64::EPSILON, "{class} {bound}: {count}");
        }
    }
    assert!(!metrics.contains("le=\"10.0\",") && !metrics.contains("le=\"30.0\""), "{metrics}");
}

#[tokio::test]
async fn tenants_are_counted_by_status_and_by_whether_they_are_behind() {
    let app = TestApp::spawn().await;
    let mut ids = Vec::new();
    for slug in ["one", "two", "three", "four"] {
        ids.push(app.set_up(slug).await.id);
    }
    let suspend = format!("/control/v1/tenants/{}/suspend", ids[0]);
    let suspended = app.root().request(Method::POST, &suspend).header("if-match", "*");
    assert_eq!(send(suspended).await.status, 200);
    // One behind, one ahead of this program, and one behind that is being deleted.
    let sql = app.sql().await;
    for (id, change) in [
        (ids[1], "migrations_version = 0, migrations_fingerprint = 'older'"),
        (ids[2], "migrations_version = 999, migrations_fingerprint = 'newer'"),
        (
            ids[3],
            "migrations_version = 0, migrations_fingerprint = 'older', status = 'deleting', purge_after = '2999-01-01'",
        ),
    ] {
        let update = format!("UPDATE tenants SET {change} WHERE id = $1");
        assert_eq!(sql.execute(&update, &[&id]).await.unwrap(), 1);
    }
    let metrics = app.anonymous().get("/metrics").await.text;
    let counts = ["active", "suspended", "deleting"]
        .map(|status| value(&metrics, &format!("rowhouse_tenants{{status=\"{status}\"}}")));
    assert_eq!(counts.map(|count| count.to_string()), ["2", "1", "1"]);
    assert!((value(&metrics, "rowhouse_tenants_behind") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn the_program_and_what_its_process_uses_are_among_the_metrics() {
    let app = TestApp::spawn().await;
    let metrics = app.anonymous().get("/metrics").await.text;
    let build = format!("rowhouse_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert!((value(&metrics, &build) - 1.0).abs() < f64::EPSILON);
    #[cfg(target_os = "linux")]
    {
        let at_least = |series: &str, least: f64| {
            let found = value(&metrics, series);
            assert!(found >= least, "{series} is {found}");
        };
        at_least("process_cpu_seconds_total", 0.01);
        at_least("process_resident_memory_bytes", 1e6);
        at_least("process_virtual_memory_bytes", value(&metrics, "process_resident_memory_bytes"));
        at_least("process_open_fds", 3.0);
        at_least("process_max_fds", value(&metrics, "process_open_fds"));
        at_least("process_threads", 1.0);
    }
}

/// Runs promtool, if the variable `PROMTOOL` names it; returns whether it did. `make test-deploy` and CI set it.
pub(crate) fn promtool(arguments: &[&str], stdin: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "a setting of the test suite")]
    let Ok(program) = std::env::var("PROMTOOL") else { return false };
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut pipe = child.stdin.take().expect("stdin is piped");
    pipe.write_all(stdin.as_bytes()).expect("promtool reads its input");
    drop(pipe);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "promtool {}: {said}", arguments.join(" "));
    true
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let app = used_server().await;
    let metrics = app.anonymous().get("/metrics").await.text;
    // Without promtool, the rules that it checks most are checked above.
    if promtool(&["check", "metrics"], &metrics) {
        return;
    }
    assert!(!parsed(&metrics).is_empty());
}

#[tokio::test]
async fn a_server_names_all_its_metrics_also_those_without_a_series() {
    let app = used_server().await;
    app.root().post("/control/v1/migrations", &json!({})).await;
    let metrics = app.anonymous().get("/metrics").await.text;
    let names = rowhouse::telemetry::Metrics::default();
    let names: BTreeSet<_> = names.names().iter().map(String::as_str).collect();
    for name in parsed(&metrics).keys() {
        assert!(names.contains(name.as_str()), "{name} is not among {names:?}");
    }
}
