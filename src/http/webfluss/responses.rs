//! Error responses of this dialect as types, for the OpenAPI document.

#![expect(dead_code, reason = "describes answers in the OpenAPI document")]

use std::marker::PhantomData;

use utoipa::IntoResponses;

use super::ErrorBody;
use crate::http::responses::{Required, missing};

/// The caller lacks a permission.
#[derive(IntoResponses)]
#[response(status = 403, description = missing::<P>())]
pub(super) struct Forbidden<P: Required>(ErrorBody, PhantomData<P>);
