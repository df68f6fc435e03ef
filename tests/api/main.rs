//! The test suite over HTTP, SQL and the command line: one binary, on a real PostgreSQL.
#![expect(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` here means shared between its files"
)]
#![expect(clippy::panic, clippy::print_stderr, clippy::string_slice, reason = "allowed in tests")]
#![expect(
    clippy::large_futures,
    reason = "a test that holds the future of a whole program is not slower for it"
)]
#![expect(
    clippy::too_many_lines,
    clippy::items_after_statements,
    reason = "a test is a flat list of steps, with what it needs beside them"
)]

#[path = "../support/postgres_programs.rs"]
mod postgres_programs;

mod access;
mod adopt;
mod api_keys;
mod application;
mod audit_order;
mod auth;
mod bad_input;
mod bad_migrations;
mod bodies;
mod bootstrap;
mod broken_off;
mod budgets;
mod citus;
mod cli;
mod cli_audit;
mod cli_events;
mod cli_import;
mod cli_invite;
mod cli_lint;
mod cli_member;
mod cli_migration_files;
mod cli_server;
mod cli_session;
mod cli_tenant;
mod client_address;
mod common_passwords;
mod connections;
mod console;
mod control_audit;
mod control_lifecycle;
mod control_members;
mod control_operations;
mod control_tenants;
mod control_tokens;
mod control_upsert;
mod cors;
mod cross_site;
mod damage;
mod databunker_rules;
mod databunker_system;
mod databunker_tenants;
mod databunker_users;
mod databunker_v1;
mod dependents;
mod deploy;
mod docs;
mod doctor;
mod document;
mod drop_rights;
mod embedded_server;
mod events;
mod expiry;
mod fairness;
mod fleet;
mod headers;
mod hostile;
mod hosts;
mod idempotency;
mod invitations;
mod isolation;
mod keep_alive;
mod late_commits;
mod leavers;
mod library;
mod limits;
mod links;
mod lock_timeouts;
mod locks;
mod log_output;
mod managed;
mod management;
mod matrix;
mod measured;
mod memory;
mod metrics;
mod new_tenants;
mod operations;
mod otlp;
mod outage_at_start;
mod own_account;
mod point_in_time;
mod poolers;
mod portability;
mod profile_events;
mod proven_addresses;
mod provisioning;
mod purge;
mod races;
mod read_only;
mod readme;
mod refusals;
mod reload;
mod request_log;
mod reset_password;
mod rolling;
mod sessions;
mod sets;
mod setup;
mod signing_keys;
mod slugs;
mod stopping;
mod support;
mod suspended;
mod tenant_users;
mod tenants;
mod testing;
mod token_lifetimes;
mod token_lines;
mod token_managers;
mod token_rotation;
mod tokens;
mod unanswered;
mod unauthorized;
mod unhealthy;
mod unreadable;
mod unusable_servers;
mod vacancies;
mod webfluss;
mod wrong_callers;
mod wrong_clock;
