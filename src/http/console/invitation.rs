//! Accepts an invitation by its link: a person without an account chooses a name and a password, a user who is signed in
//! accepts it with the own account.
//!
//! The token is in the fragment of the link, which a browser sends to no server and writes into no log. The script of the
//! console puts it into the field of the form; without scripts it is pasted there.

use actix_web::HttpResponse;
use askama::Template;

use super::Answer;
use super::call::{Call, redirect};
use super::form::Form;
use super::frame::Area;
use super::problem::{Problem, words};
use crate::domain::error::{Error, Result};
use crate::domain::names::{NewPassword, PersonName};
use crate::domain::rule::Rule;
use crate::http::extract;
use crate::service::invitations::Acceptance;
use crate::service::members::NewPerson;

/// The longest token that is looked up.
const TOKEN_MAX: usize = 200;

#[derive(Template)]
#[template(path = "invitation.html")]
struct InvitationPage<'a> {
    form: &'a Form,
    /// The address of the caller who is signed in.
    email: Option<String>,
}

/// Shows the form.
pub(super) async fn ask(call: &Call) -> Answer {
    let form = Form::default();
    let content = InvitationPage { form: &form, email: email(call).await? };
    call.page(Area::Other, "Invitation").show(&content)
}

/// Returns the address of the user who is signed in, if one is.
async fn email(call: &Call) -> Result<Option<String>> {
    match call.find().await {
        Ok(Some((ctx, _))) if ctx.require_session().is_ok() => {
            Ok(Some(call.services().me.email(&ctx).await?.to_string()))
        }
        Ok(_) | Err(Error::Unauthenticated(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Accepts the invitation.
pub(super) async fn accept(call: &Call) -> Answer {
    let form = &call.form;
    let token = form.required("token", |text| match text.len() {
        1..=TOKEN_MAX => Ok(text.trim().to_owned()),
        _ => Err(Rule::TooLong(TOKEN_MAX)),
    });
    let email = email(call).await?;
    let as_user = email.is_some() && form.has("as", "user");
    let person = if as_user { None } else { person(form) };
    let error = match token.filter(|_| form.is_good()) {
        None => Error::Invalid(Vec::new()),
        Some(token) => match take(call, &token, person.as_ref()).await {
            Ok(accepted) if as_user => {
                let sentence = format!("You are a member of {} now.", accepted.tenant.name);
                return call.done("/console", &sentence);
            }
            Ok(_) => return Ok(redirect("/console/login")),
            Err(
                error @ (Error::Invitation(_) | Error::Conflict(_) | Error::Unauthenticated(_)),
            ) => {
                let (title, detail) = words(&error);
                form.blame("", format!("{title}. {detail}"));
                error
            }
            Err(error) => form.take(error)?,
        },
    };
    let content = InvitationPage { form, email };
    let html = call.page(Area::Other, "Invitation").html(&content)?;
    Ok(HttpResponse::from_error(Problem::shown(error, html)))
}

async fn take(call: &Call, token: &str, person: Option<&NewPerson>) -> Result<Acceptance> {
    let invitations = &call.services().invitations;
    let accepted = match (person, call.find().await?) {
        (None, Some((ctx, _))) => {
            let accepted = invitations.accept(&ctx, token, None);
            return extract::recognise(call.request(), token, accepted).await;
        }
        (person, _) => invitations.accept(&call.ctx, token, person),
    };
    extract::recognise(call.request(), token, accepted).await
}

fn person(form: &Form) -> Option<NewPerson> {
    let first_name = form.required("first_name", PersonName::parse);
    let last_name = form.required("last_name", PersonName::parse);
    let password = form.required("password", NewPassword::parse);
    let (password, first_name) = (password?, first_name?);
    Some(NewPerson { password, first_name, last_name: last_name? })
}
