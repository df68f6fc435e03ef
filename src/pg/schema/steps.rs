//! Builds a schema file by file, each in a transaction of its own, for a set whose files do not all run in one: a value
//! that one file adds to an enum can be used only once it is committed.
//!
//! The schema is that of a vacancy that is being built, so it belongs to no tenant until it is whole. If the process
//! dies, the next one continues with the files that the history lacks.

use time::OffsetDateTime;

use super::error::ApplyError;
use super::frame::Frame;
use super::{Completion, create_without_role, enter_new, history};
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::pg::db::Db;
use crate::pg::scope::Flush;

/// Brings the schema of a vacancy that is being built, and has its role, up to date with the set. Creates the schema if
/// it does not exist. Returns false if there is no such vacancy any more.
///
/// # Errors
/// The file that failed; the files before it stay applied.
pub async fn build_in_steps(
    db: &Db,
    vacancy: TenantId,
    set: &MigrationSet,
    now: OffsetDateTime,
) -> Result<bool, ApplyError> {
    let (schema, rules) = (SchemaName::of(vacancy), db.rules());
    loop {
        let tx = db.public().await?;
        // A subquery, so that the row is locked before the schema is looked for: another process may have created it
        // while this one waited.
        let row = "SELECT to_regnamespace($2) IS NOT NULL AS has_schema
                     FROM (SELECT FROM vacancies WHERE id = $1 AND state = 'building' FOR UPDATE) AS locked";
        let Some(row) = tx.query_opt(row, &[&vacancy, &schema.as_str()]).await? else {
            return Ok(false);
        };
        if !row.get::<_, bool>("has_schema") {
            create_without_role(&tx, &schema, rules).await?;
        }
        enter_new(&tx, &schema, rules).await?;
        let applied = history::read(&tx, &schema).await?;
        let Some(next) = set.pending(&applied)?.each().into_iter().next() else {
            return Ok(true);
        };
        let frame = Frame::new(set, &schema, rules, Flush::Now);
        set.run(&tx, &next, &frame, "SELECT 1", Completion::Commit, now).await?;
    }
}
