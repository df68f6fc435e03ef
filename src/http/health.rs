//! What operators and their tools ask: alive, ready, how busy, which routes, which keys.

use std::sync::OnceLock;

use actix_web::http::header::{ACCEPT, CACHE_CONTROL, ContentType};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, Responder, get, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;

use super::Site;
use super::native::{ErrorBody, Problem};
use crate::auth::jwt::JWKS_MAX_AGE;
use crate::http::Mount;
use crate::http::document::parts::{Version, in_one_line};
use crate::service::health::Readiness;
use crate::telemetry::Exposition;

/// Mounts the routes of health.
pub fn mount(routes: &mut Mount<'_>) {
    routes.service(healthz).service(readyz);
}

/// Mounts the metrics and the OpenAPI document.
pub fn mount_management(routes: &mut Mount<'_>) {
    routes.service(metrics).service(openapi);
}

/// Mounts the document of the control API, where that is served.
pub fn mount_control_document(routes: &mut Mount<'_>) {
    routes.service(control_openapi);
}

/// Mounts the public keys.
pub fn mount_keys(routes: &mut Mount<'_>) {
    routes.service(jwks);
}

/// The server is healthy.
#[derive(Serialize, ToSchema)]
struct Healthy {
    /// Always `ok`.
    #[schema(pattern = "^ok$")]
    status: &'static str,
    /// `blocked` while no new tenant can be made from this program's migrations; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^blocked$", required = false)]
    new_tenants: Option<&'static str>,
    /// How many tenants are damaged and answer 503, as far as is known; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    damaged_tenants: Option<usize>,
}

const HEALTHY: Healthy = Healthy { status: "ok", new_tenants: None, damaged_tenants: None };

/// The server is not ready.
#[derive(Serialize, ToSchema)]
struct Unready {
    /// Always `unavailable`.
    #[schema(pattern = "^unavailable$")]
    status: &'static str,
    /// What is not ready, for people.
    reason: &'static str,
}

/// Why the server is not ready: a known reason, or an error because the check itself did not end in time.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer in the OpenAPI document")]
#[serde(untagged)]
enum NotReady {
    Known(Unready),
    CutOff(ErrorBody),
}

/// A JSON Web Key Set (RFC 7517).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer in the OpenAPI document")]
struct KeySet {
    keys: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// Reports that the process is alive.
#[utoipa::path(tag = "operations", operation_id = "getHealth", responses((status = 200, description = "The process is alive", body = Healthy)))]
#[get("/healthz")]
async fn healthz() -> impl Responder {
    web::Json(HEALTHY)
}

/// Reports whether the process can serve: the database answers, the control plane has a version that this program works
/// with, and no signal has told the server to stop. A server that can make no new tenants is ready, since it serves those
/// that are there; and so is one with damaged tenants, since it serves the others.
#[utoipa::path(tag = "operations", operation_id = "getReadiness", responses(
    (status = 200, description = "Ready", body = Healthy),
    (status = 503, description = "The database does not answer, the control plane has a version that this program does not work with, or the server is stopping", body = NotReady),
))]
#[get("/readyz")]
async fn readyz(site: web::Data<Site>) -> HttpResponse {
    let reason = match site.services.health.ready_unauthorized().await {
        Ok(Readiness::Ready) => {
            let possible = site.services.health.makes_tenants_unauthorized();
            let new_tenants = if possible { None } else { Some("blocked") };
            let damaged = site.services.damage.count_unauthorized(site.clock.now());
            let damaged_tenants = (damaged > 0).then_some(damaged);
            return HttpResponse::Ok().json(Healthy { new_tenants, damaged_tenants, ..HEALTHY });
        }
        Ok(Readiness::Stopping) => "the server is stopping",
        Ok(Readiness::OtherVersion) => {
            "this program does not work with the version of the control plane"
        }
        Err(error) => {
            tracing::warn!(error = %error.chain(), "not ready");
            "the database does not answer"
        }
    };
    HttpResponse::ServiceUnavailable()
        .insert_header(("Retry-After", "1"))
        .json(Unready { status: "unavailable", reason })
}

/// Returns the metrics, for Prometheus: in its text format, or as `OpenMetrics` where `Accept` asks for that.
#[utoipa::path(tag = "operations", operation_id = "getMetrics", responses((status = 200, description = "Metrics", content(
    (String = "text/plain"), (String = "application/openmetrics-text"),
))))]
#[get("/metrics")]
async fn metrics(request: HttpRequest, site: web::Data<Site>) -> HttpResponse {
    site.services.health.measure(&site.metrics);
    site.services.health.count_tenants_unauthorized(&site.metrics).await;
    site.services.vacancies.measure(&site.metrics, site.clock.now());
    site.services.fleet.measure(&site.metrics);
    site.services.audit.measure(&site.metrics);
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let exposition = Exposition::accepted(accept.unwrap_or_default());
    HttpResponse::Ok().content_type(exposition.content_type()).body(site.metrics.render(exposition))
}

/// The documents of a server, as JSON. Each is made for all workers when it is first asked for.
pub struct Documents {
    document: Box<dyn Fn() -> OpenApi + Send + Sync>,
    whole: OnceLock<Bytes>,
    control: OnceLock<Bytes>,
}

impl Documents {
    /// The documents of a server, which this function describes.
    #[must_use]
    pub fn of(document: impl Fn() -> OpenApi + Send + Sync + 'static) -> Self {
        Self { document: Box::new(document), whole: OnceLock::new(), control: OnceLock::new() }
    }

    fn make(&self, tag: Option<&str>) -> Bytes {
        in_one_line(&(self.document)(), tag, Version::V3_1).unwrap_or_default().into()
    }
}

/// Returns this document.
#[utoipa::path(tag = "operations", operation_id = "getOpenapi", responses((status = 200, description = "The OpenAPI document of this server", body = Object)))]
#[get("/openapi.json")]
async fn openapi(documents: web::Data<Documents>) -> impl Responder {
    let whole = documents.whole.get_or_init(|| documents.make(None));
    HttpResponse::Ok().content_type(ContentType::json()).body(whole.clone())
}

/// Returns the document of the operations under `/control/v1` alone, for generators of clients.
#[utoipa::path(tag = "control", operation_id = "getControlOpenapi", responses((status = 200, description = "The OpenAPI document of these operations", body = Object)))]
#[get("/control/v1/openapi.json")]
async fn control_openapi(documents: web::Data<Documents>) -> impl Responder {
    let control = documents.control.get_or_init(|| documents.make(Some("control")));
    HttpResponse::Ok().content_type(ContentType::json()).body(control.clone())
}

/// Returns the public keys that verify access tokens. A new key is among them for ten minutes before it signs, twice as
/// long as they may be cached.
#[utoipa::path(tag = "operations", operation_id = "getKeys", responses((status = 200, description = "The keys", body = KeySet)))]
#[get("/.well-known/jwks.json")]
async fn jwks(site: web::Data<Site>) -> Result<HttpResponse, Problem> {
    let keys = site.services.signing_keys.published_unauthorized(site.clock.now()).await?;
    let cache = format!("public, max-age={}", JWKS_MAX_AGE.as_secs());
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, cache)).json(keys))
}
