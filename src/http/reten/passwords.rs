//! Resetting another user's password: `/api/auth/reset-user-password` ("Reset User Password").

use actix_web::{HttpResponse, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::BODY;
use crate::domain::Permission;
use crate::domain::names::{NewPassword, UserId};
use crate::domain::rule::Rule;
use crate::http::Site;
use crate::http::body::Body;
use crate::http::native::responses::InTenant;
use crate::http::native::scoped::Scoped;
use crate::http::native::{ErrorBody, Problem};
use crate::http::responses::ResetUserPassword;

/// The user and the new password.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(rename_all = "camelCase")]
pub(super) struct ResetBody {
    /// The id of the user.
    #[schema(required = true, value_type = String, format = "uuid", example = "550e8400-e29b-41d4-a716-446655440000")]
    user_id: String,
    /// The new password: at least 8 characters, at most 1,024 bytes, none of the most common.
    #[schema(required = true, value_type = String, min_length = 8, max_length = 1024, example = "NewSecurePass456!")]
    new_password: String,
}

/// A confirmation.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoneAnswer {
    /// What was done, for people.
    pub(super) message: &'static str,
}

/// Sets a new password for a user of the tenant and ends the user's sessions, API tokens and API keys.
///
/// They end in all tenants, because a reset is the remedy when an account is compromised. The caller's role must be
/// higher than the user's wherever the user has one: in this tenant, in other tenants and globally.
#[utoipa::path(tag = "auth", operation_id = "resetUserPassword", request_body = ResetBody, security(("bearer" = [])),
    params(("x-tenant-id" = Option<uuid::Uuid>, Header, description = "The tenant; default: the tenant of the API key or of the token")),
    responses(
        (status = 200, description = "The password is set", body = DoneAnswer),
        InTenant<ResetUserPassword>,
        (status = 400, description = "x-tenant-id is missing or not valid, or a field is not valid; `errors` lists every invalid field", body = ErrorBody),
        (status = 403, description = "RESET_USER_PASSWORD is missing in this tenant, or the user's role is not below the caller's in some tenant", body = ErrorBody),
        (status = 404, description = "No such tenant, or no such user in it", body = ErrorBody),
    )
)]
#[post("/api/auth/reset-user-password")]
pub(super) async fn reset(
    site: web::Data<Site>,
    call: Scoped,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (ctx, tenant) = call.with(Permission::ResetUserPassword)?;
    let mut body = body.fields(BODY).await?;
    let user = body.required("userId", |text| match text {
        "" => Err(Rule::Required),
        text => text.parse().map(UserId::new).map_err(|_no_id| Rule::UuidFormat),
    });
    let password = body.required("newPassword", NewPassword::parse);
    let (user, password) = body.finish(user.zip(password))?;
    site.services.passwords.reset(&ctx, tenant, user, &password).await?;
    Ok(HttpResponse::Ok().json(DoneAnswer { message: "Password reset successfully" }))
}
