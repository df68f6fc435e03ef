//! The native form of requests and errors: the error body, the caller, the tenant transaction. Rowhouse's routes without
//! a foreign contract, Reten's dialect and an application's own handlers use it.

pub mod caller;
mod problem;
pub(crate) mod responses;
pub(crate) mod scoped;

pub use caller::{Caller, PublicCall, Write};
pub use problem::{ErrorBody, FieldError, Problem};
