//! A page that shows the OpenAPI document and sends requests: Swagger UI, built into the program. It contacts only
//! this server, and its content security policy enforces that.

use std::sync::{Arc, LazyLock};

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpResponse, get, web};
use utoipa_swagger_ui::Config;

use super::native::{ErrorBody, Problem};
use crate::domain::error::{Error, Noun, Result};
use crate::http::Mount;

/// Allows scripts and data from this server only. The page sets inline styles and has icons in its style sheet. No
/// other page can frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// How long the files are cached: a new version of the program can have other files under the same names.
const CACHED: &str = "public, max-age=3600";

/// The settings of the page: the document's path relative to the page, and no external validator.
static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    Arc::new(Config::new(["openapi.json"]).validator_url("none").use_base_layout())
});

/// Mounts the routes of this file.
pub fn mount(routes: &mut Mount<'_>) {
    routes.service(page).service(file);
}

/// Returns a page that shows this document and sends requests.
#[utoipa::path(tag = "operations", operation_id = "getDocs",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
#[get("/docs")]
async fn page() -> Result<HttpResponse, Problem> {
    let (bytes, media) = asset("index.html")?;
    // The page refers to its files in its own folder; this path is one level above it.
    let html = String::from_utf8_lossy(&bytes);
    let html = html.replace("=\"./", "=\"docs/").replace("=\"index.css", "=\"docs/index.css");
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(html))
}

/// Returns a file of that page.
#[utoipa::path(tag = "operations", operation_id = "getDocsFile",
    params(("file" = String, Path, description = "The name of the file")),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/css"), (String = "text/javascript"), (String = "text/html"), (String = "image/png"),
        )),
        (status = 404, description = "No such file", body = ErrorBody),
    ))]
#[get("/docs/{file}")]
async fn file(name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let (bytes, media) = asset(&name)?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, CACHED))
        .body(bytes))
}

/// Returns a file of Swagger UI and its media type.
fn asset(name: &str) -> Result<(Vec<u8>, String)> {
    let found = utoipa_swagger_ui::serve(name, Arc::clone(&CONFIG))
        .map_err(|error| Error::internal("read a file of the documentation", error.to_string()))?;
    let found = found.ok_or(Error::NotFound(Noun::Route))?;
    Ok((found.bytes.into_owned(), found.content_type))
}
