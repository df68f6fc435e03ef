//! The archives that the server keeps: export a tenant, fetch its archive, upload one, check and delete them.
//!
//! An export outlives its request: the answer is sent as soon as it is recorded, and the server that was asked writes it in
//! the background. Its content is fetched from the store, so that a slow client holds no snapshot.

mod content;
mod upload;

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, delete, get, post};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::PROBLEM_JSON;
use super::call::{Call, window, write_cursor};
use super::responses::{
    Forbidden, InvalidBody, InvalidParameter, NoSuchArchive, NoSuchTenant, Unexpected,
};
use super::tenants::replayed;
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::TenantId;
use crate::http::responses::{ExportTenant, ManageArchives};
use crate::http::{Mount, archive_content};
use crate::service::stored_archives::{self, Begun, Export, Record};
use crate::service::tenants::TenantRef;

pub(super) use upload::UPLOADS;

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes
        .service(export)
        .service(list)
        .service(read)
        .service(content::fetch)
        .service(upload::upload)
        .service(verify)
        .service(cancel)
        .service(remove);
}

/// An archive that the server keeps.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Archive)]
pub(super) struct ArchiveAnswer {
    id: Uuid,
    /// `export` or `upload`.
    #[schema(pattern = "^(export|upload)$")]
    kind: String,
    /// `running`, `ready`, `failed` (`error` says why) or `cancelled`.
    #[schema(pattern = "^(running|ready|failed|cancelled)$")]
    state: String,
    /// The tenant whose data it has; of an upload it may be one of another installation, and is null until its header has
    /// come.
    tenant_id: Option<Uuid>,
    /// The slug of that tenant.
    slug: Option<String>,
    /// The caller who asked for it.
    actor: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
    /// When it is deleted; null if it stays.
    #[serde(with = "time::serde::rfc3339::option")]
    keep_until: Option<OffsetDateTime>,
    progress: ProgressAnswer,
    /// The bytes of the archive; null until it is ready.
    bytes: Option<u64>,
    /// The SHA-256 of the archive in hex; null until it is ready.
    sha256: Option<String>,
    /// The SHA-256 of its manifest, which the audit events have too.
    manifest_sha256: Option<String>,
    /// What it lacks, in sentences.
    warnings: Vec<String>,
    /// Whether a key of this installation signed it; null until it is ready.
    trusted: Option<bool>,
    /// The last check of the stored content; null if there was none.
    check: Option<CheckAnswer>,
    /// Why it failed.
    error: Option<FailureAnswer>,
}

/// How far something is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ArchiveProgress)]
pub(super) struct ProgressAnswer {
    /// Tables that are done.
    tables: i64,
    /// All tables; null until they are known.
    of: Option<i64>,
    rows: i64,
    /// Bytes of CSV, before they are compressed.
    bytes: i64,
}

/// A check of the stored content.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ArchiveCheck)]
pub(super) struct CheckAnswer {
    /// `running`, `passed` or `failed` (`error` says why).
    #[schema(pattern = "^(running|passed|failed)$")]
    state: String,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    at: Option<OffsetDateTime>,
    error: Option<String>,
}

/// Why something failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ArchiveFailure)]
pub(super) struct FailureAnswer {
    /// The code that a refused request would have, or `server_gone` or `server_stopped`.
    code: String,
    message: String,
}

/// A page of archives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ArchiveList {
    data: Vec<ArchiveAnswer>,
    /// The `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// The body that starts an export, which may be absent.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct NewExport {
    /// Whether the archive has the addresses, names and roles of the members; true by default.
    members: Option<bool>,
}

/// Starts an export of a tenant to the store, in the background.
#[utoipa::path(tag = "control", operation_id = "startExport", security(("bearer" = [])), request_body = Option<NewExport>,
    params(
        ("tenant" = String, Path, description = "The slug or the id of the tenant"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe for 24 hours: the same key and body return the same archive", pattern = "^[!-~]([ -~]{0,253}[!-~])?$"),
    ),
    responses(
        (status = 202, description = "The archive, which is being written; `Location` leads to it", body = ArchiveAnswer),
        InvalidBody, Forbidden<ExportTenant>, NoSuchTenant,
        (status = 409, description = "An export of the tenant is running (`export_running`), or a request with the same Idempotency-Key is", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 422, description = "The Idempotency-Key was used with another request", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 429, description = "Too many requests, or the tenant has started too many exports (`limits.exports_tenant`); Retry-After says when to try again", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 507, description = "There is no room: the disk is full, or `archives.total_bytes` is reached", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/tenants/{tenant}/archives")]
async fn export(call: Call) -> Answer {
    let reach = call.ctx.reach(Permission::ExportTenant)?;
    call.query()?.finish(Some(()))?;
    let mut body = call.optional_body()?;
    let members = !body.has("members") || body.flag("members");
    body.finish(Some(()))?;
    let what = Export { tenant: TenantRef::IdOrSlug(call.path("tenant")?), members };
    let key = call.idempotency_key()?;
    let stored = &call.services().stored_archives;
    let limits = &call.site().limits;
    let admit = |tenant| limits.export(&reach, tenant);
    let begun = stored.start_export(&call.ctx, &what, key.as_deref(), &admit);
    let begun = Box::pin(begun).await?;
    Ok(answer_with(StatusCode::ACCEPTED, begun))
}

/// Lists the archives, newest first. A caller who may export some tenants alone sees the exports of these.
#[utoipa::path(tag = "control", operation_id = "listArchives", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("tenant" = Option<String>, Query, description = "Only archives of the tenant with this id, or this slug at the time"),
        ("kind" = Option<String>, Query, description = "Only archives of this kind: export or upload", pattern = "^(export|upload)$"),
        ("state" = Option<String>, Query, description = "Only archives in this state", pattern = "^(running|ready|failed|cancelled)$"),
    ),
    responses(
        (status = 200, description = "A page of archives", body = ArchiveList),
        InvalidParameter, Forbidden<ExportTenant>, NoSuchTenant,
    ))]
#[get("/control/v1/archives")]
async fn list(call: Call) -> Answer {
    call.ctx.reach(Permission::ExportTenant)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let filter = archive_content::filter(&mut query);
    let window = query.finish(Some(window))?;
    let page = call.services().stored_archives.list(&call.ctx, &filter, &window).await?;
    Ok(HttpResponse::Ok().json(ArchiveList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(ArchiveAnswer::from).collect(),
    }))
}

/// Returns an archive: its state, how far it is, what is stored.
#[utoipa::path(tag = "control", operation_id = "getArchive", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The id of the archive")),
    responses(
        (status = 200, description = "The archive", body = ArchiveAnswer),
        Unexpected, Forbidden<ExportTenant>, NoSuchArchive,
    ))]
#[get("/control/v1/archives/{id}")]
async fn read(call: Call) -> Answer {
    call.ctx.reach(Permission::ExportTenant)?;
    call.nothing_else()?;
    let record = call.services().stored_archives.read(&call.ctx, id_of(&call)?).await?;
    Ok(HttpResponse::Ok().json(ArchiveAnswer::from(record)))
}

/// Starts a check of the stored content in the background: its form, its digests and its signature. One that runs already
/// goes on; `check` of the archive says how it ended.
#[utoipa::path(tag = "control", operation_id = "verifyArchive", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The id of the archive")),
    responses(
        (status = 202, description = "The archive, which is being checked", body = ArchiveAnswer),
        Unexpected, Forbidden<ManageArchives>, NoSuchArchive,
        (status = 409, description = "The archive is not ready", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/archives/{id}/verify")]
async fn verify(call: Call) -> Answer {
    call.ctx.require(Permission::ManageArchives)?;
    call.nothing_else()?;
    let stored = &call.services().stored_archives;
    let record = stored.start_check(&call.ctx, id_of(&call)?).await?;
    Ok(HttpResponse::Accepted().json(ArchiveAnswer::from(record)))
}

/// Cancels an archive that is being written. One that has ended stays as it is.
#[utoipa::path(tag = "control", operation_id = "cancelArchive", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The id of the archive")),
    responses(
        (status = 200, description = "The archive", body = ArchiveAnswer),
        Unexpected, Forbidden<ManageArchives>, NoSuchArchive,
    ))]
#[post("/control/v1/archives/{id}/cancel")]
async fn cancel(call: Call) -> Answer {
    call.ctx.require(Permission::ManageArchives)?;
    call.nothing_else()?;
    let record = call.services().stored_archives.cancel(&call.ctx, id_of(&call)?).await?;
    Ok(HttpResponse::Ok().json(ArchiveAnswer::from(record)))
}

/// Deletes an archive and its content.
#[utoipa::path(tag = "control", operation_id = "deleteArchive", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The id of the archive")),
    responses(
        (status = 204, description = "It is deleted"),
        Unexpected, Forbidden<ManageArchives>, NoSuchArchive,
        (status = 409, description = "The archive is being written; cancel it first", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[delete("/control/v1/archives/{id}")]
async fn remove(call: Call) -> Answer {
    call.ctx.require(Permission::ManageArchives)?;
    call.nothing_else()?;
    call.services().stored_archives.delete(&call.ctx, id_of(&call)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn id_of(call: &Call) -> Result<Uuid> {
    call.path("id")?.parse().map_err(|_no_id| Error::NotFound(Noun::Archive))
}

fn answer_with(status: StatusCode, begun: Begun) -> HttpResponse {
    let Begun { record, is_replayed } = begun;
    let location = format!("/control/v1/archives/{}", record.id);
    let answer = HttpResponse::build(status)
        .insert_header((LOCATION, location))
        .json(ArchiveAnswer::from(record));
    replayed(answer, is_replayed)
}

impl From<stored_archives::Progress> for ProgressAnswer {
    fn from(progress: stored_archives::Progress) -> Self {
        let stored_archives::Progress { tables, tables_done, rows, raw_bytes } = progress;
        Self { tables: tables_done, of: tables, rows, bytes: raw_bytes }
    }
}

impl From<(String, String)> for FailureAnswer {
    fn from((code, message): (String, String)) -> Self {
        Self { code, message }
    }
}

impl From<Record> for ArchiveAnswer {
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
            check: record.check.map(|check| CheckAnswer {
                state: check.state,
                at: check.at,
                error: check.error,
            }),
            error: record.error.map(FailureAnswer::from),
        }
    }
}
