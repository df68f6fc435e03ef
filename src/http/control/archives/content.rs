//! The content of an archive, whole or a range of it.

use actix_web::http::header::CONTENT_RANGE;
use actix_web::{HttpResponse, ResponseError, get};

use super::super::call::Call;
use super::super::responses::{Forbidden, NoSuchArchive, Unexpected};
use super::super::{Answer, PROBLEM_JSON, Problem, ProblemBody};
use super::id_of;
use crate::domain::Permission;
use crate::domain::archive::ArchiveProblem;
use crate::domain::error::Error;
use crate::http::archive_content::{self, ArchiveBytes, TAR};
use crate::http::responses::ExportTenant;

/// Returns the content of an archive. Ranges are served, so that a download that broke off goes on; a client may take any
/// time.
#[utoipa::path(tag = "control", operation_id = "getArchiveContent", security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The id of the archive"),
        ("Range" = Option<String>, Header, description = "The bytes to send, such as `bytes=1048576-`; of several ranges, or other units, the whole is sent"),
        ("If-Range" = Option<String>, Header, description = "The ETag for which the range is meant; if it is another, the whole is sent"),
    ),
    responses(
        (status = 200, description = "The archive; `Repr-Digest` (RFC 9530) and `ETag` have its SHA-256", body = ArchiveBytes, content_type = TAR),
        (status = 206, description = "The range; `Repr-Digest` is that of the whole archive", body = ArchiveBytes, content_type = TAR),
        (status = 304, description = "The archive is that of If-None-Match"),
        Unexpected, Forbidden<ExportTenant>, NoSuchArchive,
        (status = 409, description = "The archive is not ready", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 416, description = "The range is behind the end; `Content-Range` has the size", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[get("/control/v1/archives/{id}/content")]
pub(super) async fn fetch(call: Call) -> Answer {
    call.ctx.reach(Permission::ExportTenant)?;
    call.nothing_else()?;
    let stored = &call.services().stored_archives;
    let record = stored.read(&call.ctx, id_of(&call)?).await?;
    let sent = archive_content::respond(call.request(), &call.ctx, stored, &record).await;
    match sent {
        Err(Error::Archive(problem)) => match *problem {
            ArchiveProblem::OutOfRange(size) => Ok(out_of_range(size)),
            problem => Err(Error::from(problem).into()),
        },
        sent => Ok(sent?),
    }
}

fn out_of_range(size: u64) -> HttpResponse {
    let problem = Problem(ArchiveProblem::OutOfRange(size).into());
    let mut answer = problem.error_response();
    if let Ok(value) = format!("bytes */{size}").parse() {
        answer.headers_mut().insert(CONTENT_RANGE, value);
    }
    answer
}
