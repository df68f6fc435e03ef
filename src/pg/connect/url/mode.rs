//! How much TLS a database URL asks for.

use std::fmt;

/// How much TLS the operator asks for, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    pub const ALL: [Self; 6] =
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// The word in a URL.
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
