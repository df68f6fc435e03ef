//! Owns the settings: their names, their sources, their valid values.
//!
//! A flag takes precedence over the environment, the environment over the file, the file over the default. In the
//! environment a setting is `ROWHOUSE_<SECTION>__<KEY>` (`ROWHOUSE_DATABASE__ISOLATION`), in the file
//! `rowhouse.toml` it is `key` under `[section]`. Every bad value, unknown key and unknown variable is reported at once,
//! and secrets print as `redacted`.
//!
//! To add a setting: a line in [`KEYS`] (`keys`), a field (`sections`), a line in [`Settings::read`] (`read`).

mod environment;
mod keys;
mod own;
mod read;
mod reader;
mod secret_file;
mod sections;
mod unknown;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use self::environment::{database_url, environment};
use self::reader::Reader;
use self::unknown::{unknown_keys, unknown_variables};
use crate::domain::names::Email;
use crate::http::host::ServerHosts;
use crate::http::limits;
use crate::pg::rules::Fairness;
use crate::service::overview::Setting;

pub use self::environment::{ServerVariables, server_variables, tenant_admin_password, token_file};
pub use self::keys::KEYS;
pub use self::own::{Own, OwnValues};
pub use self::sections::{
    AccessLog, Admin, Archives, Auth, CachedStatements, Console, Database, Fleet, ForcedEngine,
    Http, Log, Management, Slugs, Tenants, Tokens,
};
#[cfg(feature = "testing")]
pub(crate) use self::unknown::variable_of;

/// All settings, validated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// The folder of the embedded server and the generated secrets.
    pub data_dir: PathBuf,
    /// The root token as given.
    pub root_token: Option<SecretString>,
    /// The file that holds the root token, if it was given as one.
    pub root_token_file: Option<PathBuf>,
    /// The root token that is accepted beside it, as given.
    pub root_token_previous: Option<SecretString>,
    /// The secret that encrypts the signing keys.
    pub secret_key: Option<SecretString>,
    /// The shell command that prints the root token, if it is not `cat` on the data dir.
    pub root_token_command: Option<String>,
    /// The admin who must exist.
    pub admin: Option<Admin>,
    /// The folder that replaces the built-in tenant migrations.
    pub tenant_migrations: Option<PathBuf>,
    /// The domain whose subdomains are tenants.
    pub base_domain: Option<String>,
    /// The server's own host names.
    pub server_hosts: ServerHosts,
    /// The owner of a tenant that is created without one.
    pub default_owner: Option<Email>,
    /// The database.
    pub database: Database,
    /// Authentication.
    pub auth: Auth,
    /// The HTTP server.
    pub http: Http,
    /// The pages for people.
    pub console: Console,
    /// The rate limits.
    pub limits: limits::Settings,
    /// Who gets a database connection when there are too few.
    pub fairness: Fairness,
    /// The interval at which expired profiles are deleted.
    pub erase_interval: Duration,
    /// The interval of the search for audit events to seal.
    pub seal_interval: Duration,
    /// The lifecycle of tenants.
    pub tenants: Tenants,
    /// API tokens and the other stored credentials.
    pub tokens: Tokens,
    /// The slugs of tenants.
    pub slugs: Slugs,
    /// Fleet migrations.
    pub fleet: Fleet,
    /// The archives that a server keeps.
    pub archives: Archives,
    /// The log.
    pub log: Log,
    /// The sections of an application.
    pub own: OwnValues,
    /// Every setting as it was given, without secrets.
    pub in_force: Arc<[Setting]>,
}

/// The settings on the command line, which take precedence over all others.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The file to read instead of `rowhouse.toml`.
    pub file: Option<PathBuf>,
    /// Pairs of a key from [`KEYS`] and its value.
    pub values: Vec<(&'static str, String)>,
    /// What an application adds to the settings.
    pub own: Own,
}

/// The settings are not valid. Lists every problem.
#[derive(Debug, thiserror::Error)]
#[error("the settings are not valid:{}", .0.iter().fold(String::new(), |all, problem| all + "\n  " + problem))]
pub struct SettingsError(pub Vec<String>);

impl Settings {
    /// Reads flags, environment, file and defaults, in this order of precedence.
    ///
    /// # Errors
    /// Every bad value, every unknown key and every unknown `ROWHOUSE_` variable, at once.
    pub fn load(overrides: &Overrides) -> Result<Self, SettingsError> {
        Self::load_with(overrides, environment()?)
    }

    /// As [`Settings::load`], with these variables for the environment.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_with(
        overrides: &Overrides,
        environment: config::Map<String, String>,
    ) -> Result<Self, SettingsError> {
        let file = overrides.file.clone().unwrap_or_else(|| PathBuf::from("rowhouse.toml"));
        // A file that is there and may not be read must not be passed over.
        let is_there = file
            .try_exists()
            .map_err(|error| fail(format!("{}: cannot be read: {error}", file.display())))?;
        let must_exist = overrides.file.is_some() || is_there;
        let from_file = config::Config::builder()
            .add_source(
                config::File::from(file.clone())
                    .format(config::FileFormat::Toml)
                    .required(must_exist),
            )
            .build()
            .map_err(|error| fail(format!("{}: {error}", file.display())))?;
        let mut builder = defaults()?;
        // Empty counts as unset: `NAME=` in an env file and a bare name in a compose file are empty.
        let mut problems = unknown_keys(&from_file, &file, &overrides.own);
        problems.extend(unknown_variables(
            environment.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.clone()),
            &overrides.own,
        ));
        builder = builder.add_source(from_file).add_source(database_url(&environment));
        builder = builder.add_source(overrides.own.variables(&environment)).add_source(
            config::Environment::with_prefix("ROWHOUSE")
                .prefix_separator("_")
                .separator("__")
                .ignore_empty(true)
                .source(Some(environment)),
        );
        Self::finish(builder, &overrides.values, problems)
    }

    /// Reads these values and the defaults, and neither the file nor the environment; for tests, and for programs that
    /// have settings of their own.
    ///
    /// # Errors
    /// Every bad value at once.
    pub fn from_values(values: &[(&'static str, String)]) -> Result<Self, SettingsError> {
        Self::finish(defaults()?, values, Vec::new())
    }

    fn finish(
        mut builder: Builder,
        values: &[(&'static str, String)],
        problems: Vec<String>,
    ) -> Result<Self, SettingsError> {
        for (key, value) in values {
            builder = builder
                .set_override(key, value.as_str())
                .map_err(|error| fail(error.to_string()))?;
            // A flag overrides the same setting in either form.
            let twin = format!("{key}_file");
            let is_known = KEYS.iter().any(|(known, ..)| *known == twin);
            if is_known && values.iter().all(|(other, _)| *other != twin) {
                builder =
                    builder.set_override(twin, "").map_err(|error| fail(error.to_string()))?;
            }
        }
        let merged = builder.build().map_err(|error| fail(error.to_string()))?;
        let mut reader = Reader::new(merged, problems);
        let settings = Self::read(&mut reader);
        match (settings, reader.problems.is_empty()) {
            (Some(settings), true) => Ok(settings),
            (_, _) => Err(SettingsError(reader.problems)),
        }
    }

    /// Returns the owner's URL in clear text, for connecting only.
    #[must_use]
    pub fn database_url(&self) -> Option<&str> {
        self.database.url.as_ref().map(ExposeSecret::expose_secret)
    }
}

type Builder = config::ConfigBuilder<config::builder::DefaultState>;

fn fail(what: String) -> SettingsError {
    SettingsError(vec![what])
}

fn defaults() -> Result<Builder, SettingsError> {
    let mut builder = config::Config::builder();
    for (key, default, _) in KEYS.iter().filter(|(_, default, _)| !default.is_empty()) {
        builder = builder.set_default(key, *default).map_err(|error| fail(error.to_string()))?;
    }
    Ok(builder)
}

#[cfg(test)]
mod tests;
