//! Owns the rate limits: of password attempts, of credentials, of requests.
//!
//! # Attempts
//!
//! An attempt is charged *before* it is checked, so that parallel ones cannot slip through and no password is hashed for
//! a refused client, and refunded if it succeeds or fails through our fault. So only wrong ones count. Where the bucket is
//! empty and some of what was taken belongs to attempts that are still being checked, the next one waits for them, and
//! is refused only if they were wrong ([`attempt`]): an office behind one address can log in all at once. OWASP's
//! Authentication Cheat Sheet
//! ("Login Throttling") has two opposed demands: count by account, since an attacker has many addresses; and do not lock
//! the account, since any attacker could then lock a user out. Three buckets meet both:
//!
//! - one *account from one address*: the tightest. It stops one attacker and affects no other client.
//! - one *account* from all addresses: stops an attacker with many addresses. It does not count addresses from which the
//!   user has logged in before, so that an attacker cannot lock a user out (the idea of OWASP's device cookies). The user
//!   at a new address waits seconds for the next cell: a refusal costs nothing.
//! - one *address* for all accounts: stops an attacker who tries one password on many accounts.
//!
//! An account is counted by the submitted text, whether or not such a user exists, so that a refusal reveals nothing.
//! Bearer tokens, API keys, xtokens and refresh cookies are too long to be guessed; wrong ones are counted by address
//! only, to spare the database. A credential that was valid before is exempt, so that a broken script does not block a
//! working client at the same address.
//!
//! # Requests
//!
//! Recognised callers are counted by caller and, inside a tenant, by tenant: all its tokens and users together. The root
//! and other tokens of the platform belong to no tenant. Exports to the store, which take room there, are counted by
//! tenant. Requests that need no credential (health, metrics, preflights) are not counted.
//!
//! # Limits of the limits
//!
//! All state is in the memory of this process, within a fixed size ([`table`]), and lost at a restart; `n` processes
//! allow `n` times as much. A limit for all processes together belongs in the proxy before them.

mod attempt;
mod rate;
mod refused;
mod remaining;
mod table;
#[cfg(test)]
mod tests;
mod time;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::nanos::Nanos;

use self::attempt::{InFlight, Kind};
use self::rate::{Bucket, Left};
use self::refused::Refused;
use self::remaining::RemainingOf;
use self::table::{Key, Keys, Table};
use self::time::Steady;
use crate::auth::Principal;
use crate::auth::context::Reach;
use crate::domain::Clock;
use crate::domain::address::counted_as;
use crate::domain::error::{Error, Result};
use crate::domain::names::TenantId;
use crate::telemetry::Metrics;

pub use attempt::Attempt;
pub use rate::{Limit, Rate};
pub use remaining::{RATE_LIMIT, RATE_LIMIT_POLICY, Remaining};

/// How long an address is remembered from which a user has logged in.
const KNOWN_ADDRESS_REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// How long a valid credential is remembered.
const CREDENTIAL_REMEMBERED: Duration = Duration::from_hours(24);

/// The rate at which one client's refusals are logged.
const LOG_RATE: Rate =
    Rate { per_minute: std::num::NonZeroU32::MIN, at_once: std::num::NonZeroU32::MIN };

/// The limits in the settings.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Wrong passwords for one account from one address.
    pub login_pair: Limit,
    /// Wrong passwords for one account from addresses from which the user has not logged in before.
    pub login_account: Limit,
    /// Wrong passwords from one address.
    pub login_address: Limit,
    /// Wrong credentials from one address.
    pub token_address: Limit,
    /// Requests of one caller.
    pub requests_token: Limit,
    /// Requests inside one tenant.
    pub requests_tenant: Limit,
    /// Exports to the store that callers of one tenant start.
    pub exports_tenant: Limit,
}

/// A limit in force, with its name for the log and the metrics.
struct Gate {
    name: &'static str,
    /// Its name in the headers of answers; only limits on requests are told there.
    told_as: &'static str,
    /// `None` if the settings set no limit.
    bucket: RwLock<Option<Arc<Bucket>>>,
}

impl Gate {
    fn new(name: &'static str, limit: Limit, time: &Steady) -> Self {
        let told_as = name.trim_start_matches("requests_");
        let gate = Self { name, told_as, bucket: RwLock::new(None) };
        gate.replace(limit, time);
        gate
    }

    fn bucket(&self) -> Option<Arc<Bucket>> {
        self.bucket.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the limit. One that stays the same keeps what it has counted.
    fn replace(&self, limit: Limit, time: &Steady) {
        let mut bucket = self.bucket.write().unwrap_or_else(PoisonError::into_inner);
        if bucket.as_ref().map(|bucket| bucket.rate()) != limit.0 {
            *bucket = limit.0.map(|rate| Arc::new(Bucket::new(rate, time.clone())));
        }
    }
}

/// The limits of this process, shared by its workers.
pub struct Limits {
    login_pair: Gate,
    login_account: Gate,
    login_address: Gate,
    token_address: Gate,
    requests_token: Gate,
    requests_tenant: Gate,
    exports_tenant: Gate,
    /// Pairs of account and address that have logged in.
    known_addresses: Table,
    /// Credentials that were valid.
    known_credentials: Table,
    /// The attempts that are being checked.
    in_flight: InFlight,
    /// Credentials that are refused without being looked up.
    refused: Refused,
    log: Bucket,
    keys: Keys,
    time: Steady,
    metrics: Arc<Metrics>,
}

impl Limits {
    /// Creates the limits; `clock` is the time source.
    #[must_use]
    pub fn new(settings: &Settings, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let time = Steady::new(clock);
        let gate = |name, limit| Gate::new(name, limit, &time);
        Self {
            login_pair: gate("login_pair", settings.login_pair),
            login_account: gate("login_account", settings.login_account),
            login_address: gate("login_address", settings.login_address),
            token_address: gate("token_address", settings.token_address),
            requests_token: gate("requests_token", settings.requests_token),
            requests_tenant: gate("requests_tenant", settings.requests_tenant),
            exports_tenant: gate("exports_tenant", settings.exports_tenant),
            known_addresses: Table::default(),
            known_credentials: Table::default(),
            in_flight: InFlight::default(),
            refused: Refused::default(),
            log: Bucket::new(LOG_RATE, time.clone()),
            keys: Keys::default(),
            time,
            metrics,
        }
    }

    /// Replaces the limits that differ from these settings.
    pub fn replace(&self, settings: &Settings) {
        for (gate, limit) in [
            (&self.login_pair, settings.login_pair),
            (&self.login_account, settings.login_account),
            (&self.login_address, settings.login_address),
            (&self.token_address, settings.token_address),
            (&self.requests_token, settings.requests_token),
            (&self.requests_tenant, settings.requests_tenant),
            (&self.exports_tenant, settings.exports_tenant),
        ] {
            gate.replace(limit, &self.time);
        }
    }

    /// Admits a password attempt for an account from an address; settle it with its outcome. Waits for attempts that are
    /// being checked if that decides whether it is admitted.
    ///
    /// # Errors
    /// [`Error::TooMany`]; [`Error::Unavailable`] if too many wait.
    pub async fn password(&self, account: &str, from: Option<IpAddr>) -> Result<Attempt<'_>> {
        let from = from.map(counted_as);
        let account = account.trim().to_lowercase();
        let pair = self.keys.of((&account, from));
        let is_known_address = self.known_addresses.has(pair, self.time.now());
        let elsewhere = (&self.login_account, self.keys.of(&account));
        let gates = [
            Some((&self.login_pair, pair)),
            (!is_known_address).then_some(elsewhere),
            Some((&self.login_address, self.keys.of(from))),
        ];
        self.admit(gates, from, Kind::Password, pair).await
    }

    /// Refuses a password attempt from an address that may make none now, before the body that holds it is read. It
    /// charges nothing and waits for nothing: [`password`](Self::password) does.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn password_from(&self, from: Option<IpAddr>) -> Result<()> {
        let from = from.map(counted_as);
        let Some(bucket) = self.login_address.bucket() else { return Ok(()) };
        let key = self.keys.of(from);
        match self.in_flight.probe(&self.login_address, &bucket, key) {
            Ok(()) => Ok(()),
            Err(wait) => Err(self.refuse(&self.login_address, key, Client::Address(from), wait)),
        }
    }

    /// Admits the look-up of a credential from an address; settle it with its outcome. Waits as
    /// [`password`](Self::password) does.
    ///
    /// # Errors
    /// [`Error::TooMany`]; [`Error::Unavailable`] if too many wait.
    pub async fn credential(&self, presented: &str, from: Option<IpAddr>) -> Result<Attempt<'_>> {
        let from = from.map(counted_as);
        let key = self.keys.of(presented);
        let gate = (&self.token_address, self.keys.of(from));
        let is_known = self.known_credentials.has(key, self.time.now());
        let gates = [(!is_known).then_some(gate), None, None];
        self.admit(gates, from, Kind::Credential, key).await
    }

    /// Records a credential that was just issued as valid.
    pub fn expect(&self, credential: &str) {
        self.remember(&self.known_credentials, self.keys.of(credential), CREDENTIAL_REMEMBERED);
    }

    fn request_of_caller(&self, principal: &Principal, remaining: &Remaining) -> Result<()> {
        let key = match principal {
            Principal::Anonymous | Principal::Operator => return Ok(()),
            Principal::Root => self.keys.of("root"),
            Principal::User { id, .. } => self.keys.of(("user", id)),
            Principal::Token { id, .. }
            | Principal::ApiKey { id, .. }
            | Principal::Profile { id, .. } => self.keys.of(("token", id)),
        };
        self.take(&self.requests_token, key, Client::Caller(principal), remaining)
    }

    fn request_at_home(&self, principal: &Principal, remaining: &Remaining) -> Result<()> {
        principal.home().map_or(Ok(()), |tenant| self.inside(tenant, remaining))
    }

    /// Counts a request inside a tenant, of a caller with access to it. A token that is bound to a tenant was counted by
    /// [`request`](Limits::request).
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn request_inside(
        &self,
        principal: &Principal,
        tenant: TenantId,
        remaining: &Remaining,
    ) -> Result<()> {
        match principal {
            Principal::User { .. } => self.inside(tenant, remaining),
            Principal::Anonymous
            | Principal::Operator
            | Principal::Root
            | Principal::Token { .. }
            | Principal::ApiKey { .. }
            | Principal::Profile { .. } => Ok(()),
        }
    }

    fn inside(&self, tenant: TenantId, remaining: &Remaining) -> Result<()> {
        let (key, client) = (self.keys.of(tenant), Client::Tenant(tenant));
        self.take(&self.requests_tenant, key, client, remaining)
    }

    /// Counts an export to the store, of a caller who may export some tenants alone. Every other one is not limited.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn export(&self, reach: &Reach, tenant: TenantId) -> Result<()> {
        let Some(bucket) = self.exports_tenant.bucket() else { return Ok(()) };
        match reach {
            Reach::Everything => Ok(()),
            Reach::Tenants(_) => {
                let (key, client) = (self.keys.of(tenant), Client::Tenant(tenant));
                let taken = bucket.take(key);
                taken.map_err(|wait| self.refuse(&self.exports_tenant, key, client, wait))
            }
        }
    }

    fn take(&self, gate: &Gate, key: Key, client: Client<'_>, remaining: &Remaining) -> Result<()> {
        let Some(bucket) = gate.bucket() else { return Ok(()) };
        let taken = bucket.take_and_tell(key);
        let left = taken.unwrap_or_else(Left::nothing);
        remaining.note(RemainingOf { name: gate.told_as, rate: bucket.rate(), left });
        taken.map(drop).map_err(|wait| self.refuse(gate, key, client, wait))
    }

    /// Counts and logs a refusal.
    fn refuse(&self, gate: &Gate, key: Key, client: Client<'_>, wait: Duration) -> Error {
        self.metrics.count_limited(gate.name);
        // One line a minute for each client, so that many requests do not write many lines.
        if self.log.take(self.keys.of((gate.name, key))).is_ok() {
            tracing::warn!(limit.name = gate.name, limit.client = %client, "refused a client that exceeded a limit");
        }
        Error::TooMany { retry_after: whole_seconds(wait) }
    }

    fn remember(&self, table: &Table, key: Key, length: Duration) {
        let now = self.time.now();
        table.put(key, Nanos::from(Duration::from(now) + length), now);
    }
}

/// The client that exceeded a limit, for the log. An account is named by the address that tries it: the submitted text
/// can be anything, even a password in the wrong field.
#[derive(Clone, Copy)]
enum Client<'a> {
    Address(Option<IpAddr>),
    Caller(&'a Principal),
    Tenant(TenantId),
}

impl std::fmt::Display for Client<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(Some(address)) => write!(f, "address:{address}"),
            Self::Address(None) => f.write_str("address:unknown"),
            Self::Caller(principal) => f.write_str(&principal.label()),
            Self::Tenant(tenant) => write!(f, "tenant:{tenant}"),
        }
    }
}

/// Rounds up, so that a client that retries on the second is not too early.
fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}
