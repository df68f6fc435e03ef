//! Repairs what belongs to a tenant's schema but is not its structure: the role, its members, owners and
//! privileges.
//!
//! Besides the schema's own name, identifiers here come from the catalogs, quoted by the server, or from the
//! reference schema; none comes from a request.

use crate::domain::names::SchemaName;
use crate::pg::catalog::{BETWEEN_RIGHTS, Kind, Object, TENANT};
use crate::pg::error::Failure;
use crate::pg::rules::{RUNTIME_LOGIN, Rules};
use crate::pg::schema::ddl::{create_role, grant_to_runtime_login};
use crate::pg::scope::PublicTx;

/// One repair of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Create the role, and grant it to the runtime login.
    CreateRole,
    /// Remove these attributes of `CREATE ROLE`, comma-separated, from the role.
    RevokeAttributes(String),
    /// Grant the role to the runtime login.
    GrantToRuntimeLogin,
    /// Revoke the role from this member.
    RevokeMember(String),
    /// Revoke this other role from the tenant's role.
    RevokeMembership(String),
    /// Give an object to its right owner.
    SetOwner {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// The owner; `None` for the current user.
        owner: Option<String>,
    },
    /// Give a role exactly these privileges on an object.
    Grant {
        /// The object, in the form of [`Object::label`].
        on: String,
        /// The role, or `PUBLIC`.
        role: String,
        /// The privileges, in the form of [`Kind::Grant`]; empty for none.
        rights: String,
    },
    /// Give a role exactly these default privileges on future objects.
    DefaultGrant {
        /// The kind of object, in the form of [`Kind::DefaultGrant`]'s parent.
        on: String,
        /// The role, or `PUBLIC`.
        role: String,
        /// The privileges, in the form of [`Kind::DefaultGrant`]; empty for none.
        rights: String,
    },
}

impl Repair {
    /// Where it stands among the repairs of one transaction: privileges on the schema need the role, and a new owner of an
    /// object needs them.
    fn place(&self) -> u8 {
        match self {
            Self::CreateRole => 0,
            Self::SetOwner { kind: Kind::Schema, .. } => 1,
            Self::Grant { on, .. } if !on.contains(' ') => 2,
            _ => 3,
        }
    }

    /// Whether it needs the rights of the present owner of an object, or of the role whose future objects it is about.
    fn is_of_an_owner(&self) -> bool {
        matches!(self, Self::SetOwner { .. } | Self::DefaultGrant { .. } | Self::Grant { .. })
    }

    /// Whether it blocks the tenant's queries until its transaction ends. A change of owner takes an exclusive lock;
    /// grants and roles do not block queries.
    #[must_use]
    pub fn takes_exclusive_lock(&self) -> bool {
        matches!(self, Self::SetOwner { .. })
    }
}

/// Applies repairs to some schemas, in one round trip after what it reads.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted.
pub async fn apply(
    tx: &PublicTx,
    repairs: &[(SchemaName, Vec<Repair>)],
    rules: &Rules,
    server_version: u32,
) -> Result<(), Failure> {
    let mut in_order: Vec<_> = repairs
        .iter()
        .flat_map(|(schema, repairs)| repairs.iter().map(move |repair| (schema, repair)))
        .collect();
    in_order.sort_by_key(|(_, repair)| repair.place());
    let mut all: Vec<String> = in_order
        .into_iter()
        .flat_map(|(schema, repair)| statements(repair, schema, rules, server_version))
        .collect();
    let of_owners =
        repairs.iter().filter(|(_, repairs)| repairs.iter().any(Repair::is_of_an_owner));
    let schemas: Vec<String> = of_owners.map(|(schema, _)| schema.to_string()).collect();
    if !schemas.is_empty() {
        for row in tx.query(OTHER_OWNERS, &[&schemas]).await? {
            let role: &str = row.get("role");
            all.insert(0, format!("GRANT {role} TO CURRENT_USER"));
            all.push(format!("REVOKE {role} FROM CURRENT_USER"));
        }
    }
    tx.batch(&all.join(";\n")).await
}

/// Selects the roles that own something in some schemas, or give privileges on their future objects there, and whose
/// rights the login does not have. An owner that is not a superuser may grant them to itself for the time of a repair, if it
/// created them.
const OTHER_OWNERS: &str = "
    SELECT quote_ident(r.rolname) AS role
      FROM pg_catalog.pg_roles r
     WHERE NOT pg_has_role(r.oid, 'USAGE') AND NOT r.rolsuper
       AND (SELECT rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user)
       AND (current_setting('server_version_num')::int4 < 160000
            OR pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION'))
       AND r.oid IN (
           SELECT nspowner FROM pg_catalog.pg_namespace WHERE nspname = ANY ($1)
            UNION ALL
           SELECT c.relowner FROM pg_catalog.pg_namespace n
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid WHERE nspname = ANY ($1)
            UNION ALL
           SELECT p.proowner FROM pg_catalog.pg_namespace n
             JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid
            WHERE nspname = ANY ($1) AND NOT EXISTS (
                  SELECT FROM pg_catalog.pg_depend d
                   WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
            UNION ALL
           SELECT t.typowner FROM pg_catalog.pg_namespace n
             JOIN pg_catalog.pg_type t ON t.typnamespace = n.oid WHERE nspname = ANY ($1)
            UNION ALL
           SELECT d.defaclrole FROM pg_catalog.pg_namespace n
             JOIN pg_catalog.pg_default_acl d ON d.defaclnamespace = n.oid WHERE nspname = ANY ($1))
     ORDER BY 1";

fn statements(
    repair: &Repair,
    schema: &SchemaName,
    rules: &Rules,
    server_version: u32,
) -> Vec<String> {
    match repair {
        Repair::CreateRole => create_role(schema, rules, server_version).into(),
        Repair::RevokeAttributes(attributes) => {
            let words: Vec<String> =
                attributes.split(", ").map(|word| format!("NO{word}")).collect();
            vec![format!("ALTER ROLE {schema} {}", words.join(" "))]
        }
        // Revoked first, so that additional options of the grant are removed.
        Repair::GrantToRuntimeLogin => {
            vec![
                rules.only_here(&format!("REVOKE {schema} FROM {RUNTIME_LOGIN}")),
                grant_to_runtime_login(schema, rules, server_version),
            ]
        }
        Repair::RevokeMember(member) => vec![format!("REVOKE {schema} FROM {member} CASCADE")],
        Repair::RevokeMembership(role) => vec![format!("REVOKE {role} FROM {schema} CASCADE")],
        Repair::SetOwner { kind, name, owner } => {
            let (word, owner) = (kind.as_str().to_uppercase(), owner.as_deref());
            let name = full_name(*kind, name, schema);
            vec![format!("ALTER {word} {name} OWNER TO {}", owner.unwrap_or("CURRENT_USER"))]
        }
        Repair::Grant { on, role, rights } => {
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
        Repair::DefaultGrant { on, role, rights } => {
            let (what, of) = on.split_once(" of ").unwrap_or((on, "CURRENT_USER"));
            let before = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {of} IN SCHEMA {schema} ");
            regrant(&before, &format!("ON {}", what.to_uppercase()), role, rights, schema)
        }
    }
}

/// Revokes all privileges, including those that the role granted to others, and grants the expected ones: first
/// the plain ones, then those with grant option.
fn regrant(before: &str, on: &str, role: &str, rights: &str, schema: &SchemaName) -> Vec<String> {
    let role = role.replace(TENANT, schema.as_str());
    let mut statements = vec![format!("{before}REVOKE ALL {on} FROM {role} CASCADE")];
    let rights: Vec<&str> = rights.split(BETWEEN_RIGHTS).filter(|r| !r.is_empty()).collect();
    let (grantable, plain): (Vec<&str>, Vec<&str>) =
        rights.into_iter().partition(|right| right.ends_with('*'));
    if !plain.is_empty() {
        statements.push(format!("{before}GRANT {} {on} TO {role}", plain.join(", ")));
    }
    if !grantable.is_empty() {
        let rights: Vec<&str> = grantable.iter().map(|right| right.trim_end_matches('*')).collect();
        let rights = rights.join(", ");
        statements.push(format!("{before}GRANT {rights} {on} TO {role} WITH GRANT OPTION"));
    }
    statements
}

/// The qualified name of an object.
fn full_name(kind: Kind, name: &str, schema: &SchemaName) -> String {
    match kind {
        Kind::Schema => schema.to_string(),
        _ => format!("{schema}.{}", name.replace(TENANT, schema.as_str())),
    }
}

/// Whether the object has an owner. The owner is then its first property.
#[must_use]
pub fn has_owner(object: &Object) -> bool {
    object.kind.properties().first() == Some(&"owner")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::names::TenantId;
    use crate::pg::rules::engine::Engine;
    use crate::pg::rules::{Isolation, Statements, TimeLimits};

    fn rules(engine: Engine) -> Rules {
        let limits = TimeLimits::default();
        Rules { engine, ..Rules::new(Isolation::Role, Statements::Unnamed, limits) }
    }

    #[test]
    fn on_a_cluster_the_runtime_login_gets_a_role_on_the_coordinator_alone() {
        let schema = SchemaName::of(TenantId::new(uuid::Uuid::nil()));
        let citus = rules(Engine::Citus { is_forced: false });
        let grant = format!("GRANT {schema} TO rowhouse_runtime");
        let here = format!(
            "SET LOCAL citus.enable_ddl_propagation = off; {grant}; SET LOCAL citus.enable_ddl_propagation = on"
        );
        let made = |rules: &Rules| statements(&Repair::CreateRole, &schema, rules, 150_000);
        assert_eq!(made(&citus), [format!("CREATE ROLE {schema} LOGIN NOINHERIT"), here]);
        let plain = [format!("CREATE ROLE {schema} NOLOGIN NOINHERIT"), grant.clone()];
        assert_eq!(made(&rules(Engine::Postgres)), plain);
        // What reaches no node anyway is not let out.
        let trial = Rules { ddl_is_local: true, ..citus };
        assert_eq!(made(&trial)[1], grant);
    }

    #[test]
    fn privileges_are_revoked_and_granted_again_with_grant_options_apart() {
        let schema = SchemaName::of(TenantId::new(uuid::Uuid::nil()));
        let repair = Repair::Grant {
            on: "materialized view \"a b\"".to_owned(),
            role: TENANT.to_owned(),
            rights: "INSERT*\u{1e}SELECT\u{1e}UPDATE (a)".to_owned(),
        };
        let on = format!("ON TABLE {schema}.\"a b\"");
        assert_eq!(
            statements(&repair, &schema, &rules(Engine::Postgres), 150_000),
            [
                format!("REVOKE ALL {on} FROM {schema} CASCADE"),
                format!("GRANT SELECT, UPDATE (a) {on} TO {schema}"),
                format!("GRANT INSERT {on} TO {schema} WITH GRANT OPTION"),
            ]
        );
        let repair = Repair::DefaultGrant {
            on: "tables of alice".to_owned(),
            role: "PUBLIC".to_owned(),
            rights: String::new(),
        };
        assert_eq!(
            statements(&repair, &schema, &rules(Engine::Postgres), 150_000),
            [format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE alice IN SCHEMA {schema} REVOKE ALL ON TABLES FROM PUBLIC CASCADE"
            )]
        );
    }
}
