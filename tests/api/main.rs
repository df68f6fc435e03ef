//! The test suite over HTTP, SQL and the command line: one binary, on a real PostgreSQL.
#![expect(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` here means shared between its files"
)]
#![expect(clippy::panic, clippy::print_stderr, clippy::string_slice, reason = "tests may")]

mod crash;
mod isolation;
mod setup;
mod support;
