//! The composition root: builds everything once, in order, and stops it in the opposite order.
//!
//! [`Backend`] is everything but the listeners: database, keys, services. The commands of the command line use one.
//! [`App`] adds the listeners and the background [`jobs`]. `serve`, every test and every application that uses
//! the crate start a server with the same [`App::build`].

mod backend;
mod database;
mod error;
mod jobs;
mod listen;
mod parts;
mod pool_sizes;
mod purpose;
mod secrets;
mod settings;

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::web;
use futures_util::future::{join_all, try_join_all};

use crate::config::Settings;
use crate::domain::Clock;
use crate::http;
use crate::telemetry::Metrics;

use self::jobs::{Intervals, Jobs};
use self::listen::Listeners;

pub use backend::Backend;
pub use error::BuildError;
pub use purpose::Purpose;
pub use secrets::FirstStart;

/// What an application or a test may replace.
#[derive(Default)]
pub struct Options {
    /// The clock. Default: that of the database.
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

/// A server with its listeners.
pub struct App {
    addr: SocketAddr,
    management_addr: Option<SocketAddr>,
    backend: Backend,
    servers: Vec<actix_web::dev::Server>,
    metrics: Arc<Metrics>,
    intervals: Intervals,
}

impl App {
    /// Opens the backend and binds the listeners. Requests are served once
    /// [`run_until_stopped`](App::run_until_stopped) is polled.
    ///
    /// # Errors
    /// [`BuildError`], which names the cause and the remedy.
    pub async fn build(settings: Settings, options: Options) -> Result<Self, BuildError> {
        // Bound first, so that a taken port is reported before a database is started.
        let listeners = Listeners::bind(&settings)?;
        let (addr, management_addr) = (listeners.addr, listeners.management_addr);
        let backend = Backend::open(&settings, &options).await?;
        let metrics = Arc::new(Metrics::with_waits(backend.database.waits()));
        let servers = listeners.serve(&settings, &backend, &metrics, options.routes)?;
        let intervals = Intervals {
            erase: settings.erase_interval,
            purge: settings.tenants.purge_interval,
            seal: settings.seal_interval,
            recover: settings.fleet.take_up_interval,
            retention: settings.fleet.ledger_retention,
            idle: settings.database.idle_timeout,
        };
        Ok(Self { addr, management_addr, backend, servers, metrics, intervals })
    }

    /// Returns the address that the server listens on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the address of the listener for operators, if the settings want one (`http.management_listen`).
    #[must_use]
    pub const fn management_addr(&self) -> Option<SocketAddr> {
        self.management_addr
    }

    /// Returns everything but the listeners.
    #[must_use]
    pub const fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Serves until `stop` is ready, then cancels the background jobs, lets running requests finish, closes the
    /// pools and stops the embedded server. An embedded server that ends by itself is started again.
    ///
    /// # Errors
    /// If a listener fails, or the embedded server does not stay up.
    pub async fn run_until_stopped(
        mut self,
        stop: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let jobs = Jobs::start(&self.backend, &self.metrics, &self.intervals);
        let handles: Vec<_> = self.servers.iter().map(actix_web::dev::Server::handle).collect();
        let mut serving = std::pin::pin!(try_join_all(self.servers));
        let stop_or_fault = async {
            tokio::select! {
                () = stop => Ok(()),
                fault = self.backend.keep_database_running() => Err(fault),
            }
        };
        let outcome = tokio::select! {
            outcome = &mut serving => {
                jobs.stop().await;
                outcome.map(drop)
            }
            end = stop_or_fault => {
                // Readers that wait for an event are answered now.
                self.backend.services.events.stop();
                // The servers must be polled while they stop.
                let (outcome, ()) = tokio::join!(serving, async {
                    jobs.stop().await;
                    join_all(handles.iter().map(|handle| handle.stop(true))).await;
                });
                end.and(outcome.map(drop))
            }
        };
        jobs::write_last_refusals(&self.backend).await;
        jobs::announce_stop(&self.backend).await;
        self.backend.close().await;
        outcome
    }
}
