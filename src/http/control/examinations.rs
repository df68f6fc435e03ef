//! Examinations of the database, as `rowhouse doctor` makes them: start one, read what it found.
//!
//! An examination outlives its request: the answer is sent as soon as it is recorded, and the server that was asked runs
//! it in the background.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::PROBLEM_JSON;
use super::call::{Call, names, window, write_cursor};
use super::responses::{Forbidden, InvalidBody, InvalidParameter, NoSuchExamination, Unexpected};
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::TenantId;
use crate::domain::rule::Rule;
use crate::http::Mount;
use crate::http::body::Fields;
use crate::http::responses::{MigrateFleet, ViewFleet};
use crate::service::doctor::{Area, Gravity, Orphans};
use crate::service::examinations::{Filter, Record, Request, StoredFinding};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list).service(start).service(read).service(findings);
}

/// An examination of the database.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Examination)]
pub(super) struct ExaminationAnswer {
    id: Uuid,
    /// `running`, `done` or `failed` (`error` says why).
    #[schema(pattern = "^(running|done|failed)$")]
    state: String,
    /// The caller who started it.
    actor: String,
    /// What was asked for.
    #[schema(value_type = Object)]
    options: Value,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
    /// What it counted; null until it is done.
    counts: Option<CountsAnswer>,
    /// Why it failed.
    error: Option<String>,
}

/// What an examination counted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExaminationCounts)]
pub(super) struct CountsAnswer {
    /// Tenants that were examined.
    tenants: i64,
    /// Vacancies that were examined.
    vacancies: i64,
    /// What is not as it should be and was not repaired.
    wrong: i64,
    /// What may become wrong.
    warnings: i64,
    /// What was repaired.
    repaired: i64,
}

/// A page of examinations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExaminationList {
    data: Vec<ExaminationAnswer>,
    /// The `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExaminationFinding)]
pub(super) struct FindingAnswer {
    /// `walls` (privileges that isolate tenants), `structure`, `rights`, `history`, `orphans`, `capacity` or
    /// `credentials`.
    area: String,
    /// `wrong` or `warning`.
    #[schema(pattern = "^(wrong|warning)$")]
    gravity: String,
    /// The tenant or vacancy that it is about; null if it is about neither.
    tenant_id: Option<Uuid>,
    /// The slug of the tenant.
    slug: Option<String>,
    /// What is wrong, in a sentence that is the same for each tenant with this finding.
    what: String,
    /// The definition that was found, if two definitions differ.
    actual: Option<String>,
    /// The definition that should be there.
    expected: Option<String>,
    /// What to do next.
    next: String,
    /// Whether a repair would repair it.
    repairable: bool,
    /// `open`, `repaired` or `failed` (`reason` says why).
    #[schema(pattern = "^(open|repaired|failed)$")]
    outcome: String,
    /// Why the repair failed.
    reason: Option<String>,
}

/// A page of findings.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExaminationFindingList {
    data: Vec<FindingAnswer>,
    /// The `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// The body that starts an examination; an empty object examines everything and changes nothing.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct NewExamination {
    /// Only these tenants, by slug or id.
    #[schema(min_items = 1)]
    tenants: Option<Vec<String>>,
    /// Repair what can be repaired: roles, owners, rights and recorded versions, never structure and never data.
    repair: Option<bool>,
    /// With `repair`: drop the schemas and roles that belong to no tenant and no vacancy, with these ids in their names.
    /// Needs `DELETE_TENANT`.
    #[schema(min_items = 1)]
    drop_orphans: Option<Vec<Uuid>>,
}

/// Starts an examination of the database, and repairs what it safely can if `repair` is true.
#[utoipa::path(tag = "control", operation_id = "startExamination", security(("bearer" = [])), request_body = NewExamination, responses(
    (status = 202, description = "The examination; Location is its path", body = ExaminationAnswer),
    InvalidBody, Forbidden<MigrateFleet>,
    (status = 409, description = "Another examination is running", body = ProblemBody, content_type = PROBLEM_JSON),
))]
#[post("/control/v1/examinations")]
async fn start(call: Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    call.query()?.finish(Some(()))?;
    let request = request(call.optional_body()?)?;
    let record = call.services().examinations.start(&call.ctx, request).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/control/v1/examinations/{}", record.id)))
        .json(ExaminationAnswer::from(record)))
}

/// Lists the examinations, newest first. The last 100 are kept.
#[utoipa::path(tag = "control", operation_id = "listExaminations", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
    ),
    responses(
        (status = 200, description = "A page of examinations", body = ExaminationList),
        InvalidParameter, Forbidden<ViewFleet>,
    ))]
#[get("/control/v1/examinations")]
async fn list(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let window = query.finish(Some(window))?;
    let page = call.services().examinations.list(&call.ctx, &window).await?;
    Ok(HttpResponse::Ok().json(ExaminationList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(ExaminationAnswer::from).collect(),
    }))
}

/// Returns an examination.
#[utoipa::path(tag = "control", operation_id = "getExamination", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The id of the examination")),
    responses(
        (status = 200, description = "The examination", body = ExaminationAnswer),
        Unexpected, Forbidden<ViewFleet>, NoSuchExamination,
    ))]
#[get("/control/v1/examinations/{id}")]
async fn read(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    call.nothing_else()?;
    let record = call.services().examinations.read(&call.ctx, id_of(&call)?).await?;
    Ok(HttpResponse::Ok().json(ExaminationAnswer::from(record)))
}

/// Lists what an examination found, the most serious first.
#[utoipa::path(tag = "control", operation_id = "listExaminationFindings", security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The id of the examination"),
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("area" = Option<String>, Query, description = "Only findings in this area", pattern = "^(walls|structure|rights|history|orphans|capacity|credentials)$"),
        ("tenant" = Option<Uuid>, Query, description = "Only findings about the tenant with this id"),
        ("gravity" = Option<String>, Query, description = "Only findings of this gravity: wrong or warning", pattern = "^(wrong|warning)$"),
    ),
    responses(
        (status = 200, description = "A page of findings", body = ExaminationFindingList),
        InvalidParameter, Forbidden<ViewFleet>, NoSuchExamination,
    ))]
#[get("/control/v1/examinations/{id}/findings")]
async fn findings(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    let id = id_of(&call)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let word = |words: &'static [&'static str]| {
        move |text: &str| words.contains(&text).then(|| text.to_owned()).ok_or(Rule::OneOf(words))
    };
    let filter = Filter {
        area: query.optional("area", word(Area::WORDS)),
        gravity: query.optional("gravity", word(Gravity::WORDS)),
        tenant: query.optional("tenant", |text| {
            text.parse().map(TenantId::new).map_err(|_no_id| Rule::UuidFormat)
        }),
    };
    let window = query.finish(Some(window))?;
    let page = call.services().examinations.findings(&call.ctx, id, &filter, &window).await?;
    Ok(HttpResponse::Ok().json(ExaminationFindingList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(FindingAnswer::from).collect(),
    }))
}

fn id_of(call: &Call) -> Result<Uuid> {
    call.path("id")?.parse().map_err(|_no_id| Error::NotFound(Noun::Examination))
}

fn request(mut body: Fields) -> Result<Request> {
    let tenants = names(&mut body, "tenants");
    let repair = body.flag("repair");
    let named = names(&mut body, "drop_orphans");
    let mut orphans = Vec::new();
    for (index, name) in named.iter().enumerate() {
        match name.parse() {
            Ok(id) => orphans.push(TenantId::new(id)),
            Err(_no_id) => body.refuse_element("drop_orphans", index, Rule::UuidFormat),
        }
    }
    if !orphans.is_empty() && !repair {
        body.refuse("repair", Rule::Required);
    }
    let orphans = if orphans.is_empty() { Orphans::Keep } else { Orphans::DropThese(orphans) };
    body.finish(Some(Request { tenants, repair, orphans }))
}

impl From<Record> for ExaminationAnswer {
    fn from(record: Record) -> Self {
        Self {
            id: record.id,
            state: record.state,
            actor: record.actor,
            options: record.options,
            created_at: record.created_at,
            ended_at: record.ended_at,
            counts: record.counts.map(|counts| CountsAnswer {
                tenants: counts.tenants,
                vacancies: counts.vacancies,
                wrong: counts.wrong,
                warnings: counts.warnings,
                repaired: counts.repaired,
            }),
            error: record.error,
        }
    }
}

impl From<StoredFinding> for FindingAnswer {
    fn from(finding: StoredFinding) -> Self {
        Self {
            area: finding.area,
            gravity: finding.gravity,
            tenant_id: finding.tenant.map(TenantId::uuid),
            slug: finding.slug,
            what: finding.what,
            actual: finding.actual,
            expected: finding.expected,
            next: finding.next,
            repairable: finding.is_repairable,
            outcome: finding.outcome,
            reason: finding.reason,
        }
    }
}
