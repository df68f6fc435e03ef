//! Connects to the server: connection URLs, TLS, dedicated connections.

pub mod cancelling;
pub mod dedicated;
pub mod name;
pub mod open;
pub mod tls;
pub mod url;
