//! The SSL modes of a database URL.

use std::fmt;

/// Whether TLS is used and what the server's certificate must prove, with libpq's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    pub const ALL: [Self; 6] =
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// Returns the value in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
