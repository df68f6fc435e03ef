//! The feed of events.

use serde::Deserialize;

use super::Control;
use crate::cli::Failure;
use crate::domain::json::Value;
use crate::domain::names::TenantId;
use crate::domain::{EventType, FeedCursor};
use crate::service::events::{Event, Query};

/// The most events of one answer of a server.
const LIMIT_OF_SERVER: u16 = 100;

/// Which events to read.
#[derive(Debug, Clone)]
pub(in crate::cli) struct EventQuery {
    /// Where the reading goes on; the end of the log without one.
    pub(in crate::cli) after: Option<String>,
    pub(in crate::cli) limit: u16,
    pub(in crate::cli) types: Vec<EventType>,
    pub(in crate::cli) tenant: Option<TenantId>,
}

/// A part of the feed.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct EventPage {
    #[serde(rename = "data")]
    pub(in crate::cli) events: Vec<Value>,
    pub(in crate::cli) next_cursor: String,
    /// Whether there are more already.
    #[serde(skip)]
    pub(in crate::cli) has_more: bool,
}

impl Control {
    /// Seals what is not sealed yet, as far as a server does not do it: there may be none on a database.
    async fn seal(&self) -> Result<(), Failure> {
        if let Self::Database(backend) = self {
            backend.services.audit.tend(&backend.operator()).await?;
        }
        Ok(())
    }

    /// Reads the next events.
    pub(in crate::cli) async fn list_events(
        &self,
        query: &EventQuery,
    ) -> Result<EventPage, Failure> {
        self.seal().await?;
        match self {
            Self::Database(backend) => {
                let (feed, ctx) = (&backend.services.events, backend.operator());
                let after: FeedCursor = match &query.after {
                    Some(after) => after.parse().map_err(|_rule| bad_cursor())?,
                    None => feed.end(&ctx).await?,
                };
                let EventQuery { limit, types, tenant, .. } = query.clone();
                let batch = feed.list(&ctx, &Query { after, limit, types, tenant }).await?;
                let events = batch.events.iter().map(as_sent).collect::<Result<_, _>>()?;
                let next_cursor = batch.next.to_string();
                Ok(EventPage { events, next_cursor, has_more: batch.has_more })
            }
            Self::Server(client) => {
                let limit = query.limit.min(LIMIT_OF_SERVER);
                let types: Vec<_> = query.types.iter().map(|kind| kind.as_str()).collect();
                let given = [
                    ("after", query.after.clone()),
                    ("limit", Some(limit.to_string())),
                    ("type", Some(types.join(",")).filter(|types| !types.is_empty())),
                    ("tenant", query.tenant.map(|tenant| tenant.to_string())),
                ];
                let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
                let page: EventPage = client.get(&["events"], &given.collect::<Vec<_>>()).await?;
                let has_more = page.events.len() >= usize::from(limit);
                Ok(EventPage { has_more, ..page })
            }
        }
    }

    /// Returns the end of the feed.
    pub(in crate::cli) async fn end_of_events(&self) -> Result<String, Failure> {
        self.seal().await?;
        match self {
            Self::Database(backend) => {
                let (feed, ctx) = (&backend.services.events, backend.operator());
                Ok(feed.end(&ctx).await?.to_string())
            }
            // The API has no end to ask for: the feed is read through once.
            Self::Server(_) => {
                let mut query = EventQuery {
                    after: Some("0".to_owned()),
                    limit: LIMIT_OF_SERVER,
                    types: Vec::new(),
                    tenant: None,
                };
                loop {
                    let page = self.list_events(&query).await?;
                    if !page.has_more {
                        return Ok(page.next_cursor);
                    }
                    query.after = Some(page.next_cursor);
                }
            }
        }
    }
}

/// Returns an event as a server sends it.
fn as_sent(event: &Event) -> Result<Value, Failure> {
    let text = serde_json::to_vec(event)
        .map_err(|error| Failure::Other(format!("cannot serialize JSON: {error}")))?;
    Value::parse(&text).map_err(|error| Failure::Other(format!("cannot read JSON: {error}")))
}

fn bad_cursor() -> Failure {
    Failure::usage("--after must be the position of an event, a cursor, or `now`")
}
