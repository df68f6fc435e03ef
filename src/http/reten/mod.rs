//! Reten's dialect, which is the native one: set-up, log-in, tenant lists, users, API keys.
//!
//! Contract: Reten's documentation pages "Getting Started", "Setup Tenant", "Login", "Refresh Token",
//! "List Tenants", "My Tenants", "List Tenant Users", "Reset User Password", "API Keys". An error is
//! `{"statusCode", "message", "error"}`; beside the documented `"message": "Validation failed"` we list every
//! bad field under `errors`, and 429 and 503 say when to come back in `Retry-After`.
//!
//! A credential is a bearer token, or an API key in `x-api-key`; both at once are refused, since nobody could tell
//! who calls. On routes inside of a tenant a bearer token comes with `x-tenant-id`; a key has its own tenant, and
//! another one in the header is refused.
//!
//! Quirks: `identifier` at log-in is documented as "username or email"; users here have no username, so
//! what is no address matches nobody. `GET /api/tenant` shows an ADMIN of some tenants those, where
//! Reten's page does not say. Another tenant's key is not found, where that page says 403: a stranger learns
//! nothing of it. `userId` of a key that no user made is null. Permissions are read in either case and answered in
//! upper case. `limit` is 100 at most and refused beyond. Beside the documented codes there are 405 with `Allow`,
//! 408 for a body that comes too slowly, 413 for a body over the limit, 422 for an idempotency key of another
//! body, 429 and 503; 401 carries `WWW-Authenticate` (RFC 9110, 11.6.1).

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
        .service(passwords::reset)
        .service(users::tenant_users)
        .service(api_keys::create)
        .service(api_keys::list)
        .service(api_keys::revoke);
}
