//! Runs the work of a transaction; and runs it again if it lost a race before anything was done.
//!
//! A session that has read its memberships while another one changed them may keep the old ones, and refuse the role of a
//! tenant that was just made. A first statement may conflict with another transaction. In both cases the whole
//! transaction is rolled back and nothing of it is left, so it is begun again after a moment. A transaction in which
//! another statement was sent is not: what the first one returned may have decided what was sent.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use tokio_postgres::error::{Severity, SqlState};

use super::Tx;
use crate::pg::error::Failure;

/// The pauses before each further attempt in milliseconds; a second together.
const PAUSES: [u64; 8] = [5, 10, 20, 40, 80, 160, 320, 320];

/// How long after the first failure no further attempt is made: an attempt can itself take a second, as one that ends in a
/// deadlock does.
const AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// Makes the session forget in which roles its login is, by asking the same of another role: the server keeps the answer
/// for one role. What it keeps may be stale, if a membership was committed while it was being read.
const FORGET_MEMBERSHIPS: &str = "
    SELECT CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 160000
                THEN pg_catalog.pg_has_role('pg_monitor', 'pg_signal_backend', 'MEMBER')
                ELSE pg_catalog.pg_has_role('pg_monitor', 'pg_signal_backend', 'SET') END";

impl Tx {
    /// Runs `work`, preceded by the preamble if it is the first; `work` may be called again.
    pub(super) async fn run<T, F>(&self, work: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let (mut pauses, mut failed_at) = (PAUSES.iter(), None);
        loop {
            let is_first = !self.preamble_sent.load(Ordering::Relaxed);
            let outcome = {
                // In place: passed by value, the future of every statement would hold it three times.
                let work = pin!(work());
                self.run_once(work).await
            };
            let Err(failure) = &outcome else { return outcome };
            if !is_first || !self.may_begin_again(failure) {
                return outcome;
            }
            let first_failure = *failed_at.get_or_insert_with(Instant::now);
            let Some(pause) = pauses.next().filter(|_| first_failure.elapsed() < AGAIN_WITHIN)
            else {
                return outcome;
            };
            // On the heap, so that every statement does not carry room for it.
            if Box::pin(self.begin_again()).await.is_err() {
                return outcome;
            }
            tracing::debug!(error = %failure.server_message(), "a transaction lost a race and begins again");
            tokio::time::sleep(Duration::from_millis(*pause)).await;
        }
    }

    /// Whether a first statement lost a race and was the only one that was sent.
    fn may_begin_again(&self, failure: &Failure) -> bool {
        let is_lost = if self.preamble_refused.load(Ordering::Relaxed) {
            failure.is_entry_race()
        } else {
            failure.is_lost_race()
        };
        is_lost
            && self.sent.load(Ordering::Relaxed) == 1
            && !self.connection_ended.load(Ordering::Relaxed)
            && !self.runs_files.load(Ordering::Relaxed)
    }

    /// Rolls the transaction back, so that the next statement begins it again.
    async fn begin_again(&self) -> Result<(), tokio_postgres::Error> {
        // Until the server has rolled back and the next statement begins with the preamble, none is sent: behind the
        // `ROLLBACK` it would run outside of the transaction, with the rights of the login. If this future is dropped
        // here, it stays so, and the connection is discarded.
        let was_refused = self.preamble_refused.swap(true, Ordering::AcqRel);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let rolled_back = self.client().batch_execute("ROLLBACK").await;
        if rolled_back.is_ok() && was_refused {
            // It is only an attempt to help.
            let _ = self.client().batch_execute(FORGET_MEMBERSHIPS).await;
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = rolled_back {
            self.note_error(&error);
            return Err(error);
        }
        self.failed.store(false, Ordering::Relaxed);
        self.preamble_accepted.store(false, Ordering::Relaxed);
        self.sent.store(0, Ordering::Relaxed);
        self.preamble_sent.store(false, Ordering::Relaxed);
        // From here on whatever is sent next begins with the preamble, even if that is another statement.
        self.preamble_refused.store(false, Ordering::Release);
        Ok(())
    }

    /// Runs `work`, preceded by the preamble if it is the first. Both are polled together in this order, and so
    /// are sent together in this order.
    ///
    /// If the preamble fails (because the role was dropped, say), `BEGIN` has opened a transaction all the same,
    /// which is now a failed one: the server refuses `work` instead of running it outside the guard.
    pub(super) async fn run_once<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        if self.preamble_refused.load(Ordering::Acquire) || self.commit_sent.load(Ordering::Relaxed)
        {
            return Err(Failure::NotEntered);
        }
        let began_at = Instant::now();
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let answer = pin!(async {
            if self.preamble_sent.swap(true, Ordering::Relaxed) {
                work.await
            } else {
                let (began, outcome) = join(self.send_preamble(), work).await;
                began.and(outcome)
            }
        });
        let Some(outcome) = self.in_time(answer).await else {
            let waited = began_at.elapsed();
            let schema = self.place.schema.as_ref().map(tracing::field::display);
            tracing::warn!(
                waited_s = waited.as_secs(),
                schema,
                "the database does not answer a statement; its connection is given up"
            );
            // Nothing more is sent, and `drop` discards the connection.
            self.failed.store(true, Ordering::Relaxed);
            self.preamble_refused.store(true, Ordering::Release);
            return Err(Failure::NoAnswer(waited));
        };
        // Not reached if the future is dropped before it is done or `work` panics: the count stays above zero,
        // and `drop` discards the connection.
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        match outcome {
            Ok(done) => Ok(done),
            Err(error) => {
                self.failed.store(true, Ordering::Relaxed);
                self.note_error(&error);
                let took = began_at.elapsed();
                let failure = self.place.explain(error, took, self.may_be_read_only()).await;
                Err(self.in_tenant(failure))
            }
        }
    }

    /// Whether a statement that is refused as one that writes was refused by the database, and not by our `READ ONLY`
    /// or by that of a migration.
    fn may_be_read_only(&self) -> bool {
        !self.preamble.starts_with(READ_ONLY) && !self.runs_files.load(Ordering::Relaxed)
    }

    pub(super) fn note_error(&self, error: &tokio_postgres::Error) {
        if ends_connection(error) {
            self.connection_ended.store(true, Ordering::Relaxed);
        }
    }

    async fn send_preamble(&self) -> Result<(), tokio_postgres::Error> {
        let began = match self.preamble.split_once(REACH_NODES) {
            None => self.client().batch_execute(&self.preamble).await,
            // On the heap, so that every transaction does not carry room for it.
            Some((begin, settings)) => Box::pin(self.begin_on_nodes(begin, settings)).await,
        };
        self.note_preamble(&began);
        let code = began.as_ref().err().and_then(tokio_postgres::Error::code);
        if code == Some(&SqlState::QUERY_CANCELED) {
            // A time limit that was left in the session would end each further transaction too.
            self.connection_ended.store(true, Ordering::Relaxed);
        }
        began
    }

    /// Sends a preamble whose settings reach the nodes, each in a message of its own: with each, Citus sends the whole text
    /// of its message on, and a node that gets what stands before the settings begins a transaction again in the one that
    /// it has. All are sent together, as one message would be.
    async fn begin_on_nodes(
        &self,
        begin: &str,
        settings: &str,
    ) -> Result<(), tokio_postgres::Error> {
        let reach = REACH_NODES.trim_start_matches("; ");
        let settings = settings.split("; ").filter(|setting| !setting.is_empty());
        let messages = [begin, reach].into_iter().chain(settings);
        let sent = join_all(messages.map(|message| self.client().batch_execute(message))).await;
        sent.into_iter().collect()
    }

    /// Records whether the server accepted the preamble.
    pub(super) fn note_preamble<T, E>(&self, outcome: &Result<T, E>) {
        let flag = match outcome {
            Ok(_) => &self.preamble_accepted,
            Err(_) => &self.preamble_refused,
        };
        flag.store(true, Ordering::Relaxed);
    }
}

/// How the preamble of a transaction begins that reads only.
pub(in crate::pg::scope) const READ_ONLY: &str = "BEGIN READ ONLY";

/// What comes before the settings in the preamble of a transaction whose settings must reach the node of its tenant,
/// whose session has none of its own.
pub(in crate::pg::scope) const REACH_NODES: &str =
    "; SET LOCAL citus.propagate_set_commands = 'local'";

/// Whether this error ends the connection.
fn ends_connection(error: &tokio_postgres::Error) -> bool {
    error.is_closed()
        || error.as_db_error().is_some_and(|db| {
            matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
        })
}
