//! The precedence of sources, the settings that are refused by name, and the secrets that are never printed.

use super::unknown::variable_of;
use super::*;
use crate::pg::rules::Isolation;

fn load(toml: &str, values: &[(&'static str, &str)]) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rowhouse.toml");
    std::fs::write(&file, toml).unwrap();
    let values = values.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    // Whatever the caller's environment holds, such as ROWHOUSE_LISTEN for the server that the caller runs.
    Settings::load_with(
        &Overrides { file: Some(file), values, own: Own::default() },
        config::Map::new(),
    )
}

#[test]
fn the_defaults_are_valid() {
    let settings = load("", &[]).unwrap();
    assert_eq!(settings.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(settings.database.isolation, None);
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
    let problems =
        unknown_variables(given.iter().map(|name| (*name).to_owned()), &Own::default()).join("\n");
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
        "ROWHOUSE_TENANT_ADMIN_PASSWORD_FILE",
        "ROWHOUSE_SERVER",
        "ROWHOUSE_TOKEN_FILE",
        "ROWHOUSE_FAULTS",
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
    assert_eq!(unknown_variables(all, &Own::default()), Vec::<String>::new());
}

/// The settings that hold a secret, with a valid value of each.
const SECRETS: &[(&str, &str)] = &[
    ("root_token", "f47ac10b-58cc-4372-a567-0e02b2c3d479"),
    ("root_token_previous", "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f"),
    ("admin_password", "hunter22-of-the-admin"),
    ("secret_key", "hunter22-hunter22-hunter22-hunter22"),
    ("database.url", "postgres://u:hunter22@h/d"),
    ("database.runtime_url", "postgres://r:hunter22@h/d"),
];

fn secret_of(settings: &Settings, key: &str) -> Option<String> {
    let secret = match key {
        "root_token" => &settings.root_token,
        "root_token_previous" => &settings.root_token_previous,
        "secret_key" => &settings.secret_key,
        "database.url" => &settings.database.url,
        "database.runtime_url" => &settings.database.runtime_url,
        _ => {
            return settings
                .admin
                .as_ref()
                .map(|admin| admin.password.as_password().expose().to_owned());
        }
    };
    secret.as_ref().map(|secret| secret.expose_secret().to_owned())
}

fn load_values(values: &[(&'static str, &str)]) -> Result<Settings, SettingsError> {
    let email = ("admin_email", "a@b.co".to_owned());
    let values = values.iter().map(|(key, value)| (*key, (*value).to_owned()));
    Settings::from_values(&values.chain([email]).collect::<Vec<_>>())
}

#[test]
fn every_secret_setting_can_be_given_as_a_file_and_not_as_both() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret").display().to_string();
    let password = ("admin_password", "hunter22-of-the-admin");
    for (key, value) in SECRETS {
        let file_key = KEYS.iter().find(|(known, ..)| *known == format!("{key}_file"));
        let (file_key, ..) = file_key.unwrap_or_else(|| panic!("{key} has no twin"));
        let mut given = vec![(*file_key, file.as_str())];
        given.extend((*key != "admin_password").then_some(password));
        std::fs::write(&file, format!("{value}\n")).unwrap();
        let settings = load_values(&given).unwrap();
        assert_eq!(secret_of(&settings, key).as_deref(), Some(*value), "{key}");

        std::fs::write(&file, "").unwrap();
        let empty = load_values(&given).unwrap_err().to_string();
        let name = variable_of(file_key);
        assert!(empty.contains(&format!("{name}: {file} is empty")), "{empty}");

        given.push((*key, *value));
        let both = load_values(&given).unwrap_err().to_string();
        assert!(both.contains(&format!("{key} and {file_key}: both are given")), "{both}");
        assert!(!both.contains("hunter22"), "{both}");
    }
}

#[test]
fn a_secret_on_the_command_line_overrides_a_file_of_the_same_setting() {
    let toml = "[database]\nurl_file = '/missing'";
    let settings = load(toml, &[("database.url", "postgres://h/d")]).unwrap();
    assert_eq!(settings.database_url(), Some("postgres://h/d"));
    assert!(load(toml, &[]).unwrap_err().to_string().contains("ROWHOUSE_DATABASE__URL_FILE"));
}

#[test]
fn a_setting_whose_name_says_that_it_is_a_secret_has_a_twin_with_a_file() {
    // It is a command, which prints the token.
    let not_secret = ["root_token_command"];
    for (key, ..) in KEYS {
        let last = key.rsplit('.').next().unwrap();
        let words: Vec<_> = last.split('_').collect();
        let secret = ["token", "password", "secret", "url"].iter().any(|word| words.contains(word))
            && !key.starts_with("limits.")
            && !not_secret.contains(key);
        let listed =
            SECRETS.iter().any(|(known, _)| known == key || *key == format!("{known}_file"));
        assert_eq!(secret, listed, "{key}");
    }
}

#[test]
fn a_short_secret_key_is_refused_and_not_printed() {
    let error = load_values(&[("secret_key", "hunter22")]).unwrap_err().to_string();
    assert!(error.contains("secret_key: must have at least 32 characters"), "{error}");
    assert!(!error.contains("hunter22"), "{error}");
}

#[test]
fn secrets_are_not_printed() {
    let settings = load(
        "root_token = 'f47ac10b-58cc-4372-a567-0e02b2c3d479'\nsecret_key = \
         'hunter22-hunter22-hunter22-hunter22'\n[database]\nurl = 'postgres://u:hunter22@h/d'",
        &[("admin_email", "a@b.co"), ("admin_password", "long-hunter22")],
    )
    .unwrap();
    let printed = format!("{settings:?}");
    assert!(!printed.contains("hunter22") && !printed.contains("f47ac10b"), "{printed}");
}

#[test]
fn the_settings_in_force_are_listed_without_secrets() {
    let others = [
        ("root_token_command", "vault read hunter22"),
        ("log.filter", "debug"),
        ("fleet.workers", "3"),
        ("root_token_previous", "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f"),
    ];
    let secrets = SECRETS.iter().filter(|(key, _)| *key != "root_token_previous").copied();
    let settings = load_values(&secrets.chain(others).collect::<Vec<_>>()).unwrap();
    let of = |key: &str| settings.in_force.iter().find(|setting| setting.key == key).unwrap();
    for (key, _) in SECRETS.iter().chain([&("root_token_command", "")]) {
        assert!(of(key).is_hidden && of(key).value.is_none(), "{key}");
    }
    for (key, value, default) in [
        ("log.filter", Some("debug"), of("log.filter").default),
        ("fleet.workers", Some("3"), of("fleet.workers").default),
        ("listen", Some("127.0.0.1:8080"), "127.0.0.1:8080"),
        ("base_domain", Some("localhost"), "localhost"),
        ("server_hosts", None, ""),
    ] {
        assert_eq!((of(key).value.as_deref(), of(key).default), (value, default), "{key}");
    }
    assert_eq!(settings.in_force.len(), KEYS.len());
    let text = format!("{:?}", settings.in_force);
    assert!(SECRETS.iter().all(|(_, value)| !text.contains(value)), "{text}");
    assert!(!text.contains("hunter22"), "{text}");
}

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(default)]
struct App {
    page_size: u32,
    motto: String,
}

impl Default for App {
    fn default() -> Self {
        Self { page_size: 20, motto: String::new() }
    }
}

/// Loads settings of an application with a section `app` and a permission.
fn load_own(toml: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rowhouse.toml");
    std::fs::write(&file, toml).unwrap();
    let own = Own { sections: vec!["app"], permissions: vec!["NOTES_WRITE"] };
    let pairs = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let overrides = Overrides { file: Some(file), values: Vec::new(), own };
    Settings::load_with(&overrides, pairs.collect())
}

#[test]
fn a_section_of_an_application_is_read_from_the_file_and_the_environment() {
    let settings = load_own("[app]\nmotto = 'x'\npage_size = 3", &[("APP__PAGE_SIZE", "7")]);
    let own = settings.unwrap().own;
    assert_eq!(own.read::<App>("app").unwrap(), App { page_size: 7, motto: "x".to_owned() });
    let own = load_own("", &[]).unwrap().own;
    assert_eq!(own.read::<App>("app").unwrap(), App::default());
}

#[test]
fn a_misspelt_setting_of_an_application_is_named() {
    let own = load_own("[app]\npage_sise = 3", &[("APP__MOTO", "x")]).unwrap().own;
    let error = own.read::<App>("app").unwrap_err().to_string();
    assert!(error.contains("app.page_sise: no such setting"), "{error}");
    assert!(error.contains("app.moto: no such setting"), "{error}");
    let own = load_own("[app]\npage_size = 'many'", &[]).unwrap().own;
    assert!(own.read::<App>("app").unwrap_err().to_string().contains("app:"));
    // A section that the application does not have is unknown, as without one.
    let error = load_own("[apq]\npage_size = 3", &[]).unwrap_err().to_string();
    assert!(error.contains("apq.page_size: no such setting"), "{error}");
}

#[test]
fn the_settings_name_the_role_of_a_permission_of_an_application() {
    let roles = |toml: &str, environment: &[(&str, &str)]| {
        load_own(toml, environment)?.own.roles(&["NOTES_WRITE"])
    };
    let of = |role| vec![("NOTES_WRITE", role)];
    assert_eq!(roles("", &[]).unwrap(), of(crate::domain::Role::Admin));
    let toml = "[permissions]\nnotes_write = 'FDE'";
    assert_eq!(roles(toml, &[]).unwrap(), of(crate::domain::Role::Fde));
    let variable = ("ROWHOUSE_PERMISSIONS__NOTES_WRITE", "viewer");
    assert_eq!(roles(toml, &[variable]).unwrap(), of(crate::domain::Role::Viewer));
    for (toml, words) in [
        ("[permissions]\nnotes_write = 'KING'", "permissions.NOTES_WRITE"),
        ("[permissions]\nnotes_wright = 'FDE'", "permissions.notes_wright: no such setting"),
    ] {
        let error = roles(toml, &[]).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_values_of_an_application_are_not_printed() {
    let settings = load_own("[app]\nmotto = 'a secret'", &[]).unwrap();
    assert!(!format!("{settings:?}").contains("a secret"));
}

#[test]
fn the_isolation_is_one_of_its_words_and_the_engine_cannot_be_any() {
    let isolation = |value| load("", &[("database.isolation", value)]);
    assert_eq!(isolation("search_path").unwrap().database.isolation, Some(Isolation::SearchPath));
    let refused = isolation("schema").unwrap_err().to_string();
    assert!(
        refused.contains("database.isolation: \"schema\" is not one of role, search_path"),
        "{refused}"
    );
    let forced = load("[database]\nengine = \"citus\"", &[]).unwrap();
    assert_eq!(forced.database.forced_engine, Some(ForcedEngine::Citus));
    let refused = load("[database]\nengine = \"spqr\"", &[]).unwrap_err().to_string();
    assert!(refused.contains("database.engine: \"spqr\" is not one of citus"), "{refused}");
}
