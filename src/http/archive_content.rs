//! What the control API and the console share of archives: the conditions on a list of them, and the content of one, whole
//! or a range of it, as the answer to a request.

use std::pin::Pin;

use actix_web::body::SizedStream;
use actix_web::http::header::{
    ACCEPT_RANGES, CONTENT_RANGE, ContentDisposition, ContentEncoding, DispositionParam,
    DispositionType, ETag, EntityTag, Header, IF_RANGE, IfNoneMatch, Range,
};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use tokio::io::{AsyncRead, AsyncReadExt};
use utoipa::ToSchema;

use crate::auth::CallContext;
use crate::domain::archive::ArchiveProblem;
use crate::domain::error::Result;
use crate::domain::names::Slug;
use crate::domain::rule::Rule;
use crate::http::body::{Fields, word};
use crate::service::StoredArchives;
use crate::service::stored_archives::{Content, Filter, KINDS, Record, STATES};

/// The media type of an archive.
pub(super) const TAR: &str = "application/x-tar";

/// The bytes of an archive, as the OpenAPI document has them: not a list of numbers.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct ArchiveBytes(#[expect(dead_code, reason = "it is only described")] Vec<u8>);

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

/// Takes the conditions on a list of archives.
pub(super) fn filter(query: &mut Fields) -> Filter {
    Filter {
        tenant: query.optional("tenant", |text| {
            if text.contains('\0') { Err(Rule::ControlCharacter) } else { Ok(text.to_owned()) }
        }),
        kind: query.optional("kind", word(KINDS)),
        state: query.optional("state", word(STATES)),
    }
}

/// Answers with the content of an archive, or with what the request asks for of it. A client may take any time.
///
/// # Errors
/// [`ArchiveProblem::OutOfRange`], and those of [`StoredArchives::fetch`].
pub(super) async fn respond(
    request: &HttpRequest,
    ctx: &CallContext,
    stored: &StoredArchives,
    record: &Record,
) -> Result<HttpResponse> {
    let content = record.stored()?;
    let tag = EntityTag::new_strong(content.sha256.clone());
    if is_known(request, &tag) {
        return Ok(HttpResponse::NotModified().insert_header(ETag(tag)).finish());
    }
    let size = content.bytes;
    let (mut answer, first, last) = match part(request, size, &tag) {
        Part::Whole => (HttpResponse::Ok(), 0, size.saturating_sub(1)),
        Part::Bytes(first, last) => {
            let mut answer = HttpResponse::PartialContent();
            answer.insert_header((CONTENT_RANGE, format!("bytes {first}-{last}/{size}")));
            (answer, first, last)
        }
        Part::OutOfRange => return Err(ArchiveProblem::OutOfRange(size).into()),
    };
    let bytes = stored.fetch(ctx, record.id, first..last + 1).await?;
    Ok(answer
        .content_type(TAR)
        // It is compressed, and its bytes are those of the digest.
        .insert_header(ContentEncoding::Identity)
        .insert_header((ACCEPT_RANGES, "bytes"))
        .insert_header(ETag(tag))
        .insert_header(("repr-digest", digest(content)))
        .insert_header(disposition(record))
        .body(SizedStream::new(last + 1 - first, chunks(bytes))))
}

/// Whether the client has what the tag stands for (`If-None-Match`).
pub(super) fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(tag)),
        Err(_unreadable) => false,
    }
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
