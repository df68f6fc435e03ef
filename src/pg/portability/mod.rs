//! Reads and writes all rows of one tenant's schema: from one snapshot for an archive, and into a schema that the same
//! transaction has built; exchanges the schemas of two tenants.
//!
//! Promises: nothing here reads the catalogs of other tenants, so that the cost does not grow with their number
//! (`pg_class` has no index by schema; `pg_depend` has one by what is depended on). Identifiers come from the catalogs,
//! quoted by the server, and never from an archive. Must not know: the form of an archive.

pub mod check;
pub mod clone;
pub mod control;
pub mod copy_in;
pub mod rebuild;
pub mod snapshot;
pub mod swap;
pub mod tables;

pub use crate::pg::scope::copy::{RowBlock, RowSink, RowSource};
