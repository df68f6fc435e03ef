//! The representation of the errors of a request that cannot be read, or whose caller is not recognised.

use actix_web::http::StatusCode;

use super::Representation;
use crate::domain::error::{AuthProblem, Malformed};
use crate::domain::json::Excess;

pub(super) fn malformed(problem: Malformed) -> Representation {
    let (status, code, title, detail) = match problem {
        Malformed::Json { line, column } => (
            StatusCode::BAD_REQUEST,
            "malformed_json",
            "The body is not valid JSON",
            format!("It breaks off or goes wrong at line {line}, column {column}"),
        ),
        Malformed::NotAnObject => (
            StatusCode::BAD_REQUEST,
            "not_an_object",
            "The body is not a JSON object",
            "Send an object, {..}".to_owned(),
        ),
        Malformed::TooLarge { limit } => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "The body is too large",
            format!("At most {limit} bytes are read"),
        ),
        Malformed::Excess(excess) => {
            let code = match excess {
                Excess::LongNumber => "json_number_too_long",
                Excess::TooManyValues => "json_too_many_values",
                Excess::ReservedName => "json_reserved_name",
            };
            let detail = format!("It {excess}");
            (StatusCode::BAD_REQUEST, code, "The body exceeds a limit for JSON", detail)
        }
        Malformed::ContentEncoding => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_encoding",
            "The body is compressed",
            "Send it as it is: no Content-Encoding but identity is read".to_owned(),
        ),
        Malformed::Body => (
            StatusCode::BAD_REQUEST,
            "malformed_body",
            "The body could not be read",
            "It broke off or could not be decoded".to_owned(),
        ),
        Malformed::TooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            "The body did not come in time",
            "Send all of it at once".to_owned(),
        ),
        Malformed::Method => (
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This path does not answer to this method",
            "Allow lists the methods that it answers to".to_owned(),
        ),
        Malformed::Header(name) => (
            StatusCode::BAD_REQUEST,
            "malformed_header",
            "A header cannot be used as it is",
            format!("The header {name} has an incorrect format"),
        ),
    };
    Representation { status, code, title, detail }
}

pub(super) fn unauthenticated(problem: AuthProblem) -> Representation {
    let detail = match problem {
        AuthProblem::Missing => "Send an Authorization header with a bearer token",
        AuthProblem::Invalid => "The token is not valid",
        AuthProblem::Expired => "The token has expired",
        AuthProblem::WrongPassword => "Email or password are wrong",
        AuthProblem::Unlock => "The unlock is not valid",
        AuthProblem::Several => "Send a bearer token or an x-api-key, not both",
    };
    Representation {
        status: StatusCode::UNAUTHORIZED,
        code: "unauthenticated",
        title: "No valid credential",
        detail: detail.to_owned(),
    }
}
