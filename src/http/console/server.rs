//! What the server is that answers, and what it does.

use askama::Template;

use super::Answer;
use super::call::Call;
use super::chart;
use super::frame::Area;
use super::page::fragment;
use super::text::When;
use crate::service::overview::ServerInfo;

/// The part of the page that changes by itself.
const CHARTS: &str = "charts";

#[derive(Template)]
#[template(path = "server.html", blocks = ["charts"])]
struct ServerPage {
    info: ServerInfo,
    postgresql: String,
    charts: String,
}

/// Shows what the server is, and its measurements of the last hour.
pub(super) async fn read(call: &Call) -> Answer {
    let overview = &call.services().overview;
    let (_process, measured) = overview.measurements(&call.ctx, &call.site().metrics)?;
    let info = overview.server(&call.ctx).await?;
    let number = info.process.server_version;
    let content = ServerPage {
        postgresql: format!("{}.{}", number / 10_000, number % 10_000),
        charts: chart::draw_all(&measured),
        info,
    };
    if call.fragment().as_deref() == Some(CHARTS) {
        return fragment(call, &content.as_charts());
    }
    call.page(Area::Server, "Server")
        .api("/control/v1/server")
        .api("/control/v1/measurements")
        .show(&content)
}
