//! Schemas of the fields that this dialect reads leniently: numbers, keys, durations.

use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema, SchemaFormat};

const DIGITS: &str = "^\\s*[+-]?[0-9]{1,18}\\s*$";

/// The pattern of a duration: `30d`, `1y`, `24h`, `2s`, `6w`, `3m` or seconds; an empty string means none.
const LENGTH: &str = "^\\s*(([1-9][0-9]{0,8}s?|[1-9][0-9]{0,4}h|[1-9][0-9]{0,3}d|[1-9][0-9]{0,2}[wm]|[1-9][0-9]?y)\\s*)?$";

/// The longest duration in seconds: a hundred years.
const LENGTH_MAX: i64 = 100 * 365 * 86_400;

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

pub(super) fn null() -> Schema {
    Schema::Object(nothing().build())
}

fn any_of(schemas: impl IntoIterator<Item = ObjectBuilder>) -> Schema {
    let add = |any: AnyOfBuilder, schema: ObjectBuilder| any.item(RefOr::T(schema.build().into()));
    schemas.into_iter().fold(AnyOfBuilder::new(), add).into()
}

fn nothing() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

fn whole(min: i64, max: i64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(min)).maximum(Some(max))
}

/// An integer, or a string of digits.
pub(super) fn number() -> Schema {
    any_of([whole(i64::MIN, i64::MAX), text().pattern(Some(DIGITS))])
}

pub(super) fn optional_number() -> Schema {
    any_of([whole(i64::MIN, i64::MAX), text().pattern(Some(DIGITS)), nothing()])
}

pub(super) fn optional_version() -> Schema {
    let (min, max) = (i64::from(i32::MIN), i64::from(i32::MAX));
    any_of([whole(min, max), text().pattern(Some("^\\s*[+-]?[0-9]{1,9}\\s*$")), nothing()])
}

/// A key that is not empty after trimming; a number means its digits.
pub(super) fn key() -> Schema {
    let text = text().min_length(Some(1)).max_length(Some(512)).pattern(Some("\\S"));
    any_of([text, ObjectBuilder::new().schema_type(Type::Number)])
}

/// A telephone number that is not empty without spaces and punctuation.
pub(super) fn phone() -> Schema {
    let text = text().min_length(Some(1)).max_length(Some(512)).pattern(Some("[^\\s().-]"));
    any_of([text, ObjectBuilder::new().schema_type(Type::Number)])
}

pub(super) fn optional_key() -> Schema {
    let kinds = [Type::String, Type::Number, Type::Null];
    let key = ObjectBuilder::new().schema_type(SchemaType::from_iter(kinds));
    Schema::Object(key.max_length(Some(512)).build())
}

pub(super) fn length() -> Schema {
    any_of([text().pattern(Some(LENGTH)), whole(1, LENGTH_MAX), nothing()])
}

/// An e-mail address; an empty string means none.
pub(super) fn optional_email() -> Schema {
    let email = SchemaFormat::KnownFormat(KnownFormat::Email);
    any_of([
        text().format(Some(email)).max_length(Some(254)),
        text().max_length(Some(0)),
        nothing(),
    ])
}
