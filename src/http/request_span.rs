//! The span of a request, in which all its lines are logged: one, whose caller and tenant are added later.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::HeaderName;
use tracing::Span;
use tracing::field::Empty;

use crate::telemetry::TraceParent;

/// The header of the request id, which an answer shares with its log lines and audit events. The server makes it, so that
/// it is unique. A client's own id in this header is only logged beside it.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id of a client that is logged.
const CLIENT_ID_MAX: usize = 128;

/// The header that names the trace of a request (W3C Trace Context).
const TRACE_PARENT: &str = "traceparent";

/// Creates the span of a request.
pub(super) fn span(id: &str, method: &'static str, request: &ServiceRequest) -> Span {
    let span = tracing::info_span!(
        "request",
        request.id = id,
        request.client_id = Empty,
        trace.id = Empty,
        trace.parent_id = Empty,
        http.method = method,
        http.route = Empty,
        actor = Empty,
        user.id = Empty,
        tenant.id = Empty,
    );
    if let Some(client_id) = client_id(request) {
        span.record("request.client_id", client_id);
    }
    let header = request.headers().get(TRACE_PARENT).and_then(|value| value.to_str().ok());
    if let Some(parent) = header.and_then(TraceParent::read) {
        span.record("trace.id", parent.trace_id());
        span.record("trace.parent_id", parent.parent_id());
        #[cfg(feature = "otlp")]
        crate::telemetry::set_parent(&span, &parent);
    }
    span
}

/// Returns the client's own id of a request, for the log, if it can be written there.
fn client_id(request: &ServiceRequest) -> Option<&str> {
    let given = request.headers().get(&REQUEST_ID)?.to_str().ok()?;
    let fits = (1..=CLIENT_ID_MAX).contains(&given.len());
    (fits && given.bytes().all(|byte| byte.is_ascii_graphic())).then_some(given)
}
