//! What is in `deploy/`: alert rules and the dashboard name only series and labels that exist, each alert has its section in
//! the runbook, and the linters that can be had find nothing. `make test-deploy` brings the linters.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use rowhouse::telemetry::Metrics;
use serde_json::Value;

use crate::metrics::promtool;
use crate::support::markdown::{Page, root};
use crate::support::{PASSWORD, Program, TestApp};

const RULES: &str = "deploy/prometheus/rules.yml";
const DASHBOARD: &str = "deploy/grafana/rowhouse.json";
const UNIT: &str = "deploy/systemd/rowhouse.service";

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the expressions of the alert rules, by alert.
fn alerts() -> BTreeMap<String, String> {
    let text = read(RULES);
    let mut found = BTreeMap::new();
    for rule in text.split("- alert: ").skip(1) {
        let (name, rest) = rule.split_once('\n').expect("a rule has lines");
        let (_, expression) = rest.split_once("expr: ").expect("a rule has an expression");
        // A folded one ends where the next key begins.
        let end =
            ["\n        for: ", "\n        labels: "].iter().filter_map(|key| expression.find(key));
        let expression = &expression[..end.min().expect("labels come after it")];
        found.insert(name.trim().to_owned(), expression.trim_start_matches('|').trim().to_owned());
    }
    found
}

/// Returns the expressions of the dashboard's panels, by title.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON");
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().expect("it has panels") {
        let title = panel["title"].as_str().expect("a panel has a title");
        for target in panel["targets"].as_array().expect("a panel has targets") {
            let expression = target["expr"].as_str().expect("a target has an expression");
            found.push((title.to_owned(), expression.to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("it has variables") {
        if let Some(query) = variable["query"]["query"].as_str() {
            found.push(("a variable".to_owned(), query.to_owned()));
        }
    }
    found
}

/// The names of series in an expression, each with the labels that select among them, and their values that are compared
/// for equality.
fn selectors(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        let from = &rest[start..];
        let end = from.find(|c| !in_name(c)).unwrap_or(from.len());
        let (name, after) = from.split_at(end);
        let mut labels = Vec::new();
        rest = after;
        if let Some(inside) = after.strip_prefix('{') {
            let (inside, beyond) = inside.split_once('}').expect("a selector ends");
            for matcher in inside.split(',').map(str::trim).filter(|text| !text.is_empty()) {
                let at = matcher.find(['=', '!']).expect("a matcher has an operator");
                let (label, value) = matcher.split_at(at);
                let value = value.trim_start_matches(['=', '!', '~']).trim_matches('"');
                labels.push((label.trim().to_owned(), value.to_owned()));
            }
            rest = beyond;
        }
        if ["rowhouse_", "http_", "process_"].iter().any(|start| name.starts_with(start)) {
            found.push((name.to_owned(), labels));
        }
    }
    found
}

/// Returns the labels that series have, by the name of the series, as a server that has done a little answers them.
async fn labels_of_series() -> BTreeMap<String, BTreeSet<(String, String)>> {
    let app = TestApp::builder()
        .with("tenants.vacancies", "1")
        .with("limits.login_pair", "1/1")
        .spawn()
        .await;
    app.set_up("acme").await;
    let login = serde_json::json!({ "identifier": "x@example.com", "password": PASSWORD });
    for _ in 0..3 {
        app.anonymous().post("/api/auth/login", &login).await;
    }
    app.services.vacancies.status(&app.operator()).await.expect("the vacancies can be counted");
    let metrics = app.anonymous().get("/metrics").await.text;
    let mut found: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a line has a name");
        let labels = found.entry(name.to_owned()).or_default();
        let inside = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
        for label in inside.map(|(inside, _)| inside).into_iter().flat_map(|all| all.split("\",")) {
            let (label, value) = label.split_once("=\"").expect("a label has a value");
            labels.insert((label.to_owned(), value.trim_matches('"').to_owned()));
        }
    }
    found
}

/// The labels that Prometheus adds, or that a metric's own label `job` becomes.
const ADDED: [&str; 3] = ["job", "instance", "exported_job"];

#[tokio::test]
async fn the_alert_rules_and_the_dashboard_name_only_series_and_labels_that_exist() {
    let metrics = Metrics::default();
    let known: BTreeSet<&str> = metrics.names().iter().map(String::as_str).collect();
    let series = labels_of_series().await;
    let all = alerts().into_iter().chain(panels());
    let mut named = BTreeSet::new();
    for (wherefrom, expression) in all {
        for (name, labels) in selectors(&expression) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_known =
                known.contains(name.as_str()) || base.is_some_and(|base| known.contains(base));
            assert!(is_known, "{wherefrom}: there is no series {name}");
            let found = series
                .get(&name)
                .unwrap_or_else(|| panic!("{wherefrom}: no series {name} was seen"));
            for (label, value) in
                labels.iter().filter(|(label, _)| !ADDED.contains(&label.as_str()))
            {
                let values: Vec<_> = found.iter().filter(|(known, _)| known == label).collect();
                assert!(!values.is_empty(), "{wherefrom}: {name} has no label {label}: {found:?}");
                // What is compared with a state must be one; statuses, routes and outcomes come with time.
                if ["state", "holding", "purpose"].contains(&label.as_str()) {
                    assert!(
                        values.iter().any(|(_, known)| known == value),
                        "{wherefrom}: {name}: {value}"
                    );
                }
            }
            named.insert(name);
        }
    }
    assert!(named.len() > 20, "{named:?}");
}

#[test]
fn each_alert_has_a_section_in_the_runbook_and_names_it() {
    let runbook = Page::read("docs/runbook.md");
    let anchors = runbook.anchors();
    let text = read(RULES);
    let alerts = alerts();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for name in alerts.keys() {
        let anchor = name.to_lowercase();
        assert!(anchors.contains(&anchor), "docs/runbook.md has no section {name}");
        assert!(text.contains(&format!("runbook: docs/runbook.md#{anchor}")), "{name}");
    }
    let sections = runbook.text.lines().filter_map(|line| line.strip_prefix("## Rowhouse"));
    for section in sections {
        assert!(
            alerts.contains_key(&format!("Rowhouse{section}")),
            "there is no alert Rowhouse{section}"
        );
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_the_rules_and_the_expressions_of_the_dashboard() {
    let rules = root().join(RULES).display().to_string();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("dashboard.yml");
    let mut text = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    let panels = panels();
    let expressions = panels.iter().filter(|(title, _)| title != "a variable");
    for (number, (_, expression)) in expressions.enumerate() {
        let expression = expression.replace("$__rate_interval", "5m").replace('\'', "''");
        text.extend([
            &format!("      - record: panel_{number}\n        expr: '{expression}'\n") as &str
        ]);
    }
    std::fs::write(&file, &text).expect("a file can be written");
    let checked = promtool(&["check", "rules", &rules], "")
        && promtool(&["check", "rules", &file.display().to_string()], "");
    // Where promtool cannot be had, brackets at least are balanced.
    for (title, expression) in alerts().into_iter().chain(panels).filter(|_| !checked) {
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            let count = |bracket: char| expression.matches(bracket).count();
            assert_eq!(count(open), count(close), "{title}: {expression}");
        }
    }
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let unit = read(UNIT);
    let program = env!("CARGO_BIN_EXE_rowhouse");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("rowhouse.service");
    std::fs::write(&file, unit.replace("/usr/local/bin/rowhouse", program))
        .expect("a file can be written");
    // The time to stop is longer than what the settings beside it may take.
    assert!(
        unit.contains("\nTimeoutStopSec=20s\n")
            && unit.contains("ExecReload=/bin/kill -HUP $MAINPID")
    );
    match Command::new("systemd-analyze").arg("verify").arg(&file).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains("rowhouse.service"), "{said}");
        }
        // Systems without it have no unit either.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
}

#[test]
fn what_is_deployed_sets_only_settings_that_exist_and_waits_long_enough_for_a_stop() {
    let config = read("deploy/kubernetes/config.yaml");
    let (_, toml) = config.split_once("rowhouse.toml: |\n").expect("the settings are in it");
    let toml: String = toml.lines().flat_map(|line| [line.trim_start(), "\n"]).collect();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("rowhouse.toml");
    std::fs::write(&file, toml).expect("a file can be written");
    // No server listens there, which is told only where the settings are valid.
    let file = file.display().to_string();
    let program = Program::embedded().with("ROWHOUSE_LISTEN", "127.0.0.1:1");
    program.run(&["--config", &file, "healthcheck"]).expect(1);
    let seconds = |key: &str| -> u64 {
        let value =
            config.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(" = \""));
        value
            .and_then(|text| text.strip_suffix("s\"")?.parse().ok())
            .expect("it is set, in seconds")
    };
    let (drain, shutdown) = (seconds("drain_delay"), seconds("shutdown_timeout"));
    let server = read("deploy/kubernetes/server.yaml");
    let grace =
        server.lines().find_map(|line| line.trim().strip_prefix("terminationGracePeriodSeconds: "));
    let grace: u64 = grace.and_then(|text| text.parse().ok()).expect("there is a grace period");
    assert!(drain + shutdown + 2 <= grace, "{drain} s, {shutdown} s, and {grace} s for both");
    // A load balancer notices in time: two probes that fail.
    assert!(server.contains("periodSeconds: 2") && drain >= 6);
    // Every variable is one that the program knows; an unknown one would keep it from starting.
    let keys: BTreeSet<String> = rowhouse::config::KEYS
        .iter()
        .map(|(key, ..)| format!("ROWHOUSE_{}", key.replace('.', "__").to_uppercase()))
        .collect();
    for path in [UNIT, "deploy/kubernetes/server.yaml", "deploy/kubernetes/migrate.yaml"] {
        for word in read(path).split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let is_variable = word.starts_with("ROWHOUSE_");
            assert!(!is_variable || keys.contains(word), "{path}: {word} is no setting");
        }
    }
}
