//! Credentials whose next request will be refused, too. Their requests are refused before the credential is looked up, so
//! that a client that goes on asking takes no connection.

use std::time::Duration;

use governor::clock::Clock as _;
use governor::nanos::Nanos;

use super::rate::Left;
use super::remaining::RemainingOf;
use super::table::{Key, Table};
use super::{Limits, Remaining, whole_seconds};
use crate::auth::Principal;
use crate::domain::error::{Error, Result};

/// The end of a refusal is known in seconds, rounded up. A request that can be admitted must not be refused here.
const UNCERTAIN: Duration = Duration::from_secs(1);

/// The credentials that exceeded a limit, each until its next request can be admitted.
#[derive(Debug, Default)]
pub(super) struct Refused {
    by_caller: Table,
    by_tenant: Table,
}

impl Limits {
    /// Refuses a credential whose last request was refused, until another one can be admitted.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn still_refused(&self, presented: &str, remaining: &Remaining) -> Result<()> {
        let (key, now) = (self.keys.of(presented), self.time.now());
        for (table, gate) in [
            (&self.refused.by_caller, &self.requests_token),
            (&self.refused.by_tenant, &self.requests_tenant),
        ] {
            if let Some(left) = table.left(key, now) {
                self.metrics.count_limited(gate.name);
                let wait = left + UNCERTAIN;
                if let Some(bucket) = gate.bucket() {
                    let (name, left) = (gate.told_as, Left::nothing(wait));
                    remaining.note(RemainingOf { name, rate: bucket.rate(), left });
                }
                return Err(Error::TooMany { retry_after: whole_seconds(wait) });
            }
        }
        Ok(())
    }

    /// Counts a request of a caller, and of the tenant that the caller's credential is bound to. Remembers the credential
    /// if it is refused.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn request(
        &self,
        presented: &str,
        principal: &Principal,
        remaining: &Remaining,
    ) -> Result<()> {
        let key = self.keys.of(presented);
        let of_caller = self.request_of_caller(principal, remaining);
        self.remember_refused(&self.refused.by_caller, key, of_caller)?;
        let at_home = self.request_at_home(principal, remaining);
        self.remember_refused(&self.refused.by_tenant, key, at_home)
    }

    fn remember_refused(&self, table: &Table, key: Key, outcome: Result<()>) -> Result<()> {
        if let Err(Error::TooMany { retry_after }) = &outcome {
            let certain = retry_after.saturating_sub(UNCERTAIN);
            let now = self.time.now();
            table.put(key, Nanos::from(Duration::from(now) + certain), now);
        }
        outcome
    }
}
