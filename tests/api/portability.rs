//! The data of one tenant goes out and comes back: `rowhouse tenant export` and `tenant import`, and the service behind
//! them.

mod cli_store;
mod clones;
mod fixture;
mod installations;
mod into;
mod kills;
mod migrations;
mod mutations;
mod rights;
mod servers;
mod snapshots;
mod store;
mod stored_imports;
mod swaps;
mod tampering;
mod types;
mod uploads;
mod versions;

/// Returns how many rounds a test makes that waits for rare moments; `make rounds` sets a higher number.
fn rounds(usual: u32) -> u32 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the length of a test is not a setting of the server"
    )]
    let wanted = std::env::var("ROWHOUSE_ARCHIVE_ROUNDS").ok();
    wanted.map_or(usual, |text| text.parse().expect("ROWHOUSE_ARCHIVE_ROUNDS is a number"))
}
