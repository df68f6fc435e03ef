//! The first page: the state of everything, or the tenants of the caller.

use askama::Template;

use super::Answer;
use super::call::Call;
use super::chart;
use super::frame::Area;
use super::page::fragment;
use super::text::{Count, When};
use crate::domain::Permission;
use crate::domain::page::Window;
use crate::service::audit::{Entry, Filter};
use crate::service::me::TenantRole;
use crate::service::overview::Summary;

/// How many of the last events are shown.
const EVENTS: u16 = 10;

/// The part of the page that changes by itself.
const LIVE: &str = "live";

#[derive(Template)]
#[template(path = "overview.html", blocks = ["live"])]
struct OverviewPage {
    summary: Summary,
    events: Vec<Entry>,
    may_see_events: bool,
    charts: String,
}

#[derive(Template)]
#[template(path = "own_tenants.html")]
struct OwnTenantsPage {
    tenants: Vec<TenantRole>,
    /// Whether the caller may open the page of a tenant.
    opens: bool,
}

/// Shows the state of the whole installation to those who may see it, and to every other caller their tenants.
pub(super) async fn read(call: &Call) -> Answer {
    if !call.may_everywhere(Permission::ViewFleet) {
        return own_tenants(call).await;
    }
    let summary = call.services().overview.summary(&call.ctx).await?;
    let may_see_events = call.may(Permission::ViewAudit);
    let events = if may_see_events {
        let window = Window { after: None, limit: EVENTS };
        call.services().audit.list(&call.ctx, &Filter::default(), &window).await?.rows
    } else {
        Vec::new()
    };
    let (_process, measured) =
        call.services().overview.measurements(&call.ctx, &call.site().metrics)?;
    let charts = chart::draw_first(&measured);
    let content = OverviewPage { summary, events, may_see_events, charts };
    if call.fragment().as_deref() == Some(LIVE) {
        return fragment(call, &content.as_live());
    }
    let page = call
        .page(Area::Overview, "Overview")
        .api("/control/v1/summary")
        .api("/control/v1/measurements")
        .changing();
    let page = if may_see_events {
        page.api(format!("/control/v1/audit-events?limit={EVENTS}"))
    } else {
        page
    };
    page.show(&content)
}

async fn own_tenants(call: &Call) -> Answer {
    let who = call.services().me.who(&call.ctx).await?;
    let opens = call.may(Permission::ViewTenants);
    let content = OwnTenantsPage { tenants: who.roles, opens };
    call.page(Area::Overview, "Overview").api("/control/v1/me").show(&content)
}
