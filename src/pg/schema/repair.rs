//! Puts right what belongs to a tenant's schema without being its structure: the role, who may become it,
//! owners, rights; and drops what is nobody's.
//!
//! Beside the schema's own name, identifiers here come from the catalogs, quoted by the server, or from a
//! schema of our building that was just compared with; none comes from a request.

use crate::domain::names::SchemaName;
use crate::pg::catalog::{BETWEEN_RIGHTS, Kind, Object, TENANT};
use crate::pg::error::Failure;
use crate::pg::rules::RUNTIME_LOGIN;
use crate::pg::schema::ddl::let_in;
use crate::pg::scope::PublicTx;

/// One thing to put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend {
    /// Make the role, and let the runtime login become it.
    MakeRole,
    /// Take these attributes from the role: words of `CREATE ROLE`.
    WeakenRole(String),
    /// Let the runtime login become the role.
    LetIn,
    /// Let nobody of this name become the role.
    Expel(String),
    /// Take the role out of the one of this name.
    Leave(String),
    /// Make us the owner of an object.
    Own(Kind, String),
    /// Give a role these rights on an object and no others. `on` is the object as [`Object::label`] says it.
    Grant {
        /// The object.
        on: String,
        /// The role, or `PUBLIC`.
        role: String,
        /// As [`Kind::Grant`] tells them; empty for none.
        rights: String,
    },
    /// Give a role these rights on what will be made, and no others.
    DefaultGrant {
        /// Of what, as [`Kind::DefaultGrant`] names its parent.
        on: String,
        /// The role, or `PUBLIC`.
        role: String,
        /// As [`Kind::DefaultGrant`] tells them; empty for none.
        rights: String,
    },
}

impl Mend {
    /// Whether it locks out those who work in the schema until its transaction ends. A new owner does; rights
    /// and roles change beside them.
    #[must_use]
    pub fn locks_out(&self) -> bool {
        matches!(self, Self::Own(..))
    }
}

/// Puts things right in some schemas, in this order and in one round trip.
///
/// # Errors
/// [`Failure`], and the transaction is lost.
pub async fn apply(
    tx: &PublicTx,
    mends: &[(SchemaName, Vec<Mend>)],
    server_version: u32,
) -> Result<(), Failure> {
    let statements: Vec<String> = mends
        .iter()
        .flat_map(|(schema, mends)| mends.iter().map(move |mend| (schema, mend)))
        .flat_map(|(schema, mend)| statements(mend, schema, server_version))
        .collect();
    tx.batch(&statements.join(";\n")).await
}

fn statements(mend: &Mend, schema: &SchemaName, server_version: u32) -> Vec<String> {
    match mend {
        Mend::MakeRole => {
            let role = format!("CREATE ROLE {schema} NOLOGIN NOINHERIT");
            vec![role, let_in(schema, server_version)]
        }
        Mend::WeakenRole(attributes) => {
            let words: Vec<String> =
                attributes.split(", ").map(|word| format!("NO{word}")).collect();
            vec![format!("ALTER ROLE {schema} {}", words.join(" "))]
        }
        // Given anew, so that options that somebody added are gone.
        Mend::LetIn => {
            vec![format!("REVOKE {schema} FROM {RUNTIME_LOGIN}"), let_in(schema, server_version)]
        }
        Mend::Expel(member) => vec![format!("REVOKE {schema} FROM {member} CASCADE")],
        Mend::Leave(role) => vec![format!("REVOKE {role} FROM {schema} CASCADE")],
        Mend::Own(kind, name) => {
            let word = kind.as_str().to_uppercase();
            vec![format!("ALTER {word} {} OWNER TO CURRENT_USER", place(*kind, name, schema))]
        }
        Mend::Grant { on, role, rights } => {
            let on = match on.split_once(' ') {
                None => format!("ON SCHEMA {schema}"),
                Some(("materialized", view)) => {
                    let name = view.trim_start_matches("view ");
                    format!("ON TABLE {schema}.{name}")
                }
                Some(("table" | "view", name)) => format!("ON TABLE {schema}.{name}"),
                Some((kind, name)) => {
                    let name = name.replace(TENANT, schema.as_str());
                    format!("ON {} {schema}.{name}", kind.to_uppercase())
                }
            };
            regrant("", &on, role, rights, schema)
        }
        Mend::DefaultGrant { on, role, rights } => {
            let (what, of) = on.split_once(" of ").unwrap_or((on, "CURRENT_USER"));
            let before = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {of} IN SCHEMA {schema} ");
            regrant(&before, &format!("ON {}", what.to_uppercase()), role, rights, schema)
        }
    }
}

/// Takes all rights away, with those that were handed on, and gives back those that should be: first the plain
/// ones, then those that the role may hand on.
fn regrant(before: &str, on: &str, role: &str, rights: &str, schema: &SchemaName) -> Vec<String> {
    let role = role.replace(TENANT, schema.as_str());
    let mut statements = vec![format!("{before}REVOKE ALL {on} FROM {role} CASCADE")];
    let rights: Vec<&str> = rights.split(BETWEEN_RIGHTS).filter(|r| !r.is_empty()).collect();
    let (to_hand_on, plain): (Vec<&str>, Vec<&str>) =
        rights.into_iter().partition(|right| right.ends_with('*'));
    if !plain.is_empty() {
        statements.push(format!("{before}GRANT {} {on} TO {role}", plain.join(", ")));
    }
    if !to_hand_on.is_empty() {
        let rights: Vec<&str> =
            to_hand_on.iter().map(|right| right.trim_end_matches('*')).collect();
        let rights = rights.join(", ");
        statements.push(format!("{before}GRANT {rights} {on} TO {role} WITH GRANT OPTION"));
    }
    statements
}

/// The full name of an object.
fn place(kind: Kind, name: &str, schema: &SchemaName) -> String {
    match kind {
        Kind::Schema => schema.to_string(),
        _ => format!("{schema}.{}", name.replace(TENANT, schema.as_str())),
    }
}

/// Whether an owner can be set for such an object, which is then its first property.
#[must_use]
pub fn has_owner(object: &Object) -> bool {
    object.kind.properties().first() == Some(&"owner")
}

/// Drops what is left of a schema that is nobody's, and the role of that name, each where there is one. The
/// caller has looked that it is nobody's, in this transaction.
///
/// # Errors
/// [`Failure`], and the transaction is lost.
pub async fn drop_orphan(tx: &PublicTx, schema: &SchemaName) -> Result<(), Failure> {
    let there = "SELECT to_regnamespace($1) IS NOT NULL AS has_schema,
                        to_regrole($1) IS NOT NULL AS has_role";
    let there = tx.query_one(there, &[&schema.as_str()]).await?;
    let mut statements = Vec::new();
    if there.get("has_schema") {
        statements.push(format!("DROP SCHEMA {schema} CASCADE"));
    }
    if there.get("has_role") {
        statements.push(format!("DROP OWNED BY {schema} CASCADE; DROP ROLE {schema}"));
    }
    tx.batch(&statements.join("; ")).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::names::TenantId;

    #[test]
    fn rights_are_taken_away_and_given_back_with_those_to_hand_on_apart() {
        let schema = SchemaName::of(TenantId::new(uuid::Uuid::nil()));
        let mend = Mend::Grant {
            on: "materialized view \"a b\"".to_owned(),
            role: TENANT.to_owned(),
            rights: "INSERT*\u{1e}SELECT\u{1e}UPDATE (a)".to_owned(),
        };
        let on = format!("ON TABLE {schema}.\"a b\"");
        assert_eq!(
            statements(&mend, &schema, 150_000),
            [
                format!("REVOKE ALL {on} FROM {schema} CASCADE"),
                format!("GRANT SELECT, UPDATE (a) {on} TO {schema}"),
                format!("GRANT INSERT {on} TO {schema} WITH GRANT OPTION"),
            ]
        );
        let mend = Mend::DefaultGrant {
            on: "tables of alice".to_owned(),
            role: "PUBLIC".to_owned(),
            rights: String::new(),
        };
        assert_eq!(
            statements(&mend, &schema, 150_000),
            [format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE alice IN SCHEMA {schema} REVOKE ALL ON TABLES FROM PUBLIC CASCADE"
            )]
        );
    }
}
