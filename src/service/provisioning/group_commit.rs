//! Sends the set-ups that wait at the same moment in one transaction.
//!
//! One transaction is on its way at a time, and what comes meanwhile goes together with the next: a set-up that
//! is alone waits for nobody, and many at once share what a statement and a commit cost. None pays for that:
//! - what one of them asked for may be refused (a slug that is taken, an admin who is not there). Then nothing
//!   of the transaction is done, and each is sent alone by whoever waits for it, which finds out what it was;
//! - none waits long for what somebody else holds ([`PATIENCE`]): that ends as a refusal does;
//! - one whose caller has gone before it was sent is left out, and where all have gone later, the transaction
//!   is broken off.
//!
//! Must not know: what a set-up that goes alone does, and what is answered.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::domain::error::{Error, Result};
use crate::pg::control::tenant_setup::{self, Given, NewTenant};
use crate::pg::control::vacancies::Pattern;
use crate::pg::error::Failure;
use crate::pg::rules::TimeLimits;
use crate::pg::{Db, PublicTx};
use crate::service::provisioning::prepared::Order;

/// Most that go together.
const MANY: usize = 32;

/// Longest wait for a lock, while others wait behind.
const PATIENCE: Duration = Duration::from_millis(50);

/// Where set-ups queue. Cheap to clone; with the last clone the task behind it ends.
#[derive(Clone)]
pub(super) struct GroupCommit(mpsc::Sender<Waiting>);

/// A set-up in the queue. Once nobody waits for the answer any more its caller has gone.
struct Waiting {
    order: Arc<Order>,
    /// None where it has to go alone.
    answer: oneshot::Sender<Option<Given>>,
}

impl GroupCommit {
    /// Starts the task that sends them.
    pub(super) fn start(runtime: &Handle, db: Db, pattern: Pattern) -> Self {
        let (queue, waiting) = mpsc::channel(MANY);
        runtime.spawn(send_all(waiting, db, pattern));
        Self(queue)
    }

    /// Makes a tenant in a vacancy. None where it has to be tried alone; nothing was done then.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database went away meanwhile: whether it was made is then not known,
    /// as with every commit.
    pub(super) async fn make(&self, order: &Arc<Order>) -> Result<Option<Given>> {
        let (answer, answered) = oneshot::channel();
        if self.0.send(Waiting { order: Arc::clone(order), answer }).await.is_err() {
            return Ok(None);
        }
        let lost = |_| Error::unavailable("make a tenant", "its transaction broke off");
        answered.await.map_err(lost)
    }
}

async fn send_all(mut queue: mpsc::Receiver<Waiting>, db: Db, pattern: Pattern) {
    let limits = db.rules().limits;
    let limits = TimeLimits { lock: limits.lock.min(PATIENCE), ..limits };
    while let Some(first) = queue.recv().await {
        let begun = db.public_within(&limits).await;
        let mut group = vec![first];
        while group.len() < MANY
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        group.retain(|one| !one.answer.is_closed());
        let sent = match begun {
            Ok(tx) => send(tx, &pattern, group).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = sent {
            let reason = failure.during("make tenants together").chain();
            tracing::warn!(reason, "the transaction of new tenants broke off");
        }
    }
}

/// Sends a group and answers each. On an error they are dropped, which tells their callers. Where all of these
/// have gone it is broken off.
async fn send(tx: PublicTx, pattern: &Pattern, group: Vec<Waiting>) -> Result<(), Failure> {
    if group.is_empty() {
        return Ok(());
    }
    let (orders, mut answers): (Vec<_>, Vec<_>) =
        group.into_iter().map(|one| (one.order, one.answer)).unzip();
    let rows: Vec<NewTenant<'_>> = orders.iter().map(|order| order.rows()).collect();
    let made = pin!(tenant_setup::insert_together(tx, pattern, &rows));
    let gone = join_all(answers.iter_mut().map(oneshot::Sender::closed));
    let Either::Left((made, _)) = select(made, gone).await else { return Ok(()) };
    let given: Vec<Option<Given>> = match made {
        Ok(given) => given.into_iter().map(Some).collect(),
        Err(failure) if failure.is_refusal() => vec![None; answers.len()],
        Err(failure) => return Err(failure),
    };
    for (answer, given) in answers.into_iter().zip(given) {
        // Nobody may be there any more to hear it.
        let _ = answer.send(given);
    }
    Ok(())
}
