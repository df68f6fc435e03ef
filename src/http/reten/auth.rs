//! Log-in, refresh and log-out: `/api/auth/login`, `/api/auth/refresh` ("Login", "Refresh Token"), and
//! `/api/auth/logout`, which is ours.

use actix_web::cookie::{Cookie, SameSite};
use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::BODY;
use super::passwords::DoneAnswer;
use crate::auth::CallContext;
use crate::auth::token::Presented;
use crate::domain::User;
use crate::domain::error::{AuthProblem, Error, Result};
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
#[utoipa::path(tag = "auth", operation_id = "login", request_body = LoginBody, responses(
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
    let agent = extract::user_agent(&request);
    let attempt = site.limits.password(&identifier, client).await?;
    let outcome = site.services.sessions.log_in(&call.0, &agent, &identifier, &password).await;
    attempt.settle(&outcome);
    let (user, tokens) = outcome?;
    expect(&site, &tokens);
    let mut answer = HttpResponse::Ok();
    if origin::may_set_cookie(&request) {
        answer.cookie(refresh_cookie(&site, &call.0, &tokens));
    }
    Ok(answer.json(LoginAnswer { access_token: tokens.access, user: user.into() }))
}

/// Exchanges the refresh cookie for a new access token and a new cookie. A cookie can be used once; for ten seconds more
/// by the same user agent, so that two tabs can refresh at the same moment. Used later or by another, it ends the session.
#[utoipa::path(tag = "auth", operation_id = "refreshSession", security(("refresh" = [])), responses(
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
    let agent = extract::user_agent(&request);
    let refreshed = site.services.sessions.refresh(&call.0, &agent, cookie.value());
    let tokens = extract::recognise(&request, cookie.value(), refreshed).await?;
    expect(&site, &tokens);
    let cookie = refresh_cookie(&site, &call.0, &tokens);
    Ok(HttpResponse::Ok().cookie(cookie).json(RefreshAnswer { access_token: tokens.access }))
}

/// Ends the session of the refresh cookie and removes the cookie; with a bearer access token, expired or not, ends that
/// token's session. Every token of an ended session is refused at once. A credential that is not valid has no session, so
/// repeating the call changes nothing and succeeds.
#[utoipa::path(tag = "auth", operation_id = "logOut", security((), ("refresh" = []), ("bearer" = [])), responses(
    (status = 200, description = "No session of the cookie or of the access token is left", body = DoneAnswer),
    (status = 403, description = "The bearer token or API key is valid and has no session, or a page of another site sent the request, and its origin is not allowed", body = ErrorBody),
))]
#[post("/api/auth/logout")]
pub(super) async fn logout(
    site: web::Data<Site>,
    call: PublicCall,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    origin::require_known(&request)?;
    if let Some(cookie) = request.cookie(REFRESH_COOKIE) {
        let ended = site.services.sessions.log_out_by_refresh(&call.0, cookie.value());
        match extract::recognise(&request, cookie.value(), ended).await {
            // A cookie that names no session is removed.
            Ok(()) | Err(Error::Unauthenticated(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match end_by_bearer(&site, &call.0, &request).await {
        // What is not valid has no session.
        Err(Error::Unauthenticated(_)) => {}
        ended => ended?,
    }
    let mut gone = cookie_of(&site, String::new());
    gone.make_removal();
    Ok(HttpResponse::Ok().cookie(gone).json(DoneAnswer { message: "Logged out successfully" }))
}

/// Ends the session of the access token in the `Authorization` header, if there is one; refuses another valid credential.
async fn end_by_bearer(site: &Site, ctx: &CallContext, request: &HttpRequest) -> Result<()> {
    let has_key = request.headers().contains_key(extract::API_KEY_HEADER);
    match extract::bearer(request)? {
        None if !has_key => Ok(()),
        // Not as the caller: the token of a session that has ended is good enough to end it again.
        Some(token) if !has_key && Presented::classify(token) == Presented::AccessToken => {
            let ended = site.services.sessions.log_out_by_access(ctx, token);
            extract::recognise(request, token, ended).await
        }
        _ => extract::identify(request).await?.require_session().map(drop),
    }
}

/// Registers the new tokens with the limits, so that their first use is not counted as a wrong one.
fn expect(site: &Site, tokens: &Tokens) {
    site.limits.expect(&tokens.access);
    site.limits.expect(tokens.refresh.expose());
}

fn refresh_cookie(site: &Site, ctx: &CallContext, tokens: &Tokens) -> Cookie<'static> {
    let mut cookie = cookie_of(site, tokens.refresh.expose().to_owned());
    let seconds = (tokens.refresh_expires_at - ctx.now).whole_seconds();
    cookie.set_max_age(time::Duration::seconds(seconds));
    cookie
}

fn cookie_of(site: &Site, value: String) -> Cookie<'static> {
    Cookie::build(REFRESH_COOKIE, value)
        .path(COOKIE_PATH)
        .http_only(true)
        .secure(site.settings.cookie_secure)
        .same_site(SameSite::Lax)
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
