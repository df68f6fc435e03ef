//! The data of one tenant goes out and comes back: `rowhouse tenant export` and `tenant import`, and the service behind
//! them.

mod cli_store;
mod clones;
mod fixture;
mod installations;
mod into;
mod kills;
mod mutations;
mod rights;
mod snapshots;
mod store;
mod stored_imports;
mod swaps;
mod tampering;
mod types;
mod uploads;
mod versions;
