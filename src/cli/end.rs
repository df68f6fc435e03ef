//! The flags that say when a tenant ends.

use clap::Args;

use super::Failure;
use super::failure::Arguments;
use crate::domain::End;
use crate::domain::rule::Rule;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// When a tenant ends.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(super) struct EndFlags {
    /// How long from now on until the tenant ends and is purged with all its data, such as 24h or 7d
    #[arg(long, value_name = "TIME")]
    expires_in: Option<String>,
    /// When the tenant ends and is purged with all its data, such as 2026-11-21T12:00:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
}

impl EndFlags {
    /// Parses the end, if there is one.
    pub(super) fn read(&self) -> Result<Option<End>, Failure> {
        let mut arguments = Arguments::default();
        let end = match (&self.expires_in, &self.expires_at) {
            (Some(length), _) => arguments.read("--expires-in", length, parse_length).map(Some),
            (None, Some(at)) => arguments.read("--expires-at", at, parse_time).map(Some),
            (None, None) => Some(None),
        };
        arguments.finish(end)
    }
}

/// Parses a length of time that is longer than nothing.
pub(super) fn parse_length(text: &str) -> Result<End, Rule> {
    match End::parse_length(text)? {
        End::In(length) if !length.is_positive() => Err(Rule::Lifetime),
        end => Ok(end),
    }
}

/// Parses a point in time.
pub(super) fn parse_time(text: &str) -> Result<End, Rule> {
    OffsetDateTime::parse(text, &Rfc3339).map(End::At).map_err(|_no_time| Rule::Timestamp)
}
