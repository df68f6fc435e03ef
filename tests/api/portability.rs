//! The data of one tenant goes out and comes back: `rowhouse tenant export` and `tenant import`, and the service behind
//! them.

mod clones;
mod fixture;
mod installations;
mod into;
mod kills;
mod mutations;
mod rights;
mod snapshots;
mod swaps;
mod tampering;
mod types;
mod versions;
