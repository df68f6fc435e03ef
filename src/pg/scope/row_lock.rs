//! The statements of a lock that is a row of `public.locks`. [`crate::pg::locks`] says what such a lock is for.

use crate::domain::names::SchemaName;

/// What a lock is on. Each has a row in `public.locks`.
#[derive(Debug, Clone, Copy)]
pub enum Lock<'a> {
    /// The chain of audit events: one transaction at a time seals events.
    AuditChain,
    /// The signing keys: one process creates the first.
    SigningKeys,
    /// The stock of vacancies: one process at a time changes it.
    Vacancies,
    /// The adoption of schemas that another tool made: one at a time.
    Adoption,
    /// The schema of a tenant or a vacancy: migrations, repairs and drops of it exclude each other.
    Schema(&'a SchemaName),
}

impl Lock<'_> {
    /// Returns the name of its row. Needs no quoting: a constant, or letters and digits of a [`SchemaName`].
    pub(in crate::pg) fn name(&self) -> &str {
        match self {
            Self::AuditChain => "audit chain",
            Self::SigningKeys => "signing keys",
            Self::Vacancies => "vacancies",
            Self::Adoption => "adoption",
            Self::Schema(schema) => schema.as_str(),
        }
    }

    /// Returns the statement that inserts its row if it is missing. Waits while another transaction inserts it.
    pub(in crate::pg) fn insert_sql(&self) -> String {
        format!(
            "INSERT INTO public.locks (name) VALUES ('{}') ON CONFLICT (name) DO NOTHING",
            self.name()
        )
    }

    /// Returns the query that locks its row until the transaction ends. Waits while another transaction has it
    /// locked. Returns the row's name; no row if it is missing, and then nothing is locked.
    pub(in crate::pg) fn select_sql(&self) -> String {
        format!("SELECT name FROM public.locks WHERE name = '{}' FOR UPDATE", self.name())
    }

    /// Returns the statement that deletes its row, for a schema that is dropped in the same transaction.
    pub(in crate::pg) fn delete_sql(&self) -> String {
        format!("DELETE FROM public.locks WHERE name = '{}'", self.name())
    }
}
