//! The reasons why a database URL is refused. They name the parameter and never its value.

use super::mode::SslMode;

/// The reason why a database URL is refused. It names the parameter, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The text cannot be parsed.
    #[error("the database URL cannot be read: {0}")]
    Syntax(&'static str),
    /// The parameter is not supported.
    #[error("the database URL has the unknown parameter `{parameter}`; remove it")]
    Unknown {
        /// Its name.
        parameter: String,
    },
    /// The parameter does not accept the value.
    #[error("the database URL's `{parameter}` must be {expected}")]
    Value {
        /// Its name.
        parameter: &'static str,
        /// What it accepts.
        expected: &'static str,
    },
    /// A required parameter is missing.
    #[error("the database URL has no `{parameter}`: {hint}")]
    Missing {
        /// Its name.
        parameter: &'static str,
        /// What to write.
        hint: &'static str,
    },
    /// Two lists that belong together differ in length.
    #[error("the database URL's `{parameter}` must have one entry for each host")]
    Count {
        /// The list that does not fit `host`.
        parameter: &'static str,
    },
    /// `options` sets session state.
    #[error(
        "the database URL's `options` sets session state, which is lost behind a transaction \
         pooler: set statement_timeout, lock_timeout and idle_in_transaction_session_timeout in \
         Rowhouse's own settings, anything else with ALTER ROLE .. SET or ALTER DATABASE .. SET"
    )]
    Options,
    /// The system's roots prove nothing unless the host name is checked.
    #[error(
        "the database URL's `sslmode` is {mode}, too weak for sslrootcert=system: use verify-full"
    )]
    WeakForSystemRoots {
        /// The mode that was asked for.
        mode: SslMode,
    },
    /// With direct negotiation a server without TLS cannot decline it.
    #[error(
        "the database URL's `sslmode` is {mode}, too weak for sslnegotiation=direct: use require, \
         verify-ca or verify-full"
    )]
    WeakForDirectNegotiation {
        /// The mode that was asked for.
        mode: SslMode,
    },
}
