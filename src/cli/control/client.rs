//! The client of a server's control API.
//!
//! Promises: the token is sent to the server that the command names and to none that an answer names; it is in no message.
//! Every outcome that is not an answer of the API is a sentence with the address and what happened.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE, IF_MATCH};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use url::Url;

use super::refusal::Refusal;
use crate::cli::failure::chain;
use crate::cli::{Exit, Failure};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take: more than a server gives a request.
const TIMEOUT: Duration = Duration::from_mins(2);

/// How long the content of an archive may take, in either direction.
const TRANSFER_TIMEOUT: Duration = Duration::from_hours(24 * 7);

/// Rows of a page, as many as the API gives.
const ROWS_AT_ONCE: u16 = 100;

/// The server of a command, and how it is reached.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Connection {
    /// Its address.
    pub(in crate::cli) server: Url,
    /// The API token.
    pub(in crate::cli) token: Option<SecretString>,
    /// A file of certificates that are trusted beside those of the platform.
    pub(in crate::cli) ca_file: Option<PathBuf>,
    /// Whether no proxy of the environment applies.
    pub(in crate::cli) is_direct: bool,
}

/// A client of a server.
pub(in crate::cli) struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<SecretString>,
}

/// A page of a list.
#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    next_cursor: Option<String>,
}

/// An answer with its headers.
pub(super) struct Answered<T> {
    pub(super) status: StatusCode,
    pub(super) is_replayed: bool,
    pub(super) body: T,
}

impl Client {
    /// Prepares a client; connects to nothing yet.
    ///
    /// # Errors
    /// If there is no token, or the file of certificates cannot be used.
    pub(in crate::cli) fn new(connection: &Connection) -> Result<Self, Failure> {
        if connection.token.is_none() {
            return Err(Failure::usage(
                "--server needs a token: pass --token-file, or set ROWHOUSE_TOKEN or ROWHOUSE_TOKEN_FILE",
            ));
        }
        Self::without_token(connection)
    }

    /// As [`Client::new`], for calls that need no token.
    ///
    /// # Errors
    /// If the file of certificates cannot be used.
    pub(in crate::cli) fn without_token(connection: &Connection) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(connection)?)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            // The token is for the server that was named.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("rowhouse/", env!("CARGO_PKG_VERSION")));
        if connection.is_direct || is_loopback(&connection.server) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| Failure::Other(chain(&error)))?;
        Ok(Self { http, server: connection.server.clone(), token: connection.token.clone() })
    }

    /// Returns a request to a path whose parts are encoded.
    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.server.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url).header(ACCEPT, "application/json");
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    /// Returns a request to a path of the control API.
    pub(super) fn control(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
    ) -> RequestBuilder {
        self.request(method, &[&["control", "v1"], path].concat(), query)
    }

    /// Reads a thing.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        Ok(self.answer(self.control(Method::GET, path, query)).await?.body)
    }

    /// Sends a body.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        Ok(self.answer(self.control(Method::POST, path, &[]).json(body)).await?.body)
    }

    /// Reads a list to its end, or to `limit` rows. Returns whether there are more.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        limit: Option<usize>,
    ) -> Result<(Vec<T>, bool), Failure> {
        let (mut all, mut cursor): (Vec<T>, Option<String>) = (Vec::new(), None);
        loop {
            let left = limit.map_or(usize::MAX, |limit| limit - all.len());
            let rows = left.min(usize::from(ROWS_AT_ONCE));
            let mut query = query.to_vec();
            query.push(("limit", rows.to_string()));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page: Page<T> = self.get(path, &query).await?;
            all.extend(page.data);
            cursor = page.next_cursor;
            if cursor.is_none() || limit.is_some_and(|limit| all.len() >= limit) {
                return Ok((all, cursor.is_some()));
            }
        }
    }

    /// Reads a list that is always whole.
    pub(super) async fn list_whole<T: DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<Vec<T>, Failure> {
        Ok(self.get::<Page<T>>(path, &[]).await?.data)
    }

    /// Returns the time of the server: this machine's clock may be wrong.
    pub(super) async fn now(&self) -> Result<OffsetDateTime, Failure> {
        let request = self.request(Method::GET, &["healthz"], &[]);
        let response = request.send().await.map_err(|error| self.away(&error))?;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let now = date.and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok());
        now.ok_or_else(|| Failure::Other(format!("{} does not tell the time", self.server)))
    }

    /// Sends a request whose answer has no body.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<(), Failure> {
        self.exchange(request).await.map(drop)
    }

    /// Sends a request and reads the body of its answer.
    pub(super) async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Answered<T>, Failure> {
        let (response, body) = self.exchange(request).await?;
        let status = response.status;
        match serde_json::from_slice(&body) {
            Ok(body) => Ok(Answered { status, is_replayed: response.is_replayed, body }),
            Err(_) if !response.is_json => Err(self.not_ours(status, &response.kind).into()),
            Err(error) => {
                let server = self.version().await;
                let message = format!(
                    "the answer of {} is not as this program expects it ({error}); {server}, this program {}",
                    self.server,
                    env!("CARGO_PKG_VERSION")
                );
                Err(Box::new(Refusal::foreign(Exit::Failed, message)).into())
            }
        }
    }

    /// Sends an archive, and reads the body of the answer.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        path: &[&str],
        archive: reqwest::Body,
    ) -> Result<T, Failure> {
        let request = self.control(Method::POST, path, &[]).timeout(TRANSFER_TIMEOUT);
        let request = request.header(CONTENT_TYPE, "application/x-tar").body(archive);
        Ok(self.answer(request).await?.body)
    }

    /// Writes the content behind a path to `out`, and returns its SHA-256 in hex. It may take any time, with no long pause.
    pub(super) async fn download(
        &self,
        path: &[&str],
        out: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<String, Failure> {
        let request = self.control(Method::GET, path, &[]).timeout(TRANSFER_TIMEOUT);
        let mut response = request.send().await.map_err(|error| self.away(&error))?;
        if !response.status().is_success() {
            let head = Head::of(&response);
            let body = response.bytes().await.map_err(|error| self.away(&error))?;
            return Err(self.refused(&head, &body).await);
        }
        let mut hash = Sha256::new();
        loop {
            let chunk = tokio::time::timeout(TIMEOUT, response.chunk()).await;
            let chunk = chunk.map_err(|_elapsed| {
                Failure::Other(format!("{} sends nothing more", self.server))
            })?;
            let Some(chunk) = chunk.map_err(|error| self.away(&error))? else { break };
            hash.update(&chunk);
            out.write_all(&chunk).await.map_err(Failure::io("write the archive"))?;
        }
        out.flush().await.map_err(Failure::io("write the archive"))?;
        Ok(hex::encode(hash.finalize()))
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<(Head, Vec<u8>), Failure> {
        let response = request.send().await.map_err(|error| self.away(&error))?;
        let head = Head::of(&response);
        let body = response.bytes().await.map_err(|error| self.away(&error))?;
        if head.status.is_success() {
            return Ok((head, body.to_vec()));
        }
        Err(self.refused(&head, &body).await)
    }

    /// Reads why a request was refused.
    async fn refused(&self, head: &Head, body: &[u8]) -> Failure {
        let Some(mut refusal) = Refusal::read(head.status.as_u16(), body) else {
            return self.not_ours(head.status, &head.kind).into();
        };
        if refusal.code == "route_not_found" {
            let server = self.version().await;
            refusal.message = format!(
                "the server at {} does not know this call; {server}, this program {}",
                self.server,
                env!("CARGO_PKG_VERSION")
            );
        }
        Box::new(refusal).into()
    }

    /// Names the server's version, for a message.
    async fn version(&self) -> String {
        let request = self.request(Method::GET, &["openapi.json"], &[]);
        let version = async {
            let document: Value = request.send().await.ok()?.json().await.ok()?;
            document["info"]["version"].as_str().map(str::to_owned)
        };
        match version.await {
            Some(version) => format!("the server has version {version}"),
            None => "the server does not tell its version".to_owned(),
        }
    }

    /// Asks the server whether it is ready. Returns the problem, or `None` if it is.
    pub(in crate::cli) async fn why_not_ready(&self, timeout: Duration) -> Option<String> {
        let request = self.request(Method::GET, &["readyz"], &[]).timeout(timeout);
        match request.send().await {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => {
                let status = response.status();
                let body = response.text().await.unwrap_or_default();
                Some(format!("{status} {}", body.trim()).trim().to_owned())
            }
            Err(error) => Some(chain(&error.without_url())),
        }
    }

    /// The failure of a request that got no answer, or half of one.
    fn away(&self, error: &reqwest::Error) -> Failure {
        let what = if error.is_timeout() {
            "did not answer in time"
        } else if error.is_connect() {
            "cannot be reached"
        } else {
            "went away before it had answered; what it was asked may be done"
        };
        let mut reason = std::error::Error::source(error).map(chain).unwrap_or_default();
        if !reason.is_empty() {
            reason = format!(": {reason}");
        }
        Box::new(Refusal::away(format!("the server at {} {what}{reason}", self.server))).into()
    }

    /// The failure of an answer that no server of ours gives: of a proxy, or of another program.
    fn not_ours(&self, status: StatusCode, kind: &str) -> Box<Refusal> {
        let at = &self.server;
        let message = if status.is_redirection() {
            format!(
                "{at} answered {status}, a redirect, which is not followed with a token; name the address that it leads to"
            )
        } else {
            format!(
                "{at} answered {status} with {kind} instead of JSON: a proxy or another program answers there, and not a Rowhouse server"
            )
        };
        Box::new(Refusal::foreign(Exit::Away, message))
    }
}

/// What is read of an answer before its body.
struct Head {
    status: StatusCode,
    kind: String,
    is_json: bool,
    is_replayed: bool,
}

impl Head {
    fn of(response: &Response) -> Self {
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let kind = header(CONTENT_TYPE.as_str()).unwrap_or("no content type").to_owned();
        let is_json = kind.contains("json");
        let is_replayed = header("idempotent-replayed") == Some("true");
        Self { status: response.status(), kind, is_json, is_replayed }
    }
}

/// Adds the revision that a change is bound to.
pub(super) fn if_match(request: RequestBuilder, revision: Option<i64>) -> RequestBuilder {
    let tag = revision.map_or_else(|| "*".to_owned(), |revision| format!("\"{revision}\""));
    request.header(IF_MATCH, tag)
}

/// Trusts the platform's roots and those of the file.
fn tls(connection: &Connection) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    // Redirects are not followed.
    if connection.server.scheme() == "https" {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(file) = &connection.ca_file {
        let unusable =
            |what: String| Failure::usage(format!("--ca-file {}: {what}", file.display()));
        let text = fs::read(file).map_err(|error| unusable(error.to_string()))?;
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(unusable("it has no certificate in PEM".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Other(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Whether an address is of this machine, to which no proxy leads.
fn is_loopback(server: &Url) -> bool {
    match server.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}
