//! Error responses of this dialect as types, for the OpenAPI document.
//!
//! 400, 403 and 404 of a tenant belong to every operation that takes a credential, so
//! [`document`](crate::http::document) adds them.

#![expect(dead_code, reason = "describes answers in the OpenAPI document")]

use utoipa::IntoResponses;

use super::ErrorBody;

/// The caller lacks a permission, or the unlock is not valid.
#[derive(IntoResponses)]
#[response(status = 403, description = "Access denied or bad unlock")]
pub(super) struct Locked(ErrorBody);

/// The caller is not an admin of the main tenant.
#[derive(IntoResponses)]
#[response(status = 403, description = "Only the main tenant admin can do this")]
pub(super) struct MainAdminOnly(ErrorBody);

/// The caller is not an admin of the main tenant, or the unlock is not valid.
#[derive(IntoResponses)]
#[response(status = 403, description = "Only the main tenant admin can do this, or bad unlock")]
pub(super) struct MainAdminLocked(ErrorBody);

/// No record has the token or the key.
#[derive(IntoResponses)]
#[response(status = 404, description = "The user record was not found")]
pub(super) struct NoSuchRecord(ErrorBody);

/// Another record has one of the keys.
#[derive(IntoResponses)]
#[response(status = 409, description = "Duplicate index: email, login, phone or custom")]
pub(super) struct DuplicateIndex(ErrorBody);

/// Another tenant has the name.
#[derive(IntoResponses)]
#[response(status = 409, description = "Duplicate tenant name")]
pub(super) struct DuplicateTenant(ErrorBody);

/// Another tenant has the name, or the tenant is being deleted.
#[derive(IntoResponses)]
#[response(status = 409, description = "Duplicate tenant name, or the tenant is being deleted")]
pub(super) struct TenantNotChanged(ErrorBody);
