//! Owns what a piece of work on the whole fleet is: its states and how they may move, those of each tenant
//! in it, and why it may not begin.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;
use uuid::Uuid;

/// A word that is none of those that were expected.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not one of the words that were expected")]
pub struct UnknownWord(String);

/// An enum of words that stand in the database and on the wire.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The words, for those who choose one.
            pub const WORDS: &[&str] = &[$($word),+];

            /// The word in the database and on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(given: &str) -> Result<Self, Self::Err> {
                match given {
                    $($word => Ok(Self::$variant),)+
                    other => Err(UnknownWord(other.to_owned())),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Where an operation is in its life.
    OperationState {
        /// Written down; nobody has begun.
        Planned = "planned",
        /// Somebody works on it, or died doing so: the lease tells.
        Running = "running",
        /// Nobody begins another tenant until it is resumed.
        Paused = "paused",
        /// Every tenant is migrated, or was left out with a reason.
        Done = "done",
        /// Every tenant was tried, and some could not be migrated.
        Failed = "failed",
        /// Given up; what was not begun is not done.
        Cancelled = "cancelled",
    }
}

words! {
    /// Where one tenant of an operation is.
    WorkState {
        /// Not begun.
        Pending = "pending",
        /// A runner has it.
        Running = "running",
        /// Migrated.
        Done = "done",
        /// Could not be migrated; it is as it was.
        Failed = "failed",
        /// Left out: gone or being deleted meanwhile, or the operation was cancelled.
        Skipped = "skipped",
    }
}

words! {
    /// Why an operation is paused.
    PauseReason {
        /// Somebody asked.
        Asked = "asked",
        /// The canary is done.
        Canary = "canary",
        /// A tenant of the canary failed.
        CanaryFailed = "canary_failed",
        /// As many tenants failed as were allowed to.
        MaxFailures = "max_failures",
    }
}

words! {
    /// What follows a canary that went well.
    Then {
        /// Wait for somebody to resume.
        Pause = "pause",
        /// Go on with the rest.
        Continue = "continue",
    }
}

/// A step in an operation's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Somebody begins to work on it, for the first time or in the place of one who is gone.
    TakeUp,
    /// Begin no more tenants.
    Pause,
    /// Give it up.
    Cancel,
    /// Try those again that failed.
    Retry,
    /// No tenant is left to try.
    End {
        /// Whether some failed.
        some_failed: bool,
    },
}

impl OperationState {
    /// Whether it may still move by itself or by somebody's resuming it; one operation at a time is open.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Planned | Self::Running | Self::Paused)
    }

    /// The state after a step.
    ///
    /// # Errors
    /// [`FleetProblem::IllegalMove`] with the present state.
    pub fn after(self, step: Step) -> Result<Self, FleetProblem> {
        match (step, self) {
            (Step::TakeUp, Self::Planned | Self::Running | Self::Paused) => Ok(Self::Running),
            // Pausing what is paused is as good as once: two people may have the same thought.
            (Step::Pause, Self::Planned | Self::Running | Self::Paused) => Ok(Self::Paused),
            (Step::Cancel, Self::Planned | Self::Running | Self::Paused | Self::Cancelled) => {
                Ok(Self::Cancelled)
            }
            // Back to where a runner takes it up.
            (Step::Retry, Self::Failed | Self::Paused) => Ok(Self::Planned),
            (Step::End { some_failed: true }, Self::Running) => Ok(Self::Failed),
            (Step::End { some_failed: false }, Self::Running) => Ok(Self::Done),
            (Step::TakeUp | Step::Pause | Step::Cancel | Step::Retry | Step::End { .. }, state) => {
                Err(FleetProblem::IllegalMove(state))
            }
        }
    }
}

/// Who works on an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The operation.
    pub operation: Uuid,
    /// The machine.
    pub host: String,
    /// The process on it.
    pub pid: i32,
    /// Since when.
    pub since: OffsetDateTime,
}

impl fmt::Display for Holder {
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

/// Why work on the fleet does not begin, or does not move as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FleetProblem {
    /// Somebody is at it.
    #[error("{0}")]
    Held(Holder),
    /// Another operation is open, and nobody works on it.
    #[error("operation {id} is {state}: resume or cancel it first")]
    Open {
        /// Which.
        id: Uuid,
        /// Planned, running without a runner, or paused.
        state: OperationState,
    },
    /// The operation's state does not allow the step.
    #[error("the operation is {0}")]
    IllegalMove(OperationState),
    /// The operation was made for another set of migrations than this program has.
    #[error("the operation migrates to another set of migrations than this program has")]
    OtherSet,
    /// The tenants that failed, or some of them, are no longer in the ledger.
    #[error("the tenants that failed are no longer in the ledger: start another migration")]
    Pruned,
    /// Some tenants were migrated by a newer program.
    #[error("the database is ahead of this program: {}", .0.join("; "))]
    Ahead(Vec<String>),
    /// What some tenants were migrated by is not what lies here.
    #[error("the migrations do not fit: {}", .0.join("; "))]
    Diverged(Vec<String>),
}

impl FleetProblem {
    /// A word for machines.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Held(_) => "migration_running",
            Self::Open { .. } => "migration_open",
            Self::IllegalMove(_) => "illegal_move",
            Self::OtherSet => "other_migrations",
            Self::Pruned => "migration_pruned",
            Self::Ahead(_) => "migrations_ahead",
            Self::Diverged(_) => "migrations_diverged",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_legal_moves_are_made_and_every_state_can_be_reached() {
        use OperationState::{Cancelled, Done, Failed, Paused, Planned, Running};
        let all = [Planned, Running, Paused, Done, Failed, Cancelled];
        let legal = [
            (Planned, Step::TakeUp, Running),
            (Running, Step::TakeUp, Running),
            (Paused, Step::TakeUp, Running),
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
            Step::TakeUp,
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
    fn a_holder_is_named_by_machine_process_time_and_operation() {
        let holder = Holder {
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
