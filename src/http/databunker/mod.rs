//! Databunker Pro's dialect: `/v2/<Name>`, all `POST`, and the older `/v1/tenant`, `/v1/user`.
//!
//! Contract: the vendor's pages "Multi-tenancy", "Authentication", "Errors", "Pagination", their OpenAPI
//! document, and what their clients send. An answer always has `"status": "ok"`, an error is
//! `{"status": "error", "message": ".."}`; the codes are 400, 403, 404, 409 and 5xx, and never 401, 201 or
//! 422. Here a *user* is a profile and a *token* is a profile's id; a credential is an *xtoken*.
//!
//! Quirks:
//! - JSON is read whatever the `Content-Type` says (curl labels a body as a form by default); no body counts as `{}`;
//!   unknown keys and `request_metadata` are ignored; null counts as absent; `tenantid` may be a text.
//! - No `X-Bunker-Tenant` (or an empty one) and no subdomain means a tenant's own tenant for its token, the
//!   main tenant (number 1, called `main`) for root. A tenant's token with another tenant's name is refused, whether or
//!   not that tenant exists; a host name that is no tenant's is ignored.
//! - Authorization precedes validation: 403 even when parameters are invalid. An unreadable body is 400 only for a caller
//!   with the permission.
//! - A name of digits is a name in headers and hosts; in parameters the clients send it as `tenantid`, where it is a
//!   number.
//! - A bare `m` in `finaltime` and `slidingtime` is a month; in the lifetime of an xtoken, a minute.
//! - A deleted record can be restored until its `finaltime`; an expired one is erased with all its versions.
//! - `UserSearch` and `SystemSearchUserProfiles` answer a `total` that can exceed the rows: at most a hundred of one
//!   tenant, a thousand of all. `UserDeleteBulk` answers `deleted_count`.
//! - Records of more than 8 MiB are not in one answer: `BulkListUsers` and `BulkListAllUsers` refuse with 400, until fewer
//!   are asked for; a search answers the first ones.
//! - `SystemGetUserProfiles` without a match answers an empty list. Tenants that are suspended or could not be queried are
//!   listed under `errors`, a key that the vendor's answer does not have. If some could not be queried the answer is 503
//!   with `"status": "error"` and the results of the others.
//! - `TenantUpdate` for a tenant that the control plane has deleted is 409 until it is restored, for a caller that
//!   names it by `tenantid`. For the tenant's own token it is 404, like every call into a tenant that is not active.
//! - A compressed body is 415, as in every dialect; the vendor's clients send none.
//! - A wrong method on a known path is 405 with `Allow`, as the open-source server answers; the vendor's page documents
//!   only paths.
//! - v1 errors carry the codes of v2, where the open-source v1 server answered 405 to nearly everything.

mod answers;
mod bulk;
mod call;
mod params;
mod problem;
mod requests;
mod responses;
mod system;
mod tenants;
mod users;
mod v1;

use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, get, web};
use serde::Serialize;

use crate::domain::error::Error;
use crate::http::Mount;

pub(super) use problem::ErrorBody;
pub use problem::Problem;
use problem::message;

/// Mounts the routes of this dialect that need no table of a tenant.
pub fn mount(routes: &mut Mount<'_>) {
    routes.service(status);
    tenants::mount(routes);
    v1::mount(routes);
}

/// Mounts the routes of this dialect that work on the tables of profiles.
pub fn mount_profiles(routes: &mut Mount<'_>) {
    users::mount(routes);
    bulk::mount(routes);
    system::mount_profiles(routes);
    v1::mount_profiles(routes);
}

/// Whether a path belongs to this dialect.
#[must_use]
pub fn owns(path: &str) -> bool {
    path.starts_with("/v2/") || path.starts_with("/v1/") || path == "/v1" || path == "/v2"
}

/// Reports that the process is alive, with the text that this dialect's installers expect.
#[utoipa::path(tag = "databunker", operation_id = "getDatabunkerStatus", responses((status = 200, description = "OK", body = String, content_type = "text/plain")))]
#[get("/status")]
async fn status() -> &'static str {
    "OK"
}

/// What a handler answers.
type Answer = Result<HttpResponse, Problem>;

/// One of the [`answers`].
#[expect(clippy::unnecessary_wraps, reason = "it is the last line of every handler")]
fn ok(answer: impl Serialize) -> Answer {
    Ok(HttpResponse::Ok().json(answer))
}

/// As [`ok`], for an answer with many records: it is written on another thread, so that the worker's other requests do not
/// wait.
async fn ok_large<T: Serialize>(answer: impl FnOnce() -> T + Send + 'static) -> Answer {
    let written = web::block(move || serde_json::to_vec(&answer())).await;
    let written = written.map_err(|stopping| Error::unavailable("write an answer", stopping))?;
    let body = written.map_err(|unwritable| Error::internal("write an answer", unwritable))?;
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(body))
}

/// The answer of a call without a result.
fn done() -> Answer {
    ok(answers::Done { status: answers::Status::Ok })
}
