//! Exchanges what is in two tenants. Their ids, slugs, members, tokens and settings stay where they are.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Archives, Imported};
use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::AuditAction;
use crate::domain::archive::ArchiveProblem;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::domain::rule::Rule;
use crate::domain::tenant::TenantRecord;
use crate::pg::control::tenants;
use crate::pg::portability::{control, swap};
use crate::pg::{During, PublicTx};
use crate::service::audit::{note, of_tenant};
use crate::service::keyed;
use crate::service::tenants::registry::Expected;
use crate::service::tenants::{TenantRef, locate_id, require_kept};

const SWAP: &str = "swap two tenants";

/// How often a swap tries to lock the tables of both tenants; with the pauses, about ten seconds.
const ATTEMPTS: u32 = 30;

/// The pause after the first attempts, and the longest one.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The command to exchange what is in two tenants.
#[derive(Debug, Clone)]
pub struct SwapTenants {
    /// One of them.
    pub tenant: TenantRef,
    /// Its revisions.
    pub expected: Expected,
    /// The other one.
    pub with: TenantRef,
    /// Its revisions.
    pub with_expected: Expected,
    /// The key under which the same command swaps once, however often it is given.
    pub idempotency_key: Option<String>,
}

/// Two tenants whose contents were exchanged.
#[derive(Debug, Clone)]
pub struct Swapped {
    /// The one.
    pub tenant: TenantRecord,
    /// The other one.
    pub with: TenantRecord,
    /// Whether an earlier command with the same idempotency key exchanged them.
    pub is_replayed: bool,
}

impl Archives {
    pub(super) async fn swap_tenants(
        &self,
        ctx: &CallContext,
        reach: &Reach,
        command: &SwapTenants,
        imported: Option<&Imported>,
    ) -> Result<Swapped> {
        let tx = self.db.public().await.during(SWAP)?;
        let one = locate_id(&tx, reach, &command.tenant).await?;
        let other = locate_id(&tx, reach, &command.with).await.map_err(unknown_other)?;
        if one == other {
            return Err(ArchiveProblem::SwapWithItself.into());
        }
        let pair = [one, other];
        // Before anything is closed, and before the key, whose request has changed the revisions if it has an answer.
        let swappable = require_swappable(&tx, command, pair).await;
        let (key, what) = (command.idempotency_key.as_deref(), command.as_json(pair));
        if keyed::find(&tx, ctx, key, &what).await?.is_some() {
            return replayed(&tx, pair).await;
        }
        swappable?;
        if !swap::close(&tx, pair).await? {
            return Err(ArchiveProblem::SwapBusy.into());
        }
        tx.commit().await.during(SWAP)?;
        let swapped = Box::pin(self.swap_closed(ctx, command, pair, imported)).await;
        // The commit of a swap opens them.
        if !swapped.as_ref().is_ok_and(|swapped| !swapped.is_replayed)
            && let Err(error) = self.open(pair).await
        {
            // They open by themselves in a moment.
            tracing::warn!(error = %error.chain(), "could not open two tenants after a swap");
        }
        swapped
    }

    async fn open(&self, pair: [TenantId; 2]) -> Result<()> {
        let tx = self.db.public().await.during("open two tenants")?;
        swap::open(&tx, pair).await?;
        tx.commit().await.during("open two tenants")
    }

    /// Tries until the transactions inside of both tenants have ended.
    async fn swap_closed(
        &self,
        ctx: &CallContext,
        command: &SwapTenants,
        pair: [TenantId; 2],
        imported: Option<&Imported>,
    ) -> Result<Swapped> {
        let mut pause = PAUSE;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause = PAUSE_MAX.min(pause * 2);
                let tx = self.db.public().await.during(SWAP)?;
                swap::keep_closed(&tx, pair).await?;
                tx.commit().await.during(SWAP)?;
            }
            match self.swap_once(ctx, command, pair, imported).await {
                Ok(Some(swapped)) => return Ok(swapped),
                Ok(None) => {}
                Err(error) if error.is_lock_timeout() || error.is_lost_race() => {}
                Err(error) => return Err(error),
            }
        }
        Err(ArchiveProblem::SwapBusy.into())
    }

    /// Swaps, in one transaction, which opens both tenants with its commit. `None` if their tables are in use.
    async fn swap_once(
        &self,
        ctx: &CallContext,
        command: &SwapTenants,
        pair: [TenantId; 2],
        imported: Option<&Imported>,
    ) -> Result<Option<Swapped>> {
        let tx = self.db.public().await.during(SWAP)?;
        let mut ordered = pair;
        ordered.sort_unstable();
        let [first, second] = ordered.map(SchemaName::of);
        let rules = self.db.rules();
        let (key, what) = (command.idempotency_key.as_deref(), command.as_json(pair));
        if keyed::claim(&tx, ctx, key, &what, &rules.limits).await?.is_some() {
            return Ok(Some(replayed(&tx, pair).await?));
        }
        if !swap::lock_all(&tx, [&first, &second]).await.during(SWAP)? {
            return Ok(None);
        }
        for id in ordered {
            tenants::lock_record(&tx, id).await?;
        }
        let (one, other) = require_swappable(&tx, command, pair).await?;
        swap::exchange(&tx, [&first, &second], rules).await.during(SWAP)?;
        swap::record(&tx, pair, ctx.now).await?;
        let one = self.note_swap(&tx, ctx, one, &other).await?;
        let other = self.note_swap(&tx, ctx, other, &one).await?;
        keyed::complete(&tx, ctx, key, pair[0].uuid()).await?;
        if let Some(imported) = imported {
            self.record_swap(&tx, imported, [&one, &other], ctx.now).await?;
        }
        tx.commit().await.during(SWAP)?;
        let (tenant, with) = (&one.tenant, &other.tenant);
        tracing::info!(tenant.id = %tenant.id, with.id = %with.id, principal = %ctx.principal.label(), "swapped two tenants");
        Ok(Some(Swapped { tenant: one, with: other, is_replayed: false }))
    }

    async fn note_swap(
        &self,
        tx: &PublicTx,
        ctx: &CallContext,
        record: TenantRecord,
        with: &TenantRecord,
    ) -> Result<TenantRecord> {
        let revision = record.revision + 1;
        let details = json!({ "with": with.tenant.slug, "with_id": with.tenant.id });
        let (slug, external_id) = (&record.tenant.slug, record.external_id.as_ref());
        let details = of_tenant(slug, external_id, revision, details);
        note(tx, ctx, AuditAction::TenantSwap, record.tenant.id, details).await?;
        Ok(TenantRecord { revision, updated_at: ctx.now, ..record })
    }
}

impl SwapTenants {
    /// Returns what the same idempotency key must be given with.
    fn as_json(&self, pair: [TenantId; 2]) -> Value {
        json!({ "swap": pair, "with_expected": format!("{:?}", self.with_expected) })
    }
}

/// Returns two tenants that an earlier command exchanged.
async fn replayed(tx: &PublicTx, [one, other]: [TenantId; 2]) -> Result<Swapped> {
    let (tenant, with) = (record_of(tx, one).await?, record_of(tx, other).await?);
    Ok(Swapped { tenant, with, is_replayed: true })
}

async fn record_of(tx: &PublicTx, id: TenantId) -> Result<TenantRecord> {
    tenants::lookup_record(tx, id).await?.ok_or(Error::NotFound(Noun::Tenant))
}

/// Returns the records of two tenants that can be swapped.
async fn require_swappable(
    tx: &PublicTx,
    command: &SwapTenants,
    [one, other]: [TenantId; 2],
) -> Result<(TenantRecord, TenantRecord)> {
    let (one, other) = (record_of(tx, one).await?, record_of(tx, other).await?);
    for (record, expected) in [(&one, &command.expected), (&other, &command.with_expected)] {
        require_kept(record)?;
        expected.check(record)?;
    }
    let (a, b) = (one.tenant.id, other.tenant.id);
    let versions = [control::version(tx, a).await?, control::version(tx, b).await?];
    match versions {
        [first, second] if first != second => {
            let file = |(version, _): &(i32, String)| format!("V{version}");
            let (one, other) = (file(&first), file(&second));
            Err(ArchiveProblem::SwapVersionDiffers { one, other }.into())
        }
        _ => Ok((one, other)),
    }
}

/// Blames the field that names the other tenant.
fn unknown_other(error: Error) -> Error {
    match error {
        Error::NotFound(Noun::Tenant) => Error::invalid("with", Rule::UnknownTenant),
        error => error,
    }
}
