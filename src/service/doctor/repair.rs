//! Puts right what an examination found, some schemas a transaction, each with its audit event.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::future::try_join_all;
use serde_json::json;

use crate::auth::CallContext;
use crate::domain::error::{Error, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::bootstrap::privileges::{self, Exposure};
use crate::pg::catalog::inventory::{self, SchemaOwner};
use crate::pg::catalog::{self};
use crate::pg::control::tenants;
use crate::pg::rules::Isolation;
use crate::pg::schema::repair::{self, Repair};
use crate::pg::schema::{self};
use crate::pg::{During, PublicTx, locks};
use crate::service::audit::note;
use crate::service::doctor::check::Exam;
use crate::service::doctor::report::{Finding, Outcome, Remedy, Report};
use crate::service::doctor::{Doctor, Orphans};

/// How often a schema is looked at and mended. The rights of a role that was missing show only once there is
/// one again, and the rights of an object that had another owner only once it has ours.
const ROUNDS: usize = 3;

const DURING: &str = "mend schemas";

/// Schemas that are mended in one transaction at most: enough that round trips and commits hardly count, few
/// enough that those who change roles at the same time wait for moments.
const MENDED_AT_ONCE: usize = 50;

/// What became of each schema: what is still to be said of it, or why nothing was done.
type Outcomes = HashMap<TenantId, Result<Vec<Finding>, String>>;

/// Mends what can be mended and notes in the report what became of it.
pub(super) async fn mend(
    exam: &mut Exam<'_>,
    ctx: &CallContext,
    orphans: &Orphans,
    report: &mut Report,
) -> Result<()> {
    let outcomes = mend_all(exam, ctx, &report.findings).await?;
    note_outcomes(report, outcomes);
    for at in 0..report.findings.len() {
        let Some(finding) = report.findings.get_mut(at) else { break };
        let id = finding.subject.as_ref().map(|subject| subject.id);
        let outcome = match (&finding.remedy, id) {
            (Remedy::Close(breach), _) => close(exam.doctor, ctx, breach).await,
            (Remedy::DropSchema, Some(id)) if orphans.drops(id) => {
                drop_schema(exam.doctor, ctx, id).await
            }
            (Remedy::DropRole, Some(id)) if orphans.drops(id) => {
                drop_role(exam.doctor, ctx, id).await
            }
            _ => continue,
        };
        finding.outcome = match unless_away(outcome)? {
            Ok(()) => Outcome::Mended,
            Err(reason) => Outcome::NotMended(reason),
        };
    }
    Ok(())
}

/// Mends all schemas that something mendable was found of, several a transaction. Where one of them makes a
/// transaction fail, nothing of it was done, and its halves are tried by themselves, down to the one that fails
/// alone and is named: so one that cannot be mended costs a few transactions more and stops no other.
async fn mend_all(
    exam: &mut Exam<'_>,
    ctx: &CallContext,
    findings: &[Finding],
) -> Result<Outcomes> {
    let mut mends: BTreeMap<TenantId, bool> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| is_of_schema(finding)) {
        if let Some(subject) = &finding.subject {
            *mends.entry(subject.id).or_default() |=
                mends_of(finding).iter().any(Repair::takes_exclusive_lock);
        }
    }
    let (alone, together): (Vec<_>, Vec<_>) = mends.into_iter().partition(|(_, alone)| *alone);
    let ids = |of: Vec<(TenantId, bool)>| of.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let mut todo: Vec<Vec<TenantId>> =
        ids(together).chunks(MENDED_AT_ONCE).map(<[TenantId]>::to_vec).collect();
    todo.extend(ids(alone).into_iter().map(|id| vec![id]));
    let mut outcomes = Outcomes::new();
    while let Some(some) = todo.pop() {
        match (unless_away(mend_schemas(exam, ctx, &some).await)?, some.as_slice()) {
            (Ok(mended), _) => {
                outcomes.extend(mended.left.into_iter().map(|(id, left)| (id, Ok(left))));
                todo.extend(mended.busy.into_iter().map(|id| vec![id]));
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

/// Whether a finding is one that [`mend_all`] does something about.
fn is_of_schema(finding: &Finding) -> bool {
    matches!(finding.remedy, Remedy::Mends(_) | Remedy::Record(_))
}

/// A failure that concerns one mend, in words; that of the database, which concerns all, as an error.
fn unless_away<T>(outcome: Result<T>) -> Result<Result<T, String>> {
    match outcome {
        Ok(done) => Ok(Ok(done)),
        Err(away @ Error::Unavailable { .. }) => Err(away),
        Err(error) => Ok(Err(error.chain())),
    }
}

/// What is still wrong with schemas after their mending: what stands now decides, not what was planned.
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
            Err(reason) => Outcome::NotMended(reason.clone()),
            Ok(left) if left.iter().all(|left| left.what != finding.what) => Outcome::Mended,
            Ok(_) => {
                let reason = "it was tried, and the database still says the same";
                Outcome::NotMended(reason.to_owned())
            }
        };
    }
    // What showed only then.
    for (id, left) in outcomes {
        let left = left.into_iter().flatten();
        report.findings.extend(left.filter(|left| !known.contains(&(id, left.what.clone()))));
    }
    report.sort();
}

/// What came of one transaction.
struct Mended {
    /// What is still to be said of each schema that it had.
    left: HashMap<TenantId, Vec<Finding>>,
    /// The schemas that somebody else works on, and which were let alone.
    busy: Vec<TenantId>,
}

/// Mends schemas in one transaction: all, or none where the mending of one fails. One schema alone is waited for.
async fn mend_schemas(exam: &mut Exam<'_>, ctx: &CallContext, ids: &[TenantId]) -> Result<Mended> {
    let tx = exam.public().await?;
    catalog::set_catalog_wide_limits(&tx).await.during(DURING)?;
    let (held, busy) = hold(&tx, ids).await?;
    // Once, before the mends lock what it is read from; they do not change it.
    let histories = exam.histories(&held).await?;
    let before = by_schema(&held, exam.look(&tx, &held, &histories).await?);
    let mut left = before.clone();
    for _ in 0..ROUNDS {
        let open: Vec<TenantId> =
            held.iter().copied().filter(|id| left[id].iter().any(is_of_schema)).collect();
        if open.is_empty() {
            break;
        }
        let mends = open.iter().map(|id| {
            let mends = left[id].iter().flat_map(mends_of).cloned().collect();
            (SchemaName::of(*id), mends)
        });
        let mends: Vec<(SchemaName, Vec<Repair>)> = mends.collect();
        repair::apply(&tx, &mends, exam.doctor.server_version).await.during(DURING)?;
        for id in &open {
            for version in left[id].iter().filter_map(record_of) {
                let Some(set) = exam.doctor.set.up_to(version) else { continue };
                tenants::set_migrated(&tx, *id, &set, ctx.now).await?;
            }
        }
        left.extend(by_schema(&open, exam.look(&tx, &open, &histories).await?));
    }
    // Sent together: they share round trips.
    let notes = held.iter().filter_map(|id| {
        let mended = mended(&before[id], &left[id]);
        let details = json!({ "mended": mended });
        (!mended.is_empty()).then(|| note(&tx, ctx, "doctor.mend", Some(*id), details))
    });
    if try_join_all(notes).await?.is_empty() {
        return Ok(Mended { left, busy }); // rolled back: nothing came of it
    }
    tx.commit().await.during(DURING)?;
    Ok(Mended { left, busy })
}

/// Locks schemas; tells which were had, and which were not.
async fn hold(tx: &PublicTx, ids: &[TenantId]) -> Result<(Vec<TenantId>, Vec<TenantId>)> {
    if let [id] = ids {
        locks::lock(tx, SchemaName::of(*id).as_str()).await.during(DURING)?;
        return Ok((vec![*id], Vec::new()));
    }
    let names: Vec<SchemaName> = ids.iter().copied().map(SchemaName::of).collect();
    let had = locks::try_locks(tx, &names).await.during(DURING)?;
    let (held, busy): (Vec<_>, Vec<_>) = ids.iter().zip(had).partition(|(_, had)| *had);
    let ids = |of: Vec<(&TenantId, bool)>| of.into_iter().map(|(id, _)| *id).collect();
    Ok((ids(held), ids(busy)))
}

/// Findings by the schema that they are about, with an entry for each of these.
fn by_schema(ids: &[TenantId], findings: Vec<Finding>) -> HashMap<TenantId, Vec<Finding>> {
    let mut all: HashMap<_, Vec<_>> = ids.iter().map(|id| (*id, Vec::new())).collect();
    for finding in findings {
        if let Some(subject) = &finding.subject {
            all.entry(subject.id).or_default().push(finding);
        }
    }
    all
}

/// What was wrong and is no more.
fn mended<'a>(before: &'a [Finding], left: &[Finding]) -> Vec<&'a str> {
    let mendable = before.iter().filter(|finding| finding.is_mendable());
    let what = mendable.map(|finding| finding.what.as_str());
    what.filter(|what| left.iter().all(|left| left.what != *what)).collect()
}

fn mends_of(finding: &Finding) -> &[Repair] {
    match &finding.remedy {
        Remedy::Mends(mends) => mends,
        _ => &[],
    }
}

fn record_of(finding: &Finding) -> Option<i32> {
    match finding.remedy {
        Remedy::Record(version) => Some(version),
        _ => None,
    }
}

/// Takes a right from everybody.
async fn close(doctor: &Doctor, ctx: &CallContext, exposure: &Exposure) -> Result<()> {
    const DURING: &str = "restrict what everybody may do";
    let tx = doctor.db.public().await.during(DURING)?;
    privileges::revoke(&tx, exposure).await.during(DURING)?;
    // Whoever may not is warned by the server, and no more.
    if privileges::exposures(&tx).await.during(DURING)?.contains(exposure) {
        let reason = format!("this login may not; let a superuser run: {}", exposure.statement);
        return Err(Error::internal(DURING, reason));
    }
    note(&tx, ctx, "doctor.restrict", None::<TenantId>, json!({ "statement": exposure.statement }))
        .await?;
    tx.commit().await.during(DURING)
}

/// Drops a schema that is nobody's, and its role: as a purge does, some tables a transaction, because of the
/// locks; the last transaction leaves the audit event. Before each it is looked whose it is.
async fn drop_schema(doctor: &Doctor, ctx: &CallContext, id: TenantId) -> Result<()> {
    const DURING: &str = "drop an orphan schema";
    let schema = SchemaName::of(id);
    loop {
        let tx = doctor.db.public().await.during(DURING)?;
        locks::lock(&tx, schema.as_str()).await.during(DURING)?;
        let found = inventory::list(&tx, Some(&[id]), Isolation::Role).await.during(DURING)?;
        match found.first().map(|house| &house.owner) {
            Some(SchemaOwner::None) => {}
            Some(_) => return Err(Error::internal(DURING, "somebody has it by now")),
            None => return Ok(()), // somebody else dropped it
        }
        if schema::drop_some(&tx, &schema).await.during(DURING)? {
            tx.commit().await.during(DURING)?;
            continue;
        }
        repair::drop_orphan(&tx, &schema).await.during(DURING)?;
        note(&tx, ctx, "doctor.drop_orphan", Some(id), json!({ "schema": schema.as_str() }))
            .await?;
        return tx.commit().await.during(DURING);
    }
}

/// Drops a role that is nobody's.
async fn drop_role(doctor: &Doctor, ctx: &CallContext, id: TenantId) -> Result<()> {
    const DURING: &str = "drop an orphan role";
    let schema = SchemaName::of(id);
    let tx = doctor.db.public().await.during(DURING)?;
    catalog::set_catalog_wide_limits(&tx).await.during(DURING)?;
    locks::lock(&tx, schema.as_str()).await.during(DURING)?;
    if !inventory::orphan_roles(&tx).await.during(DURING)?.contains(&id) {
        return Ok(()); // gone, or somebody's by now
    }
    repair::drop_orphan(&tx, &schema).await.during(DURING)?;
    note(&tx, ctx, "doctor.drop_orphan", Some(id), json!({ "role": schema.as_str() })).await?;
    tx.commit().await.during(DURING)
}
