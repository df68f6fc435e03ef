//! The content of an archive, whole or a range of it.

use std::pin::Pin;

use actix_web::body::SizedStream;
use actix_web::http::header::{
    ACCEPT_RANGES, CONTENT_RANGE, ContentDisposition, ContentEncoding, DispositionParam,
    DispositionType, ETag, EntityTag, Header, IF_RANGE, Range,
};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse, ResponseError, get};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::super::call::Call;
use super::super::responses::{Forbidden, NoSuchArchive, Unexpected};
use super::super::{Answer, PROBLEM_JSON, Problem, ProblemBody};
use super::id_of;
use crate::domain::Permission;
use crate::domain::archive::ArchiveProblem;
use crate::domain::names::Slug;
use crate::http::responses::ExportTenant;
use crate::service::stored_archives::{Content, Record};

/// The media type of an archive.
pub(super) const TAR: &str = "application/x-tar";

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// What of the content is sent.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// From the first of these bytes to the last.
    Bytes(u64, u64),
    OutOfRange,
}

/// Returns the content of an archive. Ranges are served, so that a download that broke off goes on; a client may take any
/// time.
#[utoipa::path(tag = "control", operation_id = "getArchiveContent", security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The id of the archive"),
        ("Range" = Option<String>, Header, description = "The bytes to send, such as `bytes=1048576-`; of several ranges, or other units, the whole is sent"),
        ("If-Range" = Option<String>, Header, description = "The ETag for which the range is meant; if it is another, the whole is sent"),
    ),
    responses(
        (status = 200, description = "The archive; `Repr-Digest` (RFC 9530) and `ETag` have its SHA-256", body = Vec<u8>, content_type = TAR),
        (status = 206, description = "The range; `Repr-Digest` is that of the whole archive", body = Vec<u8>, content_type = TAR),
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
    let content = record.stored()?;
    let tag = EntityTag::new_strong(content.sha256.clone());
    if call.knows(&tag) {
        return Ok(HttpResponse::NotModified().insert_header(ETag(tag)).finish());
    }
    let size = content.bytes;
    let (mut answer, first, last) = match part(call.request(), size, &tag) {
        Part::Whole => (HttpResponse::Ok(), 0, size.saturating_sub(1)),
        Part::Bytes(first, last) => {
            let mut answer = HttpResponse::PartialContent();
            answer.insert_header((CONTENT_RANGE, format!("bytes {first}-{last}/{size}")));
            (answer, first, last)
        }
        Part::OutOfRange => return Ok(out_of_range(size)),
    };
    let bytes = stored.fetch(&call.ctx, record.id, first..last + 1).await?;
    Ok(answer
        .content_type(TAR)
        // It is compressed, and its bytes are those of the digest.
        .insert_header(ContentEncoding::Identity)
        .insert_header((ACCEPT_RANGES, "bytes"))
        .insert_header(ETag(tag))
        .insert_header(("repr-digest", digest(content)))
        .insert_header(disposition(&record))
        .body(SizedStream::new(last + 1 - first, chunks(bytes))))
}

/// Returns what of the content a request asks for (RFC 9110, 14.2): several ranges and other units are passed over.
fn part(request: &HttpRequest, size: u64, tag: &EntityTag) -> Part {
    let condition = request.headers().get(IF_RANGE);
    if condition.is_some_and(|given| given.as_bytes() != tag.to_string().as_bytes()) {
        return Part::Whole;
    }
    match Range::parse(request) {
        Ok(Range::Bytes(ranges)) => match ranges.as_slice() {
            [range] => range
                .to_satisfiable_range(size)
                .map_or(Part::OutOfRange, |(first, last)| Part::Bytes(first, last)),
            _ => Part::Whole,
        },
        Ok(Range::Unregistered(..)) | Err(_) => Part::Whole,
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

/// The digest of the whole archive (RFC 9530).
fn digest(content: &Content) -> String {
    let digest = hex::decode(&content.sha256).unwrap_or_default();
    format!("sha-256=:{}:", STANDARD.encode(digest))
}

fn disposition(record: &Record) -> ContentDisposition {
    // The slug of an upload is what its header says.
    let slug = record.slug.as_deref().and_then(|slug| Slug::parse(slug).ok());
    let name = slug.map_or_else(|| record.id.to_string(), |slug| slug.to_string());
    let parameters = vec![DispositionParam::Filename(format!("{name}.rowhouse.tar"))];
    ContentDisposition { disposition: DispositionType::Attachment, parameters }
}

fn chunks(
    content: Pin<Box<dyn AsyncRead + Send>>,
) -> impl Stream<Item = std::io::Result<Bytes>> + 'static {
    Box::pin(try_unfold(content, |mut content| async move {
        let mut bytes = BytesMut::with_capacity(CHUNK);
        let read = content.read_buf(&mut bytes).await?;
        Ok((read > 0).then(|| (bytes.freeze(), content)))
    }))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::RANGE;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn one_range_of_bytes_is_served_and_all_else_is_the_whole() {
        let tag = EntityTag::new_strong("abc".to_owned());
        let of = |range: &str| {
            let request = TestRequest::default().insert_header((RANGE, range)).to_http_request();
            part(&request, 10, &tag)
        };
        assert_eq!(of("bytes=2-4"), Part::Bytes(2, 4));
        assert_eq!(of("bytes=8-"), Part::Bytes(8, 9));
        assert_eq!(of("bytes=-3"), Part::Bytes(7, 9));
        assert_eq!(of("bytes=0-99"), Part::Bytes(0, 9));
        assert_eq!(of("bytes=10-"), Part::OutOfRange);
        for other in ["bytes=0-1,4-5", "rows=1-2", "nonsense"] {
            assert_eq!(of(other), Part::Whole, "{other}");
        }
        for (condition, expected) in [("\"abc\"", Part::Bytes(2, 4)), ("\"other\"", Part::Whole)] {
            let request = TestRequest::default()
                .insert_header((RANGE, "bytes=2-4"))
                .insert_header((IF_RANGE, condition))
                .to_http_request();
            assert_eq!(part(&request, 10, &tag), expected, "{condition}");
        }
    }
}
