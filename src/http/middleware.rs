//! What every request passes before it is routed and every answer after it is made.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, web};
use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use super::routes::{Routes, in_form};
use super::{Site, cause_of, refuse};
use crate::domain::error::{Error, Malformed};
use crate::http::body_timeout::Waiting;

/// Links an answer to its log lines. Taken from the caller where it is sane, made up otherwise.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken from a caller.
const REQUEST_ID_MAX: usize = 128;

/// The id of the request that is being answered.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

tokio::task_local! {
    /// The id of the request that this task answers, for a dialect that writes it into its errors: an
    /// error knows nothing of the request that it came up in.
    static ANSWERING: String;
}

/// The id of the request that is being answered, within [`observe`].
#[must_use]
pub fn current_request_id() -> Option<String> {
    ANSWERING.try_with(Clone::clone).ok()
}

/// Gives the request an id and a log span, counts the answer, logs its error once. `HEAD` is routed as
/// `GET`; the protocol leaves the body out.
///
/// # Errors
/// Whatever came from below, with the request id on it.
pub async fn observe<B: MessageBody + 'static>(
    site: web::Data<Site>,
    routes: web::Data<Routes>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let id = request_id(&request);
    let method = known_method(request.method());
    let path = request.path().to_owned();
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    request.extensions_mut().insert(RequestId(id.clone()));
    let span =
        tracing::info_span!("request", request.id = %id, http.method = method, http.path = %path);
    let started = Instant::now();
    let work = ANSWERING.scope(id.clone(), next.call(request));
    let outcome = work.instrument(span.clone()).await;
    let took = started.elapsed();
    let value = HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("unprintable"));
    span.in_scope(|| match outcome {
        Ok(mut answer) => {
            let route = answer.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
            site.metrics.count_request(method, route, answer.status().as_u16(), took);
            log_answer(answer.response().error(), answer.status().as_u16(), took);
            finish(answer.headers_mut(), value);
            Ok(answer)
        }
        // Cut off before or outside of a handler: there is no request left to answer to, so the answer
        // travels inside of the error.
        Err(error) => {
            let mut answer = error.error_response();
            let status = answer.status().as_u16();
            let route = routes.pattern(&path).unwrap_or("unmatched").to_owned();
            site.metrics.count_request(method, route, status, took);
            log_answer(Some(&error), status, took);
            finish(answer.headers_mut(), value);
            Err(InternalError::from_response("refused", answer).into())
        }
    })
}

/// What an answer carries unless its handler knows better: that nobody keeps a copy, since most hold a
/// credential or a tenant's words; that no page shows it in a frame; and that a link in it, be it an id,
/// tells nobody where it stood. That all of it must come over TLS is for the proxy to say that speaks TLS.
const UNLESS_SAID: [(HeaderName, HeaderValue); 3] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'none'")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// What every answer carries: its request id; that it is what its type says; and [`UNLESS_SAID`].
fn finish(headers: &mut HeaderMap, request_id: HeaderValue) {
    headers.insert(REQUEST_ID, request_id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    for (name, value) in UNLESS_SAID {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
    // The rest of what is said to pages of other origins is for those that are let in.
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
    }
}

/// Ends a request that takes too long or panics, in the form of its dialect; one whose body is still awaited
/// when its time is over was too slow itself. What it had begun in the
/// database is rolled back as its future is dropped.
///
/// # Errors
/// [`Error::Unavailable`], [`Malformed::TooSlow`] or [`Error::Internal`], as the answer of the dialect.
pub async fn guard<B: MessageBody + 'static>(
    site: web::Data<Site>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let path = request.path().to_owned();
    let waiting = Waiting::watch(&mut request);
    let work = AssertUnwindSafe(next.call(request)).catch_unwind();
    let error = match tokio::time::timeout(site.settings.request_timeout, work).await {
        Ok(Ok(outcome)) => return outcome.map(in_form),
        Ok(Err(_panic)) => Error::internal("answer a request", "the handler panicked"),
        Err(_elapsed) if waiting.is_on() => {
            tracing::debug!("the body of a request came too slowly");
            let error = Error::Malformed(Malformed::TooSlow);
            return Err(InternalError::from_response("too slow", refuse(&path, error)).into());
        }
        Err(elapsed) => Error::unavailable("answer a request in time", elapsed),
    };
    tracing::error!(error = %error.chain(), "failed to answer a request");
    Err(InternalError::from_response("cut off", refuse(&path, error)).into())
}

/// Logs an error where it is answered, and only there. `error!` means that someone must look.
fn log_answer(error: Option<&actix_web::Error>, status: u16, took: std::time::Duration) {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match error.and_then(cause_of) {
        Some(error @ Error::Internal { .. }) => {
            tracing::error!(http.status = status, duration_ms, error = %error.chain(), "failed to answer a request");
        }
        Some(error @ Error::Unavailable { .. }) => {
            tracing::warn!(http.status = status, duration_ms, error = %error.chain(), "could not answer a request now");
        }
        Some(error) => {
            tracing::debug!(
                http.status = status,
                duration_ms,
                error.code = error.code(),
                "refused"
            );
        }
        None => tracing::debug!(http.status = status, duration_ms, "answered"),
    }
}

fn request_id(request: &ServiceRequest) -> String {
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id)
            if (1..=REQUEST_ID_MAX).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            id.to_owned()
        }
        _ => Uuid::now_v7().to_string(),
    }
}

/// Methods as labels; whatever a caller makes up is "other".
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
