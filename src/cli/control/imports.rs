//! Imports of archives that a server, or the store of a database's settings, keeps.

use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Control;
use super::archives::{POLL, ProgressView, WhyView, pages};
use crate::cli::{Failure, stop};
use crate::domain::names::{ExternalId, TenantName};
use crate::domain::page::Window;
use crate::service::archives::{ImportCommand, MemberPolicy, NewId, OnProgress};
use crate::service::stored_archives::{Import, ImportFilter};
use crate::service::tenants::TenantRef;

/// An import of a stored archive.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct ImportView {
    pub(in crate::cli) id: Uuid,
    pub(in crate::cli) archive_id: Uuid,
    pub(in crate::cli) state: String,
    pub(in crate::cli) slug: String,
    pub(in crate::cli) dry_run: bool,
    pub(in crate::cli) actor: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(in crate::cli) ended_at: Option<OffsetDateTime>,
    pub(in crate::cli) progress: ProgressView,
    /// What was imported, or would be, as the command prints it.
    pub(in crate::cli) report: Option<serde_json::Value>,
    pub(in crate::cli) error: Option<WhyView>,
}

impl Control {
    /// Makes a tenant of a stored archive, and returns what was imported.
    pub(in crate::cli) async fn import_archive(
        &self,
        archive: Uuid,
        command: &ImportCommand,
        on_progress: OnProgress<'_>,
    ) -> Result<serde_json::Value, Failure> {
        let view = match self {
            Self::Database(backend) => {
                let (archives, ctx) = (&backend.services.stored_archives, backend.operator());
                archives.run_import(&ctx, archive, command, on_progress).await?.into()
            }
            Self::Server(client) => {
                let mut view: ImportView =
                    client.post(&["imports"], &import_body(archive, command)?).await?;
                let mut signalled = Box::pin(stop::signalled());
                let mut is_stopped = false;
                while view.state == "running" {
                    let id = view.id.to_string();
                    tokio::select! {
                        () = tokio::time::sleep(POLL) => {
                            view = client.get(&["imports", &id], &[]).await?;
                            on_progress(view.progress.as_progress());
                        }
                        () = &mut signalled, if !is_stopped => {
                            is_stopped = true;
                            view = client.post(&["imports", &id, "cancel"], &json!({})).await?;
                        }
                    }
                }
                view
            }
        };
        match (view.report, view.error) {
            (Some(report), _) => Ok(report),
            (None, Some(why)) => Err(why.failure()),
            (None, None) => Err(Failure::Other(format!("the import is {}", view.state))),
        }
    }

    /// Lists imports, newest first, up to `limit`. Returns whether there are more.
    pub(in crate::cli) async fn list_imports(
        &self,
        filter: ImportFilter,
        limit: usize,
    ) -> Result<(Vec<ImportView>, bool), Failure> {
        match self {
            Self::Database(backend) => {
                let (archives, ctx) = (&backend.services.stored_archives, backend.operator());
                let read =
                    async |window: &Window| archives.list_imports(&ctx, &filter, window).await;
                pages(limit, read).await
            }
            Self::Server(client) => {
                let ImportFilter { archive, slug, state } = filter;
                let archive = archive.map(|id| id.to_string());
                let query = [("archive", archive), ("slug", slug), ("state", state)];
                let query: Vec<_> =
                    query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
                client.list(&["imports"], &query, Some(limit)).await
            }
        }
    }
}

/// Returns the body of a request that starts an import.
fn import_body(archive: Uuid, command: &ImportCommand) -> Result<serde_json::Value, Failure> {
    let command = match command {
        ImportCommand::Tenant(command) => command,
        ImportCommand::Into(into) => {
            let tenant = match &into.tenant {
                TenantRef::Id(id) => id.to_string(),
                TenantRef::Slug(slug) => slug.to_string(),
                TenantRef::IdOrSlug(text) => text.clone(),
                TenantRef::Number(number) => number.to_string(),
                TenantRef::ExternalId(id) => id.to_string(),
            };
            let body = json!({ "archive": archive, "into": tenant, "dry_run": into.dry_run });
            return completed(body, &into.leave_out, into.trust.as_deref());
        }
    };
    let mut body = json!({
        "archive": archive,
        "slug": command.slug,
        "id": if command.id == NewId::Same { "same" } else { "new" },
        "members": match command.members {
            MemberPolicy::Match => "match",
            MemberPolicy::Create => "create",
            MemberPolicy::None => "none",
        },
        "status": if command.suspended { "suspended" } else { "active" },
        "dry_run": command.dry_run,
    });
    for (field, value) in [
        ("name", command.name.as_ref().map(TenantName::as_str)),
        ("external_id", command.external_id.as_ref().map(ExternalId::as_str)),
    ] {
        if let Some(value) = value {
            body[field] = json!(value);
        }
    }
    completed(body, &command.leave_out, command.trust.as_deref())
}

/// Adds what every import may have.
fn completed(
    mut body: serde_json::Value,
    leave_out: &[String],
    trust: Option<&str>,
) -> Result<serde_json::Value, Failure> {
    if !leave_out.is_empty() {
        body["leave_out"] = json!(leave_out);
    }
    if let Some(trust) = trust {
        let set = serde_json::from_str(trust);
        body["trust"] = set.map_err(|error| Failure::usage(format!("--trust: {error}")))?;
    }
    Ok(body)
}

impl From<Import> for ImportView {
    fn from(import: Import) -> Self {
        Self {
            id: import.id,
            archive_id: import.archive,
            state: import.state,
            slug: import.slug,
            dry_run: import.is_dry_run,
            actor: import.actor,
            created_at: import.created_at,
            ended_at: import.ended_at,
            progress: import.progress.into(),
            report: import.report,
            error: import.error.map(|(code, message)| WhyView { code, message }),
        }
    }
}
