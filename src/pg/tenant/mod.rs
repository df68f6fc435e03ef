//! Statements on the tables of a tenant's schema, one module a noun.

pub mod profiles;
