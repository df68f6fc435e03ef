//! Checks of stored archives: whether the content is what was stored, and what its manifest says.

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, ReadBuf};
use uuid::Uuid;

use super::keeper::{HEARTBEAT, Keeper, LEASE, explain};
use super::{Record, StoredArchives, lookup};
use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::Permission;
use crate::domain::archive::ArchiveProblem;
use crate::domain::error::Result;
use crate::pg::During;
use crate::pg::control::archives::{Content, checks};
use crate::store;

const CHECK: &str = "check an archive";

impl StoredArchives {
    /// Starts a check of the stored content in the background; [`read`](Self::read) tells how it ended. One that runs
    /// already goes on.
    ///
    /// # Errors
    /// [`Noun::Archive`](crate::domain::error::Noun::Archive) not found; [`ArchiveProblem::NotReady`]; those of the rights
    /// check and of the database.
    pub async fn start_check(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::ManageArchives)?;
        if let Some((content, record)) = self.begin_check(id).await? {
            let keeper = Arc::clone(&self.keeper);
            self.keeper.spawn(async move {
                Box::pin(keeper.check(id, &content)).await;
            });
            return Ok(record);
        }
        self.read(ctx, id).await
    }

    /// Checks the stored content, and returns when that is done.
    ///
    /// # Errors
    /// As [`start_check`](Self::start_check).
    pub async fn check(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::ManageArchives)?;
        if let Some((content, _)) = self.begin_check(id).await? {
            Box::pin(self.keeper.check(id, &content)).await;
        }
        self.read(ctx, id).await
    }

    /// Begins a check; none if one is running.
    async fn begin_check(&self, id: Uuid) -> Result<Option<(Content, Record)>> {
        let tx = self.db.public().await.during(CHECK)?;
        let content = lookup(&tx, id, &Reach::Everything).await?.stored()?.clone();
        let is_begun = checks::begin(&tx, id, LEASE).await?;
        let record = lookup(&tx, id, &Reach::Everything).await?;
        tx.commit().await.during(CHECK)?;
        Ok(is_begun.then_some((content, record)))
    }
}

impl Keeper {
    /// Checks an archive, and records how that ended.
    async fn check(&self, id: Uuid, expected: &Content) {
        let checked = tokio::select! {
            checked = self.read_all(id, expected) => checked,
            // The archive was deleted.
            () = self.keep_check_alive(id) => return,
        };
        let why_not = checked.err().map(|error| {
            tracing::warn!(archive.id = %id, error = %error.chain(), "an archive did not pass its check");
            error.to_string()
        });
        let kept = async {
            let tx = self.db.public().await.during(CHECK)?;
            checks::end(&tx, id, why_not.as_deref(), self.clock.now()).await?;
            tx.commit().await.during(CHECK)
        };
        if let Err(error) = kept.await {
            tracing::warn!(archive.id = %id, error = %error.chain(), "failed to record the check of an archive");
        }
    }

    async fn keep_check_alive(&self, id: Uuid) {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            let renewed = async {
                let tx = self.db.public().await.during(CHECK)?;
                checks::renew(tx, id, LEASE).await
            };
            match renewed.await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(archive.id = %id, error = %error.chain(), "failed to renew the lease of a check");
                }
            }
        }
    }

    async fn read_all(&self, id: Uuid, expected: &Content) -> Result<()> {
        // Never closed.
        let _permit = self.permits.acquire().await;
        let content = match self.store.open(id, 0..expected.bytes).await {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(differs("size"));
            }
            Err(error) => return Err(explain(&error, CHECK)),
        };
        let mut content = Hashed { content, hash: Sha256::new() };
        self.archives.inspect(&mut content, &|_| ()).await?;
        // It was read to its end, which the archive marks.
        if hex::encode(content.hash.finalize()) == expected.sha256 {
            Ok(())
        } else {
            Err(differs("digest"))
        }
    }
}

fn differs(what: &'static str) -> crate::domain::Error {
    ArchiveProblem::Digest { member: "the archive".to_owned(), what }.into()
}

/// Hashes what is read.
struct Hashed {
    content: store::Content,
    hash: Sha256,
}

impl AsyncRead for Hashed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.content.as_mut().poll_read(context, buffer))?;
        self.hash.update(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}
