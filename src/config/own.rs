//! The settings of an application: sections of its own, and the roles that hold its permissions.

use std::collections::HashMap;
use std::fmt;

use serde::de::DeserializeOwned;

use super::{KEYS, SettingsError, fail};
use crate::domain::Role;

/// The section that names the lowest role of each permission of an application.
const PERMISSIONS: &str = "permissions";

/// The lowest role that holds a permission of an application whose setting is absent.
const DEFAULT_ROLE: Role = Role::Admin;

/// What an application adds to the settings.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// The names of its sections.
    pub sections: Vec<&'static str>,
    /// Its permissions.
    pub permissions: Vec<&'static str>,
}

impl Own {
    /// Whether a key of the file, or a variable as a key, belongs to the application.
    pub(super) fn knows(&self, key: &str) -> bool {
        let Some((section, name)) = key.split_once('.') else { return false };
        let is_permission =
            || self.permissions.iter().any(|known| known.eq_ignore_ascii_case(name));
        self.sections.iter().any(|own| own.eq_ignore_ascii_case(section))
            || (section == PERMISSIONS && is_permission())
    }

    /// Returns the variables of the environment that belong to its sections, `APP__PAGE_SIZE` for `page_size` in `[app]`.
    pub(super) fn variables(
        &self,
        environment: &config::Map<String, String>,
    ) -> config::Environment {
        let is_own = |name: &str| {
            name.split_once("__").is_some_and(|(section, _)| {
                self.sections.iter().any(|own| own.eq_ignore_ascii_case(section))
            })
        };
        let own = environment.iter().filter(|(name, value)| is_own(name) && !value.is_empty());
        let own = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        config::Environment::default().separator("__").source(Some(own))
    }
}

/// The values of an application's sections, not read into its types yet.
#[derive(Clone, Default)]
pub struct OwnValues(HashMap<String, config::Value>);

impl fmt::Debug for OwnValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A value may be a secret.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl OwnValues {
    /// Takes the sections that are none of ours.
    pub(super) fn of(merged: &config::Config) -> Self {
        let Ok(all) = merged.clone().try_deserialize::<HashMap<String, config::Value>>() else {
            return Self::default();
        };
        let ours = |name: &str| {
            KEYS.iter().any(|(key, ..)| key.split('.').next().is_some_and(|first| first == name))
        };
        Self(all.into_iter().filter(|(name, _)| !ours(name)).collect())
    }

    /// Reads a section into the application's type.
    ///
    /// # Errors
    /// Every key that the type does not have, or the value that it does not take.
    pub fn read<T: DeserializeOwned>(&self, section: &str) -> Result<T, SettingsError> {
        let empty = || config::Value::new(None, config::ValueKind::Table(config::Map::new()));
        let given = self.0.get(section).cloned().unwrap_or_else(empty);
        let mut unknown = Vec::new();
        let mut note = |path: serde_ignored::Path<'_>| {
            unknown.push(format!("{section}.{path}: no such setting"));
        };
        let read = serde_ignored::deserialize(given, &mut note);
        match read {
            Ok(settings) if unknown.is_empty() => Ok(settings),
            Ok(_) => Err(SettingsError(unknown)),
            Err(error) => {
                unknown.push(format!("{section}: {error}"));
                Err(SettingsError(unknown))
            }
        }
    }

    /// Returns the lowest role that holds each of these permissions.
    ///
    /// # Errors
    /// A value that is not a role.
    pub fn roles(
        &self,
        permissions: &[&'static str],
    ) -> Result<Vec<(&'static str, Role)>, SettingsError> {
        let given: HashMap<String, String> = match self.0.get(PERMISSIONS) {
            None => HashMap::new(),
            Some(table) => {
                let table = table.clone().try_deserialize::<HashMap<String, String>>();
                let table = table.map_err(|error| fail(format!("{PERMISSIONS}: {error}")))?;
                table.into_iter().map(|(name, role)| (name.to_uppercase(), role)).collect()
            }
        };
        let role = |name: &&'static str| match given.get(&name.to_uppercase()) {
            None => Ok((*name, DEFAULT_ROLE)),
            Some(role) => role
                .parse()
                .map(|role| (*name, role))
                .map_err(|unknown| fail(format!("{PERMISSIONS}.{name}: {unknown}"))),
        };
        permissions.iter().map(role).collect()
    }
}
