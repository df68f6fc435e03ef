//! The one statement that writes all the rows that a new tenant has: its own, its admin, the membership,
//! the audit event. It takes the vacancy too, where the tenant moves into one.
//!
//! One statement and not five, since with a vacancy there is nothing else to a set-up: so it is one round
//! trip with `BEGIN` in front and `COMMIT` behind. The commit is on its way before the answer is known,
//! so what was not to be had (a vacancy, the admin) must fail by itself: it leaves a NULL where none may be.
//!
//! It takes any number of tenants, as one JSON document: what it costs to start it, to check it and to commit
//! is then paid once for all of them.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::{Json, ToSql, Type};
use uuid::Uuid;

use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{Email, ExternalId, PersonName, Slug, TenantId, TenantName, UserId};
use crate::domain::{Document, Role, TenantStatus};
use crate::pg::control::audit_events::Event;
use crate::pg::control::tenants::CLUSTER;
use crate::pg::control::vacancies::Pattern;
use crate::pg::error::Failure;
use crate::pg::scope::param::Param;
use crate::pg::scope::{PublicTx, exactly_one};

/// A tenant to be.
pub struct NewTenant<'a> {
    /// Its unique url-friendly name.
    pub slug: &'a Slug,
    /// The name people read.
    pub name: &'a TenantName,
    /// The organisation behind it.
    pub org: Option<&'a str>,
    /// How to reach that organisation.
    pub contact: Option<&'a Email>,
    /// What its maker's own system calls it.
    pub external_id: Option<&'a ExternalId>,
    /// Its first settings.
    pub settings: &'a Document,
    /// Who will run it.
    pub admin: Admin<'a>,
    /// What the audit trail says of it, and so when it is made; the tenant is filled in.
    pub event: Event<'a>,
}

/// Who will run a tenant.
pub enum Admin<'a> {
    /// No user.
    Nobody,
    /// The user who has this address already.
    Existing(&'a Email),
    /// The user who has this one's address, as they are, or this one.
    NewOrExisting(Newcomer<'a>),
}

/// Who may have no user yet.
pub struct Newcomer<'a> {
    /// The id of a new user.
    pub id: UserId,
    /// How they log in.
    pub email: &'a Email,
    /// Given name.
    pub first_name: &'a PersonName,
    /// Family name.
    pub last_name: &'a PersonName,
    /// None for a user who cannot log in by password.
    pub password_hash: Option<&'a str>,
}

/// What the database gave a new tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Its id.
    pub id: TenantId,
    /// Its number.
    pub number: i64,
}

/// Every part sees the database as it was before the statement, so an admin who was just written is not
/// found among the users.
///
/// The oldest vacancies that fit are taken, and those that somebody else is about to take are passed over.
/// They stand beside the tenants in their order; where there are too few the last ones have no id. How many
/// is asked for as a query, so that a plan for any number looks no dearer than one for this one, and is kept.
const INSERT: &str = "
    WITH vacancy AS (
        DELETE FROM vacancies
         WHERE id = ANY (ARRAY(SELECT id
                                 FROM vacancies
                                WHERE state = 'ready' AND migrations_fingerprint = $2 AND isolation = $3
                                  AND cluster = $4
                                ORDER BY created_at, id
                                LIMIT (SELECT $5)
                                  FOR UPDATE SKIP LOCKED))
        RETURNING id
    ), wish AS (
        SELECT coalesce(made, vacant) AS tenant_id, line.*
          FROM ROWS FROM (unnest(ARRAY(SELECT id FROM vacancy)),
                          json_to_recordset($1) AS (
                              made uuid, slug text, name text, org text, contact text, external_id text,
                              settings json, user_id uuid, email text, first_name text, last_name text,
                              password_hash text, event_id uuid, at timestamptz, actor text, action text,
                              request_id text, details jsonb)) AS line (vacant)
    ), tenant AS (
        INSERT INTO tenants
            (id, slug, name, org, contact_email, external_id, settings, status, cluster,
             migrations_version, migrations_fingerprint, created_at, updated_at)
        SELECT tenant_id, slug, name, org, contact, external_id, settings, $6, $4, $7, $2, at, at
          FROM wish
        RETURNING slug, id, number
    ), newcomer AS (
        INSERT INTO users
            (id, email, first_name, last_name, password_hash, created_at, updated_at)
        SELECT user_id, email, first_name, last_name, password_hash, at, at
          FROM wish
         WHERE user_id IS NOT NULL
        ON CONFLICT (email) DO NOTHING
        RETURNING email, id
    ), membership AS (
        INSERT INTO memberships (tenant_id, user_id, role, created_at)
        SELECT tenant_id,
               coalesce((SELECT id FROM newcomer WHERE email = wish.email),
                        (SELECT id FROM users WHERE email = wish.email)),
               $8, at
          FROM wish
         WHERE email IS NOT NULL
    ), event AS (
        INSERT INTO audit_events (id, at, actor, action, tenant_id, request_id, details)
        SELECT event_id, at, actor, action, tenant_id, request_id, details
          FROM wish
    )
    SELECT slug, id, number FROM tenant";

/// A tenant as the statement takes it.
#[derive(Serialize)]
struct Line<'a> {
    made: Option<TenantId>,
    slug: &'a Slug,
    name: &'a TenantName,
    org: Option<&'a str>,
    contact: Option<&'a Email>,
    external_id: Option<&'a ExternalId>,
    settings: &'a Document,
    user_id: Option<UserId>,
    email: Option<&'a Email>,
    first_name: Option<&'a PersonName>,
    last_name: Option<&'a PersonName>,
    password_hash: Option<&'a str>,
    event_id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    actor: &'a str,
    action: &'a str,
    request_id: &'a str,
    details: &'a Value,
}

/// Writes a new tenant's rows: under this id, whose schema is made in the same transaction, or where there is
/// none in a vacancy that fits the pattern. `None` where it was to take one and there is none; the transaction
/// can then only be dropped, as after an error.
///
/// # Errors
/// [`Conflict::SlugTaken`]; [`Conflict::ExternalIdTaken`]; [`Noun::User`] not found, where the admin must
/// exist; [`Conflict::Concurrent`] where the admin was made or removed at the same moment.
pub async fn insert(
    tx: &PublicTx,
    pattern: &Pattern,
    id: Option<TenantId>,
    new: &NewTenant<'_>,
) -> Result<Option<Given>> {
    let values = Values::of(pattern, vec![new.line(id)]);
    let written = tx.query(INSERT, &values.params()).await;
    match written.and_then(exactly_one) {
        Ok(row) => Ok(Some(Given { id: row.get("id"), number: row.get("number") })),
        Err(failure) if failure.is_null_in("tenants", "id") => Ok(None),
        Err(failure) => Err(new.explain(failure)),
    }
}

/// Writes the rows of several new tenants, each in a vacancy that fits the pattern, and commits, all in one
/// round trip; gives them in their order. All of them or none.
///
/// # Errors
/// [`Failure`], for whichever of them it may be; also where there are too few vacancies.
pub async fn insert_together(
    tx: PublicTx,
    pattern: &Pattern,
    new: &[NewTenant<'_>],
) -> Result<Vec<Given>, Failure> {
    let values = Values::of(pattern, new.iter().map(|new| new.line(None)).collect());
    let rows = tx.query_and_commit(INSERT, &values.params()).await?;
    let given = |new: &NewTenant<'_>| {
        let row = rows.iter().find(|row| row.get::<_, &str>("slug") == new.slug.as_str());
        row.map(|row| Given { id: row.get("id"), number: row.get("number") })
            .ok_or(Failure::RowCount)
    };
    new.iter().map(given).collect()
}

/// What the statement is given.
struct Values<'a> {
    lines: Json<Vec<Line<'a>>>,
    pattern: &'a Pattern,
    isolation: &'static str,
    /// The status of a new tenant.
    status: &'static str,
    /// The role of its admin.
    role: &'static str,
    /// How many take one.
    vacancies: i64,
}

impl<'a> Values<'a> {
    fn of(pattern: &'a Pattern, lines: Vec<Line<'a>>) -> Self {
        let isolation = pattern.isolation.as_str();
        let (status, role) = (TenantStatus::Active.as_str(), Role::Admin.as_str());
        let vacancies = lines.iter().map(|line| i64::from(line.made.is_none())).sum();
        Self { lines: Json(lines), pattern, isolation, status, role, vacancies }
    }

    fn params(&self) -> [&dyn Param; 8] {
        [
            &self.lines,
            &self.pattern.fingerprint,
            &self.isolation,
            &CLUSTER,
            &self.vacancies,
            &self.status,
            &self.pattern.version,
            &self.role,
        ]
    }
}

impl Param for Json<Vec<Line<'_>>> {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        self
    }

    fn sql_type(&self) -> Type {
        Type::JSON
    }
}

/// tokio-postgres asks for it. A line holds a password's hash.
impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("slug", &self.slug).finish_non_exhaustive()
    }
}

impl NewTenant<'_> {
    fn line(&self, made: Option<TenantId>) -> Line<'_> {
        let (email, newcomer) = match &self.admin {
            Admin::Nobody => (None, None),
            Admin::Existing(email) => (Some(*email), None),
            Admin::NewOrExisting(newcomer) => (Some(newcomer.email), Some(newcomer)),
        };
        Line {
            made,
            slug: self.slug,
            name: self.name,
            org: self.org,
            contact: self.contact,
            external_id: self.external_id,
            settings: self.settings,
            user_id: newcomer.map(|newcomer| newcomer.id),
            email,
            first_name: newcomer.map(|newcomer| newcomer.first_name),
            last_name: newcomer.map(|newcomer| newcomer.last_name),
            password_hash: newcomer.and_then(|newcomer| newcomer.password_hash),
            event_id: Uuid::now_v7(),
            at: self.event.at,
            actor: self.event.actor,
            action: self.event.action,
            request_id: self.event.request_id,
            details: &self.event.details,
        }
    }

    fn explain(&self, failure: Failure) -> Error {
        if failure.violates("tenants_slug_key") {
            Error::Conflict(Conflict::SlugTaken)
        } else if failure.violates("tenants_external_id_key") {
            Error::Conflict(Conflict::ExternalIdTaken)
        } else if failure.is_null_in("memberships", "user_id") {
            match self.admin {
                Admin::Existing(_) => Error::NotFound(Noun::User),
                // Made by somebody else while this waited to make them.
                Admin::NewOrExisting(_) | Admin::Nobody => Error::Conflict(Conflict::Concurrent),
            }
        } else if failure.violates("memberships_user_id_fkey") {
            // Removed by somebody else after they were found.
            Error::Conflict(Conflict::Concurrent)
        } else {
            failure.during("insert the rows of a tenant")
        }
    }
}
