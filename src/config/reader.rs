//! Reads values by their keys, each into its type, and collects the problems. Must not know: which settings exist.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use strum::VariantNames;

use super::keys::KEYS;
use super::secret_file;
use super::unknown::variable_of;
use crate::http::limits::Limit;
use crate::service::overview::Setting;

/// Reads values and collects their problems.
pub(super) struct Reader {
    pub(super) merged: config::Config,
    pub(super) problems: Vec<String>,
    /// The keys whose values are not shown.
    pub(super) hidden: Vec<&'static str>,
}

impl Reader {
    /// Reads values from these sources; `problems` are those that were found before.
    pub(super) fn new(merged: config::Config, problems: Vec<String>) -> Self {
        Self { merged, problems, hidden: Vec::new() }
    }

    /// Returns every setting as it was given, except the values of those that were read as secrets.
    pub(super) fn listing(&self) -> Arc<[Setting]> {
        let settings = KEYS.iter().map(|(key, default, meaning)| {
            let (value, is_secret) = (self.text(key), self.hidden.contains(key));
            let is_hidden = is_secret && value.is_some();
            Setting { key, value: value.filter(|_| !is_hidden), is_hidden, default, meaning }
        });
        settings.collect()
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.merged.get_string(key).ok().filter(|text| !text.is_empty())
    }

    /// Reads a secret: the value itself, or the text of the file that the setting with the suffix `_file` names.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<SecretString> {
        self.hidden.push(key);
        let file_key = format!("{key}_file");
        let (given, file) = (self.text(key), self.text(&file_key));
        match (given, file) {
            (given, None) => given.map(SecretString::from),
            (Some(_), Some(_)) => {
                self.problems.push(format!("{key} and {file_key}: both are given; remove one"));
                None
            }
            (None, Some(path)) => secret_file::read(&variable_of(&file_key), &path)
                .map_err(|problem| self.problems.push(problem))
                .ok(),
        }
    }

    /// Reads a secret of at least `min` characters.
    pub(super) fn long_secret(&mut self, key: &'static str, min: usize) -> Option<SecretString> {
        let secret = self.secret(key)?;
        if secret.expose_secret().chars().count() < min {
            self.problems.push(format!("{key}: must have at least {min} characters"));
            return None;
        }
        Some(secret)
    }

    /// Reads a text that may hold a secret.
    pub(super) fn hidden_text(&mut self, key: &'static str) -> Option<String> {
        self.hidden.push(key);
        self.text(key)
    }

    pub(super) fn parsed<T: FromStr>(&mut self, key: &str, expected: &str) -> Option<T> {
        let text = self.text(key).unwrap_or_default();
        let value = text.parse().ok();
        if value.is_none() {
            self.problems.push(format!("{key}: {text:?} is not {expected}"));
        }
        value
    }

    pub(super) fn number<T>(&mut self, key: &str, min: T, max: T) -> T
    where
        T: FromStr + PartialOrd + Copy + std::fmt::Display,
    {
        let text = self.text(key).unwrap_or_default();
        match text.parse::<T>() {
            Ok(number) if number >= min && number <= max => number,
            _ => {
                self.problems
                    .push(format!("{key}: {text:?} is not a whole number from {min} to {max}"));
                min
            }
        }
    }

    /// Reads a list whose parser describes its own problem.
    pub(super) fn list<T: FromStr<Err = String> + Default>(&mut self, key: &str) -> T {
        let list = self.text(key).unwrap_or_default().parse();
        list.map_err(|problem| self.problems.push(format!("{key}: {problem}"))).unwrap_or_default()
    }

    pub(super) fn limit(&mut self, key: &str) -> Limit {
        let expected = "a number per minute and a burst, each up to a million, such as 60/120, or 0 for no limit";
        self.parsed(key, expected).unwrap_or(Limit(None))
    }

    pub(super) fn duration(&mut self, key: &str) -> Duration {
        let text = self.text(key).unwrap_or_default();
        match humantime::parse_duration(&text) {
            Ok(duration) if !duration.is_zero() => duration,
            _ => {
                self.problems.push(format!(
                    "{key}: {text:?} is not a length of time, such as 500ms, 30s or 15m"
                ));
                Duration::from_secs(1)
            }
        }
    }

    /// Reads a length of time; `None` if it is 0.
    pub(super) fn duration_or_never(&mut self, key: &str) -> Option<Duration> {
        let text = self.text(key).unwrap_or_default();
        let duration = humantime::parse_duration(&text).ok();
        if duration.is_none() {
            self.problems.push(format!(
                "{key}: {text:?} is not a length of time, such as 500ms, 30s or 90d, or 0"
            ));
        }
        duration.filter(|duration| !duration.is_zero())
    }

    /// Reads one of the words of an enum; `None` if nothing is set, and for another word.
    pub(super) fn choice_if_set<T: FromStr + VariantNames>(&mut self, key: &str) -> Option<T> {
        let text = self.text(key)?;
        let choice = text.parse();
        choice
            .map_err(|_unknown| {
                let choices = T::VARIANTS.join(", ");
                self.problems.push(format!("{key}: {text:?} is not one of {choices}"));
            })
            .ok()
    }

    /// Reads the address of a collector of spans, which a program without the feature cannot export to.
    pub(super) fn collector(&mut self, key: &'static str) -> Option<String> {
        let address = self.text(key)?;
        // A name and a password may be in it.
        if address.contains('@') {
            self.hidden.push(key);
        }
        let problem = if !cfg!(feature = "otlp") {
            "this program was built without the feature otlp".to_owned()
        } else if url::Url::parse(&address).is_ok_and(|url| url.scheme() == "http") {
            return Some(address);
        } else {
            format!("{address:?} is not a URL such as http://127.0.0.1:4318")
        };
        self.problems.push(format!("{key}: {problem}"));
        None
    }

    /// Reads one of the words of an enum; returns its default for another word.
    pub(super) fn choice<T: FromStr + VariantNames + Default>(&mut self, key: &str) -> T {
        let text = self.text(key).unwrap_or_default();
        text.parse().unwrap_or_else(|_unknown| {
            let choices = T::VARIANTS.join(", ");
            self.problems.push(format!("{key}: {text:?} is not one of {choices}"));
            T::default()
        })
    }
}
