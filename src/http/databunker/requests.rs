//! The request bodies of this dialect, for the OpenAPI document. [`call`](super::call) reads them leniently: null means
//! absent, a number can be a string, and an unknown field (such as `request_metadata`) is ignored.

mod fields;
pub(super) mod persons;
pub(super) mod tenants;
pub(super) mod unlocked;
pub(super) mod users;
pub(super) mod v1;
