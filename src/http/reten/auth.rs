//! Log-in and refresh: `/api/auth/login`, `/api/auth/refresh` ("Login", "Refresh Token").

use actix_web::cookie::{Cookie, SameSite};
use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::BODY;
use crate::auth::CallContext;
use crate::domain::User;
use crate::domain::error::{AuthProblem, Error};
use crate::domain::names::{EMAIL_MAX, Password};
use crate::domain::rule::Rule;
use crate::http::Site;
use crate::http::body::Body;
use crate::http::native::{ErrorBody, Problem, PublicCall};
use crate::http::{extract, origin};
use crate::service::sessions::Tokens;

/// The name of the cookie with the refresh token.
pub const REFRESH_COOKIE: &str = "refreshToken";

/// The only path that the cookie is sent to.
const COOKIE_PATH: &str = "/api/auth";

/// The body of a log-in.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(super) struct LoginBody {
    /// The user's e-mail address.
    #[schema(required = true, value_type = String, min_length = 1, max_length = 254, example = "admin@acme.com")]
    identifier: String,
    /// The user's password, 8 characters or more.
    #[schema(required = true, value_type = String, min_length = 8, max_length = 1024, example = "SecurePass123!")]
    password: String,
}

/// The response to a log-in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginAnswer {
    /// A bearer token that is valid for 15 minutes.
    access_token: String,
    /// The user who logged in.
    user: UserAnswer,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserAnswer {
    id: uuid::Uuid,
    email: String,
    first_name: String,
    last_name: String,
}

/// The response to a refresh.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefreshAnswer {
    /// The new access token, valid for 15 minutes.
    access_token: String,
}

/// Logs a user in. The body has an access token; an HTTP-only cookie has the refresh token. A request labelled
/// `text/plain` or `multipart/form-data`, as the forms of other sites are, gets no cookie.
#[utoipa::path(tag = "auth", request_body = LoginBody, responses(
    (status = 200, description = "The user is logged in", body = LoginAnswer),
    (status = 400, description = "A field is not valid; `errors` lists every invalid field", body = ErrorBody),
    (status = 401, description = "The e-mail address or the password is wrong", body = ErrorBody),
    (status = 403, description = "A page of another site sent the request, and its origin is not allowed", body = ErrorBody),
))]
#[post("/api/auth/login")]
pub(super) async fn login(
    site: web::Data<Site>,
    call: PublicCall,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    origin::require_known(&request)?;
    let client = extract::client(&request);
    site.limits.password_from(client)?;
    let mut body = body.without_credential().fields(BODY).await?;
    let identifier = body.required("identifier", |text| match text.chars().count() {
        0 => Err(Rule::Required),
        1..=EMAIL_MAX => Ok(text.to_owned()),
        _ => Err(Rule::TooLong(EMAIL_MAX)),
    });
    let password = body.required("password", Password::parse);
    let (identifier, password) = body.finish(identifier.zip(password))?;
    let attempt = site.limits.password(&identifier, client)?;
    let outcome = site.services.sessions.log_in(&call.0, &identifier, &password).await;
    attempt.settle(&outcome);
    let (user, tokens) = outcome?;
    expect(&site, &tokens);
    let mut answer = HttpResponse::Ok();
    if origin::may_set_cookie(&request) {
        answer.cookie(refresh_cookie(&site, &call.0, &tokens));
    }
    Ok(answer.json(LoginAnswer { access_token: tokens.access, user: user.into() }))
}

/// Exchanges the refresh cookie for a new access token and a new cookie. A cookie can be used once.
#[utoipa::path(tag = "auth", security(("refresh" = [])), responses(
    (status = 200, description = "The new access token", body = RefreshAnswer),
    (status = 401, description = "The cookie is missing, used, expired or unknown", body = ErrorBody),
    (status = 403, description = "A page of another site sent the request, and its origin is not allowed", body = ErrorBody),
))]
#[post("/api/auth/refresh")]
pub(super) async fn refresh(
    site: web::Data<Site>,
    call: PublicCall,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    origin::require_known(&request)?;
    let cookie =
        request.cookie(REFRESH_COOKIE).ok_or(Error::Unauthenticated(AuthProblem::Missing))?;
    let refreshed = site.services.sessions.refresh(&call.0, cookie.value());
    let tokens = extract::recognise(&request, cookie.value(), refreshed).await?;
    expect(&site, &tokens);
    let cookie = refresh_cookie(&site, &call.0, &tokens);
    Ok(HttpResponse::Ok().cookie(cookie).json(RefreshAnswer { access_token: tokens.access }))
}

/// Registers the new tokens with the limits, so that their first use is not counted as a wrong one.
fn expect(site: &Site, tokens: &Tokens) {
    site.limits.expect(&tokens.access);
    site.limits.expect(tokens.refresh.expose());
}

fn refresh_cookie(site: &Site, ctx: &CallContext, tokens: &Tokens) -> Cookie<'static> {
    Cookie::build(REFRESH_COOKIE, tokens.refresh.expose().to_owned())
        .path(COOKIE_PATH)
        .http_only(true)
        .secure(site.settings.cookie_secure)
        .same_site(SameSite::Lax)
        .max_age(time::Duration::seconds((tokens.refresh_expires_at - ctx.now).whole_seconds()))
        .finish()
}

impl From<User> for UserAnswer {
    fn from(user: User) -> Self {
        Self {
            id: user.id.uuid(),
            email: user.email.to_string(),
            first_name: user.first_name.to_string(),
            last_name: user.last_name.to_string(),
        }
    }
}
