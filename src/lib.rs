//! lib
pub mod domain;
pub mod pg;
