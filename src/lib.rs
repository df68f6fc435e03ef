//! Rowhouse: a schema-per-tenant `SaaS` backend for PostgreSQL.
//!
//! Tenants share the walls of one database and each has a house of its own: a schema `tenant_<id>`,
//! entered through one door.
//!
//! # The map
//!
//! A request falls straight down and its answer climbs straight back. Imports run only downward;
//! `tests/layering.rs` reads `src/` and fails on one that does not.
//!
//! ```text
//!              main ── cli ──┐
//!                            v
//!                           app             composition root: builds everything once
//!                            |
//!    ┌───────────────────────v────────────────────────┐
//!    |  http     one folder a dialect: wire forms, status codes
//!    └───────────────────────┬────────────────────────┘
//!                            v
//!                         service           use cases, rights checks, order of steps, transaction borders
//!                       /         \
//!                      v           v
//!                    auth          pg       proofs of identity | SQL, schemas, roles, scopes
//!                       \         /
//!                        v       v
//!                         domain            names, rules, the one error; no I/O
//! ```
//!
//! # The invariants
//!
//! - **Whole or not at all.** A tenant's row, schema, role, tables, admin and audit event are made in one
//!   transaction ([`service::provisioning`]), which may take a schema that was built whole before
//!   ([`service::vacancies`]).
//! - **One door.** A tenant's tables are reached through a [`TenantTx`] and through nothing else; it
//!   becomes the tenant's role and sees the tenant's schema for the length of one transaction
//!   ([`pg::scope`]).
//! - **Identifiers are ours.** An SQL identifier comes from a
//!   [`SchemaName`](domain::SchemaName), which is made from an id that we generated.
//! - **The rights check is the first line** of a service method, so that HTTP and the command line share it.
//! - **Time is handed in**; nothing below [`app`] reads a clock.
//!
//! # Where we left the first design, and why
//!
//! - A tenant has no status `provisioning` or `failed`: set-up is one transaction, so nobody could see them.
//! - The time limits of a tenant's transaction are defaults of the runtime login in the database where it may
//!   set them ([`pg::bootstrap::standing_limits`]), and in each transaction's own settings only where it may not:
//!   it saves about a fifth of what the guard costs, and is as right behind a pooler.
//! - A connection of the runtime login is a deadpool pool of one, a lane, so that a tenant can be given the one
//!   that knows it (`pg/lanes.rs`); deadpool by itself gives out any.
//! - The advisory lock of a fleet migration is a lease in its row: a session lock would be lost behind a pooler.
//! - Roles of vacancies are made in a transaction before their schemas, several at once, because each change of
//!   roles costs every backend its knowledge of all of them.
//!
//! # How to add ..
//!
//! .. an endpoint: see [`http`]. A use case: see [`service`]. A query: see [`pg`]. A tenant table: see
//! [`pg::migrations`]. A setting: see [`config`]. An application of your own on top: mount your routes
//! through [`app::Options`], take a [`TenantTx`] in your handlers, return a [`Problem`].

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod domain;
#[cfg(feature = "embedded-postgres")]
pub mod embedded;
pub mod http;
pub mod migrations;
pub mod pg;
pub mod service;
pub mod telemetry;

pub use http::native::Problem;
pub use pg::{Param, Row, TenantTx};

/// Compiles the Rust of the README and of the book. The other examples are run by `tests/api/readme.rs`.
#[cfg(doctest)]
mod examples {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/tutorial.md")]
    struct Tutorial;
}
