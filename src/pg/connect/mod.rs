//! Connects to the server: connection URLs, TLS, the logins of a start, dedicated connections.

pub mod cancelling;
pub mod dedicated;
pub mod login;
pub mod name;
pub mod open;
pub mod tls;
pub mod url;
