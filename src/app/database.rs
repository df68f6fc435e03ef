//! Finds the database: the one that the operator's URL names, or the one of an embedded PostgreSQL server.

use secrecy::ExposeSecret;

use super::{BuildError, Purpose};
use crate::config::Settings;
#[cfg(feature = "embedded-postgres")]
use crate::embedded;
use crate::pg::bootstrap;
use crate::pg::connect::login::Login;
use crate::pg::connect::name;
#[cfg(feature = "embedded-postgres")]
use crate::pg::connect::tls::Connector;
use crate::pg::connect::tls::TlsFiles;
use crate::pg::connect::url::DatabaseUrl;
use crate::pg::rules::{Endpoint, RUNTIME_LOGIN, Tls};

/// The database of an embedded server.
#[cfg(feature = "embedded-postgres")]
const EMBEDDED_DATABASE: &str = "rowhouse";

/// Connections that an embedded server allows beyond our budget, for operators with `psql`.
#[cfg(feature = "embedded-postgres")]
const EMBEDDED_SPARE_CONNECTIONS: usize = 20;

/// Where a database comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// From a URL in the settings.
    Url,
    /// From an embedded server.
    Embedded,
}

/// The database that was found or started, and how to log in.
pub(super) struct FoundDatabase {
    pub(super) owner: Login,
    pub(super) runtime: Login,
    pub(super) origin: Origin,
    pub(super) psql: Option<String>,
    /// The certificates of both logins; none where the server is reached by a socket of ours.
    pub(super) tls: Vec<TlsFiles>,
    #[cfg(feature = "embedded-postgres")]
    pub(super) server: Option<embedded::ServerHandle>,
}

impl FoundDatabase {
    pub(super) async fn find(settings: &Settings, purpose: Purpose) -> Result<Self, BuildError> {
        match settings.database_url() {
            Some(url) => Self::at(settings, purpose, &DatabaseUrl::parse(url)?),
            None => Self::embed(settings, purpose).await,
        }
    }

    /// Returns the database that the operator's URL names.
    fn at(settings: &Settings, purpose: Purpose, owner: &DatabaseUrl) -> Result<Self, BuildError> {
        let runtime = if let Some(url) = &settings.database.runtime_url {
            DatabaseUrl::parse(url.expose_secret())?
        } else {
            let password = owner.config().get_password().map(bootstrap::runtime_password);
            owner.with_login(RUNTIME_LOGIN, password.as_deref())
        };
        let tls = vec![TlsFiles::open(owner.ssl())?, TlsFiles::open(runtime.ssl())?];
        let [mut owner, runtime] = [(owner, &tls[0]), (&runtime, &tls[1])]
            .map(|(url, tls)| endpoint(settings, url, tls.tls()));
        name_connections(settings, purpose, &mut owner);
        Ok(Self {
            owner: Login::new(owner),
            runtime: Login::new(runtime),
            origin: Origin::Url,
            psql: None,
            tls,
            #[cfg(feature = "embedded-postgres")]
            server: None,
        })
    }

    /// Returns the database of the embedded server of a running `serve`, or of a server that it starts.
    ///
    /// `serve` always starts its own server: the server of a command stops when the last command that uses it ends,
    /// while `serve` runs until it is stopped; and after a kill the old server may still be stopping.
    #[cfg(feature = "embedded-postgres")]
    async fn embed(settings: &Settings, purpose: Purpose) -> Result<Self, BuildError> {
        let max_connections = settings.database.max_connections + EMBEDDED_SPARE_CONNECTIONS;
        let embedded_settings = embedded::Settings {
            data_dir: settings.data_dir.clone(),
            bin_dir: settings.database.bin_dir.clone(),
            durability: embedded::Durability::Full,
            listen_tcp: None,
            max_connections: u16::try_from(max_connections).unwrap_or(u16::MAX),
        };
        if purpose == Purpose::Operate && !embedded::has_cluster(&settings.data_dir)? {
            return Err(BuildError::NoData { data_dir: settings.data_dir.clone() });
        }
        let (config, server) = match purpose {
            Purpose::Serve => {
                let server = embedded::Server::start_to_stay(&embedded_settings).await?;
                (
                    server.connect_config(EMBEDDED_DATABASE),
                    embedded::ServerHandle::Own(Box::new(server)),
                )
            }
            Purpose::Migrate | Purpose::Operate => {
                embedded::attach_or_start(&embedded_settings, EMBEDDED_DATABASE).await?
            }
        };
        // The server is reached over a Unix socket.
        let no_tls = Connector::without_tls()?.make_tls();
        let mut runtime = config.clone();
        runtime.user(RUNTIME_LOGIN);
        let mut owner = Endpoint { config, tls: no_tls.clone() };
        name_connections(settings, purpose, &mut owner);
        Ok(Self {
            owner: Login::new(owner),
            runtime: Login::new(Endpoint { config: runtime, tls: no_tls }),
            tls: Vec::new(),
            origin: Origin::Embedded,
            psql: match &server {
                embedded::ServerHandle::Own(server) => Some(server.psql_line(EMBEDDED_DATABASE)),
                embedded::ServerHandle::Other(_) => None,
            },
            server: Some(server),
        })
    }

    #[cfg(not(feature = "embedded-postgres"))]
    async fn embed(_: &Settings, _: Purpose) -> Result<Self, BuildError> {
        Err(BuildError::NoDatabase)
    }
}

/// Gives the connections of a server the name by which other servers find it.
fn name_connections(settings: &Settings, purpose: Purpose, owner: &mut Endpoint) {
    if purpose == Purpose::Serve && owner.config.get_application_name().is_none() {
        let host = gethostname::gethostname();
        let budget = settings.database.max_connections;
        owner.config.application_name(name::of_server(budget, &host.to_string_lossy()));
    }
}

fn endpoint(settings: &Settings, url: &DatabaseUrl, tls: Tls) -> Endpoint {
    let mut config = url.config().clone();
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(settings.database.connect_timeout);
    }
    Endpoint { config, tls }
}
