//! The data of one tenant goes out and comes back: `rowhouse tenant export` and `tenant import`, and the service behind
//! them.

mod fixture;
mod installations;
mod kills;
mod rights;
mod snapshots;
mod tampering;
mod types;
mod versions;
