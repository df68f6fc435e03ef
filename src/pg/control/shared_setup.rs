//! The one statement that writes the rows of several new tenants, each with a vacancy and with an existing admin or
//! none. Starting, checking and committing a statement is then paid once for all of them.
//!
//! An admin who may be new is left to [`tenant_setup`](super::tenant_setup): two set-ups of one statement could not
//! see which of them made the account.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::{Json, ToSql, Type};
use uuid::Uuid;

use crate::domain::names::{Email, ExternalId, Slug, TenantName};
use crate::domain::{AccountOrigin, AuditAction, Document, Role, TenantStatus};
use crate::pg::Row;
use crate::pg::control::catalog_digest::catalog_digest;
use crate::pg::control::slugs::can_be_taken;
use crate::pg::control::tenant_setup::Assigned;
use crate::pg::control::tenants::CLUSTER;
use crate::pg::control::vacancies::Pattern;
use crate::pg::error::Failure;
use crate::pg::scope::PublicTx;
use crate::pg::scope::param::Param;

/// A tenant to insert; a record of the statement's parameter.
#[derive(Serialize)]
pub struct SharedSetup {
    /// Unique url-friendly name.
    pub slug: Slug,
    /// When, or before when, the slug must have been freed, if another tenant had it.
    #[serde(skip)]
    pub rested: OffsetDateTime,
    /// Display name.
    pub name: TenantName,
    /// The organisation behind it.
    pub org: Option<String>,
    /// Address of that organisation.
    pub contact: Option<Email>,
    /// Its id in the caller's own system.
    pub external_id: Option<ExternalId>,
    /// Initial settings.
    pub settings: Document,
    /// When it ends and is purged.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// Address of its first admin, who must have an account whose address is proven.
    pub email: Option<Email>,
    /// Whether the caller's word is enough for the admin to be taken to agree.
    pub is_vouched: bool,
    /// Id of the audit event.
    pub event_id: Uuid,
    /// Time of the audit event and of the creation.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The caller, as the audit trail names it.
    pub actor: String,
    /// Action of the audit event.
    #[serde(serialize_with = "as_word")]
    pub action: AuditAction,
    /// Id of the request.
    pub request_id: String,
    /// Details of the audit event.
    pub details: Value,
}

/// The oldest vacancies that fit are taken, except those that another transaction is about to take. They are put
/// beside the tenants in order; if there are too few, the last tenants have no id, and the statement fails. So it does
/// for a slug that is taken or rests, and for an admin who does not exist or whose address is not proven. The number
/// of vacancies is read by a query, so that one plan serves every number.
const INSERT: &str = concat!(
    "
    WITH candidate AS MATERIALIZED (
        SELECT id, catalog_digest
          FROM vacancies
         WHERE state = 'ready' AND damaged_at IS NULL AND away_at IS NULL AND migrations_fingerprint = $2
           AND isolation = $3 AND cluster = $4
         ORDER BY created_at, id
         LIMIT (SELECT $5)
           FOR UPDATE SKIP LOCKED
    ), vacancy AS (
        DELETE FROM vacancies
         WHERE id = ANY (ARRAY(SELECT c.id
                                 FROM candidate c
                                WHERE c.catalog_digest IS NULL OR c.catalog_digest = ",
    catalog_digest!("c.id"),
    "))
        RETURNING id
    ), setup AS (
        SELECT *
          FROM ROWS FROM (unnest(ARRAY(SELECT id FROM vacancy)),
                          json_to_recordset($1) AS (
                              slug text, name text, org text, contact text, external_id text, settings json, expires_at timestamptz,
                              email text, is_vouched boolean, event_id uuid, at timestamptz, actor text,
                              action text, request_id text, details jsonb)) AS record (tenant_id)
    ), claim AS (
        INSERT INTO slugs (slug, tenant_id)
        SELECT slug, tenant_id
          FROM setup
         WHERE tenant_id IS NOT NULL
        ON CONFLICT (slug) DO UPDATE
           SET tenant_id = excluded.tenant_id, freed_at = NULL
         WHERE ",
    can_be_taken!("$9"),
    "
        RETURNING slug
    ), tenant AS (
        INSERT INTO tenants
            (id, slug, name, org, contact_email, external_id, settings, status, cluster,
             migrations_version, migrations_fingerprint, created_at, updated_at, expires_at)
        SELECT s.tenant_id, c.slug, s.name, s.org, s.contact, s.external_id, s.settings, $6, $4, $7, $2, s.at, s.at, s.expires_at
          FROM setup s
          LEFT JOIN claim c ON c.slug = s.slug
        RETURNING slug, id, number
    ), membership AS (
        INSERT INTO memberships (tenant_id, user_id, role, created_at, accepted_at)
        SELECT s.tenant_id, u.id,
               CASE WHEN u.address_proven_at IS NOT NULL OR u.platform_role IS NOT NULL THEN $8 END,
               s.at, CASE WHEN s.is_vouched THEN s.at END
          FROM setup s
          LEFT JOIN users u ON u.email = s.email
         WHERE s.email IS NOT NULL
    ), event AS (
        INSERT INTO audit_events (id, at, actor, action, tenant_id, request_id, details)
        SELECT event_id, at, actor, action, tenant_id, request_id, details
          FROM setup
    )
    SELECT slug, id, number FROM tenant"
);

/// Inserts the rows of the tenants; returns what the database assigned, in their order.
///
/// # Errors
/// If one of them is refused or finds no vacancy; the transaction can then only be dropped.
pub async fn insert(
    tx: &PublicTx,
    pattern: &Pattern,
    setups: &[&SharedSetup],
) -> Result<Vec<Assigned>, Failure> {
    tx.writes_event();
    let values = Values::of(pattern, setups);
    let rows = tx.query_prepared(INSERT, &values.params()).await?;
    setups.iter().map(|setup| assigned(setup, &rows)).collect()
}

/// Inserts the rows of one tenant and commits, in one round trip.
///
/// # Errors
/// As [`insert`]. If the connection broke, it is unknown whether the tenant was made, as with every commit.
pub async fn insert_one_and_commit(
    tx: PublicTx,
    pattern: &Pattern,
    setup: &SharedSetup,
) -> Result<Assigned, Failure> {
    tx.writes_event();
    let setups = [setup];
    let values = Values::of(pattern, &setups);
    assigned(setup, &tx.query_and_commit(INSERT, &values.params()).await?)
}

fn assigned(setup: &SharedSetup, rows: &[Row]) -> Result<Assigned, Failure> {
    let row = rows.iter().find(|row| row.get::<_, &str>("slug") == setup.slug.as_str());
    let row = row.ok_or(Failure::RowCount)?;
    let admin = setup.email.as_ref().map(|_| AccountOrigin::Linked);
    Ok(Assigned { id: row.get("id"), number: row.get("number"), admin })
}

/// The parameters of the statement.
struct Values<'a> {
    setups: Setups<'a>,
    pattern: &'a Pattern,
    isolation: &'static str,
    vacancies: i64,
    /// The earliest of all: a slug that has rested long enough for it has rested for every one of them.
    rested: Option<OffsetDateTime>,
    status: &'static str,
    role: &'static str,
}

impl<'a> Values<'a> {
    fn of(pattern: &'a Pattern, setups: &'a [&'a SharedSetup]) -> Self {
        Self {
            setups: Setups(Json(setups)),
            pattern,
            isolation: pattern.isolation.as_str(),
            vacancies: i64::try_from(setups.len()).unwrap_or(i64::MAX),
            rested: setups.iter().map(|setup| setup.rested).min(),
            status: TenantStatus::Active.as_str(),
            role: Role::Admin.as_str(),
        }
    }

    fn params(&self) -> [&dyn Param; 9] {
        [
            &self.setups,
            &self.pattern.fingerprint,
            &self.isolation,
            &CLUSTER,
            &self.vacancies,
            &self.status,
            &self.pattern.version,
            &self.role,
            &self.rested,
        ]
    }
}

/// The set-ups, sent as text, which keeps the settings of each as they are.
struct Setups<'a>(Json<&'a [&'a SharedSetup]>);

impl Param for Setups<'_> {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        &self.0
    }

    fn sql_type(&self) -> Type {
        Type::JSON
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn as_word<S: Serializer>(action: &AuditAction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(action.as_str())
}

/// Required of parameters; names the tenant alone.
impl fmt::Debug for SharedSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSetup").field("slug", &self.slug).finish_non_exhaustive()
    }
}
