//! The applications that are tested.

use actix_web::{HttpResponse, Responder, get, post, web};
use rowhouse::{Application, Problem, TenantTx, Write};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{OpenApi, ToSchema};
use uuid::Uuid;

pub const INSERT: &str = "INSERT INTO notes (id, body) VALUES ($1, $2)";

#[derive(OpenApi)]
#[openapi(paths(list, add, member, status, media_type))]
struct ApiDoc;

#[derive(Deserialize, ToSchema)]
struct NewNote {
    body: String,
}

#[derive(Serialize, ToSchema)]
struct Note {
    id: Uuid,
    body: String,
}

/// The notes of the tenant.
#[utoipa::path(get, path = "/notes", responses(
    (status = 200, body = [String]),
    (status = 400, body = Value),
    (status = 401, body = Value),
    (status = 404, body = Value),
    (status = 429, body = Value),
))]
#[get("/notes")]
async fn list(tx: TenantTx) -> Result<HttpResponse, Problem> {
    let rows = tx.query_and_commit("SELECT body FROM notes ORDER BY body", &[]).await?;
    let bodies: Vec<String> = rows.iter().map(|row| row.get("body")).collect();
    Ok(HttpResponse::Ok().json(bodies))
}

/// Adds a note.
#[utoipa::path(post, path = "/notes", request_body = NewNote, responses(
    (status = 201, body = Note),
    (status = 403, body = Value),
))]
#[post("/notes")]
async fn add(
    Write(tx): Write<TenantTx>,
    note: web::Json<NewNote>,
) -> Result<HttpResponse, Problem> {
    let note = Note { id: Uuid::now_v7(), body: note.into_inner().body };
    tx.execute(INSERT, &[&note.id, &note.body]).await?;
    tx.commit().await?;
    Ok(HttpResponse::Created().json(note))
}

/// Answers a member that the document does not have.
#[utoipa::path(get, path = "/undocumented/member", responses((status = 200, body = Note)))]
#[get("/undocumented/member")]
async fn member() -> impl Responder {
    HttpResponse::Ok().json(json!({ "id": Uuid::now_v7(), "body": "x", "extra": 1 }))
}

/// Answers a status that the document does not have.
#[utoipa::path(get, path = "/undocumented/status", responses((status = 200, body = Note)))]
#[get("/undocumented/status")]
async fn status() -> impl Responder {
    HttpResponse::ImATeapot().json(json!({}))
}

/// Answers a media type that the document does not have.
#[utoipa::path(get, path = "/undocumented/type", responses((status = 200, body = Note)))]
#[get("/undocumented/type")]
async fn media_type() -> impl Responder {
    HttpResponse::Ok().content_type("text/plain").body("x")
}

/// An application with a table in every tenant.
pub fn notes() -> Application {
    let migrations = rowhouse::embed_migrations!("tests/fixtures/notes").instead_of_built_in();
    Application::new("notes").tenant_migrations(migrations).routes::<ApiDoc>(|config| {
        config.service(list).service(add).service(member).service(status).service(media_type);
    })
}

#[derive(OpenApi)]
struct NoDoc;

/// Another application, without tables of its own.
pub fn another() -> Application {
    Application::new("another").routes::<NoDoc>(|config| {
        config.route("/another", web::get().to(|| async { "another" }));
    })
}

/// An application whose second migration fails.
pub fn broken() -> Application {
    let migrations = rowhouse::embed_migrations!("tests/fixtures/broken").instead_of_built_in();
    Application::new("broken").tenant_migrations(migrations)
}
