//! Counts the checkouts of connections, and the callers that wait for one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Checkouts and replacements since the start; see [`SharingStatus`](super::SharingStatus).
#[derive(Default)]
pub(in crate::pg) struct Counts {
    pub(in crate::pg) last: AtomicU64,
    pub(in crate::pg) earlier: AtomicU64,
    pub(in crate::pg) none: AtomicU64,
    pub(in crate::pg) retired: AtomicU64,
    pub(in crate::pg) not_retired: AtomicU64,
}

/// Whether a connection had served the tenant that it is checked out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    /// It served the tenant last.
    Last,
    /// It served the tenant earlier; the one that served it last is busy.
    Earlier,
    /// It never served the tenant.
    None,
}

impl Counts {
    pub(in crate::pg) fn count_retired(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::pg) fn count_not_retired(&self) {
        self.not_retired.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self, affinity: Affinity) {
        let counter = match affinity {
            Affinity::Last => &self.last,
            Affinity::Earlier => &self.earlier,
            Affinity::None => &self.none,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a caller as waiting until it has a connection.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(super) fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
