//! The report of an examination.

use crate::domain::names::{Slug, TenantId};
use crate::pg::bootstrap::Exposure;
use crate::pg::rules::engine::Engine;
use crate::pg::schema::repair::Repair;

/// The area of a finding.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[strum(serialize_all = "lowercase")]
pub enum Area {
    /// Privileges that isolate tenants: roles, revokes, the self-test. The JSON of `doctor` has called it so from
    /// the start, and scripts read it.
    #[strum(serialize = "walls")]
    Privileges,
    /// Tables and their parts.
    Structure,
    /// Owners, roles, grants.
    Rights,
    /// Applied migrations and what is recorded of them.
    History,
    /// Schemas and roles that belong to no tenant.
    Orphans,
    /// Capacity of the server.
    Capacity,
    /// Tokens and API keys.
    Credentials,
}

impl Area {
    /// All words.
    pub const WORDS: &[&str] = <Self as strum::VariantNames>::VARIANTS;

    /// The word in text and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How serious a finding is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[strum(serialize_all = "lowercase")]
pub enum Gravity {
    /// Not as it should be.
    Wrong,
    /// It may become wrong.
    Warning,
}

impl Gravity {
    /// All words.
    pub const WORDS: &[&str] = <Self as strum::VariantNames>::VARIANTS;

    /// The word in text and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The tenant or vacancy that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The tenant's slug; `None` if there is no tenant.
    pub slug: Option<Slug>,
    /// The id in the name of the schema.
    pub id: TenantId,
}

/// What a repair did about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairOutcome {
    /// Nothing was done.
    Open,
    /// It was repaired.
    Repaired,
    /// The repair failed, and nothing was changed.
    Failed(String),
}

/// One thing that is not as it should be.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Its area.
    pub area: Area,
    /// How serious it is.
    pub gravity: Gravity,
    /// The tenant or vacancy, if it is about one.
    pub subject: Option<Subject>,
    /// What is wrong, in a sentence that is the same for each tenant with this finding.
    pub what: String,
    /// The definition that was found, if two definitions differ.
    pub is: Option<String>,
    /// The definition that should be there instead.
    pub should: Option<String>,
    /// What to do next.
    pub next: String,
    /// What a repair did about it.
    pub outcome: RepairOutcome,
    pub(super) remedy: Remedy,
}

/// What would repair a finding.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Remedy {
    /// Only a person can repair it.
    None,
    /// These statements on the schema's role, owners and rights.
    Repairs(Vec<Repair>),
    /// Recording this version in the tenant's row.
    Record(i32),
    /// This statement on the privileges of PUBLIC.
    Close(Exposure),
    /// Dropping the orphan schema.
    DropSchema,
    /// Dropping the orphan role.
    DropRole,
}

/// The result of an examination.
#[derive(Debug, Clone)]
pub struct Report {
    /// The engine of the database.
    pub engine: Engine,
    /// Tenants that were examined.
    pub tenants: usize,
    /// Vacancies that were examined.
    pub vacancies: usize,
    /// Sorted by gravity, area, sentence and tenant.
    pub findings: Vec<Finding>,
    /// How often each line of `drift.allow` was used.
    pub expected: Vec<ExpectedDriftUse>,
}

/// How often a line of `drift.allow` was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedDriftUse {
    /// The line, from 1.
    pub line: u64,
    /// Its text.
    pub text: String,
    /// How many differences it allowed.
    pub count: usize,
}

impl Finding {
    /// Returns a finding about which nothing was done.
    pub(super) fn new(
        area: Area,
        gravity: Gravity,
        subject: Option<&Subject>,
        what: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            area,
            gravity,
            subject: subject.cloned(),
            what: what.into(),
            is: None,
            should: None,
            next: next.into(),
            outcome: RepairOutcome::Open,
            remedy: Remedy::None,
        }
    }

    pub(super) fn with_remedy(self, remedy: Remedy) -> Self {
        Self { remedy, ..self }
    }

    /// Whether [`Doctor::repair`](super::Doctor::repair) would repair it.
    #[must_use]
    pub fn is_repairable(&self) -> bool {
        self.remedy != Remedy::None
    }
}

impl Report {
    /// How many findings of gravity *wrong* are not repaired.
    #[must_use]
    pub fn wrong_count(&self) -> usize {
        let is_open = |finding: &&Finding| finding.outcome != RepairOutcome::Repaired;
        self.findings.iter().filter(is_open).filter(|f| f.gravity == Gravity::Wrong).count()
    }

    /// How many warnings are not repaired.
    #[must_use]
    pub fn warning_count(&self) -> usize {
        let is_open = |finding: &&Finding| finding.outcome != RepairOutcome::Repaired;
        self.findings.iter().filter(is_open).filter(|f| f.gravity == Gravity::Warning).count()
    }

    /// How many findings were repaired.
    #[must_use]
    pub fn repaired_count(&self) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == RepairOutcome::Repaired).count()
    }

    pub(super) fn sort(&mut self) {
        self.findings.sort_by(|a, b| {
            let key = |f: &Finding| (f.gravity, f.area, f.what.clone(), f.subject.clone());
            key(a).cmp(&key(b))
        });
    }
}
