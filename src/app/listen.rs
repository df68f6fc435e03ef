//! The HTTP servers of a process: one for clients, and one for operators where the settings want it apart.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::KeepAlive;
use actix_web::{HttpServer, middleware, web};

use super::{Backend, BuildError, Options, Routes, pool_sizes, settings};
use crate::config::{AccessLog, Management, Settings};
use crate::http::health::Documents;
use crate::http::limits::Limits;
use crate::http::{self, Site, Surface};
use crate::pg::rules::PoolSizes;
use crate::telemetry::Metrics;

/// The listeners of a process, which are bound and do not serve yet.
pub(super) struct Listeners {
    clients: TcpListener,
    management: Option<TcpListener>,
    /// The address that clients reach.
    pub(super) addr: SocketAddr,
    /// The address that operators reach, if it is another.
    pub(super) management_addr: Option<SocketAddr>,
}

impl Listeners {
    /// Binds the addresses of the settings.
    ///
    /// # Errors
    /// [`BuildError::Listen`], which names the address.
    pub(super) fn bind(settings: &Settings) -> Result<Self, BuildError> {
        let (clients, addr) = bind(settings.listen, "--listen or ROWHOUSE_LISTEN")?;
        let (management, management_addr) = match settings.http.management {
            Management::At(wanted) => {
                let (listener, addr) = bind(wanted, "ROWHOUSE_HTTP__MANAGEMENT_LISTEN")?;
                (Some(listener), Some(addr))
            }
            Management::Shared | Management::Off => (None, None),
        };
        Ok(Self { clients, management, addr, management_addr })
    }

    /// Returns the servers on these listeners, which must be polled to serve.
    ///
    /// # Errors
    /// If a listener cannot be used.
    pub(super) fn serve(
        self,
        settings: &Settings,
        backend: &Backend,
        metrics: &Arc<Metrics>,
        limits: &Arc<Limits>,
        options: &Options,
    ) -> Result<Vec<Server>, BuildError> {
        let shared = Shared::new(settings, backend, metrics, limits, options);
        let (workers, pools) = worker_pools(settings);
        let surface = match settings.http.management {
            Management::Shared => Surface::All,
            Management::At(_) | Management::Off => Surface::Clients,
        };
        let failed = |addr, setting| move |source| BuildError::Listen { addr, setting, source };
        let clients = shared.server(
            self.clients,
            workers,
            pools,
            surface,
            Some(options.mount(&backend.states)),
        );
        let mut servers = vec![clients.map_err(failed(self.addr, "--listen or ROWHOUSE_LISTEN"))?];
        if let (Some(listener), Some(addr)) = (self.management, self.management_addr) {
            let pools = pool_sizes::MANAGEMENT;
            let server = shared.server(listener, 1, pools, Surface::Management, None);
            servers.push(server.map_err(failed(addr, "ROWHOUSE_HTTP__MANAGEMENT_LISTEN"))?);
        }
        Ok(servers)
    }
}

fn bind(
    wanted: SocketAddr,
    setting: &'static str,
) -> Result<(TcpListener, SocketAddr), BuildError> {
    let failed = |source| BuildError::Listen { addr: wanted, setting, source };
    let listener = TcpListener::bind(wanted).map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok((listener, addr))
}

/// The least time that a client has for the head of its first request.
const HEAD_TIMEOUT_MIN: Duration = Duration::from_secs(5);

/// What the servers of a process share.
struct Shared<'a> {
    backend: &'a Backend,
    metrics: &'a Arc<Metrics>,
    settings: Arc<http::Settings>,
    limits: Arc<Limits>,
    served: http::Served,
    documents: web::Data<Documents>,
    keep_alive: KeepAlive,
    shutdown_timeout: Duration,
}

impl<'a> Shared<'a> {
    fn new(
        settings: &Settings,
        backend: &'a Backend,
        metrics: &'a Arc<Metrics>,
        limits: &Arc<Limits>,
        options: &Options,
    ) -> Self {
        let offer = options.offer_of(settings, backend.parts.tenant_set.has_profiles());
        let served = offer.served;
        let documents = Documents::of(move || http::openapi_of(Surface::All, &offer));
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds since 1970 fit an f64 for the next million years"
        )]
        metrics.set_started_at(backend.clock.now().unix_timestamp() as f64);
        metrics.set_engine(backend.rules().engine.as_str());
        Self {
            backend,
            metrics,
            settings: Arc::new(http_settings(settings, served)),
            limits: Arc::clone(limits),
            documents: web::Data::new(documents),
            served,
            keep_alive: settings.http.keep_alive.map_or(KeepAlive::Disabled, KeepAlive::Timeout),
            shutdown_timeout: settings.http.shutdown_timeout,
        }
    }

    fn server(
        &self,
        listener: TcpListener,
        workers: usize,
        pools: PoolSizes,
        surface: Surface,
        application: Option<Routes>,
    ) -> std::io::Result<Server> {
        let (database, parts) = (self.backend.database.clone(), self.backend.parts.clone());
        let (metrics, clock) = (Arc::clone(self.metrics), self.backend.clock.clone());
        let (settings, limits) = (Arc::clone(&self.settings), Arc::clone(&self.limits));
        let documents = self.documents.clone();
        let routes = web::Data::new(http::Routes::default());
        let offered = self.served;
        let server = HttpServer::new(move || {
            let db = database
                .pools(pools)
                .expect("the main runtime's pools were made from the same settings");
            let site = Site {
                services: parts.services(&db, &database),
                metrics: Arc::clone(&metrics),
                clock: clock.clone(),
                settings: Arc::clone(&settings),
                limits: Arc::clone(&limits),
            };
            let app = actix_web::App::new()
                .configure(|config| {
                    http::mount(&mut http::Mount::Worker(config), surface, offered);
                })
                .app_data(web::Data::new(site))
                .app_data(documents.clone())
                .app_data(routes.clone())
                .configure(|config| http::extractors(config, settings.max_body_bytes))
                .default_service(web::to(http::fallback))
                .wrap(middleware::from_fn(http::host::refuse_ambiguous))
                .wrap(middleware::from_fn(http::middleware::guard))
                .wrap(http::cors::layer(&settings.cors))
                .wrap(middleware::from_fn(http::middleware::observe))
                .wrap(middleware::Compress::default());
            #[cfg(feature = "testing")]
            let app = app.wrap(middleware::from_fn(http::moved_time::at_time_of_test));
            match &application {
                Some(routes) => app.configure(|config| routes(config)),
                None => app,
            }
        });
        let server = server
            .workers(workers)
            .keep_alive(self.keep_alive)
            // Also ends a connection on which nothing is sent: clients open some in reserve, and one that ends soon fails
            // the request for which it is taken just then.
            .client_request_timeout(self.settings.request_timeout.max(HEAD_TIMEOUT_MIN))
            .shutdown_timeout(self.shutdown_timeout.as_secs().max(1))
            .disable_signals()
            .listen(listener)?;
        Ok(server.run())
    }
}

fn http_settings(settings: &Settings, served: http::Served) -> http::Settings {
    http::Settings {
        served,
        max_body_bytes: settings.http.max_body_bytes,
        request_timeout: settings.http.request_timeout,
        cookie_secure: settings.auth.cookie_secure,
        hosts: http::host::Hosts {
            base_domain: settings.base_domain.clone(),
            server: settings.server_hosts.clone(),
        },
        default_owner: settings.default_owner.clone(),
        proxies: settings.http.proxies.clone(),
        cors: settings.http.cors.clone(),
        console_host: settings.console.host.clone(),
        access_log: settings.log.access == AccessLog::On,
    }
}

/// Returns the number of workers that the connection budget allows, and the pools of each.
fn worker_pools(settings: &Settings) -> (usize, PoolSizes) {
    let (budget, wanted) = (settings.database.max_connections, settings.http.workers);
    let management = match settings.http.management {
        Management::At(_) => pool_sizes::MANAGEMENT.control,
        Management::Shared | Management::Off => 0,
    };
    let reserve = settings::sharing(settings).reserve() + management;
    let (workers, sizes) = pool_sizes::workers(budget, reserve, wanted);
    if workers < wanted {
        tracing::warn!(
            "using {workers} of {wanted} http.workers: database.max_connections ({budget}) allows no more"
        );
    }
    (workers, sizes)
}
