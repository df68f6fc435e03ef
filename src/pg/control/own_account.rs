//! Statements that read what a caller is told about their own account.

use uuid::Uuid;

use crate::domain::Tenant;
use crate::domain::error::Result;
use crate::domain::names::TokenId;
use crate::pg::control::tenants;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// Reads the name of a token, an API key or a person's own token.
pub async fn token_name(tx: &PublicTx, id: TokenId) -> Result<Option<String>> {
    let row = tx
        .query_opt("SELECT name FROM tokens WHERE id = $1", &[&id])
        .await
        .during("read token row")?;
    Ok(row.map(|row| row.get("name")))
}

/// Reads the tenants with these ids, whatever their status, by their slugs.
pub async fn tenants(tx: &PublicTx, ids: Vec<Uuid>) -> Result<Vec<Tenant>> {
    let sql = format!(
        "SELECT {columns} FROM tenants t WHERE t.id = ANY ($1) ORDER BY t.slug",
        columns = tenants::COLUMNS,
    );
    let rows = tx.query(&sql, &[&ids]).await.during("read tenants")?;
    rows.iter().map(tenants::from_row).collect()
}
