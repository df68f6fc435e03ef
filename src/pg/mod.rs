//! All SQL: connections, scopes, schemas, roles and the statements for each noun.
//!
//! Promises: code outside this folder holds no raw connection. A query runs in a [`PublicTx`] or a [`TenantTx`]
//! and in nothing else. Functions for control tables take the one, functions for tenant tables the other, so
//! mixing them up does not compile. Must not know: HTTP, permissions, who the caller is.
//!
//! The parts, lowest first; a part may import those above it in this list:
//!
//! - [`error`], [`rules`]: failures by remedy; the rules of every transaction
//! - [`connect`]: connection URLs, TLS, opening connections, dedicated ones, cancel requests on their way
//! - [`pool`]: pools, and which connection a tenant gets
//! - [`scope`]: the two transactions, [`PublicTx`] and [`TenantTx`]
//! - [`db`], [`locks`]: the pools of one runtime; locks
//! - [`catalog`]: reads the system catalogs
//! - [`control`]: the tables of `public`, one file a noun
//! - [`tenant`]: the tables of a tenant's schema
//! - [`schema`]: creates, migrates and drops a tenant's schema
//! - [`portability`]: reads and writes all rows of a tenant, for archives
//! - [`bootstrap`]: prepares a database
//!
//! To add a query, write a function in the file of its noun: one statement, explicit columns, parameters bound
//! through [`Param`], `.during("read tenant row")` on its failure. A new noun is a new file.

pub mod bootstrap;
pub mod catalog;
pub mod clock;
pub mod connect;
pub mod control;
pub mod db;
pub mod error;
pub mod locks;
pub mod pool;
pub mod portability;
pub mod rules;
pub mod schema;
pub mod scope;
pub mod tenant;

/// The types of PostgreSQL, and the traits that map types of Rust to them.
pub mod types {
    pub use tokio_postgres::types::{FromSql, Json, ToSql, Type};
}

pub use db::Db;
pub use error::{During, Failure, OnViolation};
pub use scope::param::Param;
pub use scope::{Portal, PublicTx, Rows, SharedTx, TenantTx};
pub use tokio_postgres::Row;
