//! Tells of tenants that cannot be entered, as after a restore of the database without the roles, which belong to the
//! server.

use super::error::BootstrapError;
use crate::pg::catalog::unreachable::list_unreachable;
use crate::pg::db::Db;

/// How many of them are named.
const NAMED: usize = 3;

/// Returns a sentence if there are tenants that cannot be entered.
///
/// # Errors
/// [`BootstrapError`].
pub async fn half_restored(db: &Db) -> Result<Option<String>, BootstrapError> {
    let tx = db.public().await?;
    let found = list_unreachable(&tx, db.rules().isolation).await?;
    if found.is_empty() {
        return Ok(None);
    }
    let count = "SELECT count(*) AS count FROM tenants WHERE purge_started_at IS NULL";
    let all: i64 = tx.query_one(count, &[]).await?.get("count");
    let schemas = found.iter().filter(|tenant| tenant.lacks_schema).count();
    let examples: Vec<&str> = found.iter().take(NAMED).map(|tenant| tenant.slug.as_str()).collect();
    Ok(Some(format!(
        "{} of {all} tenants cannot be entered, {} among them: {schemas} have no schema, {} have no role that the \
         server can use, as after a restore without the roles; `rowhouse doctor` lists them, and `rowhouse doctor --fix` \
         makes the roles again",
        found.len(),
        examples.join(", "),
        found.len() - schemas,
    )))
}
