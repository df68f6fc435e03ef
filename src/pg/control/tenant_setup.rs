//! The one statement that writes all rows of a new tenant: its own, its admin's, the membership, the audit event.
//! Where the tenant gets a vacancy, it takes that too.
//!
//! It is one statement and not five because a set-up with a vacancy does nothing else: with `BEGIN` in front and
//! `COMMIT` behind it is a single round trip. The commit is sent before the answer is known, so a missing vacancy, a
//! slug that cannot be taken, a missing admin or one whose address is not proven must make the statement fail: each
//! leaves a NULL in a column that takes none.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{Email, ExternalId, PersonName, Slug, TenantId, TenantName, UserId};
use crate::domain::{AccountOrigin, Document, Role, TenantStatus};
use crate::pg::Row;
use crate::pg::control::audit_events::Event;
use crate::pg::control::catalog_digest::catalog_digest;
use crate::pg::control::slugs::can_be_taken;
use crate::pg::control::tenants::CLUSTER;
use crate::pg::control::vacancies::Pattern;
use crate::pg::error::{During, Failure};
use crate::pg::scope::param::Param;
use crate::pg::scope::{PublicTx, exactly_one};

/// A tenant to insert.
pub struct NewTenant<'a> {
    /// Its id, if its schema is made in the same transaction; `None` takes the oldest vacancy that fits and that no
    /// other transaction is about to take.
    pub id: Option<TenantId>,
    /// What its schema is or will be made by, and what a vacancy must match.
    pub pattern: &'a Pattern,
    /// Unique url-friendly name.
    pub slug: &'a Slug,
    /// When, or before when, the slug must have been freed, if another tenant had it.
    pub rested: OffsetDateTime,
    /// Display name.
    pub name: &'a TenantName,
    /// The organisation behind it.
    pub org: Option<&'a str>,
    /// Address of that organisation.
    pub contact: Option<&'a Email>,
    /// Its id in the caller's own system.
    pub external_id: Option<&'a ExternalId>,
    /// Initial settings.
    pub settings: &'a Document,
    /// When it ends and is purged.
    pub expires_at: Option<OffsetDateTime>,
    /// Its first admin.
    pub admin: Admin<'a>,
    /// What is known of the admin's account.
    pub word: Word,
    /// The audit event, whose time is also the time of creation; the statement fills in the tenant.
    pub event: Event<'a>,
}

/// The first admin of a tenant.
pub enum Admin<'a> {
    /// No user.
    None,
    /// The user with this address, who must exist.
    Existing(&'a Email),
    /// The user with this address, unchanged if there is one; otherwise this new user.
    NewOrExisting(NewUser<'a>),
}

/// What is known of the account of a tenant's first admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The caller's word is enough: the address of a new account is proven, and the admin agrees to the membership.
    /// An account whose address is not proven must have been dealt with before.
    Vouched,
    /// The password of the account was given, so that it is linked whether or not its address is proven, and the
    /// admin agrees to the membership.
    OwnPassword,
    /// Nothing: an account is linked only if its address is proven, without the admin's agreement. The address of a
    /// new account is not proven; its password came with the command, so that its holder agrees.
    None,
}

/// A user to insert unless the address has one.
pub struct NewUser<'a> {
    /// Id, if the user is new.
    pub id: UserId,
    /// Address to log in with.
    pub email: &'a Email,
    /// Given name.
    pub first_name: &'a PersonName,
    /// Family name.
    pub last_name: &'a PersonName,
    /// `None` for a user who cannot log in by password.
    pub password_hash: Option<&'a str>,
}

/// What the database assigned to a new tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// Id: the given one or the vacancy's.
    pub id: TenantId,
    /// Number.
    pub number: i64,
    /// Whether the admin's account is new; `None` without an admin.
    pub admin: Option<AccountOrigin>,
}

/// Every part sees the database as it was before the statement, so `membership` reads a user who was just inserted
/// from `new_user` and not from `users`. The exception is the row of `slugs`, which `claim` locks and then reads anew.
const INSERT: &str = concat!(
    "
    WITH candidate AS MATERIALIZED (
        SELECT id, catalog_digest
          FROM vacancies
         WHERE $1::uuid IS NULL
           AND state = 'ready' AND damaged_at IS NULL AND away_at IS NULL AND migrations_fingerprint = $2
           AND isolation = $3 AND cluster = $4
         ORDER BY created_at, id
         LIMIT 1
           FOR UPDATE SKIP LOCKED
    ), vacancy AS (
        DELETE FROM vacancies
         WHERE id = (SELECT c.id
                       FROM candidate c
                      WHERE c.catalog_digest IS NULL OR c.catalog_digest = ",
    catalog_digest!("c.id"),
    ")
        RETURNING id
    ), claim AS (
        INSERT INTO slugs (slug, tenant_id)
        SELECT $5, new.id
          FROM (SELECT coalesce($1, (SELECT id FROM vacancy)) AS id) new
         WHERE new.id IS NOT NULL
        ON CONFLICT (slug) DO UPDATE
           SET tenant_id = excluded.tenant_id, freed_at = NULL
         WHERE ",
    can_be_taken!("$27"),
    "
        RETURNING slug
    ), tenant AS (
        INSERT INTO tenants
            (id, slug, name, org, contact_email, external_id, settings, status, cluster,
             migrations_version, migrations_fingerprint, created_at, updated_at, expires_at)
        VALUES (coalesce($1, (SELECT id FROM vacancy)), (SELECT slug FROM claim), $6, $7, $8, $9, $10, $11, $4, $12, $2, $13, $13, $28)
        RETURNING id, number
    ), new_user AS (
        INSERT INTO users
            (id, email, first_name, last_name, password_hash, created_at, updated_at, address_proven_at)
        SELECT $14, $15, $16, $17, $18, $13, $13, CASE WHEN $25 THEN $13 END
         WHERE $14::uuid IS NOT NULL
        ON CONFLICT (email) DO NOTHING
        RETURNING id
    ), membership AS (
        INSERT INTO memberships (tenant_id, user_id, role, created_at, accepted_at)
        SELECT t.id, coalesce(n.id, u.id),
               CASE WHEN n.id IS NOT NULL OR $26
                      OR u.address_proven_at IS NOT NULL OR u.platform_role IS NOT NULL
                    THEN $19 END,
               $13,
               CASE WHEN n.id IS NOT NULL OR $25 OR $26 THEN $13 END
          FROM tenant t
          LEFT JOIN new_user n ON true
          LEFT JOIN users u ON u.email = $15
         WHERE $15::text IS NOT NULL
    ), event AS (
        INSERT INTO audit_events (id, at, actor, action, tenant_id, request_id, details)
        SELECT $20, $13, $21, $22, t.id, $23,
               CASE WHEN $15::text IS NULL THEN $24
                    WHEN EXISTS (SELECT FROM new_user) THEN $24 || '{\"admin\": \"created\"}'::jsonb
                    ELSE $24 || '{\"admin\": \"linked\"}'::jsonb END
          FROM tenant t
    )
    SELECT t.id, t.number, EXISTS (SELECT FROM new_user) AS is_admin_new FROM tenant t"
);

/// Inserts the rows of a new tenant. Returns `None` if it was to take a vacancy and none fits; the transaction can
/// then only be dropped, as after an error.
///
/// # Errors
/// [`Conflict::SlugTaken`], also for a slug that rests; [`Conflict::ExternalIdTaken`]; [`Noun::User`] not found, if the
/// admin must exist; [`Conflict::AdminUnproven`] if the account may not be linked; [`Conflict::Concurrent`] if another
/// transaction made or removed the admin at the same moment.
pub async fn insert(tx: &PublicTx, new: &NewTenant<'_>) -> Result<Option<Assigned>> {
    tx.writes_event();
    let values = Values::of(new);
    new.assigned(tx.query(INSERT, &values.params(new)).await)
}

/// Inserts the rows of a new tenant as [`insert`] does and commits in the same round trip.
///
/// # Errors
/// As [`insert`].
pub async fn insert_and_commit(tx: PublicTx, new: &NewTenant<'_>) -> Result<Option<Assigned>> {
    tx.writes_event();
    let values = Values::of(new);
    new.assigned(tx.query_and_commit(INSERT, &values.params(new)).await)
}

/// Returns what the set-up of a tenant did with the account of its admin, as its audit event tells; `None` without an
/// admin, and for a set-up from before events told it.
pub async fn find_admin_origin(tx: &PublicTx, tenant: TenantId) -> Result<Option<AccountOrigin>> {
    let row = tx
        .query_opt(
            "SELECT details ->> 'admin' AS admin
               FROM audit_events
              WHERE tenant_id = $1 AND action = 'tenant.create'
              ORDER BY at
              LIMIT 1",
            &[&tenant],
        )
        .await
        .during("read the audit event of a set-up")?;
    let word = row.and_then(|row| row.get::<_, Option<String>>("admin"));
    Ok(word.and_then(|word| word.parse().ok()))
}

/// The parameters that are not fields of a [`NewTenant`].
struct Values<'a> {
    isolation: &'static str,
    status: &'static str,
    contact: Option<&'a str>,
    external_id: Option<&'a str>,
    user_id: Option<UserId>,
    email: Option<&'a str>,
    first_name: Option<&'a str>,
    last_name: Option<&'a str>,
    password_hash: Option<&'a str>,
    role: &'static str,
    event_id: Uuid,
    action: &'static str,
    is_vouched: bool,
    has_own_password: bool,
}

impl<'a> Values<'a> {
    fn of(new: &'a NewTenant<'_>) -> Self {
        let (email, user) = match &new.admin {
            Admin::None => (None, None),
            Admin::Existing(email) => (Some(email.as_str()), None),
            Admin::NewOrExisting(user) => (Some(user.email.as_str()), Some(user)),
        };
        Self {
            isolation: new.pattern.isolation.as_str(),
            status: TenantStatus::Active.as_str(),
            contact: new.contact.map(Email::as_str),
            external_id: new.external_id.map(ExternalId::as_str),
            user_id: user.map(|user| user.id),
            email,
            first_name: user.map(|user| user.first_name.as_str()),
            last_name: user.map(|user| user.last_name.as_str()),
            password_hash: user.and_then(|user| user.password_hash),
            role: Role::Admin.as_str(),
            event_id: Uuid::now_v7(),
            action: new.event.action.as_str(),
            is_vouched: new.word == Word::Vouched,
            has_own_password: new.word == Word::OwnPassword,
        }
    }

    fn params<'p>(&'p self, new: &'p NewTenant<'_>) -> [&'p dyn Param; 28] {
        [
            &new.id,
            &new.pattern.fingerprint,
            &self.isolation,
            &CLUSTER,
            new.slug,
            new.name,
            &new.org,
            &self.contact,
            &self.external_id,
            new.settings,
            &self.status,
            &new.pattern.version,
            &new.event.at,
            &self.user_id,
            &self.email,
            &self.first_name,
            &self.last_name,
            &self.password_hash,
            &self.role,
            &self.event_id,
            &new.event.actor,
            &self.action,
            &new.event.request_id,
            &new.event.details,
            &self.is_vouched,
            &self.has_own_password,
            &new.rested,
            &new.expires_at,
        ]
    }
}

impl NewTenant<'_> {
    fn assigned(&self, written: Result<Vec<Row>, Failure>) -> Result<Option<Assigned>> {
        match written.and_then(exactly_one) {
            Ok(row) => Ok(Some(Assigned {
                id: row.get("id"),
                number: row.get("number"),
                admin: match (&self.admin, row.get("is_admin_new")) {
                    (Admin::None, _) => None,
                    (_, true) => Some(AccountOrigin::Created),
                    (_, false) => Some(AccountOrigin::Linked),
                },
            })),
            Err(failure) if failure.is_null_in("tenants", "id") => Ok(None),
            Err(failure) => Err(self.explain(failure)),
        }
    }

    fn explain(&self, failure: Failure) -> Error {
        if failure.violates("tenants_slug_key") || failure.is_null_in("tenants", "slug") {
            Error::Conflict(Conflict::SlugTaken)
        } else if failure.violates("tenants_external_id_key") {
            Error::Conflict(Conflict::ExternalIdTaken)
        } else if failure.is_null_in("memberships", "user_id") {
            match self.admin {
                Admin::Existing(_) => Error::NotFound(Noun::User),
                // Another transaction inserted the user while this one waited to do so.
                Admin::NewOrExisting(_) | Admin::None => Error::Conflict(Conflict::Concurrent),
            }
        } else if failure.is_null_in("memberships", "role") {
            Error::Conflict(Conflict::AdminUnproven)
        } else if failure.violates("memberships_user_id_fkey") {
            // Another transaction removed the user after this one had found them.
            Error::Conflict(Conflict::Concurrent)
        } else {
            failure.during("insert the rows of a tenant")
        }
    }
}
