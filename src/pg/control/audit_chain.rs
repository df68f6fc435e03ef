//! Statements that read the events of `public.audit_events` and seal them into a chain;
//! [`crate::pg::control::audit_events`] writes the events.

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::domain::page::Window;
use crate::pg::Row;
use crate::pg::error::During;
use crate::pg::locks::{self, Lock};
use crate::pg::scope::{PublicTx, exactly_one};

/// The name of the only chain.
pub(in crate::pg) const CHAIN: &str = "audit";

/// The columns of a [`Link`].
const LINK_COLUMNS: &str = "position, seal, id, at, actor, action, tenant_id, request_id, \
                            details::text AS details";

/// A stored event.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Id.
    pub id: Uuid,
    /// Time of the call.
    pub at: OffsetDateTime,
    /// Caller.
    pub actor: String,
    /// The address of the user, or the name of the token, if it is there.
    pub actor_name: Option<String>,
    /// Action, as `noun.verb`.
    pub action: String,
    /// Tenant that was changed, if the action concerns one.
    pub tenant: Option<TenantId>,
    /// Its present slug, if it is there.
    pub tenant_slug: Option<String>,
    /// Id of the request.
    pub request_id: String,
    /// Further details.
    pub details: Value,
}

/// Conditions on the events to list; `None` sets no condition.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// By exactly this actor.
    pub actor: Option<String>,
    /// Of exactly this action.
    pub action: Option<String>,
    /// About this tenant.
    pub tenant: Option<TenantId>,
    /// At this time or later.
    pub created_after: Option<OffsetDateTime>,
    /// Before this time.
    pub created_before: Option<OffsetDateTime>,
    /// Of this request.
    pub request_id: Option<String>,
    /// With this id.
    pub id: Option<Uuid>,
}

/// An event as a link of the chain: all its columns, with the details as the stored text.
#[derive(Debug, Clone)]
pub struct Link {
    /// Position in the chain; `None` until it is sealed.
    pub position: Option<i64>,
    /// Seal.
    pub seal: Option<Vec<u8>>,
    /// Id.
    pub id: Uuid,
    /// Time of the call.
    pub at: OffsetDateTime,
    /// Caller.
    pub actor: String,
    /// Action.
    pub action: String,
    /// Tenant that was changed, if the action concerns one.
    pub tenant: Option<Uuid>,
    /// Id of the request.
    pub request_id: String,
    /// Further details, as text.
    pub details: String,
}

/// The end of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Number of events in the chain.
    pub position: i64,
    /// The last seal; empty in an empty chain.
    pub seal: Vec<u8>,
}

/// Reads a page of the events, newest first; only those of the given tenants where tenants are given.
pub async fn list(
    tx: &PublicTx,
    only: Option<&[TenantId]>,
    filter: &Filter,
    window: &Window,
) -> Result<Vec<Entry>> {
    let only: Option<Vec<Uuid>> = only.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let (at, after) = window.position();
    let rows = tx
        .query(
            "SELECT id, at, actor, action, tenant_id, request_id, details,
                    (SELECT slug FROM tenants t WHERE t.id = e.tenant_id) AS tenant_slug,
                    CASE WHEN actor ~ '^user:[0-9a-f-]{36}$'
                         THEN (SELECT email FROM users u WHERE u.id = substr(actor, 6)::uuid)
                         WHEN actor ~ '^token:[0-9a-f-]{36}$'
                         THEN (SELECT name FROM tokens k WHERE k.id = substr(actor, 7)::uuid)
                    END AS actor_name
               FROM audit_events e
              WHERE ($1::uuid[] IS NULL OR tenant_id = ANY ($1))
                AND ($2::timestamptz IS NULL OR (at, id) < ($2, $3))
                AND ($4::text IS NULL OR actor = $4)
                AND ($5::text IS NULL OR action = $5)
                AND ($6::uuid IS NULL OR tenant_id = $6)
                AND ($7::timestamptz IS NULL OR at >= $7)
                AND ($8::timestamptz IS NULL OR at < $8)
                AND ($10::text IS NULL OR request_id = $10)
                AND ($11::uuid IS NULL OR id = $11)
              ORDER BY at DESC, id DESC
              LIMIT $9",
            &[
                &only,
                &at,
                &after,
                &filter.actor,
                &filter.action,
                &filter.tenant,
                &filter.created_after,
                &filter.created_before,
                &window.rows_to_read(),
                &filter.request_id,
                &filter.id,
            ],
        )
        .await
        .during("list audit events")?;
    Ok(rows.iter().map(Entry::from).collect())
}

impl From<&Row> for Entry {
    fn from(row: &Row) -> Self {
        Self {
            id: row.get("id"),
            at: row.get("at"),
            actor: row.get("actor"),
            actor_name: row.get("actor_name"),
            action: row.get("action"),
            tenant: row.get("tenant_id"),
            tenant_slug: row.get("tenant_slug"),
            request_id: row.get("request_id"),
            details: row.get("details"),
        }
    }
}

/// What is sealed and what is not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backlog {
    /// Number of events in the chain.
    pub head: i64,
    /// Seconds since the time of the call of the oldest unsealed event; `None` if all are sealed.
    pub oldest_seconds: Option<f64>,
}

/// Reads how far the events are sealed.
pub async fn backlog(tx: PublicTx) -> Result<Backlog> {
    let rows = tx
        .query_and_commit(
            "SELECT coalesce((SELECT position FROM audit_heads WHERE chain = $1), 0) AS head,
                    (SELECT extract(epoch FROM clock_timestamp() - at)::float8
                       FROM audit_events
                      WHERE position IS NULL
                      ORDER BY write_order NULLS FIRST, at, id
                      LIMIT 1) AS oldest_seconds",
            &[&CHAIN],
        )
        .await
        .and_then(exactly_one);
    let row = rows.during("look for unsealed audit events")?;
    Ok(Backlog { head: row.get("head"), oldest_seconds: row.get("oldest_seconds") })
}

/// Keeps other transactions from sealing until this one ends. Writers of events do not take this lock.
pub async fn lock(tx: &PublicTx) -> Result<()> {
    locks::lock(tx, Lock::AuditChain).await.during("lock the audit chain")
}

/// As [`lock`], but does not wait; returns whether it has the lock.
pub async fn try_lock(tx: &PublicTx) -> Result<bool> {
    locks::try_lock(tx, Lock::AuditChain).await.during("lock the audit chain")
}

/// Returns the end of the chain.
pub async fn head(tx: &PublicTx) -> Result<Head> {
    let row = tx
        .query_opt("SELECT position, seal FROM audit_heads WHERE chain = $1", &[&CHAIN])
        .await
        .during("read the end of the audit chain")?;
    Ok(row.map_or(Head { position: 0, seal: Vec::new() }, |row| Head {
        position: row.get("position"),
        seal: row.get("seal"),
    }))
}

/// Stores the end of the chain.
pub async fn set_head(tx: &PublicTx, head: &Head) -> Result<()> {
    tx.execute(
        "INSERT INTO audit_heads (chain, position, seal) VALUES ($1, $2, $3)
         ON CONFLICT (chain) DO UPDATE SET position = excluded.position, seal = excluded.seal",
        &[&CHAIN, &head.position, &head.seal],
    )
    .await
    .during("store the end of the audit chain")?;
    Ok(())
}

/// Reads unsealed events in the order of their numbers, which is that of the commits wherever one change waited for
/// another; those from before events had numbers first.
pub async fn list_unsealed(tx: &PublicTx, limit: i64) -> Result<Vec<Link>> {
    let rows = tx
        .query(
            &format!(
                "SELECT {LINK_COLUMNS} FROM audit_events WHERE position IS NULL
                  ORDER BY write_order NULLS FIRST, at, id LIMIT $1"
            ),
            &[&limit],
        )
        .await
        .during("list unsealed audit events")?;
    Ok(rows.iter().map(link).collect())
}

/// Reads the sealed events after a position, in the order of the chain.
pub async fn list_sealed(tx: &PublicTx, after: i64, limit: i64) -> Result<Vec<Link>> {
    let rows = tx
        .query(
            &format!(
                "SELECT {LINK_COLUMNS} FROM audit_events WHERE position > $1 ORDER BY position LIMIT $2"
            ),
            &[&after, &limit],
        )
        .await
        .during("list sealed audit events")?;
    Ok(rows.iter().map(link).collect())
}

/// Stores the positions and seals of events.
pub async fn seal(
    tx: &PublicTx,
    ids: Vec<Uuid>,
    positions: Vec<i64>,
    seals: Vec<Vec<u8>>,
) -> Result<()> {
    tx.execute(
        "UPDATE audit_events e
            SET position = s.position, seal = s.seal
           FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS s (id, position, seal)
          WHERE e.id = s.id",
        &[&ids, &positions, &seals],
    )
    .await
    .during("seal audit events")?;
    Ok(())
}

fn link(row: &Row) -> Link {
    Link {
        position: row.get("position"),
        seal: row.get("seal"),
        id: row.get("id"),
        at: row.get("at"),
        actor: row.get("actor"),
        action: row.get("action"),
        tenant: row.get("tenant_id"),
        request_id: row.get("request_id"),
        details: row.get("details"),
    }
}
