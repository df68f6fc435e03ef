//! Owns what a tenant is and how its status may move.

use time::OffsetDateTime;

use super::error::Conflict;
use super::names::{Email, ExternalId, Slug, TenantId, TenantName};
use super::profile::Document;
use super::status::TenantStatus;

/// One customer's isolated space: a row in `public` and a schema of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Never changes; the schema is named by it.
    pub id: TenantId,
    /// What some clients know it by instead of the id; the main tenant is 1. Never changes, never comes twice.
    pub number: i64,
    /// Url-friendly unique name; may change.
    pub slug: Slug,
    /// The name people read; any script.
    pub name: TenantName,
    /// The organisation behind it, where a dialect asked for one.
    pub org: Option<String>,
    /// Whether it answers.
    pub status: TenantStatus,
    /// When it was set up.
    pub created_at: OffsetDateTime,
}

/// A tenant with all that the control plane keeps of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantRecord {
    /// What the rest of the house knows it by.
    pub tenant: Tenant,
    /// Address of its contact, where a dialect asked for one.
    pub contact: Option<Email>,
    /// What its maker's own system calls it.
    pub external_id: Option<ExternalId>,
    /// Whatever the application keeps here; no part of it means anything to us.
    pub settings: Document,
    /// Goes up with every change of the record, so that a change can say which state it was decided on.
    pub revision: i64,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
    /// When a deleted tenant's grace period ends.
    pub purge_after: Option<OffsetDateTime>,
    /// What a deleted tenant is restored to.
    pub restore_to: Option<TenantStatus>,
    /// When its purge began; from then on nothing brings it back.
    pub purge_started_at: Option<OffsetDateTime>,
}

/// A step in a tenant's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Stop answering.
    Suspend,
    /// Answer again.
    Resume,
    /// Stop answering, and be purged when the grace period ends.
    Delete,
    /// Come back from deletion.
    Restore,
}

impl TenantRecord {
    /// The status after a move that is asked for at this time.
    ///
    /// # Errors
    /// [`Conflict::IllegalMove`] with the present status; for a restoration that comes too late
    /// [`Conflict::PurgeStarted`] or [`Conflict::GraceOver`].
    pub fn status_after(&self, step: Move, now: OffsetDateTime) -> Result<TenantStatus, Conflict> {
        let status = self.tenant.status;
        match (step, status) {
            (Move::Suspend, TenantStatus::Active) => Ok(TenantStatus::Suspended),
            (Move::Resume, TenantStatus::Suspended) => Ok(TenantStatus::Active),
            (Move::Delete, TenantStatus::Active | TenantStatus::Suspended) => {
                Ok(TenantStatus::Deleting)
            }
            (Move::Restore, TenantStatus::Deleting) if self.purge_started_at.is_some() => {
                Err(Conflict::PurgeStarted)
            }
            (Move::Restore, TenantStatus::Deleting)
                if self.purge_after.is_some_and(|end| end <= now) =>
            {
                Err(Conflict::GraceOver)
            }
            (Move::Restore, TenantStatus::Deleting) => {
                Ok(self.restore_to.unwrap_or(TenantStatus::Active))
            }
            (Move::Suspend | Move::Resume | Move::Delete | Move::Restore, _) => {
                Err(Conflict::IllegalMove(status))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_legal_moves_are_made() {
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
            },
            contact: None,
            external_id: None,
            settings: Document::stored(serde_json::json!({})),
            revision: 1,
            updated_at: now,
            purge_after: (status == Deleting).then_some(now + hour),
            restore_to,
            purge_started_at: None,
        };
        for (status, restore_to, step, after) in [
            (Active, None, Suspend, Ok(Suspended)),
            (Active, None, Resume, Err(Conflict::IllegalMove(Active))),
            (Active, None, Delete, Ok(Deleting)),
            (Active, None, Restore, Err(Conflict::IllegalMove(Active))),
            (Suspended, None, Suspend, Err(Conflict::IllegalMove(Suspended))),
            (Suspended, None, Resume, Ok(Active)),
            (Suspended, None, Delete, Ok(Deleting)),
            (Suspended, None, Restore, Err(Conflict::IllegalMove(Suspended))),
            (Deleting, Some(Suspended), Suspend, Err(Conflict::IllegalMove(Deleting))),
            (Deleting, Some(Suspended), Resume, Err(Conflict::IllegalMove(Deleting))),
            (Deleting, Some(Suspended), Delete, Err(Conflict::IllegalMove(Deleting))),
            (Deleting, Some(Suspended), Restore, Ok(Suspended)),
            (Deleting, Some(Active), Restore, Ok(Active)),
        ] {
            assert_eq!(record(status, restore_to).status_after(step, now), after, "{step:?}");
        }
        let late = record(Deleting, Some(Active));
        assert_eq!(late.status_after(Restore, now + hour), Err(Conflict::GraceOver));
        let begun = TenantRecord { purge_started_at: Some(now), ..late };
        assert_eq!(begun.status_after(Restore, now), Err(Conflict::PurgeStarted));
    }
}
