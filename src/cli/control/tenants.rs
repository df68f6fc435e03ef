//! Tenants.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;

use super::client::{Client, if_match};
use super::named::{Named, not_found};
use super::{Control, ROWS_AT_ONCE};
use crate::cli::{Failure, output};
use crate::domain::end::EndChange;
use crate::domain::json::{Map, Value};
use crate::domain::names::{SchemaName, TenantId};
use crate::domain::page::Window;
use crate::domain::tenant::TenantRecord;
use crate::domain::{AccountOrigin, End, TenantStatus};
use crate::service::provisioning::{Admin, Extras, ProvisionTenant};
use crate::service::tenants::lifecycle::OnDependents;
use crate::service::tenants::registry::{Changes, Expected, Origin, Registered};
use crate::service::tenants::upsert::Upsert;
use crate::service::tenants::{Filter, TenantRef};

/// A tenant with all its public data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::cli) struct RecordView {
    pub(in crate::cli) id: uuid::Uuid,
    pub(in crate::cli) slug: String,
    pub(in crate::cli) name: String,
    pub(in crate::cli) status: String,
    pub(in crate::cli) external_id: Option<String>,
    pub(in crate::cli) settings: Value,
    pub(in crate::cli) revision: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) updated_at: OffsetDateTime,
    /// When the grace period of a deleted tenant ends.
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub(in crate::cli) purge_after: Option<OffsetDateTime>,
    /// When it ends and is purged.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(in crate::cli) expires_at: Option<OffsetDateTime>,
    /// Its schema, which follows from its id.
    #[serde(default)]
    pub(in crate::cli) schema: String,
    /// What an upsert did: `created`, `changed` or `unchanged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) outcome: Option<String>,
    /// Whether the admin's account was `created` or an existing one was `linked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) admin: Option<String>,
}

/// The result of `tenant create`.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Created {
    pub(in crate::cli) id: String,
    pub(in crate::cli) name: String,
    pub(in crate::cli) slug: String,
    /// Whether an earlier call with the same key created it.
    pub(in crate::cli) replayed: bool,
    /// When it ends and is purged.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) expires_at: Option<OffsetDateTime>,
    /// Whether the admin's account was `created` or an existing one was `linked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) admin: Option<String>,
}

/// Conditions on the tenants to list.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct TenantFilter {
    pub(in crate::cli) status: Option<TenantStatus>,
    pub(in crate::cli) slug: Option<String>,
    pub(in crate::cli) name: Option<String>,
    pub(in crate::cli) created_after: Option<OffsetDateTime>,
    pub(in crate::cli) created_before: Option<OffsetDateTime>,
    pub(in crate::cli) q: Option<String>,
}

/// A move of a tenant's status that destroys nothing at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Step {
    Suspend,
    Resume,
    Delete,
    Restore,
}

impl Control {
    /// Finds a tenant. A change continues with its id, because another process can rename the tenant and give its slug
    /// to another one in between.
    pub(in crate::cli) async fn find_tenant(&self, named: &Named) -> Result<RecordView, Failure> {
        let found = match self {
            Self::Database(backend) => {
                let which = named.to_ref();
                let found = backend.services.tenants.read_record(&backend.operator(), &which).await;
                found.map(RecordView::from).map_err(Failure::from)
            }
            Self::Server(client) => {
                let path: &[&str] = match named {
                    Named::Tenant(tenant) => &["tenants", tenant],
                    Named::ExternalId(id) => &["tenants", "by-external-id", id.as_str()],
                };
                client.get(path, &[]).await.map(RecordView::completed)
            }
        };
        found.map_err(|failure| not_found(failure, named.as_str()))
    }

    /// Returns the id of the named tenant. An id is not looked up, because events outlive their tenant.
    pub(in crate::cli) async fn id_of_tenant(
        &self,
        named: Option<&str>,
    ) -> Result<Option<TenantId>, Failure> {
        let Some(named) = named else { return Ok(None) };
        if let Ok(id) = named.parse() {
            return Ok(Some(TenantId::new(id)));
        }
        let found = self.find_tenant(&Named::Tenant(named.to_owned())).await?;
        Ok(Some(TenantId::new(found.id)))
    }

    /// Lists tenants, oldest first.
    pub(in crate::cli) async fn list_tenants(
        &self,
        filter: &TenantFilter,
    ) -> Result<Vec<RecordView>, Failure> {
        match self {
            Self::Database(backend) => {
                let filter = filter.for_services();
                let (mut all, mut after) = (Vec::new(), None);
                loop {
                    let window = Window { after, limit: ROWS_AT_ONCE };
                    let (tenants, ctx) = (&backend.services.tenants, backend.operator());
                    let page = tenants.list_records(&ctx, &filter, &window).await?;
                    all.extend(page.rows.into_iter().map(RecordView::from));
                    after = page.next;
                    if after.is_none() {
                        return Ok(all);
                    }
                }
            }
            Self::Server(client) => {
                let listed = client.list(&["tenants"], &filter.as_query(), None).await?;
                Ok(listed.0.into_iter().map(RecordView::completed).collect())
            }
        }
    }

    /// Creates a tenant.
    pub(in crate::cli) async fn create_tenant(
        &self,
        command: ProvisionTenant,
        end: Option<End>,
    ) -> Result<Created, Failure> {
        match self {
            Self::Database(backend) => {
                let extras = Extras { end, ..Extras::default() };
                let registry = &backend.services.registry;
                let made = registry.create(&backend.operator(), command, extras).await?;
                let is_replayed = made.origin == Origin::Found;
                Ok(Created::new(RecordView::from(made), is_replayed))
            }
            Self::Server(client) => {
                let body = body_of(&command, None, end);
                let mut request = client.control(Method::POST, &["tenants"], &[]).json(&body);
                if let Some(key) = &command.idempotency_key {
                    request = request.header("Idempotency-Key", key);
                }
                let made = client.answer::<RecordView>(request).await?;
                Ok(Created::new(made.body.completed(), made.is_replayed))
            }
        }
    }

    /// Creates a tenant, or makes the one with the external id as the command says.
    pub(in crate::cli) async fn ensure_tenant(
        &self,
        upsert: Upsert,
    ) -> Result<RecordView, Failure> {
        match self {
            Self::Database(backend) => {
                let made = backend.services.registry.ensure(&backend.operator(), upsert).await?;
                let outcome = Some(made.origin.as_str().to_owned());
                Ok(RecordView { outcome, ..RecordView::from(made) })
            }
            Self::Server(client) => {
                let path = ["tenants", "by-external-id", upsert.external_id.as_str()];
                let settings = upsert.settings.as_ref().map(|settings| settings.as_value().clone());
                let query =
                    if upsert.restore { vec![("restore", "true".to_owned())] } else { Vec::new() };
                let body = body_of(&upsert.command, settings, upsert.end);
                let request = client.control(Method::PUT, &path, &query).json(&body);
                let made = client.answer::<RecordView>(request).await?;
                Ok(made.body.completed())
            }
        }
    }

    /// Changes a tenant's record.
    pub(in crate::cli) async fn change_tenant(
        &self,
        id: uuid::Uuid,
        revision: Option<i64>,
        changes: Changes,
    ) -> Result<RecordView, Failure> {
        match self {
            Self::Database(backend) => {
                let which = TenantRef::Id(TenantId::new(id));
                let (registry, ctx) = (&backend.services.registry, backend.operator());
                let record = registry.update(&ctx, &which, &expected(revision), changes).await?;
                Ok(RecordView::from(record))
            }
            Self::Server(client) => {
                let id = id.to_string();
                let request = client.control(Method::PATCH, &["tenants", &id], &[]);
                let request = if_match(request.json(&patch_of(&changes)), revision);
                Ok(client.answer::<RecordView>(request).await?.body.completed())
            }
        }
    }

    /// Moves a tenant's status.
    pub(in crate::cli) async fn move_tenant(
        &self,
        id: uuid::Uuid,
        revision: Option<i64>,
        step: Step,
    ) -> Result<RecordView, Failure> {
        match self {
            Self::Database(backend) => {
                let which = TenantRef::Id(TenantId::new(id));
                let (lifecycle, ctx) = (&backend.services.lifecycle, backend.operator());
                let expected = expected(revision);
                let moved = match step {
                    Step::Suspend => lifecycle.suspend(&ctx, &which, &expected).await,
                    Step::Resume => lifecycle.resume(&ctx, &which, &expected).await,
                    Step::Delete => lifecycle.delete(&ctx, &which, &expected).await,
                    Step::Restore => lifecycle.restore(&ctx, &which, &expected).await,
                };
                Ok(RecordView::from(moved?))
            }
            Self::Server(client) => {
                let id = id.to_string();
                let request = match step {
                    Step::Suspend => client.step(&id, "suspend"),
                    Step::Resume => client.step(&id, "resume"),
                    Step::Restore => client.step(&id, "restore"),
                    Step::Delete => client.control(Method::DELETE, &["tenants", &id], &[]),
                };
                let request = if_match(request, revision);
                Ok(client.answer::<RecordView>(request).await?.body.completed())
            }
        }
    }

    /// Purges a deleted tenant.
    pub(in crate::cli) async fn purge_tenant(
        &self,
        id: uuid::Uuid,
        revision: Option<i64>,
        on_dependents: OnDependents,
    ) -> Result<(), Failure> {
        match self {
            Self::Database(backend) => {
                let which = TenantRef::Id(TenantId::new(id));
                let (lifecycle, ctx) = (&backend.services.lifecycle, backend.operator());
                let expected = expected(revision);
                Ok(lifecycle.purge(&ctx, &which, &expected, on_dependents).await?)
            }
            Self::Server(client) => {
                let body = json!({ "cascade": on_dependents == OnDependents::Cascade });
                let request = client.step(&id.to_string(), "purge").json(&body);
                client.send(if_match(request, revision)).await
            }
        }
    }
}

impl Client {
    pub(super) fn step(&self, tenant: &str, verb: &str) -> reqwest::RequestBuilder {
        self.control(Method::POST, &["tenants", tenant, verb], &[])
    }
}

fn expected(revision: Option<i64>) -> Expected {
    revision.map_or(Expected::Any, |revision| Expected::OneOf(vec![revision]))
}

/// Writes the body that creates a tenant.
fn body_of(command: &ProvisionTenant, settings: Option<Value>, end: Option<End>) -> Value {
    let mut body = Map::new();
    body.insert("name".to_owned(), json!(command.name).into());
    body.insert("slug".to_owned(), json!(command.slug).into());
    if let Some(settings) = settings {
        body.insert("settings".to_owned(), settings);
    }
    if let Some(end) = end {
        body.insert(end.field().to_owned(), end_in_json(end));
    }
    let admin = match &command.admin {
        Admin::None => None,
        Admin::Existing(email) => Some(json!({ "email": email.as_str() })),
        Admin::NewOrExisting(admin) => Some(json!({
            "email": admin.email.as_str(),
            "password": admin.password.as_password().expose(),
            "first_name": admin.first_name,
            "last_name": admin.last_name,
        })),
    };
    body.extend(admin.map(|admin| ("admin".to_owned(), admin.into())));
    Value::Object(body)
}

/// Writes the merge patch that changes a tenant.
fn patch_of(changes: &Changes) -> Value {
    let mut body = Map::new();
    body.extend(changes.slug.as_ref().map(|slug| ("slug".to_owned(), json!(slug).into())));
    body.extend(changes.name.as_ref().map(|name| ("name".to_owned(), json!(name).into())));
    body.extend(changes.settings.clone().map(|settings| ("settings".to_owned(), settings)));
    match changes.end {
        None => {}
        Some(EndChange::Remove) => {
            body.insert("expires_at".to_owned(), Value::Null);
        }
        Some(EndChange::Move(end)) => {
            body.insert(end.field().to_owned(), end_in_json(end));
        }
        Some(EndChange::Give(end)) => {
            body.insert(end.field().to_owned(), end_in_json(end));
            body.insert("add_expiry".to_owned(), Value::Bool(true));
        }
    }
    Value::Object(body)
}

fn end_in_json(end: End) -> Value {
    Value::String(match end {
        End::At(at) => output::exact_time(at),
        End::In(length) => humantime::format_duration(length.unsigned_abs()).to_string(),
    })
}

impl TenantFilter {
    fn for_services(&self) -> Filter {
        Filter {
            status: self.status,
            slug: self.slug.clone(),
            name: self.name.clone(),
            created_after: self.created_after,
            created_before: self.created_before,
            q: self.q.clone(),
            ..Filter::default()
        }
    }

    fn as_query(&self) -> Vec<(&'static str, String)> {
        let given = [
            ("status", self.status.map(|status| status.as_str().to_owned())),
            ("slug", self.slug.clone()),
            ("name", self.name.clone()),
            ("created_after", self.created_after.map(output::exact_time)),
            ("created_before", self.created_before.map(output::exact_time)),
            ("q", self.q.clone()),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl RecordView {
    /// Formats the tenant for people, without the settings, which can be large and secret.
    pub(in crate::cli) fn table(&self) -> String {
        let rows = [
            ("id", Some(self.id.to_string())),
            ("slug", Some(self.slug.clone())),
            ("name", Some(self.name.clone())),
            ("external id", self.external_id.clone()),
            ("status", Some(self.status.clone())),
            ("created at", Some(output::time(self.created_at))),
            ("updated at", Some(output::time(self.updated_at))),
            ("purge after", self.purge_after.map(output::time)),
            ("expires at", self.expires_at.map(output::time)),
            ("schema", Some(self.schema.clone())),
        ];
        let present = |(key, value): (&str, Option<String>)| Some(vec![key.to_owned(), value?]);
        output::table(None, rows.into_iter().filter_map(present))
    }

    /// Adds what the answer of a server leaves out.
    pub(super) fn completed(self) -> Self {
        Self { schema: SchemaName::of(TenantId::new(self.id)).to_string(), ..self }
    }
}

impl Created {
    fn new(record: RecordView, replayed: bool) -> Self {
        Self {
            id: record.id.to_string(),
            name: record.name,
            slug: record.slug,
            replayed,
            expires_at: record.expires_at,
            admin: record.admin,
        }
    }
}

impl From<TenantRecord> for RecordView {
    fn from(record: TenantRecord) -> Self {
        Self {
            id: record.tenant.id.uuid(),
            slug: record.tenant.slug.to_string(),
            name: record.tenant.name.to_string(),
            status: record.tenant.status.as_str().to_owned(),
            external_id: record.external_id.map(|id| id.to_string()),
            settings: record.settings.into_value(),
            revision: record.revision,
            created_at: record.tenant.created_at,
            updated_at: record.updated_at,
            purge_after: record.purge_after,
            expires_at: record.expires_at,
            schema: String::new(),
            outcome: None,
            admin: None,
        }
        .completed()
    }
}

impl From<Registered> for RecordView {
    fn from(registered: Registered) -> Self {
        let admin = registered.admin.map(|admin| AccountOrigin::as_str(admin).to_owned());
        Self { admin, ..Self::from(registered.record) }
    }
}
