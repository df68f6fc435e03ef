//! The caller's own account: who they are, their sessions, their password, the colours of the console.

use actix_web::HttpResponse;
use askama::Template;

use super::Answer;
use super::call::Call;
use super::form::Form;
use super::frame::Area;
use super::page::{SHORTCUTS, THEME};
use super::problem::Problem;
use super::text::When;
use crate::domain::error::{AuthProblem, Error, Noun, Result};
use crate::domain::names::{NewPassword, Password};
use crate::domain::page::Window;
use crate::domain::rule::Rule;
use crate::http::extract;
use crate::service::me::{Identified, Who};
use crate::service::sessions::Session;

const HERE: &str = "/console/account";

/// The most sessions that are shown.
const SESSIONS: u16 = 100;

/// How long a browser keeps a setting.
const KEPT: time::Duration = time::Duration::days(365);

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage<'a> {
    who: Identified,
    /// The caller's sessions and the one of this request; `None` for a caller who is not a user.
    sessions: Option<(Vec<Session>, uuid::Uuid)>,
    form: &'a Form,
    theme: String,
    shortcuts: String,
}

/// Shows the account.
pub(super) async fn read(call: &Call) -> Answer {
    let form = Form::default();
    let content = content(call, &form).await?;
    page(call, &content).show(&content)
}

fn page<'a>(call: &'a Call, content: &AccountPage<'_>) -> super::page::Page<'a> {
    let page = call.page(Area::Other, "Account").api("/control/v1/me");
    match content.sessions {
        Some(_) => page.api(format!("/control/v1/me/sessions?limit={SESSIONS}")),
        None => page,
    }
}

async fn content<'a>(call: &Call, form: &'a Form) -> Result<AccountPage<'a>> {
    let me = &call.services().me;
    let who = me.who(&call.ctx).await?;
    let sessions = match who.who {
        Who::User { session, .. } => {
            let window = Window { after: None, limit: SESSIONS };
            Some((me.sessions(&call.ctx, &window).await?.rows, session))
        }
        Who::Root | Who::Operator | Who::Token(_) | Who::ApiKey(_) | Who::Profile(_) => None,
    };
    let (theme, shortcuts) = (call.setting(THEME), call.setting(SHORTCUTS));
    Ok(AccountPage { who, sessions, form, theme, shortcuts })
}

/// Gives the account a new password, which ends its other sessions.
pub(super) async fn change_password(call: &Call) -> Answer {
    call.ctx.require_session()?;
    let form = &call.form;
    let current = form.required("current_password", Password::parse);
    let new = form.required("new_password", NewPassword::parse);
    let error = match current.zip(new) {
        None => Error::Invalid(Vec::new()),
        Some((current, new)) => match change(call, &current, &new).await {
            Ok(ended) => {
                let sentence = match ended {
                    0 => "The password is changed.".to_owned(),
                    1 => "The password is changed. One other session has ended.".to_owned(),
                    ended => format!("The password is changed. {ended} other sessions have ended."),
                };
                return call.done(HERE, &sentence);
            }
            Err(error @ Error::Unauthenticated(AuthProblem::WrongPassword)) => {
                form.refuse("current_password", Rule::WrongPassword);
                error
            }
            Err(error) => form.take(error)?,
        },
    };
    let content = content(call, form).await?;
    let html = page(call, &content).html(&content)?;
    Ok(HttpResponse::from_error(Problem::shown(error, html)))
}

/// Compares the present password as a log-in does, so that a guess counts as one.
async fn change(call: &Call, current: &Password, new: &NewPassword) -> Result<u64> {
    let me = &call.services().me;
    let email = me.email(&call.ctx).await?;
    let client = extract::client(call.request());
    let attempt = call.site().limits.password(email.as_str(), client).await?;
    let outcome = me.change_password(&call.ctx, current, new).await;
    attempt.settle(&outcome);
    outcome
}

/// Ends one session of the account; that of the browser itself leads to the sign-in.
pub(super) async fn end_session(call: &Call) -> Answer {
    let session = call.id(Noun::Session)?;
    call.services().me.end_session(&call.ctx, session).await?;
    call.done(HERE, "The session has ended.")
}

/// Ends all sessions of the account but that of the browser.
pub(super) async fn end_other_sessions(call: &Call) -> Answer {
    let ended = call.services().me.end_other_sessions(&call.ctx).await?;
    call.done(HERE, &format!("{ended} other sessions have ended."))
}

/// Keeps the colours and the keyboard shortcut in a cookie of the browser.
pub(super) async fn keep_settings(call: &Call) -> Answer {
    let theme = ["light", "dark"].into_iter().find(|theme| call.form.has("theme", theme));
    let shortcuts = if call.form.has("shortcuts", "on") { "on" } else { "off" };
    let mut answer = call.done(HERE, "The settings of this browser are kept.")?;
    for (name, value) in [(THEME, theme.unwrap_or("system")), (SHORTCUTS, shortcuts)] {
        let mut cookie = call.make_cookie(name, value.to_owned());
        cookie.set_max_age(KEPT);
        let written = answer.add_cookie(&cookie);
        written.map_err(|error| Error::internal("write a cookie", error))?;
    }
    Ok(answer)
}
