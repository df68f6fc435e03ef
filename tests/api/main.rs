//! The test suite over HTTP, SQL and the command line: one binary, on a real PostgreSQL.
#![expect(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` here means shared between its files"
)]
#![expect(clippy::panic, clippy::print_stderr, clippy::string_slice, reason = "allowed in tests")]

mod api_keys;
mod auth;
mod bad_input;
mod bodies;
mod bootstrap;
mod cli;
mod cli_audit;
mod cli_invite;
mod cli_lint;
mod cli_member;
mod cli_session;
mod cli_tenant;
mod client_address;
mod common_passwords;
mod connections;
mod control_audit;
mod control_lifecycle;
mod control_members;
mod control_tenants;
mod control_tokens;
mod cors;
mod crash;
mod cross_site;
mod databunker_rules;
mod databunker_system;
mod databunker_tenants;
mod databunker_users;
mod databunker_v1;
mod docs;
mod doctor;
mod document;
mod fleet;
mod headers;
mod hosts;
mod idempotency;
mod invitations;
mod isolation;
mod leavers;
mod library;
mod limits;
mod links;
mod locks;
mod managed;
mod matrix;
mod memory;
mod management;
mod operations;
mod own_account;
mod profile_events;
mod proven_addresses;
mod provisioning;
mod readme;
mod refusals;
mod reset_password;
mod sessions;
mod setup;
mod slugs;
mod support;
mod suspended;
mod tenant_users;
mod tenants;
mod token_lifetimes;
mod token_lines;
mod token_managers;
mod token_rotation;
mod tokens;
mod unauthorized;
mod unhealthy;
mod vacancies;
mod webfluss;
mod wrong_callers;
