//! The test suite over HTTP, SQL and the command line: one binary, on a real PostgreSQL.
#![expect(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` here means shared between its files"
)]
#![expect(clippy::panic, clippy::print_stderr, clippy::string_slice, reason = "tests may")]

mod auth;
mod bad_input;
mod bootstrap;
mod cli;
mod control_audit;
mod control_lifecycle;
mod control_members;
mod control_tenants;
mod control_tokens;
mod crash;
mod databunker_rules;
mod databunker_system;
mod databunker_tenants;
mod databunker_users;
mod databunker_v1;
mod fleet;
mod idempotency;
mod isolation;
mod library;
mod operations;
mod provisioning;
mod readme;
mod setup;
mod support;
mod tenants;
mod tokens;
mod unauthorized;
mod unhealthy;
mod webfluss;
