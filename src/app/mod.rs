//! The composition root: builds everything once, in order, and takes it down in the opposite order.
//!
//! [`Backend`] is the house without its front door: database, keys, services. The command line works on
//! one. [`App`] adds the listener; `serve`, every test and every library user start it by the same
//! [`App::build`].

mod backend;
mod database;
mod error;
mod host;
mod jobs;
mod pool_sizes;
mod secrets;
mod settings;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpServer, middleware, web};

use crate::config::Settings;
use crate::domain::Clock;
use crate::http::{self, Site};
use crate::pg::rules::PoolSizes;
use crate::telemetry::Metrics;

pub use backend::{Backend, FirstStart, Purpose};
pub use error::BuildError;

/// What tests and library users may replace.
#[derive(Default)]
pub struct Options {
    /// The time; the operating system's by default.
    pub clock: Option<Clock>,
    /// Routes of the application, mounted beside ours on every worker.
    pub routes: Option<Routes>,
}

/// Mounts an application's routes.
pub type Routes = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// The `OpenAPI` document of all routes, in JSON; for those who may not import `http`.
///
/// # Errors
/// None that we know of: the document holds nothing that JSON cannot.
pub fn openapi_document() -> serde_json::Result<String> {
    http::openapi().to_pretty_json()
}

/// A server that listens.
pub struct App {
    addr: SocketAddr,
    backend: Backend,
    server: actix_web::dev::Server,
    erase_interval: Duration,
    purge_interval: Duration,
    take_up_interval: Option<Duration>,
    ledger_retention: Option<Duration>,
}

impl App {
    /// Opens the backend and binds the listener. Requests are served from
    /// [`run_until_stopped`](App::run_until_stopped) on.
    ///
    /// # Errors
    /// What stands in the way, and what to do about it.
    pub async fn build(settings: Settings, options: Options) -> Result<Self, BuildError> {
        let cannot_listen = |source| BuildError::Listen { addr: settings.listen, source };
        // Bound first, so that a taken port is told before a database is started.
        let listener = TcpListener::bind(settings.listen).map_err(cannot_listen)?;
        let addr = listener.local_addr().map_err(cannot_listen)?;
        let backend = Backend::open(&settings, &options).await?;
        let server = listen(&settings, &backend, options, listener).map_err(cannot_listen)?;
        Ok(Self {
            addr,
            backend,
            server,
            erase_interval: settings.erase_interval,
            purge_interval: settings.tenants.purge_interval,
            take_up_interval: settings.fleet.take_up_interval,
            ledger_retention: settings.fleet.ledger_retention,
        })
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The house behind the listener.
    #[must_use]
    pub const fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Serves until `stop` is done, then lets running requests finish, closes the pools and stops the
    /// embedded server.
    ///
    /// # Errors
    /// Where the listener breaks.
    pub async fn run_until_stopped(self, stop: impl Future<Output = ()>) -> std::io::Result<()> {
        let handle = self.server.handle();
        let mut server = std::pin::pin!(self.server);
        let outcome = tokio::select! {
            outcome = &mut server => outcome,
            () = erase_expired_for_ever(&self.backend, self.erase_interval) => Ok(()),
            () = self.backend.keep_house_for_ever(self.purge_interval) => Ok(()),
            () = jobs::vacancies::keep_for_ever(&self.backend) => Ok(()),
            () = jobs::fleet::take_up_for_ever(&self.backend, self.take_up_interval) => Ok(()),
            () = jobs::fleet::prune_for_ever(&self.backend, self.ledger_retention) => Ok(()),
            () = stop => {
                // The server must go on being polled while it stops.
                let (outcome, ()) = tokio::join!(server, handle.stop(true));
                outcome
            }
        };
        jobs::vacancies::retire(&self.backend).await;
        self.backend.close().await;
        outcome
    }
}

/// Erases what has run out, again and again. What has run out is not served before that either. Dropped in the
/// middle it leaves the rest to the next time.
async fn erase_expired_for_ever(backend: &Backend, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        match Box::pin(backend.services.profiles.erase_expired(&backend.operator())).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "erased profiles that have run out"),
            Err(error) => {
                tracing::warn!(error = %error.chain(), "failed to erase what has run out");
            }
        }
    }
}

fn listen(
    settings: &Settings,
    backend: &Backend,
    options: Options,
    listener: TcpListener,
) -> std::io::Result<actix_web::dev::Server> {
    let metrics = Arc::new(Metrics::default());
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds since 1970 fit an f64 for the next million years"
    )]
    metrics.set_started_at(backend.clock.now().unix_timestamp() as f64);
    let http_settings = Arc::new(http_settings(settings));
    let limits = Arc::new(http::limits::Limits::new(
        &settings.limits,
        backend.clock.clone(),
        Arc::clone(&metrics),
    ));
    let (workers, sizes) = worker_pools(settings);
    let (database, parts, clock) =
        (backend.database.clone(), backend.parts.clone(), backend.clock.clone());
    let document = web::Data::new(http::openapi());
    let routes = web::Data::new(http::Routes::of(&document));
    let server = HttpServer::new(move || {
        let db = database
            .pools(sizes)
            .expect("the main runtime's pools were made from the same settings");
        let site = Site {
            services: parts.services(&db, &database),
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            settings: Arc::clone(&http_settings),
            limits: Arc::clone(&limits),
        };
        let app = actix_web::App::new()
            .configure(|config| http::mount(&mut http::Mount::Worker(config)))
            .app_data(web::Data::new(site))
            .app_data(document.clone())
            .app_data(routes.clone())
            .app_data(web::PayloadConfig::new(http_settings.max_body_bytes))
            .default_service(web::to(http::fallback))
            .wrap(middleware::from_fn(http::middleware::guard))
            .wrap(http::cors::layer(&http_settings.cors))
            .wrap(middleware::from_fn(http::middleware::observe))
            .wrap(middleware::Compress::default());
        match &options.routes {
            Some(routes) => app.configure(|config| routes(config)),
            None => app,
        }
    });
    let server = server
        .workers(workers)
        .shutdown_timeout(whole_seconds(settings.http.shutdown_timeout))
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

fn http_settings(settings: &Settings) -> http::Settings {
    http::Settings {
        max_body_bytes: settings.http.max_body_bytes,
        request_timeout: settings.http.request_timeout,
        cookie_secure: settings.auth.cookie_secure,
        base_domain: settings.base_domain.clone(),
        default_owner: settings.default_owner.clone(),
        proxies: settings.http.proxies.clone(),
        cors: settings.http.cors.clone(),
    }
}

/// The workers that there are connections for, and the pools of each.
fn worker_pools(settings: &Settings) -> (usize, PoolSizes) {
    let (budget, wished) = (settings.database.max_connections, settings.http.workers);
    let (workers, sizes) =
        pool_sizes::workers(budget, settings::sharing(settings).reserve(), wished);
    if workers < wished {
        tracing::warn!(
            "http.workers is {workers} and not {wished}: database.max_connections ({budget}) has room for no more"
        );
    }
    (workers, sizes)
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}
