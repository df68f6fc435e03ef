//! `tenant`: create, list, show; and how every verb names a tenant and shows one. What changes a tenant is in
//! [`super::lifecycle`].

use clap::Args;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::failure::Arguments;
use super::{CreateTenant, Exit, Failure, Output, output, password};
use crate::app::{Backend, Purpose};
use crate::config::Settings;
use crate::domain::error::{Error, Noun, Rule};
use crate::domain::names::{
    Email, ExternalId, IDEMPOTENCY_KEY_MAX, PersonName, SchemaName, Slug, TenantId, TenantName,
};
use crate::domain::tenant::TenantRecord;
use crate::domain::{Password, Tenant};
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

/// Which tenant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// Its slug or its id
    tenant: Option<String>,
    /// Instead: what your own system calls it
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
}

/// A tenant as it was named, in good form.
pub(super) enum Named {
    /// By its slug or its id.
    Tenant(String),
    /// By what its maker's own system calls it.
    ExternalId(ExternalId),
}

/// All that there is to see of a tenant from outside, as programs read it; the names are those of the HTTP
/// API, in this command line's case.
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

/// What became of a wish for a tenant.
#[derive(Debug, Serialize)]
struct ProvisionedView {
    id: String,
    name: String,
    slug: String,
    /// Whether it was made by an earlier call with the same key.
    replayed: bool,
}

pub(super) async fn create(settings: &Settings, wish: CreateTenant) -> Result<Exit, Failure> {
    let output = wish.output;
    let wish = read_wish(wish).await?;
    let made = output::on_backend(Purpose::Operate, settings, async |backend| {
        Ok(backend.services.provisioning.provision(&backend.operator(), wish).await?)
    })
    .await?;
    let view = ProvisionedView::from(made);
    output::print(output, &view, || {
        let rows = [("id", &view.id), ("slug", &view.slug), ("name", &view.name)];
        output::table(None, rows.map(|(key, value)| vec![key.to_owned(), value.clone()]))
    })?;
    if view.replayed && !output.json {
        output::say("made by an earlier call with the same idempotency key");
    }
    Ok(Exit::Done)
}

/// Reads the arguments, and names everything that is wrong with them before a password is asked for.
async fn read_wish(wish: CreateTenant) -> Result<ProvisionTenant, Failure> {
    let mut arguments = Arguments::default();
    let name = arguments.read("--name", &wish.name, TenantName::parse);
    let slug = arguments.read("--slug", &wish.slug, Slug::parse);
    let email = arguments.read("--admin-email", &wish.admin_email, Email::parse);
    let first_name =
        arguments.read("--admin-first-name", &wish.admin_first_name, PersonName::parse);
    let last_name = arguments.read("--admin-last-name", &wish.admin_last_name, PersonName::parse);
    if let Some(key) = &wish.idempotency_key {
        arguments.read("--idempotency-key", key, idempotency_key);
    }
    let names = || Some((name?, slug?, email?, first_name?, last_name?));
    let (name, slug, email, first_name, last_name) = arguments.finish(names())?;
    let given = password::of_admin(wish.admin_password_stdin).await?;
    let mut arguments = Arguments::default();
    let password = arguments.read("the admin's password", given.expose_secret(), Password::parse);
    let password = arguments.finish(password)?;
    let admin = Admin::NewOrExisting(NewAdmin { email, password, first_name, last_name });
    let idempotency_key = wish.idempotency_key;
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

pub(super) async fn list(settings: &Settings, output: Output) -> Result<Exit, Failure> {
    let tenants = output::on_backend(Purpose::Operate, settings, async |backend| {
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
    output::print_list(output, &views, &header, row, "there are no tenants yet")?;
    Ok(Exit::Done)
}

pub(super) async fn show(
    settings: &Settings,
    which: &Which,
    output: Output,
) -> Result<Exit, Failure> {
    let named = which.read()?;
    let find = async |backend: &Backend| named.find(backend).await;
    let record = output::on_backend(Purpose::Operate, settings, find).await?;
    let view = RecordView::from(record);
    output::print(output, &view, || view.table())?;
    Ok(Exit::Done)
}

/// Reads how the command line names a tenant. An id first: a UUID has the form of a slug, too.
pub(super) fn tenant_ref(given: &str) -> Result<TenantRef, Failure> {
    if let Ok(id) = given.parse() {
        return Ok(TenantRef::Id(TenantId::new(id)));
    }
    Slug::parse(given)
        .map(TenantRef::Slug)
        .map_err(|_rule| Failure::usage(format!("{given:?} is neither a tenant's slug nor an id")))
}

/// Says which tenant there is not.
pub(super) fn not_found(error: Error, tenant: &str) -> Failure {
    match error {
        Error::NotFound(Noun::Tenant) => Failure::Other(format!("no such tenant: {tenant}")),
        error => error.into(),
    }
}

impl Which {
    /// Reads the arguments, before anything is opened.
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
            // The grammar lets no such call through.
            (None, None) => Err(Failure::usage("name a tenant")),
        }
    }
}

impl Named {
    /// The name as it was given.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Tenant(tenant) => tenant,
            Self::ExternalId(id) => id.as_ref(),
        }
    }

    /// Finds the tenant. A change goes on by the id that is found: between two steps somebody may rename one
    /// tenant and give its slug to another.
    pub(super) async fn find(&self, backend: &Backend) -> Result<TenantRecord, Failure> {
        let (registry, ctx) = (&backend.services.registry, backend.operator());
        let found = match self {
            Self::Tenant(tenant) => registry.read(&ctx, tenant).await,
            Self::ExternalId(id) => registry.read_by_external_id(&ctx, id).await,
        };
        found.map_err(|error| not_found(error, self.as_str()))
    }
}

impl RecordView {
    /// For people: what there is to tell, and not the settings, which may be large and secret.
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
        let told = |(key, value): (&str, Option<String>)| Some(vec![key.to_owned(), value?]);
        output::table(None, rows.into_iter().filter_map(told))
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
        }
    }
}
