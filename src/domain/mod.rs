//! The names, rules and one error that every other room speaks in.
//!
//! Promises: values here are valid from the moment they exist (`parse` is the only way in), nothing
//! here does I/O, reads a clock or draws a random number. Must not know: HTTP, SQL, settings.
//!
//! To add a word: a newtype with a private field, one `parse` that returns a [`Rule`] when it refuses,
//! and a table of cases in the tests of its file.

pub mod access;
pub mod clock;
pub mod error;
pub mod names;
pub mod operation;
pub mod page;
pub mod profile;
pub mod rule;
pub mod status;
pub mod tenant;
pub mod user;

pub use access::{Permission, Role};
pub use clock::Clock;
pub use error::{Error, Result};
pub use names::{Email, Password, PersonName, SchemaName, Slug, TenantId, TenantName, UserId};
pub use profile::{Document, Identity, ProfileId};
pub use rule::{FieldProblem, Rule};
pub use status::TenantStatus;
pub use tenant::Tenant;
pub use user::User;
