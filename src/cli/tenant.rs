//! `tenant`: create, list, show; and how every verb names and shows a tenant. The verbs that change a tenant are in
//! [`super::lifecycle`].

use crate::domain::json::Value;
use clap::Args;
use secrecy::ExposeSecret;
use serde::Serialize;
use time::OffsetDateTime;

use super::failure::Arguments;
use super::{CreateTenant, Exit, Failure, Output, output, password};
use crate::app::Backend;
use crate::cli::Program;
use crate::domain::error::{Error, Noun};
use crate::domain::names::{
    Email, ExternalId, IDEMPOTENCY_KEY_MAX, PersonName, SchemaName, Slug, TenantId, TenantName,
};
use crate::domain::rule::Rule;
use crate::domain::tenant::TenantRecord;
use crate::domain::{AccountOrigin, NewPassword, Tenant};
use crate::service::provisioning::{Admin, NewAdmin, ProvisionTenant, Provisioned};
use crate::service::tenants::TenantRef;

/// A tenant as programs read it; the names are those of the HTTP API.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TenantView {
    id: String,
    slug: String,
    name: String,
    status: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    schema: String,
}

/// The tenant of a command.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// The slug or the id of the tenant
    tenant: Option<String>,
    /// The id of the tenant in your own system, instead of its slug or id
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
}

/// The validated name of a tenant.
pub(super) enum Named {
    /// The slug or the id.
    Tenant(String),
    /// The id in the caller's own system.
    ExternalId(ExternalId),
}

/// A tenant with all its public data, as programs read it; the names are those of the HTTP API in camel case.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordView {
    id: String,
    slug: String,
    name: String,
    status: &'static str,
    external_id: Option<String>,
    settings: Value,
    revision: i64,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// When the grace period of a deleted tenant ends.
    #[serde(with = "time::serde::rfc3339::option")]
    purge_after: Option<OffsetDateTime>,
    schema: String,
}

/// The result of `tenant create`.
#[derive(Debug, Serialize)]
struct ProvisionedView {
    id: String,
    name: String,
    slug: String,
    /// Whether an earlier call with the same key created it.
    replayed: bool,
    /// Whether the admin's account was `created` or an existing one was `linked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<&'static str>,
}

pub(super) async fn create(settings: &Program, command: CreateTenant) -> Result<Exit, Failure> {
    let output = command.output;
    let command = read_command(command).await?;
    let made = output::on_isolated_backend(settings, async |backend| {
        Ok(backend.services.provisioning.provision(&backend.operator(), command).await?)
    })
    .await?;
    let view = ProvisionedView::from(made);
    output::print(output, &view, || {
        let rows = [("id", &view.id), ("slug", &view.slug), ("name", &view.name)];
        output::table(None, rows.map(|(key, value)| vec![key.to_owned(), value.clone()]))
    })?;
    if view.admin == Some(AccountOrigin::Linked.as_str()) && !output.json {
        output::say("an account with this e-mail address existed and was linked");
    }
    if view.replayed && !output.json {
        output::say("created by an earlier call with the same idempotency key");
    }
    Ok(Exit::Done)
}

/// Parses the arguments and reports every invalid one before it reads a password.
async fn read_command(command: CreateTenant) -> Result<ProvisionTenant, Failure> {
    let mut arguments = Arguments::default();
    let name = arguments.read("--name", &command.name, TenantName::parse);
    let slug = arguments.read("--slug", &command.slug, Slug::parse);
    let email = arguments.read("--admin-email", &command.admin_email, Email::parse);
    let first_name =
        arguments.read("--admin-first-name", &command.admin_first_name, PersonName::parse);
    let last_name =
        arguments.read("--admin-last-name", &command.admin_last_name, PersonName::parse);
    if let Some(key) = &command.idempotency_key {
        arguments.read("--idempotency-key", key, idempotency_key);
    }
    let names = || Some((name?, slug?, email?, first_name?, last_name?));
    let (name, slug, email, first_name, last_name) = arguments.finish(names())?;
    let given = password::of_admin(command.admin_password_stdin).await?;
    let mut arguments = Arguments::default();
    let password =
        arguments.read("the admin's password", given.expose_secret(), NewPassword::parse);
    let password = arguments.finish(password)?;
    let admin = Admin::NewOrExisting(NewAdmin { email, password, first_name, last_name });
    let idempotency_key = command.idempotency_key;
    Ok(ProvisionTenant { idempotency_key, ..ProvisionTenant::new(name, slug, admin) })
}

fn idempotency_key(given: &str) -> Result<(), Rule> {
    if given.is_empty() {
        Err(Rule::Required)
    } else if given.len() > IDEMPOTENCY_KEY_MAX {
        Err(Rule::TooLong(IDEMPOTENCY_KEY_MAX))
    } else if given.chars().any(char::is_control) {
        Err(Rule::ControlCharacter)
    } else {
        Ok(())
    }
}

pub(super) async fn list(settings: &Program, output: Output) -> Result<Exit, Failure> {
    let tenants = output::on_control_plane(settings, async |backend| {
        Ok(backend.services.tenants.list(&backend.operator()).await?)
    })
    .await?;
    let views: Vec<TenantView> = tenants.into_iter().map(TenantView::from).collect();
    let row = |view: &TenantView| {
        let name = view.name.clone();
        vec![
            view.slug.clone(),
            view.id.clone(),
            view.status.to_owned(),
            output::time(view.created_at),
            name,
        ]
    };
    let header = ["SLUG", "ID", "STATUS", "CREATED AT", "NAME"];
    output::print_list(output, &views, &header, row, "no tenants")?;
    Ok(Exit::Done)
}

pub(super) async fn show(
    settings: &Program,
    which: &Which,
    output: Output,
) -> Result<Exit, Failure> {
    let named = which.read()?;
    let find = async |backend: &Backend| named.find(backend).await;
    let record = output::on_control_plane(settings, find).await?;
    let view = RecordView::from(record);
    output::print(output, &view, || view.table())?;
    Ok(Exit::Done)
}

/// Parses a slug or an id. An id is tried first, because a UUID is also a valid slug.
pub(super) fn tenant_ref(given: &str) -> Result<TenantRef, Failure> {
    if let Ok(id) = given.parse() {
        return Ok(TenantRef::Id(TenantId::new(id)));
    }
    Slug::parse(given).map(TenantRef::Slug).map_err(|_rule| {
        Failure::usage(format!("{given:?} is neither the slug nor the id of a tenant"))
    })
}

/// Returns the id of the named tenant, if one is named. An id is not looked up, because events outlive their tenant.
pub(super) async fn id_of(
    backend: &Backend,
    named: Option<&str>,
) -> Result<Option<TenantId>, Failure> {
    let Some(named) = named else { return Ok(None) };
    match tenant_ref(named)? {
        TenantRef::Id(id) => Ok(Some(id)),
        which => {
            let found = backend.services.tenants.read(&backend.operator(), &which).await;
            Ok(Some(found.map_err(|error| not_found(error, named))?.id))
        }
    }
}

/// Names the tenant in a "not found" error.
pub(super) fn not_found(error: Error, tenant: &str) -> Failure {
    match error {
        Error::NotFound(Noun::Tenant) => Failure::Other(format!("no such tenant: {tenant}")),
        error => error.into(),
    }
}

impl Which {
    /// Parses the arguments, before a database is opened.
    pub(super) fn read(&self) -> Result<Named, Failure> {
        match (&self.tenant, &self.external_id) {
            (_, Some(id)) => {
                let mut arguments = Arguments::default();
                let id = arguments.read("--external-id", id, ExternalId::parse);
                Ok(Named::ExternalId(arguments.finish(id)?))
            }
            (Some(tenant), None) => {
                tenant_ref(tenant)?;
                Ok(Named::Tenant(tenant.clone()))
            }
            // The argument group requires one of them.
            (None, None) => Err(Failure::usage("pass a tenant")),
        }
    }
}

impl Named {
    /// Returns the name as it was given.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Tenant(tenant) => tenant,
            Self::ExternalId(id) => id.as_ref(),
        }
    }

    /// Finds the tenant. A change continues with its id, because another process can rename the tenant and give its
    /// slug to another one in between.
    pub(super) async fn find(&self, backend: &Backend) -> Result<TenantRecord, Failure> {
        let (tenants, ctx) = (&backend.services.tenants, backend.operator());
        let found = match self {
            Self::Tenant(tenant) => {
                let which = TenantRef::IdOrSlug(tenant.clone());
                tenants.read_record(&ctx, &which).await
            }
            Self::ExternalId(id) => {
                tenants.read_record(&ctx, &TenantRef::ExternalId(id.clone())).await
            }
        };
        found.map_err(|error| not_found(error, self.as_str()))
    }
}

impl RecordView {
    /// Formats the tenant for people, without the settings, which can be large and secret.
    pub(super) fn table(&self) -> String {
        let rows = [
            ("id", Some(self.id.clone())),
            ("slug", Some(self.slug.clone())),
            ("name", Some(self.name.clone())),
            ("external id", self.external_id.clone()),
            ("status", Some(self.status.to_owned())),
            ("created at", Some(output::time(self.created_at))),
            ("updated at", Some(output::time(self.updated_at))),
            ("purge after", self.purge_after.map(output::time)),
            ("schema", Some(self.schema.clone())),
        ];
        let present = |(key, value): (&str, Option<String>)| Some(vec![key.to_owned(), value?]);
        output::table(None, rows.into_iter().filter_map(present))
    }
}

impl From<TenantRecord> for RecordView {
    fn from(record: TenantRecord) -> Self {
        Self {
            id: record.tenant.id.to_string(),
            slug: record.tenant.slug.to_string(),
            name: record.tenant.name.to_string(),
            status: record.tenant.status.as_str(),
            external_id: record.external_id.map(|id| id.to_string()),
            settings: record.settings.into_value(),
            revision: record.revision,
            created_at: record.tenant.created_at,
            updated_at: record.updated_at,
            purge_after: record.purge_after,
            schema: SchemaName::of(record.tenant.id).to_string(),
        }
    }
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id.to_string(),
            slug: tenant.slug.to_string(),
            name: tenant.name.to_string(),
            status: tenant.status.as_str(),
            created_at: tenant.created_at,
            schema: SchemaName::of(tenant.id).to_string(),
        }
    }
}

impl From<Provisioned> for ProvisionedView {
    fn from(made: Provisioned) -> Self {
        Self {
            id: made.id.to_string(),
            name: made.name.to_string(),
            slug: made.slug.to_string(),
            replayed: made.replayed,
            admin: made.admin.map(AccountOrigin::as_str),
        }
    }
}
