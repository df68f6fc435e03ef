//! Examinations that a caller asks for and that outlive the request: [`Doctor`] examines or repairs, and what it found is
//! kept in the database.
//!
//! The server that was asked runs the examination in the background. If that server is gone, the examination has failed,
//! and can be asked for again: what was repaired stays repaired.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::auth::CallContext;
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::page::{Cursor, Page, Window};
use crate::domain::{Clock, Permission};
use crate::pg::control::examinations::{self, Counts};
use crate::pg::{Db, During};
use crate::service::Doctor;
use crate::service::doctor::{Finding, Orphans, RepairOutcome, Report, Selection};
use crate::service::fleet::resolve;
use crate::service::tenants::TenantRef;

pub use crate::pg::control::examinations::{Filter, Record, StoredFinding};

/// How long a server counts as alive after it last said so.
const LEASE: Duration = Duration::from_mins(1);

/// How often it says so.
const HEARTBEAT: Duration = Duration::from_secs(10);

const DURING: &str = "run an examination";

/// What to examine, and what to do about it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Only these tenants, as the caller named them; everything if none is named.
    pub tenants: Vec<String>,
    /// Whether to repair what can be repaired.
    pub repair: bool,
    /// What to do with schemas and roles that belong to no tenant.
    pub orphans: Orphans,
}

/// Starts examinations and reads them.
#[derive(Clone)]
pub struct Examinations {
    /// For short statements, from the runtime of the caller.
    db: Db,
    examiner: Arc<Examiner>,
}

/// What runs examinations, one for the whole process.
pub struct Examiner {
    /// The runtime to which the pools of `db` and `doctor` belong.
    runtime: Handle,
    db: Db,
    doctor: Doctor,
    clock: Clock,
    /// The examination that runs here.
    running: Mutex<Option<(Uuid, JoinHandle<()>)>>,
}

impl Examiner {
    /// Runs examinations by `doctor` on `runtime`, to which the pools of `db` belong.
    #[must_use]
    pub fn new(runtime: Handle, db: Db, doctor: Doctor, clock: Clock) -> Self {
        Self { runtime, db, doctor, clock, running: Mutex::default() }
    }

    /// Ends the examination that runs here, and records that it failed.
    pub async fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((id, task)) = running else { return };
        task.abort();
        if task.await.is_err_and(|ended| ended.is_cancelled()) {
            self.fail(id, "the server that ran it was stopped").await;
        }
    }

    async fn run(self: Arc<Self>, id: Uuid, ctx: CallContext, request: Request) {
        let heartbeat = self.keep_alive(id);
        let selection =
            Selection { tenants: request.tenants.into_iter().map(TenantRef::IdOrSlug).collect() };
        let examining = async {
            if request.repair {
                self.doctor.repair(&ctx, &selection, &request.orphans).await
            } else {
                self.doctor.examine(&ctx, &selection).await
            }
        };
        let outcome = tokio::select! {
            outcome = examining => outcome,
            never = heartbeat => match never {},
        };
        let kept = match outcome {
            Ok(report) => self.finish(id, &report).await,
            Err(error) => {
                tracing::warn!(examination.id = %id, error = %error.chain(), "an examination failed");
                self.fail(id, &error.to_string()).await;
                Ok(())
            }
        };
        if let Err(error) = kept {
            tracing::warn!(examination.id = %id, error = %error.chain(), "failed to keep what an examination found");
            self.fail(id, &error.to_string()).await;
        }
    }

    /// Renews the lease until it is dropped.
    async fn keep_alive(&self, id: Uuid) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            let renewed = async {
                let tx = self.db.public().await.during(DURING)?;
                examinations::renew(tx, id, LEASE).await
            };
            if let Err(error) = renewed.await {
                tracing::warn!(examination.id = %id, error = %error.chain(), "failed to renew the lease of an examination");
            }
        }
    }

    async fn finish(&self, id: Uuid, report: &Report) -> Result<()> {
        let tx = self.db.public().await.during(DURING)?;
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let counts = Counts {
            tenants: whole(report.tenants),
            vacancies: whole(report.vacancies),
            wrong: whole(report.wrong_count()),
            warnings: whole(report.warning_count()),
            repaired: whole(report.repaired_count()),
        };
        let findings: Vec<Value> = report.findings.iter().enumerate().map(stored).collect();
        examinations::finish(&tx, id, &counts, &json!(findings), self.clock.now()).await?;
        tx.commit().await.during(DURING)
    }

    async fn fail(&self, id: Uuid, why: &str) {
        let failed = async {
            let tx = self.db.public().await.during(DURING)?;
            examinations::fail(&tx, id, why, self.clock.now()).await?;
            tx.commit().await.during(DURING)
        };
        if let Err(error) = failed.await {
            tracing::warn!(examination.id = %id, error = %error.chain(), "failed to record that an examination failed");
        }
    }
}

impl Examinations {
    /// Reads and starts through `db`; `examiner` runs.
    #[must_use]
    pub fn new(db: Db, examiner: Arc<Examiner>) -> Self {
        Self { db, examiner }
    }

    /// Starts an examination in the background; [`read`](Self::read) tells what becomes of it.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Rule::UnknownTenant`](crate::domain::Rule::UnknownTenant);
    /// [`Conflict::ExaminationRunning`].
    pub async fn start(&self, ctx: &CallContext, request: Request) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        if request.orphans != Orphans::Keep {
            ctx.require(Permission::DeleteTenant)?;
        }
        let tx = self.db.public().await.during(DURING)?;
        resolve(&tx, "tenants", &request.tenants).await?;
        let id = Uuid::now_v7();
        let options = options(&request);
        let actor = ctx.principal.label();
        if !examinations::insert(&tx, id, &actor, &options, LEASE, ctx.now).await? {
            return Err(Error::Conflict(Conflict::ExaminationRunning));
        }
        let record = examinations::lookup(&tx, id).await?;
        tx.commit().await.during(DURING)?;
        let examiner = Arc::clone(&self.examiner);
        let task = self.examiner.runtime.spawn(examiner.run(id, ctx.clone(), request));
        let mut running = self.examiner.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = Some((id, task));
        record.ok_or(Error::NotFound(Noun::Examination))
    }

    /// Reads an examination.
    ///
    /// # Errors
    /// [`Noun::Examination`] not found; those of the rights check and of the database.
    pub async fn read(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::ViewFleet)?;
        let tx = self.db.public().await.during("read an examination")?;
        examinations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Examination))
    }

    /// Returns the last examination of everything that is done.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn find_last(&self, ctx: &CallContext) -> Result<Option<Record>> {
        ctx.require(Permission::ViewFleet)?;
        let tx = self.db.public().await.during("read an examination")?;
        examinations::find_last(&tx).await
    }

    /// Lists a page of the examinations, newest first.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list(&self, ctx: &CallContext, window: &Window) -> Result<Page<Record>> {
        ctx.require(Permission::ViewFleet)?;
        let tx = self.db.public().await.during("list examinations")?;
        let rows = examinations::list(&tx, window).await?;
        Ok(Page::cut(rows, window, |record| Cursor { at: record.created_at, id: record.id }))
    }

    /// Lists a page of what an examination found, the most serious first.
    ///
    /// # Errors
    /// [`Noun::Examination`] not found; those of the rights check and of the database.
    pub async fn findings(
        &self,
        ctx: &CallContext,
        id: Uuid,
        filter: &Filter,
        window: &Window,
    ) -> Result<Page<StoredFinding>> {
        ctx.require(Permission::ViewFleet)?;
        let tx = self.db.public().await.during("list findings")?;
        let record =
            examinations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Examination))?;
        // The cursor holds the number in the report.
        let after = window.after.and_then(|cursor| i64::try_from(cursor.id.as_u128()).ok());
        let rows = examinations::findings(&tx, id, filter, after, window.rows_to_read()).await?;
        let at = record.created_at;
        Ok(Page::cut(rows, window, |finding| {
            let number = u128::try_from(finding.number).unwrap_or_default();
            Cursor { at, id: Uuid::from_u128(number) }
        }))
    }
}

/// The request as it is stored.
fn options(request: &Request) -> Value {
    let orphans = match &request.orphans {
        Orphans::Keep => json!(false),
        Orphans::Drop => json!(true),
        Orphans::DropThese(ids) => json!(ids),
    };
    json!({ "tenants": request.tenants, "repair": request.repair, "drop_orphans": orphans })
}

/// A finding as it is stored.
fn stored((number, finding): (usize, &Finding)) -> Value {
    let (outcome, reason) = match &finding.outcome {
        RepairOutcome::Open => ("open", None),
        RepairOutcome::Repaired => ("repaired", None),
        RepairOutcome::Failed(reason) => ("failed", Some(reason)),
    };
    json!({
        "number": number,
        "area": finding.area.as_str(),
        "gravity": finding.gravity.as_str(),
        "tenant_id": finding.subject.as_ref().map(|subject| subject.id),
        "slug": finding.subject.as_ref().and_then(|subject| subject.slug.as_ref()),
        "what": finding.what,
        "actual": finding.is,
        "expected": finding.should,
        "next": finding.next,
        "repairable": finding.is_repairable(),
        "outcome": outcome,
        "reason": reason,
    })
}
