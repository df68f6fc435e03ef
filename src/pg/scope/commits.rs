//! Knows which commits of a piece of work were sent and are not answered yet: while there is one, it is not known whether
//! the work is done. Who ends the work before its time asks here first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

tokio::task_local! {
    /// The commits of the work that this task does.
    static COMMITS: Commits;
}

/// The commits of a piece of work. The clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Commits(Arc<AtomicUsize>);

impl Commits {
    /// Counts the commits of `work` here.
    pub async fn watch<F: Future>(&self, work: F) -> F::Output {
        COMMITS.scope(self.clone(), work).await
    }

    /// Returns the commits of the present work, for a part of it that another task does.
    #[must_use]
    pub fn of_present_work() -> Self {
        COMMITS.try_with(Clone::clone).unwrap_or_default()
    }

    /// Whether a commit was sent and is not answered yet.
    #[must_use]
    pub fn are_in_flight(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Notes that a commit is sent, until the result is dropped.
    #[must_use]
    pub fn begin(&self) -> Sent {
        self.0.fetch_add(1, Ordering::Relaxed);
        Sent(self.clone())
    }
}

/// A commit that was sent.
#[derive(Debug)]
pub struct Sent(Commits);

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_commit_counts_for_the_work_in_which_it_is_sent_until_it_is_answered() {
        let (one, other) = (Commits::default(), Commits::default());
        let sent = one.watch(async { Commits::of_present_work().begin() }).await;
        assert!(one.are_in_flight() && !other.are_in_flight());
        drop(sent);
        assert!(!one.are_in_flight());
        drop(Commits::of_present_work().begin());
    }
}
