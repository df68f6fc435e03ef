//! Shows the fleet and operations, and pauses or cancels them, whichever process runs them.

use serde_json::json;
use uuid::Uuid;

use super::progress;
use super::run::unless_stopped;
use crate::app::{Backend, Purpose};
use crate::auth::CallContext;
use crate::cli::Program;
use crate::cli::{Exit, Failure, Output, output};
use crate::domain::error::{Error, Noun};
use crate::service::Fleet;
use crate::service::fleet::{Behind, Plan, Record, RehearsalTarget, Trial, TrialEnd};

pub(super) async fn plan(
    settings: &Program,
    tenants: &[String],
    output: Output,
) -> Result<Exit, Failure> {
    output::on_backend(Purpose::Operate, settings, async |backend| {
        let plan = backend.services.fleet.plan(&backend.operator(), tenants).await?;
        if output.json {
            progress::line(&plan_in_json(&plan));
        } else {
            output::data(&plan_in_words(&plan))?;
        }
        plan.require_fit().map_err(Error::from)?;
        output::require_isolated(backend, settings)?;
        Ok(Exit::Done)
    })
    .await
}

fn plan_in_json(plan: &Plan) -> serde_json::Value {
    let behind = |group: &Behind| {
        json!({
            "fingerprint": group.fingerprint, "version": group.version, "tenantCount": group.count,
            "slugs": group.slugs, "files": group.files,
        })
    };
    json!({
        "targetVersion": plan.target_version,
        "targetFingerprint": plan.target_fingerprint,
        "currentCount": plan.current_count,
        "behindCount": plan.behind_count(),
        "deletingCount": plan.deleting_count,
        "behind": plan.behind.iter().map(behind).collect::<Vec<_>>(),
        "ahead": plan.ahead,
        "diverged": plan.diverged,
    })
}

fn plan_in_words(plan: &Plan) -> String {
    let mut lines =
        vec![format!("tenants: {} current, {} behind", plan.current_count, plan.behind_count())];
    for group in &plan.behind {
        let mut slugs = group.slugs.join(", ");
        if usize::try_from(group.count).is_ok_and(|count| count > group.slugs.len()) {
            slugs.push_str(", ..");
        }
        let files = match group.files.as_slice() {
            [] => "nothing but the record of it".to_owned(),
            files => files.join(", "),
        };
        lines
            .push(format!("  {} at version {} lack {files} ({slugs})", group.count, group.version));
    }
    if plan.deleting_count > 0 {
        lines.push(format!("  {} are being deleted and stay as they are", plan.deleting_count));
    }
    lines.join("\n")
}

pub(super) async fn rehearse(
    settings: &Program,
    target: RehearsalTarget,
    output: Output,
) -> Result<Exit, Failure> {
    output::on_isolated_backend(settings, async |backend| {
        let (fleet, ctx) = (&backend.services.fleet, backend.operator());
        let rehearsing = async {
            let rehearsed = fleet.rehearse(&ctx, target).await?;
            Ok((rehearsed, fleet.why_no_new_tenants(&ctx).await?))
        };
        let Some((rehearsed, new_tenant)) = unless_stopped(backend, rehearsing).await? else {
            return Ok(Exit::Failed);
        };
        let Some(rehearsal) = rehearsed else {
            if output.json {
                progress::line(&json!({
                    "schema": null, "applied": [], "error": null, "migrations": [], "newTenant": new_tenant,
                }));
            } else {
                output::data(&format!("tenants: nothing to do\n{}", in_words(new_tenant.as_ref())))?;
            }
            return Ok(if new_tenant.is_some() { Exit::Failed } else { Exit::Done });
        };
        let schema = rehearsal.schema.as_str();
        let outcome = rehearsal.outcome();
        let (applied, error) = (outcome.as_ref().ok(), outcome.as_ref().err());
        if output.json {
            let migrations: Vec<_> = rehearsal.trials.iter().map(trial_in_json).collect();
            progress::line(&json!({
                "schema": schema, "applied": applied, "error": error, "migrations": migrations,
                "newTenant": new_tenant,
            }));
        } else {
            let result = match &outcome {
                Ok(files) if files.is_empty() => {
                    "would apply nothing; all of it was rolled back".to_owned()
                }
                Ok(files) => {
                    format!("would apply {}; all of it was rolled back", files.join(", "))
                }
                Err(reason) => format!("would fail: {reason}"),
            };
            let lines = rehearsal.trials.iter().map(trial_in_words);
            let lines = [format!("{schema}: {result}")].into_iter().chain(lines);
            let lines = lines.chain([in_words(new_tenant.as_ref())]);
            output::data(&lines.collect::<Vec<_>>().join("\n"))?;
        }
        Ok(if error.or(new_tenant.as_ref()).is_some() { Exit::Failed } else { Exit::Done })
    })
    .await
}

/// Whether a new tenant can be made from the whole set.
fn in_words(problem: Option<&String>) -> String {
    problem.cloned().unwrap_or_else(|| "a new tenant can be made from all files".to_owned())
}

fn trial_in_json(trial: &Trial) -> serde_json::Value {
    let (state, duration, line, error) = match &trial.end {
        TrialEnd::Applied(took) => ("applied", Some(took.as_secs_f64() * 1000.0), None, None),
        TrialEnd::Failed { line, message } => ("failed", None, *line, Some(message)),
        TrialEnd::NotReached => ("not_reached", None, None, None),
    };
    json!({
        "file": trial.file, "state": state, "durationMs": duration, "line": line, "error": error,
    })
}

fn trial_in_words(trial: &Trial) -> String {
    match &trial.end {
        TrialEnd::Applied(took) => {
            format!("  {}: {:.1} ms", trial.file, took.as_secs_f64() * 1000.0)
        }
        TrialEnd::Failed { .. } => format!("  {}: fails", trial.file),
        TrialEnd::NotReached => format!("  {}: not reached", trial.file),
    }
}

pub(super) async fn status(
    settings: &Program,
    id: Option<Uuid>,
    output: Output,
) -> Result<Exit, Failure> {
    output::on_backend(Purpose::Operate, settings, async |backend| {
        let (fleet, ctx) = (&backend.services.fleet, backend.operator());
        let record = match id {
            Some(id) => fleet.read(&ctx, id).await?,
            None => match progress::open(backend).await? {
                Some(record) => record,
                None => fleet.find_newest(&ctx).await?.ok_or(Error::NotFound(Noun::Operation))?,
            },
        };
        show(backend, &record, output).await.map(|()| Exit::Done)
    })
    .await
}

pub(super) async fn pause(
    settings: &Program,
    id: Option<Uuid>,
    output: Output,
) -> Result<Exit, Failure> {
    change(settings, id, output, async |fleet, ctx, id| fleet.pause(&ctx, id).await).await
}

pub(super) async fn cancel(
    settings: &Program,
    id: Option<Uuid>,
    output: Output,
) -> Result<Exit, Failure> {
    change(settings, id, output, async |fleet, ctx, id| fleet.cancel(&ctx, id).await).await
}

/// Changes the state of an operation, the open one if none is named, and shows it.
async fn change(
    settings: &Program,
    id: Option<Uuid>,
    output: Output,
    change: impl AsyncFnOnce(&Fleet, CallContext, Uuid) -> Result<Record, Error>,
) -> Result<Exit, Failure> {
    output::on_backend(Purpose::Operate, settings, async |backend| {
        let id = progress::which(backend, id).await?;
        let record = change(&backend.services.fleet, backend.operator(), id).await?;
        show(backend, &record, output).await.map(|()| Exit::Done)
    })
    .await
}

async fn show(backend: &Backend, record: &Record, output: Output) -> Result<(), Failure> {
    if output.json {
        progress::line(&progress::operation(record));
        return Ok(());
    }
    let mut text = format!("operation {}: {}", record.id, record.state);
    if let Some(holder) = record.holder.as_ref().filter(|_| record.is_held) {
        let since = output::time(holder.since);
        text = format!("{text}, process {} on {} since {since}", holder.pid, holder.host);
    }
    output::data(&format!("{text}\n{}", progress::summary(backend, record).await?))
}
