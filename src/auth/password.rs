//! Owns the hashing of passwords (argon2id) and the comparison of one against a stored hash.
//!
//! Promises: the whole process computes at most a fixed number of hashes at once, and at most a fixed number of callers
//! wait for one; further callers are refused with [`Error::Unavailable`]. The clients that wait take turns ([`queue`]).
//! A hash takes tens of megabytes and tens of milliseconds, and every actix worker has a blocking pool of its own, so the
//! runtime cannot set this limit. An unknown user costs the same work as a wrong password.
//!
//! Must not know: where a hash is stored, how many cores there are.

mod queue;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash;
use argon2::password_hash::phc::{self, Output, ParamsString, Salt};
use argon2::{Algorithm, Argon2, Block, Version};

use self::queue::{Client, Queue};
use crate::auth::random;
use crate::domain::address::counted_as;
use crate::domain::error::{Error, Result};
use crate::domain::names::Password;

/// The cost of one hash.
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
    /// The first choice of OWASP's password storage cheat sheet: about 30 ms.
    fn default() -> Self {
        Self { memory_kib: 19_456, iterations: 2, parallelism: 1 }
    }
}

impl Params {
    /// The cheapest parameters that argon2 accepts (0.04 ms), for tests of other things.
    #[must_use]
    pub const fn weakest_for_tests() -> Self {
        Self { memory_kib: 8, iterations: 1, parallelism: 1 }
    }
}

/// A hashed password as a PHC string: algorithm, parameters, salt and hash in one.
#[derive(Clone)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Wraps a hash from our own tables. It is parsed when it is compared.
    #[must_use]
    pub fn stored(phc: String) -> Self {
        Self(phc)
    }

    /// Returns the PHC string, for storage only.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses the parts. A string without salt or hash is refused here, because argon2 would report a wrong password.
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

/// Hashes and compares passwords. Clones share one limit: create one hasher for the process and clone it.
#[derive(Clone)]
pub struct Hasher {
    inner: Arc<Inner>,
    client: Client,
}

struct Inner {
    argon2: Argon2<'static>,
    /// The dummy hash, compared against if the user does not exist.
    dummy: phc::PasswordHash,
    queue: Arc<Queue>,
    computed: AtomicU64,
    /// Memory that is reused from one hash to the next: at most one block for each hash that may run. Freed, the
    /// allocator would keep a block for each thread that has ever hashed, and blocking threads come and go: 700 MB
    /// after a hundred set-ups.
    memory: Mutex<Vec<Vec<Block>>>,
}

/// The load of the hasher, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Hashes that run now, including those whose caller has gone.
    pub running: usize,
    /// Callers that wait for their turn.
    pub waiting: usize,
    /// Hashes computed since the start.
    pub computed: u64,
}

impl Hasher {
    /// Creates a hasher that runs at most `concurrency` hashes at once (pass the number of cores) and lets at most
    /// `queue` callers wait. A concurrency of 0 counts as 1.
    ///
    /// # Errors
    /// [`Error::Internal`] if argon2 refuses the parameters.
    pub fn new(params: Params, concurrency: usize, queue: usize) -> Result<Self> {
        const DURING: &str = "set up password hashing";
        let params =
            argon2::Params::new(params.memory_kib, params.iterations, params.parallelism, None)
                .map_err(|e| Error::internal(DURING, e))?;
        let inner = Inner {
            dummy: dummy(&params).map_err(|e| Error::internal(DURING, e))?,
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            queue: Queue::new(concurrency, queue),
            computed: AtomicU64::new(0),
            memory: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner), client: None })
    }

    /// Returns the same hasher for the calls of a client, which take turns with those of other clients. Without an
    /// address they count as the server's own.
    #[must_use]
    pub fn for_client(&self, client: Option<IpAddr>) -> Self {
        Self { inner: Arc::clone(&self.inner), client: client.map(counted_as) }
    }

    /// Hashes a password with a new salt.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the queue is full.
    pub async fn hash(&self, password: &Password) -> Result<PasswordHash> {
        let (hasher, password) = (self.clone(), password.clone());
        self.run(HASH, move || hasher.inner.hash(password.expose().as_bytes()))
            .await?
            .map(|hash| PasswordHash(hash.to_string()))
            .map_err(|e| Error::internal(HASH, e))
    }

    /// Returns whether the password matches the hash, using the parameters in the hash. `None` stands for a user who
    /// does not exist: it costs the same work with the present parameters and returns false.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the queue is full, [`Error::Internal`] for a stored hash that cannot be parsed.
    pub async fn verify(&self, password: &Password, stored: Option<&PasswordHash>) -> Result<bool> {
        let known = stored.is_some();
        let hash = stored.map_or_else(|| Ok(self.inner.dummy.clone()), PasswordHash::parts)?;
        let (hasher, password) = (self.clone(), password.clone());
        let verdict =
            self.run(VERIFY, move || hasher.inner.verify(password.expose().as_bytes(), &hash));
        let matches = verdict.await?.map_err(|e| Error::internal(VERIFY, e))?;
        Ok(matches && known)
    }

    /// Returns whether a hash has other parameters than [`Hasher::hash`] uses now. Checked after a successful login,
    /// when the password is available for hashing it again.
    #[must_use]
    pub fn needs_rehash(&self, stored: &PasswordHash) -> bool {
        let Ok(hash) = stored.parts() else { return true };
        let Ok(params) = argon2::Params::try_from(&hash) else { return true };
        let cost = |p: &argon2::Params| (p.m_cost(), p.t_cost(), p.p_cost());
        let dummy = &self.inner.dummy;
        cost(&params) != cost(self.inner.argon2.params())
            || hash.algorithm != dummy.algorithm
            || hash.version != dummy.version
            || hash.hash.map(|h| h.len()) != dummy.hash.map(|h| h.len())
    }

    /// Returns the present load.
    #[must_use]
    pub fn load(&self) -> Load {
        let (running, waiting) = self.inner.queue.load();
        Load { running, waiting, computed: self.inner.computed.load(Ordering::Relaxed) }
    }

    /// Runs the job on a blocking thread once it is the caller's turn.
    ///
    /// The turn moves into the job: a caller that is cancelled while waiting frees its place at once; one that is
    /// cancelled later frees the turn when the hash, which cannot be stopped, is done.
    async fn run<T, F>(&self, during: &'static str, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let turn = self.inner.queue.turn(self.client).await;
        let turn = turn.map_err(|full| Error::unavailable(during, full))?;
        let work = tokio::task::spawn_blocking(move || {
            let turn = turn;
            let result = job();
            // Before the result is sent, since the caller may hash again at once.
            drop(turn);
            result
        });
        work.await.map_err(|e| Error::internal(during, e))
    }
}

impl Inner {
    fn hash(&self, password: &[u8]) -> password_hash::Result<phc::PasswordHash> {
        let salt = Salt::generate();
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

    /// Computes a hash in reused memory, if there is any.
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
        // Not wiped, as argon2 does not wipe its own: a reader of our memory reads the passwords, too.
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

/// Creates a random hash that no known password matches, in the form that the parameters give. Comparing against it
/// costs the same as against a computed one.
fn dummy(params: &argon2::Params) -> password_hash::Result<phc::PasswordHash> {
    let mut hash = [0; argon2::Params::DEFAULT_OUTPUT_LEN];
    random::fill(&mut hash);
    Ok(phc::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params)?,
        salt: Some(Salt::generate()),
        hash: Some(Output::new(&hash)?),
    })
}

#[cfg(test)]
mod tests;
