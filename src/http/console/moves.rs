//! The moves of a tenant's status, each with a page that says what happens.

use actix_web::HttpResponse;
use askama::Template;

use super::Answer;
use super::call::Call;
use super::form::Form;
use super::frame::Area;
use super::problem::Problem;
use super::text::{Count, When};
use crate::domain::Permission;
use crate::domain::error::{Conflict, Error, Noun, Precondition, Result};
use crate::domain::status::TenantStatus;
use crate::domain::tenant::{Move, TenantRecord};
use crate::service::tenants::lifecycle::{Footprint, OnDependents};
use crate::service::tenants::registry::Expected;
use crate::service::tenants::{MAIN_NUMBER, TenantRef};

/// A step in the life of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Suspend,
    Resume,
    Delete,
    Restore,
    Purge,
}

/// A step that the page of a tenant offers.
pub(super) struct Choice {
    pub(super) word: &'static str,
    pub(super) verb: &'static str,
    pub(super) is_danger: bool,
    /// Why it is not possible now.
    pub(super) reason: Option<String>,
}

#[derive(Template)]
#[template(path = "moves.html")]
struct MovePage<'a> {
    record: &'a TenantRecord,
    word: &'static str,
    verb: &'static str,
    what: &'static str,
    is_danger: bool,
    wants_slug: bool,
    reason: Option<String>,
    footprint: Option<Footprint>,
    /// What is outside of the tenant and depends on it.
    dependents: Vec<String>,
    form: &'a Form,
    is_stale: bool,
}

impl Step {
    const ALL: [Self; 5] = [Self::Suspend, Self::Resume, Self::Delete, Self::Restore, Self::Purge];

    /// Returns the step that the path ends with.
    fn of(call: &Call) -> Result<Self> {
        let word = call.request().path().rsplit('/').next();
        let step = Self::ALL.into_iter().find(|step| Some(step.words().0) == word);
        step.ok_or(Error::NotFound(Noun::Route))
    }

    /// Returns the word in the path and the verb on the button.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Suspend => ("suspend", "Suspend"),
            Self::Resume => ("resume", "Resume"),
            Self::Delete => ("delete", "Delete"),
            Self::Restore => ("restore", "Restore"),
            Self::Purge => ("purge", "Purge"),
        }
    }

    const fn permission(self) -> Permission {
        match self {
            Self::Suspend | Self::Resume => Permission::UpdateTenant,
            Self::Delete | Self::Restore | Self::Purge => Permission::DeleteTenant,
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Suspend => {
                "Every server refuses the requests of the tenant at once, until it is resumed. Its data stays as it is."
            }
            Self::Resume => "The tenant answers requests again.",
            Self::Delete => {
                "Every server refuses the requests of the tenant at once. It can be restored until its grace period \
                 ends; then its data is destroyed."
            }
            Self::Restore => "The tenant gets the status back that it had before it was deleted.",
            Self::Purge => {
                "The schema, the role and all data of the tenant are destroyed now. This cannot be undone."
            }
        }
    }

    const fn is_danger(self) -> bool {
        matches!(self, Self::Delete | Self::Purge)
    }

    /// Returns what was done.
    const fn done(self) -> &'static str {
        match self {
            Self::Suspend => "The tenant is suspended.",
            Self::Resume => "The tenant answers requests again.",
            Self::Delete => {
                "The tenant is deleted, and can be restored until its grace period ends."
            }
            Self::Restore => "The tenant is restored.",
            Self::Purge => "The tenant is purged.",
        }
    }

    /// Returns why the step is not possible now.
    fn reason(self, record: &TenantRecord, now: time::OffsetDateTime) -> Option<String> {
        let status = record.tenant.status;
        let text = match (self, status) {
            (Self::Delete | Self::Purge, _) if record.tenant.number == MAIN_NUMBER => {
                "The main tenant stays"
            }
            (Self::Suspend, TenantStatus::Active)
            | (Self::Resume, TenantStatus::Suspended)
            | (Self::Delete, TenantStatus::Active | TenantStatus::Suspended)
            | (Self::Purge, TenantStatus::Deleting) => return None,
            (Self::Suspend, TenantStatus::Suspended) => "It is suspended already",
            (Self::Resume | Self::Restore, TenantStatus::Active) => "It is active",
            (Self::Restore, TenantStatus::Suspended) => "It is not deleted",
            (Self::Purge, TenantStatus::Active | TenantStatus::Suspended) => "Delete it first",
            (Self::Suspend | Self::Resume, TenantStatus::Deleting) => "Restore it first",
            (Self::Delete, TenantStatus::Deleting) => "It is deleted already",
            (Self::Restore, TenantStatus::Deleting) => {
                return match record.status_after(Move::Restore, now) {
                    Ok(_) => None,
                    Err(Conflict::PurgeStarted) => Some("Its purge has begun".to_owned()),
                    Err(conflict) => Some(conflict.to_string()),
                };
            }
        };
        Some(text.to_owned())
    }
}

/// Returns the steps that the caller may take, with the reasons of those that are not possible now.
pub(super) fn choices(call: &Call, record: &TenantRecord) -> Vec<Choice> {
    let may = |step: &Step| call.ctx.principal.may_in(step.permission(), record.tenant.id);
    let steps = Step::ALL.into_iter().filter(may);
    steps
        .map(|step| {
            let (word, verb) = step.words();
            let reason = step.reason(record, call.ctx.now);
            Choice { word, verb, is_danger: step.is_danger(), reason }
        })
        .collect()
}

/// Asks before a step.
pub(super) async fn ask(call: &Call) -> Answer {
    show(call, Step::of(call)?, &Form::default(), None).await
}

async fn show(call: &Call, step: Step, form: &Form, error: Option<Error>) -> Answer {
    call.ctx.reach(step.permission())?;
    let services = call.services();
    let which = TenantRef::IdOrSlug(call.path("tenant")?);
    let (record, footprint) = if step.is_danger() {
        let (record, footprint) = services.lifecycle.read_footprint(&call.ctx, &which).await?;
        (record, Some(footprint))
    } else {
        (services.tenants.read_record(&call.ctx, &which).await?, None)
    };
    let dependents = if step == Step::Purge && call.may_everywhere(Permission::DeleteTenant) {
        services.lifecycle.read_dependents(&call.ctx, &which).await?
    } else {
        Vec::new()
    };
    let (word, verb) = step.words();
    let content = MovePage {
        record: &record,
        word,
        verb,
        what: step.what(),
        is_danger: step.is_danger(),
        wants_slug: step.is_danger(),
        reason: step.reason(&record, call.ctx.now),
        footprint,
        dependents,
        form,
        is_stale: matches!(error, Some(Error::Precondition(_))),
    };
    let title = format!("{verb} {}", record.tenant.name);
    let page = call.page(Area::Tenants, title).api(super::one_tenant::api(&record));
    match error {
        None => page.show(&content),
        Some(error) => Ok(HttpResponse::from_error(Problem::shown(error, page.html(&content)?))),
    }
}

/// Takes a step.
pub(super) async fn make(call: &Call) -> Answer {
    let step = Step::of(call)?;
    call.ctx.reach(step.permission())?;
    let form = &call.form;
    let expected = super::one_tenant::expected(form)?;
    let record = super::one_tenant::record(call).await?;
    if step.is_danger() && form.text("slug") != record.tenant.slug.as_str() {
        form.blame("slug", "is not the slug of this tenant, and nothing was done");
        return show(call, step, form, Some(Error::Invalid(Vec::new()))).await;
    }
    let which = TenantRef::Id(record.tenant.id);
    match take(call, step, &which, &expected).await {
        Ok(()) if step == Step::Purge => call.done("/console/tenants", step.done()),
        Ok(()) => call.done(&format!("/console/tenants/{}", record.tenant.slug), step.done()),
        Err(error @ Error::Precondition(Precondition::Failed)) => {
            show(call, step, form, Some(error)).await
        }
        Err(error) => Err(error),
    }
}

async fn take(call: &Call, step: Step, which: &TenantRef, expected: &Expected) -> Result<()> {
    let (lifecycle, ctx) = (&call.services().lifecycle, &call.ctx);
    match step {
        Step::Suspend => lifecycle.suspend(ctx, which, expected).await.map(drop),
        Step::Resume => lifecycle.resume(ctx, which, expected).await.map(drop),
        Step::Delete => lifecycle.delete(ctx, which, expected).await.map(drop),
        Step::Restore => lifecycle.restore(ctx, which, expected).await.map(drop),
        Step::Purge => {
            let cascades = call.form.has("cascade", "1");
            let on = if cascades { OnDependents::Cascade } else { OnDependents::Stop };
            Box::pin(lifecycle.purge(ctx, which, expected, on)).await
        }
    }
}
