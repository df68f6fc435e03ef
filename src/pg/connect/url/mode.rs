//! The SSL modes of a database URL.

/// Whether TLS is used and what the server's certificate must prove, with libpq's names.
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
    /// No TLS.
    Disable,
    /// The same as [`SslMode::Prefer`] here.
    Allow,
    /// TLS if the server offers it.
    Prefer,
    /// Always TLS; any certificate is accepted unless `sslrootcert` is given.
    Require,
    /// Always TLS, with a certificate that a trusted root has signed, for any host name.
    VerifyCa,
    /// Always TLS, with a certificate that a trusted root has signed for this host name.
    VerifyFull,
}

impl SslMode {
    /// Every mode, from the weakest to the strongest.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the value in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
