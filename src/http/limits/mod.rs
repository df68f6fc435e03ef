//! Owns how often something may be done: trying a password, showing a credential, calling at all.
//!
//! # Guesses
//!
//! A guess is charged *before* it is looked at, so that many at once cannot slip through and a password is
//! not hashed for whoever is refused, and given back where it was right or where the fault was ours. So
//! only wrong ones count, and an office behind one address can log in all at once, within what one address
//! may try at a time. What OWASP's Authentication Cheat Sheet asks for ("Login Throttling") pulls two ways:
//! count by account, since an attacker has many addresses; and do not lock the account, since then anybody
//! can lock anybody out. Three buckets answer that:
//!
//! - one *account from one address*: the tight one. It stops the guesser and touches nobody else.
//! - one *account* from everywhere: stops who guesses from many addresses. It does not count where the
//!   person has logged in from before, so that strangers cannot keep people out of their own accounts
//!   (the idea of OWASP's device cookies). Somebody at a new address waits for the next cell, seconds, not
//!   for ever: being refused costs nothing.
//! - one *address* at all accounts: stops who tries one password at many accounts.
//!
//! An account is counted by what was typed, whether or not there is such a user, so that a refusal tells
//! nothing. Bearer tokens, API keys, xtokens and refresh cookies are too long to be guessed; wrong ones are
//! counted by address alone, to spare the database, and one that was right before passes by the count: a
//! colleague's broken script does not stop a good one.
//!
//! # Requests
//!
//! Recognised callers are counted by who they are and, where they work inside a tenant, by the tenant: all
//! its tokens and people together. The root and other tokens of the platform are no tenant's. What needs no
//! credential (health, metrics, preflights) is not counted.
//!
//! # What it is not
//!
//! Everything is in this process's memory, within a fixed size ([`table`]), and forgotten at a restart; `n`
//! processes allow `n` times as much. A limit for the whole of a fleet belongs in front of it.

mod rate;
mod table;
#[cfg(test)]
mod tests;
mod time;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::nanos::Nanos;

use self::rate::Bucket;
use self::table::{Key, Keys, Table};
use self::time::Steady;
use super::client_address::counted_as;
use crate::auth::Principal;
use crate::domain::Clock;
use crate::domain::error::{Error, Result};
use crate::domain::names::TenantId;
use crate::telemetry::Metrics;

pub use rate::{Limit, Rate};

/// How long an address is remembered from which a person has logged in.
const HOME_REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// How long a credential is remembered that was right.
const CREDENTIAL_REMEMBERED: Duration = Duration::from_hours(24);

/// How often one client's refusals are logged.
const NOTE_EVERY: Rate =
    Rate { per_minute: std::num::NonZeroU32::MIN, at_once: std::num::NonZeroU32::MIN };

/// What the settings say.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Wrong passwords for one account from one address.
    pub login_pair: Limit,
    /// Wrong passwords for one account from addresses where the person has not logged in before.
    pub login_account: Limit,
    /// Wrong passwords from one address.
    pub login_address: Limit,
    /// Wrong credentials from one address.
    pub token_address: Limit,
    /// Requests of one caller.
    pub requests_token: Limit,
    /// Requests inside one tenant.
    pub requests_tenant: Limit,
}

/// A limit that is kept to, with its name for the log and the metrics.
struct Gate {
    name: &'static str,
    /// None where the settings set no limit.
    bucket: Option<Bucket>,
}

/// All limits of this process, for all its workers.
pub struct Limits {
    login_pair: Gate,
    login_account: Gate,
    login_address: Gate,
    token_address: Gate,
    requests_token: Gate,
    requests_tenant: Gate,
    /// Pairs of account and address that logged in.
    homes: Table,
    /// Credentials that were right.
    known: Table,
    notes: Bucket,
    keys: Keys,
    time: Steady,
    metrics: Arc<Metrics>,
}

/// What was guessed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Password,
    Credential,
}

/// A guess that was let through and charged. Dropped, it stays charged: whoever hangs up before the answer
/// has guessed all the same.
#[must_use = "a guess that is not settled counts as wrong"]
pub struct Guess<'a> {
    limits: &'a Limits,
    /// Up to three cells that were taken.
    taken: [Option<(&'a Bucket, Key)>; 3],
    kind: Kind,
    /// What to remember where the guess was right.
    key: Key,
}

impl Guess<'_> {
    /// Gives back what was charged, unless the guess was wrong.
    pub fn settle<T>(self, outcome: &Result<T>) {
        match (outcome, self.kind) {
            (Ok(_), Kind::Password) => {
                self.limits.remember(&self.limits.homes, self.key, HOME_REMEMBERED);
            }
            (Ok(_), Kind::Credential) => {
                self.limits.remember(&self.limits.known, self.key, CREDENTIAL_REMEMBERED);
            }
            // It was revoked or has expired, and is from now on one of the wrong ones.
            (Err(Error::Unauthenticated(_)), Kind::Credential) => {
                return self.limits.known.forget(self.key);
            }
            // A person who mistypes at home is at home there still.
            (Err(Error::Unauthenticated(_)), Kind::Password) => return,
            (Err(_), _) => {}
        }
        give_back(self.taken);
    }
}

fn give_back(taken: [Option<(&Bucket, Key)>; 3]) {
    for (bucket, key) in taken.into_iter().flatten() {
        bucket.give_back(key);
    }
}

impl Limits {
    /// Sets the limits up; time is read off `clock`.
    #[must_use]
    pub fn new(settings: &Settings, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let time = Steady::new(clock);
        let gate = |name, limit: Limit| {
            let bucket = limit.0.map(|rate| Bucket::new(rate, time.clone()));
            Gate { name, bucket }
        };
        Self {
            login_pair: gate("login_pair", settings.login_pair),
            login_account: gate("login_account", settings.login_account),
            login_address: gate("login_address", settings.login_address),
            token_address: gate("token_address", settings.token_address),
            requests_token: gate("requests_token", settings.requests_token),
            requests_tenant: gate("requests_tenant", settings.requests_tenant),
            homes: Table::default(),
            known: Table::default(),
            notes: Bucket::new(NOTE_EVERY, time.clone()),
            keys: Keys::default(),
            time,
            metrics,
        }
    }

    /// Lets a password be tried for an account, from an address; settle it with what came of it.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn password(&self, account: &str, from: Option<IpAddr>) -> Result<Guess<'_>> {
        let from = from.map(counted_as);
        let account = account.trim().to_lowercase();
        let pair = self.keys.of((&account, from));
        let is_home = self.homes.has(pair, self.time.now());
        let elsewhere = (&self.login_account, self.keys.of(&account));
        let gates = [
            Some((&self.login_pair, pair)),
            (!is_home).then_some(elsewhere),
            Some((&self.login_address, self.keys.of(from))),
        ];
        self.guess(gates, from, Kind::Password, pair)
    }

    /// Lets a credential be looked up, from an address; settle it with what came of it.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn credential(&self, presented: &str, from: Option<IpAddr>) -> Result<Guess<'_>> {
        let from = from.map(counted_as);
        let key = self.keys.of(presented);
        let gate = (&self.token_address, self.keys.of(from));
        let is_known = self.known.has(key, self.time.now());
        let gates = [(!is_known).then_some(gate), None, None];
        self.guess(gates, from, Kind::Credential, key)
    }

    /// Takes note of a credential that we gave out ourselves, as of one that was right.
    pub fn expect(&self, credential: &str) {
        self.remember(&self.known, self.keys.of(credential), CREDENTIAL_REMEMBERED);
    }

    /// Counts a request of a caller, and of the tenant that the caller's token is bound to.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn request(&self, principal: &Principal) -> Result<()> {
        let key = match principal {
            Principal::Anonymous | Principal::Operator => return Ok(()),
            Principal::Root => self.keys.of("root"),
            Principal::User { id, .. } => self.keys.of(("user", id)),
            Principal::Token { id, .. }
            | Principal::ApiKey { id, .. }
            | Principal::Profile { id, .. } => self.keys.of(("token", id)),
        };
        self.take(&self.requests_token, key, Whom::Caller(principal))?;
        match principal.home() {
            Some(tenant) => self.inside(tenant),
            None => Ok(()),
        }
    }

    /// Counts a request inside a tenant, of a caller who may enter it. A token that is bound to one was
    /// counted with [`request`](Limits::request).
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn request_inside(&self, principal: &Principal, tenant: TenantId) -> Result<()> {
        match principal {
            Principal::User { .. } => self.inside(tenant),
            Principal::Anonymous
            | Principal::Operator
            | Principal::Root
            | Principal::Token { .. }
            | Principal::ApiKey { .. }
            | Principal::Profile { .. } => Ok(()),
        }
    }

    fn inside(&self, tenant: TenantId) -> Result<()> {
        self.take(&self.requests_tenant, self.keys.of(tenant), Whom::Tenant(tenant))
    }

    fn guess<'a>(
        &'a self,
        gates: [Option<(&'a Gate, Key)>; 3],
        from: Option<IpAddr>,
        kind: Kind,
        key: Key,
    ) -> Result<Guess<'a>> {
        let mut taken = [None; 3];
        for (slot, (gate, of)) in taken.iter_mut().zip(gates.into_iter().flatten()) {
            let Some(bucket) = &gate.bucket else { continue };
            match self.take(gate, of, Whom::Address(from)) {
                Ok(()) => *slot = Some((bucket, of)),
                Err(error) => {
                    give_back(taken);
                    return Err(error);
                }
            }
        }
        Ok(Guess { limits: self, taken, kind, key })
    }

    fn take(&self, gate: &Gate, key: Key, whom: Whom<'_>) -> Result<()> {
        let Some(bucket) = &gate.bucket else { return Ok(()) };
        let Err(wait) = bucket.take(key) else { return Ok(()) };
        self.metrics.count_limited(gate.name);
        // One line a minute for each: a flood of requests must not be a flood of lines.
        if self.notes.take(self.keys.of((gate.name, key))).is_ok() {
            tracing::warn!(limit.name = gate.name, limit.whom = %whom, "refused what was too much");
        }
        Err(Error::TooMany { retry_after: whole_seconds(wait) })
    }

    fn remember(&self, table: &Table, key: Key, length: Duration) {
        let now = self.time.now();
        table.put(key, Nanos::from(Duration::from(now) + length), now);
    }
}

/// Who did too much, for the log. An account is named by the address that tries it: what was typed may be
/// anything, a password in the wrong field too.
#[derive(Clone, Copy)]
enum Whom<'a> {
    Address(Option<IpAddr>),
    Caller(&'a Principal),
    Tenant(TenantId),
}

impl std::fmt::Display for Whom<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(Some(address)) => write!(f, "address:{address}"),
            Self::Address(None) => f.write_str("address:unknown"),
            Self::Caller(principal) => f.write_str(&principal.label()),
            Self::Tenant(tenant) => write!(f, "tenant:{tenant}"),
        }
    }
}

/// Rounded up: whoever comes back on the second must not be too early.
fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}
