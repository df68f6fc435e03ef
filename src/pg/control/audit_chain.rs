//! Statements that read `public.audit_events` and seal them into a chain; they are written by
//! [`crate::pg::control::audit_events`].

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::domain::page::Window;
use crate::pg::error::During;
use crate::pg::locks;
use crate::pg::scope::PublicTx;

/// The one chain there is.
const CHAIN: &str = "audit";

/// An event as it is listed.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Names it.
    pub id: Uuid,
    /// When.
    pub at: OffsetDateTime,
    /// Who.
    pub actor: String,
    /// What, as `noun.verb`.
    pub action: String,
    /// To which tenant.
    pub tenant: Option<TenantId>,
    /// Within which request.
    pub request_id: String,
    /// What else there is to say.
    pub details: Value,
}

/// Which events are listed; what is `None` is not asked.
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
}

/// An event as the chain takes it: everything that it tells, and the details letter for letter.
#[derive(Debug, Clone)]
pub struct Link {
    /// Where it stands; none while it is not sealed.
    pub position: Option<i64>,
    /// Its seal.
    pub seal: Option<Vec<u8>>,
    /// Names it.
    pub id: Uuid,
    /// When.
    pub at: OffsetDateTime,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To which tenant.
    pub tenant: Option<Uuid>,
    /// Within which request.
    pub request_id: String,
    /// What else there is to say, as text.
    pub details: String,
}

/// The end of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How many events it has.
    pub position: i64,
    /// The last seal; empty where there is none yet.
    pub seal: Vec<u8>,
}

/// One part of the events, newest first, of these tenants alone where some are given.
pub async fn list(
    tx: &PublicTx,
    only: Option<&[TenantId]>,
    filter: &Filter,
    window: &Window,
) -> Result<Vec<Entry>> {
    let only: Option<Vec<Uuid>> = only.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let rows = tx
        .query(
            "SELECT id, at, actor, action, tenant_id, request_id, details
               FROM audit_events
              WHERE ($1::uuid[] IS NULL OR tenant_id = ANY ($1))
                AND ($2::timestamptz IS NULL OR (at, id) < ($2, $3))
                AND ($4::text IS NULL OR actor = $4)
                AND ($5::text IS NULL OR action = $5)
                AND ($6::uuid IS NULL OR tenant_id = $6)
                AND ($7::timestamptz IS NULL OR at >= $7)
                AND ($8::timestamptz IS NULL OR at < $8)
              ORDER BY at DESC, id DESC
              LIMIT $9",
            &[
                &only,
                &window.after.map(|cursor| cursor.at),
                &window.after.map(|cursor| cursor.id),
                &filter.actor,
                &filter.action,
                &filter.tenant,
                &filter.created_after,
                &filter.created_before,
                &window.rows_to_read(),
            ],
        )
        .await
        .during("list audit events")?;
    Ok(rows
        .iter()
        .map(|row| Entry {
            id: row.get(0),
            at: row.get(1),
            actor: row.get(2),
            action: row.get(3),
            tenant: row.get(4),
            request_id: row.get(5),
            details: row.get(6),
        })
        .collect())
}

/// Holds everyone else who wants to seal until the transaction ends. Writers of events do not.
pub async fn lock(tx: &PublicTx) -> Result<()> {
    locks::lock(tx, "seal audit events").await.during("lock the audit chain")
}

/// The end of the chain.
pub async fn head(tx: &PublicTx) -> Result<Head> {
    let row = tx
        .query_opt("SELECT position, seal FROM audit_heads WHERE chain = $1", &[&CHAIN])
        .await
        .during("read the end of the audit chain")?;
    Ok(row.map_or(Head { position: 0, seal: Vec::new() }, |row| Head {
        position: row.get(0),
        seal: row.get(1),
    }))
}

/// Moves the end of the chain.
pub async fn set_head(tx: &PublicTx, head: &Head) -> Result<()> {
    tx.execute(
        "INSERT INTO audit_heads (chain, position, seal) VALUES ($1, $2, $3)
         ON CONFLICT (chain) DO UPDATE SET position = excluded.position, seal = excluded.seal",
        &[&CHAIN, &head.position, &head.seal],
    )
    .await
    .during("move the end of the audit chain")?;
    Ok(())
}

/// Events that are written and not sealed, oldest first.
pub async fn list_unsealed(tx: &PublicTx, limit: i64) -> Result<Vec<Link>> {
    let rows = tx
        .query(
            "SELECT position, seal, id, at, actor, action, tenant_id, request_id, details::text
               FROM audit_events
              WHERE position IS NULL
              ORDER BY at, id
              LIMIT $1",
            &[&limit],
        )
        .await
        .during("list unsealed audit events")?;
    Ok(rows.iter().map(link).collect())
}

/// Sealed events behind a position, in the order of the chain.
pub async fn list_sealed(tx: &PublicTx, after: i64, limit: i64) -> Result<Vec<Link>> {
    let rows = tx
        .query(
            "SELECT position, seal, id, at, actor, action, tenant_id, request_id, details::text
               FROM audit_events
              WHERE position > $1
              ORDER BY position
              LIMIT $2",
            &[&after, &limit],
        )
        .await
        .during("list sealed audit events")?;
    Ok(rows.iter().map(link).collect())
}

/// Writes the seals of events, each with its place.
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

fn link(row: &crate::pg::Row) -> Link {
    Link {
        position: row.get(0),
        seal: row.get(1),
        id: row.get(2),
        at: row.get(3),
        actor: row.get(4),
        action: row.get(5),
        tenant: row.get(6),
        request_id: row.get(7),
        details: row.get(8),
    }
}
