//! The exposures: what PostgreSQL leaves open to every role and the isolation of tenants needs closed, by the names
//! under which the settings accept them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use strum::VariantNames as _;

/// An exposure that an owner who is not a superuser may be unable to close. Its name is part of the settings and never
/// changes.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum ExposureName {
    /// `set_config`, the one function with which a query can change its own role and search path.
    SetConfig,
    /// The language `plpgsql`, in which a `DO` block runs.
    DoBlocks,
    /// Advisory locks that outlive the transaction.
    AdvisoryLocks,
    /// `table_to_xmlschema`, which locks a table without a privilege on it.
    TableLocks,
    /// Large objects, which are outside of every schema.
    LargeObjects,
    /// `pg_cancel_backend` and `pg_terminate_backend`.
    Signals,
    /// `setseed`, which determines the random numbers of the session.
    Setseed,
    /// Temporary tables, which outlive the transaction.
    TemporaryTables,
    /// The schema `public`, which holds the control plane.
    SchemaPublic,
    /// Creating objects in the schema `extensions`, which is in every tenant's search path.
    SchemaExtensions,
    /// Roles that the runtime login can become and that are no tenant's.
    RuntimeRoles,
    /// The functions of Citus that run a statement, on this node or on others, or change what belongs to another role.
    RemoteCommands,
}

impl ExposureName {
    /// Returns the name in the settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns all names, separated by commas.
    #[must_use]
    pub fn all() -> String {
        Self::VARIANTS.join(", ")
    }
}

impl fmt::Display for ExposureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Some exposures; in the settings a list of names, separated by commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposures(BTreeSet<ExposureName>);

impl Exposures {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, name: ExposureName) -> bool {
        self.0.contains(&name)
    }

    /// Returns them in the order of [`ExposureName`].
    pub fn iter(&self) -> impl Iterator<Item = ExposureName> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<ExposureName> for Exposures {
    fn from_iter<T: IntoIterator<Item = ExposureName>>(names: T) -> Self {
        Self(names.into_iter().collect())
    }
}

impl fmt::Display for Exposures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|name| name.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Exposures {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| {
                name.parse().map_err(|_unknown| {
                    format!(
                        "{name:?} is not the name of an exposure; the names are {}",
                        ExposureName::all()
                    )
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_read_and_written_alike() {
        let read: Exposures = " setseed, set_config ,".parse().expect("both are known");
        assert_eq!(read.to_string(), "set_config,setseed");
        assert_eq!(read.to_string().parse(), Ok(read));
        assert_eq!("".parse(), Ok(Exposures::default()));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_the_known_ones() {
        let error = "set_config,everything".parse::<Exposures>().unwrap_err();
        assert!(error.starts_with("\"everything\" is not the name of an exposure"), "{error}");
        assert!(error.contains("set_config, do_blocks, advisory_locks"), "{error}");
    }
}
