//! Authenticates callers, and carries the result.
//!
//! [`password`] hashes and compares, [`jwt`] signs and checks access tokens, [`token`] creates and digests opaque ones,
//! [`secret_key`] encrypts the signing keys, [`detached`] signs what is not a token. [`Principal`] is an authenticated
//! caller, [`CallContext`] the first argument of every service method. Must not know: HTTP, SQL, where a secret is stored.

pub mod context;
pub mod detached;
pub mod jwt;
pub mod password;
mod random;
pub mod secret_key;
pub mod token;

pub use context::{CallContext, Membership, Principal};
