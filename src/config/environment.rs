//! Reads the environment: `ROWHOUSE_` variables, and `DATABASE_URL`.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{SettingsError, fail, secret_file};

/// The source of `DATABASE_URL`, which other tools set too, and of its twin with a file; our own variables take
/// precedence.
pub(super) fn database_url(environment: &config::Map<String, String>) -> config::Environment {
    // With the whole environment as its source it would read every variable as a setting, such as LISTEN and DATA_DIR.
    let given = |name, key: &str| {
        let value = environment.get(name).filter(|value| !value.is_empty())?;
        Some((key.to_owned(), value.clone()))
    };
    let url = given("DATABASE_URL", "database.url");
    let file = given("DATABASE_URL_FILE", "database.url_file");
    config::Environment::default().source(Some(url.into_iter().chain(file).collect()))
}

/// Returns the password for the admin of `tenant create`, which must not be on a command line. It belongs to one command
/// and is not a setting.
///
/// # Errors
/// If its variable and that of its file are both set, or the file cannot be read.
pub fn tenant_admin_password() -> Result<Option<SecretString>, SettingsError> {
    variable_or_file("ROWHOUSE_TENANT_ADMIN_PASSWORD")
}

/// What the environment says of the server that a command works on. It belongs to commands and is no setting of a server.
#[derive(Debug, Default)]
pub struct ServerVariables {
    /// The address (`ROWHOUSE_SERVER`).
    pub server: Option<String>,
    /// The API token (`ROWHOUSE_TOKEN`).
    pub token: Option<SecretString>,
    /// The file of certificates (`ROWHOUSE_CA_FILE`).
    pub ca_file: Option<PathBuf>,
    /// The name of a variable that names a database, if one is set.
    pub database: Option<&'static str>,
}

/// Returns what the environment says of the server that a command works on.
///
/// # Errors
/// If a variable and that of its file are both set, or a file cannot be read.
pub fn server_variables() -> Result<ServerVariables, SettingsError> {
    let databases = [
        "DATABASE_URL",
        "DATABASE_URL_FILE",
        "ROWHOUSE_DATABASE__URL",
        "ROWHOUSE_DATABASE__URL_FILE",
    ];
    let server = variable_or_file("ROWHOUSE_SERVER")?;
    Ok(ServerVariables {
        server: server.map(|server| server.expose_secret().to_owned()),
        token: variable_or_file("ROWHOUSE_TOKEN")?,
        ca_file: variable("ROWHOUSE_CA_FILE").map(PathBuf::from),
        database: databases.into_iter().find(|name| variable(name).is_some()),
    })
}

/// Returns the token in the file that an argument names.
///
/// # Errors
/// If the file cannot be read, or is empty.
pub fn token_file(argument: &str, file: &Path) -> Result<SecretString, SettingsError> {
    secret_file::read(argument, &file.display().to_string()).map_err(fail)
}

/// Returns the value of a variable, or the text of the file that its twin with the suffix `_FILE` names.
fn variable_or_file(name: &str) -> Result<Option<SecretString>, SettingsError> {
    let file_name = format!("{name}_FILE");
    match (variable(name), variable(&file_name)) {
        (given, None) => Ok(given.map(SecretString::from)),
        (Some(_), Some(_)) => {
            Err(fail(format!("{name} and {file_name}: both are given; remove one")))
        }
        (None, Some(path)) => secret_file::read(&file_name, &path).map(Some).map_err(fail),
    }
}

/// Returns the variables of the environment.
///
/// # Errors
/// If one of ours is not valid UTF-8. Others are left out.
pub(super) fn environment() -> Result<config::Map<String, String>, SettingsError> {
    let mut variables = config::Map::new();
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => {
                variables.insert(name, value);
            }
            (Ok(name), Err(_)) if name.to_ascii_uppercase().starts_with("ROWHOUSE_") => {
                return Err(fail(format!("{name}: not valid UTF-8")));
            }
            (_, _) => {}
        }
    }
    Ok(variables)
}

#[expect(clippy::disallowed_methods, reason = "this is the file that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
