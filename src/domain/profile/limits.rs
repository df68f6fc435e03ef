//! The limits of a document.

use crate::domain::json::values_max;

/// Deepest nesting of a document. PostgreSQL and serde refuse deeper ones not far beyond, each in its own way.
pub(super) const DEPTH_MAX: usize = 64;

/// Largest document, in bytes of its text. A request body has a limit of its own; this one bounds the result of many
/// changes, since every version is kept.
pub(super) const SIZE_MAX: usize = 1 << 20;

/// Most values and names of a document: one for each four bytes of the largest.
pub(super) const VALUES_MAX: usize = values_max(SIZE_MAX);
