//! Owns the reasons why a schema and its role are not dropped.
//!
//! Promises: the sentences name objects of the database, for operators; an answer to a caller who may not know of them
//! shows the code alone.

/// The most objects that a sentence names.
const NAMED_MAX: usize = 50;

/// Why a schema and its role are not dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
pub enum PurgeProblem {
    /// Objects outside of the schema depend on it or belong to its role, and would be dropped with it.
    #[error("outside of {schema}, this depends on it or belongs to its role: {}", named(.objects))]
    #[strum(serialize = "tenant_has_dependents")]
    Dependents {
        /// The schema.
        schema: String,
        /// The objects, each with its kind, such as `view reports.notes`.
        objects: Vec<String>,
    },
    /// The role has rights or owns objects that cannot be removed from this database.
    #[error(
        "the role {role} cannot be dropped: {}. As a superuser, {}",
        .uses.join("; "), .remedies.join("; ")
    )]
    #[strum(serialize = "tenant_role_in_use")]
    RoleInUse {
        /// The role.
        role: String,
        /// What it is used by, such as `2 objects in database reports`.
        uses: Vec<String>,
        /// What frees it: the database and the statement to run there.
        remedies: Vec<String>,
    },
    /// The login that the server uses may not drop the schema or the role.
    #[error("the login {login} may not drop {what}; as a superuser, run: {statement}")]
    #[strum(serialize = "tenant_not_droppable")]
    NotPermitted {
        /// The login, quoted as an identifier.
        login: String,
        /// The schema or the role, with its kind.
        what: String,
        /// The statement that lets it.
        statement: String,
    },
}

impl PurgeProblem {
    /// Returns the stable code for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.into()
    }

    /// Returns the problem line by line: what is wrong, and then each object or use.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Dependents { schema, objects } => {
                let what =
                    format!("outside of {schema}, this depends on it or belongs to its role:");
                [what]
                    .into_iter()
                    .chain(objects.iter().map(|object| format!("  {object}")))
                    .collect()
            }
            Self::RoleInUse { role, uses, remedies } => {
                let what = format!("the role {role} cannot be dropped:");
                let uses = uses.iter().map(|found| format!("  {found}"));
                let remedies = remedies.iter().map(|remedy| format!("  as a superuser, {remedy}"));
                [what].into_iter().chain(uses).chain(remedies).collect()
            }
            Self::NotPermitted { login, what, statement } => vec![
                format!("the login {login} may not drop {what}:"),
                format!("  as a superuser, run: {statement}"),
            ],
        }
    }
}

fn named(objects: &[String]) -> String {
    let first = objects.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    match objects.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_a_limited_number_of_objects() {
        let objects = (0..NAMED_MAX + 2).map(|n| format!("view reports.v{n}")).collect();
        let problem = PurgeProblem::Dependents { schema: "tenant_a".to_owned(), objects };
        assert!(problem.to_string().ends_with("; view reports.v49; and 2 more"), "{problem}");
        assert_eq!(problem.lines().len(), NAMED_MAX + 3);
        assert_eq!(problem.code(), "tenant_has_dependents");
    }
}
