//! Runs an operation in the foreground: a new one, one that was left, or what failed of the last one.

use serde_json::json;
use uuid::Uuid;

use super::look::{open, which};
use super::progress::{self, Progress};
use super::{Exit, Failure, Flags, Output};
use crate::app::{Backend, Purpose};
use crate::cli::output;
use crate::config::Settings;
use crate::domain::error::{Error, Noun};
use crate::domain::operation::{FleetProblem, OperationState, PauseReason, Then, WorkState};
use crate::domain::page::Window;
use crate::service::fleet::{Canary, Record, Wish};

/// Tenants that a summary names.
const NAMED: u16 = 20;

impl Flags {
    fn wish(&self) -> Wish {
        let is_canary = self.canary.is_some() || !self.canary_tenants.is_empty();
        let then = if self.go_on { Then::Continue } else { Then::Pause };
        let number = |given: Option<u32>| given.and_then(|number| usize::try_from(number).ok());
        Wish {
            tenants: self.tenants.clone(),
            canary: is_canary.then(|| Canary {
                count: self.canary.unwrap_or(0),
                tenants: self.canary_tenants.clone(),
                then,
            }),
            workers: number(self.workers),
            max_failures: number(self.max_failures),
        }
    }

    /// Whether it says more than "bring everybody up to date".
    fn is_particular(&self) -> bool {
        !self.tenants.is_empty() || self.canary.is_some() || !self.canary_tenants.is_empty()
    }
}

pub(super) async fn all(settings: &Settings, flags: Flags) -> Result<Exit, Failure> {
    let output = flags.output;
    output::on_backend(Purpose::Migrate, settings, async |backend| {
        tell_control_plane(backend, output)?;
        let exit = match choose(backend, &flags).await? {
            Some(id) => follow(backend, id, output).await?,
            None if output.json => {
                progress::line(&json!({ "event": "end", "operation": null }));
                Exit::Done
            }
            None => output::data("tenants: nothing to do").map(|()| Exit::Done)?,
        };
        if exit == Exit::Done && !flags.is_particular() {
            rebuild_vacancies(backend).await;
        }
        Ok(exit)
    })
    .await
}

/// Brings the vacancies up to date too, so that the next set-ups find some. Servers that look after a stock
/// would do it later, and a set-up can do without: whatever is in the way here is no failure.
async fn rebuild_vacancies(backend: &Backend) {
    match backend.services.vacancies.rebuild_stale(&backend.operator()).await {
        Ok(work) if work.migrated + work.dropped > 0 => {
            let (migrated, dropped) = (work.migrated, work.dropped);
            output::say(&format!("vacancies: {migrated} migrated, {dropped} dropped"));
        }
        Ok(_) => {}
        Err(error) => output::say(&format!("vacancies: left to the servers: {}", error.chain())),
    }
}

pub(super) async fn resume(
    settings: &Settings,
    id: Option<Uuid>,
    output: Output,
) -> Result<Exit, Failure> {
    output::on_backend(Purpose::Migrate, settings, async |backend| {
        let id = which(backend, id).await?;
        follow(backend, id, output).await
    })
    .await
}

/// The operation to run; none where nobody is behind.
async fn choose(backend: &Backend, flags: &Flags) -> Result<Option<Uuid>, Failure> {
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    if flags.retry_failed {
        let last = fleet.find_newest(&ctx).await?.ok_or(Error::NotFound(Noun::Operation))?;
        return Ok(Some(fleet.retry(&ctx, last.id).await?.id));
    }
    if let Some(left) = open(backend).await? {
        let is_left = left.state != OperationState::Paused && !left.is_held;
        let is_ours = left.target_fingerprint == fleet.set().fingerprint();
        if is_left && is_ours && !flags.is_particular() {
            output::say(&format!(
                "operation {} was left by a process that is gone: going on",
                left.id
            ));
            return Ok(Some(left.id));
        }
        if is_left && !is_ours {
            output::say(&format!(
                "operation {} was left by a process that is gone, and migrates to another set: giving it up",
                left.id
            ));
            fleet.cancel(&ctx, left.id).await?;
        }
    }
    let wish = flags.wish();
    let plan = fleet.plan(&ctx, &wish.tenants).await?;
    plan.require_fit().map_err(Error::from)?;
    if plan.behind_count() == 0 && open(backend).await?.is_none() {
        return Ok(None);
    }
    Ok(Some(fleet.start(&ctx, &wish).await.map_err(in_flags)?.id))
}

/// Names the flag where a tenant is not there.
fn in_flags(error: Error) -> Failure {
    match error {
        Error::Invalid(problems) => Failure::Usage(
            problems
                .iter()
                .map(|problem| {
                    let flag = if problem.field.starts_with("/canary") {
                        "--canary-tenant"
                    } else {
                        "--tenant"
                    };
                    format!("{flag} must be the slug or the id of a tenant")
                })
                .collect(),
        ),
        Error::Fleet(problem) if matches!(*problem, FleetProblem::Open { .. }) => Failure::Other(
            format!("{problem}: `rowhouse migrate resume` or `rowhouse migrate cancel`"),
        ),
        other => other.into(),
    }
}

/// Runs it to its end, or until somebody stops this process.
async fn follow(backend: &Backend, id: Uuid, output: Output) -> Result<Exit, Failure> {
    let fleet = &backend.services.fleet;
    let progress = Progress::new(output);
    let ctx = backend.operator();
    let mut running = std::pin::pin!(fleet.run(&ctx, id, progress.events()));
    let outcome = tokio::select! {
        outcome = &mut running => outcome,
        () = told_to_stop() => {
            output::say("stopping between two tenants");
            let (outcome, ()) = tokio::join!(running, fleet.stop());
            outcome
        }
    };
    progress.finish();
    let record = outcome?;
    if output.json {
        progress::line(&json!({ "event": "end", "operation": progress::operation(&record) }));
    } else {
        output::data(&summary(backend, &record).await?)?;
    }
    let is_whole = record.state == OperationState::Done
        || (record.pause_reason == Some(PauseReason::Canary) && record.counts.failed == 0);
    Ok(if is_whole { Exit::Done } else { Exit::Partly })
}

async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => if outcome.is_err() { std::future::pending().await },
        _ = terminated.recv() => {}
    }
}

fn tell_control_plane(backend: &Backend, output: Output) -> Result<(), Failure> {
    let applied = &backend.posture.applied;
    if output.json {
        progress::line(&json!({ "event": "controlPlane", "applied": applied }));
        return Ok(());
    }
    match applied.as_slice() {
        [] => output::data("control plane: nothing to do"),
        applied => output::data(&format!("control plane: applied {}", applied.join(", "))),
    }
}

/// What became of an operation, with the names of those that failed.
pub(super) async fn summary(backend: &Backend, record: &Record) -> Result<String, Failure> {
    let counts = record.counts;
    let mut text = format!("tenants: {} migrated", counts.done);
    if counts.failed > 0 {
        let window = Window { after: None, limit: NAMED };
        let (fleet, ctx) = (&backend.services.fleet, backend.operator());
        let failed = fleet.tenants(&ctx, record.id, Some(WorkState::Failed), &window).await?;
        let slugs: Vec<&str> = failed.rows.iter().map(|work| work.slug.as_str()).collect();
        let more = if failed.next.is_some() { ", .." } else { "" };
        text = format!("{text}, {} failed", counts.failed);
        // Nobody's name is known any more where the rows are no longer kept.
        if !slugs.is_empty() {
            text = format!("{text}: {}{more}", slugs.join(", "));
        }
    }
    if counts.skipped > 0 {
        text = format!("{text}, {} left out", counts.skipped);
    }
    let left = counts.pending + counts.running;
    if left > 0 {
        text = format!("{text}, {left} not tried");
    }
    match (record.state, record.pause_reason) {
        (OperationState::Paused, reason) => {
            let why = match reason {
                Some(PauseReason::Canary) => "the canary went well",
                Some(PauseReason::CanaryFailed) => "the canary failed",
                Some(PauseReason::MaxFailures) => "as many failed as were allowed to",
                Some(PauseReason::Asked) | None => "somebody asked",
            };
            let id = record.id;
            text = format!(
                "{text}\noperation {id} is paused: {why}; `rowhouse migrate resume` goes on"
            );
        }
        (OperationState::Planned | OperationState::Running, _) if !record.is_held => {
            text = format!("{text}\noperation {} was left; `rowhouse migrate` goes on", record.id);
        }
        (OperationState::Cancelled, _) => {
            text = format!("{text}\noperation {} was cancelled", record.id);
        }
        _ => {}
    }
    Ok(text)
}
