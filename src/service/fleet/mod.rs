//! Migrates all tenants: brings every schema up to date, one transaction a tenant.
//!
//! An operation is a row in the ledger (`public.operations`) before anything is done, with a row for each tenant that
//! is behind. The process that runs it holds a lease on it, which every process can see; when the lease expires, any
//! process can continue the operation. A tenant's migration and its schema's history are committed together, so
//! wherever a runner dies, each tenant is migrated once or not at all. The tenant's own row and the ledger are
//! updated a moment later, for many tenants at a time; if the runner dies before that, the next one does it. A tenant
//! that fails is named and left as it was; the others are migrated.
//!
//! Suspended tenants are migrated, because they come back as they are. Tenants that are being deleted are not
//! begun: one that is restored is behind, and the next operation finds it.
//!
//! - [`commands`]: [`Fleet`], which starts, runs, pauses, cancels and retries operations; [`queries`]: reads them;
//!   [`request`]: what is asked for.
//! - [`plan`]: which tenants are behind by what, from one query.
//! - [`rehearse`]: a migration of one schema that is rolled back.
//! - [`engine`]: what this process runs operations with; [`run`]: a run, from the lease to its end; [`drain`]: the
//!   loop of a run; [`workers`]: what takes tenants from a [`queue`]; [`migrate_one`]: what is done to each;
//!   [`recorder`]: records it; [`retry`], [`breaks`] and [`stop`]: when an attempt is repeated, when a file
//!   that ends its connection is to blame, and why a run stops.
//! - [`distribute`]: the operation that places tenants on the nodes of a cluster.
//! - [`repair`]: repairs the histories of tenants that contradict the files.
//! - [`recovery`]: continues an operation whose runner is gone.
//! - [`prune`]: deletes the ledger's rows of tenants of old operations.

mod audit;
mod breaks;
mod commands;
mod distribute;
mod drain;
mod engine;
mod error;
mod job;
mod migrate_one;
mod plan;
mod prune;
mod queries;
mod queue;
mod recorder;
mod recovery;
mod rehearse;
mod repair;
mod request;
mod retry;
mod run;
mod stop;
mod workers;

pub use self::commands::Fleet;
pub use self::engine::{Engine, Limits};
pub(super) use self::error::to_error;
pub use self::job::{Event, Events};
pub use self::plan::{Behind, Plan};
pub(super) use self::plan::{contradiction, make as plan_of};
pub use self::recovery::RecoveryOutcome;
pub use self::rehearse::{Rehearsal, RehearsalTarget, SchemaOwner, Trial, TrialEnd, outcome_of};
pub use self::repair::{TenantRepair, in_json as change_in_json};
pub(super) use self::request::resolve;
pub use self::request::{Canary, MigrationRequest};
pub use crate::migrations::repair::{Change, RepairRequest};
pub use crate::pg::control::operation_tenants::{
    End, Filter as WorkFilter, Order as WorkOrder, Work,
};
pub use crate::pg::control::operations::{Counts, Record};
