//! The middleware that every request and every answer passes: request id, log, metrics, time limit, headers.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName,
    HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, web};
use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use super::request_span::{REQUEST_ID, span};
use super::routes::method_not_allowed_in_form;
use super::{Dialect, Site, cause_of, control, refusals, refuse};
use crate::domain::error::{Error, Malformed, with_causes};
use crate::domain::outage::Outage;
use crate::http::body_timeout::Waiting;
use crate::http::encoding::require_identity;
use crate::http::limits::Remaining;
use crate::service::Commits;
use crate::telemetry::{answering, watch_writes};

/// How much longer than its time limit a request may take whose commit was sent and is not answered.
const COMMIT_GRACE: Duration = Duration::from_secs(5);

/// The id of a request.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// The route of a request that no route matches, in the metrics and the log.
const UNMATCHED: &str = "unmatched";

/// Adds a request id and a log span to the request, counts the answer and a refusal, logs its error once. `HEAD` is routed as `GET`;
/// actix omits the body.
///
/// # Errors
/// The errors of the inner services, with the request id as a header.
pub async fn observe<B: MessageBody + 'static>(
    site: web::Data<Site>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let id = Uuid::now_v7().to_string();
    let method = known_method(request.method());
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    let remaining = Remaining::default();
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(remaining.clone());
    let span = span(&id, method, &request);
    // A path can hold an e-mail address or a secret, so the log has its pattern.
    let pattern = request.match_pattern();
    if let Some(pattern) = &pattern {
        span.record("http.route", pattern);
    }
    let started = Instant::now();
    let work = answering(id.clone(), span.clone(), next.call(request));
    let (outcome, forgot_commit) = watch_writes(work.instrument(span.clone())).await;
    let took = started.elapsed();
    let is_access_logged = site.settings.access_log;
    let value = HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("unprintable"));
    span.in_scope(|| match outcome {
        Ok(mut answer) => {
            let route = answer.request().match_pattern().unwrap_or_else(|| UNMATCHED.to_owned());
            if pattern.is_none() {
                span.record("http.route", &route);
            }
            site.metrics.count_request(method, route, answer.status().as_u16(), took);
            let status = answer.status().as_u16();
            log_answer(answer.response().error(), status, took, is_access_logged);
            if forgot_commit && answer.status().is_success() {
                tracing::warn!(
                    "a handler answered well and did not commit what it wrote, which is rolled back"
                );
            }
            if let Some(error) = answer.response().error().and_then(cause_of) {
                refusals::count(&site, answer.request(), error, &id);
                if let Error::TenantDamaged { tenant, .. } = error {
                    site.services.damage.note_unauthorized(*tenant, site.clock.now());
                }
            }
            finish(answer.headers_mut(), value, &remaining);
            if site.services.health.is_stopping() {
                // The client's next request then goes to another server.
                answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
            }
            Ok(answer)
        }
        // Refused before or outside a handler: the request is gone, so the answer is inside the error.
        Err(error) => {
            let mut answer = error.error_response();
            let status = answer.status().as_u16();
            let route = pattern.unwrap_or_else(|| UNMATCHED.to_owned());
            site.metrics.count_request(method, route, status, took);
            log_answer(Some(&error), status, took, is_access_logged);
            finish(answer.headers_mut(), value, &remaining);
            Err(InternalError::from_response("refused", answer).into())
        }
    })
}

/// The error of an answer whose cause is logged already.
#[derive(Debug, thiserror::Error)]
#[error("cut off")]
struct Logged;

/// The headers of an answer whose handler does not set them: not cached, since most answers hold a credential or a
/// tenant's data; not shown in a frame; no `Referer` from a link in it, since its URL may hold an id.
/// `Strict-Transport-Security` is left to the proxy that terminates TLS.
const DEFAULT_HEADERS: [(HeaderName, HeaderValue); 3] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'none'")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// Sets the headers of every answer: its request id, `nosniff`, what its caller has left of the limits, and
/// [`DEFAULT_HEADERS`].
fn finish(headers: &mut HeaderMap, request_id: HeaderValue, remaining: &Remaining) {
    remaining.write(headers);
    headers.insert(REQUEST_ID, request_id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    for (name, value) in DEFAULT_HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
    // The other CORS headers are only for allowed origins.
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
    }
}

/// Refuses a compressed body, and ends a request that takes too long or panics, in the form of its dialect. If the body
/// is still incomplete when the time is over, the client was too slow. A commit that was sent by then is waited for a
/// little longer. The open transaction is rolled back as the future is dropped.
///
/// # Errors
/// [`Malformed::ContentEncoding`], [`Error::Unavailable`], [`Malformed::TooSlow`] or [`Error::Internal`], as the answer
/// of the dialect.
pub async fn guard<B: MessageBody + 'static>(
    site: web::Data<Site>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let (path, served) = (request.path().to_owned(), site.settings.served);
    // Here and not where a body is read, so that it holds for an application's own extractors, too.
    if !matches!(request.parts_mut().1, Payload::None)
        && let Err(error) = require_identity(request.headers())
    {
        let mut answer = refuse(served, &path, error);
        answer.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        return Err(InternalError::from_response("compressed", answer).into());
    }
    let is_unlimited =
        served.has(Dialect::Control) && control::limits_its_own_time(request.method(), &path);
    let limit = if is_unlimited { Duration::MAX } else { site.settings.request_timeout };
    let waiting = Waiting::watch(&mut request);
    let commits = Commits::default();
    let work = AssertUnwindSafe(commits.watch(next.call(request))).catch_unwind();
    let mut work = std::pin::pin!(work);
    let mut ended = tokio::time::timeout(limit, work.as_mut()).await;
    // A commit that was sent may be done, whatever is answered now: only its answer tells.
    if ended.is_err() && commits.are_in_flight() {
        ended = tokio::time::timeout(COMMIT_GRACE, work).await;
    }
    let error = match ended {
        Ok(Ok(outcome)) => return outcome.map(method_not_allowed_in_form),
        Ok(Err(_panic)) => Error::internal("answer a request", "the handler panicked"),
        Err(elapsed) if commits.are_in_flight() => {
            Error::outage(Outage::OutcomeUnknown, "answer a request in time", elapsed)
        }
        Err(_elapsed) if waiting.is_on() => {
            tracing::debug!("the body of a request arrived too slowly");
            let error = Error::Malformed(Malformed::TooSlow);
            return Err(
                InternalError::from_response("too slow", refuse(served, &path, error)).into()
            );
        }
        Err(elapsed) => Error::unavailable("answer a request in time", elapsed),
    };
    tracing::error!(error = %error.chain(), "failed to answer a request");
    Err(InternalError::from_response(Logged, refuse(served, &path, error)).into())
}

/// The target of the line that `log.access` asks for.
const ACCESS: &str = "rowhouse::access";

/// Logs an error where it is answered, and only there; `error!` means that an operator must act. Every other answer has a
/// line of the level `INFO` if the settings want one for each request, else one for debugging.
fn log_answer(
    error: Option<&actix_web::Error>,
    status: u16,
    took: Duration,
    is_access_logged: bool,
) {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let is_logged = error.is_some_and(|error| error.as_error::<InternalError<Logged>>().is_some());
    match error.and_then(cause_of) {
        Some(error @ Error::Internal { .. }) => {
            tracing::error!(http.status = status, duration_ms, error = %error.chain(), "failed to answer a request");
        }
        Some(error @ Error::TenantDamaged { tenant, .. }) => {
            tracing::error!(
                http.status = status,
                duration_ms,
                tenant.id = %tenant,
                error = %error.chain(),
                "a tenant is damaged; `rowhouse doctor` tells how, and `rowhouse doctor --fix` repairs roles and rights"
            );
        }
        Some(error @ Error::Unavailable { .. }) => {
            tracing::warn!(http.status = status, duration_ms, error = %error.chain(), "could not answer a request now");
        }
        Some(error) if is_access_logged => {
            let code = error.code();
            tracing::info!(target: ACCESS, { http.status = status, duration_ms, error.code = code }, "refused");
        }
        Some(error) => {
            let code = error.code();
            tracing::debug!(http.status = status, duration_ms, error.code = code, "refused");
        }
        None if status >= 500 && !is_logged => {
            let error = error.map(foreign_chain).unwrap_or_default();
            tracing::error!(http.status = status, duration_ms, error, "failed to answer a request");
        }
        None if is_access_logged => {
            tracing::info!(target: ACCESS, { http.status = status, duration_ms }, "answered");
        }
        None => tracing::debug!(http.status = status, duration_ms, "answered"),
    }
}

/// Returns an error of an application's own type with its causes, in one line. Its `Debug` form tells them where the type
/// itself cannot be asked.
fn foreign_chain(error: &actix_web::Error) -> String {
    match error.as_error::<Box<dyn std::error::Error>>() {
        Some(error) => with_causes(error.as_ref()),
        None => format!("{error}: {error:?}").replace('\n', " "),
    }
}

/// Returns a method as a label; every unknown one is "other", so that labels stay bounded.
fn known_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the mail was not sent")]
    struct Outer(#[source] std::io::Error);

    impl actix_web::ResponseError for Outer {}

    #[test]
    fn an_error_of_any_type_is_logged_with_its_causes() {
        let cause = || std::io::Error::other("the host is away");
        let boxed: Box<dyn std::error::Error> = Box::new(Outer(cause()));
        let line = foreign_chain(&actix_web::Error::from(boxed));
        assert_eq!(line, "the mail was not sent: the host is away");
        let line = foreign_chain(&actix_web::Error::from(Outer(cause())));
        assert!(
            line.contains("the mail was not sent") && line.contains("the host is away"),
            "{line}"
        );
    }
}
