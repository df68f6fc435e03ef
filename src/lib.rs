//! Rowhouse: a schema-per-tenant `SaaS` backend for PostgreSQL, as a server and as a library.
//!
//! Each tenant has a schema and a role of its own in one database. The server creates both in one transaction,
//! migrates them, authenticates callers and serves HTTP APIs. An application adds routes of its own: a handler
//! that takes a [`TenantTx`] reads the tables of the caller's tenant and nothing else, and the database refuses
//! every other table. One that takes a [`Write<TenantTx>`](Write) may change them.
//!
//! ```rust,no_run
//! use std::sync::Arc;
//!
//! use actix_web::{HttpResponse, get, web};
//! use rowhouse::app::{App, Options};
//! use rowhouse::config::{Overrides, Settings};
//! use rowhouse::{Problem, TenantTx};
//!
//! #[get("/notes")]
//! async fn notes(tx: TenantTx) -> Result<HttpResponse, Problem> {
//!     let rows = tx.query_and_commit("SELECT body FROM notes ORDER BY id", &[]).await?;
//!     let notes: Vec<String> = rows.iter().map(|row| row.get("body")).collect();
//!     Ok(HttpResponse::Ok().json(notes))
//! }
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = Settings::load(&Overrides::default())?;
//! settings.tenant_migrations = Some("tenant_migrations".into()); // one file creates `notes`
//! let routes = Arc::new(|config: &mut web::ServiceConfig| {
//!     config.service(notes);
//! });
//! let app = App::build(settings, Options { routes: Some(routes), ..Options::default() }).await?;
//! app.run_until_stopped(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where to go
//!
//! | For | See |
//! | --- | --- |
//! | starting a server inside your program, or in a test | [`app::App`], [`app::Options`] |
//! | reading the settings | [`config::Settings`] |
//! | queries inside a tenant | [`TenantTx`], and [`Write`] where they change something |
//! | binding parameters of your own types | [`Param`] |
//! | answering errors in the native form | [`Problem`] |
//! | calling the use cases without HTTP, as the command line does | [`app::Backend`], [`service::Services`] |
//! | the migrations of your own tables | [`migrations`] |
//! | the server, the HTTP APIs, the command line, operations | `README.md` and the book in `docs/` |
//!
//! # For contributors
//!
//! A request passes the layers from top to bottom, and its answer returns the same way. Imports point only
//! downward; `tests/layering/` parses `src/` and fails on one that does not.
//!
//! ```text
//! main
//! cli          commands, their output and exit codes
//! app          composition root: builds everything once; background jobs
//! config       settings
//! http         HTTP: native/ is what our own dialects share, then one folder a dialect
//! service      use cases: rights checks, order of steps, transaction boundaries
//! pg           SQL: connections, scopes, and the statements for each noun
//! auth         tokens, passwords, signing keys
//! migrations   migration files as text: read, check, split, lint
//! embedded     an embedded PostgreSQL server
//! telemetry    logs and metrics
//! domain       names, rules, the one error type; no I/O
//! ```
//!
//! `embedded` and `migrations` are beside `pg`, because they know no SQL connection. The parts of `pg`, lowest
//! first:
//!
//! ```text
//! error  rules         failures by remedy; the rules of every transaction
//! connect              connection URLs, TLS, dedicated connections
//! pool                 pools, and the choice of the connection that a tenant gets
//! scope                the guard: PublicTx and TenantTx
//! db  locks            the pools of one runtime; locks
//! catalog              queries on the system catalogs
//! control              the tables of the schema public, one file a noun
//! tenant               the tables of a tenant's schema
//! schema               creates, migrates and drops the schemas of tenants
//! bootstrap            prepares a database
//! ```
//!
//! ## Invariants
//!
//! - **A tenant is created completely or not at all.** Its row, schema, role, tables, admin and audit event are
//!   created in one transaction ([`service::provisioning`]), which may use a schema that was built completely
//!   before ([`service::vacancies`]).
//! - **A tenant's tables are reached only through a [`TenantTx`]**, which has the tenant's role and search path for
//!   the length of one transaction ([`pg::scope`]).
//! - **SQL identifiers never come from a caller.** They come from a [`SchemaName`](domain::SchemaName), which is made
//!   of an id that we generated.
//! - **The rights check is the first statement of a service method**, so that HTTP and the command line share it.
//! - **Time is an argument.** No code below [`app`] reads a clock.
//!
//! `docs/decisions.md` has the reasons, and what was given up for each.
//!
//! ## How to add ..
//!
//! .. an endpoint: see [`http`]. A use case: see [`service`]. A query: see [`pg`]. A tenant table: see
//! [`migrations`]. A setting: see [`config`]. A background job: see `app/jobs/mod.rs`.

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

pub use http::native::{Problem, Write};
pub use pg::{Param, Row, TenantTx};

/// Compiles the Rust of the README and of the book. The other examples are run by `tests/api/readme.rs`.
#[cfg(doctest)]
mod examples {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/tutorial.md")]
    struct Tutorial;
}
