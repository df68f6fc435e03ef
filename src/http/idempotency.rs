//! Reads `Idempotency-Key`, the header that makes a retry safe: the same key and body get the first answer again. Must
//! not know: what is created under the key.

use actix_web::HttpRequest;

use crate::domain::error::{Error, Malformed, Result};
use crate::domain::names::IDEMPOTENCY_KEY_MAX;

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Returns the key of a request, if it has one.
///
/// # Errors
/// [`Malformed::Header`] for one that is empty, too long or not printable ASCII, and for several.
pub(super) fn key(request: &HttpRequest) -> Result<Option<String>> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else { return Ok(None) };
    value
        .to_str()
        .ok()
        .filter(|key| (1..=IDEMPOTENCY_KEY_MAX).contains(&key.len()))
        .filter(|key| key.bytes().all(|byte| matches!(byte, b' '..=b'~')))
        // It would be unclear which of two keys counts.
        .filter(|_| values.next().is_none())
        .map(|key| Some(key.to_owned()))
        .ok_or(Error::Malformed(Malformed::Header(IDEMPOTENCY_KEY)))
}
