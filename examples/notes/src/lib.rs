//! Notes for teams: notebooks, notes with tags, full-text search. Each team is a tenant with tables of its own.

mod notebooks;
mod notes;
mod upkeep;

use actix_web::get;
use actix_web::web::{Json, ServiceConfig};
use rowhouse::{Application, Dialect, Problem, Read, SharedTx, TenantTx};

#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        notebooks::add,
        notebooks::list,
        notes::add,
        notes::list,
        notes::read,
        notes::remove,
        notes::search,
        templates
    ),
    components(schemas(notebooks::Notebook, notes::Note, notes::Page))
)]
struct ApiDoc;

/// `[app]` in `rowhouse.toml`, `APP__..` in the environment.
#[derive(serde::Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The most notes on one page.
    page_size: i64,
    /// The days after which a deleted note is gone.
    keep_days: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { page_size: 50, keep_days: 30 }
    }
}

/// The application.
pub fn application() -> Application {
    Application::new("notes")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Notes for teams")
        .tenant_migrations(rowhouse::embed_migrations!("tenant_migrations"))
        .public_migrations(rowhouse::embed_migrations!("public_migrations"))
        .dialects([Dialect::Reten, Dialect::Control])
        .permissions(["NOTES_DELETE"])
        .routes::<ApiDoc>(mount)
        .settings::<Settings>("app")
        .metrics(upkeep::register)
        .command::<upkeep::Command>(upkeep::run)
        .every("sweep", "1h", upkeep::sweep)
        .on_tenant_created(seed)
}

fn mount(config: &mut ServiceConfig) {
    config
        .service(notebooks::add)
        .service(notebooks::list)
        .service(notes::search)
        .service(notes::add)
        .service(notes::list)
        .service(notes::read)
        .service(notes::remove)
        .service(templates);
}

/// Returns the titles with which a team may begin a notebook.
#[utoipa::path(responses((status = 200, description = "The titles", body = Vec<String>)))]
#[get("/templates")]
async fn templates(Read(tx): Read<SharedTx>) -> Result<Json<Vec<String>>, Problem> {
    let rows = tx.query("SELECT title FROM templates ORDER BY title", &[]).await?;
    Ok(Json(rows.iter().map(|row| row.get("title")).collect()))
}

/// Gives a new team its first notebook.
async fn seed(tx: &TenantTx) -> Result<(), Problem> {
    notebooks::insert(tx, "Inbox").await.map(drop)
}
