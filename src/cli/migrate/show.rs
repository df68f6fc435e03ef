//! Shows the fleet and operations, and pauses or cancels them, whichever process runs them.

use uuid::Uuid;

use super::flags::Flags;
use super::progress;
use super::run::unless_stopped;
use crate::app::Purpose;
use crate::cli::Program;
use crate::cli::control::{
    Control, OperationView, PlanView, RehearsalView, Steering, Target, TrialView, Uses, on_control,
    rehearse_here,
};
use crate::cli::{Exit, Failure, Output, output, stop};
use crate::domain::error::Error;

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

/// Rehearses on one schema; a server does it with its own files.
pub(super) async fn rehearse(target: &Target, flags: Flags) -> Result<Exit, Failure> {
    let schema = flags.rehearsal()?;
    let view = on_control(target, Uses::NewTenants, async |control| match control {
        Control::Database(backend) => unless_stopped(backend, rehearse_here(backend, schema)).await,
        Control::Server(client) => tokio::select! {
            view = client.rehearse(schema) => view.map(Some),
            () = stop::signalled() => Ok(None),
        },
    })
    .await?;
    let Some(view) = view else { return Ok(Exit::Failed) };
    if flags.output.json {
        progress::line(&serde_json::to_value(&view).unwrap_or_default());
    } else {
        output::data(&rehearsal_in_words(&view))?;
    }
    let fails = view.error.is_some() || view.new_tenant.is_some();
    Ok(if fails { Exit::Failed } else { Exit::Done })
}

fn rehearsal_in_words(view: &RehearsalView) -> String {
    let result = match (&view.schema, &view.applied, &view.error) {
        (None, _, _) => "tenants: nothing to do".to_owned(),
        (Some(schema), _, Some(reason)) => format!("{schema}: would fail: {reason}"),
        (Some(schema), Some(files), None) if !files.is_empty() => {
            format!("{schema}: would apply {}; all of it was rolled back", files.join(", "))
        }
        (Some(schema), _, None) => {
            format!("{schema}: would apply nothing; all of it was rolled back")
        }
    };
    let lines = [result].into_iter().chain(view.migrations.iter().map(trial_in_words));
    lines.chain([in_words(view.new_tenant.as_ref())]).collect::<Vec<_>>().join("\n")
}

/// Whether a new tenant can be made from the whole set.
fn in_words(problem: Option<&String>) -> String {
    problem.cloned().unwrap_or_else(|| "a new tenant can be made from all files".to_owned())
}

fn trial_in_words(trial: &TrialView) -> String {
    match (trial.state.as_str(), trial.duration_ms) {
        ("applied", took) => format!("  {}: {:.1} ms", trial.file, took.unwrap_or_default()),
        ("failed", _) => format!("  {}: fails", trial.file),
        _ => format!("  {}: not reached", trial.file),
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
