//! Creates a tenant.

use actix_web::HttpResponse;
use askama::Template;
use uuid::Uuid;

use super::Answer;
use super::call::Call;
use super::form::Form;
use super::frame::Area;
use super::problem::Problem;
use crate::domain::error::{Error, Result};
use crate::domain::json::Value;
use crate::domain::names::{Email, ExternalId, NewPassword, PersonName, Slug, TenantName};
use crate::domain::rule::Rule;
use crate::domain::{Document, Permission};
use crate::http::guess;
use crate::service::provisioning::{Admin, Extras, NewAdmin, ProvisionTenant};
use crate::service::tenants::registry::Origin;

#[derive(Template)]
#[template(path = "new_tenant.html")]
struct NewTenantPage<'a> {
    form: &'a Form,
    /// Makes a form that is sent twice make one tenant.
    key: String,
}

/// Shows the form.
pub(super) async fn ask(call: &Call) -> Answer {
    call.ctx.require(Permission::CreateTenant)?;
    let form = Form::showing([("admin", "none".to_owned())]);
    let content = NewTenantPage { form: &form, key: Uuid::now_v7().to_string() };
    call.page(Area::Tenants, "New tenant").api("/control/v1/tenants").show(&content)
}

/// Creates the tenant, or returns the one that the same form has created.
pub(super) async fn create(call: &Call) -> Answer {
    call.ctx.require(Permission::CreateTenant)?;
    let form = &call.form;
    let error = match command(form) {
        None => Error::Invalid(Vec::new()),
        Some((command, extras)) => match make(call, command, extras).await {
            Ok(slug) => {
                let sentence = "The tenant is created.";
                return call.done(&format!("/console/tenants/{slug}"), sentence);
            }
            Err(error) => form.take(error)?,
        },
    };
    let content = NewTenantPage { form, key: form.text("key").to_owned() };
    let page = call.page(Area::Tenants, "New tenant").api("/control/v1/tenants");
    Ok(HttpResponse::from_error(Problem::shown(error, page.html(&content)?)))
}

async fn make(call: &Call, command: ProvisionTenant, extras: Extras) -> Result<Slug> {
    let registry = &call.services().registry;
    let run = async |command| registry.create(&call.ctx, command, extras.clone()).await;
    let made = Box::pin(guess::set_up(call.request(), command, run)).await?;
    if made.origin == Origin::Made {
        call.site().metrics.count_provisioned();
    }
    Ok(made.record.tenant.slug)
}

/// Reads the form; `None` if something is wrong with it.
fn command(form: &Form) -> Option<(ProvisionTenant, Extras)> {
    let name = form.required("name", TenantName::parse);
    let slug = form.required("slug", Slug::parse);
    let external_id = form.optional("external_id", ExternalId::parse);
    let settings = form.optional("settings", document);
    let admin = admin(form);
    if !form.is_good() {
        return None;
    }
    let mut command = ProvisionTenant::new(name?, slug?, admin?);
    command.idempotency_key = Some(form.text("key").to_owned()).filter(|key| !key.is_empty());
    let settings = settings.unwrap_or_else(|| Extras::default().settings);
    Some((command, Extras { external_id, settings, end: None }))
}

fn admin(form: &Form) -> Option<Admin> {
    match form.text("admin") {
        "existing" => form.required("admin_email", Email::parse).map(Admin::Existing),
        "new" => {
            let email = form.required("admin_email", Email::parse);
            let first_name = form.required("first_name", PersonName::parse);
            let last_name = form.required("last_name", PersonName::parse);
            let password = form.required("password", NewPassword::parse);
            let new = || {
                let (email, password) = (email?, password?);
                Some(NewAdmin { email, password, first_name: first_name?, last_name: last_name? })
            };
            new().map(Admin::NewOrExisting)
        }
        _ => Some(Admin::None),
    }
}

/// Parses the settings of a tenant.
pub(super) fn document(text: &str) -> Result<Document, Rule> {
    let value = Value::parse(text.as_bytes()).map_err(|_unreadable| Rule::Type("JSON object"))?;
    Document::parse(value)
}
