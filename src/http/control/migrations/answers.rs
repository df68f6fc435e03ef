//! The responses about fleet migrations.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::operation::{OperationState, PauseReason, WorkState};
use crate::service::fleet::{Behind, Plan, Record, Work};

/// A fleet migration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Migration)]
pub(in crate::http::control) struct MigrationAnswer {
    id: Uuid,
    /// What is done to each tenant: `migrate`, or `distribute` over the nodes of a cluster.
    #[schema(pattern = "^(migrate|distribute)$")]
    kind: &'static str,
    /// `failed` means that some tenants could not be migrated.
    state: OperationState,
    /// Why it is paused; null unless it is.
    pause_reason: Option<PauseReason>,
    /// The server that runs the migration, or ran it last.
    runner: Option<RunnerAnswer>,
    /// The caller who started it.
    actor: String,
    /// The highest version in the target migration set.
    target_version: i32,
    /// The digest of the target migration set.
    target_fingerprint: String,
    /// The options that it was started with.
    #[schema(value_type = Object)]
    options: Value,
    tenants: CountsAnswer,
    /// Tenants that ended in each of the last ten seconds, on average; null unless it is running.
    done_per_second: Option<f64>,
    /// How long the rest takes at this rate, in seconds; null unless it is running and the rate is known.
    eta_seconds: Option<i64>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
}

/// The server that runs a migration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationRunner)]
pub(super) struct RunnerAnswer {
    host: String,
    pid: i32,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    /// Whether its last heartbeat is recent. A running migration whose runner is not alive waits for `resume`.
    alive: bool,
}

/// The number of tenants of a migration, by state.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationCounts)]
pub(super) struct CountsAnswer {
    total: i64,
    pending: i64,
    running: i64,
    done: i64,
    failed: i64,
    skipped: i64,
    /// Tenants in `total` that are no longer recorded one by one, and so not listed.
    pruned: i64,
}

/// A page of fleet migrations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MigrationList {
    pub(super) data: Vec<MigrationAnswer>,
    /// The `cursor` of the next request; null on the last page.
    pub(super) next_cursor: Option<String>,
}

/// One tenant of a migration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationTenant)]
pub(super) struct TenantAnswer {
    tenant_id: Uuid,
    /// The slug of the tenant when the migration was created.
    slug: String,
    /// Whether the tenant is in the canary.
    canary: bool,
    state: WorkState,
    /// The number of attempts so far.
    attempts: i32,
    /// The migration files that were applied.
    applied: Option<Vec<String>>,
    /// Why the tenant failed or was skipped.
    error: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
}

/// A page of the tenants of a migration.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MigrationTenantList {
    pub(super) data: Vec<TenantAnswer>,
    /// The `cursor` of the next request; null on the last page.
    pub(super) next_cursor: Option<String>,
}

/// The tenants that are behind the migration set, and the files that they lack.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationPlan)]
pub(super) struct PlanAnswer {
    target_version: i32,
    target_fingerprint: String,
    /// The number of tenants that are up to date.
    current_count: i64,
    /// The number of tenants that are behind.
    behind_count: i64,
    /// The number of tenants that are being deleted, which are not migrated.
    deleting_count: i64,
    behind: Vec<BehindAnswer>,
    /// Applied migration sets that are newer than this server's; a migration is refused if there are any.
    ahead: Vec<String>,
    /// Applied migration sets whose files differ from this server's; a migration is refused if there are any.
    diverged: Vec<String>,
}

/// Tenants that lack the same files.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationBehind)]
pub(super) struct BehindAnswer {
    fingerprint: String,
    version: i32,
    count: i64,
    /// Some of these tenants, oldest first.
    slugs: Vec<String>,
    /// The files that they lack.
    files: Vec<String>,
}

impl From<Record> for MigrationAnswer {
    fn from(record: Record) -> Self {
        let alive = record.is_held;
        let counts = record.counts;
        let is_running = alive && record.state == OperationState::Running;
        let rate = is_running.then_some(counts.done_per_second);
        let left = counts.pending + counts.running;
        Self {
            done_per_second: rate,
            eta_seconds: rate.and_then(|rate| seconds_for(left, rate)),
            id: record.id,
            kind: record.kind.as_str(),
            state: record.state,
            pause_reason: record.pause_reason,
            runner: record.holder.map(|holder| RunnerAnswer {
                host: holder.host,
                pid: holder.pid,
                since: holder.since,
                alive,
            }),
            actor: record.actor,
            target_version: record.target_version,
            target_fingerprint: record.target_fingerprint,
            options: record.options,
            tenants: CountsAnswer {
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

/// How long something takes at a rate, in whole seconds.
fn seconds_for(left: i64, rate: f64) -> Option<i64> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "an estimate; a number of tenants is far below 2^52"
    )]
    (rate > 0.0).then(|| (left as f64 / rate).ceil() as i64)
}

impl From<Work> for TenantAnswer {
    fn from(work: Work) -> Self {
        Self {
            tenant_id: work.tenant.uuid(),
            slug: work.slug.as_str().to_owned(),
            canary: work.is_canary,
            state: work.state,
            attempts: work.attempts,
            applied: work.applied,
            error: work.error,
            started_at: work.started_at,
            ended_at: work.ended_at,
        }
    }
}

impl From<Plan> for PlanAnswer {
    fn from(plan: Plan) -> Self {
        Self {
            behind_count: plan.behind_count(),
            target_version: plan.target_version,
            target_fingerprint: plan.target_fingerprint,
            current_count: plan.current_count,
            deleting_count: plan.deleting_count,
            behind: plan.behind.into_iter().map(BehindAnswer::from).collect(),
            ahead: plan.ahead,
            diverged: plan.diverged,
        }
    }
}

impl From<Behind> for BehindAnswer {
    fn from(group: Behind) -> Self {
        Self {
            fingerprint: group.fingerprint,
            version: group.version,
            count: group.count,
            slugs: group.slugs,
            files: group.files,
        }
    }
}
