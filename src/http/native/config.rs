//! What an application's handlers get by default: bad JSON, forms, paths and queries are answered in the native form.

use actix_web::error::{
    JsonPayloadError, PathError, PayloadError, QueryPayloadError, UrlencodedError,
};
use actix_web::web::{self, ServiceConfig};

use super::Problem;
use crate::domain::error::{Error, Malformed, Noun};
use crate::domain::rule::{FieldProblem, Rule};

/// Sets how the extractors of actix-web read and refuse, up to this size of a body.
pub(crate) fn extractors(config: &mut ServiceConfig, max_body_bytes: usize) {
    let limit = max_body_bytes;
    config
        .app_data(web::PayloadConfig::new(limit))
        .app_data(
            web::JsonConfig::default()
                .limit(limit)
                .error_handler(move |error, _| Problem(of_json(&error, limit)).into()),
        )
        .app_data(
            web::FormConfig::default()
                .limit(limit)
                .error_handler(move |error, _| Problem(of_form(&error, limit)).into()),
        )
        .app_data(
            web::PathConfig::default().error_handler(|error, _| Problem(of_path(&error)).into()),
        )
        .app_data(
            web::QueryConfig::default().error_handler(|error, _| Problem(of_query(&error)).into()),
        );
}

fn of_json(error: &JsonPayloadError, limit: usize) -> Error {
    match error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            Error::Malformed(Malformed::TooLarge { limit })
        }
        JsonPayloadError::ContentType => Error::Malformed(Malformed::Header("Content-Type")),
        JsonPayloadError::Deserialize(error) if error.is_data() => {
            Error::Invalid(vec![field(&error.to_string(), "body")])
        }
        JsonPayloadError::Deserialize(error) => {
            Error::Malformed(Malformed::Json { line: error.line(), column: error.column() })
        }
        JsonPayloadError::Payload(error) => of_payload(error, limit),
        _ => Error::Malformed(Malformed::Body),
    }
}

fn of_form(error: &UrlencodedError, limit: usize) -> Error {
    match error {
        UrlencodedError::Overflow { .. } => Error::Malformed(Malformed::TooLarge { limit }),
        UrlencodedError::ContentType => Error::Malformed(Malformed::Header("Content-Type")),
        UrlencodedError::Parse(error) => Error::Invalid(vec![field(&error.to_string(), "body")]),
        UrlencodedError::Payload(error) => of_payload(error, limit),
        _ => Error::Malformed(Malformed::Body),
    }
}

fn of_payload(error: &PayloadError, limit: usize) -> Error {
    match error {
        PayloadError::Overflow => Error::Malformed(Malformed::TooLarge { limit }),
        _ => Error::Malformed(Malformed::Body),
    }
}

/// A path whose parts are not of the types of the route names nothing.
fn of_path(_: &PathError) -> Error {
    Error::NotFound(Noun::Route)
}

fn of_query(error: &QueryPayloadError) -> Error {
    match error {
        QueryPayloadError::Deserialize(error) => {
            Error::Invalid(vec![field(&error.to_string(), "query")])
        }
        _ => Error::invalid("query", Rule::Required),
    }
}

/// Returns the field that serde's message names, else the whole, and the rule that it breaks.
fn field(message: &str, whole: &'static str) -> FieldProblem {
    let quoted = || message.split('`').nth(1).unwrap_or(whole).to_owned();
    if message.starts_with("missing field") {
        return FieldProblem::new(quoted(), Rule::Required);
    }
    if message.starts_with("unknown field") || message.starts_with("duplicate field") {
        return FieldProblem::new(quoted(), Rule::Unknown);
    }
    let expected = message.split_once("expected ").map_or("", |(_, expected)| expected);
    let kinds = [
        ("a string", "string"),
        ("a borrowed string", "string"),
        ("a boolean", "boolean"),
        ("a sequence", "array"),
        ("a map", "object"),
        ("struct", "object"),
        ("u", "number"),
        ("i", "number"),
        ("f", "number"),
    ];
    let kind = kinds.iter().find(|(words, _)| expected.starts_with(words));
    FieldProblem::new(whole, kind.map_or(Rule::Own("wrong_value"), |(_, kind)| Rule::Type(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Note {
        title: String,
        size: Option<u32>,
    }

    #[test]
    fn what_serde_refuses_names_the_field_or_the_type() {
        for (text, name, code) in [
            ("{}", "title", "required"),
            (r#"{"titel":"x"}"#, "titel", "unknown_field"),
            (r#"{"title":"x","size":"y"}"#, "body", "wrong_type"),
            (r#"{"title":5}"#, "body", "wrong_type"),
            ("[5]", "body", "wrong_type"),
        ] {
            let error = serde_json::from_str::<Note>(text).unwrap_err();
            let found = field(&error.to_string(), "body");
            assert_eq!((found.field.as_ref(), found.rule.code()), (name, code), "{error}");
        }
    }
}
