//! Everything that speaks to PostgreSQL.

pub mod tls;
pub mod url;
