//! `vacancies`: shows the stock of schemas that are built ahead of time, and fills or empties it by hand.

use serde::Serialize;
use time::OffsetDateTime;

use super::{Exit, Failure, Output, output};
use crate::app::Purpose;
use crate::cli::Program;
use crate::service::vacancies::{StockStatus, Work};

/// The stock in JSON.
#[derive(Debug, Serialize)]
struct StockView {
    /// How many the settings of this command want.
    wanted_count: usize,
    ready_count: usize,
    building_count: usize,
    stale_count: usize,
    ahead_count: usize,
    dropping_count: usize,
    /// Servers that keep a stock of this kind.
    keeper_count: usize,
    #[serde(with = "time::serde::rfc3339::option")]
    oldest_at: Option<OffsetDateTime>,
    oldest_age_seconds: Option<i64>,
}

/// What was done, in JSON.
#[derive(Debug, Serialize)]
struct WorkView {
    #[serde(rename = "built_count")]
    built: usize,
    #[serde(rename = "migrated_count")]
    migrated: usize,
    #[serde(rename = "dropped_count")]
    dropped: usize,
}

pub(super) async fn show(settings: &Program, output: Output) -> Result<Exit, Failure> {
    let view = output::on_backend(Purpose::Operate, settings, async |backend| {
        let ctx = backend.operator();
        let status = backend.services.vacancies.status(&ctx).await?;
        Ok(StockView::of(&status, ctx.now))
    })
    .await?;
    output::print(output, &view, || view.to_table())?;
    Ok(Exit::Done)
}

pub(super) async fn fill(settings: &Program, output: Output) -> Result<Exit, Failure> {
    let work = output::on_isolated_backend(settings, async |backend| {
        Ok(backend.services.vacancies.fill(&backend.operator()).await?)
    })
    .await?;
    report(output, work)
}

pub(super) async fn drop_all(settings: &Program, output: Output) -> Result<Exit, Failure> {
    let work = output::on_backend(Purpose::Operate, settings, async |backend| {
        Ok(backend.services.vacancies.drop_all(&backend.operator()).await?)
    })
    .await?;
    report(output, work)
}

fn report(output: Output, work: Work) -> Result<Exit, Failure> {
    let Work { built, migrated, dropped } = work;
    let view = WorkView { built, migrated, dropped };
    output::print(output, &view, || {
        format!("vacancies: {built} built, {migrated} migrated, {dropped} dropped")
    })?;
    Ok(Exit::Done)
}

impl StockView {
    fn of(status: &StockStatus, now: OffsetDateTime) -> Self {
        Self {
            wanted_count: status.wanted,
            ready_count: status.ready,
            building_count: status.building,
            stale_count: status.stale,
            ahead_count: status.ahead,
            dropping_count: status.dropping,
            keeper_count: status.replenishers,
            oldest_at: status.oldest_at,
            oldest_age_seconds: status.oldest_at.map(|at| (now - at).whole_seconds().max(0)),
        }
    }

    fn to_table(&self) -> String {
        let oldest = self.oldest_at.map_or_else(|| "-".to_owned(), output::time);
        let rows = [
            ("wanted", self.wanted_count.to_string()),
            ("ready", self.ready_count.to_string()),
            ("building", self.building_count.to_string()),
            ("stale", self.stale_count.to_string()),
            ("ahead", self.ahead_count.to_string()),
            ("dropping", self.dropping_count.to_string()),
            ("oldest", oldest),
            ("servers", self.keeper_count.to_string()),
        ];
        output::table(None, rows.map(|(key, value)| vec![key.to_owned(), value]))
    }
}
