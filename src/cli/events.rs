//! `events`: list, follow.

use std::io::{ErrorKind, Write, stdout};
use std::pin::pin;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::poll;

use super::tenant::{id_of, tenant_ref};
use super::{Exit, Failure, Output, output, stop};
use crate::app::Backend;
use crate::cli::Program;
use crate::domain::error::{Error, Result};
use crate::domain::{EventType, FeedCursor};
use crate::service::events::{Batch, Event, Query};

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
    /// Begins with the oldest event unless --after says where. While the database is away it tries again.
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

pub(super) async fn run(settings: &Program, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::List(command) => list(settings, command).await,
        Verb::Follow(command) => follow(settings, command).await,
    }
}

impl Which {
    /// Parses the arguments, before a database is opened.
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

    async fn query(&self, backend: &Backend, limit: u16) -> Result<Query, Failure> {
        let (after, types) = self.read()?;
        let after = if let Some(after) = after {
            after
        } else {
            seal(backend).await?;
            backend.services.events.end(&backend.operator()).await?
        };
        let tenant = id_of(backend, self.tenant.as_deref()).await?;
        Ok(Query { after, limit, types, tenant })
    }
}

async fn list(settings: &Program, command: List) -> Result<Exit, Failure> {
    command.which.read()?;
    let (events, more) = output::on_control_plane(settings, async |backend| {
        let mut query = command.which.query(backend, EVENTS_AT_ONCE).await?;
        seal(backend).await?;
        let (mut events, mut left) = (Vec::new(), command.limit);
        loop {
            query.limit = u16::try_from(left).unwrap_or(u16::MAX).min(EVENTS_AT_ONCE);
            let batch = backend.services.events.list(&backend.operator(), &query).await?;
            left -= u32::try_from(batch.events.len()).unwrap_or(left);
            events.extend(batch.events);
            query.after = batch.next;
            if left == 0 || !batch.has_more {
                return Ok((events, batch.has_more.then_some(query.after)));
            }
        }
    })
    .await?;
    let row = |event: &Event| {
        vec![
            event.position.to_string(),
            output::time(event.timestamp),
            event.kind.to_string(),
            tenant(event),
            event.data.to_string(),
        ]
    };
    let header = ["POSITION", "AT", "TYPE", "TENANT", "DATA"];
    output::print_list(command.output, &events, &header, row, "no matching events")?;
    if let Some(next) = more {
        output::say(&format!("there may be more; go on with --after {next}"));
    }
    Ok(Exit::Done)
}

async fn follow(settings: &Program, command: Follow) -> Result<Exit, Failure> {
    command.which.read()?;
    let mut stopped = pin!(async {
        tokio::select! {
            () = stop::signalled() => {},
            () = stop::reader_gone() => {},
        }
    });
    // Once, so that a signal while the database is opened ends the command as cleanly.
    let _ = poll!(stopped.as_mut());
    output::on_control_plane(settings, async |backend| {
        let query = command.which.query(backend, EVENTS_AT_ONCE).await?;
        tokio::select! {
            ended = print_all(backend, query, command.json) => ended,
            () = stopped.as_mut() => Ok(()),
        }
    })
    .await?;
    Ok(Exit::Done)
}

/// Prints events as they come, until the reader of stdout has gone.
async fn print_all(backend: &Backend, mut query: Query, json: bool) -> Result<(), Failure> {
    let mut pause = LOOK_EVERY;
    loop {
        match look(backend, &query).await {
            Ok(batch) => {
                for event in &batch.events {
                    if !print(event, json)? {
                        return Ok(());
                    }
                }
                query.after = batch.next;
                pause = LOOK_EVERY;
                if batch.has_more {
                    continue;
                }
            }
            Err(error @ Error::Unavailable { .. }) => {
                output::say(&format!("{}; trying again", error.chain()));
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(pause).await;
    }
}

async fn look(backend: &Backend, query: &Query) -> Result<Batch> {
    seal(backend).await?;
    backend.services.events.list(&backend.operator(), query).await
}

/// Seals what is not sealed yet: there may be no server that does.
async fn seal(backend: &Backend) -> Result<()> {
    backend.services.audit.tend(&backend.operator()).await.map(drop)
}

/// Prints one event, and returns false if the reader of stdout has gone.
fn print(event: &Event, json: bool) -> Result<bool, Failure> {
    let line = if json {
        serde_json::to_string(event)
            .map_err(|error| Failure::Other(format!("cannot serialize JSON: {error}")))?
    } else {
        let (position, kind) = (event.position, event.kind);
        let (at, tenant) = (output::time(event.timestamp), tenant(event));
        format!("{position}  {at}  {kind}  {tenant}  {}", event.data)
    };
    let mut out = stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(Failure::Io { during: "write to stdout", source }),
    }
}

/// Returns the slug or else the id of the tenant concerned, for a table.
fn tenant(event: &Event) -> String {
    let tenant = event.tenant.as_ref();
    let named = tenant.map(|tenant| tenant.slug.clone().unwrap_or_else(|| tenant.id.to_string()));
    named.unwrap_or_else(|| "-".to_owned())
}
