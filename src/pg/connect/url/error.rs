//! Why a database URL is refused, in words that name the parameter and never its value.

use super::mode::SslMode;

/// Why a database URL was refused. Holds names of parameters, never their values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The text as a whole cannot be taken apart.
    #[error("the database URL cannot be read: {0}")]
    Syntax(&'static str),
    /// Nobody here knows this parameter.
    #[error("the database URL has a parameter that is not known here: `{parameter}`; remove it")]
    Unknown {
        /// Its name.
        parameter: String,
    },
    /// The value is not one that the parameter takes.
    #[error("the database URL's `{parameter}` must be {expected}")]
    Value {
        /// Its name.
        parameter: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// Something that must be there is not.
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
    /// Certificates of the system's roots are only worth something with the name checked.
    #[error(
        "the database URL's `sslmode` is {mode}, too weak for sslrootcert=system: use verify-full"
    )]
    WeakForSystemRoots {
        /// The mode that was asked for.
        mode: SslMode,
    },
    /// Direct negotiation leaves a server without TLS no way to say so.
    #[error(
        "the database URL's `sslmode` is {mode}, too weak for sslnegotiation=direct: use require, \
         verify-ca or verify-full"
    )]
    WeakForDirectNegotiation {
        /// The mode that was asked for.
        mode: SslMode,
    },
}
