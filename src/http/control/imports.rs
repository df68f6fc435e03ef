//! Imports of stored archives: make a tenant of one, or try to.
//!
//! An import outlives its request: the answer is sent as soon as it is recorded, and the server that was asked runs it in
//! the background.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, get, post};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::PROBLEM_JSON;
use super::archives::{FailureAnswer, ProgressAnswer};
use super::call::{Call, names, window, write_cursor};
use super::responses::{Forbidden, InvalidBody, InvalidParameter, NoSuchImport, Unexpected};
use super::tenants::replayed;
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::json::Value;
use crate::domain::names::{ExternalId, Slug, TenantName};
use crate::domain::rule::Rule;
use crate::http::Mount;
use crate::http::body::{Fields, word};
use crate::http::responses::ImportTenant as NeedsImportTenant;
use crate::service::archives::{ImportCommand, ImportInto, ImportTenant, MemberPolicy, NewId};
use crate::service::stored_archives::{IMPORT_STATES, Import, ImportFilter};
use crate::service::tenants::TenantRef;

/// The words for the id of a tenant that is imported.
const IDS: &[&str] = &["new", "same"];

/// The words for what becomes of the members.
const MEMBERS: &[&str] = &["match", "create", "none"];

/// The words for the status of a tenant that is imported.
const STATUSES: &[&str] = &["active", "suspended"];

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(start).service(list).service(read).service(cancel);
}

/// An import of a stored archive.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ArchiveImport)]
pub(super) struct ImportAnswer {
    id: Uuid,
    /// The archive.
    archive_id: Uuid,
    /// `running`, `done`, `failed` (`error` says why) or `cancelled`. One that is not done has changed nothing.
    #[schema(pattern = "^(running|done|failed|cancelled)$")]
    state: String,
    /// The slug of the tenant.
    slug: String,
    /// Whether everything is rolled back at the end.
    dry_run: bool,
    /// The caller who started it.
    actor: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
    progress: ProgressAnswer,
    /// What was imported, or would be; null until it is done.
    report: Option<ReportAnswer>,
    /// Why it failed.
    error: Option<FailureAnswer>,
}

/// What was imported, or would be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ImportReport)]
pub(super) struct ReportAnswer {
    /// The tenant; null after a dry run.
    id: Option<Uuid>,
    slug: String,
    tables: u64,
    rows: u64,
    /// The version of its migrations.
    version: i32,
    /// The files that were applied to the imported rows.
    migrated: Vec<String>,
    /// How many accounts became members.
    members: u64,
    /// How many of these were created.
    created: u64,
    /// The addresses of members that have no account here, or one whose address is not proven.
    skipped: Vec<String>,
    /// What the archive lacks, in sentences.
    warnings: Vec<String>,
    /// The SHA-256 of the manifest, in hex.
    manifest_sha256: String,
    /// The tenant that keeps what the archive was put in place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<KeptAnswer>,
}

/// A tenant that keeps what another one had.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = KeptTenant)]
pub(super) struct KeptAnswer {
    id: Uuid,
    slug: String,
    /// `suspended`.
    #[schema(pattern = "^(active|suspended|deleting)$")]
    status: String,
    /// When it is purged.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// A page of imports.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportList {
    data: Vec<ImportAnswer>,
    /// The `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// The body that starts an import.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct NewImportBody {
    /// The id of the stored archive.
    archive: Uuid,
    /// The slug of the new tenant; required without `into`.
    #[schema(min_length = 1, max_length = 63)]
    slug: Option<String>,
    /// The id or the slug of a tenant in whose place the archive is put: it is imported beside and checked, and the two are
    /// swapped. What the tenant had is kept as a suspended tenant for `tenants.grace_period`. Only `leave_out`, `trust` and
    /// `dry_run` go with it. Needs `UPDATE_TENANT` for the tenant.
    into: Option<String>,
    /// The display name of the new tenant; without it, that of the archive's tenant.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    name: Option<String>,
    /// The id of the new tenant in your own system; without it, that of the archive's tenant if `id` is `same`.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    external_id: Option<String>,
    /// `new` (the default), or `same`: the id and the external id of the archive's tenant.
    #[schema(pattern = "^(new|same)$")]
    id: Option<String>,
    /// `match` (the default): accounts with the same, proven address become members; `create`: missing accounts are
    /// created, without a password; `none`.
    #[schema(pattern = "^(match|create|none)$")]
    members: Option<String>,
    /// `active` (the default), or `suspended` until it is resumed.
    #[schema(pattern = "^(active|suspended)$")]
    status: Option<String>,
    /// Tables that are not stored, because no migration makes them.
    #[schema(min_items = 1)]
    leave_out: Option<Vec<String>>,
    /// The JSON Web Key Set of another installation whose archives are trusted.
    #[schema(value_type = Option<Object>)]
    trust: Option<serde_json::Value>,
    /// Do all of it and roll it back.
    dry_run: Option<bool>,
}

/// Starts an import of a stored archive, in the background and in one transaction.
#[utoipa::path(tag = "control", operation_id = "startImport", security(("bearer" = [])), request_body = NewImportBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe for 24 hours: the same key and body return the same import", pattern = "^[!-~]([ -~]{0,253}[!-~])?$")),
    responses(
        (status = 202, description = "The import, which runs; `Location` leads to it", body = ImportAnswer),
        InvalidBody, Forbidden<NeedsImportTenant>,
        (status = 404, description = "No such archive, or tenant to put it into", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 409, description = "The archive is not ready, or a request with the same Idempotency-Key is still running", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 422, description = "The Idempotency-Key was used with another request", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/imports")]
async fn start(call: Call) -> Answer {
    call.ctx.require(Permission::ImportTenant)?;
    call.query()?.finish(Some(()))?;
    let (archive, command) = command(call.body()?)?;
    if matches!(command, ImportCommand::Into(_)) {
        call.ctx.reach(Permission::UpdateTenant)?;
    }
    let key = call.idempotency_key()?;
    let stored = &call.services().stored_archives;
    let begun = stored.start_import(&call.ctx, archive, command, key.as_deref()).await?;
    let location = format!("/control/v1/imports/{}", begun.import.id);
    let answer = HttpResponse::Accepted()
        .insert_header((LOCATION, location))
        .json(ImportAnswer::from(begun.import));
    Ok(replayed(answer, begun.is_replayed))
}

/// Lists the imports, newest first.
#[utoipa::path(tag = "control", operation_id = "listImports", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("archive" = Option<Uuid>, Query, description = "Only imports of the archive with this id"),
        ("slug" = Option<String>, Query, description = "Only imports of a tenant with this slug"),
        ("state" = Option<String>, Query, description = "Only imports in this state", pattern = "^(running|done|failed|cancelled)$"),
    ),
    responses(
        (status = 200, description = "A page of imports", body = ImportList),
        InvalidParameter, Forbidden<NeedsImportTenant>,
    ))]
#[get("/control/v1/imports")]
async fn list(call: Call) -> Answer {
    call.ctx.require(Permission::ImportTenant)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let filter = ImportFilter {
        archive: query.optional("archive", |text| text.parse().map_err(|_no_id| Rule::UuidFormat)),
        slug: query.optional("slug", |text| Slug::parse(text).map(|slug| slug.to_string())),
        state: query.optional("state", word(IMPORT_STATES)),
    };
    let window = query.finish(Some(window))?;
    let page = call.services().stored_archives.list_imports(&call.ctx, &filter, &window).await?;
    Ok(HttpResponse::Ok().json(ImportList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(ImportAnswer::from).collect(),
    }))
}

/// Returns an import: its state, how far it is, what was imported.
#[utoipa::path(tag = "control", operation_id = "getImport", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The id of the import")),
    responses(
        (status = 200, description = "The import", body = ImportAnswer),
        Unexpected, Forbidden<NeedsImportTenant>, NoSuchImport,
    ))]
#[get("/control/v1/imports/{id}")]
async fn read(call: Call) -> Answer {
    call.ctx.require(Permission::ImportTenant)?;
    call.nothing_else()?;
    let import = call.services().stored_archives.import(&call.ctx, id_of(&call)?).await?;
    Ok(HttpResponse::Ok().json(ImportAnswer::from(import)))
}

/// Cancels a running import, which then leaves nothing. One that has ended stays as it is.
#[utoipa::path(tag = "control", operation_id = "cancelImport", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The id of the import")),
    responses(
        (status = 200, description = "The import", body = ImportAnswer),
        Unexpected, Forbidden<NeedsImportTenant>, NoSuchImport,
    ))]
#[post("/control/v1/imports/{id}/cancel")]
async fn cancel(call: Call) -> Answer {
    call.ctx.require(Permission::ImportTenant)?;
    call.nothing_else()?;
    let import = call.services().stored_archives.cancel_import(&call.ctx, id_of(&call)?).await?;
    Ok(HttpResponse::Ok().json(ImportAnswer::from(import)))
}

fn id_of(call: &Call) -> Result<Uuid> {
    call.path("id")?.parse().map_err(|_no_id| Error::NotFound(Noun::Import))
}

fn command(mut body: Fields) -> Result<(Uuid, ImportCommand)> {
    let archive =
        body.required("archive", |text| text.parse::<Uuid>().map_err(|_no_id| Rule::UuidFormat));
    if body.has("into") {
        return into(body, archive);
    }
    let slug = body.required("slug", Slug::parse);
    let name = body.optional("name", TenantName::parse);
    let external_id = body.optional("external_id", ExternalId::parse);
    let id = body.optional("id", word(IDS));
    let members = body.optional("members", word(MEMBERS));
    let status = body.optional("status", word(STATUSES));
    let leave_out = names(&mut body, "leave_out");
    let trust = trust(&mut body);
    let dry_run = body.flag("dry_run");
    let members = match members.as_deref() {
        Some("create") => MemberPolicy::Create,
        Some("none") => MemberPolicy::None,
        _ => MemberPolicy::Match,
    };
    let command = |slug| {
        ImportCommand::Tenant(ImportTenant {
            slug,
            name,
            external_id,
            id: if id.as_deref() == Some("same") { NewId::Same } else { NewId::New },
            members,
            suspended: status.as_deref() == Some("suspended"),
            leave_out,
            trust,
            dry_run,
        })
    };
    body.finish(archive.zip(slug).map(|(archive, slug)| (archive, command(slug))))
}

/// Reads the rest of a body that names a tenant to put the archive into.
fn into(mut body: Fields, archive: Option<Uuid>) -> Result<(Uuid, ImportCommand)> {
    let tenant = body.required("into", |text| Ok(TenantRef::IdOrSlug(text.to_owned())));
    let leave_out = names(&mut body, "leave_out");
    let trust = trust(&mut body);
    let dry_run = body.flag("dry_run");
    let command = |tenant| ImportCommand::Into(ImportInto { tenant, leave_out, trust, dry_run });
    body.finish(archive.zip(tenant).map(|(archive, tenant)| (archive, command(tenant))))
}

fn trust(body: &mut Fields) -> Option<String> {
    match body.value("trust") {
        None => None,
        Some(set @ Value::Object(_)) => Some(set.to_string()),
        Some(_) => {
            body.refuse("trust", Rule::Type("object"));
            None
        }
    }
}

impl From<Import> for ImportAnswer {
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
            report: import.report.and_then(|report| serde_json::from_value(report).ok()),
            error: import.error.map(FailureAnswer::from),
        }
    }
}
