//! Owns the hashing of passwords (argon2id) and the comparison of one against a stored hash.
//!
//! Promises: never more than a fixed number of hashes at once in the whole process, nor more than a
//! fixed number of callers waiting for one; who comes later is told to come back. A hash takes tens of
//! megabytes and of milliseconds, and every actix worker has a blocking pool of its own, so the bound
//! cannot be left to the runtime. An unknown user costs the same work as a wrong password.
//!
//! Must not know: where a hash is stored, how many cores there are.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash;
use argon2::password_hash::phc::{self, Output, ParamsString, Salt};
use argon2::{Algorithm, Argon2, Block, RECOMMENDED_SALT_LEN, Version};
use tokio::sync::Semaphore;

use crate::domain::error::{Error, Result};
use crate::domain::names::Password;

/// What one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// Memory in KiB; at least 8 for each lane.
    pub memory_kib: u32,
    /// Passes over the memory; at least 1.
    pub iterations: u32,
    /// Lanes; at least 1.
    pub parallelism: u32,
}

impl Default for Params {
    /// The first choice of OWASP's password storage cheat sheet: some 30 ms.
    fn default() -> Self {
        Self { memory_kib: 19_456, iterations: 2, parallelism: 1 }
    }
}

impl Params {
    /// The cheapest that argon2 accepts (0.04 ms), where the hash is not what is being tested.
    #[must_use]
    pub const fn weakest_for_tests() -> Self {
        Self { memory_kib: 8, iterations: 1, parallelism: 1 }
    }
}

/// A hashed password as a PHC string: algorithm, parameters, salt and hash in one.
#[derive(Clone)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes what our own tables hold. Read when it is compared, not before.
    #[must_use]
    pub fn stored(phc: String) -> Self {
        Self(phc)
    }

    /// The PHC string, for storage and for nothing else.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts. A string without salt or hash is refused here, because argon2 would call it a wrong
    /// password.
    fn parts(&self) -> Result<phc::PasswordHash> {
        let parts = phc::PasswordHash::new(&self.0).map_err(|e| Error::internal(READ, e))?;
        if parts.salt.is_none() || parts.hash.is_none() {
            return Err(Error::internal(READ, phc::Error::MissingField));
        }
        Ok(parts)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(redacted)")
    }
}

const READ: &str = "read stored password hash";
const HASH: &str = "hash password";
const VERIFY: &str = "verify password";

/// Hashes and compares. Clones share one bound, so make one for the process and clone it.
#[derive(Clone)]
pub struct Hasher(Arc<Inner>);

struct Inner {
    argon2: Argon2<'static>,
    /// Stands in for the hash of a user who does not exist.
    dummy: phc::PasswordHash,
    concurrency: usize,
    room_size: usize,
    /// One permit for each hash that may be computed at the same time.
    running: Arc<Semaphore>,
    /// One permit for each caller inside, computing or waiting.
    room: Arc<Semaphore>,
    computed: AtomicU64,
    /// Memory to hash in, from one hash to the next: at most one piece for each that may run. Given back
    /// to the allocator, it would be kept once for each thread that has ever hashed, and blocking threads
    /// come and go: 700 MB after a hundred set-ups.
    memory: Mutex<Vec<Vec<Block>>>,
}

/// What the hasher is busy with, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Hashes being computed now, also those whose caller has gone.
    pub running: usize,
    /// Callers waiting for their turn.
    pub waiting: usize,
    /// Hashes computed since the start.
    pub computed: u64,
}

/// Why a caller was turned away, for the log.
#[derive(Debug, thiserror::Error)]
#[error("all {0} places for password hashing are taken")]
struct Full(usize);

impl Hasher {
    /// A hasher that computes at most `concurrency` hashes at once (as many as there are cores) and
    /// lets at most `queue` callers wait. A concurrency of 0 counts as 1.
    ///
    /// # Errors
    /// [`Error::Internal`] where argon2 refuses the parameters.
    pub fn new(params: Params, concurrency: usize, queue: usize) -> Result<Self> {
        const DURING: &str = "set up password hashing";
        let params =
            argon2::Params::new(params.memory_kib, params.iterations, params.parallelism, None)
                .map_err(|e| Error::internal(DURING, e))?;
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let room_size = concurrency.saturating_add(queue).min(Semaphore::MAX_PERMITS);
        Ok(Self(Arc::new(Inner {
            dummy: dummy(&params).map_err(|e| Error::internal(DURING, e))?,
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            concurrency,
            room_size,
            running: Arc::new(Semaphore::new(concurrency)),
            room: Arc::new(Semaphore::new(room_size)),
            computed: AtomicU64::new(0),
            memory: Mutex::default(),
        })))
    }

    /// Hashes a password under a fresh salt.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many wait already.
    pub async fn hash(&self, password: &Password) -> Result<PasswordHash> {
        let (hasher, password) = (self.clone(), password.clone());
        self.run(HASH, move || hasher.0.hash(password.expose().as_bytes()))
            .await?
            .map(|hash| PasswordHash(hash.to_string()))
            .map_err(|e| Error::internal(HASH, e))
    }

    /// Whether the password is the one that was hashed, with the parameters that it was hashed with.
    /// `None` is a user who does not exist: the same work with the parameters of today, then no.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many wait already, [`Error::Internal`] for a stored hash that
    /// cannot be read.
    pub async fn verify(&self, password: &Password, stored: Option<&PasswordHash>) -> Result<bool> {
        let known = stored.is_some();
        let hash = stored.map_or_else(|| Ok(self.0.dummy.clone()), PasswordHash::parts)?;
        let (hasher, password) = (self.clone(), password.clone());
        let verdict =
            self.run(VERIFY, move || hasher.0.verify(password.expose().as_bytes(), &hash));
        let matches = verdict.await?.map_err(|e| Error::internal(VERIFY, e))?;
        Ok(matches && known)
    }

    /// Whether a hash was made in another way than [`Hasher::hash`] would make it today. Asked after a
    /// good login, the one moment when the password is at hand to be hashed again.
    #[must_use]
    pub fn needs_rehash(&self, stored: &PasswordHash) -> bool {
        let Ok(hash) = stored.parts() else { return true };
        let Ok(params) = argon2::Params::try_from(&hash) else { return true };
        let cost = |p: &argon2::Params| (p.m_cost(), p.t_cost(), p.p_cost());
        let dummy = &self.0.dummy;
        cost(&params) != cost(self.0.argon2.params())
            || hash.algorithm != dummy.algorithm
            || hash.version != dummy.version
            || hash.hash.map(|h| h.len()) != dummy.hash.map(|h| h.len())
    }

    /// How busy it is.
    #[must_use]
    pub fn load(&self) -> Load {
        let inner = &self.0;
        let running = inner.concurrency.saturating_sub(inner.running.available_permits());
        let inside = inner.room_size.saturating_sub(inner.room.available_permits());
        Load {
            running,
            waiting: inside.saturating_sub(running),
            computed: inner.computed.load(Ordering::Relaxed),
        }
    }

    /// Runs the job off the async threads when its turn has come.
    ///
    /// Both permits go into the job: a caller who gives up while waiting frees its place at once, one
    /// who gives up later frees it when the work, which nobody can stop, is over.
    async fn run<T, F>(&self, during: &'static str, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let inner = &self.0;
        let Ok(place) = Arc::clone(&inner.room).try_acquire_owned() else {
            return Err(Error::unavailable(during, Full(inner.room_size)));
        };
        let turn = Arc::clone(&inner.running)
            .acquire_owned()
            .await
            .map_err(|e| Error::internal(during, e))?;
        let work = tokio::task::spawn_blocking(move || {
            // The place goes first: whoever is woken by the turn finds the place free already.
            let permits = (place, turn);
            let result = job();
            // Both before the caller hears of it, who may want to come in again.
            drop(permits);
            result
        });
        work.await.map_err(|e| Error::internal(during, e))
    }
}

impl Inner {
    fn hash(&self, password: &[u8]) -> password_hash::Result<phc::PasswordHash> {
        let mut salt = [0; RECOMMENDED_SALT_LEN];
        fill_randomly(&mut salt)?;
        let salt = Salt::new(&salt)?;
        let length = argon2::Params::DEFAULT_OUTPUT_LEN;
        let output = self.compute(&self.argon2, password, &salt, length)?;
        Ok(phc::PasswordHash { salt: Some(salt), hash: Some(output), ..self.dummy.clone() })
    }

    fn verify(&self, password: &[u8], stored: &phc::PasswordHash) -> password_hash::Result<bool> {
        let (Some(salt), Some(expected)) = (&stored.salt, &stored.hash) else { return Ok(false) };
        let algorithm = Algorithm::try_from(stored.algorithm.as_str())?;
        let version = stored.version.map_or(Ok(Version::default()), Version::try_from)?;
        let argon2 = Argon2::new(algorithm, version, argon2::Params::try_from(stored)?);
        // Outputs are compared in constant time.
        Ok(self.compute(&argon2, password, salt, expected.len())? == *expected)
    }

    /// Computes a hash in memory that was used before, where there is some.
    fn compute(
        &self,
        argon2: &Argon2<'_>,
        password: &[u8],
        salt: &[u8],
        length: usize,
    ) -> password_hash::Result<Output> {
        self.computed.fetch_add(1, Ordering::Relaxed);
        let spare = || self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = spare().pop().unwrap_or_default();
        let needed = argon2.params().block_count();
        if memory.len() < needed {
            memory.resize(needed, Block::new());
        }
        let mut output = [0; Output::MAX_LENGTH];
        let output = output.get_mut(..length).ok_or(password_hash::Error::OutputSize)?;
        let outcome = argon2.hash_password_into_with_memory(password, salt, output, &mut memory);
        // Not wiped, as argon2 does not wipe its own: who can read our memory reads the passwords, too.
        spare().push(memory);
        outcome?;
        Output::new(output).map_err(Into::into)
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("load", &self.load()).finish_non_exhaustive()
    }
}

/// A hash that no password is known to match, of the form that the parameters give. It is drawn, not
/// computed: to compare against it costs the same.
fn dummy(params: &argon2::Params) -> password_hash::Result<phc::PasswordHash> {
    let (mut salt, mut hash) = ([0; RECOMMENDED_SALT_LEN], [0; argon2::Params::DEFAULT_OUTPUT_LEN]);
    fill_randomly(&mut salt)?;
    fill_randomly(&mut hash)?;
    Ok(phc::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params)?,
        salt: Some(Salt::new(&salt)?),
        hash: Some(Output::new(&hash)?),
    })
}

fn fill_randomly(bytes: &mut [u8]) -> password_hash::Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_unspecified| password_hash::Error::RngFailure)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::time::Duration;

    use argon2::PasswordHasher;

    use super::*;

    fn hasher(concurrency: usize, queue: usize) -> Hasher {
        Hasher::new(Params::weakest_for_tests(), concurrency, queue).unwrap()
    }

    fn password(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    /// Waits for what must come, but not for ever.
    async fn soon<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), what).await.expect("it comes soon")
    }

    async fn until(hasher: &Hasher, reached: impl Fn(Load) -> bool) {
        soon(async {
            while !reached(hasher.load()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Takes one turn and keeps it until the sender is dropped.
    fn occupy(hasher: &Hasher) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<()>>) {
        let (release, released) = mpsc::channel::<()>();
        let hasher = hasher.clone();
        let caller = tokio::spawn(async move {
            hasher
                .run(HASH, move || {
                    let _ = released.recv();
                })
                .await
        });
        (release, caller)
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_and_no_other() {
        let hasher = hasher(2, 2);
        let (right, wrong) = (password("correct horse"), password("correct horsf"));
        let hash = hasher.hash(&right).await.unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{}", hash.as_str());
        let stored = PasswordHash::stored(hash.as_str().to_owned());
        assert!(hasher.verify(&right, Some(&stored)).await.unwrap());
        assert!(!hasher.verify(&wrong, Some(&stored)).await.unwrap());
        let again = hasher.hash(&right).await.unwrap();
        assert_ne!(again.as_str(), hash.as_str(), "each hash has a salt of its own");
    }

    #[tokio::test]
    async fn the_whole_password_counts_to_the_last_byte() {
        let hasher = hasher(1, 1);
        let (long, other) = ("x".repeat(1024), format!("{}y", "x".repeat(1023)));
        let hash = hasher.hash(&password(&long)).await.unwrap();
        assert!(hasher.verify(&password(&long), Some(&hash)).await.unwrap());
        assert!(!hasher.verify(&password(&other), Some(&hash)).await.unwrap());
    }

    #[tokio::test]
    async fn an_unknown_user_costs_the_same_work_as_a_wrong_password() {
        let params = Params { memory_kib: 64, iterations: 3, parallelism: 2 };
        let hasher = Hasher::new(params, 1, 1).unwrap();
        let known = hasher.hash(&password("correct horse")).await.unwrap();
        let given = password("wrong horse");

        let before = hasher.load().computed;
        assert!(!hasher.verify(&given, Some(&known)).await.unwrap());
        let for_known = hasher.load().computed - before;
        assert!(!hasher.verify(&given, None).await.unwrap());
        let for_unknown = hasher.load().computed - before - for_known;
        assert_eq!((for_known, for_unknown), (1, 1));

        let (known, dummy) = (known.parts().unwrap(), &hasher.0.dummy);
        assert_eq!(known.algorithm, dummy.algorithm);
        assert_eq!(known.version, dummy.version);
        assert_eq!(known.params, dummy.params);
        assert_eq!(known.salt.unwrap().len(), dummy.salt.unwrap().len());
        assert_eq!(known.hash.unwrap().len(), dummy.hash.unwrap().len());
    }

    #[tokio::test]
    async fn the_dummy_goes_through_argon2_and_its_verdict_is_not_believed() {
        let given = password("correct horse");
        let mut inner = Arc::into_inner(hasher(1, 1).0).unwrap();
        inner.dummy = inner.argon2.hash_password(given.expose().as_bytes()).unwrap();
        let matching = Hasher(Arc::new(inner));
        assert!(!matching.verify(&given, None).await.unwrap());

        let mut inner = Arc::into_inner(matching.0).unwrap();
        inner.dummy.version = Some(99);
        let broken = Hasher(Arc::new(inner));
        let error = broken.verify(&given, None).await.unwrap_err();
        assert!(matches!(error, Error::Internal { during: VERIFY, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_hash_made_with_other_parameters_still_verifies_and_wants_renewal() {
        let today = hasher(1, 1);
        let given = password("correct horse");
        let renewed = today.hash(&given).await.unwrap();
        assert!(!today.needs_rehash(&renewed));
        for params in [
            Params { memory_kib: 16, ..Params::weakest_for_tests() },
            Params { iterations: 2, ..Params::weakest_for_tests() },
            Params { memory_kib: 16, iterations: 1, parallelism: 2 },
        ] {
            let hash = Hasher::new(params, 1, 1).unwrap().hash(&given).await.unwrap();
            assert!(today.verify(&given, Some(&hash)).await.unwrap(), "{params:?}");
            assert!(!today.verify(&password("wrong horse"), Some(&hash)).await.unwrap());
            assert!(today.needs_rehash(&hash), "{params:?}");
        }
        for (algorithm, version) in
            [(Algorithm::Argon2i, Version::V0x13), (Algorithm::Argon2id, Version::V0x10)]
        {
            let foreign = Argon2::new(algorithm, version, today.0.argon2.params().clone());
            let hash = foreign.hash_password(given.expose().as_bytes()).unwrap().to_string();
            let hash = PasswordHash::stored(hash);
            assert!(today.verify(&given, Some(&hash)).await.unwrap());
            assert!(today.needs_rehash(&hash));
        }
    }

    #[tokio::test]
    async fn a_stored_hash_that_cannot_be_read_is_our_fault_and_no_wrong_password() {
        let hasher = hasher(1, 1);
        let given = password("correct horse");
        let whole = hasher.hash(&given).await.unwrap().as_str().to_owned();
        let (without_hash, _) = whole.rsplit_once('$').unwrap();
        let (without_salt, _) = without_hash.rsplit_once('$').unwrap();
        for broken in [
            "",
            "correct horse",
            "$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
            without_hash,
            without_salt,
            &whole.replace("argon2id", "argon2x"),
            &whole.replace("v=19", "v=99"),
            &whole.replace("m=8", "m=1"),
        ] {
            let stored = PasswordHash::stored(broken.to_owned());
            let verdict = hasher.verify(&given, Some(&stored)).await;
            assert!(matches!(verdict, Err(Error::Internal { .. })), "{broken:?}: {verdict:?}");
            assert!(hasher.needs_rehash(&stored), "{broken:?}");
        }
    }

    #[test]
    fn parameters_that_argon2_refuses_are_refused_at_the_start() {
        for params in [
            Params { memory_kib: 7, ..Params::weakest_for_tests() },
            Params { iterations: 0, ..Params::weakest_for_tests() },
            Params { parallelism: 0, ..Params::weakest_for_tests() },
            Params { parallelism: 2, ..Params::weakest_for_tests() },
        ] {
            assert!(matches!(Hasher::new(params, 1, 1), Err(Error::Internal { .. })), "{params:?}");
        }
        assert!(Hasher::new(Params::default(), usize::MAX, usize::MAX).is_ok());
    }

    /// As under actix, where every worker thread has a runtime and a blocking pool of its own.
    #[test]
    fn the_bound_holds_across_runtimes() {
        const WORKERS: usize = 8;
        let hasher = hasher(2, WORKERS);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let worker = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for _ in 0..10 {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                let job = move || {
                    let running = now.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(running, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(1));
                    now.fetch_sub(1, Ordering::SeqCst);
                };
                runtime.block_on(hasher.clone().run(HASH, job)).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(worker);
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 2, "both turns were used, and no third");
        assert_eq!(hasher.load(), Load { running: 0, waiting: 0, computed: 0 });
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_told_to_come_back() {
        let hasher = hasher(1, 1);
        let (release, first) = occupy(&hasher);
        until(&hasher, |load| load.running == 1).await;
        let waiter = hasher.clone();
        let second = tokio::spawn(async move { waiter.hash(&password("correct horse")).await });
        until(&hasher, |load| load.waiting == 1).await;

        let given = password("correct horse");
        for refused in
            [soon(hasher.hash(&given)).await.map(|_| true), soon(hasher.verify(&given, None)).await]
        {
            match refused {
                Err(Error::Unavailable { retry_after, .. }) => assert!(!retry_after.is_zero()),
                other => panic!("{other:?}"),
            }
        }

        drop(release);
        soon(first).await.unwrap().unwrap();
        soon(second).await.unwrap().unwrap();
        soon(hasher.hash(&given)).await.unwrap();
    }

    #[tokio::test]
    async fn a_caller_who_leaves_the_queue_gives_its_place_back() {
        let hasher = hasher(1, 1);
        let (release, first) = occupy(&hasher);
        until(&hasher, |load| load.running == 1).await;
        let (_unused, second) = occupy(&hasher);
        until(&hasher, |load| load.waiting == 1).await;
        second.abort();
        until(&hasher, |load| load.waiting == 0).await;

        let waiter = hasher.clone();
        let third = tokio::spawn(async move { waiter.hash(&password("correct horse")).await });
        until(&hasher, |load| load.waiting == 1).await;
        drop(release);
        soon(first).await.unwrap().unwrap();
        soon(third).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_caller_who_leaves_during_the_work_gives_its_turn_back_when_the_work_is_over() {
        let hasher = hasher(1, 1);
        let (release, first) = occupy(&hasher);
        until(&hasher, |load| load.running == 1).await;
        first.abort();
        assert!(soon(first).await.unwrap_err().is_cancelled());

        let waiter = hasher.clone();
        let second = tokio::spawn(async move { waiter.hash(&password("correct horse")).await });
        until(&hasher, |load| load.waiting == 1).await;
        assert_eq!(hasher.load().running, 1, "the work goes on, so its turn stays taken");
        assert_eq!(hasher.load().computed, 0);

        drop(release);
        soon(second).await.unwrap().unwrap();
        assert_eq!(hasher.load(), Load { running: 0, waiting: 0, computed: 1 });
    }

    #[tokio::test]
    async fn a_job_that_panics_gives_its_turn_back() {
        let hasher = hasher(1, 0);
        let error = hasher.run(HASH, || panic!("on purpose")).await.unwrap_err();
        assert!(matches!(error, Error::Internal { .. }), "{error:?}");
        soon(hasher.hash(&password("correct horse"))).await.unwrap();
    }

    #[tokio::test]
    async fn nothing_of_a_hash_is_printed() {
        let hasher = hasher(1, 0);
        let hash = hasher.hash(&password("correct horse")).await.unwrap();
        assert_eq!(format!("{hash:?}"), "PasswordHash(redacted)");
        assert!(!format!("{hasher:?}").contains("argon2"));
        let stored = PasswordHash::stored("$argon2id$v=19$secretsecret".to_owned());
        let error = hasher.verify(&password("correct horse"), Some(&stored)).await.unwrap_err();
        assert!(!format!("{error:?} {}", error.chain()).contains("secretsecret"));
    }
}
