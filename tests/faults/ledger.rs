//! What a client remembers: of each tenant and each profile what an acknowledged write made of it, and what an
//! unanswered one may have made of it.
//!
//! Nothing is changed again after a change that was not answered: an unanswered request may be performed later, so
//! the order of the two would be unknown.

use std::collections::BTreeMap;
use std::sync::Mutex;

use uuid::Uuid;

/// The interface that a tenant was set up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Reten,
    Webfluss,
    Databunker,
    Control,
}

impl Dialect {
    pub(crate) const ALL: [Self; 4] =
        [Self::Reten, Self::Webfluss, Self::Databunker, Self::Control];

    /// Whether the same request can be sent again: it carries a key, or the id of an outside system.
    pub(crate) const fn is_repeatable(self) -> bool {
        matches!(self, Self::Reten | Self::Control)
    }

    /// Whether the tenant has an admin, who is created with it.
    pub(crate) const fn has_admin(self) -> bool {
        matches!(self, Self::Reten)
    }
}

/// How far a tenant's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Absent,
    Active,
    Deleting,
    Purged,
}

/// A state that was acknowledged, and one that a request without an answer may have made of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry<S> {
    pub(crate) certain: S,
    pub(crate) possible: Option<S>,
}

impl<S: PartialEq + Clone> Entry<S> {
    fn new(certain: S) -> Self {
        Self { certain, possible: None }
    }

    /// Whether the thing may be in this state.
    pub(crate) fn allows(&self, state: &S) -> bool {
        self.certain == *state || self.possible.as_ref() == Some(state)
    }

    fn ask(&mut self, state: S) {
        self.possible = Some(state);
    }

    fn confirm(&mut self) {
        if let Some(state) = self.possible.take() {
            self.certain = state;
        }
    }
}

/// A tenant that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) dialect: Dialect,
    pub(crate) id: Option<Uuid>,
    pub(crate) life: Entry<Life>,
    /// The profiles by address, each with the number that its last change wrote; `None` if there is none.
    pub(crate) profiles: BTreeMap<String, Entry<Option<u64>>>,
}

/// All that was asked for and acknowledged.
#[derive(Default)]
pub(crate) struct Ledger {
    tenants: Mutex<BTreeMap<String, Tenant>>,
    acknowledged: Mutex<usize>,
}

impl Ledger {
    fn with<T>(&self, slug: &str, change: impl FnOnce(&mut Tenant) -> T) -> T {
        let mut tenants = self.tenants.lock().expect("no thread panics while holding the lock");
        change(tenants.get_mut(slug).expect("a tenant is asked for before it is used"))
    }

    fn count_acknowledged(&self) {
        *self.acknowledged.lock().expect("no thread panics while holding the lock") += 1;
    }

    /// A set-up is about to be sent.
    pub(crate) fn ask_for_tenant(&self, slug: &str, dialect: Dialect) {
        let mut life = Entry::new(Life::Absent);
        life.ask(Life::Active);
        self.insert(slug, dialect, life);
    }

    /// A set-up is about to be sent in part, so that it cannot be performed.
    pub(crate) fn expect_no_tenant(&self, slug: &str, dialect: Dialect) {
        self.insert(slug, dialect, Entry::new(Life::Absent));
    }

    fn insert(&self, slug: &str, dialect: Dialect, life: Entry<Life>) {
        let tenant = Tenant { dialect, id: None, life, profiles: BTreeMap::new() };
        let mut tenants = self.tenants.lock().expect("no thread panics while holding the lock");
        assert!(tenants.insert(slug.to_owned(), tenant).is_none(), "{slug} is asked for once");
    }

    /// A change of a tenant's life is about to be sent.
    pub(crate) fn ask_life(&self, slug: &str, life: Life) {
        self.with(slug, |tenant| tenant.life.ask(life));
    }

    pub(crate) fn confirm_life(&self, slug: &str, id: Option<Uuid>) {
        self.count_acknowledged();
        self.with(slug, |tenant| {
            tenant.life.confirm();
            tenant.id = tenant.id.or(id);
        });
    }

    /// A change of a profile is about to be sent.
    pub(crate) fn ask_profile(&self, slug: &str, email: &str, value: Option<u64>) {
        self.with(slug, |tenant| {
            let entry = tenant.profiles.entry(email.to_owned()).or_insert(Entry::new(None));
            entry.ask(value);
        });
    }

    pub(crate) fn confirm_profile(&self, slug: &str, email: &str) {
        self.count_acknowledged();
        self.with(slug, |tenant| {
            tenant.profiles.get_mut(email).expect("a profile is asked for first").confirm();
        });
    }

    /// Returns what a profile was last known to be.
    pub(crate) fn profile(&self, slug: &str, email: &str) -> Entry<Option<u64>> {
        self.with(slug, |tenant| tenant.profiles[email].clone())
    }

    /// Returns how many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        *self.acknowledged.lock().expect("no thread panics while holding the lock")
    }

    /// Returns all tenants that were asked for, by slug.
    pub(crate) fn tenants(&self) -> BTreeMap<String, Tenant> {
        self.tenants.lock().expect("no thread panics while holding the lock").clone()
    }
}
