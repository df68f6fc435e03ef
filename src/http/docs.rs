//! A page to read the OpenAPI document on, and to try it out: Swagger UI, out of the program itself. It asks
//! nobody but this server, and its policy keeps it to that.

use std::sync::{Arc, LazyLock};

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpResponse, get, web};
use utoipa_swagger_ui::Config;

use super::native::{ErrorBody, Problem};
use crate::domain::error::{Error, Noun, Result};
use crate::http::Mount;

/// Scripts and data from this server alone; the page sets styles on its elements, and has icons within its
/// style sheet. Nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The files come with the program; a new one may bring others under the same names.
const CACHED: &str = "public, max-age=3600";

/// What the page is told: where the document is, as seen from the page, and that nobody else is asked what
/// they think of it.
static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    Arc::new(Config::new(["openapi.json"]).validator_url("none").use_base_layout())
});

/// Mounts the routes of this file.
pub fn mount(routes: &mut Mount<'_>) {
    routes.service(page).service(file);
}

/// This document, to read and to try out.
#[utoipa::path(tag = "operations", operation_id = "docs",
    responses((status = 200, description = "A page", body = String, content_type = "text/html")))]
#[get("/docs")]
async fn page() -> Result<HttpResponse, Problem> {
    let (bytes, media) = asset("index.html")?;
    // Its files are named beside it; seen from here they are a folder further down.
    let html = String::from_utf8_lossy(&bytes);
    let html = html.replace("=\"./", "=\"docs/").replace("=\"index.css", "=\"docs/index.css");
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(html))
}

/// What that page is made of.
#[utoipa::path(tag = "operations", operation_id = "docsFile",
    params(("file" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/css"), (String = "text/javascript"), (String = "text/html"), (String = "image/png"),
        )),
        (status = 404, description = "There is no such file", body = ErrorBody),
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

/// A file of Swagger UI, and its media type.
fn asset(name: &str) -> Result<(Vec<u8>, String)> {
    let found = utoipa_swagger_ui::serve(name, Arc::clone(&CONFIG))
        .map_err(|error| Error::internal("read a file of the documentation", error.to_string()))?;
    let found = found.ok_or(Error::NotFound(Noun::Route))?;
    Ok((found.bytes.into_owned(), found.content_type))
}
