//! A schema as a set of migrations makes it: what `doctor` compares with, and the proof that a new tenant can be made.

use time::OffsetDateTime;

use super::fleet::to_error;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::pg::control::vacancies::{self, Pattern, State};
use crate::pg::schema::error::ApplyError;
use crate::pg::schema::reference::{self, Reference};
use crate::pg::schema::{build_in_steps, create_roles};
use crate::pg::{Db, During, PublicTx};
use crate::service::vacancies::dropping::drop_piece;

/// How often a schema is built that another process takes.
const TRIES: u32 = 5;

const DURING: &str = "build a schema from the migrations";

/// Builds a schema from the set, reads it and takes it back. The inner error says why no schema can be built, with file
/// and line.
///
/// # Errors
/// Those of the database.
pub(super) async fn build(
    db: &Db,
    set: &MigrationSet,
    server_version: u32,
    now: OffsetDateTime,
) -> Result<Result<Reference, String>> {
    let built = match reference::build(db, set, server_version).await {
        Err(ApplyError::Failed { needs_commit: true, .. }) => {
            match Held::build(db, set, server_version, now).await? {
                Ok(held) => {
                    let (schema, isolation) = (SchemaName::of(held.id), db.rules().isolation);
                    let reference = reference::read(&held.tx, &schema, isolation).await;
                    held.take_back(db).await?;
                    Ok(reference.during(DURING)?)
                }
                Err(error) => Err(error),
            }
        }
        built => built,
    };
    reason_of(built)
}

/// Builds a schema from the set and takes it back; returns whether that takes several transactions. The inner error says
/// why no schema can be built, with file and line.
///
/// # Errors
/// Those of the database.
pub(super) async fn prove(
    db: &Db,
    set: &MigrationSet,
    server_version: u32,
    now: OffsetDateTime,
) -> Result<Result<bool, String>> {
    let in_steps = match reference::prove(db, set, server_version).await {
        Err(ApplyError::Failed { needs_commit: true, .. }) => {
            match Held::build(db, set, server_version, now).await? {
                Ok(held) => {
                    held.take_back(db).await?;
                    Ok(true)
                }
                Err(error) => Err(error),
            }
        }
        proven => proven.map(|()| false),
    };
    reason_of(in_steps)
}

/// Separates the fault of the set from that of the database.
fn reason_of<T>(built: Result<T, ApplyError>) -> Result<Result<T, String>> {
    match built {
        Ok(built) => Ok(Ok(built)),
        Err(error @ (ApplyError::Failed { .. } | ApplyError::History(_))) => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(to_error(DURING, error)),
    }
}

/// A vacancy that was built in steps and is locked in its state, so that no other process finishes it. If the process
/// dies, it is finished or dropped like any other.
struct Held {
    tx: PublicTx,
    id: TenantId,
}

impl Held {
    /// Builds a schema as a vacancy that never becomes ready. The inner error is that of a file; nothing is left then.
    async fn build(
        db: &Db,
        set: &MigrationSet,
        server_version: u32,
        now: OffsetDateTime,
    ) -> Result<Result<Self, ApplyError>> {
        for _ in 0..TRIES {
            let id = TenantId::generate();
            let schema = SchemaName::of(id);
            let tx = db.public().await.during(DURING)?;
            create_roles(&tx, std::slice::from_ref(&schema), db.rules(), server_version)
                .await
                .during(DURING)?;
            let pattern = Pattern::of(set, db.rules().isolation);
            vacancies::insert(&tx, &[id], &pattern, now).await?;
            tx.commit().await.during(DURING)?;
            let built = build_in_steps(db, id, set, now).await;
            let tx = db.public().await.during(DURING)?;
            // False if a process that keeps a stock has finished it: by now it may be a tenant.
            let is_held = vacancies::lock_in(&tx, id, State::Building).await?;
            let held = Self { tx, id };
            match built {
                Ok(_is_there) if is_held => return Ok(Ok(held)),
                Ok(_is_there) => {}
                Err(error) => {
                    if is_held {
                        held.take_back(db).await?;
                    }
                    return Ok(Err(error));
                }
            }
        }
        Err(Error::Conflict(Conflict::Concurrent))
    }

    /// Drops the vacancy, unless another process does.
    async fn take_back(self, db: &Db) -> Result<()> {
        let Self { tx, id } = self;
        vacancies::set_dropping(&tx, &[id]).await?;
        tx.commit().await.during(DURING)?;
        loop {
            let tx = db.public().await.during(DURING)?;
            // As every other process that drops a vacancy.
            vacancies::lock(&tx).await?;
            if !vacancies::lock_in(&tx, id, State::Dropping).await? {
                return Ok(());
            }
            drop_piece(tx, id).await?;
        }
    }
}
