//! A schema as a set of migrations makes it: what `doctor` compares with, and the proof that a new tenant can be made.

use time::OffsetDateTime;

use super::fleet::to_error;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::pg::control::vacancies::{self, Pattern, State};
use crate::pg::schema::error::ApplyError;
use crate::pg::schema::reference::{self, Reference};
use crate::pg::schema::{build_in_steps, create_roles, drop_some, drop_unfinished};
use crate::pg::{Db, During};

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
            let mut tries = 1;
            loop {
                match in_steps(db, set, server_version, now).await {
                    // A process that keeps a stock has finished the schema, for its stock.
                    Err(Error::Conflict(Conflict::Concurrent)) if tries < TRIES => tries += 1,
                    built => break built?,
                }
            }
        }
        built => built,
    };
    match built {
        Ok(reference) => Ok(Ok(reference)),
        Err(error @ (ApplyError::Failed { .. } | ApplyError::History(_))) => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(to_error(DURING, error)),
    }
}

/// Builds the schema as a vacancy that never becomes ready, reads it and drops it. If the process dies meanwhile, the
/// vacancy is finished or dropped like any other.
async fn in_steps(
    db: &Db,
    set: &MigrationSet,
    server_version: u32,
    now: OffsetDateTime,
) -> Result<Result<Reference, ApplyError>> {
    let id = TenantId::generate();
    let (schema, isolation) = (SchemaName::of(id), db.rules().isolation);
    let tx = db.public().await.during(DURING)?;
    create_roles(&tx, std::slice::from_ref(&schema), db.rules(), server_version)
        .await
        .during(DURING)?;
    vacancies::insert(&tx, &[id], &Pattern::of(set, isolation), now).await?;
    tx.commit().await.during(DURING)?;
    let built = build_in_steps(db, id, set, now).await;
    let tx = db.public().await.during(DURING)?;
    // From here on no other process finishes it. One that has done so already may have given it to a tenant.
    if !vacancies::lock_in(&tx, id, State::Building).await? {
        return built
            .map_or_else(|error| Ok(Err(error)), |_| Err(Error::Conflict(Conflict::Concurrent)));
    }
    let built = match built {
        Ok(_is_there) => {
            let reference = reference::read(&tx, &schema, isolation).await.during(DURING)?;
            Ok(Reference { in_steps: true, ..reference })
        }
        Err(error) => Err(error),
    };
    vacancies::set_dropping(&tx, &[id]).await?;
    tx.commit().await.during(DURING)?;
    loop {
        let tx = db.public().await.during(DURING)?;
        // As every other process that drops a vacancy.
        vacancies::lock(&tx).await?;
        if !vacancies::lock_in(&tx, id, State::Dropping).await? {
            return Ok(built); // another process has dropped it
        }
        let some = drop_some(&tx, &schema, &[]).await.during(DURING)?;
        if !some {
            drop_unfinished(&tx, &schema, isolation).await.during(DURING)?;
            vacancies::delete(&tx, id).await?;
        }
        tx.commit().await.during(DURING)?;
    }
}
