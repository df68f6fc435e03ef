//! Repairs what an examination found, several schemas a transaction, each with its audit event.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::future::try_join_all;
use serde_json::json;

use crate::auth::CallContext;
use crate::domain::AuditAction;
use crate::domain::error::{Error, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::bootstrap::{Exposure, privileges};
use crate::pg::catalog::history::History;
use crate::pg::catalog::inventory::{self, SchemaOwner};
use crate::pg::catalog::{self};
use crate::pg::control::tenants;
use crate::pg::locks::{self, Lock};
use crate::pg::rules::Isolation;
use crate::pg::schema::repair::{self, Repair};
use crate::pg::schema::{self};
use crate::pg::{Db, During, PublicTx};
use crate::service::audit::note;
use crate::service::doctor::check::Check;
use crate::service::doctor::report::{Finding, Remedy, RepairOutcome, Report};
use crate::service::doctor::request::Orphans;

/// How often a schema is examined and repaired. The rights of a missing role can be examined only once it exists
/// again, and the rights of an object that had another owner only once it has the right one.
const ROUNDS: usize = 3;

const DURING: &str = "repair schemas";

/// The most schemas that one transaction repairs: enough to make round trips and commits negligible, few enough that
/// transactions that change roles at the same time wait only briefly.
const REPAIRED_AT_ONCE: usize = 50;

/// The result for each schema: the findings that are left, or why nothing was done.
type Outcomes = HashMap<TenantId, Result<Vec<Finding>, String>>;

/// Repairs what can be repaired, and enters the outcomes in the report.
pub(super) async fn repair(
    check: &mut Check<'_>,
    ctx: &CallContext,
    orphans: &Orphans,
    report: &mut Report,
) -> Result<()> {
    let outcomes = repair_all(check, ctx, &report.findings).await?;
    note_outcomes(report, outcomes);
    for at in 0..report.findings.len() {
        let Some(finding) = report.findings.get_mut(at) else { break };
        let id = finding.subject.as_ref().map(|subject| subject.id);
        let outcome = match (&finding.remedy, id) {
            (Remedy::Close(exposure), _) => revoke(check.db, ctx, exposure).await,
            (Remedy::DropSchema, Some(id)) if orphans.drops(id) => {
                drop_schema(check.db, ctx, id).await
            }
            (Remedy::DropRole, Some(id)) if orphans.drops(id) => drop_role(check.db, ctx, id).await,
            _ => continue,
        };
        finding.outcome = match unless_away(outcome)? {
            Ok(()) => RepairOutcome::Repaired,
            Err(reason) => RepairOutcome::Failed(reason),
        };
    }
    Ok(())
}

/// Repairs all schemas with a finding that can be repaired, several a transaction. If one of them makes a transaction
/// fail, that is rolled back and each half is tried by itself, down to the schema that fails alone and is named: one
/// that cannot be repaired costs a few more transactions and stops no other.
async fn repair_all(
    check: &mut Check<'_>,
    ctx: &CallContext,
    findings: &[Finding],
) -> Result<Outcomes> {
    let mut schemas: BTreeMap<TenantId, bool> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| is_of_schema(finding)) {
        if let Some(subject) = &finding.subject {
            *schemas.entry(subject.id).or_default() |=
                repairs_of(finding).iter().any(Repair::takes_exclusive_lock);
        }
    }
    let (alone, together): (Vec<_>, Vec<_>) = schemas.into_iter().partition(|(_, alone)| *alone);
    let ids = |of: Vec<(TenantId, bool)>| of.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let mut todo: Vec<Vec<TenantId>> =
        ids(together).chunks(REPAIRED_AT_ONCE).map(<[TenantId]>::to_vec).collect();
    todo.extend(ids(alone).into_iter().map(|id| vec![id]));
    let mut outcomes = Outcomes::new();
    while let Some(some) = todo.pop() {
        match (unless_away(repair_schemas(check, ctx, &some).await)?, some.as_slice()) {
            (Ok(repaired), _) => {
                outcomes.extend(repaired.left.into_iter().map(|(id, left)| (id, Ok(left))));
                todo.extend(repaired.again.into_iter().map(|id| vec![id]));
            }
            (Err(reason), [id]) => {
                outcomes.insert(*id, Err(reason));
            }
            (Err(_), some) => {
                let (first, second) = some.split_at(some.len() / 2);
                todo.extend([first.to_vec(), second.to_vec()]);
            }
        }
    }
    Ok(outcomes)
}

/// Whether [`repair_all`] repairs a finding.
fn is_of_schema(finding: &Finding) -> bool {
    matches!(finding.remedy, Remedy::Repairs(_) | Remedy::Record(_))
}

/// Separates a failure of one repair, as text, from one of the database, which concerns all, as an error.
fn unless_away<T>(outcome: Result<T>) -> Result<Result<T, String>> {
    match outcome {
        Ok(done) => Ok(Ok(done)),
        Err(away) if away.is_away() => Err(away),
        Err(error) => Ok(Err(error.chain())),
    }
}

/// Enters the outcomes in the report. The findings after the repair decide, not what was planned.
fn note_outcomes(report: &mut Report, outcomes: Outcomes) {
    let mut known: HashSet<(TenantId, String)> = HashSet::new();
    for finding in &mut report.findings {
        let Some(id) = finding.subject.as_ref().map(|subject| subject.id) else { continue };
        let Some(outcome) = outcomes.get(&id) else { continue };
        known.insert((id, finding.what.clone()));
        if !is_of_schema(finding) {
            continue;
        }
        finding.outcome = match outcome {
            Err(reason) => RepairOutcome::Failed(reason.clone()),
            Ok(left) if left.iter().all(|left| left.what != finding.what) => {
                RepairOutcome::Repaired
            }
            Ok(_) => {
                let reason = "it was tried, and the database still reports the same";
                RepairOutcome::Failed(reason.to_owned())
            }
        };
    }
    // Findings that appeared only after the repair.
    for (id, left) in outcomes {
        let left = left.into_iter().flatten();
        report.findings.extend(left.filter(|left| !known.contains(&(id, left.what.clone()))));
    }
    report.sort();
}

/// The result of one transaction.
struct Repaired {
    /// The findings that are left of each schema.
    left: HashMap<TenantId, Vec<Finding>>,
    /// The schemas to repair once more: another process has locked them, or what was repaired may let this login read
    /// the history, which it could not.
    again: Vec<TenantId>,
}

/// Repairs schemas in one transaction: all, or none if the repair of one fails. It waits for the lock of a single
/// schema only.
async fn repair_schemas(
    check: &mut Check<'_>,
    ctx: &CallContext,
    ids: &[TenantId],
) -> Result<Repaired> {
    let tx = check.public().await?;
    catalog::set_catalog_wide_limits(&tx).await.during(DURING)?;
    let (locked, mut again) = lock(&tx, ids).await?;
    // Once, before the repairs lock the tables that it is read from; they do not change it.
    let histories = check.histories(&locked).await?;
    let before = by_schema(&locked, check.compare(&tx, &locked, &histories).await?);
    let mut left = before.clone();
    for _ in 0..ROUNDS {
        let open: Vec<TenantId> =
            locked.iter().copied().filter(|id| left[id].iter().any(is_of_schema)).collect();
        if open.is_empty() {
            break;
        }
        let repairs = open.iter().map(|id| {
            let repairs = left[id].iter().flat_map(repairs_of).cloned().collect();
            (SchemaName::of(*id), repairs)
        });
        let repairs: Vec<(SchemaName, Vec<Repair>)> = repairs.collect();
        let rules = check.db.rules();
        repair::apply(&tx, &repairs, rules, check.server_version).await.during(DURING)?;
        for id in &open {
            for version in left[id].iter().filter_map(record_of) {
                let Some(set) = check.set.up_to(version) else { continue };
                let fingerprint = set.fingerprint();
                tenants::set_migrated(&tx, *id, set.version(), fingerprint, ctx.now).await?;
            }
        }
        left.extend(by_schema(&open, check.compare(&tx, &open, &histories).await?));
    }
    // Sent together: they share round trips.
    let notes = locked.iter().filter_map(|id| {
        let repaired = repaired(&before[id], &left[id]);
        let details = json!({ "repaired": repaired });
        (!repaired.is_empty()).then(|| note(&tx, ctx, AuditAction::DoctorMend, Some(*id), details))
    });
    if try_join_all(notes).await?.is_empty() {
        return Ok(Repaired { left, again }); // rolled back: nothing was repaired
    }
    tx.commit().await.during(DURING)?;
    let was_denied = |id: &&TenantId| {
        let history = histories.get(SchemaName::of(**id).as_str());
        matches!(history, Some(History::Denied(_)))
            && !repaired(&before[*id], &left[*id]).is_empty()
    };
    again.extend(locked.iter().filter(was_denied));
    Ok(Repaired { left, again })
}

/// Locks schemas; returns those that were locked, and those that another process has locked.
async fn lock(tx: &PublicTx, ids: &[TenantId]) -> Result<(Vec<TenantId>, Vec<TenantId>)> {
    if let [id] = ids {
        locks::lock(tx, Lock::Schema(&SchemaName::of(*id))).await.during(DURING)?;
        return Ok((vec![*id], Vec::new()));
    }
    let names: Vec<SchemaName> = ids.iter().copied().map(SchemaName::of).collect();
    let granted = locks::try_locks(tx, &names).await.during(DURING)?;
    let (locked, busy): (Vec<_>, Vec<_>) =
        ids.iter().zip(granted).partition(|(_, granted)| *granted);
    let ids = |of: Vec<(&TenantId, bool)>| of.into_iter().map(|(id, _)| *id).collect();
    Ok((ids(locked), ids(busy)))
}

/// Groups findings by schema, with an entry for each of `ids`.
fn by_schema(ids: &[TenantId], findings: Vec<Finding>) -> HashMap<TenantId, Vec<Finding>> {
    let mut all: HashMap<_, Vec<_>> = ids.iter().map(|id| (*id, Vec::new())).collect();
    for finding in findings {
        if let Some(subject) = &finding.subject {
            all.entry(subject.id).or_default().push(finding);
        }
    }
    all
}

/// What was wrong and no longer is.
fn repaired<'a>(before: &'a [Finding], left: &[Finding]) -> Vec<&'a str> {
    let repairable = before.iter().filter(|finding| finding.is_repairable());
    let what = repairable.map(|finding| finding.what.as_str());
    what.filter(|what| left.iter().all(|left| left.what != *what)).collect()
}

fn repairs_of(finding: &Finding) -> &[Repair] {
    match &finding.remedy {
        Remedy::Repairs(repairs) => repairs,
        _ => &[],
    }
}

fn record_of(finding: &Finding) -> Option<i32> {
    match finding.remedy {
        Remedy::Record(version) => Some(version),
        _ => None,
    }
}

/// Revokes a privilege from PUBLIC.
async fn revoke(db: &Db, ctx: &CallContext, exposure: &Exposure) -> Result<()> {
    const DURING: &str = "revoke a privilege of PUBLIC";
    let tx = db.public().await.during(DURING)?;
    privileges::revoke(&tx, exposure).await.during(DURING)?;
    // The server only warns a login without the right to revoke it.
    let (open, _unread) = privileges::exposures(&tx, db.rules().engine).await.during(DURING)?;
    if open.contains(exposure) {
        let reason = format!("this login may not; let a superuser run: {}", exposure.statement);
        return Err(Error::internal(DURING, reason));
    }
    note(
        &tx,
        ctx,
        AuditAction::DoctorRestrict,
        None::<TenantId>,
        json!({ "statement": exposure.statement }),
    )
    .await?;
    tx.commit().await.during(DURING)
}

/// Drops an orphan schema and its role: as a purge does, a few tables a transaction, because of the locks; the last
/// transaction writes the audit event. Each transaction checks that the schema is still an orphan.
async fn drop_schema(db: &Db, ctx: &CallContext, id: TenantId) -> Result<()> {
    const DURING: &str = "drop an orphan schema";
    let schema = SchemaName::of(id);
    loop {
        let tx = db.public().await.during(DURING)?;
        locks::lock(&tx, Lock::Schema(&schema)).await.during(DURING)?;
        let found = inventory::list(&tx, Some(&[id]), Isolation::Role).await.during(DURING)?;
        match found.first().map(|entry| &entry.owner) {
            Some(SchemaOwner::None) => {}
            Some(_) => {
                return Err(Error::internal(DURING, "it belongs to a tenant or a vacancy by now"));
            }
            None => return Ok(()), // another process dropped it
        }
        if schema::drop_some(&tx, &schema, &[]).await.during(DURING)? {
            tx.commit().await.during(DURING)?;
            continue;
        }
        schema::drop(&tx, &schema, &[]).await.during(DURING)?;
        note(
            &tx,
            ctx,
            AuditAction::DoctorDropOrphan,
            Some(id),
            json!({ "schema": schema.as_str() }),
        )
        .await?;
        return tx.commit().await.during(DURING);
    }
}

/// Drops an orphan role.
async fn drop_role(db: &Db, ctx: &CallContext, id: TenantId) -> Result<()> {
    const DURING: &str = "drop an orphan role";
    let schema = SchemaName::of(id);
    let tx = db.public().await.during(DURING)?;
    catalog::set_catalog_wide_limits(&tx).await.during(DURING)?;
    locks::lock(&tx, Lock::Schema(&schema)).await.during(DURING)?;
    if !inventory::orphan_roles(&tx).await.during(DURING)?.contains(&id) {
        return Ok(()); // dropped, or no longer an orphan
    }
    schema::drop(&tx, &schema, &[]).await.during(DURING)?;
    note(&tx, ctx, AuditAction::DoctorDropOrphan, Some(id), json!({ "role": schema.as_str() }))
        .await?;
    tx.commit().await.during(DURING)
}
