//! `audit`: list, verify.

use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::control::{AuditFilter, AuditView, Target, Uses, VerdictView, on_control};
use super::moment::point_in_time;
use super::tenant::tenant_ref;
use super::{Exit, Failure, Output, output};

/// Examples for its help.
pub(super) const HELP: &str = "\
Examples:
  rowhouse audit list --tenant acme-corp --since 7d
  rowhouse audit list --action tenant.purge --limit 1000 --json
  rowhouse audit verify || echo 'the audit events were changed'";

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List audit events, newest first
    List(List),
    /// Check that no event was changed or removed; exits with 1 and names the first one otherwise
    ///
    /// Seals the events that are not sealed yet first. A user who can write the tables can rebuild the whole chain:
    /// keep the number of events and the head that this prints in another place, and compare them.
    Verify(Output),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only events of this tenant, by slug or id; a purged tenant can be named by id
    #[arg(long)]
    tenant: Option<String>,
    /// Only events of this actor, as listed
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only events of this action, such as tenant.create
    #[arg(long, value_name = "NOUN.VERB")]
    action: Option<String>,
    /// Only events since this time, such as 2026-11-21T12:00:00Z, or since this long ago, such as 24h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events before this time, or before this long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The maximum number of events; if there are more, a line on stderr says so
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(target: &Target, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::List(command) => list(target, command).await,
        Verb::Verify(output) => verify(target, output).await,
    }
}

async fn list(target: &Target, command: List) -> Result<Exit, Failure> {
    command.tenant.as_deref().map(tenant_ref).transpose()?;
    for (flag, given) in [("--since", &command.since), ("--until", &command.until)] {
        if let Some(given) = given {
            point_in_time(flag, given, OffsetDateTime::UNIX_EPOCH)?;
        }
    }
    let (views, more) = on_control(target, Uses::ControlPlane, async |control| {
        let now = control.now().await?;
        let time = |flag, given: &Option<String>| {
            given.as_deref().map(|given| point_in_time(flag, given, now)).transpose()
        };
        let filter = AuditFilter {
            actor: command.actor.clone(),
            action: command.action.clone(),
            tenant: control.id_of_tenant(command.tenant.as_deref()).await?,
            created_after: time("--since", &command.since)?,
            created_before: time("--until", &command.until)?,
        };
        control.list_audit(&filter, command.limit).await
    })
    .await?;
    let row = |view: &AuditView| {
        vec![
            output::time(view.created_at),
            view.actor.clone(),
            view.action.clone(),
            view.tenant_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            view.details.to_string(),
        ]
    };
    let header = ["AT", "ACTOR", "ACTION", "TENANT", "DETAILS"];
    output::print_list(command.output, &views, &header, row, "no matching events")?;
    if more {
        output::say("there are older events; raise --limit or pass --until");
    }
    Ok(Exit::Done)
}

async fn verify(target: &Target, output: Output) -> Result<Exit, Failure> {
    let view = on_control(target, Uses::ControlPlane, async |control| control.verify_audit().await)
        .await?;
    if output.json {
        output::print(output, &view, String::new)?;
    }
    match problem(&view) {
        None if output.json => Ok(Exit::Done),
        None => {
            let (events, head) = (view.event_count, &view.head);
            output::data(&format!("the chain of {events} events is intact; its head is {head}"))?;
            Ok(Exit::Done)
        }
        Some(problem) => Err(Failure::Other(problem)),
    }
}

/// Returns the problem of the chain, or `None` if it is intact.
fn problem(view: &VerdictView) -> Option<String> {
    let (events, broken) = (view.event_count, view.broken.as_ref()?);
    let position = broken.position;
    if broken.fault == "missing" {
        return Some(format!("audit event {position} of {events} was removed"));
    }
    let now = broken.event.as_ref().map_or_else(String::new, |event| {
        format!(
            "; it is now {} of {} by {}, id {}",
            event.action,
            output::time(event.created_at),
            event.actor,
            event.id
        )
    });
    Some(format!("audit event {position} of {events} was changed{now}"))
}
