//! Reten's dialect, whose form is the native one: set-up, log-in, tenant lists, users, API keys.
//!
//! Contract: Reten's documentation pages "Getting Started", "Setup Tenant", "Login", "Refresh Token",
//! "List Tenants", "My Tenants", "List Tenant Users", "Reset User Password", "API Keys". An error is
//! `{"statusCode", "message", "error"}`; beside the documented `"message": "Validation failed"` we list every
//! bad field under `errors`, and 429 and 503 have `Retry-After`.
//!
//! A credential is a bearer token, or an API key in `x-api-key`; both at once are refused, since the caller would be
//! ambiguous. On routes inside a tenant a bearer token needs `x-tenant-id`; a key has its own tenant, and another one in
//! the header is refused.
//!
//! Quirks:
//! - `identifier` at log-in is documented as "username or email"; users here have no username, so a text that is not an
//!   address matches no user.
//! - `GET /api/tenant` shows an ADMIN of some tenants those; Reten's page does not say.
//! - Another tenant's key is 404, where the page says 403: a caller from outside the tenant learns nothing about it.
//! - `userId` of a key that no user created is null.
//! - Permissions are read in either case and answered in upper case.
//! - `limit` is 100 at most; a larger one is refused.
//! - Log-in and refresh are 403 for a page of another site whose origin is not allowed. A log-in labelled as a form of
//!   another site could be gets no cookie.
//! - Beside the documented codes there are 405 with `Allow`, 408 for a body that arrives too slowly, 413 for a body over
//!   the limit, 415 for a compressed one, 422 for an idempotency key of another body, 429 and 503; 401 has
//!   `WWW-Authenticate` (RFC 9110, 11.6.1).

pub mod api_keys;
pub mod auth;
pub mod passwords;
pub mod tenants;
pub mod users;

use crate::http::Mount;
use crate::http::body::{Blank, FieldPolicy, Policy, Top};

/// How this dialect reads a body.
const BODY: Policy =
    Policy { blank: Blank::Malformed, top: Top::Object, fields: FieldPolicy::Lenient };

/// Mounts the routes of this dialect.
pub fn mount(routes: &mut Mount<'_>) {
    routes
        .service(tenants::setup)
        .service(tenants::mine)
        .service(tenants::list)
        .service(auth::login)
        .service(auth::refresh)
        .service(auth::logout)
        .service(passwords::reset)
        .service(users::tenant_users)
        .service(api_keys::create)
        .service(api_keys::list)
        .service(api_keys::revoke);
}
