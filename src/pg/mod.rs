//! Everything that speaks to PostgreSQL.

pub mod url;
