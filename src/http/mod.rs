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

pub mod client_address;
pub mod control;
pub mod cors;
pub mod databunker;
pub mod docs;
pub mod document;
pub mod extract;
pub mod fields;
pub mod health;
mod idempotency;
pub mod limits;
pub mod middleware;
pub mod reten;
mod slow_body;
pub mod webfluss;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::domain::Clock;
use crate::domain::error::{Error, Malformed, Noun};
use crate::domain::names::Email;
use crate::service::Services;
use crate::telemetry::Metrics;

pub use document::openapi;

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
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .configure(health::mount)
        .configure(docs::mount)
        .configure(reten::mount)
        .configure(databunker::mount)
        .configure(webfluss::mount)
        .configure(control::mount);
}

/// The paths that are served and the methods that each answers to, to tell a wrong method from a wrong
/// path. Read off the document, so that it cannot fall behind.
pub struct Routes(Vec<Route>);

struct Route {
    path: actix_web::dev::ResourceDef,
    /// The value of `Allow`.
    allow: String,
}

impl Routes {
    /// Reads the routes off the document.
    #[must_use]
    pub fn of(document: &utoipa::openapi::OpenApi) -> Self {
        let route = |(path, item): (&String, &utoipa::openapi::PathItem)| {
            let methods = [
                (item.get.is_some(), "GET, HEAD"),
                (item.put.is_some(), "PUT"),
                (item.post.is_some(), "POST"),
                (item.delete.is_some(), "DELETE"),
                (item.patch.is_some(), "PATCH"),
                (true, "OPTIONS"),
            ];
            let allow: Vec<_> = methods.iter().filter(|(on, _)| *on).map(|(_, m)| *m).collect();
            Route { path: actix_web::dev::ResourceDef::new(path.as_str()), allow: allow.join(", ") }
        };
        Self(document.paths.paths.iter().map(route).collect())
    }

    fn find(&self, path: &str) -> Option<&Route> {
        self.0.iter().find(|route| route.path.is_match(path))
    }

    /// The pattern that a path matches, for labels.
    fn pattern(&self, path: &str) -> Option<&str> {
        self.find(path)?.path.pattern()
    }
}

/// Answers what no route answers: `OPTIONS`, a wrong method on a path that is there, a path that is not. Of an
/// application's paths we know that they are there, and not for which methods: `Allow` is missing there.
pub async fn fallback(request: HttpRequest, routes: web::Data<Routes>) -> HttpResponse {
    let Some(route) = routes.find(request.path()) else {
        let is_there = request.resource_map().has_resource(request.path());
        let error = if is_there {
            Error::Malformed(Malformed::Method)
        } else {
            Error::NotFound(Noun::Route)
        };
        return refuse(request.path(), error);
    };
    let mut answer = match *request.method() {
        Method::OPTIONS => HttpResponse::NoContent().finish(),
        _ => refuse(request.path(), Error::Malformed(Malformed::Method)),
    };
    if let Ok(allow) = HeaderValue::from_str(&route.allow) {
        answer.headers_mut().insert(ALLOW, allow);
    }
    answer
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
        reten::Problem(error).error_response()
    }
}

/// The error of ours inside of an answer, whichever dialect it went out in.
fn cause_of(error: &actix_web::Error) -> Option<&Error> {
    let reten = error.as_error::<reten::Problem>().map(|problem| &problem.0);
    reten
        .or_else(|| error.as_error::<databunker::Problem>().map(|problem| &problem.0))
        .or_else(|| error.as_error::<webfluss::Problem>().map(|problem| &problem.0))
        .or_else(|| error.as_error::<control::Problem>().map(|problem| &problem.0))
}
