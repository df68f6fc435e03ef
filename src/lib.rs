//! Rowhouse (stub: the main tree has the real one).

/// SQL, schemas, roles.
pub mod pg {
    #[cfg(feature = "embedded-postgres")]
    pub mod embedded;
}
