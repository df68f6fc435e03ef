//! The TLS part of a database URL: `sslmode`, `sslrootcert`, `sslcert` and `sslkey`, and what follows from their
//! combination. Must not know: the content of the files that they name.

use std::path::PathBuf;

use super::Parameters;
use super::error::UrlError;
use super::mode::SslMode;

/// The roots that are trusted to sign the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The system's store, or the one that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, as with OpenSSL.
    System,
    /// A PEM file of certificates.
    File(PathBuf),
}

/// The PEM files of our client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// `sslcert`: our certificate, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// `sslkey`: its private key, not encrypted.
    pub key: PathBuf,
}

/// What the server's certificate must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// Only that the server has the private key of the certificate.
    Possession,
    /// A trusted root has signed it.
    Chain,
    /// A trusted root has signed it, and it is for the host name.
    ChainAndName,
}

/// The TLS part of a [`DatabaseUrl`](crate::pg::connect::url::DatabaseUrl).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SslSettings {
    mode: SslMode,
    roots: Option<Roots>,
    client: Option<ClientFiles>,
}

impl SslSettings {
    /// Settings under which TLS is never used, as over a Unix socket.
    pub(in crate::pg) const NO_TLS: Self =
        Self { mode: SslMode::Disable, roots: None, client: None };

    /// Returns the mode that the operator wrote.
    #[must_use]
    pub const fn mode(&self) -> SslMode {
        self.mode
    }

    /// Returns the trusted roots; `None` if no certificate is checked.
    #[must_use]
    pub const fn roots(&self) -> Option<&Roots> {
        self.roots.as_ref()
    }

    /// Returns our client certificate, if there is one.
    #[must_use]
    pub const fn client(&self) -> Option<&ClientFiles> {
        self.client.as_ref()
    }

    /// Returns what the server's certificate must prove if TLS is used.
    #[must_use]
    pub const fn verification(&self) -> Verification {
        match (self.mode, &self.roots) {
            (SslMode::VerifyFull, _) => Verification::ChainAndName,
            (SslMode::VerifyCa, _) | (_, Some(_)) => Verification::Chain,
            (_, None) => Verification::Possession,
        }
    }

    /// Removes the TLS parameters from `parameters` and reads them.
    pub(super) fn take(parameters: &mut Parameters) -> Result<Self, UrlError> {
        let mode = parameters.remove("sslmode").map(|word| parse_mode(&word)).transpose()?;
        let roots = match parameters.remove("sslrootcert") {
            Some(word) if word == "system" => Some(Roots::System),
            Some(path) => Some(Roots::File(PathBuf::from(path))),
            None => None,
        };
        let client = client_files(parameters.remove("sslcert"), parameters.remove("sslkey"))?;

        // The system's roots sign for every host: without a check of the name they prove nothing (as in libpq 16).
        let system = roots == Some(Roots::System);
        let mode = mode.unwrap_or(if system { SslMode::VerifyFull } else { SslMode::Prefer });
        if system && mode != SslMode::VerifyFull {
            return Err(UrlError::WeakForSystemRoots { mode });
        }

        let roots = match mode {
            SslMode::Disable => None,
            SslMode::VerifyCa | SslMode::VerifyFull => roots.or(Some(Roots::System)),
            SslMode::Allow | SslMode::Prefer | SslMode::Require => roots,
        };
        Ok(Self { mode, roots, client })
    }
}

fn parse_mode(word: &str) -> Result<SslMode, UrlError> {
    word.parse().map_err(|_unknown| UrlError::Value {
        parameter: "sslmode",
        expected: "disable, allow, prefer, require, verify-ca or verify-full",
    })
}

fn client_files(
    certificate: Option<String>,
    key: Option<String>,
) -> Result<Option<ClientFiles>, UrlError> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Ok(Some(ClientFiles { certificate: certificate.into(), key: key.into() }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(UrlError::Missing {
            parameter: "sslkey",
            hint: "`sslcert` needs the file of its private key",
        }),
        (None, Some(_)) => Err(UrlError::Missing {
            parameter: "sslcert",
            hint: "`sslkey` needs the file of its certificate",
        }),
    }
}
