//! What an examination found.

use crate::domain::names::{Slug, TenantId};
use crate::pg::bootstrap::privileges::Exposure;
use crate::pg::schema::repair::Repair;

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Area {
    /// What keeps tenants apart: roles, revokes, the self-test.
    Walls,
    /// Tables and what belongs to them.
    Structure,
    /// Owners, roles, grants.
    Rights,
    /// What was migrated, and what is recorded of it.
    History,
    /// What is nobody's.
    Orphans,
    /// What the server has room for.
    Capacity,
}

impl Area {
    /// A word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Gravity {
    /// Not as it should be.
    Wrong,
    /// Worth knowing before it becomes wrong.
    Warning,
}

impl Gravity {
    /// A word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Whose schema a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The tenant's name; none where there is no tenant.
    pub slug: Option<Slug>,
    /// The id in the name of the schema.
    pub id: TenantId,
}

/// What became of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It stands.
    Stands,
    /// It was put right.
    Mended,
    /// Putting it right failed, and nothing was changed.
    NotMended(String),
}

/// One thing that is not as it should be.
#[derive(Debug, Clone)]
pub struct Finding {
    /// About what.
    pub area: Area,
    /// How bad.
    pub gravity: Gravity,
    /// Whose.
    pub subject: Option<Subject>,
    /// What, in a sentence that is the same for each tenant that has it.
    pub what: String,
    /// What was found, where two definitions differ.
    pub is: Option<String>,
    /// What should stand there instead.
    pub should: Option<String>,
    /// What to do next.
    pub next: String,
    /// What became of it.
    pub outcome: Outcome,
    pub(super) remedy: Remedy,
}

/// What would put a finding right.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Remedy {
    /// Only a person.
    None,
    /// These statements about the schema's role, owners and rights.
    Mends(Vec<Repair>),
    /// The tenant's row is to say this version.
    Record(i32),
    /// This statement about everybody's rights.
    Close(Exposure),
    /// Dropping the schema that is nobody's.
    DropSchema,
    /// Dropping the role that is nobody's.
    DropRole,
}

/// All that was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// Tenants that were looked at.
    pub tenants: usize,
    /// Schemas in stock that were looked at.
    pub vacancies: usize,
    /// Sorted by what they are about and whom.
    pub findings: Vec<Finding>,
}

impl Finding {
    /// One that nothing was done about.
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
            outcome: Outcome::Stands,
            remedy: Remedy::None,
        }
    }

    pub(super) fn with_remedy(self, remedy: Remedy) -> Self {
        Self { remedy, ..self }
    }

    /// Whether [`Doctor::mend`](super::Doctor::mend) would put it right.
    #[must_use]
    pub fn is_mendable(&self) -> bool {
        self.remedy != Remedy::None
    }
}

impl Report {
    /// How many things are wrong and still so.
    #[must_use]
    pub fn wrong_count(&self) -> usize {
        let stands = |finding: &&Finding| finding.outcome != Outcome::Mended;
        self.findings.iter().filter(stands).filter(|f| f.gravity == Gravity::Wrong).count()
    }

    /// How many warnings stand.
    #[must_use]
    pub fn warning_count(&self) -> usize {
        let stands = |finding: &&Finding| finding.outcome != Outcome::Mended;
        self.findings.iter().filter(stands).filter(|f| f.gravity == Gravity::Warning).count()
    }

    /// How many things were put right.
    #[must_use]
    pub fn mended_count(&self) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == Outcome::Mended).count()
    }

    pub(super) fn sort(&mut self) {
        self.findings.sort_by(|a, b| {
            let key = |f: &Finding| (f.gravity, f.area, f.what.clone(), f.subject.clone());
            key(a).cmp(&key(b))
        });
    }
}
