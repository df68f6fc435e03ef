//! `cluster`: shows the nodes of a Citus cluster and what is on them, and places tenants on them; and `tenant move`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::control::not_found;
use super::tenant::Which;
use super::{Exit, Failure, Output, output, stop};
use crate::app::{Backend, Purpose};
use crate::cli::Program;
use crate::domain::error::{Conflict, Error, Noun};
use crate::domain::operation::OperationState;
use crate::service::cluster::{ClusterStatus, NodeStatus, TenantMove};
use crate::service::fleet::{End, Event, Events, Record};
use crate::service::tenants::TenantRef;

/// How often the progress of a move is looked at.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the nodes, the tenants and bytes on each, and the tenants that are on none
    Status(Output),
    /// Place tenants that were made before on the nodes, one at a time
    ///
    /// A run that is stopped or cut off is continued by the next call. Requests of a tenant wait while it is placed.
    Distribute(Distribute),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Selected {
    /// Every tenant that is not distributed
    #[arg(long)]
    all: bool,
    /// The slugs or the ids of tenants
    #[arg(value_name = "TENANT")]
    tenants: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Distribute {
    #[command(flatten)]
    selected: Selected,
    #[command(flatten)]
    output: Output,
}

/// `tenant move`.
#[derive(Debug, Args)]
pub(super) struct Move {
    #[command(flatten)]
    which: Which,
    /// The node, as `cluster status` lists it: host and port
    #[arg(long, value_name = "NODE")]
    to: String,
    #[command(flatten)]
    output: Output,
}

/// The cluster in JSON.
#[derive(Debug, Serialize)]
struct ClusterView {
    engine: &'static str,
    nodes: Vec<NodeView>,
    undistributed_count: usize,
    undistributed: Vec<String>,
    moves: Vec<MoveView>,
}

#[expect(clippy::struct_excessive_bools, reason = "a form of JSON")]
#[derive(Debug, Serialize)]
struct NodeView {
    name: String,
    is_coordinator: bool,
    is_active: bool,
    takes_tenants: bool,
    answers: bool,
    tenant_count: usize,
    vacancy_count: usize,
    bytes: Option<i64>,
}

#[derive(Debug, Serialize)]
struct MoveView {
    tenant_id: String,
    from: String,
    to: String,
    source_bytes: i64,
    target_bytes: i64,
}

/// A tenant that was moved, in JSON.
#[derive(Debug, Serialize)]
struct MovedView {
    id: String,
    slug: String,
    from: String,
    to: String,
}

pub(super) async fn run(settings: &Program, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Status(output) => status(settings, output).await,
        Verb::Distribute(command) => distribute(settings, command).await,
    }
}

async fn status(settings: &Program, output: Output) -> Result<Exit, Failure> {
    let status = output::on_control_plane(settings, async |backend| {
        Ok(backend.services.cluster.status(&backend.operator()).await?)
    })
    .await?;
    let view = ClusterView::from(status);
    output::print(output, &view, || view.text())?;
    Ok(Exit::Done)
}

async fn distribute(settings: &Program, command: Distribute) -> Result<Exit, Failure> {
    let Distribute { selected, output } = command;
    output::on_backend(Purpose::Migrate, settings, async |backend| {
        let (fleet, ctx) = (&backend.services.fleet, backend.operator());
        let open = fleet.find_open_distribution(&ctx).await?;
        let id = match open.filter(|open| !open.is_held) {
            Some(open) => {
                output::say(&format!("operation {} is {}: continuing it", open.id, open.state));
                open.id
            }
            None => match fleet.start_distribution(&ctx, &selected.tenants).await {
                Ok(Some(record)) => record.id,
                Ok(None) => {
                    let none = json!({ "operation": null, "distributed_count": 0 });
                    output::print(output, &none, || "all of them are distributed".to_owned())?;
                    return Ok(Exit::Done);
                }
                Err(error) => return Err(in_words(error)),
            },
        };
        let record = follow(backend, id, output).await?;
        let counts = record.counts;
        let view = json!({
            "operation": record.id, "state": record.state.as_str(), "distributed_count": counts.done,
            "failed_count": counts.failed, "tenant_count": counts.total,
        });
        output::print(output, &view, || {
            format!(
                "tenants: {} distributed, {} failed of {}",
                counts.done, counts.failed, counts.total
            )
        })?;
        Ok(if record.state == OperationState::Done { Exit::Done } else { Exit::Partly })
    })
    .await
}

/// Names the argument if a tenant does not exist.
fn in_words(error: Error) -> Failure {
    match error {
        Error::Invalid(_) => Failure::usage("TENANT must be the slug or the id of a tenant"),
        other => other.into(),
    }
}

/// Runs an operation to its end, or until this process is told to stop.
async fn follow(backend: &Backend, id: Uuid, output: Output) -> Result<Record, Failure> {
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let mut running = std::pin::pin!(fleet.run(&ctx, id, events(output)));
    let outcome = tokio::select! {
        outcome = &mut running => outcome,
        () = stop::signalled() => {
            output::say("stopping between two tenants; the next call continues");
            tokio::join!(&mut running, fleet.stop()).0
        }
    };
    Ok(outcome?)
}

/// Tells what becomes of each tenant.
fn events(output: Output) -> Events {
    Arc::new(move |event| {
        let line = match event {
            Event::Started { record, .. } => {
                format!("operation {}: {} tenants to distribute", record.id, record.counts.total)
            }
            Event::Retrying { slug, reason } => format!("{slug}: trying again: {reason}"),
            Event::Ended { slug, end: End::Done(node), .. } => {
                format!("{slug}: on {}", node.join(", "))
            }
            Event::Ended { slug, end: End::Failed(reason) | End::Skipped(reason), .. } => {
                format!("{slug}: {reason}")
            }
        };
        if !output.json {
            output::say(&line);
        }
    })
}

pub(super) async fn move_tenant(settings: &Program, command: Move) -> Result<Exit, Failure> {
    let named = command.which.read()?;
    let moved = output::on_control_plane(settings, async |backend| {
        let (cluster, ctx) = (&backend.services.cluster, backend.operator());
        let found = backend.services.tenants.read_record(&ctx, &named.to_ref()).await;
        let found = found.map_err(|error| not_found(error.into(), named.as_str()))?;
        let id = TenantRef::Id(found.tenant.id);
        let moving = cluster.move_tenant(&ctx, &id, &command.to);
        with_progress(backend, moving, command.output).await.map_err(|error| match error {
            Error::NotFound(Noun::Node) => Failure::usage(format!(
                "--to {}: there is no such node; `rowhouse cluster status` lists them",
                command.to
            )),
            Error::Conflict(conflict @ Conflict::NodeTakesNone) => {
                Failure::Other(format!("{}: {conflict}", command.to))
            }
            other => not_found(other.into(), named.as_str()),
        })
    })
    .await?;
    let view = MovedView::from(moved);
    output::print(command.output, &view, || {
        if view.from == view.to {
            format!("{} is on {} already", view.slug, view.to)
        } else {
            format!("moved {} from {} to {}", view.slug, view.from, view.to)
        }
    })?;
    Ok(Exit::Done)
}

/// Waits for a move, and tells how far it is.
async fn with_progress(
    backend: &Backend,
    moving: impl Future<Output = Result<TenantMove, Error>>,
    output: Output,
) -> Result<TenantMove, Error> {
    let mut moving = std::pin::pin!(moving);
    loop {
        tokio::select! {
            moved = &mut moving => return moved,
            () = tokio::time::sleep(PROGRESS_EVERY) => {}
        }
        if output.json {
            continue;
        }
        // It is told for people alone, so that a failure to read it does not matter.
        let Ok(moves) = backend.services.cluster.moves(&backend.operator()).await else { continue };
        for running in moves {
            output::say(&format!(
                "{} of {} bytes are on {}",
                running.target_bytes, running.source_bytes, running.to
            ));
        }
    }
}

impl From<ClusterStatus> for ClusterView {
    fn from(status: ClusterStatus) -> Self {
        let node = |status: NodeStatus| NodeView {
            name: status.node.name(),
            is_coordinator: status.node.is_coordinator(),
            is_active: status.node.is_active,
            takes_tenants: status.node.takes_schemas,
            answers: status.node.answers,
            tenant_count: status.tenants,
            vacancy_count: status.vacancies,
            bytes: status.bytes,
        };
        Self {
            engine: status.engine.as_str(),
            nodes: status.nodes.into_iter().map(node).collect(),
            undistributed_count: status.undistributed_count,
            undistributed: status.undistributed.iter().map(ToString::to_string).collect(),
            moves: status
                .moves
                .into_iter()
                .map(|running| MoveView {
                    tenant_id: running.tenant.to_string(),
                    from: running.from,
                    to: running.to,
                    source_bytes: running.source_bytes,
                    target_bytes: running.target_bytes,
                })
                .collect(),
        }
    }
}

impl From<TenantMove> for MovedView {
    fn from(moved: TenantMove) -> Self {
        let TenantMove { tenant, from, to } = moved;
        Self { id: tenant.id.to_string(), slug: tenant.slug.to_string(), from, to }
    }
}

impl ClusterView {
    fn text(&self) -> String {
        if self.nodes.is_empty() {
            return format!("the engine is {}: one server, and no cluster", self.engine);
        }
        let row = |node: &NodeView| {
            let state = match (node.answers, node.is_active, node.takes_tenants) {
                (false, ..) => "away",
                (_, false, _) => "disabled",
                (_, _, false) => "takes none",
                _ => "up",
            };
            let kind = if node.is_coordinator { "coordinator" } else { "worker" };
            vec![
                node.name.clone(),
                kind.to_owned(),
                state.to_owned(),
                node.tenant_count.to_string(),
                node.vacancy_count.to_string(),
                node.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
            ]
        };
        let header = ["NODE", "KIND", "STATE", "TENANTS", "VACANCIES", "BYTES"];
        let mut text = output::table(Some(&header), self.nodes.iter().map(row));
        for MoveView { tenant_id, from, to, .. } in &self.moves {
            let _ = write!(text, "\n{tenant_id} moves from {from} to {to}");
        }
        if self.undistributed_count > 0 {
            let some = self.undistributed.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
            let more = if self.undistributed_count > 20 { ", .." } else { "" };
            let _ = write!(
                text,
                "\nnot distributed: {} ({some}{more}); `rowhouse cluster distribute --all` places them",
                self.undistributed_count
            );
        }
        text
    }
}
