//! What the verbs do to the control plane, in two ways that answer the same: by the services on a database, and by the
//! control API of a server.
//!
//! A method of [`Control`] matches on the two. Its result is a view: what the API answers, which a server sends as it is
//! and a database's record is turned into. So a verb prints the same in both modes. A verb whose work no route does takes
//! the settings of the database instead of a [`Target`].

mod archives;
mod audit;
mod client;
mod copies;
mod events;
mod imports;
mod invitations;
mod keys;
mod members;
mod migrations;
mod named;
mod refusal;
mod rehearsals;
mod tenants;
mod tokens;
mod upload;

use super::{Failure, Program, output};
use crate::app::{Backend, Purpose};

pub(super) use archives::ArchiveView;
pub(super) use audit::{AuditFilter, AuditView, VerdictView};
pub(super) use client::{Client, Connection};
pub(super) use events::EventQuery;
pub(super) use imports::ImportView;
pub(super) use invitations::InvitationView;
pub(super) use keys::KeyView;
pub(super) use members::MemberView;
pub(super) use migrations::{OperationView, PlanView, Steering, failed_in};
pub(super) use named::{Named, not_found};
pub(super) use refusal::FieldView;
pub use refusal::Refusal;
pub(super) use rehearsals::{RehearsalView, TrialView, rehearse_here};
pub(super) use tenants::{RecordView, Step, TenantFilter};
pub(super) use tokens::{NewTokenView, TokenView};
pub(super) use upload::open;

/// The number of rows that one query of a database reads.
const ROWS_AT_ONCE: u16 = 1000;

/// Where a command works.
pub(super) enum Target {
    /// On the database of its settings.
    Database(Box<Program>),
    /// On a server.
    Server(Connection),
}

impl Target {
    /// Returns the settings of the database, for a verb that no route does.
    pub(super) fn database(&self, verb: &str) -> Result<&Program, Failure> {
        match self {
            Self::Database(program) => Ok(program),
            Self::Server(_) => Err(Failure::usage(format!(
                "`rowhouse {verb}` works on a database, and no server does it; leave out --server and ROWHOUSE_SERVER"
            ))),
        }
    }
}

/// An open [`Target`].
pub(super) enum Control {
    /// The services on a database.
    Database(Box<Backend>),
    /// A client of a server.
    Server(Client),
}

/// What a command does with the tenant migrations of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uses {
    /// Nothing: it works beside files that are refused.
    ControlPlane,
    /// It makes tenants of them.
    NewTenants,
}

/// Opens a target, does the work on it and closes it, also if the work failed.
pub(super) async fn on_control<T>(
    target: &Target,
    uses: Uses,
    work: impl AsyncFnOnce(&Control) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut program = match target {
        Target::Server(connection) => {
            let control = Control::Server(Client::new(connection)?);
            return Box::pin(work(&control)).await;
        }
        Target::Database(program) => program.as_ref().clone(),
    };
    if uses == Uses::ControlPlane {
        program.settings.tenant_migrations = None;
        program.options.tenant_migrations = None;
    }
    let purpose = Purpose::Operate;
    let backend = Box::pin(Backend::open_for(purpose, &program, &program.options)).await?;
    let control = Control::Database(Box::new(backend));
    let outcome = match &control {
        Control::Database(backend) if uses == Uses::NewTenants => {
            output::require_isolated(backend, &program)
        }
        _ => Ok(()),
    };
    let outcome = match outcome {
        Ok(()) => Box::pin(work(&control)).await,
        Err(refused) => Err(refused),
    };
    if let Control::Database(backend) = control {
        Box::pin(backend.close()).await;
    }
    outcome
}
