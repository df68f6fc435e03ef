//! What this dialect's calls send, for the OpenAPI document. They are read by [`call`](super::call), whose
//! leniency is told here: null is as good as absent, numbers may be texts, and what is not listed is ignored
//! (`request_metadata`, say).

mod fields;
pub(super) mod persons;
pub(super) mod tenants;
pub(super) mod unlocked;
pub(super) mod users;
pub(super) mod v1;
