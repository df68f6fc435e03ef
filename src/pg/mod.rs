//! Speaks SQL: pools, scopes, schemas, roles, migrations, and one file a noun of statements.
//!
//! Promises: nothing outside of this folder holds a raw connection. A query runs in a
//! [`PublicTx`] or a [`TenantTx`] and in nothing else; functions for
//! control tables take the one, functions for tenant tables the other, so mixing them up does not
//! compile. Must not know: HTTP, permissions, who is calling.
//!
//! To add a query: a function in the file of its noun, one statement each, explicit columns, types bound
//! through [`Param`], `.during("read tenant row")` on its failure. A new noun is a new file.

pub mod bootstrap;
pub mod catalog;
pub mod connect;
pub mod control;
pub mod db;
pub mod error;
pub mod locks;
pub mod pool;
pub mod rules;
pub mod schema;
pub mod scope;
pub mod tenant;

pub use db::Db;
pub use error::{During, Failure};
pub use scope::param::Param;
pub use scope::{PublicTx, TenantTx};
pub use tokio_postgres::Row;
