//! The precedence of sources, the settings that are refused by name, and the secrets that are never printed.

use super::unknown::variable_of;
use super::*;
use crate::pg::rules::Isolation;

fn load(toml: &str, values: &[(&'static str, &str)]) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rowhouse.toml");
    std::fs::write(&file, toml).unwrap();
    let values = values.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    Settings::load(&Overrides { file: Some(file), values })
}

#[test]
fn the_defaults_are_valid() {
    let settings = load("", &[]).unwrap();
    assert_eq!(settings.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(settings.database.isolation, Isolation::Role);
    assert_eq!(settings.database.statements, CachedStatements::Auto);
    assert_eq!(settings.auth.access_lifetime, Duration::from_mins(15));
    assert!(!settings.auth.cookie_secure);
}

#[test]
fn a_setting_that_can_be_switched_off_is_switched_off_only_by_zero() {
    let interval = |value| {
        let settings = load("", &[("fleet.take_up_interval", value)])?;
        Ok::<_, SettingsError>(settings.fleet.take_up_interval)
    };
    assert_eq!(interval("2m").unwrap(), Some(Duration::from_mins(2)));
    for never in ["0", "0s"] {
        assert_eq!(interval(never).unwrap(), None);
    }
    for bad in ["never", "-1s", "30"] {
        let error = interval(bad).unwrap_err().to_string();
        assert!(error.contains("fleet.take_up_interval") && error.contains("or 0"), "{error}");
    }
    let settings = load("", &[]).unwrap();
    assert_eq!(settings.fleet.ledger_retention, Some(Duration::from_hours(24 * 90)));
}

#[test]
fn the_lifetimes_of_tokens_are_off_by_default_and_must_not_contradict_each_other() {
    let tokens = load("", &[]).unwrap().tokens;
    assert_eq!((tokens.max_lifetime, tokens.default_lifetime), (None, None));
    assert_eq!(tokens.rotation_overlap, Duration::from_hours(1));
    let tokens = load(
        "[tokens]\nmax_lifetime = '90d'\ndefault_lifetime = '30d'\nrotation_overlap = '0'",
        &[],
    );
    let tokens = tokens.unwrap().tokens;
    assert_eq!(tokens.max_lifetime, Some(Duration::from_hours(24 * 90)));
    assert_eq!(tokens.default_lifetime, Some(Duration::from_hours(24 * 30)));
    assert_eq!(tokens.rotation_overlap, Duration::ZERO);
    let bad = "[tokens]\nmax_lifetime = '30d'\ndefault_lifetime = '31d'\nrotation_overlap = '31d'";
    let error = load(bad, &[]).unwrap_err().to_string();
    assert!(error.contains("tokens.default_lifetime: longer than"), "{error}");
    assert!(error.contains("tokens.rotation_overlap: longer than 30d"), "{error}");
}

#[test]
fn a_flag_takes_precedence_over_the_file() {
    let settings = load("listen = '0.0.0.0:1'", &[("listen", "127.0.0.1:0")]).unwrap();
    assert_eq!(settings.listen.port(), 0);
    assert!(load("listen = '0.0.0.0:1'", &[]).unwrap().auth.cookie_secure);
}

#[test]
fn every_bad_value_is_reported_at_once() {
    let toml = "listen = 'here'\nlisten_to = 1\n[database]\nisolation = 'none'\nmax_connections = 3\n\
                [auth]\naccess_lifetime = 'soon'";
    let error = load(toml, &[("admin_email", "a@b.c")]).unwrap_err().to_string();
    for name in [
        "listen:",
        "listen_to:",
        "database.isolation",
        "database.max_connections",
        "auth.access_lifetime",
        "admin_password",
    ] {
        assert!(error.contains(name), "{name} is missing from {error}");
    }
}

#[test]
fn a_misspelt_variable_is_named_with_the_intended_one() {
    let given = [
        "ROWHOUSE_DATABASE_URL",
        "ROWHOUSE_LISTN",
        "rowhouse_auth__isuer",
        "ROWHOUSE_SOMETHING_ELSE_ALTOGETHER",
    ];
    let problems = unknown_variables(given.iter().map(|name| (*name).to_owned())).join("\n");
    for (name, meant) in [
        ("ROWHOUSE_DATABASE_URL", "did you mean ROWHOUSE_DATABASE__URL?"),
        ("ROWHOUSE_LISTN", "did you mean ROWHOUSE_LISTEN?"),
        ("rowhouse_auth__isuer", "did you mean ROWHOUSE_AUTH__ISSUER?"),
        ("ROWHOUSE_SOMETHING_ELSE_ALTOGETHER", "(environment)"),
    ] {
        let line = problems.lines().find(|line| line.starts_with(name));
        assert!(line.is_some_and(|line| line.ends_with(meant)), "{name} in {problems}");
    }
}

#[test]
fn settings_and_the_variables_of_other_programs_are_accepted() {
    let settings = KEYS.iter().map(|(key, ..)| variable_of(key));
    let others = [
        "ROWHOUSE_TENANT_ADMIN_PASSWORD",
        "ROWHOUSE_CRASH_SETUPS",
        "ROWHOUSE_TEST_PARENT_DIR",
        "ROWHOUSE_PORT",
        "ROWHOUSE_SERVICE_HOST",
        "ROWHOUSE_SERVICE_PORT",
        "ROWHOUSE_SERVICE_PORT_HTTP",
        "ROWHOUSE_PORT_8080_TCP",
        "ROWHOUSE_PORT_8080_TCP_ADDR",
        "ROWHOUSE_DB_SERVICE_HOST",
        "ROWHOUSE_DB_PORT_5432_TCP_PROTO",
        "rowhouse_listen",
        "ROWHOUSELISTEN",
        "DATABASE_URL",
        "PATH",
    ];
    let all = settings.chain(others.iter().map(|name| (*name).to_owned()));
    assert_eq!(unknown_variables(all), Vec::<String>::new());
}

#[test]
fn secrets_are_not_printed() {
    let settings = load(
        "root_token = 'f47ac10b-58cc-4372-a567-0e02b2c3d479'\n[database]\nurl = 'postgres://u:hunter22@h/d'",
        &[("admin_email", "a@b.co"), ("admin_password", "long-hunter22")],
    )
    .unwrap();
    let printed = format!("{settings:?}");
    assert!(!printed.contains("hunter22") && !printed.contains("f47ac10b"), "{printed}");
}
