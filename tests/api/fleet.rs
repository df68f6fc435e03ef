//! Fleet migrations: the guarantees of a run, of its ledger, and of the commands and routes that read them.

mod command;
mod control;
mod divergence;
mod edited;
mod engine;
mod files;
pub mod fixture;
mod hanging;
pub mod kills;
mod no_transaction;
mod outcomes;
mod pruning;
mod recovery;
mod rehearsal;
mod repair;
mod repeatable;
mod transitions;
