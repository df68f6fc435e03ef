//! What the server is that answers, and what it does.

use std::sync::Arc;

use askama::Template;

use super::Answer;
use super::call::Call;
use super::chart;
use super::frame::Area;
use super::page::fragment;
use super::text::When;
use crate::domain::Permission;
use crate::service::overview::{ServerInfo, Setting};

/// The part of the page that changes by itself.
const CHARTS: &str = "charts";

#[derive(Template)]
#[template(path = "server.html", blocks = ["charts"])]
struct ServerPage {
    info: ServerInfo,
    postgresql: String,
    charts: String,
    /// The settings, for those who may see them.
    settings: Option<Arc<[Setting]>>,
}

/// Whether a setting has another value than its default.
fn is_changed(setting: &Setting) -> bool {
    setting.is_hidden || setting.value.as_deref().unwrap_or_default() != setting.default
}

/// Shows what the server is, and its measurements of the last hour.
pub(super) async fn read(call: &Call) -> Answer {
    let overview = &call.services().overview;
    let (_process, measured) = overview.measurements(&call.ctx, &call.site().metrics)?;
    let info = overview.server(&call.ctx).await?;
    let may_see_settings = call.may_everywhere(Permission::ViewSettings);
    let settings = may_see_settings.then(|| overview.settings(&call.ctx)).transpose()?;
    let number = info.process.server_version;
    let content = ServerPage {
        postgresql: format!("{}.{}", number / 10_000, number % 10_000),
        charts: chart::draw_all(&measured),
        info,
        settings,
    };
    if call.fragment().as_deref() == Some(CHARTS) {
        return fragment(call, &content.as_charts());
    }
    let page =
        call.page(Area::Server, "Server").api("/control/v1/server").api("/control/v1/measurements");
    let page = if may_see_settings { page.api("/control/v1/settings") } else { page };
    page.show(&content)
}
