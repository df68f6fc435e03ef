//! How much TLS a database URL asks for.

/// How much TLS the operator asks for, in libpq's words.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum SslMode {
    /// Never.
    Disable,
    /// The same as [`SslMode::Prefer`] here.
    Allow,
    /// Where the server offers it.
    Prefer,
    /// Always; any certificate will do, unless a root is named.
    Require,
    /// Always, with a certificate that a trusted root has signed, whatever name it bears.
    VerifyCa,
    /// Always, with a certificate that a trusted root has signed for this very host.
    VerifyFull,
}

impl SslMode {
    /// Every mode, from the weakest to the strongest.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the word in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
