//! Uploads to the store, which are checked as they come.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde_json::json;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use uuid::Uuid;

use super::keeper::{LEASE, explain, stored};
use super::{Begun, StoredArchives, lookup};
use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::archive::ArchiveProblem;
use crate::domain::error::{Error, Result};
use crate::domain::{AuditAction, Permission};
use crate::pg::During;
use crate::pg::control::archives::{self, Content, NewArchive, Ready};
use crate::pg::control::background::Work;
use crate::service::archives::{Inspected, Progress};
use crate::service::audit::note;
use crate::service::keyed;
use crate::store::{Complete, Draft};

const UPLOAD: &str = "store an uploaded archive";

/// Why an upload is not kept that came before.
const REPLAYED: &str = "an earlier upload with the same idempotency key has this content";

/// How much is between what comes and its check.
const BUFFER: usize = 256 << 10;

impl StoredArchives {
    /// Stores an archive that comes as a stream. It is checked as an import checks it, apart from what only the database
    /// knows; one that is refused leaves nothing.
    ///
    /// # Errors
    /// [`ArchiveProblem`], the error of the stream; those of the rights check and of the database.
    pub async fn upload(
        &self,
        ctx: &CallContext,
        announced: Option<u64>,
        chunks: &mut (impl Stream<Item = Result<Bytes>> + Unpin),
        key: Option<&str>,
    ) -> Result<Begun> {
        ctx.require(Permission::ImportTenant)?;
        let tx = self.db.public().await.during(UPLOAD)?;
        let allowed = self.keeper.allowance(&tx).await?;
        if announced.is_some_and(|bytes| bytes > allowed.bytes) {
            return Err(allowed.exceeded());
        }
        let id = Uuid::now_v7();
        let actor = ctx.principal.label();
        let (request_id, now) = (ctx.request_id.as_str(), ctx.now);
        let new = NewArchive { id, tenant: None, actor: &actor, request_id, lease: LEASE, now };
        archives::insert(&tx, &new).await?;
        tx.commit().await.during(UPLOAD)?;
        let progress = Mutex::new(Progress::default());
        let stored = async {
            let draft = self.keeper.store.create(id, allowed.bytes).await;
            let mut draft = draft.map_err(|error| explain(&error, UPLOAD))?;
            let received = Box::pin(self.receive(&mut draft, chunks, &progress)).await;
            let inspected = received.map_err(|error| allowed.of(&draft, error))?;
            let complete = draft.finish().await.map_err(|error| explain(&error, UPLOAD))?;
            self.end_upload(ctx, id, &inspected, complete, key).await
        };
        let stored = tokio::select! {
            stored = stored => stored,
            // It was cancelled, or is recorded as complete just now.
            () = self.keeper.keep_alive(&self.db, Work::Archive(id), &progress) => self.uploaded(id).await,
        };
        match &stored {
            Ok(begun) if begun.is_replayed => self.refuse(id, ("replayed", REPLAYED)).await,
            Ok(_) => {}
            Err(error) => self.refuse(id, (error.detailed_code(), &error.to_string())).await,
        }
        stored
    }

    /// Returns an upload that runs no longer.
    async fn uploaded(&self, id: Uuid) -> Result<Begun> {
        let tx = self.db.public().await.during(UPLOAD)?;
        let record = lookup(&tx, id, &Reach::Everything).await?;
        record.stored()?;
        Ok(Begun { record, is_replayed: false })
    }

    /// Removes what there is of an upload that is refused, and then its row.
    async fn refuse(&self, id: Uuid, why: (&str, &str)) {
        self.keeper.fail_on(&self.db, Work::Archive(id), why).await;
        let forgotten = async {
            let tx = self.db.public().await.during(UPLOAD)?;
            archives::forget(&tx, id).await?;
            tx.commit().await.during(UPLOAD)
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(archive.id = %id, error = %error.chain(), "failed to forget an upload that was refused");
        }
    }

    /// Writes what comes to the draft and checks it.
    async fn receive(
        &self,
        draft: &mut Draft,
        chunks: &mut (impl Stream<Item = Result<Bytes>> + Unpin),
        progress: &Mutex<Progress>,
    ) -> Result<Inspected> {
        let (near, mut far) = duplex(BUFFER);
        let on_progress = |done| *progress.lock().unwrap_or_else(PoisonError::into_inner) = done;
        let checking = self.archives.inspect(&mut far, &on_progress);
        let ((), inspected) = tokio::try_join!(pass_on(draft, chunks, near), checking)?;
        Ok(inspected)
    }

    /// Records that an upload is complete; the archive of an earlier request is returned instead if it has the same key and
    /// content.
    async fn end_upload(
        &self,
        ctx: &CallContext,
        id: Uuid,
        inspected: &Inspected,
        complete: Complete,
        key: Option<&str>,
    ) -> Result<Begun> {
        let Inspected { header, manifest, manifest_sha256, is_trusted } = inspected;
        let tx = self.db.public().await.during(UPLOAD)?;
        let limits = &self.db.rules().limits;
        let what = json!({ "upload": complete.sha256 });
        if let Some(earlier) = keyed::claim(&tx, ctx, key, &what, limits).await? {
            let record = lookup(&tx, earlier, &Reach::Everything).await?;
            return Ok(Begun { record, is_replayed: true });
        }
        let tables = header.tables.len();
        let (rows, bytes) = (manifest.rows, manifest.bytes);
        let ready = Ready {
            tenant: header.tenant.id,
            slug: &header.tenant.slug,
            progress: stored(Progress { tables, of: tables, rows, bytes }),
            content: Content {
                bytes: complete.bytes,
                sha256: complete.sha256,
                manifest_sha256: manifest_sha256.clone(),
            },
            warnings: &header.warnings,
            is_trusted: *is_trusted,
            keep_until: None,
        };
        if !archives::finish(&tx, id, &ready, self.keeper.clock.now()).await? {
            return Err(ArchiveProblem::NotReady("cancelled".to_owned()).into());
        }
        let details = json!({
            "archive": id,
            "slug": header.tenant.slug,
            "bytes": ready.content.bytes,
            "manifest_sha256": manifest_sha256,
        });
        note(&tx, ctx, AuditAction::ArchiveUpload, None, details).await?;
        keyed::complete(&tx, ctx, key, id).await?;
        let record = lookup(&tx, id, &Reach::Everything).await?;
        tx.commit().await.during(UPLOAD)?;
        Ok(Begun { record, is_replayed: false })
    }
}

/// Writes what comes to the draft and to the check.
async fn pass_on(
    draft: &mut Draft,
    chunks: &mut (impl Stream<Item = Result<Bytes>> + Unpin),
    mut check: DuplexStream,
) -> Result<()> {
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        draft.write_all(&chunk).await.map_err(|error| explain(&error, UPLOAD))?;
        check.write_all(&chunk).await.map_err(|error| Error::internal(UPLOAD, error))?;
    }
    check.shutdown().await.map_err(|error| Error::internal(UPLOAD, error))
}
