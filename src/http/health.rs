//! What operators and their tools ask: alive, ready, how busy, which routes, which keys.

use actix_web::{HttpResponse, Responder, get, web};
use serde_json::json;
use utoipa_actix_web::service_config::ServiceConfig;

use super::Site;

/// Readers ask again every few minutes, and so learn of a new key long before an old one goes.
const JWKS_CACHE: (&str, &str) = ("Cache-Control", "public, max-age=300");

/// Mounts the routes of this file.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(healthz).service(readyz).service(metrics).service(openapi).service(jwks);
}

/// The process is alive.
#[utoipa::path(tag = "operations", responses((status = 200, description = "The process is alive")))]
#[get("/healthz")]
async fn healthz() -> impl Responder {
    web::Json(json!({ "status": "ok" }))
}

/// The process can serve: the database answers and its control plane is up to date.
#[utoipa::path(tag = "operations", responses(
    (status = 200, description = "Ready"),
    (status = 503, description = "The database is away, or its control plane is at another version"),
))]
#[get("/readyz")]
async fn readyz(site: web::Data<Site>) -> HttpResponse {
    let reason = match site.services.health.ready().await {
        Ok(true) => return HttpResponse::Ok().json(json!({ "status": "ok" })),
        Ok(false) => "the control plane is at another version than this program",
        Err(error) => {
            tracing::warn!(error = %error.chain(), "not ready");
            "the database does not answer"
        }
    };
    HttpResponse::ServiceUnavailable()
        .insert_header(("Retry-After", "1"))
        .json(json!({ "status": "unavailable", "reason": reason }))
}

/// What is counted, for Prometheus.
#[utoipa::path(tag = "operations", responses((status = 200, description = "Metrics", content_type = "text/plain")))]
#[get("/metrics")]
async fn metrics(site: web::Data<Site>) -> HttpResponse {
    site.services.health.measure(&site.metrics);
    site.services.fleet.measure(&site.metrics);
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(site.metrics.render())
}

/// This document.
#[utoipa::path(tag = "operations", responses((status = 200, description = "The routes of this server")))]
#[get("/openapi.json")]
async fn openapi(document: web::Data<utoipa::openapi::OpenApi>) -> impl Responder {
    web::Json(document)
}

/// The keys that access tokens are signed with.
#[utoipa::path(tag = "operations", responses((status = 200, description = "A JSON Web Key Set")))]
#[get("/.well-known/jwks.json")]
async fn jwks(site: web::Data<Site>) -> impl Responder {
    HttpResponse::Ok().insert_header(JWKS_CACHE).json(site.services.identity.jwks())
}
