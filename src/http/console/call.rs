//! Reads a request to the console: the caller from the cookie, the form, the path, the query.
//!
//! A request that changes something must come from a page of the console itself ([`origin::require_same`]), which the
//! browser tells. So no form needs a token against forgery, and the API never looks at the cookie.

use std::borrow::Cow;

use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, IF_NONE_MATCH, LOCATION};
use actix_web::http::uri::PathAndQuery;
use actix_web::{HttpRequest, HttpResponse, web};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use uuid::Uuid;

use super::ROUTES;
use super::form::Form;
use crate::auth::{CallContext, Principal};
use crate::domain::Permission;
use crate::domain::error::{Error, Malformed, Noun, Result};
use crate::domain::page::Window;
use crate::http::body::{Body, Fields};
use crate::http::{Site, cursor, extract, origin, refusals};
use crate::service::Services;
use crate::service::console_sessions::{Account, Opened};

/// The name of the cookie of a session.
pub(super) const SESSION: &str = "rowhouse_console";

/// The name of the cookie that takes a sentence over a redirect.
const FLASH: &str = "rowhouse_flash";

/// The name of the cookie that takes a new secret over a redirect, to be shown once.
const SECRET: &str = "rowhouse_secret";

/// How long a browser keeps these two if it does not follow the redirect.
const REDIRECT: time::Duration = time::Duration::MINUTE;

/// Rows of a list.
pub(super) const ROWS: u16 = 50;

/// A request to the console.
pub(super) struct Call {
    /// The caller, for the services.
    pub(super) ctx: CallContext,
    /// The account that is signed in; `None` on a page that needs none.
    pub(super) account: Option<Account>,
    /// The form that was sent; empty for a GET.
    pub(super) form: Form,
    request: HttpRequest,
}

/// Why a request was not read.
pub(super) enum Unread {
    /// The caller is not signed in; the answer leads to the sign-in.
    NotSignedIn(HttpResponse),
    /// The request is refused; the form is what was typed.
    Refused(Error, Form),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Self::Refused(error, Form::default())
    }
}

impl Call {
    /// Reads a request that needs no session.
    pub(super) async fn anonymous(request: HttpRequest, body: Body) -> Result<Self> {
        let form = read(&request, body).await?;
        let ctx = extract::context(&request, Principal::Anonymous);
        Ok(Self { ctx, account: None, form, request })
    }

    /// Reads a request of a caller who is signed in. The form is read first, so that what was typed is not lost if the
    /// caller cannot be determined now.
    pub(super) async fn signed_in(request: HttpRequest, body: Body) -> Result<Self, Unread> {
        let form = read(&request, body).await?;
        let call = Self::anonymous_with(request, form);
        match call.find().await {
            Ok(Some((ctx, account))) => Ok(Self { ctx, account: Some(account), ..call }),
            Ok(None) | Err(Error::Unauthenticated(_)) => Err(Unread::NotSignedIn(call.sign_in())),
            Err(error) => Err(Unread::Refused(error, call.form)),
        }
    }

    fn anonymous_with(request: HttpRequest, form: Form) -> Self {
        Self { ctx: extract::context(&request, Principal::Anonymous), account: None, form, request }
    }

    /// Returns the caller of the session in the cookie; `None` without a cookie.
    pub(super) async fn find(&self) -> Result<Option<(CallContext, Account)>> {
        let Some(secret) = self.secret() else { return Ok(None) };
        let request = &self.request;
        let site = self.site();
        site.limits.still_refused(&secret, &extract::shared(request))?;
        let is_use = self.fragment().is_none();
        let found = site.services.console_sessions.find(&secret, is_use, self.ctx.now);
        let found = extract::recognise(request, &secret, found).await?;
        refusals::remember(request, &found.principal);
        site.limits.request(&secret, &found.principal, &extract::shared(request))?;
        Ok(Some((extract::context(request, found.principal), found.account)))
    }

    /// Returns the answer to a caller who is not signed in: the sign-in, and then back.
    fn sign_in(&self) -> HttpResponse {
        if self.fragment().is_some() {
            return HttpResponse::Unauthorized().finish();
        }
        let pattern = self.request.match_pattern();
        let can_be_read = |pattern: &str| ROUTES.contains(&("get", pattern));
        let back = if *self.request.method() == Method::GET {
            self.request.uri().path_and_query().map(PathAndQuery::as_str)
        } else {
            pattern.as_deref().filter(|p| can_be_read(p)).map(|_| self.request.path())
        };
        let back = utf8_percent_encode(back.unwrap_or("/console"), NON_ALPHANUMERIC);
        let ended = if self.secret().is_some() { "&ended=1" } else { "" };
        let to = format!("/console/login?next={back}{ended}");
        redirect(&to)
    }

    /// Returns the site of the request.
    pub(super) fn site(&self) -> &web::Data<Site> {
        extract::site(&self.request)
    }

    /// Returns the services.
    pub(super) fn services(&self) -> &Services {
        &self.site().services
    }

    /// Returns the request.
    pub(super) const fn request(&self) -> &HttpRequest {
        &self.request
    }

    /// Whether the caller may do this at least somewhere.
    pub(super) fn may(&self, permission: Permission) -> bool {
        self.ctx.principal.reach(permission).is_some()
    }

    /// Whether the caller may do this everywhere.
    pub(super) fn may_everywhere(&self, permission: Permission) -> bool {
        self.ctx.principal.may(permission)
    }

    /// Returns the decoded part of the path that `{name}` stands for.
    pub(super) fn path(&self, name: &str) -> Result<String> {
        extract::path(&self.request, name)
    }

    /// Returns the id in the path.
    pub(super) fn id(&self, noun: Noun) -> Result<Uuid> {
        self.path("id")?.parse().map_err(|_no_id| Error::NotFound(noun))
    }

    /// Returns the parameters of the query. A form sends its empty fields too, which are left out.
    pub(super) fn query(&self) -> Result<Fields> {
        let pairs = extract::parameters(&self.request)?.into_iter();
        let meant = pairs.filter(|(name, value)| !value.is_empty() && name != "fragment");
        Ok(Fields::of_query(meant.collect()))
    }

    /// Returns a parameter of the query as it was sent, for the fields that show it; empty if it is not there.
    pub(super) fn parameter(&self, name: &str) -> String {
        let pairs = extract::parameters(&self.request).unwrap_or_default();
        let found = pairs.into_iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value).unwrap_or_default()
    }

    /// Returns the part of a page that the script of the console asks for, if it asks for one.
    pub(super) fn fragment(&self) -> Option<String> {
        Some(self.parameter("fragment")).filter(|name| !name.is_empty())
    }

    /// Whether the browser has a text with this tag.
    pub(super) fn has(&self, tag: &str) -> bool {
        let known = self.request.headers().get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        known.is_some_and(|tags| {
            tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
        })
    }

    /// Returns the secret of the session in the cookie.
    pub(super) fn secret(&self) -> Option<String> {
        self.cookie(SESSION)
    }

    fn cookie(&self, name: &str) -> Option<String> {
        let name = self.cookie_name(name);
        let value = self.request.cookie(&name)?.value().to_owned();
        Some(value).filter(|value| !value.is_empty())
    }

    /// Returns a setting that the reader's browser keeps; empty if there is none.
    pub(super) fn setting(&self, name: &str) -> String {
        self.cookie(name).unwrap_or_default()
    }

    /// Returns the name of a cookie. Browsers take one with this prefix from this host alone, so that the page of a tenant
    /// at a host name below it cannot set it.
    fn cookie_name(&self, name: &str) -> String {
        if self.site().settings.cookie_secure { format!("__Host-{name}") } else { name.to_owned() }
    }

    /// Makes a cookie that scripts cannot read. A link from another site brings it, a form of another site does not.
    pub(super) fn make_cookie(&self, name: &str, value: String) -> Cookie<'static> {
        Cookie::build(self.cookie_name(name), value)
            .path("/")
            .http_only(true)
            .secure(self.site().settings.cookie_secure)
            .same_site(SameSite::Lax)
            .finish()
    }

    /// Makes the cookie of a session.
    pub(super) fn session_cookie(&self, opened: &Opened) -> Cookie<'static> {
        let mut cookie = self.make_cookie(SESSION, opened.secret.expose().to_owned());
        cookie.set_max_age(opened.expires_at - self.ctx.now);
        cookie
    }

    /// Makes a cookie that removes another.
    pub(super) fn without_cookie(&self, name: &str) -> Cookie<'static> {
        let mut cookie = self.make_cookie(name, String::new());
        cookie.make_removal();
        cookie
    }

    /// Leads to a page that says what was done.
    pub(super) fn done(&self, path: &str, sentence: &str) -> Result<HttpResponse> {
        let mut answer = redirect(path);
        let text = utf8_percent_encode(sentence, NON_ALPHANUMERIC).to_string();
        self.carry(&mut answer, FLASH, text)?;
        Ok(answer)
    }

    /// Leads to a page that says what was done, and shows a new secret once.
    pub(super) fn done_with_secret(
        &self,
        path: &str,
        sentence: &str,
        secret: &str,
    ) -> Result<HttpResponse> {
        let mut answer = self.done(path, sentence)?;
        self.carry(&mut answer, SECRET, secret.to_owned())?;
        Ok(answer)
    }

    fn carry(&self, answer: &mut HttpResponse, name: &str, value: String) -> Result<()> {
        let mut cookie = self.make_cookie(name, value);
        cookie.set_max_age(REDIRECT);
        answer.add_cookie(&cookie).map_err(|error| Error::internal("write a cookie", error))
    }

    /// Returns what the page before has done, to be said once.
    pub(super) fn flash(&self) -> Option<String> {
        let text = self.cookie(FLASH)?;
        percent_decode_str(&text).decode_utf8().map(Cow::into_owned).ok()
    }

    /// Returns the secret that the page before has made, to be shown once.
    pub(super) fn new_secret(&self) -> Option<String> {
        self.cookie(SECRET)
    }

    /// Returns the cookies that a shown page removes.
    pub(super) fn shown(&self) -> Vec<Cookie<'static>> {
        let there = [FLASH, SECRET].into_iter().filter(|name| self.cookie(name).is_some());
        there.map(|name| self.without_cookie(name)).collect()
    }

    /// Records a form that can be sent only once, by its field `form`. Returns false if it was sent before.
    pub(super) async fn take_form(&self) -> Result<bool> {
        let secret = self.secret().unwrap_or_default();
        let Ok(form) = self.form.text("form").parse() else { return Ok(true) };
        self.services().console_sessions.take_form(&self.ctx, &secret, form).await
    }
}

/// Leads to a page.
pub(super) fn redirect(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, path)).finish()
}

/// Takes the cursor of a list.
pub(super) fn window(query: &mut Fields) -> Window {
    Window { after: query.optional("cursor", cursor::parse_cursor), limit: ROWS }
}

/// Reads the form of a request that a page of the console sent; refuses every other one that changes something.
async fn read(request: &HttpRequest, body: Body) -> Result<Form> {
    origin::require_readable(request)?;
    if *request.method() == Method::GET {
        return Ok(Form::default());
    }
    origin::require_same(request)?;
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let bytes = body.without_credential().read().await?;
    if !bytes.is_empty() && essence != "application/x-www-form-urlencoded" {
        return Err(Error::Malformed(Malformed::Body));
    }
    Ok(Form::of_body(&bytes))
}
