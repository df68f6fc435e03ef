//! The composition root: builds everything once, in order, and stops it in the opposite order.
//!
//! [`Backend`] is everything but the listener: database, keys, services. The commands of the command line use one.
//! [`App`] adds the listener and the background [`jobs`]. `serve`, every test and every application that uses
//! the crate start a server with the same [`App::build`].

mod backend;
mod database;
mod error;
mod jobs;
mod parts;
mod pool_sizes;
mod purpose;
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

use self::jobs::{Intervals, Jobs};

pub use backend::Backend;
pub use error::BuildError;
pub use purpose::Purpose;
pub use secrets::FirstStart;

/// What an application or a test may replace.
#[derive(Default)]
pub struct Options {
    /// The clock. Default: the operating system's.
    pub clock: Option<Clock>,
    /// Routes of the application, mounted on every worker beside those of the crate.
    pub routes: Option<Routes>,
}

/// Mounts the routes of an application on one worker.
pub type Routes = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// Returns the `OpenAPI` document of all routes as JSON, for layers that may not import `http`.
///
/// # Errors
/// None in practice: the document contains nothing that JSON cannot represent.
pub fn openapi_document() -> serde_json::Result<String> {
    http::openapi().to_pretty_json()
}

/// A server with its listener.
pub struct App {
    addr: SocketAddr,
    backend: Backend,
    server: actix_web::dev::Server,
    metrics: Arc<Metrics>,
    intervals: Intervals,
}

impl App {
    /// Opens the backend and binds the listener. Requests are served once
    /// [`run_until_stopped`](App::run_until_stopped) is polled.
    ///
    /// # Errors
    /// [`BuildError`], which names the cause and the remedy.
    pub async fn build(settings: Settings, options: Options) -> Result<Self, BuildError> {
        let cannot_listen = |source| BuildError::Listen { addr: settings.listen, source };
        // Bound first, so that a taken port is reported before a database is started.
        let listener = TcpListener::bind(settings.listen).map_err(cannot_listen)?;
        let addr = listener.local_addr().map_err(cannot_listen)?;
        let backend = Backend::open(&settings, &options).await?;
        let metrics = Arc::new(Metrics::default());
        let server =
            listen(&settings, &backend, &metrics, options, listener).map_err(cannot_listen)?;
        let intervals = Intervals {
            erase: settings.erase_interval,
            purge: settings.tenants.purge_interval,
            recover: settings.fleet.take_up_interval,
            retention: settings.fleet.ledger_retention,
        };
        Ok(Self { addr, backend, server, metrics, intervals })
    }

    /// Returns the address that the server listens on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns everything but the listener.
    #[must_use]
    pub const fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Serves until `stop` is ready, then cancels the background jobs, lets running requests finish, closes the
    /// pools and stops the embedded server.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run_until_stopped(self, stop: impl Future<Output = ()>) -> std::io::Result<()> {
        let jobs = Jobs::start(&self.backend, &self.metrics, &self.intervals);
        let handle = self.server.handle();
        let mut server = std::pin::pin!(self.server);
        let outcome = tokio::select! {
            outcome = &mut server => {
                jobs.stop().await;
                outcome
            }
            () = stop => {
                // The server must be polled while it stops.
                let (outcome, ()) = tokio::join!(server, async {
                    jobs.stop().await;
                    handle.stop(true).await;
                });
                outcome
            }
        };
        jobs::write_last_refusals(&self.backend).await;
        jobs::announce_stop(&self.backend).await;
        self.backend.close().await;
        outcome
    }
}

fn listen(
    settings: &Settings,
    backend: &Backend,
    metrics: &Arc<Metrics>,
    options: Options,
    listener: TcpListener,
) -> std::io::Result<actix_web::dev::Server> {
    let metrics = Arc::clone(metrics);
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

/// Returns the number of workers that the connection budget allows, and the pools of each.
fn worker_pools(settings: &Settings) -> (usize, PoolSizes) {
    let (budget, wanted) = (settings.database.max_connections, settings.http.workers);
    let (workers, sizes) =
        pool_sizes::workers(budget, settings::sharing(settings).reserve(), wanted);
    if workers < wanted {
        tracing::warn!(
            "using {workers} of {wanted} http.workers: database.max_connections ({budget}) allows no more"
        );
    }
    (workers, sizes)
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}
