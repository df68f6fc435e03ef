//! Other people's passwords: `/api/auth/reset-user-password` ("Reset User Password").

use actix_web::{HttpResponse, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::Permission;
use crate::domain::error::Rule;
use crate::domain::names::{Password, UserId};
use crate::http::Site;
use crate::http::extract::Body;
use crate::http::fields::{Fields, Text, read_object};
use crate::http::native::scoped::Scoped;
use crate::http::native::{ErrorBody, Problem};

/// Whose password becomes what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetBody {
    /// Whose.
    #[serde(default)]
    #[schema(required = true, value_type = String, format = "uuid", example = "550e8400-e29b-41d4-a716-446655440000")]
    user_id: Text,
    /// What: at least 8 characters, at most 1,024 bytes.
    #[serde(default)]
    #[schema(required = true, value_type = String, min_length = 8, max_length = 1024, example = "NewSecurePass456!")]
    new_password: Text,
}

/// That something was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoneAnswer {
    /// What, for people.
    pub(super) message: &'static str,
}

/// Gives a user of the tenant a new password and ends their sessions, and the tokens and API keys that they made.
///
/// All of them, in other tenants too: a reset is what helps where somebody else got into the account.
/// The caller must stand above the user wherever that one has a role: here, in other tenants, everywhere.
#[utoipa::path(tag = "auth", operation_id = "RetenResetUserPassword", request_body = ResetBody, security(("bearer" = [])),
    params(("x-tenant-id" = Option<uuid::Uuid>, Header, description = "The tenant; an API key has its own")),
    responses(
        (status = 200, description = "Done", body = DoneAnswer),
        (status = 400, description = "The tenant is not named, or a field is not valid; every bad one is listed", body = ErrorBody),
        (status = 401, description = "No valid credential", body = ErrorBody),
        (status = 403, description = "RESET_USER_PASSWORD is missing in this tenant, or the user is not below the caller, everywhere", body = ErrorBody),
        (status = 404, description = "No such tenant, or no such user in it", body = ErrorBody),
        (status = 408, description = "The body did not come in time", body = ErrorBody),
        (status = 413, description = "The body is larger than the server reads", body = ErrorBody),
        (status = 503, description = "Not available right now; Retry-After says when to come back", body = ErrorBody),
    )
)]
#[post("/api/auth/reset-user-password")]
pub(super) async fn reset(
    site: web::Data<Site>,
    call: Scoped,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (ctx, tenant) = call.with(Permission::ResetUserPassword)?;
    let body: ResetBody = read_object(&body.read().await?)?;
    let mut fields = Fields::default();
    let user = fields.required("userId", &body.user_id, |text| match text {
        "" => Err(Rule::Required),
        text => text.parse().map(UserId::new).map_err(|_no_id| Rule::UuidFormat),
    });
    let password = fields.required("newPassword", &body.new_password, Password::parse);
    let (user, password) = fields.finish(user.zip(password))?;
    site.services.passwords.reset(&ctx, tenant, user, &password).await?;
    Ok(HttpResponse::Ok().json(DoneAnswer { message: "Password reset successfully" }))
}
