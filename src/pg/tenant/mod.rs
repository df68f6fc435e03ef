//! Statements on the tables of a tenant's schema, one file a noun.

pub mod profiles;
