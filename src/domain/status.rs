//! Owns the status of a tenant and its words in the database and on the wire.

/// The status of a tenant.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    utoipa::ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(
    serialize_all = "lowercase",
    parse_err_ty = UnknownStatus,
    parse_err_fn = UnknownStatus::new
)]
pub enum TenantStatus {
    /// Answers requests.
    #[default]
    Active,
    /// Kept; answers no request until it is resumed.
    Suspended,
    /// Deleted; can be restored until its grace period ends.
    Deleting,
}

impl TenantStatus {
    /// Every word, in order of declaration.
    pub const WORDS: &[&str] = <Self as strum::VariantNames>::VARIANTS;

    /// Returns the word in the database and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A word that is not a tenant status.
#[derive(Debug, thiserror::Error)]
#[error("no tenant status is called {0:?}")]
pub struct UnknownStatus(String);

impl UnknownStatus {
    fn new(given: &str) -> Self {
        Self(given.to_owned())
    }
}
