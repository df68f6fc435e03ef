//! Databunker Pro's dialect: `/v2/<Name>`, all `POST`, and the older `/v1/tenant`, `/v1/user`.
//!
//! Contract: the vendor's pages "Multi-tenancy", "Authentication", "Errors", "Pagination", their OpenAPI
//! document, and what their clients send. An answer always has `"status": "ok"`, an error is
//! `{"status": "error", "message": ".."}`; the codes are 400, 403, 404, 409 and 5xx, and never 401, 201 or
//! 422. Here a *user* is a profile and a *token* is a profile's id; a credential is an *xtoken*.
//!
//! Quirks:
//! - JSON is read whatever the `Content-Type` says (curl's default label is the form's); no body is `{}`;
//!   unknown keys and `request_metadata` are ignored; null is as good as absent; `tenantid` may be a text.
//! - No `X-Bunker-Tenant` (or an empty one) and no subdomain means a tenant's own tenant for its token, the
//!   main tenant (number 1, called `main`) for root. A tenant's token beside another tenant's name is refused,
//!   whether or not there is such a tenant; a host that is nobody's name does not bother it.
//! - Who may not is told 403 before the parameters are looked at, and a body that cannot be read is a 400 only
//!   for who may.
//! - A name of digits alone is a name to headers and hosts; in parameters the clients send it as `tenantid`,
//!   where it is a number.
//! - A bare `m` in `finaltime` and `slidingtime` is a month; in the lifetime of an xtoken, a minute.
//! - A deleted record can be restored until its `finaltime`; one that has run out is erased, versions and all.
//! - `UserSearch` and `SystemSearchUserProfiles` answer a `total` that may be more than the rows: a hundred of
//!   a tenant at most, a thousand of all. `UserDeleteBulk` answers `deleted_count`.
//! - `SystemGetUserProfiles` without a match answers an empty list. Tenants that are suspended or could not be
//!   asked are listed under `errors`, a key that the vendor's answer does not have.
//! - `TenantUpdate` for a tenant that the control plane has deleted is 409 until it is restored, for a caller who
//!   names it by `tenantid`. To the tenant's own token it is 404, as to every call into a tenant that is not active.
//! - A wrong method on a path that is there is 405 with `Allow`, as the open-source server answers; the
//!   vendor's page knows paths alone.
//! - v1 errors carry the codes of v2, where the open-source v1 server answered 405 to nearly everything.

mod answers;
mod bulk;
mod call;
mod problem;
mod requests;
mod responses;
mod system;
mod tenants;
mod users;
mod v1;

use actix_web::{HttpResponse, get};
use serde::Serialize;

use crate::http::Mount;

pub(super) use problem::ErrorBody;
pub use problem::Problem;
use problem::message;

/// Mounts the routes of this dialect.
pub fn mount(routes: &mut Mount<'_>) {
    routes.service(status);
    tenants::mount(routes);
    users::mount(routes);
    bulk::mount(routes);
    system::mount(routes);
    v1::mount(routes);
}

/// Whether a path belongs to this dialect.
#[must_use]
pub fn owns(path: &str) -> bool {
    path.starts_with("/v2/") || path.starts_with("/v1/") || path == "/v1" || path == "/v2"
}

/// Reports that the process is alive, with the text that this dialect's installers expect.
#[utoipa::path(tag = "databunker", operation_id = "DatabunkerStatus", responses((status = 200, description = "OK", body = String, content_type = "text/plain")))]
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

/// Done, and nothing to tell of it.
fn done() -> Answer {
    ok(answers::Done { status: answers::Status::Ok })
}
