//! An archive that comes as the body of a request.

use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest, post};
use futures_util::StreamExt;
use futures_util::stream::unfold;

use super::super::call::Call;
use super::super::responses::Forbidden;
use super::super::{Answer, PROBLEM_JSON, Problem, ProblemBody};
use super::{ArchiveAnswer, answer_with};
use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::{Error, Malformed, Result};
use crate::http::archive_content::{ArchiveBytes, TAR};
use crate::http::responses::ImportTenant;
use crate::http::{extract, idempotency};

/// The path of uploads.
pub(in crate::http::control) const UPLOADS: &str = "/control/v1/archives";

/// A request whose body is not read yet.
pub(super) struct Upload {
    ctx: CallContext,
    request: HttpRequest,
    payload: Payload,
}

impl FromRequest for Upload {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let ctx = extract::identify(&request).await.map_err(Problem)?;
            Ok(Self { ctx, request, payload })
        })
    }
}

/// Stores an archive of `tenant export`, also of another installation. It is checked as it comes: its form, its digests and,
/// where a key of this installation signed it, its signature. One that is refused leaves nothing. `trusted` says whether an
/// import must be told which keys to trust.
#[utoipa::path(tag = "control", operation_id = "uploadArchive", security(("bearer" = [])),
    request_body(content = ArchiveBytes, content_type = TAR),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe for 24 hours: the same key and content return the same archive", pattern = "^[!-~]([ -~]{0,253}[!-~])?$")),
    responses(
        (status = 201, description = "The archive; `Location` leads to it", body = ArchiveAnswer),
        (status = 400, description = "The body broke off, or the request has a query parameter", body = ProblemBody, content_type = PROBLEM_JSON),
        Forbidden<ImportTenant>,
        (status = 408, description = "The body paused for longer than `http.request_timeout`", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 409, description = "A request with the same Idempotency-Key is still running, or the upload was cancelled", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 413, description = "The archive, or a file in it, is larger than it may be (`archive_too_large`)", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 415, description = "The body has a Content-Encoding", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 422, description = "The archive is refused: `archive_invalid`, `archive_digest`, `archive_signature`, `archive_newer_format` or `archive_encrypted`; or the Idempotency-Key was used with another content", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 507, description = "There is no room: the disk is full, or `archives.total_bytes` is reached", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/archives")]
pub(super) async fn upload(upload: Upload) -> Answer {
    let Upload { ctx, request, payload } = upload;
    ctx.require(Permission::ImportTenant)?;
    Call::query_of(&request)?.finish(Some(()))?;
    let key = idempotency::key(&request)?;
    let site = extract::site(&request);
    let mut chunks = Box::pin(chunks(payload, site.settings.request_timeout));
    let announced = announced(request.headers());
    let stored = &site.services.stored_archives;
    let begun = Box::pin(stored.upload(&ctx, announced, &mut chunks, key.as_deref())).await?;
    Ok(answer_with(StatusCode::CREATED, begun))
}

/// Returns what comes, and an error once it pauses for too long.
fn chunks(payload: Payload, longest: Duration) -> impl futures_util::Stream<Item = Result<Bytes>> {
    unfold(payload, move |mut payload| async move {
        let chunk = match tokio::time::timeout(longest, payload.next()).await {
            Ok(None) => return None,
            Ok(Some(chunk)) => chunk.map_err(|_broken| Error::Malformed(Malformed::Body)),
            Err(_elapsed) => Err(Error::Malformed(Malformed::TooSlow)),
        };
        Some((chunk, payload))
    })
}

/// Returns the size that a client announces. actix refuses a header that is not a number.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
