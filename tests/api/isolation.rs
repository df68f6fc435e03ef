//! Tenant isolation, attacked in every way known to this project.
//!
//! `attacks` is a table of hostile statements. Each is sent through the guard (`TenantTx`) and, as if the
//! guard failed, directly, so that the table records for each whether the database or only the guard stops
//! it. The table in `docs/isolation.md` has the same lines in words. `session_state` checks what remains in a
//! connection's session for its next user. `guard` checks the rules of `pg::scope` one by one.
//! `concurrency` runs all of it at the same time.
//!
//! A newly found attack is added to the table first.

mod attacks;
mod concurrency;
pub mod fixture;
mod guard;
mod session_state;
