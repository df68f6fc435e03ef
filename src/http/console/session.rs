//! Sign-in by account or by token, and sign-out.

use actix_web::HttpResponse;
use actix_web::http::header::{HOST, ORIGIN};
use askama::Template;
use url::{Host, Url};

use super::Answer;
use super::call::{Call, SESSION, redirect};
use super::form::Form;
use super::frame::Area;
use super::problem::{Problem, words};
use crate::domain::error::{Error, Result};
use crate::domain::names::{EMAIL_MAX, Password};
use crate::domain::rule::Rule;
use crate::http::extract;
use crate::service::console_sessions::Opened;

/// The longest token that is looked up.
const TOKEN_MAX: usize = 200;

/// Where a sign-in leads to that came from nowhere.
const START: &str = "/console";

#[derive(Template)]
#[template(path = "login.html")]
struct LogInPage<'a> {
    form: &'a Form,
    next: String,
    has_ended: bool,
    has_token: bool,
}

/// Shows the sign-in; leads a caller who is signed in on.
pub(super) async fn log_in_page(call: &Call) -> Answer {
    let next = local(&call.parameter("next"));
    if call.secret().is_some() && matches!(call.find().await, Ok(Some(_))) {
        return Ok(redirect(&next));
    }
    let has_ended = !call.parameter("ended").is_empty();
    let content = LogInPage { form: &Form::default(), next, has_ended, has_token: false };
    call.page(Area::Other, "Sign in").show(&content)
}

/// Opens a session, always with a new secret.
pub(super) async fn log_in(call: &Call) -> Answer {
    let form = &call.form;
    let next = local(form.text("next"));
    let outcome = if loses_the_cookie(call) {
        form.blame(
            "",
            "This browser keeps the cookie of the console over https alone. Open the console by https, or set \
             auth.cookie_secure = false on a server that is reached by http.",
        );
        Ok(None)
    } else if form.has("by", "token") {
        by_token(call).await
    } else {
        by_password(call).await
    };
    let error = match outcome {
        Ok(Some(opened)) => {
            let mut answer = redirect(&next);
            let cookie = call.session_cookie(&opened);
            answer.add_cookie(&cookie).map_err(|error| Error::internal("write a cookie", error))?;
            return Ok(answer);
        }
        Ok(None) => Error::Invalid(Vec::new()),
        Err(error @ (Error::Unauthenticated(_) | Error::TooMany { .. })) => {
            form.blame("", words(&error).1);
            error
        }
        Err(error) => return Err(error),
    };
    let has_token = form.has("by", "token");
    let content = LogInPage { form, next, has_ended: false, has_token };
    let html = call.page(Area::Other, "Sign in").html(&content)?;
    Ok(HttpResponse::from_error(Problem::shown(error, html)))
}

async fn by_password(call: &Call) -> Result<Option<Opened>> {
    let (form, site) = (&call.form, call.site());
    let client = extract::client(call.request());
    site.limits.password_from(client)?;
    let email = form.required("email", |text| match text.chars().count() {
        1..=EMAIL_MAX => Ok(text.to_owned()),
        _ => Err(Rule::TooLong(EMAIL_MAX)),
    });
    let password = form.required("password", Password::parse);
    let Some((email, password)) = email.zip(password) else { return Ok(None) };
    let agent = extract::user_agent(call.request());
    let attempt = site.limits.password(&email, client).await?;
    let sessions = &site.services.console_sessions;
    let outcome = sessions.sign_in(&call.ctx, &agent, &email, &password).await;
    attempt.settle(&outcome);
    Ok(Some(expected(call, outcome?)))
}

async fn by_token(call: &Call) -> Result<Option<Opened>> {
    let token = call.form.required("token", |text| match text.len() {
        1..=TOKEN_MAX => Ok(text.trim().to_owned()),
        _ => Err(Rule::TooLong(TOKEN_MAX)),
    });
    let Some(token) = token else { return Ok(None) };
    let opened = call.services().console_sessions.sign_in_by_token(&call.ctx, &token);
    Ok(Some(expected(call, extract::recognise(call.request(), &token, opened).await?)))
}

/// Registers a new session with the limits, so that its first use is not counted as a wrong credential.
fn expected(call: &Call, opened: Opened) -> Opened {
    call.site().limits.expect(opened.secret.expose());
    opened
}

/// Ends the session, and removes its cookie.
pub(super) async fn log_out(call: &Call) -> Answer {
    let secret = call.secret().unwrap_or_default();
    call.services().console_sessions.sign_out(&call.ctx, &secret).await?;
    let mut answer = redirect("/console/login");
    answer
        .add_cookie(&call.without_cookie(SESSION))
        .map_err(|error| Error::internal("write a cookie", error))?;
    Ok(answer)
}

/// Returns the path if it is one of the console; else the start.
fn local(next: &str) -> String {
    let rest = next.strip_prefix(START);
    let is_ours = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let is_plain = !next.contains('\\') && !next.chars().any(char::is_control);
    if is_ours && is_plain && !next.contains("//") { next.to_owned() } else { START.to_owned() }
}

/// Whether the browser will not keep the cookie: it is for https alone, and the page came by http from another machine.
fn loses_the_cookie(call: &Call) -> bool {
    let headers = call.request().headers();
    let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok());
    let Some(origin) = origin.and_then(|origin| Url::parse(origin).ok()) else { return false };
    let is_local = match origin.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    call.site().settings.cookie_secure
        && origin.scheme() == "http"
        && !is_local
        && headers.contains_key(HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_to_pages_of_the_console_alone() {
        for ours in ["/console", "/console/tenants", "/console?x=1", "/console/audit?action=a.b"] {
            assert_eq!(local(ours), ours);
        }
        for other in [
            "",
            "/",
            "//evil.example",
            "https://evil.example",
            "/consolex",
            "/console//evil.example",
            "/console/\\evil.example",
            "/control/v1/tenants",
            "/console/\r\nset-cookie: a=b",
        ] {
            assert_eq!(local(other), "/console", "{other}");
        }
    }
}
