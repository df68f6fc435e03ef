//! A new person in a body: the schema of the fields, and how they are read.

use utoipa::ToSchema;

use crate::domain::names::{NewPassword, PersonName};
use crate::http::body::Fields;
use crate::service::members::NewPerson;

/// A given or family name.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a field in the OpenAPI document")]
#[schema(
    min_length = 1,
    max_length = 255,
    pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
)]
pub(super) struct PersonNameText(String);

/// Returns whether a body describes a new person.
pub(super) fn describes_person(body: &Fields) -> bool {
    ["password", "first_name", "last_name"].iter().any(|name| body.has(name))
}

/// Takes the fields of a new person; all are required.
pub(super) fn person(body: &mut Fields) -> Option<NewPerson> {
    let password = body.required("password", NewPassword::parse);
    let first_name = body.required("first_name", PersonName::parse);
    let last_name = body.required("last_name", PersonName::parse);
    Some(NewPerson { password: password?, first_name: first_name?, last_name: last_name? })
}
