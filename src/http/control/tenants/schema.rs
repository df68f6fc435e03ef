//! The schema of a tenant: its version, its size, the migrations that it lacks.

use actix_web::{HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::Permission;
use crate::http::control::Answer;
use crate::http::control::call::Call;
use crate::http::control::responses::{Forbidden, NoSuchTenant, Unexpected};
use crate::http::responses::ViewTenants;
use crate::service::overview::TenantSchema;
use crate::service::tenants::TenantRef;

/// The schema of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantSchema)]
pub(super) struct SchemaAnswer {
    /// The name of the schema and of the tenant's role.
    schema: String,
    /// The highest version of the migrations that were applied.
    migrations_version: i32,
    /// The digest of the migrations that were applied.
    migrations_fingerprint: String,
    /// The files that this server would apply, in order. Empty as well for a tenant that is being deleted.
    files_behind: Vec<String>,
    /// Why this server's migrations do not fit those that were applied; null if they fit.
    conflict: Option<String>,
    /// Tables, the history of migrations included.
    tables: i64,
    /// The size of the tables and their indexes, in bytes.
    bytes: i64,
}

/// Returns what the schema of a tenant holds, and the migrations that it lacks.
#[utoipa::path(tag = "control", operation_id = "getTenantSchema", security(("bearer" = [])),
    params(("tenant" = String, Path, description = "The id or the slug of the tenant")),
    responses(
        (status = 200, description = "The schema", body = SchemaAnswer),
        Unexpected, Forbidden<ViewTenants>, NoSuchTenant,
    ))]
#[get("/control/v1/tenants/{tenant}/schema")]
pub(super) async fn read(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewTenants)?;
    call.nothing_else()?;
    let which = TenantRef::IdOrSlug(call.path("tenant")?);
    let schema = call.services().overview.tenant_schema(&call.ctx, &which).await?;
    Ok(HttpResponse::Ok().json(SchemaAnswer::from(schema)))
}

impl From<TenantSchema> for SchemaAnswer {
    fn from(schema: TenantSchema) -> Self {
        Self {
            schema: schema.name.to_string(),
            migrations_version: schema.version,
            migrations_fingerprint: schema.fingerprint,
            files_behind: schema.files_behind,
            conflict: schema.conflict,
            tables: schema.footprint.tables,
            bytes: schema.footprint.bytes,
        }
    }
}
