//! Fleet migrations: read them, start and steer them.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Control;
use crate::app::Backend;
use crate::cli::Failure;
use crate::domain::error::{Error, Noun};
use crate::domain::operation::{PauseReason, Then, WorkState};
use crate::domain::page::Window;
use crate::service::fleet::{Behind, MigrationRequest, Plan, Record, WorkFilter};

/// Tenants that a summary names.
const NAMED: u16 = 20;

/// A fleet migration.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct OperationView {
    pub(in crate::cli) id: Uuid,
    /// `planned`, `running`, `paused`, `done`, `failed` or `cancelled`.
    pub(in crate::cli) state: String,
    /// `asked`, `canary`, `canary_failed` or `max_failures`.
    pub(in crate::cli) pause_reason: Option<String>,
    pub(in crate::cli) runner: Option<RunnerView>,
    pub(in crate::cli) actor: String,
    pub(in crate::cli) target_version: i32,
    pub(in crate::cli) target_fingerprint: String,
    pub(in crate::cli) options: Value,
    pub(in crate::cli) tenants: CountsView,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub(in crate::cli) started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub(in crate::cli) ended_at: Option<OffsetDateTime>,
}

/// The process that runs a migration, or ran it last.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct RunnerView {
    pub(in crate::cli) host: String,
    pub(in crate::cli) pid: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) since: OffsetDateTime,
    pub(in crate::cli) alive: bool,
}

/// The tenants of a migration by state.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct CountsView {
    pub(in crate::cli) total: i64,
    pub(in crate::cli) pending: i64,
    pub(in crate::cli) running: i64,
    pub(in crate::cli) done: i64,
    pub(in crate::cli) failed: i64,
    pub(in crate::cli) skipped: i64,
    pub(in crate::cli) pruned: i64,
}

/// The tenants that are behind, and the files that they lack.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct PlanView {
    pub(in crate::cli) target_version: i32,
    pub(in crate::cli) target_fingerprint: String,
    pub(in crate::cli) current_count: i64,
    pub(in crate::cli) behind_count: i64,
    pub(in crate::cli) deleting_count: i64,
    pub(in crate::cli) behind: Vec<BehindView>,
    pub(in crate::cli) ahead: Vec<String>,
    pub(in crate::cli) diverged: Vec<String>,
}

/// Tenants that lack the same files.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct BehindView {
    pub(in crate::cli) fingerprint: String,
    pub(in crate::cli) version: i32,
    pub(in crate::cli) count: i64,
    pub(in crate::cli) slugs: Vec<String>,
    pub(in crate::cli) files: Vec<String>,
}

#[derive(Deserialize)]
struct SlugOnly {
    slug: String,
}

/// What an operator asks of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Steering {
    Pause,
    Cancel,
}

impl Control {
    /// Reads a migration: the one that is named, else the open one, else the newest.
    pub(in crate::cli) async fn read_operation(
        &self,
        id: Option<Uuid>,
    ) -> Result<OperationView, Failure> {
        match self {
            Self::Database(backend) => {
                let (fleet, ctx) = (&backend.services.fleet, backend.operator());
                let record = match id {
                    Some(id) => fleet.read(&ctx, id).await?,
                    None => match fleet.find_open(&ctx).await? {
                        Some(record) => record,
                        None => fleet
                            .find_newest(&ctx)
                            .await?
                            .ok_or(Error::NotFound(Noun::Operation))?,
                    },
                };
                Ok(OperationView::from(&record))
            }
            Self::Server(client) => {
                if let Some(id) = id {
                    return client.get(&["migrations", &id.to_string()], &[]).await;
                }
                // Newest first; of the open ones there is only one, and it is the newest.
                let listed = client.list(&["migrations"], &[], Some(1)).await?.0;
                let missing = Error::NotFound(Noun::Operation);
                Ok(listed.into_iter().next().ok_or(missing)?)
            }
        }
    }

    /// Pauses or cancels a migration: the one that is named, else the open one.
    pub(in crate::cli) async fn steer_operation(
        &self,
        id: Option<Uuid>,
        steering: Steering,
    ) -> Result<OperationView, Failure> {
        match self {
            Self::Database(backend) => {
                let (fleet, ctx) = (&backend.services.fleet, backend.operator());
                let id = match id {
                    Some(id) => id,
                    None => {
                        fleet.find_open(&ctx).await?.ok_or(Error::NotFound(Noun::Operation))?.id
                    }
                };
                let record = match steering {
                    Steering::Pause => fleet.pause(&ctx, id).await?,
                    Steering::Cancel => fleet.cancel(&ctx, id).await?,
                };
                Ok(OperationView::from(&record))
            }
            Self::Server(client) => {
                let id = self.open_on_server(id).await?.to_string();
                let verb = match steering {
                    Steering::Pause => "pause",
                    Steering::Cancel => "cancel",
                };
                let request = client.control(Method::POST, &["migrations", &id, verb], &[]);
                Ok(client.answer(request).await?.body)
            }
        }
    }

    /// Returns the id that is given, or that of the open migration of a server.
    pub(in crate::cli) async fn open_on_server(&self, id: Option<Uuid>) -> Result<Uuid, Failure> {
        if let Some(id) = id {
            return Ok(id);
        }
        let newest = self.read_operation(None).await?;
        if newest.is_open() { Ok(newest.id) } else { Err(Error::NotFound(Noun::Operation).into()) }
    }

    /// Says how far the tenants are behind.
    pub(in crate::cli) async fn plan_migration(
        &self,
        tenants: &[String],
    ) -> Result<PlanView, Failure> {
        match self {
            Self::Database(backend) => {
                let plan = backend.services.fleet.plan(&backend.operator(), tenants).await?;
                Ok(PlanView::from(&plan))
            }
            Self::Server(client) => {
                let mut body = json!({ "dry_run": true });
                if !tenants.is_empty() {
                    body["tenants"] = json!(tenants);
                }
                client.post(&["migrations"], &body).await
            }
        }
    }

    /// Makes a server start a migration.
    pub(in crate::cli) async fn start_on_server(
        &self,
        request: &MigrationRequest,
    ) -> Result<OperationView, Failure> {
        let Self::Server(client) = self else { return Err(Failure::Other("no server".to_owned())) };
        let mut body = json!({});
        if !request.tenants.is_empty() {
            body["tenants"] = json!(request.tenants);
        }
        if let Some(canary) = &request.canary {
            let then = if canary.then == Then::Continue { "continue" } else { "pause" };
            body["canary"] = json!({ "then": then });
            if canary.count > 0 {
                body["canary"]["count"] = json!(canary.count);
            }
            if !canary.tenants.is_empty() {
                body["canary"]["tenants"] = json!(canary.tenants);
            }
        }
        if let Some(workers) = request.workers {
            body["workers"] = json!(workers);
        }
        if let Some(most) = request.max_failures {
            body["max_failures"] = json!(most);
        }
        client.post(&["migrations"], &body).await
    }

    /// Makes a server continue a migration, or try its failed tenants again.
    pub(in crate::cli) async fn continue_on_server(
        &self,
        id: Uuid,
        verb: &str,
    ) -> Result<OperationView, Failure> {
        let Self::Server(client) = self else { return Err(Failure::Other("no server".to_owned())) };
        let path = ["migrations", &id.to_string(), verb];
        Ok(client.answer(client.control(Method::POST, &path, &[])).await?.body)
    }

    /// Returns the slugs of some tenants that failed, and whether there are more.
    pub(in crate::cli) async fn failed_tenants(
        &self,
        id: Uuid,
    ) -> Result<(Vec<String>, bool), Failure> {
        match self {
            Self::Database(backend) => failed_in(backend, id).await,
            Self::Server(client) => {
                let query = [("state", WorkState::Failed.as_str().to_owned())];
                let (id, limit) = (id.to_string(), Some(usize::from(NAMED)));
                let path = ["migrations", &id, "tenants"];
                let (failed, more) = client.list::<SlugOnly>(&path, &query, limit).await?;
                Ok((failed.into_iter().map(|tenant| tenant.slug).collect(), more))
            }
        }
    }
}

/// Returns the slugs of some tenants that failed, and whether there are more.
pub(in crate::cli) async fn failed_in(
    backend: &Backend,
    id: Uuid,
) -> Result<(Vec<String>, bool), Failure> {
    let window = Window { after: None, limit: NAMED };
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let filter = WorkFilter { state: Some(WorkState::Failed), ..WorkFilter::default() };
    let failed = fleet.tenants(&ctx, id, &filter, &window).await?;
    let slugs = failed.rows.iter().map(|work| work.slug.as_str().to_owned()).collect();
    Ok((slugs, failed.next.is_some()))
}

impl OperationView {
    /// Whether it has not ended.
    pub(in crate::cli) fn is_open(&self) -> bool {
        ["planned", "running", "paused"].contains(&self.state.as_str())
    }

    /// Whether a process runs it now.
    pub(in crate::cli) fn is_held(&self) -> bool {
        self.runner.as_ref().is_some_and(|runner| runner.alive)
    }
}

impl From<&Record> for OperationView {
    fn from(record: &Record) -> Self {
        let counts = record.counts;
        Self {
            id: record.id,
            state: record.state.as_str().to_owned(),
            pause_reason: record.pause_reason.map(|reason| PauseReason::as_str(reason).to_owned()),
            runner: record.holder.as_ref().map(|holder| RunnerView {
                host: holder.host.clone(),
                pid: holder.pid,
                since: holder.since,
                alive: record.is_held,
            }),
            actor: record.actor.clone(),
            target_version: record.target_version,
            target_fingerprint: record.target_fingerprint.clone(),
            options: record.options.clone(),
            tenants: CountsView {
                total: counts.total,
                pending: counts.pending,
                running: counts.running,
                done: counts.done,
                failed: counts.failed,
                skipped: counts.skipped,
                pruned: counts.pruned,
            },
            created_at: record.created_at,
            started_at: record.started_at,
            ended_at: record.ended_at,
        }
    }
}

impl From<&Plan> for PlanView {
    fn from(plan: &Plan) -> Self {
        let behind = |group: &Behind| BehindView {
            fingerprint: group.fingerprint.clone(),
            version: group.version,
            count: group.count,
            slugs: group.slugs.clone(),
            files: group.files.clone(),
        };
        Self {
            target_version: plan.target_version,
            target_fingerprint: plan.target_fingerprint.clone(),
            current_count: plan.current_count,
            behind_count: plan.behind_count(),
            deleting_count: plan.deleting_count,
            behind: plan.behind.iter().map(behind).collect(),
            ahead: plan.ahead.clone(),
            diverged: plan.diverged.clone(),
        }
    }
}
