//! What the pages of one tenant share: the tenant that the path names, the revision in a form, the links between the pages.

use super::call::Call;
use super::form::Form;
use crate::domain::Permission;
use crate::domain::error::{Error, Precondition, Result};
use crate::domain::tenant::TenantRecord;
use crate::service::tenants::TenantRef;
use crate::service::tenants::registry::Expected;

/// The parts of a tenant.
pub(super) struct Tabs(pub(super) Vec<Tab>);

/// A part of a tenant.
pub(super) struct Tab {
    pub(super) path: String,
    pub(super) words: &'static str,
    pub(super) is_here: bool,
}

impl Tabs {
    /// Returns the parts that the caller may see.
    pub(super) fn of(call: &Call, record: &TenantRecord, here: &str) -> Self {
        let (id, slug) = (record.tenant.id, &record.tenant.slug);
        let inside = |part: &str| format!("/console/tenants/{slug}{part}");
        let tabs = [
            (None, "Tenant", inside("")),
            (Some(Permission::UpdateTenant), "Settings", inside("/settings")),
            (Some(Permission::ViewUsers), "Members", inside("/members")),
            (None, "Schema", inside("/schema")),
            (Some(Permission::ManageApiKeys), "Tokens", format!("/console/tokens?tenant_id={id}")),
            (Some(Permission::ExportTenant), "Archives", format!("/console/archives?tenant={id}")),
            (Some(Permission::ViewAudit), "Audit", format!("/console/audit?tenant={id}")),
        ];
        let may = |needed: Option<Permission>| {
            needed.is_none_or(|permission| call.ctx.principal.may_in(permission, id))
        };
        let shown = tabs.into_iter().filter(|(needed, ..)| may(*needed));
        Self(shown.map(|(_, words, path)| Tab { path, words, is_here: words == here }).collect())
    }
}

/// Returns the tenant that the path names.
pub(super) fn named(call: &Call) -> Result<TenantRef> {
    Ok(TenantRef::IdOrSlug(call.path("tenant")?))
}

/// Reads the tenant that the path names.
pub(super) async fn record(call: &Call) -> Result<TenantRecord> {
    call.services().tenants.read_record(&call.ctx, &named(call)?).await
}

/// Returns the path of a tenant in the control dialect.
pub(super) fn api(record: &TenantRecord) -> String {
    format!("/control/v1/tenants/{}", record.tenant.slug)
}

/// Returns the revision that a form is about.
pub(super) fn expected(form: &Form) -> Result<Expected> {
    let revision = form.text("revision").parse();
    revision
        .map(|revision| Expected::OneOf(vec![revision]))
        .map_err(|_no_revision| Error::Precondition(Precondition::Required))
}
