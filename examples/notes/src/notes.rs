//! Notes: add with tags, read, list page by page, search, delete.

use actix_web::web::{Data, Json, Path, Query};
use actix_web::{HttpResponse, delete, get, post};
use rowhouse::{OnViolation, Problem, Row, TenantTx, Write};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{Settings, upkeep};

#[derive(Serialize, ToSchema)]
pub(crate) struct Note {
    id: Uuid,
    title: String,
    body: String,
    tags: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct NewNote {
    title: String,
    body: String,
    #[serde(default)]
    tags: Vec<String>,
}

/// Notes, and the note after which the next page begins; none on the last one.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page {
    notes: Vec<Note>,
    next: Option<Uuid>,
}

#[derive(Deserialize, IntoParams)]
struct After {
    /// The last note of the page before.
    after: Option<Uuid>,
}

#[derive(Deserialize, IntoParams)]
struct Words {
    /// The words to look for.
    q: String,
}

const COLUMNS: &str = "n.id, n.title, n.body,
    ARRAY(SELECT t.name FROM tags t WHERE t.note_id = n.id ORDER BY t.name) AS tags";

fn note(row: &Row) -> Note {
    let (id, title) = (row.get("id"), row.get("title"));
    Note { id, title, body: row.get("body"), tags: row.get("tags") }
}

/// Adds a note to a notebook.
#[utoipa::path(request_body = NewNote, security(("bearer" = [])), responses(
    (status = 201, description = "The note", body = Note),
    (status = 404, description = "There is no such notebook"),
    (status = 409, description = "Another note of the notebook has this title"),
))]
#[post("/notebooks/{notebook}/notes")]
pub(crate) async fn add(
    Write(tx): Write,
    notebook: Path<Uuid>,
    new: Json<NewNote>,
) -> Result<HttpResponse, Problem> {
    let NewNote { title, body, tags } = new.into_inner();
    if title.trim().is_empty() {
        return Err(Problem::invalid("title", "blank"));
    }
    let notebooks = tx.query("SELECT 1 FROM notebooks WHERE id = $1", &[&*notebook]).await?;
    notebooks.first().ok_or(Problem::not_found("notebook"))?;
    let id = Uuid::now_v7();
    tx.execute(
        "INSERT INTO notes (id, notebook_id, title, body, words)
         VALUES ($1, $2, $3, $4, to_tsvector('simple', $3 || ' ' || $4))",
        &[&id, &*notebook, &title, &body],
    )
    .await
    .on_violation("notes_title_key", "title_taken")?;
    let tagged = "INSERT INTO tags (note_id, name) SELECT DISTINCT $1::uuid, unnest($2::text[])";
    tx.execute(tagged, &[&id, &tags]).await?;
    tx.commit().await?;
    upkeep::NOTES_ADDED.inc();
    Ok(HttpResponse::Created().json(Note { id, title, body, tags }))
}

/// Lists the notes of a notebook, oldest first.
#[utoipa::path(params(After), security(("bearer" = [])), responses((status = 200, description = "A page", body = Page)))]
#[get("/notebooks/{notebook}/notes")]
pub(crate) async fn list(
    tx: TenantTx,
    notebook: Path<Uuid>,
    page: Query<After>,
    settings: Data<Settings>,
) -> Result<Json<Page>, Problem> {
    let sql = format!(
        "SELECT {COLUMNS} FROM notes n
          WHERE n.notebook_id = $1 AND n.deleted_at IS NULL AND ($2::uuid IS NULL OR n.id > $2)
          ORDER BY n.id LIMIT $3"
    );
    let most = settings.page_size;
    let rows = tx.query_and_commit(&sql, &[&*notebook, &page.after, &(most + 1)]).await?;
    let has_more = rows.len() > usize::try_from(most).unwrap_or(usize::MAX);
    let notes: Vec<Note> = rows.iter().take(rows.len() - usize::from(has_more)).map(note).collect();
    let next = notes.last().map(|note| note.id).filter(|_| has_more);
    Ok(Json(Page { notes, next }))
}

/// Reads a note.
#[utoipa::path(security(("bearer" = [])), responses(
    (status = 200, description = "The note", body = Note), (status = 404, description = "There is no such note"),
))]
#[get("/notes/{id}")]
pub(crate) async fn read(tx: TenantTx, id: Path<Uuid>) -> Result<Json<Note>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM notes n WHERE n.id = $1 AND n.deleted_at IS NULL");
    let row = tx.query_opt(&sql, &[&*id]).await?;
    Ok(Json(note(&row.ok_or(Problem::not_found("note"))?)))
}

/// Finds the notes that hold all words.
#[utoipa::path(params(Words), security(("bearer" = [])), responses((status = 200, description = "The notes", body = Vec<Note>)))]
#[get("/notes")]
pub(crate) async fn search(tx: TenantTx, words: Query<Words>) -> Result<Json<Vec<Note>>, Problem> {
    let sql = format!(
        "SELECT {COLUMNS} FROM notes n
          WHERE n.deleted_at IS NULL AND n.words @@ plainto_tsquery('simple', $1) ORDER BY n.id LIMIT 50"
    );
    Ok(Json(tx.query_and_commit(&sql, &[&words.q]).await?.iter().map(note).collect()))
}

/// Deletes a note. It is gone for good after some days.
#[utoipa::path(security(("bearer" = [])), responses(
    (status = 204, description = "Deleted"), (status = 404, description = "There is no such note"),
))]
#[delete("/notes/{id}")]
pub(crate) async fn remove(Write(tx): Write, id: Path<Uuid>) -> Result<HttpResponse, Problem> {
    tx.caller().require("NOTES_DELETE")?;
    let sql = "UPDATE notes SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL";
    if tx.execute(sql, &[&*id, &tx.now()]).await? == 0 {
        return Err(Problem::not_found("note"));
    }
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
