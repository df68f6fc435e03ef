//! The native form of requests and errors: the error body, the caller, the tenant transaction. Rowhouse's routes without
//! a foreign contract, Reten's dialect and an application's own handlers use it.

pub mod caller;
mod config;
mod problem;
pub(crate) mod responses;
pub(crate) mod scoped;

pub(crate) use config::extractors;

pub use caller::{Caller, PublicCall, Read, Write};
pub use problem::{ErrorBody, FieldError, Problem};
