//! Translates the settings for the parts of a backend. Must not know: how the parts are combined.

use std::num::NonZeroUsize;

use super::BuildError;
use crate::auth::jwt;
use crate::auth::password::{Hasher, Params};
use crate::config::{CachedStatements, ForcedEngine, Settings};
use crate::pg::bootstrap::Wanted;
use crate::pg::rules::{Rules, Sharing, Statements, TimeLimits};
use crate::service::sessions;
use crate::service::stored_archives;
use crate::service::tenants::slugs::SlugRules;
use crate::service::tokens::Lifetimes;

pub(super) fn rules(settings: &Settings) -> Rules {
    let database = &settings.database;
    let statements = match database.statements {
        CachedStatements::Auto | CachedStatements::Never => Statements::Unnamed,
        CachedStatements::Always => Statements::Cached,
    };
    let limits = TimeLimits {
        connect: database.connect_timeout,
        statement: database.statement_timeout,
        lock: database.lock_timeout,
        idle_in_transaction: database.idle_in_transaction_timeout,
        client_check: None,
    };
    // The backend asks the server later whether the login has the limits and whether a pooler is in between.
    let accepted = database.accept_exposures.clone();
    // The isolation follows from the engine where it is not set.
    let isolation = database.isolation.unwrap_or_default();
    Rules { accepted, ..Rules::new(isolation, statements, limits) }
}

/// Returns what the settings ask of a database before its engine is known.
pub(super) fn wanted(settings: &Settings) -> Wanted {
    let forces_citus = settings.database.forced_engine == Some(ForcedEngine::Citus);
    Wanted { isolation: settings.database.isolation, forces_citus }
}

pub(super) fn sharing(settings: &Settings) -> Sharing {
    let tenants_per_connection = settings.database.tenants_per_connection;
    Sharing { fairness: settings.fairness, tenants_per_connection, ..Sharing::default() }
}

/// Returns the rules for slugs: those of the settings, and the first label of each of the server's own host names.
pub(super) fn slug_rules(settings: &Settings) -> SlugRules {
    let hosts = settings.server_hosts.labels().map(str::to_owned);
    let reserved = settings.slugs.reserved.0.iter().cloned().chain(hosts);
    let quarantine = time::Duration::try_from(settings.slugs.quarantine);
    SlugRules::new(reserved, quarantine.unwrap_or(time::Duration::MAX))
}

pub(super) fn hasher(settings: &Settings) -> Result<Hasher, BuildError> {
    let params = Params {
        memory_kib: settings.auth.hash_memory_kib,
        iterations: settings.auth.hash_iterations,
        ..Params::default()
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(Hasher::new(params, cores, settings.auth.hash_queue)?)
}

pub(super) fn session_lifetimes(settings: &Settings) -> sessions::Lifetimes {
    // A length that `time` cannot hold is as good as no end.
    let read = |length| time::Duration::try_from(length).unwrap_or(time::Duration::MAX);
    sessions::Lifetimes {
        refresh: read(settings.auth.refresh_lifetime),
        session: read(settings.auth.session_lifetime),
    }
}

pub(super) fn jwt_settings(settings: &Settings) -> jwt::Settings {
    let defaults = jwt::Settings::new(&settings.auth.issuer, &settings.auth.audience);
    jwt::Settings { access_lifetime: settings.auth.access_lifetime, ..defaults }
}

pub(super) fn lifetimes(settings: &Settings) -> Lifetimes {
    let length = |length| time::Duration::try_from(length).unwrap_or(time::Duration::MAX);
    let tokens = &settings.tokens;
    Lifetimes {
        max: tokens.max_lifetime.map(length),
        default: tokens.default_lifetime.map(length),
        overlap: length(tokens.rotation_overlap),
    }
}

pub(super) fn archive_limits(settings: &Settings) -> stored_archives::Limits {
    let archives = &settings.archives;
    let length = |length| time::Duration::try_from(length).unwrap_or(time::Duration::MAX);
    stored_archives::Limits {
        max_bytes: archives.max_bytes,
        total_bytes: (archives.total_bytes > 0).then_some(archives.total_bytes),
        keep_exports: archives.keep_exports.map(length),
        workers: archives.workers,
    }
}
