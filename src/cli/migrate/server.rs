//! `migrate` on a server: the server migrates its tenants, and the command waits for the end. A server migrates its control
//! plane itself when it starts.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::flags::Flags;
use super::{progress, show};
use crate::cli::control::{Control, OperationView, Target, Uses, on_control};
use crate::cli::{Exit, Failure, Output, output, stop};

/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn all(target: &Target, flags: Flags) -> Result<Exit, Failure> {
    flags.check()?;
    on_control(target, Uses::ControlPlane, async |control| {
        let plan = control.plan_migration(&flags.tenants).await?;
        if flags.plan {
            show::print_plan(&plan, flags.output)?;
            if plan.ahead.is_empty() && plan.diverged.is_empty() {
                return Ok(Exit::Done);
            }
            return Err(Failure::Other(
                "the migrations of some tenants are not those of the server".to_owned(),
            ));
        }
        if flags.retry_failed {
            let id = control.read_operation(None).await?.id;
            let view = control.continue_on_server(id, "retry").await?;
            return follow(control, view, flags.output).await;
        }
        if plan.behind_count == 0 && plan.ahead.is_empty() && plan.diverged.is_empty() {
            if flags.output.json {
                progress::line(&json!({ "event": "end", "operation": null }));
            } else {
                output::data("tenants: nothing to do")?;
            }
            return Ok(Exit::Done);
        }
        let view = control.start_on_server(&flags.request()).await?;
        follow(control, view, flags.output).await
    })
    .await
}

pub(super) async fn resume(
    target: &Target,
    id: Option<Uuid>,
    output: Output,
) -> Result<Exit, Failure> {
    on_control(target, Uses::ControlPlane, async |control| {
        let id = control.open_on_server(id).await?;
        let view = control.continue_on_server(id, "resume").await?;
        follow(control, view, output).await
    })
    .await
}

/// Waits until the server has ended or paused a migration. A signal ends the waiting and not the migration.
async fn follow(
    control: &Control,
    mut view: OperationView,
    output: Output,
) -> Result<Exit, Failure> {
    if output.json {
        progress::line(&json!({ "event": "begun", "operation": view }));
    } else {
        output::say(&format!("operation {}: the server migrates its tenants", view.id));
    }
    while ["planned", "running"].contains(&view.state.as_str()) {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop::signalled() => {
                output::say("the server goes on; `rowhouse migrate status` tells how far it is");
                return Ok(Exit::Partly);
            }
        }
        view = control.read_operation(Some(view.id)).await?;
    }
    if output.json {
        progress::line(&json!({ "event": "end", "operation": view }));
    } else {
        let failed = match view.tenants.failed {
            0 => (Vec::new(), false),
            _ => control.failed_tenants(view.id).await?,
        };
        output::data(&progress::summary(&view, &failed))?;
    }
    let is_complete = view.state == "done"
        || (view.pause_reason.as_deref() == Some("canary") && view.tenants.failed == 0);
    Ok(if is_complete { Exit::Done } else { Exit::Partly })
}
