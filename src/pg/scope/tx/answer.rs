//! Limits how long a message waits for its answer. The server keeps to its own time limits, but a network can forget a
//! connection while its peer acknowledges all that is sent: then no answer comes, and nothing breaks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Tx;

/// How many times the usual wait for an answer a long one is.
const LONG_ANSWER: u32 = 10;

/// How long a message waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pg::scope) enum AnswerLimit {
    /// As the rules say.
    Usual,
    /// Longer: its statements have no limit of the server.
    Long,
    /// For ever.
    None,
}

/// The wait for an answer that has no limit.
const NO_LIMIT: u64 = u64::MAX;

pub(super) fn millis(limit: Option<Duration>) -> u64 {
    limit.map_or(NO_LIMIT, |limit| u64::try_from(limit.as_millis()).unwrap_or(NO_LIMIT))
}

impl Tx {
    /// Sets the longest wait for an answer. Where there was no limit, there is none.
    pub(in crate::pg::scope) fn limit_answers(&self, limit: AnswerLimit) {
        let usual = self.place.answer_within;
        let limit = millis(match limit {
            AnswerLimit::Usual => usual,
            AnswerLimit::Long => usual.map(|usual| usual.saturating_mul(LONG_ANSWER)),
            AnswerLimit::None => None,
        });
        let set = |now: u64| (now != NO_LIMIT).then_some(limit);
        let _ = self.answer_within.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set);
    }

    /// Waits for an answer; `None` if it does not come in time.
    pub(super) async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        match self.answer_within.load(Ordering::Relaxed) {
            NO_LIMIT => Some(answer.await),
            limit => tokio::time::timeout(Duration::from_millis(limit), answer).await.ok(),
        }
    }
}
