//! Proves who is calling, and carries the proof.
//!
//! Bytes in, verdict out: [`password`] hashes and compares, [`jwt`] signs and checks access tokens,
//! [`token`] makes and digests opaque ones. [`Principal`] is a proven caller, [`CallContext`] what every
//! service method is called with. Must not know: HTTP, SQL, where a secret is kept.

pub mod context;
pub mod jwt;
pub mod password;
pub mod token;

pub use context::{CallContext, Membership, Principal};
