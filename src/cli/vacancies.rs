//! `vacancies`: how the stock of schemas stands that are built ahead of time, and filling or emptying it by
//! hand.

use serde::Serialize;
use time::OffsetDateTime;

use super::{Exit, Failure, Output, output};
use crate::app::Purpose;
use crate::config::Settings;
use crate::service::vacancies::{Standing, Work};

/// The stock as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StandingView {
    /// How many the settings of this command ask for.
    wanted_count: usize,
    ready_count: usize,
    building_count: usize,
    stale_count: usize,
    ahead_count: usize,
    dropping_count: usize,
    /// Servers that look after a stock of this kind.
    keeper_count: usize,
    #[serde(with = "time::serde::rfc3339::option")]
    oldest_at: Option<OffsetDateTime>,
    oldest_age_seconds: Option<i64>,
}

/// What was done, as programs read it.
#[derive(Debug, Serialize)]
struct WorkView {
    #[serde(rename = "builtCount")]
    built: usize,
    #[serde(rename = "migratedCount")]
    migrated: usize,
    #[serde(rename = "droppedCount")]
    dropped: usize,
}

pub(super) async fn show(settings: &Settings, output: Output) -> Result<Exit, Failure> {
    let view = output::on_backend(Purpose::Operate, settings, async |backend| {
        let ctx = backend.operator();
        let standing = backend.services.vacancies.standing(&ctx).await?;
        Ok(StandingView::of(&standing, ctx.now))
    })
    .await?;
    output::print(output, &view, || view.to_table())?;
    Ok(Exit::Done)
}

pub(super) async fn fill(settings: &Settings, output: Output) -> Result<Exit, Failure> {
    let work = output::on_backend(Purpose::Operate, settings, async |backend| {
        Ok(backend.services.vacancies.fill(&backend.operator()).await?)
    })
    .await?;
    report(output, work)
}

pub(super) async fn drop_all(settings: &Settings, output: Output) -> Result<Exit, Failure> {
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

impl StandingView {
    fn of(standing: &Standing, now: OffsetDateTime) -> Self {
        Self {
            wanted_count: standing.wanted,
            ready_count: standing.ready,
            building_count: standing.building,
            stale_count: standing.stale,
            ahead_count: standing.ahead,
            dropping_count: standing.dropping,
            keeper_count: standing.keepers,
            oldest_at: standing.oldest_at,
            oldest_age_seconds: standing.oldest_at.map(|at| (now - at).whole_seconds().max(0)),
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
