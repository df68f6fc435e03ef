//! The composition root: builds everything once, in order, and stops it in the opposite order.
//!
//! [`Backend`] is everything but the listeners: database, keys, services. The commands of the command line use one.
//! [`App`] adds the listeners and the background [`jobs`]. `serve`, every test and every application that uses
//! the crate start a server with the same [`App::build`].

mod backend;
pub mod context;
mod database;
mod error;
mod jobs;
mod listen;
pub mod options;
mod parts;
mod pool_sizes;
mod purpose;
mod reload;
mod secrets;
mod settings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use crate::config::Settings;
use crate::http::Offer;
#[cfg(feature = "testing")]
use crate::http::document::parts::{Version, document};
use crate::http::limits::Limits;
#[cfg(feature = "testing")]
use crate::http::{self, Surface};
use crate::telemetry::Metrics;

use self::jobs::{Intervals, Jobs};
use self::listen::Listeners;
use self::options::ApplicationJob;

pub use backend::Backend;
pub use context::{Context, Report};
pub use error::BuildError;
pub use options::{Options, Routes, openapi_document};
pub use purpose::Purpose;
pub use reload::Reload;
pub use secrets::FirstStart;

/// The routes that a document describes.
#[cfg(feature = "testing")]
#[derive(Clone, Copy)]
pub(crate) enum Described {
    /// All that the server has.
    All,
    /// The application's own.
    Own,
}

/// Makes an `OpenAPI` document.
#[cfg(feature = "testing")]
pub(crate) type Document = Box<dyn Fn(Described) -> serde_json::Value + Send + Sync>;

/// A server with its listeners.
pub struct App {
    addr: SocketAddr,
    management_addr: Option<SocketAddr>,
    offer: Offer,
    backend: Backend,
    servers: Vec<actix_web::dev::Server>,
    metrics: Arc<Metrics>,
    intervals: Intervals,
    own_jobs: Vec<(ApplicationJob, Duration)>,
    jobs_after: Duration,
    drain_delay: Duration,
    reload: Reload,
}

impl App {
    /// Opens the backend and binds the listeners. Requests are served once
    /// [`run_until_stopped`](App::run_until_stopped) is polled.
    ///
    /// # Errors
    /// [`BuildError`], which names the cause and the remedy.
    pub async fn build(settings: Settings, options: Options) -> Result<Self, BuildError> {
        options.check()?;
        // Bound first, so that a taken port is reported before a database is started.
        let listeners = Listeners::bind(&settings)?;
        let (addr, management_addr) = (listeners.addr, listeners.management_addr);
        let backend = Backend::open(&settings, &options).await?;
        let own_jobs = options.jobs.iter().map(|job| Ok((job.clone(), job.interval()?)));
        let own_jobs = own_jobs.collect::<Result<_, BuildError>>()?;
        let (waits, time_limit) = (backend.database.waits(), settings.http.request_timeout);
        let metrics = Arc::new(Metrics::of(waits, time_limit, &options.metrics));
        let limits = Limits::new(&settings.limits, backend.clock.clone(), Arc::clone(&metrics));
        let limits = Arc::new(limits);
        let servers = listeners.serve(&settings, &backend, &metrics, &limits, &options)?;
        let reload = Reload { limits, tls: backend.tls.clone() };
        let intervals = Intervals {
            erase: settings.erase_interval,
            purge: settings.tenants.purge_interval,
            seal: settings.seal_interval,
            recover: settings.fleet.take_up_interval,
            retention: settings.fleet.ledger_retention,
            idle: settings.database.idle_timeout,
        };
        let drain_delay = settings.http.drain_delay;
        let has_profiles = backend.parts.tenant_set.has_profiles();
        let offer = options.offer_of(&settings, has_profiles);
        Ok(Self {
            addr,
            management_addr,
            offer,
            backend,
            servers,
            metrics,
            intervals,
            own_jobs,
            jobs_after: options.jobs_after,
            drain_delay,
            reload,
        })
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

    /// Returns whether the console is served.
    #[must_use]
    pub const fn has_console(&self) -> bool {
        self.offer.served.has_console()
    }

    /// Returns what makes the `OpenAPI` document that it serves.
    #[cfg(feature = "testing")]
    pub(crate) fn document(&self) -> Document {
        let offer = self.offer.clone();
        Box::new(move |described| {
            let described = match described {
                Described::All => http::openapi_of(Surface::All, &offer),
                Described::Own => http::openapi_of_application(&offer),
            };
            document(&described, None, Version::V3_1).unwrap_or_default()
        })
    }

    /// Returns what replaces settings while the server runs.
    #[must_use]
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Returns everything but the listeners.
    #[must_use]
    pub const fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Serves until `stop` is ready. Then it is not ready any more and serves on for `http.drain_delay`, cancels the
    /// background jobs, lets running requests finish, closes the pools and stops the embedded server. An embedded server
    /// that ends by itself is started again.
    ///
    /// # Errors
    /// If a listener fails, or the embedded server does not stay up.
    pub async fn run_until_stopped(
        mut self,
        stop: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let (metrics, own_jobs) = (&self.metrics, &self.own_jobs);
        let jobs = Jobs::start(&self.backend, metrics, &self.intervals, own_jobs, self.jobs_after);
        let handles: Vec<_> = self.servers.iter().map(actix_web::dev::Server::handle).collect();
        let mut serving = std::pin::pin!(try_join_all(self.servers));
        let (health, drain_delay) = (self.backend.services.health.clone(), self.drain_delay);
        let stop = async {
            stop.await;
            health.stop();
            tokio::time::sleep(drain_delay).await;
        };
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
