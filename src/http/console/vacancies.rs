//! The stock of schemas that are built ahead of time.

use askama::Template;

use super::Answer;
use super::call::Call;
use super::chart;
use super::frame::Area;
use super::page::fragment;
use super::text::When;
use crate::domain::Permission;
use crate::domain::error::{Conflict, Error};
use crate::service::vacancies::{StockStatus, Work};

/// The part of the page that changes by itself.
const LIVE: &str = "live";

#[derive(Template)]
#[template(path = "vacancies.html", blocks = ["live"])]
struct VacanciesPage {
    stock: StockStatus,
    setups: String,
    may_fill: bool,
    may_drop: bool,
}

/// Shows the stock.
pub(super) async fn read(call: &Call) -> Answer {
    let services = call.services();
    let stock = services.vacancies.status(&call.ctx).await?;
    let (_process, measured) = services.overview.measurements(&call.ctx, &call.site().metrics)?;
    let content = VacanciesPage {
        stock,
        setups: chart::draw(&measured, "Set-ups of tenants"),
        may_fill: call.may_everywhere(Permission::CreateTenant),
        may_drop: call.may_everywhere(Permission::DeleteTenant),
    };
    if call.fragment().as_deref() == Some(LIVE) {
        return fragment(call, &content.as_live());
    }
    call.page(Area::Vacancies, "Vacancies")
        .api("/control/v1/vacancies")
        .api("/control/v1/measurements")
        .changing()
        .show(&content)
}

/// Builds, migrates and drops until the stock is as it should be.
pub(super) async fn fill(call: &Call) -> Answer {
    let filled = call.services().vacancies.fill(&call.ctx).await;
    done(call, filled)
}

/// Drops all vacancies.
pub(super) async fn drop_all(call: &Call) -> Answer {
    let dropped = call.services().vacancies.drop_all(&call.ctx).await;
    done(call, dropped)
}

fn done(call: &Call, outcome: Result<Work, Error>) -> Answer {
    let sentence = match outcome {
        Ok(Work { built: 0, migrated: 0, dropped: 0 }) => "There was nothing to do.".to_owned(),
        Ok(Work { built, migrated, dropped }) => {
            format!("{built} built, {migrated} migrated, {dropped} dropped.")
        }
        Err(Error::Conflict(Conflict::StillRunning | Conflict::Concurrent)) => {
            "Another server is changing the stock. Try again in a moment.".to_owned()
        }
        Err(error) => return Err(error),
    };
    call.done("/console/vacancies", &sentence)
}
