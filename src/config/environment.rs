//! Reads the environment: `ROWHOUSE_` variables, and `DATABASE_URL`.

use secrecy::SecretString;

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
    const NAME: &str = "ROWHOUSE_TENANT_ADMIN_PASSWORD";
    let file_name = format!("{NAME}_FILE");
    match (variable(NAME), variable(&file_name)) {
        (given, None) => Ok(given.map(SecretString::from)),
        (Some(_), Some(_)) => {
            Err(fail(format!("{NAME} and {file_name}: both are given; remove one")))
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
