//! Statements on the control plane's tables in `public`, one module a table or noun.

pub mod active_tenants;
pub mod api_keys;
pub mod audit_chain;
pub mod audit_events;
pub mod capacity;
pub mod footprint;
pub mod idempotency;
pub mod invitations;
pub mod managed_tokens;
pub mod members;
pub mod memberships;
pub mod migration_sets;
pub mod operation_tenants;
pub mod operations;
pub mod own_account;
pub mod sessions;
pub mod shared_setup;
pub mod signing_keys;
pub mod slugs;
pub mod tenant_setup;
pub mod tenants;
pub mod token_lines;
pub mod tokens;
pub mod unlocks;
pub mod users;
pub mod vacancies;
