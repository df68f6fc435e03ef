//! Which routes a server has: the dialects of its settings, and what the tables of its tenants allow.

/// A group of routes with one form of requests and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::VariantArray)]
pub enum Dialect {
    /// The native routes below `/api`: log-in, tenants, API keys, the users of a tenant.
    Reten,
    /// Databunker Pro's routes below `/v1` and `/v2`: profiles of people.
    Databunker,
    /// The routes of `WebFluss`: `/api/tenants`.
    Webfluss,
    /// The routes for operators below `/control/v1`.
    Control,
}

/// The routes of ours that a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    dialects: [bool; <Dialect as strum::VariantArray>::VARIANTS.len()],
    profiles: bool,
    console: bool,
}

impl Served {
    /// All routes.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            dialects: [true; <Dialect as strum::VariantArray>::VARIANTS.len()],
            profiles: true,
            console: cfg!(feature = "console"),
        }
    }

    /// The routes of these dialects.
    #[must_use]
    pub fn of(dialects: &[Dialect]) -> Self {
        let mut served = Self { dialects: Default::default(), ..Self::all() };
        for dialect in dialects {
            served.dialects[*dialect as usize] = true;
        }
        served
    }

    /// The same routes, those that need the tables of profiles only if each tenant has them.
    #[must_use]
    pub const fn with_profiles(mut self, has_tables: bool) -> Self {
        self.profiles = has_tables;
        self
    }

    /// The same routes, those of the console only if it is enabled.
    #[must_use]
    pub const fn with_console(mut self, is_enabled: bool) -> Self {
        self.console = is_enabled && cfg!(feature = "console");
        self
    }

    /// Whether the pages of the console are served. They show what the control dialect answers, and need it.
    #[must_use]
    pub const fn has_console(&self) -> bool {
        self.console && self.has(Dialect::Control)
    }

    /// Whether the routes of a dialect are served.
    #[must_use]
    pub const fn has(&self, dialect: Dialect) -> bool {
        self.dialects[dialect as usize]
    }

    /// Whether the routes are served that need the tables of profiles.
    #[must_use]
    pub const fn has_profiles(&self) -> bool {
        self.profiles
    }
}
