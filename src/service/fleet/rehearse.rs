//! Tries the migration on one schema in a transaction that is rolled back.
//!
//! A file that runs outside of a transaction is tried inside of one, without its `CONCURRENTLY`, so the tables
//! of that one tenant are locked as long as the rehearsal takes.

use time::OffsetDateTime;

use super::{Engine, to_error};
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::error::During;
use crate::pg::migrations::MigrationError;
use crate::pg::schemas::Then;
use crate::pg::scope::Flush;
use crate::pg::{Db, migration_sets, schemas};

/// What a migration would do to one schema.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// The schema.
    pub schema: SchemaName,
    /// What would be applied, or the file and line that would fail.
    pub outcome: Result<Vec<String>, String>,
}

/// On a tenant, or where none is named on the first that is behind; nothing where nobody is.
pub(super) async fn on_tenant(
    engine: &Engine,
    db: &Db,
    named: Option<&str>,
    now: OffsetDateTime,
) -> Result<Option<Rehearsal>> {
    let tx = db.public().await.during("rehearse a migration")?;
    let tenant = if let Some(named) = named {
        let found = migration_sets::resolve(&tx, &[named.to_owned()]).await?;
        let id = found.get(named).copied();
        Some(id.map(TenantId::new).ok_or(Error::NotFound(Noun::Tenant))?)
    } else {
        let groups = migration_sets::groups(&tx, None).await?;
        let behind = groups.iter().find(|g| g.fingerprint != engine.set.fingerprint());
        behind.map(|group| group.first)
    };
    drop(tx);
    match tenant {
        Some(tenant) => on_schema(engine, db, &SchemaName::of(tenant), now).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn on_schema(
    engine: &Engine,
    db: &Db,
    schema: &SchemaName,
    now: OffsetDateTime,
) -> Result<Rehearsal> {
    let outcome = match attempt(engine, db, schema, now).await {
        Ok(files) => Ok(files),
        // The file is not to blame: somebody holds a lock, or the database is away.
        Err(error @ (MigrationError::Database(_) | MigrationError::Interrupted { .. })) => {
            return Err(to_error("rehearse a migration", error));
        }
        Err(error) => Err(error.to_string()),
    };
    Ok(Rehearsal { schema: schema.clone(), outcome })
}

async fn attempt(
    engine: &Engine,
    db: &Db,
    schema: &SchemaName,
    now: OffsetDateTime,
) -> Result<Vec<String>, MigrationError> {
    let entered = schemas::enter(db, schema, Flush::Now).await?;
    let (set, rules) = (&engine.set, db.rules());
    let files = set.pending(&entered.applied)?;
    schemas::catch_up(&entered, schema, set, &files, rules, now, Then::Nothing).await?;
    drop(entered); // and with it everything that was done
    Ok(set.names(&files))
}
