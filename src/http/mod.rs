//! Speaks HTTP: routes, wire forms, status codes.
//!
//! A request passes, in this order: [`observe`](middleware::observe) (request id, log span, metrics),
//! [`cors`] (pages of other origins), [`guard`](middleware::guard) (compressed bodies, time limit, panics),
//! [`refuse_ambiguous`](host::refuse_ambiguous) (two tenants in one request), routing, extraction (caller, tenant,
//! [`limits`]), the handler. Each of these steps can refuse it, always in the form of the dialect that
//! its path belongs to. A handler reads the request, calls one service method and writes the answer; an `if` in it is
//! probably a rule and belongs in a service.
//!
//! Each dialect is a folder of its own and imports none of the others: its envelope, its wire types, its body policy,
//! one exhaustive `match` over [`domain::Error`](crate::domain::Error) in its `problem.rs`. [`native`] has what
//! Rowhouse's own routes and an application's share, in Reten's form of errors.
//!
//! To add an endpoint: a handler with `#[utoipa::path]` in the file of its noun, a line in the dialect's
//! `mount`, a line in `tests/api/unauthorized.rs`.
//! Its answers must match its documentation: the tests validate each answer against [`document`].

mod archive_content;
mod audit_export;
mod body;
mod body_timeout;
pub mod client_address;
#[cfg(feature = "console")]
pub mod console;
pub mod control;
pub mod cors;
mod csv;
mod cursor;
pub mod databunker;
pub mod docs;
pub mod document;
mod encoding;
pub mod extract;
mod guess;
pub mod health;
pub mod host;
mod idempotency;
pub mod limits;
pub mod middleware;
pub mod mount;
#[cfg(feature = "testing")]
pub(crate) mod moved_time;
pub mod native;
mod origin;
mod refusals;
mod request_span;
mod responses;
pub mod reten;
mod routes;
mod sentence;
mod served;
pub mod webfluss;

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, ResponseError};

use crate::domain::Clock;
use crate::domain::error::{Conflict, Error};
use crate::domain::names::Email;
use crate::service::Services;
use crate::telemetry::Metrics;

#[cfg(feature = "testing")]
pub use document::openapi_of_application;
pub use document::{Offer, openapi, openapi_of};
pub use mount::Mount;
pub(crate) use native::extractors;
pub use routes::{Routes, fallback};
pub use served::{Dialect, Served};

/// The settings of the HTTP side.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The routes of ours that are mounted.
    pub served: Served,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Time limit of one request.
    pub request_timeout: Duration,
    /// Whether cookies are sent over TLS only.
    pub cookie_secure: bool,
    /// The host names that have a meaning.
    pub hosts: host::Hosts,
    /// The owner of a tenant that is created without one.
    pub default_owner: Option<Email>,
    /// The proxies that are trusted to report the client's address and the host.
    pub proxies: client_address::Proxies,
    /// The origins that may call from a browser.
    pub cors: cors::Settings,
    /// The only host name at which the console is served; `None` for every one that is no tenant's.
    pub console_host: Option<String>,
    /// Whether each request has a line in the log.
    pub access_log: bool,
}

/// The state that every handler can reach; one for each worker.
#[derive(Clone)]
pub struct Site {
    /// The use cases, on this worker's pools.
    pub services: Services,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The clock.
    pub clock: Clock,
    /// The settings.
    pub settings: Arc<Settings>,
    /// The rate limits; one for all workers.
    pub limits: Arc<limits::Limits>,
}

/// The routes that a listener serves. Each one serves those of health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// All routes.
    All,
    /// The routes for clients.
    Clients,
    /// The routes for operators: the metrics, the OpenAPI document and the page that shows it.
    Management,
}

/// Mounts the routes of a listener.
pub fn mount(routes: &mut Mount<'_>, surface: Surface, served: Served) {
    routes.configure(health::mount);
    if surface != Surface::Clients {
        routes.configure(health::mount_management).configure(docs::mount);
        if served.has(Dialect::Control) {
            routes.configure(health::mount_control_document);
        }
    }
    if surface != Surface::Management {
        routes.configure(health::mount_keys);
        if served.has(Dialect::Reten) {
            routes.configure(reten::mount);
        }
        if served.has(Dialect::Databunker) {
            routes.configure(databunker::mount);
        }
        if served.has(Dialect::Databunker) && served.has_profiles() {
            routes.configure(databunker::mount_profiles);
        }
        if served.has(Dialect::Webfluss) {
            routes.configure(webfluss::mount);
        }
        if served.has(Dialect::Control) {
            routes.configure(control::mount);
        }
        #[cfg(feature = "console")]
        if served.has_console() {
            routes.pages(console::mount);
        }
    }
}

/// A form of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Native,
    Control,
    Databunker,
    Webfluss,
    #[cfg(feature = "console")]
    Console,
}

/// Returns the form in which a path is answered; the native form is that of every other path, also of those that a
/// dialect would have which is not served.
fn form(served: Served, path: &str) -> Form {
    #[cfg(feature = "console")]
    if served.has_console() && console::owns(path) {
        return Form::Console;
    }
    if served.has(Dialect::Control) && control::owns(path) {
        Form::Control
    } else if served.has(Dialect::Databunker) && databunker::owns(path) {
        Form::Databunker
    } else if served.has(Dialect::Webfluss) && webfluss::owns(path) {
        Form::Webfluss
    } else {
        Form::Native
    }
}

/// Answers an error in the form of the dialect that the path belongs to; in the native form for every other path.
#[must_use]
pub fn refuse(served: Served, path: &str, error: Error) -> HttpResponse {
    match form(served, path) {
        Form::Control => control::Problem(error).error_response(),
        Form::Databunker => databunker::Problem(error).error_response(),
        Form::Webfluss => webfluss::Problem(error).error_response(),
        Form::Native => native::Problem(error).error_response(),
        #[cfg(feature = "console")]
        Form::Console => console::Problem::from(error).error_response(),
    }
}

/// The seconds after which to ask again what passes by itself.
const RETRY_SOON: u64 = 1;

/// The seconds after which to ask again where an operator has to act first.
const RETRY_AFTER_OPERATOR: u64 = 60;

/// Returns the seconds until a retry can succeed, at least one; for every error that is answered 429 or 503.
fn retry_after(error: &Error) -> Option<u64> {
    match error {
        Error::TooMany { retry_after }
        | Error::TenantBusy { retry_after }
        | Error::Unavailable { retry_after, .. } => Some(retry_after.as_secs().max(1)),
        Error::TenantDamaged { .. } => Some(RETRY_AFTER_OPERATOR),
        Error::Fleet(problem) if problem.is_outage() => Some(RETRY_AFTER_OPERATOR),
        _ => None,
    }
}

/// Returns the same for the dialects whose clients also retry after a conflict that passes by itself.
fn retry_after_also_conflicts(error: &Error) -> Option<u64> {
    match error {
        Error::Conflict(Conflict::StillRunning | Conflict::Concurrent) => Some(1),
        other => retry_after(other),
    }
}

/// Returns the domain error inside an answer of any dialect.
fn cause_of(error: &actix_web::Error) -> Option<&Error> {
    #[cfg(feature = "console")]
    if let Some(problem) = error.as_error::<console::Problem>() {
        return Some(&problem.error);
    }
    let native = error.as_error::<native::Problem>().map(|problem| &problem.0);
    native
        .or_else(|| error.as_error::<databunker::Problem>().map(|problem| &problem.0))
        .or_else(|| error.as_error::<webfluss::Problem>().map(|problem| &problem.0))
        .or_else(|| error.as_error::<control::Problem>().map(|problem| &problem.0))
}

#[cfg(test)]
mod tests;
