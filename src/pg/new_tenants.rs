//! The one statement that writes all the rows that a new tenant has: its own, its admin, the membership,
//! the audit event. It takes the vacancy too, where the tenant moves into one.
//!
//! One statement and not five, since with a vacancy there is nothing else to a set-up: so it is one round
//! trip with `BEGIN` in front and `COMMIT` behind. The commit is on its way before the answer is known,
//! so what was not to be had (a vacancy, the admin) must fail by itself: it leaves a NULL where none may be.

use time::OffsetDateTime;
use uuid::Uuid;

use super::audit_events::Event;
use super::error::Failure;
use super::param::Param;
use super::scope::{PublicTx, exactly_one};
use super::tenants::CLUSTER;
use super::vacancies::{Pattern, isolation_word};
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{Email, ExternalId, PersonName, Slug, TenantId, TenantName, UserId};
use crate::domain::{Document, Role, TenantStatus};

/// A tenant to be.
pub struct NewTenant<'a> {
    /// Its id where its schema is made with it; none where it takes the oldest vacancy that fits. One that
    /// somebody else is about to take is passed over, and is back in its place if the transaction is rolled
    /// back.
    pub id: Option<TenantId>,
    /// What its schema is, or will be, and what a vacancy must fit.
    pub pattern: &'a Pattern,
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
    /// What the audit trail says of it; the tenant is filled in.
    pub event: Event<'a>,
    /// When it is made.
    pub now: OffsetDateTime,
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
const INSERT: &str = "
    WITH vacancy AS (
        DELETE FROM vacancies
         WHERE $1::uuid IS NULL
           AND id = (SELECT id
                       FROM vacancies
                      WHERE state = 'ready' AND migrations_fingerprint = $2 AND isolation = $3
                        AND cluster = $4
                      ORDER BY created_at, id
                      LIMIT 1
                        FOR UPDATE SKIP LOCKED)
        RETURNING id
    ), tenant AS (
        INSERT INTO tenants
            (id, slug, name, org, contact_email, external_id, settings, status, cluster,
             migrations_version, migrations_fingerprint, created_at, updated_at)
        VALUES (coalesce($1, (SELECT id FROM vacancy)), $5, $6, $7, $8, $9, $10, $11, $4, $12, $2, $13, $13)
        RETURNING id, number
    ), newcomer AS (
        INSERT INTO users
            (id, email, first_name, last_name, password_hash, created_at, updated_at)
        SELECT $14, $15, $16, $17, $18, $13, $13
         WHERE $14::uuid IS NOT NULL
        ON CONFLICT (email) DO NOTHING
        RETURNING id
    ), membership AS (
        INSERT INTO memberships (tenant_id, user_id, role, created_at)
        SELECT id,
               coalesce((SELECT id FROM newcomer), (SELECT id FROM users WHERE email = $15)),
               $19, $13
          FROM tenant
         WHERE $15::text IS NOT NULL
    ), event AS (
        INSERT INTO audit_events (id, at, actor, action, tenant_id, request_id, details)
        SELECT $20, $21, $22, $23, id, $24, $25
          FROM tenant
    )
    SELECT id, number FROM tenant";

/// Writes a new tenant's rows. `None` where it was to take a vacancy and there is none that fits; the
/// transaction can then only be dropped, as after an error.
///
/// # Errors
/// [`Conflict::SlugTaken`]; [`Conflict::ExternalIdTaken`]; [`Noun::User`] not found, where the admin must
/// exist; [`Conflict::Concurrent`] where the admin was made or removed at the same moment.
pub async fn insert(tx: &PublicTx, new: &NewTenant<'_>) -> Result<Option<Given>> {
    send(Means::Within(tx), new).await
}

/// As [`insert`], and commits in the same round trip.
///
/// # Errors
/// As [`insert`].
pub async fn insert_and_commit(tx: PublicTx, new: &NewTenant<'_>) -> Result<Option<Given>> {
    send(Means::Last(tx), new).await
}

/// How the statement is sent.
#[expect(clippy::large_enum_variant, reason = "it lives for one call")]
enum Means<'a> {
    Within(&'a PublicTx),
    Last(PublicTx),
}

async fn send(means: Means<'_>, new: &NewTenant<'_>) -> Result<Option<Given>> {
    let (email, newcomer) = match &new.admin {
        Admin::Nobody => (None, None),
        Admin::Existing(email) => (Some(email.as_str()), None),
        Admin::NewOrExisting(newcomer) => (Some(newcomer.email.as_str()), Some(newcomer)),
    };
    let params: [&dyn Param; 25] = [
        &new.id,
        &new.pattern.fingerprint,
        &isolation_word(new.pattern.isolation),
        &CLUSTER,
        new.slug,
        new.name,
        &new.org,
        &new.contact.map(Email::as_str),
        &new.external_id.map(ExternalId::as_str),
        new.settings,
        &TenantStatus::Active.as_str(),
        &new.pattern.version,
        &new.now,
        &newcomer.map(|newcomer| newcomer.id),
        &email,
        &newcomer.map(|newcomer| newcomer.first_name.as_str()),
        &newcomer.map(|newcomer| newcomer.last_name.as_str()),
        &newcomer.and_then(|newcomer| newcomer.password_hash),
        &Role::Admin.as_str(),
        &Uuid::now_v7(),
        &new.event.at,
        &new.event.actor,
        &new.event.action,
        &new.event.request_id,
        &new.event.details,
    ];
    let written = match means {
        Means::Within(tx) => tx.query(INSERT, &params).await,
        Means::Last(tx) => tx.query_and_commit(INSERT, &params).await,
    };
    match written.and_then(exactly_one) {
        Ok(row) => Ok(Some(Given { id: row.get(0), number: row.get(1) })),
        Err(failure) if failure.lacks("tenants", "id") => Ok(None),
        Err(failure) => Err(new.explain(failure)),
    }
}

impl NewTenant<'_> {
    fn explain(&self, failure: Failure) -> Error {
        if failure.violates("tenants_slug_key") {
            Error::Conflict(Conflict::SlugTaken)
        } else if failure.violates("tenants_external_id_key") {
            Error::Conflict(Conflict::ExternalIdTaken)
        } else if failure.lacks("memberships", "user_id") {
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
