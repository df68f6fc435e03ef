//! One tenant: what it is, its name and slug, its settings.

use actix_web::HttpResponse;
use askama::Template;

use super::Answer;
use super::call::Call;
use super::form::Form;
use super::frame::Area;
use super::moves::{Choice, choices};
use super::new_tenant::document;
use super::one_tenant::{Tabs, api, expected, named, record};
use super::page::fragment;
use super::problem::Problem;
use super::text::{Count, When};
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Precondition};
use crate::domain::json::{Map, Value};
use crate::domain::names::{Slug, TenantName};
use crate::domain::status::TenantStatus;
use crate::domain::tenant::TenantRecord;
use crate::service::tenants::lifecycle::Footprint;
use crate::service::tenants::registry::Changes;

/// The part of the page that changes by itself while the tenant is purged.
const PURGE: &str = "purge";

/// What takes its place when the tenant is gone.
#[derive(Template)]
#[template(
    source = r#"<section id="purge" class="panel wide"><p data-announce>The tenant is purged. <a href="/console/tenants">To the tenants</a></p></section>"#,
    ext = "html"
)]
struct PurgedPart;

#[derive(Template)]
#[template(path = "tenant.html", blocks = ["purge"])]
struct TenantPage<'a> {
    record: &'a TenantRecord,
    tabs: Tabs,
    choices: Vec<Choice>,
    form: &'a Form,
    may_update: bool,
    may_export: bool,
    /// Whether another person has changed what the form changes, so that it shows both.
    is_stale: bool,
    settings: String,
    /// What a purge that has begun has left.
    left: Option<Footprint>,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage<'a> {
    record: &'a TenantRecord,
    tabs: Tabs,
    form: &'a Form,
    settings: String,
    is_stale: bool,
    /// The merge patch that would be sent, once it is asked for.
    patch: Option<String>,
}

/// Shows the tenant. The part about a purge that has begun changes by itself, until the tenant is gone.
pub(super) async fn read(call: &Call) -> Answer {
    let follows = call.fragment().as_deref() == Some(PURGE);
    let record = match record(call).await {
        Err(Error::NotFound(Noun::Tenant)) if follows => return fragment(call, &PurgedPart),
        record => record?,
    };
    let form = Form::showing([
        ("name", record.tenant.name.to_string()),
        ("slug", record.tenant.slug.to_string()),
    ]);
    let mut content = content(call, &record, &form, false);
    if record.purge_started_at.is_none() {
        return page(call, &record).show(&content);
    }
    let schema = call.services().overview.tenant_schema(&call.ctx, &named(call)?).await?;
    content.left = Some(schema.footprint);
    if follows {
        return fragment(call, &content.as_purge());
    }
    page(call, &record).api(format!("{}/schema", api(&record))).changing().show(&content)
}

fn page<'a>(call: &'a Call, record: &TenantRecord) -> super::page::Page<'a> {
    call.page(Area::Tenants, record.tenant.name.to_string()).api(api(record))
}

fn content<'a>(
    call: &Call,
    record: &'a TenantRecord,
    form: &'a Form,
    is_stale: bool,
) -> TenantPage<'a> {
    let may = |permission| {
        call.ctx.principal.may_in(permission, record.tenant.id)
            && record.tenant.status != TenantStatus::Deleting
    };
    TenantPage {
        record,
        tabs: Tabs::of(call, record, "Tenant"),
        choices: choices(call, record),
        form,
        may_update: may(Permission::UpdateTenant),
        may_export: may(Permission::ExportTenant),
        is_stale,
        settings: pretty(record.settings.as_value()),
        left: None,
    }
}

/// Changes the name and the slug.
pub(super) async fn update(call: &Call) -> Answer {
    call.ctx.reach(Permission::UpdateTenant)?;
    let form = &call.form;
    let expected = expected(form)?;
    let name = form.required("name", TenantName::parse);
    let slug = form.required("slug", Slug::parse);
    let error = match name.zip(slug) {
        None => Error::Invalid(Vec::new()),
        Some((name, slug)) => {
            let changes = Changes { name: Some(name), slug: Some(slug), ..Changes::default() };
            let (registry, which) = (&call.services().registry, named(call)?);
            match registry.update(&call.ctx, &which, &expected, changes).await {
                Ok(record) => {
                    let path = format!("/console/tenants/{}", record.tenant.slug);
                    return call.done(&path, "The tenant is changed.");
                }
                Err(error @ Error::Precondition(Precondition::Failed)) => error,
                Err(error) => form.take(error)?,
            }
        }
    };
    let record = record(call).await?;
    let is_stale = matches!(error, Error::Precondition(_));
    let html = page(call, &record).html(&content(call, &record, form, is_stale))?;
    Ok(HttpResponse::from_error(Problem::shown(error, html)))
}

/// Shows the settings in a form.
pub(super) async fn settings(call: &Call) -> Answer {
    let record = record(call).await?;
    call.ctx.require_in(Permission::UpdateTenant, record.tenant.id)?;
    let settings = pretty(record.settings.as_value());
    let form = Form::showing([("settings", settings.clone())]);
    let tabs = Tabs::of(call, &record, "Settings");
    let is_stale = false;
    let content =
        SettingsPage { record: &record, tabs, form: &form, settings, is_stale, patch: None };
    page(call, &record).show(&content)
}

/// Shows the merge patch that leads to the settings of the form; sends it once it was seen.
pub(super) async fn change_settings(call: &Call) -> Answer {
    call.ctx.reach(Permission::UpdateTenant)?;
    let form = &call.form;
    let expected = expected(form)?;
    let record = record(call).await?;
    let wanted = form.required("settings", document);
    let patch = wanted.map(|wanted| difference(record.settings.as_value(), wanted.as_value()));
    let patch = match patch {
        Some(None) => {
            form.blame("settings", "must not hold null: a merge patch would remove that member");
            None
        }
        other => other.flatten(),
    };
    let error = match patch {
        None => Error::Invalid(Vec::new()),
        Some(Value::Object(members)) if members.is_empty() => {
            let to = format!("/console/tenants/{}/settings", record.tenant.slug);
            return call.done(&to, "The settings are as they were.");
        }
        // What is shown must be the change of what the person saw, and not take back what another one did meanwhile.
        Some(_) if form.text("revision") != record.revision.to_string() => {
            Error::Precondition(Precondition::Failed)
        }
        Some(patch) if !form.has("confirm", "1") => return show_patch(call, &record, &patch),
        Some(patch) => {
            let changes = Changes { settings: Some(patch), ..Changes::default() };
            let registry = &call.services().registry;
            match registry.update(&call.ctx, &named(call)?, &expected, changes).await {
                Ok(record) => {
                    let to = format!("/console/tenants/{}", record.tenant.slug);
                    return call.done(&to, "The settings are changed.");
                }
                Err(error @ Error::Precondition(Precondition::Failed)) => error,
                Err(error) => form.take(error)?,
            }
        }
    };
    let content = SettingsPage {
        record: &record,
        tabs: Tabs::of(call, &record, "Settings"),
        form,
        settings: pretty(record.settings.as_value()),
        is_stale: matches!(error, Error::Precondition(_)),
        patch: None,
    };
    let html = page(call, &record).html(&content)?;
    Ok(HttpResponse::from_error(Problem::shown(error, html)))
}

fn show_patch(call: &Call, record: &TenantRecord, patch: &Value) -> Answer {
    let content = SettingsPage {
        record,
        tabs: Tabs::of(call, record, "Settings"),
        form: &call.form,
        settings: pretty(record.settings.as_value()),
        is_stale: false,
        patch: Some(pretty(patch)),
    };
    page(call, record).show(&content)
}

/// Writes JSON for people.
pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Returns the merge patch (RFC 7396) that makes one object the other; `None` if no such patch does, because the other
/// holds a null.
fn difference(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return None };
    let mut patch = Map::new();
    for (name, value) in to {
        match (from.get(name), value) {
            (_, Value::Null) => return None,
            (Some(present), _) if present == value => {}
            (Some(present @ Value::Object(_)), Value::Object(_)) => {
                patch.insert(name.clone(), difference(present, value)?);
            }
            (_, Value::Object(_)) => {
                patch.insert(name.clone(), difference(&Value::object(), value)?);
            }
            _ => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Document;

    #[test]
    fn a_merge_patch_leads_from_one_object_to_the_other() {
        for (from, to, patch) in [
            (json!({}), json!({}), json!({})),
            (json!({"a": 1}), json!({"a": 2}), json!({"a": 2})),
            (json!({"a": 1, "b": 2}), json!({"b": 2}), json!({"a": null})),
            (
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"c": 3}}),
                json!({"a": {"b": null, "c": 3}}),
            ),
            (json!({"a": 1}), json!({"a": {"b": 2}}), json!({"a": {"b": 2}})),
            (json!({"a": {"b": 1}}), json!({"a": [1, null]}), json!({"a": [1, null]})),
        ] {
            let (from, to) = (Value::from(from), Value::from(to));
            let found = difference(&from, &to).unwrap();
            assert_eq!(found, Value::from(patch));
            let merged = Document::stored(from).merged(&found).unwrap();
            assert_eq!(merged.as_value(), &to);
        }
        let null = Value::from(json!({"a": {"b": null}}));
        assert_eq!(difference(&Value::object(), &null), None);
    }
}
