//! The names, the rules and the one error that every other layer uses.
//!
//! Promises: a value is valid from the moment it exists (`parse` is its only constructor for user input); nothing
//! here does I/O, reads a clock other than through [`Clock`], or decides by chance. Must not know: HTTP, SQL, settings.
//!
//! To add a name: a newtype with a private field, one `parse` that returns a [`Rule`] when it refuses, and a table of
//! cases in the tests of its file.

pub mod access;
pub mod address;
pub mod archive;
pub mod audit;
pub mod clock;
mod conflict;
pub mod end;
pub mod error;
pub mod feed;
pub mod invitation;
pub mod json;
pub mod names;
mod noun;
pub mod operation;
pub mod outage;
pub mod page;
pub mod percent;
pub mod profile;
pub mod purge;
pub mod rule;
pub mod status;
pub mod tenant;
pub mod token;
pub mod user;
pub mod user_agent;

pub use access::{Access, Permission, Role};
pub use audit::{AuditAction, EventType};
pub use clock::Clock;
pub use end::{End, EndChange};
pub use error::{Error, Result};
pub use feed::FeedCursor;
pub use names::{
    Email, NewPassword, Password, PersonName, SchemaName, Slug, TenantId, TenantName, UserId,
};
pub use profile::{Document, Identity, ProfileId};
pub use rule::{FieldProblem, Rule};
pub use status::TenantStatus;
pub use tenant::Tenant;
pub use token::{ConsoleCredential, TokenKind};
pub use user::{AccountOrigin, User};
pub use user_agent::UserAgent;
