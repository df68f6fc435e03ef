//! The control dialect, which is our own, under `/control/v1`: the endpoints that dashboards, pipelines and operators
//! need and no foreign contract has.
//!
//! Bodies and query parameters are strict: an unknown one is refused by name, so that a mistyped filter does not list
//! everything. An error is `application/problem+json` (RFC 9457): `code` is stable and for machines, `detail` is for
//! people and can change, `errors` names every bad field by a JSON pointer into the body (`/admin/email`) or as
//! `?parameter`. Lists answer `{"data": [..], "next_cursor": ..}`; an incomplete one always has a cursor. A tenant has
//! its revision as `ETag`; a change of it needs `If-Match`, which is `*` for any revision. A resource that the caller may
//! not know of answers 404.
//!
//! To add an endpoint: a handler that takes a [`Call`](call::Call), in the file of its noun.

mod archives;
mod audit;
mod call;
mod capacity;
mod cluster;
mod events;
mod examinations;
mod imports;
mod invitations;
mod me;
mod measurements;
mod members;
mod migration_set;
mod migrations;
mod persons;
mod problem;
mod responses;
mod settings;
mod signing_keys;
mod summary;
mod tenants;
mod tokens;
mod vacancies;

use actix_web::HttpResponse;
use actix_web::http::Method;

use crate::http::Mount;

pub(super) use problem::PROBLEM_JSON;
pub use problem::{FieldError, Problem, ProblemBody};

/// Mounts the routes of this dialect.
pub fn mount(routes: &mut Mount<'_>) {
    tenants::mount(routes);
    members::mount(routes);
    invitations::mount(routes);
    tokens::mount(routes);
    signing_keys::mount(routes);
    audit::mount(routes);
    archives::mount(routes);
    imports::mount(routes);
    events::mount(routes);
    me::mount(routes);
    migrations::mount(routes);
    cluster::mount(routes);
    migration_set::mount(routes);
    vacancies::mount(routes);
    examinations::mount(routes);
    capacity::mount(routes);
    summary::mount(routes);
    settings::mount(routes);
    measurements::mount(routes);
}

/// Whether a path belongs to this dialect.
#[must_use]
pub fn owns(path: &str) -> bool {
    path.starts_with("/control/") || path == "/control"
}

/// Whether a request takes as long as its body does, which may be large: its handler limits the pauses in it.
#[must_use]
pub(super) fn limits_its_own_time(method: &Method, path: &str) -> bool {
    method == Method::POST && path == archives::UPLOADS
}

/// What a handler answers.
type Answer = Result<HttpResponse, Problem>;
