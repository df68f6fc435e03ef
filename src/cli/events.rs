//! `events`: list, follow.

use std::io::{ErrorKind, Write, stdout};
use std::pin::pin;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::poll;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::control::{Control, EventQuery, Target, Uses, on_control};
use super::tenant::tenant_ref;
use super::{Exit, Failure, Output, output, stop};
use crate::domain::json::Value;
use crate::domain::{EventType, FeedCursor};

/// Examples for its help.
pub(super) const HELP: &str = "\
Examples:
  rowhouse events list --type 'tenant.*' --limit 1000
  rowhouse events follow --after now
  rowhouse events follow --json --after 4711 | while read -r event; do deliver \"$event\"; done";

/// The number of events of one query.
const EVENTS_AT_ONCE: u16 = 1000;

/// How often `follow` looks for new events.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The longest pause of `follow` while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List events, oldest first
    List(List),
    /// Print each event on a line of its own, and go on with those to come until it is stopped
    ///
    /// Begins with the oldest event unless --after says where. While the database or the server is away it tries again.
    Follow(Follow),
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    which: Which,
    /// The maximum number of events; if there are more, a line on stderr says so
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Follow {
    #[command(flatten)]
    which: Which,
    /// Print each event as JSON on one line, as GET /control/v1/events has it
    #[arg(long)]
    json: bool,
}

/// The events to print.
#[derive(Debug, Args)]
struct Which {
    /// Only events after this position or cursor; `now` for those to come
    #[arg(long, value_name = "CURSOR", default_value = "0")]
    after: String,
    /// Only events of these types, separated by commas, such as tenant.created or tenant.*
    #[arg(long = "type", value_name = "TYPE")]
    types: Option<String>,
    /// Only events of this tenant, by slug or id; a purged tenant can be named by id
    #[arg(long)]
    tenant: Option<String>,
}

pub(super) async fn run(target: &Target, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::List(command) => list(target, command).await,
        Verb::Follow(command) => follow(target, command).await,
    }
}

impl Which {
    /// Parses the arguments, before anything is opened.
    fn read(&self) -> Result<(Option<FeedCursor>, Vec<EventType>), Failure> {
        let after = match self.after.as_str() {
            "now" => None,
            given => Some(given.parse().map_err(|_rule| {
                Failure::usage("--after must be the position of an event, a cursor, or `now`")
            })?),
        };
        let types = self.types.as_deref().map_or(Ok(Vec::new()), EventType::parse_list);
        let types = types.map_err(|_rule| {
            Failure::usage(format!("--type must be some of {}", EventType::NAMES.join(", ")))
        })?;
        if let Some(tenant) = &self.tenant {
            tenant_ref(tenant)?;
        }
        Ok((after, types))
    }

    async fn query(&self, control: &Control, limit: u16) -> Result<EventQuery, Failure> {
        let (after, types) = self.read()?;
        let after = match after {
            Some(after) => after.to_string(),
            None => control.end_of_events().await?,
        };
        let tenant = control.id_of_tenant(self.tenant.as_deref()).await?;
        Ok(EventQuery { after: Some(after), limit, types, tenant })
    }
}

async fn list(target: &Target, command: List) -> Result<Exit, Failure> {
    command.which.read()?;
    let (events, more) = on_control(target, Uses::ControlPlane, async |control| {
        let mut query = command.which.query(control, EVENTS_AT_ONCE).await?;
        let (mut events, mut left) = (Vec::new(), command.limit);
        loop {
            query.limit = u16::try_from(left).unwrap_or(u16::MAX).min(EVENTS_AT_ONCE);
            let page = control.list_events(&query).await?;
            left -= u32::try_from(page.events.len()).unwrap_or(left);
            events.extend(page.events);
            query.after = Some(page.next_cursor.clone());
            if left == 0 || !page.has_more {
                return Ok((events, page.has_more.then_some(page.next_cursor)));
            }
        }
    })
    .await?;
    let row = |event: &Value| {
        vec![
            shown(event, "position"),
            time_of(event),
            text(event, "type"),
            tenant(event),
            shown(event, "data"),
        ]
    };
    let header = ["POSITION", "AT", "TYPE", "TENANT", "DATA"];
    output::print_list(command.output, &events, &header, row, "no matching events")?;
    if let Some(next) = more {
        output::say(&format!("there may be more; go on with --after {next}"));
    }
    Ok(Exit::Done)
}

async fn follow(target: &Target, command: Follow) -> Result<Exit, Failure> {
    command.which.read()?;
    let mut stopped = pin!(async {
        tokio::select! {
            () = stop::signalled() => {},
            () = stop::reader_gone() => {},
        }
    });
    // Once, so that a signal while the target is opened ends the command as cleanly.
    let _ = poll!(stopped.as_mut());
    on_control(target, Uses::ControlPlane, async |control| {
        let query = command.which.query(control, EVENTS_AT_ONCE).await?;
        tokio::select! {
            ended = print_all(control, query, command.json) => ended,
            () = stopped.as_mut() => Ok(()),
        }
    })
    .await?;
    Ok(Exit::Done)
}

/// Prints events as they come, until the reader of stdout has gone.
async fn print_all(control: &Control, mut query: EventQuery, json: bool) -> Result<(), Failure> {
    let mut pause = LOOK_EVERY;
    loop {
        match control.list_events(&query).await {
            Ok(page) => {
                for event in &page.events {
                    if !print(event, json)? {
                        return Ok(());
                    }
                }
                query.after = Some(page.next_cursor);
                pause = LOOK_EVERY;
                if page.has_more {
                    continue;
                }
            }
            Err(failure) if failure.exit() == Exit::Away => {
                output::say(&format!("{failure}; trying again"));
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(pause).await;
    }
}

/// Prints one event, and returns false if the reader of stdout has gone.
fn print(event: &Value, json: bool) -> Result<bool, Failure> {
    let line = if json {
        event.to_string()
    } else {
        let (position, kind) = (shown(event, "position"), text(event, "type"));
        format!(
            "{position}  {}  {kind}  {}  {}",
            time_of(event),
            tenant(event),
            shown(event, "data")
        )
    };
    let mut out = stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(Failure::Io { during: "write to stdout", source }),
    }
}

fn text(event: &Value, name: &str) -> String {
    event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Returns a field in JSON.
fn shown(event: &Value, name: &str) -> String {
    event.get(name).map(ToString::to_string).unwrap_or_default()
}

/// Returns when an event happened, in whole seconds.
fn time_of(event: &Value) -> String {
    let at = text(event, "timestamp");
    OffsetDateTime::parse(&at, &Rfc3339).map_or(at, output::time)
}

/// Returns the slug or else the id of the tenant concerned, for a table.
fn tenant(event: &Value) -> String {
    let of = |name| event.get("tenant")?.get(name)?.as_str();
    of("slug").or_else(|| of("id")).unwrap_or("-").to_owned()
}
