//! lib
pub mod auth;
pub mod config;
pub mod domain;
pub mod pg;
pub mod service;
