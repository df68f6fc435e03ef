//! The archives that a server, or the store of a database's settings, keeps.

use std::time::Duration;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use uuid::Uuid;

use super::refusal::Refusal;
use super::{Control, Named, ROWS_AT_ONCE};
use crate::cli::Failure;
use crate::domain::error::Error;
use crate::domain::names::TenantId;
use crate::domain::page::{Page, Window};
use crate::service::archives::{OnProgress, Progress};
use crate::service::stored_archives::{self, Export, Filter, Record};

/// How often a server is asked how far it is.
pub(super) const POLL: Duration = Duration::from_millis(300);

/// An archive.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct ArchiveView {
    pub(in crate::cli) id: Uuid,
    pub(in crate::cli) kind: String,
    pub(in crate::cli) state: String,
    pub(in crate::cli) tenant_id: Option<Uuid>,
    pub(in crate::cli) slug: Option<String>,
    pub(in crate::cli) actor: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(in crate::cli) ended_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(in crate::cli) keep_until: Option<OffsetDateTime>,
    pub(in crate::cli) progress: ProgressView,
    pub(in crate::cli) bytes: Option<u64>,
    pub(in crate::cli) sha256: Option<String>,
    pub(in crate::cli) manifest_sha256: Option<String>,
    pub(in crate::cli) warnings: Vec<String>,
    pub(in crate::cli) trusted: Option<bool>,
    pub(in crate::cli) check: Option<CheckView>,
    pub(in crate::cli) error: Option<WhyView>,
}

/// How far something is.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct ProgressView {
    pub(in crate::cli) tables: u64,
    pub(in crate::cli) of: Option<u64>,
    pub(in crate::cli) rows: u64,
    pub(in crate::cli) bytes: u64,
}

/// A check of the stored content.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct CheckView {
    pub(in crate::cli) state: String,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(in crate::cli) at: Option<OffsetDateTime>,
    pub(in crate::cli) error: Option<String>,
}

/// Why something failed.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct WhyView {
    pub(in crate::cli) code: String,
    pub(in crate::cli) message: String,
}

impl Control {
    /// Exports a tenant to the store, and returns when it is there.
    pub(in crate::cli) async fn export_to_store(
        &self,
        which: &Named,
        members: bool,
        on_progress: OnProgress<'_>,
    ) -> Result<ArchiveView, Failure> {
        match self {
            Self::Database(backend) => {
                let (archives, ctx) = (&backend.services.stored_archives, backend.operator());
                let what = Export { tenant: which.to_ref(), members };
                let record = archives.export(&ctx, &what, on_progress).await?;
                ArchiveView::from(record).ready()
            }
            Self::Server(client) => {
                let tenant = match which {
                    Named::Tenant(tenant) => tenant.clone(),
                    Named::ExternalId(id) => {
                        let path = ["tenants", "by-external-id", id.as_ref()];
                        client.get::<IdOnly>(&path, &[]).await?.id.to_string()
                    }
                };
                let path = ["tenants", &tenant, "archives"];
                let begun: ArchiveView = client.post(&path, &json!({ "members": members })).await?;
                self.ended(begun, on_progress).await?.ready()
            }
        }
    }

    /// Waits until an archive runs no longer.
    async fn ended(
        &self,
        mut view: ArchiveView,
        on_progress: OnProgress<'_>,
    ) -> Result<ArchiveView, Failure> {
        while view.state == "running" {
            tokio::time::sleep(POLL).await;
            view = self.archive(view.id).await?;
            on_progress(view.progress.as_progress());
        }
        Ok(view)
    }

    /// Lists archives, newest first, up to `limit`. Returns whether there are more.
    pub(in crate::cli) async fn list_archives(
        &self,
        filter: Filter,
        limit: usize,
    ) -> Result<(Vec<ArchiveView>, bool), Failure> {
        match self {
            Self::Database(backend) => {
                let (archives, ctx) = (&backend.services.stored_archives, backend.operator());
                let read = async |window: &Window| archives.list(&ctx, &filter, window).await;
                pages(limit, read).await
            }
            Self::Server(client) => {
                let Filter { tenant, kind, state } = filter;
                let query = [("tenant", tenant), ("kind", kind), ("state", state)];
                let query: Vec<_> =
                    query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
                client.list(&["archives"], &query, Some(limit)).await
            }
        }
    }

    /// Reads an archive.
    pub(in crate::cli) async fn archive(&self, id: Uuid) -> Result<ArchiveView, Failure> {
        match self {
            Self::Database(backend) => {
                let (archives, ctx) = (&backend.services.stored_archives, backend.operator());
                Ok(archives.read(&ctx, id).await?.into())
            }
            Self::Server(client) => client.get(&["archives", &id.to_string()], &[]).await,
        }
    }

    /// Writes the content of an archive to `out`, and compares it with its digest.
    pub(in crate::cli) async fn fetch_archive(
        &self,
        view: &ArchiveView,
        out: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<(), Failure> {
        let found = match self {
            Self::Database(backend) => {
                let (archives, ctx) = (&backend.services.stored_archives, backend.operator());
                let range = 0..view.bytes.unwrap_or_default();
                let mut content = archives.fetch(&ctx, view.id, range).await?;
                copy(&mut content, out).await?
            }
            Self::Server(client) => {
                client.download(&["archives", &view.id.to_string(), "content"], out).await?
            }
        };
        if Some(&found) == view.sha256.as_ref() {
            return Ok(());
        }
        let message = "what was fetched has another digest than the archive".to_owned();
        Err(Box::new(Refusal::of("archive_digest", message)).into())
    }

    /// Checks the stored content of an archive, and returns when that is done.
    pub(in crate::cli) async fn verify_archive(&self, id: Uuid) -> Result<ArchiveView, Failure> {
        match self {
            Self::Database(backend) => {
                let (archives, ctx) = (&backend.services.stored_archives, backend.operator());
                Ok(archives.check(&ctx, id).await?.into())
            }
            Self::Server(client) => {
                let path = ["archives", &id.to_string(), "verify"];
                let mut view: ArchiveView = client.post(&path, &json!({})).await?;
                while view.check.as_ref().is_some_and(|check| check.state == "running") {
                    tokio::time::sleep(POLL).await;
                    view = self.archive(id).await?;
                }
                Ok(view)
            }
        }
    }

    /// Deletes an archive.
    pub(in crate::cli) async fn delete_archive(&self, id: Uuid) -> Result<(), Failure> {
        match self {
            Self::Database(backend) => {
                let (archives, ctx) = (&backend.services.stored_archives, backend.operator());
                Ok(archives.delete(&ctx, id).await?)
            }
            Self::Server(client) => {
                let path = ["archives", &id.to_string()];
                client.send(client.control(Method::DELETE, &path, &[])).await
            }
        }
    }
}

/// The id of a tenant.
#[derive(Deserialize)]
struct IdOnly {
    id: Uuid,
}

/// Reads the pages of a list of a database, up to `limit` rows. Returns whether there are more.
pub(super) async fn pages<Row, View: From<Row>>(
    limit: usize,
    read: impl AsyncFn(&Window) -> Result<Page<Row>, Error>,
) -> Result<(Vec<View>, bool), Failure> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let left = limit - all.len();
        let rows = u16::try_from(left).unwrap_or(ROWS_AT_ONCE).min(ROWS_AT_ONCE);
        let page = read(&Window { after, limit: rows }).await?;
        all.extend(page.rows.into_iter().map(View::from));
        after = page.next;
        if after.is_none() || all.len() >= limit {
            return Ok((all, after.is_some()));
        }
    }
}

/// Copies a content and returns its SHA-256, in hex.
async fn copy(
    content: &mut (dyn AsyncRead + Unpin + Send),
    out: &mut (dyn AsyncWrite + Unpin + Send),
) -> Result<String, Failure> {
    use sha2::{Digest, Sha256};
    use tokio::io::AsyncReadExt;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        let read = content.read(&mut buffer).await.map_err(Failure::io("read the archive"))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        out.write_all(bytes).await.map_err(Failure::io("write the archive"))?;
    }
    out.flush().await.map_err(Failure::io("write the archive"))?;
    Ok(hex::encode(hash.finalize()))
}

impl ProgressView {
    /// Returns it as the services tell it.
    pub(in crate::cli) fn as_progress(&self) -> Progress {
        let whole = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Progress {
            tables: whole(self.tables),
            of: whole(self.of.unwrap_or_default()),
            rows: self.rows,
            bytes: self.bytes,
        }
    }
}

impl WhyView {
    /// Returns the failure of what failed for this reason.
    pub(in crate::cli) fn failure(self) -> Failure {
        Box::new(Refusal::of(&self.code, self.message)).into()
    }
}

impl ArchiveView {
    /// Returns the archive if it is ready, else why it is not.
    fn ready(self) -> Result<Self, Failure> {
        match (self.state.as_str(), self.error) {
            ("ready", error) => Ok(Self { error, ..self }),
            (_, Some(why)) => Err(why.failure()),
            (state, None) => {
                let message = format!("the archive is {state}");
                Err(Box::new(Refusal::of("archive_not_ready", message)).into())
            }
        }
    }
}

impl From<stored_archives::Progress> for ProgressView {
    fn from(progress: stored_archives::Progress) -> Self {
        let unsigned = |count: i64| u64::try_from(count).unwrap_or_default();
        Self {
            tables: unsigned(progress.tables_done),
            of: progress.tables.map(unsigned),
            rows: unsigned(progress.rows),
            bytes: unsigned(progress.raw_bytes),
        }
    }
}

impl From<Record> for ArchiveView {
    fn from(record: Record) -> Self {
        let (bytes, sha256, manifest_sha256) = match record.content {
            Some(stored) => (Some(stored.bytes), Some(stored.sha256), Some(stored.manifest_sha256)),
            None => (None, None, None),
        };
        Self {
            id: record.id,
            kind: record.kind,
            state: record.state,
            tenant_id: record.tenant.map(TenantId::uuid),
            slug: record.slug,
            actor: record.actor,
            created_at: record.created_at,
            ended_at: record.ended_at,
            keep_until: record.keep_until,
            progress: record.progress.into(),
            bytes,
            sha256,
            manifest_sha256,
            warnings: record.warnings,
            trusted: record.is_trusted,
            check: record.check.map(|check| CheckView {
                state: check.state,
                at: check.at,
                error: check.error,
            }),
            error: record.error.map(|(code, message)| WhyView { code, message }),
        }
    }
}
