//! Runs what takes longer than a request, one for the whole process, and knows how much may be stored.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::domain::Clock;
use crate::domain::archive::ArchiveProblem;
use crate::domain::error::{Error, Result};
use crate::pg::control::archives;
use crate::pg::control::background::{self, Progress, Work};
use crate::pg::{Db, During, PublicTx};
use crate::service::Archives;
use crate::service::archives::Progress as Done;
use crate::store::{Draft, Store};

/// How long a server counts as alive after it last said so.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// How often it says so, and how far it is.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);

/// How much may be stored, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most bytes of an archive.
    pub max_bytes: u64,
    /// The most bytes of all archives; none for as many as fit on the disk.
    pub total_bytes: Option<u64>,
    /// How long an export is kept; none for until it is deleted.
    pub keep_exports: Option<time::Duration>,
    /// How many exports, imports and checks run at the same time.
    pub workers: usize,
}

/// What runs exports, imports and checks.
pub struct Keeper {
    /// The runtime to which the pools of `db` and `archives` belong.
    pub(super) runtime: Handle,
    pub(super) db: Db,
    pub(super) archives: Archives,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) permits: Semaphore,
    /// Wakes what looks whether it is cancelled.
    woken: Notify,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    set: JoinSet<()>,
    /// What runs here.
    running: BTreeSet<Work>,
}

/// How many bytes an archive may have now.
pub(super) struct Allowance {
    pub(super) bytes: u64,
    /// Whether more is too large for any store with these settings.
    is_of_settings: bool,
}

impl Keeper {
    /// Runs `archives` on `runtime`, to which the pools of `db` belong, and keeps what is written in `store`.
    #[must_use]
    pub fn new(
        runtime: Handle,
        db: Db,
        archives: Archives,
        store: Store,
        clock: Clock,
        limits: Limits,
    ) -> Self {
        let permits = Semaphore::new(limits.workers);
        let (woken, tasks) = (Notify::new(), Mutex::default());
        Self { runtime, db, archives, store, clock, limits, permits, woken, tasks }
    }

    /// Ends what runs here, and records that it failed.
    pub async fn stop(&self) {
        let Tasks { mut set, running } = std::mem::take(&mut *self.tasks());
        set.shutdown().await;
        for work in running {
            self.fail(work, ("server_stopped", "the server that ran it was stopped")).await;
        }
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something in the background.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.set.try_join_next().is_some() {}
        tasks.set.spawn_on(work, &self.runtime);
    }

    /// Notes that something runs here, until the result is dropped.
    pub(super) fn running(&self, work: Work) -> Running<'_> {
        self.tasks().running.insert(work);
        Running { keeper: self, work }
    }

    /// Makes what runs look whether it is cancelled.
    pub(super) fn look_again(&self) {
        self.woken.notify_waiters();
    }

    /// Returns how many bytes the next archive may have.
    ///
    /// # Errors
    /// [`ArchiveProblem::NoRoom`] if none fits; [`ArchiveProblem::StoreUnavailable`]; those of the database.
    pub(super) async fn allowance(&self, tx: &PublicTx) -> Result<Allowance> {
        let free = self.store.free_bytes().await;
        let free = free.map_err(|error| explain(&error, "ask for free space"))?;
        let left = match self.limits.total_bytes {
            Some(total) => total.saturating_sub(archives::stored_bytes(tx).await?),
            None => u64::MAX,
        };
        let free = free.min(left);
        if free == 0 {
            return Err(ArchiveProblem::NoRoom.into());
        }
        let max = self.limits.max_bytes;
        Ok(Allowance { bytes: free.min(max), is_of_settings: max <= free })
    }

    /// Renews the lease of something and records how far it is, until it runs no longer.
    pub(super) async fn keep_alive(&self, db: &Db, work: Work, progress: &Mutex<Done>) {
        loop {
            let woken = self.woken.notified();
            let _ = tokio::time::timeout(HEARTBEAT, woken).await;
            let done = *progress.lock().unwrap_or_else(PoisonError::into_inner);
            let renewed = async {
                let tx = db.public().await.during("renew a lease")?;
                background::renew(tx, work, LEASE, stored(done)).await
            };
            match renewed.await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(?work, error = %error.chain(), "failed to renew a lease");
                }
            }
        }
    }

    /// Records that something failed, and removes what there is of it.
    pub(super) async fn fail(&self, work: Work, why: (&str, &str)) {
        self.fail_on(&self.db, work, why).await;
    }

    /// As [`fail`](Self::fail), from the runtime of `db`.
    pub(super) async fn fail_on(&self, db: &Db, work: Work, why: (&str, &str)) {
        const END: &str = "record a failure";
        let failed = async {
            let tx = db.public().await.during(END)?;
            let is_failed = background::fail(&tx, work, why, self.clock.now()).await?;
            tx.commit().await.during(END)?;
            if let (true, Work::Archive(id)) = (is_failed, work) {
                let removed = self.store.delete(id).await;
                removed.map_err(|error| explain(&error, "remove a failed archive"))?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = failed.await {
            tracing::warn!(?work, error = %error.chain(), "failed to record a failure");
        }
    }
}

/// Something that runs here.
pub(super) struct Running<'a> {
    keeper: &'a Keeper,
    work: Work,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.keeper.tasks().running.remove(&self.work);
    }
}

impl Allowance {
    /// Returns the problem of an archive that has more bytes.
    pub(super) fn exceeded(&self) -> Error {
        if self.is_of_settings {
            let member = "the whole".to_owned();
            ArchiveProblem::TooLarge { member, limit: self.bytes }.into()
        } else {
            ArchiveProblem::NoRoom.into()
        }
    }

    /// Tells a draft that is full from another failure.
    pub(super) fn of(&self, draft: &Draft, error: Error) -> Error {
        if draft.is_full() { self.exceeded() } else { error }
    }
}

/// How far an archive is, as it is recorded.
pub(super) fn stored(done: Done) -> Progress {
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Progress {
        tables: (done.of > 0).then(|| whole(done.of as u64)),
        tables_done: whole(done.tables as u64),
        rows: whole(done.rows),
        raw_bytes: whole(done.bytes),
    }
}

/// Returns the problem of a store that fails. The cause is for the log alone: it may hold a path.
pub(super) fn explain(error: &io::Error, during: &'static str) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            ArchiveProblem::NoRoom.into()
        }
        _ => {
            tracing::error!(during, error = %error, "the store of archives is not available");
            ArchiveProblem::StoreUnavailable.into()
        }
    }
}
