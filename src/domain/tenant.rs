//! Owns the tenant, its record in the control plane, and the moves of its status.

use time::OffsetDateTime;

use super::error::{Conflict, Error, Noun};
use super::names::{Email, ExternalId, Slug, TenantId, TenantName};
use super::outage::Outage;
use super::profile::Document;
use super::status::TenantStatus;

/// One customer's isolated space: a row in `public` and a schema of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Immutable; the schema is named after it.
    pub id: TenantId,
    /// The number by which some clients know it; the main tenant is 1. Immutable, unique, never reused.
    pub number: i64,
    /// Unique name in URLs; can change.
    pub slug: Slug,
    /// Display name, in any script.
    pub name: TenantName,
    /// The organisation behind it, where a dialect requires one.
    pub org: Option<String>,
    /// Whether it answers requests.
    pub status: TenantStatus,
    /// When it was set up.
    pub created_at: OffsetDateTime,
    /// Whether it answers no request for a moment, because what is in it is being exchanged.
    pub is_closed: bool,
}

impl Tenant {
    /// Refuses a request that works in the tenant unless it answers requests.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found where it is not active; [`Outage::TenantClosed`].
    pub fn require_answering(&self) -> Result<(), Error> {
        if self.status != TenantStatus::Active {
            return Err(Error::NotFound(Noun::Tenant));
        }
        if self.is_closed {
            let why = "what is in it is being exchanged";
            return Err(Error::outage(Outage::TenantClosed, "enter a tenant", why));
        }
        Ok(())
    }
}

/// A tenant with everything that the control plane stores about it.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantRecord {
    /// The part that the rest of the crate uses.
    pub tenant: Tenant,
    /// The e-mail address of its contact, where a dialect accepts one.
    pub contact: Option<Email>,
    /// Its id in its creator's own system.
    pub external_id: Option<ExternalId>,
    /// The application's own settings, which have no meaning for this crate.
    pub settings: Document,
    /// Incremented by every change of the record, so that a change can name the revision it is based on.
    pub revision: i64,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
    /// When a deleted tenant's grace period ends.
    pub purge_after: Option<OffsetDateTime>,
    /// The status to which a deleted tenant is restored.
    pub restore_to: Option<TenantStatus>,
    /// When its purge began; from then on it cannot be restored.
    pub purge_started_at: Option<OffsetDateTime>,
    /// When it ends and is purged, if it was made with an end.
    pub expires_at: Option<OffsetDateTime>,
    /// The highest version of the migrations that its schema has.
    pub migrations_version: i32,
    /// The digest of these migrations.
    pub migrations_fingerprint: String,
}

/// A move of a tenant's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Stop answering requests.
    Suspend,
    /// Answer requests again.
    Resume,
    /// Stop answering requests, and be purged when the grace period ends.
    Delete,
    /// Undo the deletion.
    Restore,
}

impl TenantRecord {
    /// Returns the status after a move that is requested at `now`: the present one where the move leads to it, so that a
    /// caller that repeats a move finds it done.
    ///
    /// # Errors
    /// [`Conflict::IllegalMove`] with the present status; for a restoration that comes too late
    /// [`Conflict::PurgeStarted`] or [`Conflict::GraceOver`].
    pub fn status_after(&self, step: Move, now: OffsetDateTime) -> Result<TenantStatus, Conflict> {
        let status = self.tenant.status;
        match (step, status) {
            (Move::Suspend, TenantStatus::Active | TenantStatus::Suspended) => {
                Ok(TenantStatus::Suspended)
            }
            (Move::Resume, TenantStatus::Active | TenantStatus::Suspended) => {
                Ok(TenantStatus::Active)
            }
            (Move::Delete, _) => Ok(TenantStatus::Deleting),
            (Move::Restore, TenantStatus::Deleting) if self.purge_started_at.is_some() => {
                Err(Conflict::PurgeStarted)
            }
            (Move::Restore, TenantStatus::Deleting)
                if [self.purge_after, self.expires_at].iter().flatten().any(|end| *end <= now) =>
            {
                Err(Conflict::GraceOver)
            }
            (Move::Restore, TenantStatus::Deleting) => {
                Ok(self.restore_to.unwrap_or(TenantStatus::Active))
            }
            (Move::Restore, TenantStatus::Active | TenantStatus::Suspended) => Ok(status),
            (Move::Suspend | Move::Resume, TenantStatus::Deleting) => {
                Err(Conflict::IllegalMove(status))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_legal_moves_succeed_and_a_repeated_one_finds_it_done() {
        use Move::{Delete, Restore, Resume, Suspend};
        use TenantStatus::{Active, Deleting, Suspended};
        let now = OffsetDateTime::UNIX_EPOCH;
        let hour = time::Duration::HOUR;
        let record = |status, restore_to| TenantRecord {
            tenant: Tenant {
                id: TenantId::new(uuid::Uuid::nil()),
                number: 2,
                slug: Slug::stored("acme".to_owned()),
                name: TenantName::stored("Acme".to_owned()),
                org: None,
                status,
                created_at: now,
                is_closed: false,
            },
            contact: None,
            external_id: None,
            settings: Document::stored(serde_json::json!({})),
            revision: 1,
            updated_at: now,
            purge_after: (status == Deleting).then_some(now + hour),
            restore_to,
            purge_started_at: None,
            expires_at: None,
            migrations_version: 1,
            migrations_fingerprint: "one".to_owned(),
        };
        for (status, restore_to, step, after) in [
            (Active, None, Suspend, Ok(Suspended)),
            (Active, None, Resume, Ok(Active)),
            (Active, None, Delete, Ok(Deleting)),
            (Active, None, Restore, Ok(Active)),
            (Suspended, None, Suspend, Ok(Suspended)),
            (Suspended, None, Resume, Ok(Active)),
            (Suspended, None, Delete, Ok(Deleting)),
            (Suspended, None, Restore, Ok(Suspended)),
            (Deleting, Some(Suspended), Suspend, Err(Conflict::IllegalMove(Deleting))),
            (Deleting, Some(Suspended), Resume, Err(Conflict::IllegalMove(Deleting))),
            (Deleting, Some(Suspended), Delete, Ok(Deleting)),
            (Deleting, Some(Suspended), Restore, Ok(Suspended)),
            (Deleting, Some(Active), Restore, Ok(Active)),
        ] {
            assert_eq!(record(status, restore_to).status_after(step, now), after, "{step:?}");
        }
        let late = record(Deleting, Some(Active));
        assert_eq!(late.status_after(Restore, now + hour), Err(Conflict::GraceOver));
        let ended = TenantRecord {
            expires_at: Some(now),
            purge_after: Some(now + 2 * hour),
            ..late.clone()
        };
        assert_eq!(ended.status_after(Restore, now), Err(Conflict::GraceOver));
        let begun = TenantRecord { purge_started_at: Some(now), ..late };
        assert_eq!(begun.status_after(Restore, now), Err(Conflict::PurgeStarted));
    }
}
