//! Sends the set-ups that wait at the same moment in one statement and one transaction, so that they share what these
//! cost. Only set-ups without a new admin: the hash of a new password takes longer than all that could be saved.
//!
//! One transaction is sent at a time, and the set-ups that arrive meanwhile go together in the next. A set-up that is
//! alone waits for no other and takes one round trip. None of them pays for the others:
//! - One of them may be refused (a slug that is taken, an admin who does not exist), or would wait for a lock longer
//!   than [`LOCK_TIMEOUT`]. Then nothing is committed, and each set-up runs in a transaction of its own.
//! - A caller may go while the rows are written. The commit of a group is sent only after the rows of all are written
//!   and all callers are still there; otherwise the group is rolled back, and the others are sent again.
//!
//! Must not know: what a set-up does in a transaction of its own, and what is answered to its caller.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select, select_all};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::domain::error::{Error, Result};
use crate::pg::control::shared_setup::{self, SharedSetup};
use crate::pg::control::tenant_setup::Assigned;
use crate::pg::control::vacancies::Pattern;
use crate::pg::rules::TimeLimits;
use crate::pg::scope::Commits;
use crate::pg::{Db, Failure, PublicTx};

/// The most set-ups in one transaction.
const MAX_GROUP: usize = 32;

/// Longest wait for a lock while other set-ups wait.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// The queue of set-ups. Cheap to clone; the task behind it ends with the last clone.
#[derive(Clone)]
pub(super) struct GroupCommit(mpsc::Sender<Waiting>);

/// A set-up in the queue. The answer is closed when its caller has gone.
struct Waiting {
    setup: SharedSetup,
    /// The commits of its caller.
    commits: Commits,
    /// Receives `None` if the set-up has to run in a transaction of its own.
    answer: oneshot::Sender<Option<Assigned>>,
}

impl GroupCommit {
    /// Starts the task that sends the queue.
    pub(super) fn start(runtime: &Handle, db: Db, pattern: Pattern) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_GROUP);
        runtime.spawn(send_all(waiting, db, pattern));
        Self(queue)
    }

    /// Makes a tenant with a vacancy. `None` if it has to run in a transaction of its own; nothing was done then.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the connection broke before the commit was confirmed: as with every commit, it is
    /// then unknown whether the tenant was made.
    pub(super) async fn make(&self, setup: SharedSetup) -> Result<Option<Assigned>> {
        let (answer, answered) = oneshot::channel();
        let commits = Commits::of_present_work();
        if self.0.send(Waiting { setup, commits, answer }).await.is_err() {
            return Ok(None);
        }
        answered.await.map_err(|lost| Error::unavailable("make a tenant", lost))
    }
}

async fn send_all(mut queue: mpsc::Receiver<Waiting>, db: Db, pattern: Pattern) {
    let limits = db.rules().limits;
    let limits = TimeLimits { lock: limits.lock.min(LOCK_TIMEOUT), ..limits };
    while let Some(first) = queue.recv().await {
        let mut group = vec![first];
        while group.len() < MAX_GROUP
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        while !group.is_empty() {
            let Ok(tx) = db.public_within(&limits).await else {
                refuse(group); // each finds out by itself
                break;
            };
            group = Box::pin(send(tx, &pattern, group)).await;
        }
    }
}

/// Sends a group and answers each. Returns those that must be sent again because the caller of another has gone.
async fn send(tx: PublicTx, pattern: &Pattern, mut group: Vec<Waiting>) -> Vec<Waiting> {
    group.retain(Waiting::has_caller);
    if group.len() <= 1 {
        if let Some(only) = group.pop() {
            send_one(tx, pattern, only).await;
        }
        return Vec::new();
    }
    let written = {
        let (setups, answers): (Vec<_>, Vec<_>) =
            group.iter_mut().map(|one| (&one.setup, &mut one.answer)).unzip();
        let insert = pin!(shared_setup::insert(&tx, pattern, &setups));
        let callers = answers.into_iter().map(|answer| Box::pin(answer.closed()));
        match select(insert, select_all(callers)).await {
            Either::Left((written, _)) => Some(written),
            Either::Right(_) => None,
        }
    };
    match written {
        Some(Ok(assigned)) if group.iter().all(Waiting::has_caller) => {
            let _sent: Vec<_> = group.iter().map(|one| one.commits.begin()).collect();
            if let Err(failure) = tx.commit().await {
                warn(failure);
                return Vec::new(); // the callers are told as their answers are dropped
            }
            for (one, assigned) in group.into_iter().zip(assigned) {
                one.answer(Some(assigned));
            }
            Vec::new()
        }
        Some(Err(_)) => {
            refuse(group);
            Vec::new()
        }
        Some(Ok(_)) | None => group,
    }
}

/// Sends a set-up that is alone, with its commit in the same round trip; cancels it when its caller goes.
async fn send_one(tx: PublicTx, pattern: &Pattern, only: Waiting) {
    let Waiting { setup, commits, mut answer } = only;
    let made = {
        let work = shared_setup::insert_one_and_commit(tx, pattern, &setup);
        let work = pin!(commits.watch(work));
        match select(work, pin!(answer.closed())).await {
            Either::Left((made, _)) => made,
            Either::Right(_) => return,
        }
    };
    match made {
        Ok(assigned) => Waiting { setup, commits, answer }.answer(Some(assigned)),
        Err(failure) if is_refusal(&failure) => Waiting { setup, commits, answer }.answer(None),
        Err(failure) => warn(failure), // the caller is told as the answer is dropped
    }
}

/// Whether the server has refused the statement, so that nothing is committed.
fn is_refusal(failure: &Failure) -> bool {
    let is_read_only = matches!(failure, Failure::ReadOnly(_));
    failure.sqlstate().is_some() && (is_read_only || !failure.is_unavailable())
}

fn warn(failure: Failure) {
    let reason = failure.during("make tenants").chain();
    tracing::warn!(reason, "the transaction of new tenants broke off");
}

/// Tells every caller of a group to run in a transaction of its own.
fn refuse(group: Vec<Waiting>) {
    for one in group {
        one.answer(None);
    }
}

impl Waiting {
    fn has_caller(&self) -> bool {
        !self.answer.is_closed()
    }

    fn answer(self, assigned: Option<Assigned>) {
        // A caller who has gone needs no answer.
        let _ = self.answer.send(assigned);
    }
}
