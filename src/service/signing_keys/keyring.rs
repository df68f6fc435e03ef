//! The keys in the memory of this process, and how often they are read.
//!
//! Promises: a token is checked with keys that were read less than [`MAX_AGE`] ago; the keys are read by one task at a
//! time, whatever the number of requests that wait for them; tokens with invented key ids cause at most one read in
//! [`LOOK_EVERY`]. Must not know: SQL.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use secrecy::ExposeSecret;
use time::OffsetDateTime;

use super::rotation::{term, verifies};
use crate::auth::jwt::{Issuer, SigningKey, Term};
use crate::auth::secret_key::SecretKey;
use crate::domain::error::{Error, Result};
use crate::pg::control::signing_keys::StoredKey;

/// The age at which the keys are read again before they are used. The background job reads them a little earlier.
pub(super) const MAX_AGE: Duration = Duration::from_mins(1);

/// The shortest interval between the begin of a read and one that a token with an unknown key id causes.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

const READ: &str = "read signing keys";

/// Why keys cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// There is no secret.
    #[error(
        "the signing keys in the database are encrypted with a secret key that is not given here: it is in \
         ROWHOUSE_SECRET_KEY or ROWHOUSE_SECRET_KEY_FILE of the servers, or in the file secret-key in their data dir"
    )]
    Missing,
    /// There is another secret.
    #[error(
        "the signing keys in the database are encrypted with another secret key than the one that is given here"
    )]
    Differs,
    /// The secret is right, and the key was changed in the database.
    #[error(
        "the signing key {0} was changed in the database; `rowhouse key retire {0} --now` ends it"
    )]
    Changed(String),
}

/// The keys in the memory of this process, shared by all runtimes.
pub(super) struct Keyring {
    issuer: Issuer,
    secret: OnceLock<SecretKey>,
    /// Held while the keys are read.
    reading: tokio::sync::Mutex<()>,
    reads: Mutex<Reads>,
}

/// The reads so far.
#[derive(Debug, Clone, Copy, Default)]
struct Reads {
    /// When the last one began.
    began: Option<OffsetDateTime>,
    /// When the last one that succeeded began.
    succeeded: Option<OffsetDateTime>,
    /// How many failed.
    failed: u64,
}

impl Reads {
    fn are_stale(self, now: OffsetDateTime) -> bool {
        self.succeeded.is_none_or(|at| now >= at + MAX_AGE)
    }

    fn allow_another(self, now: OffsetDateTime) -> bool {
        self.began.is_none_or(|at| now >= at + LOOK_EVERY)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the read that this request waited for has failed")]
struct ReadFailed;

impl Keyring {
    pub(super) fn new(issuer: Issuer, secret: Option<SecretKey>) -> Self {
        let known = OnceLock::new();
        if let Some(secret) = secret {
            let _ = known.set(secret);
        }
        Self {
            issuer,
            secret: known,
            reading: tokio::sync::Mutex::default(),
            reads: Mutex::default(),
        }
    }

    pub(super) const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    pub(super) fn secret(&self) -> Result<&SecretKey, SecretProblem> {
        self.secret.get().ok_or(SecretProblem::Missing)
    }

    /// Stores the secret if there is none, and returns the one that is stored.
    pub(super) fn set_secret(&self, secret: SecretKey) -> &SecretKey {
        self.secret.get_or_init(|| secret)
    }

    /// Returns the lifetime of the tokens that this process signs, in seconds.
    pub(super) fn lifetime_seconds(&self) -> i64 {
        i64::try_from(self.issuer.access_lifetime().as_secs()).unwrap_or(i64::MAX)
    }

    /// Uses these keys from now on. One that cannot be decrypted is left out and logged: an operator must give all
    /// servers one secret, and until then the others go on.
    pub(super) fn install(&self, stored: &[StoredKey], now: OffsetDateTime) {
        let readable = stored.iter().filter_map(|key| match self.decrypt(key) {
            Ok(readable) => Some(readable),
            Err(problem) => {
                if verifies(key, now) {
                    tracing::error!(kid = key.kid, %problem, "a signing key cannot be used");
                }
                None
            }
        });
        self.issuer.set_keys(readable.collect());
        let mut reads = self.reads();
        reads.succeeded = reads.succeeded.max(Some(now));
    }

    /// As [`Keyring::install`], in a process that checks or signs tokens; other processes hold no keys.
    pub(super) fn install_if_used(&self, stored: &[StoredKey], now: OffsetDateTime) {
        if self.reads().succeeded.is_some() {
            self.install(stored, now);
        }
    }

    fn decrypt(&self, key: &StoredKey) -> Result<(SigningKey, Term), SecretProblem> {
        let read = decrypt(self.secret()?, key)?;
        Ok((read, term(key)))
    }

    /// Returns whether the keys must be read before they are used.
    pub(super) fn is_stale(&self, now: OffsetDateTime) -> bool {
        self.reads().are_stale(now)
    }

    /// Returns whether [`Keyring::look`] would read the keys, or wait for a read that is under way.
    pub(super) fn may_look(&self, now: OffsetDateTime) -> bool {
        self.reads().allow_another(now) || self.reading.try_lock().is_err()
    }

    /// Reads the keys, unless another task has just read them.
    pub(super) async fn refresh(
        &self,
        now: OffsetDateTime,
        read: impl Future<Output = Result<Vec<StoredKey>>>,
    ) -> Result<()> {
        self.read_if(now, |reads| reads.are_stale(now), read).await
    }

    /// Waits for a read that is under way; without one, reads the keys, unless the last read began less than
    /// [`LOOK_EVERY`] ago.
    pub(super) async fn look(
        &self,
        now: OffsetDateTime,
        read: impl Future<Output = Result<Vec<StoredKey>>>,
    ) -> Result<()> {
        self.read_if(now, |reads| reads.allow_another(now), read).await
    }

    async fn read_if(
        &self,
        now: OffsetDateTime,
        is_due: impl Fn(Reads) -> bool,
        read: impl Future<Output = Result<Vec<StoredKey>>>,
    ) -> Result<()> {
        let before = *self.reads();
        let _one_at_a_time = self.reading.lock().await;
        let after = *self.reads();
        if after.failed != before.failed {
            // Otherwise every waiting request would wait for a database that is away, one after another.
            return Err(Error::unavailable(READ, ReadFailed));
        }
        if is_due(after) {
            self.read(now, read).await?;
        }
        Ok(())
    }

    /// Reads the keys, after a read that is under way, and returns them.
    pub(super) async fn read_now(
        &self,
        now: OffsetDateTime,
        read: impl Future<Output = Result<Vec<StoredKey>>>,
    ) -> Result<Vec<StoredKey>> {
        let _one_at_a_time = self.reading.lock().await;
        self.read(now, read).await
    }

    async fn read(
        &self,
        now: OffsetDateTime,
        read: impl Future<Output = Result<Vec<StoredKey>>>,
    ) -> Result<Vec<StoredKey>> {
        self.reads().began = Some(now);
        let outcome = read.await;
        match &outcome {
            Ok(keys) => self.install(keys, now),
            Err(_) => self.reads().failed += 1,
        }
        outcome
    }

    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a secret that does not decrypt every encrypted key that has not ended.
pub(super) fn require_readable(
    secret: &SecretKey,
    keys: &[StoredKey],
    now: OffsetDateTime,
) -> Result<(), SecretProblem> {
    let encrypted = |key: &&StoredKey| key.wrapped_by.is_some() && verifies(key, now);
    keys.iter().filter(encrypted).try_for_each(|key| decrypt(secret, key).map(drop))
}

fn decrypt(secret: &SecretKey, key: &StoredKey) -> Result<SigningKey, SecretProblem> {
    if key.wrapped_by.as_deref() != Some(secret.fingerprint()) {
        return Err(SecretProblem::Differs);
    }
    let changed = || SecretProblem::Changed(key.kid.clone());
    let private = secret.unwrap(&key.kid, &key.private_key).ok_or_else(changed)?;
    SigningKey::from_stored(&key.kid, private.expose_secret()).map_err(|_no_key| changed())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use time::macros::datetime;

    use super::*;
    use crate::auth::jwt::Settings;

    const NOW: OffsetDateTime = datetime!(2031-02-03 04:05:06 UTC);

    fn keyring() -> Keyring {
        Keyring::new(Issuer::new(Settings::new("i", "a")), None)
    }

    /// Counts the reads that it is asked for, and is slow.
    #[derive(Clone, Default)]
    struct Source(Arc<AtomicUsize>);

    impl Source {
        async fn read(self, outcome: Result<Vec<StoredKey>>) -> Result<Vec<StoredKey>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            outcome
        }

        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn after(seconds: u64) -> OffsetDateTime {
        NOW + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_unknown_key_ids_cause_one_read_and_the_next_one_five_seconds_later() {
        let (keyring, source) = (keyring(), Source::default());
        let ask = async |seconds| {
            let may_look = keyring.may_look(after(seconds));
            if may_look {
                keyring.look(after(seconds), source.clone().read(Ok(Vec::new()))).await.unwrap();
            }
            may_look
        };
        let answers = join_all((0..1000).map(|_| ask(0))).await;
        assert!(answers.into_iter().all(|waited| waited), "all waited for the one read");
        assert_eq!(source.count(), 1);
        for seconds in 0..5 {
            assert!(!ask(seconds).await);
        }
        assert_eq!(source.count(), 1);
        assert!(ask(5).await);
        assert_eq!(source.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_read_again_when_they_are_a_minute_old_and_not_before() {
        let (keyring, source) = (keyring(), Source::default());
        for (seconds, reads) in [(0, 1), (59, 1), (60, 2), (119, 2), (30, 2), (120, 3)] {
            let is_stale = keyring.is_stale(after(seconds));
            keyring.refresh(after(seconds), source.clone().read(Ok(Vec::new()))).await.unwrap();
            assert_eq!(source.count(), reads, "after {seconds} s");
            assert_eq!(is_stale, [0, 60, 120].contains(&seconds), "after {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_for_a_read_that_fails_fail_with_it_and_the_next_one_reads_again() {
        let (keyring, source) = (keyring(), Source::default());
        let failing = || {
            let failure = Err(Error::unavailable(READ, ReadFailed));
            keyring.refresh(NOW, source.clone().read(failure))
        };
        let answers = join_all((0..100).map(|_| failing())).await;
        assert!(answers.iter().all(|read| matches!(read, Err(Error::Unavailable { .. }))));
        assert_eq!(source.count(), 1);
        keyring.refresh(NOW, source.clone().read(Ok(Vec::new()))).await.unwrap();
        assert_eq!(source.count(), 2);
    }

    #[test]
    fn a_secret_must_decrypt_every_encrypted_key_that_has_not_ended() {
        let secret = |c: char| SecretKey::parse(&c.to_string().repeat(32)).unwrap();
        let stored = |by: &SecretKey, end: Option<OffsetDateTime>| {
            let key = SigningKey::generate().unwrap().to_stored();
            StoredKey {
                private_key: by.wrap(&key.kid, key.private.expose_secret()).unwrap(),
                kid: key.kid,
                wrapped_by: Some(by.fingerprint().to_owned()),
                created_at: NOW,
                signs_from: NOW,
                verifies_until: end,
                token_lifetime_seconds: 900,
            }
        };
        let (own, other) = (secret('a'), secret('b'));
        let check = |key: StoredKey| require_readable(&own, &[key], NOW);
        assert_eq!(check(stored(&own, None)), Ok(()));
        assert_eq!(check(stored(&other, Some(NOW))), Ok(()), "it has ended");
        assert_eq!(check(stored(&other, None)), Err(SecretProblem::Differs));
        let [one, two] = [(); 2].map(|()| stored(&own, None));
        let kid = one.kid.clone();
        let moved = StoredKey { private_key: two.private_key, ..one };
        assert_eq!(check(moved), Err(SecretProblem::Changed(kid)));
    }
}
