//! Notebooks.

use actix_web::web::Json;
use actix_web::{HttpResponse, get, post};
use rowhouse::{OnViolation, Problem, TenantTx, Write};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Serialize, ToSchema)]
pub(crate) struct Notebook {
    id: Uuid,
    title: String,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct NewNotebook {
    title: String,
}

pub(crate) async fn insert(tx: &TenantTx, title: &str) -> Result<Uuid, Problem> {
    let id = Uuid::now_v7();
    tx.execute("INSERT INTO notebooks (id, title) VALUES ($1, $2)", &[&id, &title])
        .await
        .on_violation("notebooks_title_key", "title_taken")?;
    Ok(id)
}

/// Adds a notebook.
#[utoipa::path(request_body = NewNotebook, security(("bearer" = [])), responses(
    (status = 201, description = "The notebook", body = Notebook),
    (status = 409, description = "Another notebook has this title"),
))]
#[post("/notebooks")]
pub(crate) async fn add(Write(tx): Write, new: Json<NewNotebook>) -> Result<HttpResponse, Problem> {
    let title = new.into_inner().title;
    let id = insert(&tx, &title).await?;
    tx.commit().await?;
    Ok(HttpResponse::Created().json(Notebook { id, title }))
}

/// Lists the notebooks by title.
#[utoipa::path(security(("bearer" = [])), responses((status = 200, description = "The notebooks", body = Vec<Notebook>)))]
#[get("/notebooks")]
pub(crate) async fn list(tx: TenantTx) -> Result<Json<Vec<Notebook>>, Problem> {
    let rows = tx.query_and_commit("SELECT id, title FROM notebooks ORDER BY title", &[]).await?;
    let read = |row: &rowhouse::Row| Notebook { id: row.get("id"), title: row.get("title") };
    Ok(Json(rows.iter().map(read).collect()))
}
