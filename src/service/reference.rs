//! A schema as a set of migrations makes it: what `doctor` compares with, and the proof that a new tenant can be made.

use time::OffsetDateTime;

use super::fleet::to_error;
use crate::domain::error::Result;
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::pg::control::vacancies::{self, Pattern};
use crate::pg::schema::error::ApplyError;
use crate::pg::schema::reference::{self, Reference};
use crate::pg::schema::{build_in_steps, create_roles, drop_some, drop_unfinished};
use crate::pg::{Db, During};

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
            in_steps(db, set, server_version, now).await?
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
    let built = async {
        build_in_steps(db, id, set, now).await?;
        let tx = db.public().await?;
        let reference = reference::read(&tx, &schema, isolation).await?;
        Ok(Reference { in_steps: true, ..reference })
    };
    let built = built.await;
    let tx = db.public().await.during(DURING)?;
    vacancies::set_dropping(&tx, &[id]).await?;
    tx.commit().await.during(DURING)?;
    loop {
        let tx = db.public().await.during(DURING)?;
        let some = drop_some(&tx, &schema, &[]).await.during(DURING)?;
        if !some {
            drop_unfinished(&tx, &schema, isolation).await.during(DURING)?;
            vacancies::delete(&tx, id).await?;
        }
        tx.commit().await.during(DURING)?;
        if !some {
            return Ok(built);
        }
    }
}
