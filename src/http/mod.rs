//! Speaks HTTP: routes, wire forms, status codes.
//!
//! A request passes, in this order: [`observe`](middleware::observe) (request id, log span, metrics),
//! [`cors`] (pages of other origins), [`guard`](middleware::guard) (time limit, panics), routing, extraction
//! (who calls, in which tenant, and whether too often: [`limits`]), the handler. It may be refused at each of
//! these stations, always in the form of the dialect whose path it came in on. A handler unpacks, calls one
//! service method and wraps the answer; where it has an `if`, that is probably a rule and belongs below.
//!
//! Each dialect is a folder of its own and knows none of the others: its envelope, its sentences, its wire
//! types, one exhaustive `match` over [`domain::Error`](crate::domain::Error) in its `problem.rs`.
//!
//! To add an endpoint: a handler with `#[utoipa::path]` in the file of its noun, a line in the dialect's
//! `mount`, a line in `tests/api/unauthorized.rs`.
//! What it answers must be what it documents: the tests hold each answer against [`document`].

mod body;
mod body_timeout;
pub mod client_address;
pub mod control;
pub mod cors;
pub mod databunker;
pub mod docs;
pub mod document;
pub mod extract;
pub mod health;
mod idempotency;
pub mod limits;
pub mod middleware;
pub mod mount;
pub mod native;
mod responses;
pub mod reten;
mod routes;
mod sentence;
pub mod webfluss;

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, ResponseError};

use crate::domain::Clock;
use crate::domain::error::{Conflict, Error};
use crate::domain::names::Email;
use crate::service::Services;
use crate::telemetry::Metrics;

pub use document::openapi;
pub use mount::Mount;
pub use routes::{Routes, fallback};

/// What the HTTP side is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Longest time for one request.
    pub request_timeout: Duration,
    /// Whether cookies are sent over TLS alone.
    pub cookie_secure: bool,
    /// The domain whose subdomains are tenants.
    pub base_domain: Option<String>,
    /// Who owns a tenant that is created without an owner.
    pub default_owner: Option<Email>,
    /// Whose word about a client's address is taken.
    pub proxies: client_address::Proxies,
    /// Whose pages may call.
    pub cors: cors::Settings,
}

/// What every handler can reach. One a worker.
#[derive(Clone)]
pub struct Site {
    /// The use cases, over this worker's pools.
    pub services: Services,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// What was told at start.
    pub settings: Arc<Settings>,
    /// How often is too often; one for all workers.
    pub limits: Arc<limits::Limits>,
}

/// Mounts every dialect.
pub fn mount(routes: &mut Mount<'_>) {
    routes
        .configure(health::mount)
        .configure(docs::mount)
        .configure(reten::mount)
        .configure(databunker::mount)
        .configure(webfluss::mount)
        .configure(control::mount);
}

/// Refuses in the form of the dialect that the path belongs to. Reten's is the native one.
#[must_use]
pub fn refuse(path: &str, error: Error) -> HttpResponse {
    if control::owns(path) {
        control::Problem(error).error_response()
    } else if databunker::owns(path) {
        databunker::Problem(error).error_response()
    } else if webfluss::owns(path) {
        webfluss::Problem(error).error_response()
    } else {
        native::Problem(error).error_response()
    }
}

/// After how many seconds the same request may go well, where that is known; at least one.
fn retry_after(error: &Error) -> Option<u64> {
    match error {
        Error::TooMany { retry_after } | Error::Unavailable { retry_after, .. } => {
            Some(retry_after.as_secs().max(1))
        }
        _ => None,
    }
}

/// The same in the dialects whose clients wait for another request, too, that is in the way for a moment.
fn retry_after_also_conflicts(error: &Error) -> Option<u64> {
    match error {
        Error::Conflict(Conflict::StillRunning | Conflict::Concurrent) => Some(1),
        other => retry_after(other),
    }
}

/// The error of ours inside of an answer, whichever dialect it went out in.
fn cause_of(error: &actix_web::Error) -> Option<&Error> {
    let reten = error.as_error::<native::Problem>().map(|problem| &problem.0);
    reten
        .or_else(|| error.as_error::<databunker::Problem>().map(|problem| &problem.0))
        .or_else(|| error.as_error::<webfluss::Problem>().map(|problem| &problem.0))
        .or_else(|| error.as_error::<control::Problem>().map(|problem| &problem.0))
}
