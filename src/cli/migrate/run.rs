//! Runs an operation in the foreground: a new one, an abandoned one, or the failed tenants of the last one.

use serde_json::json;
use uuid::Uuid;

use super::flags::Flags;
use super::progress::{self, Progress};
use crate::app::{Backend, Purpose};
use crate::cli::Program;
use crate::cli::control::{OperationView, failed_in};
use crate::cli::output;
use crate::cli::{Exit, Failure, Output, stop};
use crate::domain::error::{Error, Noun};
use crate::domain::operation::{FleetProblem, OperationState, PauseReason};

pub(super) async fn all(settings: &Program, flags: Flags) -> Result<Exit, Failure> {
    let output = flags.output;
    output::on_backend(Purpose::Migrate, settings, async |backend| {
        report_control_plane(backend, output)?;
        if flags.control_plane_only {
            return Ok(Exit::Done);
        }
        let Some(chosen) = unless_stopped(backend, choose(backend, &flags)).await? else {
            return Ok(Exit::Failed);
        };
        let exit = match chosen {
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

/// Migrates the vacancies too, so that the next set-ups find some. Servers that keep a stock would do it later, and a
/// set-up works without one, so an error here is not a failure of the command.
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
    settings: &Program,
    id: Option<Uuid>,
    output: Output,
) -> Result<Exit, Failure> {
    output::on_backend(Purpose::Migrate, settings, async |backend| {
        let id = progress::which(backend, id).await?;
        follow(backend, id, output).await
    })
    .await
}

/// Returns the operation to run; `None` if no tenant is behind.
async fn choose(backend: &Backend, flags: &Flags) -> Result<Option<Uuid>, Failure> {
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    if flags.retry_failed {
        let last = fleet.find_newest(&ctx).await?.ok_or(Error::NotFound(Noun::Operation))?;
        return Ok(Some(fleet.retry(&ctx, last.id, &[]).await?.id));
    }
    if let Some(found) = progress::open(backend).await? {
        let is_abandoned = found.state != OperationState::Paused && !found.is_held;
        let is_ours = found.target_fingerprint == fleet.set().fingerprint();
        if is_abandoned && is_ours && !flags.is_particular() {
            output::say(&format!(
                "operation {} was abandoned by a process that is gone: continuing it",
                found.id
            ));
            return Ok(Some(found.id));
        }
        if is_abandoned && !is_ours {
            output::say(&format!(
                "operation {} was abandoned by a process that is gone, and migrates to another set: cancelling it",
                found.id
            ));
            fleet.cancel(&ctx, found.id).await?;
        }
    }
    let request = flags.request();
    let plan = fleet.plan(&ctx, &request.tenants).await?;
    plan.require_fit().map_err(Error::from)?;
    if plan.behind_count() == 0 && progress::open(backend).await?.is_none() {
        fleet.check_new_tenants(&ctx).await?;
        return Ok(None);
    }
    Ok(Some(fleet.start(&ctx, &request).await.map_err(in_flags)?.id))
}

/// Names the flag if a tenant does not exist.
pub(super) fn in_flags(error: Error) -> Failure {
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
        Error::Fleet(problem) if matches!(*problem, FleetProblem::Open { .. }) => {
            let words =
                format!("{problem}: `rowhouse migrate resume` or `rowhouse migrate cancel`");
            Failure::from(Error::Fleet(problem)).worded(words)
        }
        other => other.into(),
    }
}

/// Runs an operation to its end, or until this process is told to stop.
async fn follow(backend: &Backend, id: Uuid, output: Output) -> Result<Exit, Failure> {
    let fleet = &backend.services.fleet;
    let progress = Progress::new(output);
    let ctx = backend.operator();
    let mut running = std::pin::pin!(fleet.run(&ctx, id, progress.events()));
    let outcome = tokio::select! {
        outcome = &mut running => outcome,
        () = stop::signalled() => {
            output::say("stopping between two tenants; a second signal rolls back those that are running");
            let stopping = async { tokio::join!(&mut running, fleet.stop()).0 };
            tokio::select! {
                outcome = stopping => outcome,
                () = stop::signalled() => {
                    output::say("rolling back what is running");
                    tokio::join!(&mut running, fleet.stop_at_once()).0
                }
            }
        }
    };
    progress.finish();
    let record = outcome?;
    let view = OperationView::from(&record);
    if output.json {
        progress::line(&json!({ "event": "end", "operation": view }));
    } else {
        let failed = failed_in(backend, id).await?;
        output::data(&progress::summary(&view, &failed))?;
    }
    let is_complete = record.state == OperationState::Done
        || (record.pause_reason == Some(PauseReason::Canary) && record.counts.failed == 0);
    Ok(if is_complete { Exit::Done } else { Exit::Partly })
}

/// Waits for work that changes nothing; `None` if this process is told to stop. What then runs in the database is
/// cancelled: a file may hang.
pub(super) async fn unless_stopped<T>(
    backend: &Backend,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<Option<T>, Failure> {
    let outcome = {
        let work = Box::pin(work);
        tokio::select! {
            outcome = work => Some(outcome),
            () = stop::signalled() => None,
        }
    };
    if outcome.is_none() {
        output::say("stopped before anything was begun");
        backend.services.fleet.stop_at_once().await;
    }
    outcome.transpose()
}

fn report_control_plane(backend: &Backend, output: Output) -> Result<(), Failure> {
    let applied = &backend.posture.applied;
    if output.json {
        progress::line(&json!({ "event": "control_plane", "applied": applied }));
        return Ok(());
    }
    match applied.as_slice() {
        [] => output::data("control plane: nothing to do"),
        applied => output::data(&format!("control plane: applied {}", applied.join(", "))),
    }
}
