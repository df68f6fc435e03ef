//! Owns the actions of audit events, and which of them are events of the feed.
//!
//! To add an action: a variant here, and a row in [`AuditAction::event_type`]. An action that has no row there stays in
//! the audit trail alone.

use super::rule::Rule;

/// What an audit event says was done, as `noun.verb`. A published word never changes: it is in stored events.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
pub enum AuditAction {
    /// A caller without the right to make a call was refused.
    #[strum(serialize = "access.denied")]
    AccessDenied,
    /// An API key was created.
    #[strum(serialize = "api_key.create")]
    ApiKeyCreate,
    /// An API key was revoked.
    #[strum(serialize = "api_key.revoke")]
    ApiKeyRevoke,
    /// An API key got a new secret.
    #[strum(serialize = "api_key.rotate")]
    ApiKeyRotate,
    /// An archive that the server keeps was deleted.
    #[strum(serialize = "archive.delete")]
    ArchiveDelete,
    /// The content of an archive was fetched.
    #[strum(serialize = "archive.fetch")]
    ArchiveFetch,
    /// An archive was uploaded.
    #[strum(serialize = "archive.upload")]
    ArchiveUpload,
    /// The distribution of tenants over a cluster took a step; the details name it.
    #[strum(serialize = "cluster.distribute")]
    ClusterDistribute,
    /// A credential that is not valid was refused.
    #[strum(serialize = "credential.refused")]
    CredentialRefused,
    /// A schema or role that belongs to no tenant was dropped.
    #[strum(serialize = "doctor.drop_orphan")]
    DoctorDropOrphan,
    /// Roles, owners, privileges or versions were repaired.
    #[strum(serialize = "doctor.mend")]
    DoctorMend,
    /// A privilege that no migration grants was revoked.
    #[strum(serialize = "doctor.restrict")]
    DoctorRestrict,
    /// An invitation was accepted, which added a member.
    #[strum(serialize = "invitation.accept")]
    InvitationAccept,
    /// An invitation was created.
    #[strum(serialize = "invitation.create")]
    InvitationCreate,
    /// An invitation was revoked.
    #[strum(serialize = "invitation.revoke")]
    InvitationRevoke,
    /// A user agreed to a membership.
    #[strum(serialize = "member.accept")]
    MemberAccept,
    /// A member was added.
    #[strum(serialize = "member.add")]
    MemberAdd,
    /// A member was removed.
    #[strum(serialize = "member.remove")]
    MemberRemove,
    /// A member's role was changed.
    #[strum(serialize = "member.set_role")]
    MemberSetRole,
    /// A fleet migration was cancelled.
    #[strum(serialize = "migration.cancel")]
    MigrationCancel,
    /// A fleet migration ended by itself.
    #[strum(serialize = "migration.finish")]
    MigrationFinish,
    /// A fleet migration was paused by a caller, or paused by itself.
    #[strum(serialize = "migration.pause")]
    MigrationPause,
    /// The migration history of a tenant was repaired.
    #[strum(serialize = "migration.repair")]
    MigrationRepair,
    /// A fleet migration was continued.
    #[strum(serialize = "migration.resume")]
    MigrationResume,
    /// The failed tenants of a fleet migration were made pending again.
    #[strum(serialize = "migration.retry")]
    MigrationRetry,
    /// A fleet migration was started.
    #[strum(serialize = "migration.start")]
    MigrationStart,
    /// A user logged out.
    #[strum(serialize = "session.close")]
    SessionClose,
    /// A user logged in.
    #[strum(serialize = "session.open")]
    SessionOpen,
    /// A log-in was refused.
    #[strum(serialize = "session.refused")]
    SessionRefused,
    /// A refresh token was used twice, which ended the session.
    #[strum(serialize = "session.reuse_detected")]
    SessionReuseDetected,
    /// Sessions were ended by another request than a log-out.
    #[strum(serialize = "session.revoke")]
    SessionRevoke,
    /// A key that signs access tokens was created.
    #[strum(serialize = "signing_key.create")]
    SigningKeyCreate,
    /// An ended key was deleted.
    #[strum(serialize = "signing_key.delete")]
    SigningKeyDelete,
    /// A key was ended.
    #[strum(serialize = "signing_key.retire")]
    SigningKeyRetire,
    /// A key that takes over was created.
    #[strum(serialize = "signing_key.rotate")]
    SigningKeyRotate,
    /// A key that was stored in clear was encrypted.
    #[strum(serialize = "signing_key.wrap")]
    SigningKeyWrap,
    /// A System call deleted profiles.
    #[strum(serialize = "system.delete_profiles")]
    SystemDeleteProfiles,
    /// A System call read profiles.
    #[strum(serialize = "system.get_profiles")]
    SystemGetProfiles,
    /// A System call restored a profile.
    #[strum(serialize = "system.restore_profile")]
    SystemRestoreProfile,
    /// A System call searched for profiles.
    #[strum(serialize = "system.search_profiles")]
    SystemSearchProfiles,
    /// A tenant was made of a schema of another tool.
    #[strum(serialize = "tenant.adopt")]
    TenantAdopt,
    /// A tenant was made of the data of another one.
    #[strum(serialize = "tenant.clone")]
    TenantClone,
    /// A tenant was set up.
    #[strum(serialize = "tenant.create")]
    TenantCreate,
    /// A tenant was deleted; its purge is due after the grace period.
    #[strum(serialize = "tenant.delete")]
    TenantDelete,
    /// A tenant came to its end; its purge is due at once.
    #[strum(serialize = "tenant.expire")]
    TenantExpire,
    /// The data of a tenant was written to an archive.
    #[strum(serialize = "tenant.export")]
    TenantExport,
    /// A tenant was made of an archive.
    #[strum(serialize = "tenant.import")]
    TenantImport,
    /// A tenant was moved to another node of the cluster.
    #[strum(serialize = "tenant.move")]
    TenantMove,
    /// A tenant was purged.
    #[strum(serialize = "tenant.purge")]
    TenantPurge,
    /// The purge of a tenant was allowed to drop objects outside of its schema.
    #[strum(serialize = "tenant.purge_cascade")]
    TenantPurgeCascade,
    /// A deleted tenant was restored.
    #[strum(serialize = "tenant.restore")]
    TenantRestore,
    /// A suspended tenant was made active.
    #[strum(serialize = "tenant.resume")]
    TenantResume,
    /// A tenant was suspended.
    #[strum(serialize = "tenant.suspend")]
    TenantSuspend,
    /// What is in a tenant was exchanged with what is in another one.
    #[strum(serialize = "tenant.swap")]
    TenantSwap,
    /// A tenant's record was changed.
    #[strum(serialize = "tenant.update")]
    TenantUpdate,
    /// An API token was created.
    #[strum(serialize = "token.create")]
    TokenCreate,
    /// A token was revoked.
    #[strum(serialize = "token.revoke")]
    TokenRevoke,
    /// A token got a new secret.
    #[strum(serialize = "token.rotate")]
    TokenRotate,
    /// A user changed the own password.
    #[strum(serialize = "user.change_password")]
    UserChangePassword,
    /// The admin of the settings was created or changed.
    #[strum(serialize = "user.ensure_admin")]
    UserEnsureAdmin,
    /// Another caller set a user's password.
    #[strum(serialize = "user.reset_password")]
    UserResetPassword,
    /// An account whose address was not proven was taken over by the owner of the address.
    #[strum(serialize = "user.take_over")]
    UserTakeOver,
}

/// The type of an event of the feed, as `noun.past_participle`. A published word never changes.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
pub enum EventType {
    /// A tenant was set up, or made of a schema of another tool or of an archive.
    #[strum(serialize = "tenant.created")]
    TenantCreated,
    /// A tenant's record was changed.
    #[strum(serialize = "tenant.updated")]
    TenantUpdated,
    /// A tenant was suspended.
    #[strum(serialize = "tenant.suspended")]
    TenantSuspended,
    /// A suspended tenant was made active.
    #[strum(serialize = "tenant.resumed")]
    TenantResumed,
    /// A tenant was deleted; its purge is due after the grace period.
    #[strum(serialize = "tenant.deletion_scheduled")]
    TenantDeletionScheduled,
    /// A tenant came to its end; it is purged next.
    #[strum(serialize = "tenant.expired")]
    TenantExpired,
    /// A deleted tenant was restored.
    #[strum(serialize = "tenant.restored")]
    TenantRestored,
    /// A tenant was purged.
    #[strum(serialize = "tenant.purged")]
    TenantPurged,
    /// A member was added.
    #[strum(serialize = "member.added")]
    MemberAdded,
    /// A member's role was changed.
    #[strum(serialize = "member.role_changed")]
    MemberRoleChanged,
    /// A member was removed.
    #[strum(serialize = "member.removed")]
    MemberRemoved,
    /// A token or an API key was created.
    #[strum(serialize = "token.created")]
    TokenCreated,
    /// A token or an API key was revoked.
    #[strum(serialize = "token.revoked")]
    TokenRevoked,
    /// A token or an API key got a new secret.
    #[strum(serialize = "token.rotated")]
    TokenRotated,
    /// A fleet migration was started.
    #[strum(serialize = "migration.started")]
    MigrationStarted,
    /// A fleet migration was paused, or paused by itself.
    #[strum(serialize = "migration.paused")]
    MigrationPaused,
    /// A fleet migration was continued.
    #[strum(serialize = "migration.resumed")]
    MigrationResumed,
    /// A fleet migration was cancelled.
    #[strum(serialize = "migration.cancelled")]
    MigrationCancelled,
    /// The failed tenants of a fleet migration were made pending again.
    #[strum(serialize = "migration.retried")]
    MigrationRetried,
    /// A fleet migration ended by itself.
    #[strum(serialize = "migration.finished")]
    MigrationFinished,
    /// Another caller set a user's password.
    #[strum(serialize = "user.password_reset")]
    UserPasswordReset,
    /// A refresh token was used twice, which ended the session.
    #[strum(serialize = "security.session_reuse")]
    SecuritySessionReuse,
}

impl AuditAction {
    /// Every action, in order of declaration.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the word in the audit trail.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the type under which the feed has the event; `None` if it stays in the audit trail alone. One audit event
    /// is at most one event of the feed.
    #[must_use]
    pub const fn event_type(self) -> Option<EventType> {
        Some(match self {
            Self::TenantCreate | Self::TenantAdopt | Self::TenantClone | Self::TenantImport => {
                EventType::TenantCreated
            }
            Self::TenantUpdate => EventType::TenantUpdated,
            Self::TenantSuspend => EventType::TenantSuspended,
            Self::TenantResume => EventType::TenantResumed,
            Self::TenantDelete => EventType::TenantDeletionScheduled,
            Self::TenantExpire => EventType::TenantExpired,
            Self::TenantRestore => EventType::TenantRestored,
            Self::TenantPurge => EventType::TenantPurged,
            Self::MemberAdd | Self::InvitationAccept => EventType::MemberAdded,
            Self::MemberSetRole => EventType::MemberRoleChanged,
            Self::MemberRemove => EventType::MemberRemoved,
            Self::TokenCreate | Self::ApiKeyCreate => EventType::TokenCreated,
            Self::TokenRevoke | Self::ApiKeyRevoke => EventType::TokenRevoked,
            Self::TokenRotate | Self::ApiKeyRotate => EventType::TokenRotated,
            Self::MigrationStart => EventType::MigrationStarted,
            Self::MigrationPause => EventType::MigrationPaused,
            Self::MigrationResume => EventType::MigrationResumed,
            Self::MigrationCancel => EventType::MigrationCancelled,
            Self::MigrationRetry => EventType::MigrationRetried,
            Self::MigrationFinish => EventType::MigrationFinished,
            Self::UserResetPassword => EventType::UserPasswordReset,
            Self::SessionReuseDetected => EventType::SecuritySessionReuse,
            Self::AccessDenied
            | Self::ArchiveDelete
            | Self::ArchiveFetch
            | Self::ArchiveUpload
            | Self::ClusterDistribute
            | Self::CredentialRefused
            | Self::DoctorDropOrphan
            | Self::DoctorMend
            | Self::DoctorRestrict
            | Self::InvitationCreate
            | Self::InvitationRevoke
            | Self::MemberAccept
            | Self::MigrationRepair
            | Self::SessionClose
            | Self::SessionOpen
            | Self::SessionRefused
            | Self::SessionRevoke
            | Self::SigningKeyCreate
            | Self::SigningKeyDelete
            | Self::SigningKeyRetire
            | Self::SigningKeyRotate
            | Self::SigningKeyWrap
            | Self::SystemDeleteProfiles
            | Self::SystemGetProfiles
            | Self::SystemRestoreProfile
            | Self::SystemSearchProfiles
            | Self::TenantExport
            | Self::TenantMove
            | Self::TenantPurgeCascade
            | Self::TenantSwap
            | Self::UserChangePassword
            | Self::UserEnsureAdmin
            | Self::UserTakeOver => return None,
        })
    }
}

impl EventType {
    /// Every type, in order of declaration.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The words of all types, in order of declaration.
    pub const NAMES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    /// Returns the word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses types that are separated by commas; `noun.*` stands for all of a noun.
    ///
    /// # Errors
    /// [`Rule::OneOf`] where a word is neither.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, Rule> {
        let mut found = Vec::new();
        for word in text.split(',') {
            let before = found.len();
            match word.strip_suffix('*') {
                Some(noun) if noun.ends_with('.') => {
                    found.extend(Self::ALL.iter().filter(|kind| kind.as_str().starts_with(noun)));
                }
                _ => found.extend(word.parse::<Self>()),
            }
            if found.len() == before {
                return Err(Rule::OneOf(Self::NAMES));
            }
        }
        Ok(found)
    }

    /// Returns the actions whose audit events are events of this type.
    pub fn actions(self) -> impl Iterator<Item = AuditAction> {
        AuditAction::ALL.iter().copied().filter(move |action| action.event_type() == Some(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_listed_by_name_or_by_noun_and_an_unknown_one_is_refused() {
        let parse = EventType::parse_list;
        assert_eq!(parse("tenant.created"), Ok(vec![EventType::TenantCreated]));
        let both = parse("security.*,member.added").unwrap();
        assert_eq!(both, [EventType::SecuritySessionReuse, EventType::MemberAdded]);
        assert_eq!(parse("token.*").unwrap().len(), 3);
        for bad in [
            "",
            "tenant",
            "tenant.*,",
            "*",
            "tenant.creat",
            "tenant.create",
            "none.*",
            ".*",
            "ten*",
        ] {
            assert_eq!(parse(bad), Err(Rule::OneOf(EventType::NAMES)), "{bad:?}");
        }
    }

    #[test]
    fn each_action_is_read_back_from_its_word_and_each_type_has_an_action() {
        for action in AuditAction::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
            let (noun, verb) = action.as_str().split_once('.').expect("noun.verb");
            assert!(!noun.is_empty() && !verb.is_empty() && !verb.contains('.'), "{action}");
        }
        for kind in EventType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert!(kind.actions().count() > 0, "{kind}");
        }
    }
}
