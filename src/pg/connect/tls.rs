//! TLS to the database, as strict as `sslmode` says, with rustls and aws-lc-rs.
//!
//! One [`Connector`] serves all modes. The `ssl_mode` of the `Config` in the same
//! [`DatabaseUrl`](crate::pg::connect::url::DatabaseUrl) decides whether TLS is requested at all; this file decides
//! what the server's certificate must prove. Roots, certificate and key are read once, when the connector is made,
//! so that a missing file makes the start fail and not a later connection. [`TlsFiles`] reads them again on request.
//!
//! Promises: in every mode the server proves that it has the private key of its certificate.
//! Therefore `channel_binding=require` is meaningful even with `sslmode=require`.
//!
//! Stricter than libpq, because rustls is:
//! - TLS 1.2 and 1.3 only;
//! - `verify-full` checks subjectAltName only and ignores the certificate's CN;
//! - `verify-ca` and `verify-full` need a server certificate of X.509 version 3 (`openssl x509 -req` before 3.2
//!   makes version 1 unless it is given extensions); without a check such a server is reached by TLS 1.3;
//! - a key must not be encrypted (there is no `sslpassword`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::pg::connect::url::{ClientFiles, Roots, SslMode, SslSettings, Verification};
use crate::pg::rules::Tls;

/// The ALPN protocol name of PostgreSQL. Servers from 17 on require it with `sslnegotiation=direct`, and proxies
/// route by it.
const ALPN: &[u8] = b"postgresql";

/// The part of a connection that must be polled (spawned) so that the [`Client`] gets answers.
pub type Connection =
    tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// The reason why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that the URL names cannot be read, or does not contain what it should.
    #[error("failed to read `{parameter}` from {}", path.display())]
    Read {
        /// The parameter that names the file.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: pem::Error,
    },
    /// A root certificate was read and cannot be used.
    #[error("failed to use `{parameter}` from {}", path.display())]
    Refused {
        /// The parameter that names the file.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
    /// The certificate and the key were read and cannot be used, or do not match.
    #[error(
        "failed to use `sslcert` {} with `sslkey` {}",
        files.certificate.display(),
        files.key.display()
    )]
    Client {
        /// The two files.
        files: ClientFiles,
        /// The cause.
        source: rustls::Error,
    },
    /// The system has no root certificate in the places where we search.
    #[error(
        "failed to find a root certificate in the system's store; name a file in `sslrootcert`"
    )]
    NoSystemRoots {
        /// The first error while reading the store, if there was one.
        source: Option<rustls_native_certs::Error>,
    },
    /// The provider and rustls have no protocol version in common: an error of the build.
    #[error("failed to set up TLS")]
    Provider {
        /// The cause.
        source: rustls::Error,
    },
}

/// The files of the TLS settings of one database URL, to be read again.
#[derive(Clone)]
pub struct TlsFiles {
    settings: SslSettings,
    tls: Tls,
}

impl TlsFiles {
    /// Reads all files that the settings name; blocks while it reads.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn open(settings: &SslSettings) -> Result<Self, TlsError> {
        let tls = Connector::new(settings)?.make_tls();
        Ok(Self { settings: settings.clone(), tls })
    }

    /// Returns the TLS of connections.
    #[must_use]
    pub fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn read(&self) -> Result<Connector, TlsError> {
        Connector::new(&self.settings)
    }

    /// Uses what was read for the connections that are opened from now on.
    pub fn replace(&self, read: Connector) {
        self.tls.replace(read.tls);
    }
}

/// Opens connections with the TLS settings of one database URL. Clones share everything.
#[derive(Clone)]
pub struct Connector {
    tls: MakeRustlsConnect,
}

impl Connector {
    /// Reads all files that the settings name; blocks while it reads.
    ///
    /// # Errors
    /// [`TlsError`], which names the parameter and the file that cannot be used.
    pub fn new(ssl: &SslSettings) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let check = ServerCheck::new(ssl, provider.signature_verification_algorithms)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Provider { source })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(check));
        // Without TLS, the files are not read.
        let client = ssl.client().filter(|_| ssl.mode() != SslMode::Disable);
        let mut config = match client {
            Some(files) => {
                let (chain, key) = read_client(files)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|source| TlsError::Client { files: files.clone(), source })?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { tls: MakeRustlsConnect::new(config) })
    }

    /// Returns a connector that never uses TLS.
    ///
    /// # Errors
    /// [`TlsError::Provider`].
    pub fn without_tls() -> Result<Self, TlsError> {
        Self::new(&SslSettings::NO_TLS)
    }

    /// Returns the TLS for the pool and for `CancelToken::cancel_query`, in every mode.
    #[must_use]
    pub fn make_tls(&self) -> Tls {
        Tls::new(self.tls.clone())
    }

    /// Opens one connection. The [`Connection`] must be spawned.
    pub async fn connect(
        &self,
        config: &Config,
    ) -> Result<(Client, Connection), tokio_postgres::Error> {
        config.connect(self.make_tls()).await
    }
}

/// Checks the server's certificate.
#[derive(Debug)]
struct ServerCheck {
    /// `None`: any certificate is accepted.
    roots: Option<TrustedRoots>,
    /// Whether the certificate must be for the host name.
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct TrustedRoots {
    store: RootCertStore,
    /// The certificates in the operator's file; empty for the system's roots, none of which is a server's.
    named: Vec<CertificateDer<'static>>,
}

impl ServerCheck {
    fn new(ssl: &SslSettings, algorithms: WebPkiSupportedAlgorithms) -> Result<Self, TlsError> {
        let roots = match ssl.roots() {
            Some(Roots::File(path)) => Some(read_roots(path)?),
            Some(Roots::System) => Some(system_roots()?),
            // Not used without TLS. If the `Config` alone enabled TLS, no server would be trusted.
            None if ssl.mode() == SslMode::Disable => {
                Some(TrustedRoots { store: RootCertStore::empty(), named: Vec::new() })
            }
            None => None,
        };
        let checks_name = ssl.verification() == Verification::ChainAndName;
        Ok(Self { roots, checks_name, algorithms })
    }

    fn verify_chain(
        &self,
        roots: &TrustedRoots,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let certificate = ParsedCertificate::try_from(server)?;
        let outcome = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &roots.store,
            intermediates,
            now,
            self.algorithms.all,
        );
        match outcome {
            // `openssl req -x509` marks its certificates as a CA, and webpki refuses a CA as a server. A certificate
            // that the operator named is trusted all the same. Its time of validity is checked before the mark and
            // has an error variant of its own.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if roots.named.iter().any(|named| named.as_ref() == server.as_ref()) =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            self.verify_chain(roots, end_entity, intermediates, now)?;
        }
        if self.checks_name {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let readable = ParsedCertificate::try_from(cert).is_ok();
        if readable || self.roots.is_some() {
            return verify_tls13_signature(message, cert, dss, &self.algorithms);
        }
        let key = key_of_version_1(cert)?;
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Returns the public key of a certificate of X.509 version 1, which webpki can only parse as a root.
fn key_of_version_1(
    cert: &CertificateDer<'_>,
) -> Result<SubjectPublicKeyInfoDer<'static>, rustls::Error> {
    let mut store = RootCertStore::empty();
    store.add(cert.clone().into_owned())?;
    let anchor = store.roots.first().ok_or(CertificateError::BadEncoding)?;
    Ok(der_sequence(&anchor.subject_public_key_info).into())
}

/// Wraps the key of a root, which is stored without its outer SEQUENCE (X.690, 8.1.3).
fn der_sequence(content: &[u8]) -> Vec<u8> {
    const SEQUENCE: u8 = 0x30;
    const LONG_FORM: u8 = 0x80;
    let length = content.len().to_be_bytes();
    let significant = length.iter().skip_while(|byte| **byte == 0).copied();
    let mut der = vec![SEQUENCE];
    if content.len() >= usize::from(LONG_FORM) {
        der.push(LONG_FORM | u8::try_from(significant.clone().count()).unwrap_or_default());
    }
    der.extend(significant);
    der.extend_from_slice(content);
    der
}

fn read_roots(path: &Path) -> Result<TrustedRoots, TlsError> {
    let parameter = "sslrootcert";
    let named = read_certificates(parameter, path)?;
    let mut store = RootCertStore::empty();
    for certificate in &named {
        store.add(certificate.clone()).map_err(|source| TlsError::Refused {
            parameter,
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(TrustedRoots { store, named })
}

fn system_roots() -> Result<TrustedRoots, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (added, ignored) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(TlsError::NoSystemRoots { source: found.errors.into_iter().next() });
    }
    if ignored > 0 || !found.errors.is_empty() {
        let errors_count = found.errors.len();
        tracing::warn!(
            ignored,
            errors_count,
            "some of the system's root certificates cannot be used"
        );
    }
    Ok(TrustedRoots { store, named: Vec::new() })
}

fn read_client(
    files: &ClientFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = read_certificates("sslcert", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| unreadable("sslkey", &files.key, source))?;
    Ok((chain, key))
}

fn read_certificates(
    parameter: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| unreadable(parameter, path, source))?;
    if certificates.is_empty() {
        return Err(unreadable(parameter, path, pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn unreadable(parameter: &'static str, path: &Path, source: pem::Error) -> TlsError {
    TlsError::Read { parameter, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
