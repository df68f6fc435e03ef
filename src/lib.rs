//! Rowhouse: a schema-per-tenant `SaaS` backend for PostgreSQL, as a server and as a library.
//!
//! Each tenant has a schema and a role of its own in one database. The server creates both in one transaction,
//! migrates them, authenticates callers and serves HTTP APIs. An [`Application`] adds tables and routes of its own: a
//! handler that takes a [`TenantTx`] reads the tables of the caller's tenant and nothing else, and the database refuses
//! every other table. One that takes a [`Write`] may change them.
//!
//! This is a whole program, with the command line of `rowhouse` itself (`serve`, `migrate`, `tenant create` ..):
//!
//! ```rust,no_run
//! use actix_web::{get, web::Json};
//! use rowhouse::{Application, Problem, TenantTx};
//!
//! #[get("/notes")]
//! async fn notes(tx: TenantTx) -> Result<Json<Vec<String>>, Problem> {
//!     let rows = tx.query_and_commit("SELECT body FROM notes ORDER BY id", &[]).await?;
//!     Ok(Json(rows.iter().map(|row| row.get("body")).collect()))
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Application::new("notes")
//!         .tenant_migrations(rowhouse::embed_migrations!("tenant_migrations")) // one file creates `notes`
//!         .undocumented_routes(|routes| { routes.service(notes); })
//!         .main()
//! }
//! ```
//!
//! `examples/notes` is a larger one, and the page *An application of your own* of the book explains it.
//!
//! # Where to go
//!
//! | For | See |
//! | --- | --- |
//! | what an application adds: tables, routes, settings, jobs, commands | [`Application`] |
//! | the migrations of your own tables | [`embed_migrations!`], [`Migrations`] |
//! | queries inside a tenant | [`TenantTx`], [`Read`], [`Write`]; [`Row`], [`Rows`], [`Portal`] |
//! | who calls, and in which tenant | [`Caller`], [`Tenant`], [`Role`] |
//! | tables that all tenants share | [`SharedTx`] |
//! | binding parameters, also of your own types | [`Param`], [`types`] |
//! | answering errors | [`Problem`], [`OnViolation`]; [`Failure`] is why a query failed |
//! | work in all tenants: jobs and commands | [`Context`], [`Report`] |
//! | which of our own routes are served | [`Dialect`] |
//! | metrics | [`Registry`] |
//! | tests of your application | `testing`, behind the feature of that name |
//! | the server, the HTTP APIs, the command line, operations | `README.md` and the book in `docs/` |
//!
//! # Platforms
//!
//! The crate builds on Unix (Linux, macOS, the BSDs), and not on Windows: it uses Unix signals and sockets.
//!
//! # Features
//!
//! `embedded-postgres` (default) starts a PostgreSQL server of the system where no database is named; `decimal` binds
//! and reads `numeric` as `rust_decimal::Decimal`. Depending on the crate switches no feature of `serde_json` on that
//! changes how an application's own types are read.
//!
//! # For contributors
//!
//! A request passes the layers from top to bottom, and its answer returns the same way. Imports point only
//! downward; `tests/layering/` parses `src/` and fails on one that does not.
//!
//! ```text
//! main
//! cli          commands, their output and exit codes
//! testing      what the tests of an application use (feature `testing`)
//! disposable   PostgreSQL servers, databases and servers that exist for a test
//! app          composition root: builds everything once; background jobs
//! config       settings
//! http         HTTP: native/ is what our own dialects share, then one folder a dialect
//! service      use cases: rights checks, order of steps, transaction boundaries
//! pg           SQL: connections, scopes, and the statements for each noun
//! auth         tokens, passwords, signing keys
//! migrations   migration files as text: read, check, split, lint
//! store        the files that a server keeps, under keys
//! embedded     an embedded PostgreSQL server
//! telemetry    logs and metrics
//! domain       names, rules, the one error type; no I/O
//! ```
//!
//! `store`, `embedded` and `migrations` are beside `pg`, because they know no SQL connection. The parts of `pg`, lowest
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
//! portability          reads and writes all rows of a tenant, and exchanges those of two
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

#[cfg(not(unix))]
compile_error!("rowhouse builds on Unix: it uses Unix signals and sockets");

#[doc(hidden)]
pub mod app;
#[doc(hidden)]
pub mod application;
#[doc(hidden)]
pub mod auth;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod config;
#[cfg(feature = "embedded-postgres")]
#[cfg_attr(
    not(feature = "testing"),
    expect(unreachable_pub, reason = "`testing` exports it; the program uses a part of it")
)]
mod disposable;
#[doc(hidden)]
pub mod domain;
#[cfg(feature = "embedded-postgres")]
#[doc(hidden)]
pub mod embedded;
#[doc(hidden)]
pub mod http;
#[doc(hidden)]
pub mod migrations;
#[doc(hidden)]
pub mod pg;
#[doc(hidden)]
pub mod service;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

pub use app::{Context, Report};
pub use application::Application;
pub use domain::Role;
pub use http::Dialect;
pub use http::native::{Problem, Read, Write};
pub use migrations::Migrations;
pub use pg::types;
pub use pg::{Failure, OnViolation, Param, Portal, Row, Rows, SharedTx};
#[cfg(feature = "testing")]
pub use rowhouse_macros::test;
pub use service::tenants::{Caller, Entered as Tenant, TenantTx};
pub use telemetry::Registry;

/// What the macros of this crate expand to.
#[doc(hidden)]
pub mod private {
    pub use rowhouse_macros::embed_folder;
}

/// Builds the migration files of a folder into the program. The path is relative to the application's `Cargo.toml`.
///
/// Cargo does not notice a file that is added to the folder; a `build.rs` with
/// `println!("cargo::rerun-if-changed=tenant_migrations")` tells it.
///
/// ```
/// let built_in = rowhouse::embed_migrations!("tenant_migrations").instead_of_built_in();
/// ```
#[macro_export]
macro_rules! embed_migrations {
    ($folder:literal) => {
        $crate::Migrations::embedded($crate::private::embed_folder!($folder))
    };
}

/// Compiles the Rust of the README and of the book. The other examples are run by `tests/api/readme.rs`.
#[cfg(doctest)]
mod examples {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/testing.md")]
    struct Testing;

    #[doc = include_str!("../docs/tutorial.md")]
    struct Tutorial;

    #[doc = include_str!("../docs/application.md")]
    struct OwnApplication;
}
