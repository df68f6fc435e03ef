//! One run of an operation: what it was acquired with, the events that it sends, and the counters of this process.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

use crate::domain::names::{Slug, TenantId};
use crate::domain::operation::Then;
use crate::pg::control::operation_tenants::End;
use crate::pg::control::operations::Record;
use crate::pg::scope::Flush;
use crate::service::fleet::stop::StopReason;

/// Something that happened during a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run starts.
    Started {
        /// The operation as it was acquired.
        record: Box<Record>,
        /// Tenants at the same time.
        workers: usize,
    },
    /// A tenant is tried again after a pause.
    Retrying {
        /// The tenant.
        slug: Slug,
        /// Why the last attempt failed.
        reason: String,
    },
    /// The work on a tenant ended.
    Ended {
        /// The tenant.
        id: TenantId,
        /// Its slug.
        slug: Slug,
        /// How it ended.
        end: End,
        /// Attempts so far, this one included.
        attempts: i32,
    },
}

/// The receiver of the events of a run.
pub type Events = Arc<dyn Fn(&Event) + Send + Sync>;

/// What this process has done, for the metrics.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Operations that run now.
    pub(super) running: AtomicUsize,
    /// Tenants that were migrated.
    pub(super) done: AtomicUsize,
    /// Tenants that could not be migrated.
    pub(super) failed: AtomicUsize,
    /// Attempts that were repeated.
    pub(super) again: AtomicUsize,
}

/// An operation whose lease this process has acquired.
pub(super) struct Run {
    pub(super) record: Record,
    pub(super) runner: Uuid,
    pub(super) workers: usize,
    pub(super) flush: Flush,
    /// When the lease ends unless it is renewed, by the database's clock.
    pub(super) lease_until: watch::Sender<OffsetDateTime>,
    pub(super) other_rights: HashSet<String>,
    pub(super) max_failures: Option<usize>,
    /// What follows a canary that went well.
    pub(super) then: Then,
    pub(super) stop: watch::Sender<Option<StopReason>>,
    pub(super) stopped: watch::Receiver<Option<StopReason>>,
}
