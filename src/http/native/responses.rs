//! Error responses of this dialect as types, for the OpenAPI document.

#![expect(dead_code, reason = "describes answers in the OpenAPI document")]

use std::marker::PhantomData;

use utoipa::IntoResponses;

use super::ErrorBody;
use crate::http::responses::{Required, missing};

/// The caller lacks a permission.
#[derive(IntoResponses)]
#[response(status = 403, description = missing::<P>())]
pub(crate) struct Forbidden<P: Required>(ErrorBody, PhantomData<P>);

/// What an operation inside of one tenant can answer, if it requires a permission there.
#[derive(IntoResponses)]
pub(crate) enum InTenant<P: Required> {
    #[response(status = 400, description = "x-tenant-id is missing or not valid")]
    Unnamed(ErrorBody),
    #[response(status = 403, description = missing::<P>() + " in this tenant")]
    Forbidden(ErrorBody, PhantomData<P>),
    #[response(status = 404, description = "No such tenant, or it is not active")]
    NoSuchTenant(ErrorBody),
}
