//! Refuses bodies that are compressed. A few kilobytes can stand for gigabytes, which are in memory before a limit on
//! the decompressed size is checked; no client of the dialects compresses.

use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};

use crate::domain::error::{Error, Malformed, Result};

/// Refuses every coding but `identity`, in any number of headers and in any place of their lists.
///
/// # Errors
/// [`Malformed::ContentEncoding`].
pub(super) fn require_identity(headers: &HeaderMap) -> Result<()> {
    let is_identity = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
    let all = headers.get_all(CONTENT_ENCODING).all(|value| {
        value.to_str().is_ok_and(|list| list.split(',').map(str::trim).all(is_identity))
    });
    if all { Ok(()) } else { Err(Error::Malformed(Malformed::ContentEncoding)) }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn verdict(values: &[&'static [u8]]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_bytes(value).unwrap());
        }
        require_identity(&headers).is_ok()
    }

    #[test]
    fn identity_is_the_only_coding_that_is_accepted() {
        for accepted in
            [&[][..], &[&b"identity"[..]], &[b"Identity , identity"], &[b""], &[b"", b"identity"]]
        {
            assert!(verdict(accepted), "{accepted:?}");
        }
        for refused in [
            &[&b"gzip"[..]][..],
            &[b"GZIP"],
            &[b"x-gzip"],
            &[b"br"],
            &[b"zstd"],
            &[b"deflate"],
            &[b"gzip;q=0"],
            &[b"anything"],
            &[b"identity, gzip"],
            &[b"gzip, identity"],
            &[b"identity", b"gzip"],
            &[b"identity", b"identity", b"identity,,deflate"],
            &[b"\xff"],
        ] {
            assert!(!verdict(refused), "{refused:?}");
        }
    }
}
