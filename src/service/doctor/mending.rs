//! Puts right what an examination found, one transaction a schema, each with its audit event.

use std::collections::BTreeSet;

use serde_json::json;

use super::exam::Exam;
use super::report::{Finding, Outcome, Remedy, Report};
use super::{Doctor, Orphans};
use crate::auth::CallContext;
use crate::domain::error::{Error, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::bootstrap::walls::{self, Breach};
use crate::pg::catalog::houses::{self, Holder};
use crate::pg::schemas::mend::{self, Mend};
use crate::pg::{During, catalog, schemas, tenants};
use crate::service::audit::note;

/// How often a schema is looked at and mended. The rights of a role that was missing show only once there is
/// one again, and the rights of an object that had another owner only once it has ours.
const ROUNDS: usize = 3;

/// Mends what can be mended and notes in the report what became of it.
pub(super) async fn mend(
    exam: &mut Exam<'_>,
    ctx: &CallContext,
    orphans: &Orphans,
    report: &mut Report,
) -> Result<()> {
    let of_tenants =
        |finding: &&Finding| matches!(finding.remedy, Remedy::Mends(_) | Remedy::Record(_));
    let schemas: BTreeSet<TenantId> = report
        .findings
        .iter()
        .filter(of_tenants)
        .filter_map(|finding| Some(finding.subject.as_ref()?.id))
        .collect();
    for id in schemas {
        let outcome = unless_away(mend_schema(exam, ctx, id).await)?;
        note_schema(report, id, outcome);
    }
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

/// A failure that concerns one mend, in words; that of the database, which concerns all, as an error.
fn unless_away<T>(outcome: Result<T>) -> Result<Result<T, String>> {
    match outcome {
        Ok(done) => Ok(Ok(done)),
        Err(away @ Error::Unavailable { .. }) => Err(away),
        Err(error) => Ok(Err(error.chain())),
    }
}

/// What is still wrong with one schema after its mending: what stands now decides, not what was planned.
fn note_schema(report: &mut Report, id: TenantId, outcome: Result<Vec<Finding>, String>) {
    let concerns = |finding: &Finding| {
        finding.subject.as_ref().is_some_and(|subject| subject.id == id)
            && matches!(finding.remedy, Remedy::Mends(_) | Remedy::Record(_))
    };
    let left = match outcome {
        Ok(left) => left,
        Err(reason) => {
            for finding in report.findings.iter_mut().filter(|finding| concerns(finding)) {
                finding.outcome = Outcome::NotMended(reason.clone());
            }
            return;
        }
    };
    for finding in report.findings.iter_mut().filter(|finding| concerns(finding)) {
        if left.iter().all(|left| left.what != finding.what) {
            finding.outcome = Outcome::Mended;
        } else {
            let reason = "it was tried, and the database still says the same";
            finding.outcome = Outcome::NotMended(reason.to_owned());
        }
    }
    // What showed only then.
    let is_known = |left: &Finding| {
        report.findings.iter().any(|known| known.subject == left.subject && known.what == left.what)
    };
    let new: Vec<Finding> = left.into_iter().filter(|left| !is_known(left)).collect();
    report.findings.extend(new);
    report.sort();
}

/// Mends one schema in one transaction, and gives what is still to be said of it.
async fn mend_schema(exam: &mut Exam<'_>, ctx: &CallContext, id: TenantId) -> Result<Vec<Finding>> {
    const DURING: &str = "mend a schema";
    let schema = SchemaName::of(id);
    let tx = exam.public().await?;
    schemas::lock(&tx, schema.as_str()).await.during(DURING)?;
    // Once, before the mends lock what it is read from; they do not change it.
    let histories = exam.histories(&[id]).await?;
    let before = exam.look(&tx, &[id], &histories).await?;
    let mut left = before.clone();
    for _ in 0..ROUNDS {
        let mends: Vec<Mend> = left.iter().flat_map(mends_of).cloned().collect();
        let records: Vec<i32> = left.iter().filter_map(record_of).collect();
        if mends.is_empty() && records.is_empty() {
            break;
        }
        mend::apply(&tx, &schema, &mends, exam.doctor.server_version).await.during(DURING)?;
        for version in records {
            let Some(set) = exam.doctor.set.up_to(version) else { continue };
            tenants::set_migrated(&tx, id, &set, ctx.now).await?;
        }
        left = exam.look(&tx, &[id], &histories).await?;
    }
    let mended: Vec<&str> = before
        .iter()
        .filter(|finding| finding.is_mendable())
        .map(|finding| finding.what.as_str())
        .filter(|what| left.iter().all(|left| left.what != *what))
        .collect();
    if mended.is_empty() {
        return Ok(left); // rolled back: nothing came of it
    }
    note(&tx, ctx, "doctor.mend", Some(id), json!({ "mended": mended })).await?;
    tx.commit().await.during(DURING)?;
    Ok(left)
}

fn mends_of(finding: &Finding) -> &[Mend] {
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
async fn close(doctor: &Doctor, ctx: &CallContext, breach: &Breach) -> Result<()> {
    const DURING: &str = "restrict what everybody may do";
    let tx = doctor.db.public().await.during(DURING)?;
    walls::close(&tx, breach).await.during(DURING)?;
    // Whoever may not is warned by the server, and no more.
    if walls::breaches(&tx).await.during(DURING)?.contains(breach) {
        let reason = format!("this login may not; let a superuser run: {}", breach.statement);
        return Err(Error::internal(DURING, reason));
    }
    note(&tx, ctx, "doctor.restrict", None::<TenantId>, json!({ "statement": breach.statement }))
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
        schemas::lock(&tx, schema.as_str()).await.during(DURING)?;
        let found = houses::list(&tx, Some(&[id]), true).await.during(DURING)?;
        match found.first().map(|house| &house.holder) {
            Some(Holder::Nobody) => {}
            Some(_) => return Err(Error::internal(DURING, "somebody has it by now")),
            None => return Ok(()), // somebody else dropped it
        }
        if schemas::drop_some(&tx, &schema).await.during(DURING)? {
            tx.commit().await.during(DURING)?;
            continue;
        }
        mend::drop_orphan(&tx, &schema).await.during(DURING)?;
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
    catalog::unhurried(&tx).await.during(DURING)?;
    schemas::lock(&tx, schema.as_str()).await.during(DURING)?;
    if !houses::orphan_roles(&tx).await.during(DURING)?.contains(&id) {
        return Ok(()); // gone, or somebody's by now
    }
    mend::drop_orphan(&tx, &schema).await.during(DURING)?;
    note(&tx, ctx, "doctor.drop_orphan", Some(id), json!({ "role": schema.as_str() })).await?;
    tx.commit().await.during(DURING)
}
