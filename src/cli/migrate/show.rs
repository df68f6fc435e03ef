//! Shows the fleet and operations, and pauses or cancels them, whichever process runs them.

use serde_json::json;
use uuid::Uuid;

use super::progress;
use super::run::unless_stopped;
use crate::app::Purpose;
use crate::cli::Program;
use crate::cli::control::{Control, OperationView, PlanView, Steering, Target, Uses, on_control};
use crate::cli::{Exit, Failure, Output, output};
use crate::domain::error::Error;
use crate::service::fleet::{RehearsalTarget, Trial, TrialEnd};

pub(super) async fn plan(
    settings: &Program,
    tenants: &[String],
    output: Output,
) -> Result<Exit, Failure> {
    output::on_backend(Purpose::Operate, settings, async |backend| {
        let plan = backend.services.fleet.plan(&backend.operator(), tenants).await?;
        print_plan(&PlanView::from(&plan), output)?;
        plan.require_fit().map_err(Error::from)?;
        output::require_isolated(backend, settings)?;
        Ok(Exit::Done)
    })
    .await
}

pub(super) fn print_plan(plan: &PlanView, output: Output) -> Result<(), Failure> {
    if output.json {
        progress::line(&serde_json::to_value(plan).unwrap_or_default());
        return Ok(());
    }
    output::data(&plan_in_words(plan))
}

fn plan_in_words(plan: &PlanView) -> String {
    let mut lines =
        vec![format!("tenants: {} current, {} behind", plan.current_count, plan.behind_count)];
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
                    "schema": null, "applied": [], "error": null, "migrations": [], "new_tenant": new_tenant,
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
                "new_tenant": new_tenant,
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
        "file": trial.file, "state": state, "duration_ms": duration, "line": line, "error": error,
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
    target: &Target,
    id: Option<Uuid>,
    output: Output,
) -> Result<Exit, Failure> {
    on_control(target, Uses::ControlPlane, async |control| {
        let view = control.read_operation(id).await?;
        show(control, &view, output).await.map(|()| Exit::Done)
    })
    .await
}

/// Pauses or cancels an operation, the open one if none is named, and shows it.
pub(super) async fn steer(
    target: &Target,
    id: Option<Uuid>,
    steering: Steering,
    output: Output,
) -> Result<Exit, Failure> {
    on_control(target, Uses::ControlPlane, async |control| {
        let view = control.steer_operation(id, steering).await?;
        show(control, &view, output).await.map(|()| Exit::Done)
    })
    .await
}

pub(super) async fn show(
    control: &Control,
    view: &OperationView,
    output: Output,
) -> Result<(), Failure> {
    if output.json {
        progress::line(&serde_json::to_value(view).unwrap_or_default());
        return Ok(());
    }
    let mut text = format!("operation {}: {}", view.id, view.state);
    if let Some(runner) = view.runner.as_ref().filter(|runner| runner.alive) {
        let since = output::time(runner.since);
        text = format!("{text}, process {} on {} since {since}", runner.pid, runner.host);
    }
    let failed = match view.tenants.failed {
        0 => (Vec::new(), false),
        _ => control.failed_tenants(view.id).await?,
    };
    output::data(&format!("{text}\n{}", progress::summary(view, &failed)))
}
