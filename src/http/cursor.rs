//! Writes and reads the positions of lists and the times in queries.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::domain::page::Cursor;
use crate::domain::rule::Rule;

/// Parses a point in time in RFC 3339.
pub(in crate::http) fn timestamp(text: &str) -> Result<OffsetDateTime, Rule> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_no_time| Rule::Timestamp)
}

/// Writes a cursor, which is opaque to callers: the time in microseconds and the id.
pub(in crate::http) fn write_cursor(cursor: Cursor) -> String {
    let micros = i64::try_from(cursor.at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX);
    let mut bytes = micros.to_be_bytes().to_vec();
    bytes.extend_from_slice(cursor.id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Parses what [`write_cursor`] wrote.
pub(in crate::http) fn parse_cursor(text: &str) -> Result<Cursor, Rule> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_no_base64| Rule::Cursor)?;
    let (micros, id) = bytes.split_first_chunk::<8>().ok_or(Rule::Cursor)?;
    let nanos = i128::from(i64::from_be_bytes(*micros)) * 1000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_no_time| Rule::Cursor)?;
    // No row is older than the epoch, and PostgreSQL's calendar ends before that of `time`.
    if nanos < 0 {
        return Err(Rule::Cursor);
    }
    let id = Uuid::from_slice(id).map_err(|_no_id| Rule::Cursor)?;
    Ok(Cursor { at, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_a_round_trip_and_other_texts_are_refused() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_000).unwrap();
        let cursor = Cursor { at, id: Uuid::from_u128(7) };
        assert_eq!(parse_cursor(&write_cursor(cursor)), Ok(cursor));
        for bad in ["", "x", "AAAA", "not base64!", &URL_SAFE_NO_PAD.encode([0xff_u8; 25])] {
            assert_eq!(parse_cursor(bad), Err(Rule::Cursor), "{bad:?}");
        }
        // Times outside the calendar, or before the epoch.
        for micros in [i64::MAX, -1, -377_705_116_800_000_000] {
            let mut bytes = micros.to_be_bytes().to_vec();
            bytes.extend_from_slice(&[0; 16]);
            assert_eq!(parse_cursor(&URL_SAFE_NO_PAD.encode(bytes)), Err(Rule::Cursor), "{micros}");
        }
    }
}
