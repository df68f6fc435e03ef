//! Statements that read the sealed events of `public.audit_events` as a feed, in the order of the chain.

use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::pg::Row;
use crate::pg::control::audit_chain::{CHAIN, Entry};
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// The events to read.
#[derive(Debug)]
pub struct Selection<'a> {
    /// Only these actions.
    pub actions: &'a [&'static str],
    /// Only about this tenant.
    pub tenant: Option<TenantId>,
    /// Only about these tenants, if they are given.
    pub only: Option<&'a [TenantId]>,
}

/// A sealed event.
#[derive(Debug, Clone)]
pub struct SealedEvent {
    /// Its position.
    pub position: i64,
    /// Its seal.
    pub seal: Vec<u8>,
    /// The event.
    pub entry: Entry,
}

/// A part of the log that was looked through, and what was found in it.
#[derive(Debug)]
pub struct Part {
    /// The last position of the log.
    pub head: i64,
    /// The seal at the position after which the part begins; `None` at the beginning, and where it is missing.
    pub seal_before: Option<Vec<u8>>,
    /// The position with which the part ends, if fewer events were found than asked for.
    pub last: i64,
    /// The seal there.
    pub last_seal: Option<Vec<u8>>,
    /// The events.
    pub events: Vec<SealedEvent>,
}

/// Reads events after a position, at most `limit`, from the next `span` positions. All of it is one statement, so what it
/// sees is one state: a reader that sees a position sees all before it.
pub async fn read(
    tx: &PublicTx,
    selection: &Selection<'_>,
    after: i64,
    span: i64,
    limit: i64,
) -> Result<Part> {
    let actions: Vec<&str> = selection.actions.to_vec();
    let only: Option<Vec<Uuid>> =
        selection.only.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let rows = tx
        .query(
            "WITH part AS (
                 SELECT position AS head, least(position, $2 + $3) AS last
                   FROM audit_heads
                  WHERE chain = $1
             )
             SELECT p.head, p.last,
                    (SELECT seal FROM audit_events WHERE position = p.last) AS last_seal,
                    (SELECT seal FROM audit_events WHERE position = $2) AS seal_before,
                    e.position, e.seal, e.id, e.at, e.actor, NULL::text AS actor_name, e.action, e.tenant_id,
                    NULL::text AS tenant_slug, e.request_id,
                    e.details
               FROM part p
               LEFT JOIN LATERAL (
                    SELECT position, seal, id, at, actor, action, tenant_id, request_id, details
                      FROM audit_events
                     WHERE position > $2 AND position <= p.last
                       AND action = ANY ($4)
                       AND ($5::uuid IS NULL OR tenant_id = $5)
                       AND ($6::uuid[] IS NULL OR tenant_id = ANY ($6))
                     ORDER BY position
                     LIMIT $7) e ON true
              ORDER BY e.position",
            &[&CHAIN, &after, &span, &actions, &selection.tenant, &only, &limit],
        )
        .await
        .during("read the event feed")?;
    let Some(first) = rows.first() else {
        return Ok(Part {
            head: 0,
            seal_before: None,
            last: 0,
            last_seal: None,
            events: Vec::new(),
        });
    };
    Ok(Part {
        head: first.get("head"),
        seal_before: first.get("seal_before"),
        last: first.get("last"),
        last_seal: first.get("last_seal"),
        events: rows.iter().filter_map(event).collect(),
    })
}

/// Reads a sealed event by its id.
pub async fn find(tx: &PublicTx, id: Uuid) -> Result<Option<SealedEvent>> {
    let row = tx
        .query_opt(
            "SELECT position, seal, id, at, actor, NULL::text AS actor_name, action, tenant_id, NULL::text AS tenant_slug,
                    request_id, details
               FROM audit_events
              WHERE id = $1",
            &[&id],
        )
        .await
        .during("read a sealed event")?;
    Ok(row.as_ref().and_then(event))
}

/// Reads a sealed event from a row; `None` for a row without one.
fn event(row: &Row) -> Option<SealedEvent> {
    Some(SealedEvent {
        position: row.get::<_, Option<i64>>("position")?,
        seal: row.get::<_, Option<Vec<u8>>>("seal").unwrap_or_default(),
        entry: Entry::from(row),
    })
}
