//! What every dialect of ours shares: the error body, the caller, the tenant transaction extractor.

pub mod caller;
mod problem;
pub(crate) mod responses;
pub(crate) mod scoped;

pub use caller::{Caller, PublicCall};
pub use problem::{ErrorBody, FieldError, Problem};
