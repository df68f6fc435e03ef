//! Knows whether new tenants can be made from this program's migrations, and if not, why.
//!
//! A set that migrates every tenant that is there may still make no new one: its files ran in several releases, and a
//! new tenant runs them all at once. So a tenant is built from the whole set and taken back, at the start of a server
//! and before the fleet is migrated. A set that contradicts what the tenants have applied makes no new ones either:
//! each would be one more that does not fit once the files are corrected.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use time::OffsetDateTime;

use super::{fleet, reference};
use crate::domain::error::Result;
use crate::domain::operation::FleetProblem;
use crate::migrations::MigrationSet;
use crate::pg::{Db, During};

/// Whether new tenants can be made. Cheap to clone; the clones share what is known.
#[derive(Clone)]
pub struct NewTenants(Arc<Inner>);

struct Inner {
    db: Db,
    set: Arc<MigrationSet>,
    server_version: u32,
    /// Whether a new tenant is built in several transactions.
    in_steps: AtomicBool,
    /// Whether the set was compared with what the tenants have applied.
    is_compared: AtomicBool,
    /// Why no tenant can be made, as far as is known.
    obstacle: Mutex<Option<Obstacle>>,
    /// What was logged last.
    logged: Mutex<Option<Obstacle>>,
}

/// Why no tenant can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Obstacle {
    /// The set contradicts what existing tenants have applied.
    Contradiction(String),
    /// The set cannot be built.
    Unbuildable(String),
}

impl Obstacle {
    fn problem(self) -> FleetProblem {
        let (Self::Contradiction(reason) | Self::Unbuildable(reason)) = self;
        FleetProblem::NewTenantsBlocked(reason)
    }
}

impl NewTenants {
    /// Nothing is known of the set until [`check`](Self::check).
    #[must_use]
    pub(super) fn new(db: Db, set: Arc<MigrationSet>, server_version: u32) -> Self {
        Self(Arc::new(Inner {
            db,
            set,
            server_version,
            in_steps: AtomicBool::new(false),
            is_compared: AtomicBool::new(false),
            obstacle: Mutex::default(),
            logged: Mutex::default(),
        }))
    }

    /// Builds a tenant from the set and takes it back, and remembers the outcome.
    ///
    /// # Errors
    /// [`FleetProblem::NewTenantsBlocked`] with the file and the line; those of the database.
    pub(super) async fn check(&self, now: OffsetDateTime) -> Result<()> {
        self.check_fit(now).await?;
        self.check_build(now).await
    }

    /// As [`check`](Self::check), for a set that the caller has compared with what all tenants have applied.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(super) async fn check_build(&self, now: OffsetDateTime) -> Result<()> {
        let inner = &self.0;
        inner.is_compared.store(true, Ordering::Relaxed);
        let proven = reference::prove(&inner.db, &inner.set, inner.server_version, now).await?;
        let outcome = proven.map(|in_steps| inner.in_steps.store(in_steps, Ordering::Relaxed));
        self.note(outcome.map_err(Obstacle::Unbuildable))
    }

    /// Checks that the set does not contradict what the tenants have applied.
    ///
    /// # Errors
    /// [`FleetProblem::NewTenantsBlocked`] with a sentence that names the file and tenants; those of the database.
    pub(super) async fn check_fit(&self, now: OffsetDateTime) -> Result<()> {
        let during = "compare the migrations with those of the tenants";
        let tx = self.0.db.public().await.during(during)?;
        let found = fleet::contradiction(&tx, &self.0.set, now).await?;
        tx.commit().await.during(during)?;
        self.0.is_compared.store(true, Ordering::Relaxed);
        if let Some(reason) = found {
            return self.note(Err(Obstacle::Contradiction(reason)));
        }
        let contradicted = matches!(*self.obstacle(), Some(Obstacle::Contradiction(_)));
        if contradicted {
            self.set(None);
        }
        Ok(())
    }

    /// Whether new tenants can be made, as far as is known.
    #[must_use]
    pub(super) fn are_possible(&self) -> bool {
        self.obstacle().is_none()
    }

    /// Whether a new tenant is built in several transactions.
    pub(super) fn in_steps(&self) -> bool {
        self.0.in_steps.load(Ordering::Relaxed)
    }

    /// Refuses while the set contradicts what the tenants have applied, as far as is known. Compares them on first use.
    pub(super) async fn require_fit(&self, now: OffsetDateTime) -> Result<()> {
        if !self.0.is_compared.load(Ordering::Relaxed) {
            return self.check_fit(now).await;
        }
        match self.obstacle().clone() {
            Some(obstacle @ Obstacle::Contradiction(_)) => Err(obstacle.problem().into()),
            Some(Obstacle::Unbuildable(_)) | None => Ok(()),
        }
    }

    /// Remembers that a tenant could not be built because of this file, and returns the error for the caller.
    pub(super) fn note_unbuildable(&self, reason: String) -> FleetProblem {
        let obstacle = Obstacle::Unbuildable(reason);
        self.set(Some(obstacle.clone()));
        self.log_change();
        obstacle.problem()
    }

    /// Remembers that the set needs several transactions.
    pub(super) fn note_steps(&self) {
        self.0.in_steps.store(true, Ordering::Relaxed);
    }

    /// Remembers that a tenant was built.
    pub(super) fn note_built(&self) {
        self.set(None);
        self.log_change();
    }

    fn note(&self, outcome: Result<(), Obstacle>) -> Result<()> {
        let (obstacle, outcome) = match outcome {
            Ok(()) => (None, Ok(())),
            Err(obstacle) => (Some(obstacle.clone()), Err(obstacle.problem().into())),
        };
        self.set(obstacle);
        outcome
    }

    fn set(&self, obstacle: Option<Obstacle>) {
        *self.obstacle() = obstacle;
    }

    /// Logs what is known if it has changed since the last time.
    pub(super) fn log_change(&self) {
        let known = self.obstacle().clone();
        let mut logged = self.0.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if *logged == known {
            return;
        }
        match &known {
            Some(Obstacle::Contradiction(reason) | Obstacle::Unbuildable(reason)) => {
                tracing::error!(reason, "no new tenant can be made from the migrations");
            }
            None => tracing::info!("new tenants can be made again"),
        }
        *logged = known;
    }

    fn obstacle(&self) -> std::sync::MutexGuard<'_, Option<Obstacle>> {
        self.0.obstacle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
