//! Decides which slugs can be taken.
//!
//! A word can be reserved by the settings, and the server's own host names reserve their first label. A slug that a
//! rename or a purge frees rests: an old link must not lead to another tenant. Only the tenant that had the slug may take
//! it back before.

use std::str::FromStr;
use std::sync::Arc;

use time::{Duration, OffsetDateTime};

use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{Slug, TenantId};
use crate::domain::rule::Rule;
use crate::pg::PublicTx;
use crate::pg::control::slugs;

/// Which slugs can be taken. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SlugRules {
    reserved: Arc<[String]>,
    quarantine: Duration,
}

/// Words that are reserved beside those of [`Slug::parse`], in the settings `billing, status-page`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReservedWords(pub Vec<String>);

impl FromStr for ReservedWords {
    type Err = String;

    /// # Errors
    /// The first part that is not a slug.
    fn from_str(text: &str) -> Result<Self, String> {
        let word = |part: &str| match Slug::parse(part) {
            Ok(_) | Err(Rule::Reserved) => Ok(part.to_owned()),
            Err(_rule) => Err(format!("{part:?} is not a slug, such as status-page")),
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(word).collect::<Result<_, _>>().map(Self)
    }
}

impl SlugRules {
    /// Creates rules under which no tenant can take one of the reserved words, and a freed slug rests for `quarantine`.
    #[must_use]
    pub fn new(reserved: impl IntoIterator<Item = String>, quarantine: Duration) -> Self {
        Self { reserved: reserved.into_iter().collect(), quarantine }
    }

    /// Refuses a reserved slug, as the field `slug`.
    pub(in crate::service) fn require_not_reserved(&self, slug: &Slug) -> Result<()> {
        if self.reserved.iter().any(|word| word == slug.as_str()) {
            return Err(Error::invalid("slug", Rule::Reserved));
        }
        Ok(())
    }

    /// Returns the time at which, or before which, a slug must have been freed to be taken at `now`.
    pub(in crate::service) fn rested(&self, now: OffsetDateTime) -> OffsetDateTime {
        now.checked_sub(self.quarantine).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Gives a tenant a new slug in place of its old one. Both are locked until the transaction ends.
    pub(in crate::service) async fn rename(
        &self,
        tx: &PublicTx,
        tenant: TenantId,
        (old, new): (&Slug, &Slug),
        now: OffsetDateTime,
    ) -> Result<()> {
        self.require_not_reserved(new)?;
        if !slugs::claim(tx, new, tenant, self.rested(now)).await? {
            return Err(why_taken(tx, new).await?);
        }
        slugs::free(tx, old, tenant, now).await
    }
}

/// Returns the conflict of a slug that could not be taken.
pub(in crate::service) async fn why_taken(tx: &PublicTx, slug: &Slug) -> Result<Error> {
    let rests = slugs::is_free(tx, slug).await?;
    Ok(Error::Conflict(if rests { Conflict::SlugResting } else { Conflict::SlugTaken }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_add_reserved_words() {
        let words: ReservedWords = " billing,status-page ,www,".parse().unwrap();
        assert_eq!(words.0, ["billing", "status-page", "www"]);
        let rules = SlugRules::new(words.0, Duration::ZERO);
        for (slug, reserved) in [("billing", true), ("billings", false), ("acme", false)] {
            let found = rules.require_not_reserved(&Slug::stored(slug.to_owned()));
            assert_eq!(found.is_err(), reserved, "{slug}");
        }
        for bad in ["Billing", "a b", "-x", "a--b"] {
            assert!(bad.parse::<ReservedWords>().unwrap_err().contains(bad), "{bad}");
        }
    }
}
