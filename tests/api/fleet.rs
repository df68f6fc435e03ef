//! Fleet migrations: what is promised of a run, of its ledger, and of everybody who looks at either.

mod command;
mod control;
mod engine;
mod fit;
mod ground;
mod kills;
mod moves;
mod outside;
mod pruning;
mod rehearsal;
mod takeup;
