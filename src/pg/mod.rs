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
pub mod capacity;
pub mod catalog;
#[cfg(feature = "embedded-postgres")]
pub mod embedded;
pub mod error;
mod lanes;
pub mod lint;
pub mod lone;
pub mod migrations;
pub mod param;
pub mod pool;
mod retirement;
pub mod schemas;
pub mod scope;
pub mod statement;
pub mod tls;
pub mod url;

pub mod api_keys;
pub mod audit_chain;
pub mod audit_events;
pub mod belongings;
pub mod idempotency;
pub mod members;
pub mod memberships;
pub mod migration_sets;
pub mod new_tenants;
pub mod operation_tenants;
pub mod operations;
pub mod profiles;
pub mod sessions;
pub mod signing_keys;
pub mod tenant_records;
pub mod tenants;
pub mod tokens;
pub mod unlocks;
pub mod users;
pub mod vacancies;

pub use error::{During, Failure};
pub use param::Param;
pub use pool::Db;
pub use scope::{PublicTx, TenantTx};
pub use tokio_postgres::Row;
