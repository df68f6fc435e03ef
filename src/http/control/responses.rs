//! Error responses of this dialect as types, for the OpenAPI document.

#![expect(dead_code, reason = "describes answers in the OpenAPI document")]

use std::marker::PhantomData;

use utoipa::IntoResponses;

use super::PROBLEM_JSON;
use super::ProblemBody;
use crate::http::responses::{Required, missing};

/// The body breaks a rule.
#[derive(IntoResponses)]
#[response(
    status = 400,
    description = "The body is not valid; `errors` lists every invalid field",
    content_type = PROBLEM_JSON
)]
pub(super) struct InvalidBody(ProblemBody);

/// A query parameter breaks a rule.
#[derive(IntoResponses)]
#[response(status = 400, description = "A parameter is unknown or not valid", content_type = PROBLEM_JSON)]
pub(super) struct InvalidParameter(ProblemBody);

/// The operation takes neither a body nor a query parameter.
#[derive(IntoResponses)]
#[response(
    status = 400,
    description = "The request has a body or a query parameter; this operation takes neither",
    content_type = PROBLEM_JSON
)]
pub(super) struct Unexpected(ProblemBody);

/// The caller lacks a permission.
#[derive(IntoResponses)]
#[response(status = 403, description = missing::<P>(), content_type = PROBLEM_JSON)]
pub(super) struct Forbidden<P: Required>(ProblemBody, PhantomData<P>);

/// The caller has no session.
#[derive(IntoResponses)]
#[response(
    status = 403,
    description = "The credential is no user's session: an API token, an API key or the root token",
    content_type = PROBLEM_JSON
)]
pub(super) struct SessionRequired(ProblemBody);

/// The path names no tenant that the caller can see.
#[derive(IntoResponses)]
#[response(
    status = 404,
    description = "No such tenant, or one that the caller cannot see",
    content_type = PROBLEM_JSON
)]
pub(super) struct NoSuchTenant(ProblemBody);

/// The path names no member.
#[derive(IntoResponses)]
#[response(status = 404, description = "No such tenant or member", content_type = PROBLEM_JSON)]
pub(super) struct NoSuchMember(ProblemBody);

/// The path names no fleet migration.
#[derive(IntoResponses)]
#[response(status = 404, description = "No such migration", content_type = PROBLEM_JSON)]
pub(super) struct NoSuchMigration(ProblemBody);

/// The path names no examination.
#[derive(IntoResponses)]
#[response(status = 404, description = "No such examination", content_type = PROBLEM_JSON)]
pub(super) struct NoSuchExamination(ProblemBody);

/// The path names no import.
#[derive(IntoResponses)]
#[response(status = 404, description = "No such import", content_type = PROBLEM_JSON)]
pub(super) struct NoSuchImport(ProblemBody);

/// The path names no archive that the caller can see.
#[derive(IntoResponses)]
#[response(
    status = 404,
    description = "No such archive, or one that the caller cannot see",
    content_type = PROBLEM_JSON
)]
pub(super) struct NoSuchArchive(ProblemBody);

/// The fleet migration is over.
#[derive(IntoResponses)]
#[response(status = 409, description = "The migration has ended", content_type = PROBLEM_JSON)]
pub(super) struct Ended(ProblemBody);

/// The tenant would lose its last admin, or is being deleted.
#[derive(IntoResponses)]
#[response(
    status = 409,
    description = "The member is the tenant's last admin, or the tenant is being deleted",
    content_type = PROBLEM_JSON
)]
pub(super) struct LastAdmin(ProblemBody);

/// What a conditional operation can answer to `If-Match`.
#[derive(IntoResponses)]
pub(super) enum Conditional {
    #[response(
        status = 412,
        description = "The tenant has another revision than If-Match names",
        content_type = PROBLEM_JSON
    )]
    Changed(ProblemBody),
    #[response(status = 428, description = "If-Match is missing", content_type = PROBLEM_JSON)]
    Missing(ProblemBody),
}
