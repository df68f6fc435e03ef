//! Owns what a fleet operation is: its states and moves, the states of each tenant in it, and the reasons why it
//! is refused.

use std::fmt;

use time::OffsetDateTime;
use uuid::Uuid;

/// A word that is not one of those expected.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not one of the words that were expected")]
pub struct UnknownWord(String);

impl UnknownWord {
    fn new(given: &str) -> Self {
        Self(given.to_owned())
    }
}

/// Declares an enum whose words are in the database and on the wire, in snake case, with its name in the `OpenAPI` document.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident as $schema:ident { $($(#[$variant_doc:meta])* $variant:ident,)+ }) => {
        $(#[$doc])*
        #[derive(
            Debug,
            Clone,
            Copy,
            PartialEq,
            Eq,
            Hash,
            serde::Serialize,
            utoipa::ToSchema,
            strum::Display,
            strum::EnumString,
            strum::IntoStaticStr,
            strum::VariantNames,
        )]
        #[schema(as = $schema)]
        #[serde(rename_all = "snake_case")]
        #[strum(
            serialize_all = "snake_case",
            parse_err_ty = UnknownWord,
            parse_err_fn = UnknownWord::new
        )]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every word, in order of declaration.
            pub const WORDS: &[&str] = <Self as strum::VariantNames>::VARIANTS;

            /// Returns the word in the database and on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                self.into()
            }
        }
    };
}

words! {
    /// What an operation does to each of its tenants.
    OperationKind as MigrationKind {
        /// Brings its schema up to date.
        Migrate,
        /// Places its schema on a node of the cluster.
        Distribute,
    }
}

words! {
    /// The state of an operation.
    OperationState as MigrationState {
        /// Recorded; no runner has begun.
        Planned,
        /// A runner works on it, or died while doing so: its lease tells which.
        Running,
        /// No further tenant is begun until it is resumed.
        Paused,
        /// Every tenant is migrated, or was skipped with a reason.
        Done,
        /// Every tenant was tried, and some could not be migrated.
        Failed,
        /// Cancelled; the tenants that were not begun stay as they are.
        Cancelled,
    }
}

words! {
    /// The state of one tenant in an operation.
    WorkState as MigrationTenantState {
        /// Not begun.
        Pending,
        /// A worker migrates it.
        Running,
        /// Migrated.
        Done,
        /// Could not be migrated; it is unchanged.
        Failed,
        /// Skipped: gone or being deleted meanwhile, or the operation was cancelled.
        Skipped,
    }
}

words! {
    /// The reason why an operation is paused.
    PauseReason as MigrationPauseReason {
        /// An operator asked for it.
        Asked,
        /// The canary is done.
        Canary,
        /// A tenant of the canary failed.
        CanaryFailed,
        /// The allowed number of tenants failed.
        MaxFailures,
    }
}

words! {
    /// What follows a successful canary.
    Then as MigrationCanaryThen {
        /// Pause until an operator resumes the operation.
        Pause,
        /// Continue with the remaining tenants.
        Continue,
    }
}

/// A move of an operation from one state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A runner acquires it, or recovers it from a runner that is gone.
    Acquire,
    /// Begin no further tenant.
    Pause,
    /// Cancel it.
    Cancel,
    /// Try the failed tenants again.
    Retry,
    /// No tenant is left to try.
    End {
        /// Whether some tenants failed.
        some_failed: bool,
    },
}

impl OperationState {
    /// Returns whether it can still progress, by itself or when resumed; one operation at a time is open.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Planned | Self::Running | Self::Paused)
    }

    /// Returns the state after a step.
    ///
    /// # Errors
    /// [`FleetProblem::IllegalMove`] with the present state.
    pub fn after(self, step: Step) -> Result<Self, FleetProblem> {
        match (step, self) {
            (Step::Acquire, Self::Planned | Self::Running | Self::Paused) => Ok(Self::Running),
            // Pausing is idempotent: two operators may pause at the same time.
            (Step::Pause, Self::Planned | Self::Running | Self::Paused) => Ok(Self::Paused),
            (Step::Cancel, Self::Planned | Self::Running | Self::Paused | Self::Cancelled) => {
                Ok(Self::Cancelled)
            }
            // Back to the state in which a runner acquires it.
            (Step::Retry, Self::Failed | Self::Paused) => Ok(Self::Planned),
            (Step::End { some_failed: true }, Self::Running) => Ok(Self::Failed),
            (Step::End { some_failed: false }, Self::Running) => Ok(Self::Done),
            (
                Step::Acquire | Step::Pause | Step::Cancel | Step::Retry | Step::End { .. },
                state,
            ) => Err(FleetProblem::IllegalMove(state)),
        }
    }
}

/// The process that holds the lease of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOwner {
    /// The operation.
    pub operation: Uuid,
    /// The host name of the machine.
    pub host: String,
    /// The id of the process.
    pub pid: i32,
    /// When it acquired the lease.
    pub since: OffsetDateTime,
}

impl fmt::Display for LeaseOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.replace_nanosecond(0).unwrap_or(self.since);
        let since = since
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap_or_else(|_unwritten| since.to_string());
        write!(
            f,
            "operation {} is run by process {} on {} since {since}",
            self.operation, self.pid, self.host
        )
    }
}

/// The reason why a fleet operation does not start, or does not move as requested.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum FleetProblem {
    /// Another process runs it.
    #[error("{0}")]
    #[strum(serialize = "migration_running")]
    Held(LeaseOwner),
    /// Another operation is open, and no process runs it.
    #[error("operation {id} is {state}: resume or cancel it first")]
    #[strum(serialize = "migration_open")]
    Open {
        /// The open operation.
        id: Uuid,
        /// Its state: planned, running without a live runner, or paused.
        state: OperationState,
    },
    /// The operation's state does not allow the step.
    #[error("the operation is {0}")]
    IllegalMove(OperationState),
    /// The operation was created for another migration set than this program has.
    #[error("the operation migrates to another set of migrations than this program has")]
    #[strum(serialize = "other_migrations")]
    OtherSet,
    /// Some of the failed tenants are no longer in the ledger.
    #[error("the tenants that failed are no longer in the ledger: start another migration")]
    #[strum(serialize = "migration_pruned")]
    Pruned,
    /// Some tenants were migrated by a newer program.
    #[error("the database is ahead of this program: {}", .0.join("; "))]
    #[strum(serialize = "migrations_ahead")]
    Ahead(Vec<String>),
    /// The applied migrations of some tenants differ from the files of this program.
    #[error("the migrations do not fit: {}; `rowhouse migrate repair` shows what can be done", .0.join("; "))]
    #[strum(serialize = "migrations_diverged")]
    Diverged(Vec<String>),
    /// No new tenant can be made from the migrations; the reason names the file.
    #[error("no new tenant can be made from the migrations: {0}")]
    #[strum(serialize = "new_tenants_blocked")]
    NewTenantsBlocked(String),
}

impl FleetProblem {
    /// Returns the stable code for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.into()
    }

    /// Whether the caller's request is not at fault: an operator must correct the migrations.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::NewTenantsBlocked(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_legal_moves_succeed_and_every_state_is_reachable() {
        use OperationState::{Cancelled, Done, Failed, Paused, Planned, Running};
        let all = [Planned, Running, Paused, Done, Failed, Cancelled];
        let legal = [
            (Planned, Step::Acquire, Running),
            (Running, Step::Acquire, Running),
            (Paused, Step::Acquire, Running),
            (Planned, Step::Pause, Paused),
            (Running, Step::Pause, Paused),
            (Paused, Step::Pause, Paused),
            (Planned, Step::Cancel, Cancelled),
            (Running, Step::Cancel, Cancelled),
            (Paused, Step::Cancel, Cancelled),
            (Cancelled, Step::Cancel, Cancelled),
            (Failed, Step::Retry, Planned),
            (Paused, Step::Retry, Planned),
            (Running, Step::End { some_failed: false }, Done),
            (Running, Step::End { some_failed: true }, Failed),
        ];
        let steps = [
            Step::Acquire,
            Step::Pause,
            Step::Cancel,
            Step::Retry,
            Step::End { some_failed: false },
            Step::End { some_failed: true },
        ];
        for state in all {
            for step in steps {
                let expected = legal.iter().find(|(from, by, _)| (*from, *by) == (state, step));
                let expected = expected.map(|(.., to)| *to).ok_or(FleetProblem::IllegalMove(state));
                assert_eq!(state.after(step), expected, "{state} {step:?}");
            }
        }
        for state in all {
            assert!(state == Planned || legal.iter().any(|(.., to)| *to == state), "{state}");
            assert_eq!(state.as_str().parse::<OperationState>().unwrap(), state);
        }
    }

    #[test]
    fn a_lease_owner_is_described_by_operation_process_host_and_time() {
        let holder = LeaseOwner {
            operation: Uuid::nil(),
            host: "web-1".to_owned(),
            pid: 7,
            since: OffsetDateTime::UNIX_EPOCH,
        };
        assert_eq!(
            FleetProblem::Held(holder).to_string(),
            "operation 00000000-0000-0000-0000-000000000000 is run by process 7 on web-1 since 1970-01-01T00:00:00Z"
        );
    }
}
