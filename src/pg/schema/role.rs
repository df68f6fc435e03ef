//! Removes a tenant's role, and tells what keeps it from being removed before a drop destroys anything.
//!
//! Roles belong to the server and not to the database, and an owner that is not a superuser may not drop every role. So a
//! drop asks first ([`free`]) and removes the role last ([`remove`]): what the first found to be possible stays so, unless
//! another session changes it in between.

use super::dependents::DropError;
use crate::domain::names::SchemaName;
use crate::domain::purge::PurgeProblem;
use crate::pg::error::Failure;
use crate::pg::scope::PublicTx;

/// What became of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleOutcome {
    /// There is no such role any more.
    Gone,
    /// It has nothing in this database any more, and stays because it has rights in these.
    KeptFor(Vec<String>),
}

/// What the login may do with a schema and a role.
const FACTS: &str = "
    SELECT quote_ident(current_user) AS login, role.oid IS NOT NULL AS has_role,
           coalesce(role.rolsuper AND NOT me.rolsuper, false) AS is_superuser,
           me.rolsuper OR me.rolcreaterole AS may_create_roles,
           -- Before PostgreSQL 16 a login that may create roles may drop each that is not a superuser.
           me.rolsuper OR current_setting('server_version_num')::int4 < 160000 OR role.oid IS NULL
               OR pg_has_role(role.oid, 'MEMBER WITH ADMIN OPTION') AS has_admin,
           (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace
             WHERE nspname = $1) IS NOT FALSE AS owns_schema,
           -- The owner of a schema may drop what others have in it, but a node of Citus lets only the owner drop a table.
           (SELECT format('%I.%I', n.nspname, c.relname)
              FROM pg_catalog.pg_extension e
             CROSS JOIN pg_catalog.pg_namespace n
              JOIN pg_catalog.pg_depend d
                ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
               AND d.classid = 'pg_catalog.pg_class'::regclass
              JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'p')
             WHERE e.extname = 'citus' AND n.nspname = $1 AND NOT pg_has_role(c.relowner, 'USAGE')
             ORDER BY c.relname LIMIT 1) AS table_of_another
      FROM pg_catalog.pg_roles me
      LEFT JOIN pg_catalog.pg_roles role ON role.rolname = $1
     WHERE me.rolname = current_user";

/// What a role is used by that a `DROP OWNED` in this database does not remove: objects in other databases, by
/// database, and databases or tablespaces that it owns. The words are those of PostgreSQL's own message.
const USES_ELSEWHERE: &str = "
    SELECT CASE WHEN described IS NULL THEN quote_ident(datname) END AS database,
           coalesce('owner of ' || described,
                    count(*) || CASE count(*) WHEN 1 THEN ' object' ELSE ' objects' END
                        || ' in database ' || quote_ident(datname)) AS use,
           shared, bool_or(deptype = 'o') AS is_owner, quote_ident(current_user) AS new_owner
      FROM (SELECT d.datname, s.deptype,
                   CASE WHEN s.dbid = 0 THEN pg_describe_object(s.classid, s.objid, s.objsubid) END AS described,
                   CASE WHEN s.dbid = 0 THEN (SELECT upper(type) || ' ' || identity
                                                FROM pg_identify_object(s.classid, s.objid, s.objsubid)) END AS shared
              FROM pg_catalog.pg_roles r
              JOIN pg_catalog.pg_shdepend s
                ON s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.refobjid = r.oid
              LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid
             WHERE r.rolname = $1
               AND ((s.dbid = 0 AND s.deptype = 'o') OR d.datname <> current_database())) used
     GROUP BY described, shared, datname
     ORDER BY 1, 2";

/// What a role has in this database outside of the schema of its name, and its rights on databases, tablespaces and
/// parameters.
const USES_OUTSIDE: &str = "
    SELECT pg_describe_object(s.classid, s.objid, s.objsubid) AS object
      FROM pg_catalog.pg_roles r
      JOIN pg_catalog.pg_shdepend s ON s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.refobjid = r.oid
     WHERE r.rolname = $1
       -- As a bigint, which no index has: that of the database would read what the roles of all tenants have.
       AND (s.dbid::bigint = (SELECT oid::bigint FROM pg_catalog.pg_database WHERE datname = current_database())
            OR (s.dbid = 0 AND s.deptype = 'a'
                AND s.classid IN ('pg_catalog.pg_database'::regclass, 'pg_catalog.pg_tablespace'::regclass,
                                  'pg_catalog.pg_parameter_acl'::regclass)))
       AND CASE s.classid
           WHEN 'pg_catalog.pg_namespace'::regclass THEN s.objid
           WHEN 'pg_catalog.pg_class'::regclass
               THEN (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = s.objid)
           WHEN 'pg_catalog.pg_type'::regclass
               THEN (SELECT typnamespace FROM pg_catalog.pg_type WHERE oid = s.objid)
           WHEN 'pg_catalog.pg_proc'::regclass
               THEN (SELECT pronamespace FROM pg_catalog.pg_proc WHERE oid = s.objid)
           WHEN 'pg_catalog.pg_policy'::regclass
               THEN (SELECT c.relnamespace FROM pg_catalog.pg_policy p
                       JOIN pg_catalog.pg_class c ON c.oid = p.polrelid WHERE p.oid = s.objid)
           WHEN 'pg_catalog.pg_default_acl'::regclass
               THEN (SELECT defaclnamespace FROM pg_catalog.pg_default_acl WHERE oid = s.objid)
           ELSE (SELECT n.oid FROM pg_catalog.pg_identify_object(s.classid, s.objid, s.objsubid) o
                   JOIN pg_catalog.pg_namespace n ON quote_ident(n.nspname) = o.schema)
           END IS DISTINCT FROM (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1)
     ORDER BY 1";

/// Makes sure that a drop of the schema can end with a drop of the role of its name, and takes away what the role has in
/// this database outside of the schema. The caller has checked what it owns there.
///
/// # Errors
/// [`DropError::Stopped`] with what this login may not drop, and the statement that helps; the transaction is then to be
/// rolled back.
pub(super) async fn free(tx: &PublicTx, schema: &SchemaName) -> Result<(), DropError> {
    require_permitted(tx, schema).await?;
    databases_in_use(tx, schema).await?;
    if uses_outside(tx, schema).await?.is_empty() {
        return Ok(());
    }
    let freed = format!(
        "GRANT {schema} TO CURRENT_USER; DROP OWNED BY {schema} CASCADE; REVOKE {schema} FROM CURRENT_USER"
    );
    tx.batch(&freed).await.map_err(|failure| explain(failure, schema))?;
    // Of a right that this login may not revoke, the server only warns.
    let uses = uses_outside(tx, schema).await?;
    if uses.is_empty() { Ok(()) } else { Err(in_use_here(schema, uses).into()) }
}

/// Drops the role if it exists, or what it has in this database if another one needs it. Its schema is gone.
///
/// `DROP OWNED` needs the privileges of the role, which an owner that is not a superuser does not have of a role that it
/// created. It may grant them to itself, until the end of the same transaction.
///
/// # Errors
/// [`DropError`]; the transaction is then to be rolled back.
pub(super) async fn remove(tx: &PublicTx, schema: &SchemaName) -> Result<RoleOutcome, DropError> {
    if !require_permitted(tx, schema).await? {
        return Ok(RoleOutcome::Gone);
    }
    let databases = databases_in_use(tx, schema).await?;
    let end = if databases.is_empty() {
        format!("DROP ROLE {schema}")
    } else {
        format!("REVOKE {schema} FROM CURRENT_USER")
    };
    let removed = format!("GRANT {schema} TO CURRENT_USER; DROP OWNED BY {schema} CASCADE; {end}");
    tx.batch(&removed).await.map_err(|failure| explain(failure, schema))?;
    Ok(if databases.is_empty() { RoleOutcome::Gone } else { RoleOutcome::KeptFor(databases) })
}

/// Fails if the login may not drop the schema or the role; returns whether there is such a role.
async fn require_permitted(tx: &PublicTx, schema: &SchemaName) -> Result<bool, DropError> {
    let facts = tx.query_one(FACTS, &[&schema.as_str()]).await?;
    let login: String = facts.get("login");
    let has_role: bool = facts.get("has_role");
    let is = |fact: &str| facts.get::<_, bool>(fact);
    let of_another: Option<&str> = facts.get("table_of_another");
    let (what, statement) = if !is("owns_schema") {
        ("schema", format!("ALTER SCHEMA {schema} OWNER TO {login}"))
    } else if let Some(table) = of_another {
        let statement = format!("ALTER TABLE {table} OWNER TO {login}");
        let what = format!("the table {table}");
        return Err(PurgeProblem::NotPermitted { login, what, statement }.into());
    } else if !has_role {
        return Ok(false);
    } else if is("is_superuser") {
        ("role", format!("ALTER ROLE {schema} NOSUPERUSER"))
    } else if !is("may_create_roles") {
        ("role", format!("ALTER ROLE {login} CREATEROLE"))
    } else if !is("has_admin") {
        ("role", format!("GRANT {schema} TO {login} WITH ADMIN OPTION"))
    } else {
        return Ok(true);
    };
    let what = format!("the {what} {schema}");
    Err(PurgeProblem::NotPermitted { login, what, statement }.into())
}

/// Returns the other databases in which the role has rights.
///
/// # Errors
/// [`PurgeProblem::RoleInUse`] if it owns an object in one of them, or a database or tablespace.
async fn databases_in_use(tx: &PublicTx, role: &SchemaName) -> Result<Vec<String>, DropError> {
    let rows = tx.query(USES_ELSEWHERE, &[&role.as_str()]).await?;
    if !rows.iter().any(|row| row.get("is_owner")) {
        return Ok(rows.iter().filter_map(|row| row.get("database")).collect());
    }
    let uses = rows.iter().map(|row| row.get("use")).collect();
    let remedies = rows.iter().map(|row| {
        // By its name: in a database with Citus, CURRENT_USER in REASSIGN OWNED ends the server process (13.2).
        let new_owner: &str = row.get("new_owner");
        match (row.get::<_, Option<&str>>("database"), row.get::<_, Option<&str>>("shared")) {
            (Some(database), _) if row.get("is_owner") => format!(
                "run in database {database}: REASSIGN OWNED BY {role} TO {new_owner}; DROP OWNED BY {role};"
            ),
            (Some(database), _) => {
                format!("run in database {database}: DROP OWNED BY {role};")
            }
            (None, shared) => {
                format!("run: ALTER {} OWNER TO {new_owner};", shared.unwrap_or_default())
            }
        }
    });
    let remedies = remedies.collect();
    Err(PurgeProblem::RoleInUse { role: role.to_string(), uses, remedies }.into())
}

async fn uses_outside(tx: &PublicTx, role: &SchemaName) -> Result<Vec<String>, DropError> {
    let rows = tx.query(USES_OUTSIDE, &[&role.as_str()]).await?;
    Ok(rows.iter().map(|row| row.get("object")).collect())
}

/// The problem that the role has rights in this database that this login may not revoke.
fn in_use_here(role: &SchemaName, uses: Vec<String>) -> PurgeProblem {
    let remedies = vec![format!("run in this database: DROP OWNED BY {role};")];
    PurgeProblem::RoleInUse { role: role.to_string(), uses, remedies }
}

/// Explains why the role could not be freed or dropped: because of what this login may not revoke, or because another
/// session gave it rights elsewhere since the check.
fn explain(failure: Failure, role: &SchemaName) -> DropError {
    use tokio_postgres::error::SqlState;
    let Failure::Postgres(error) = &failure else { return failure.into() };
    let Some(db) = error.as_db_error() else { return failure.into() };
    let lines = |text: &str| text.lines().map(str::to_owned).collect();
    if *db.code() == SqlState::DEPENDENT_OBJECTS_STILL_EXIST {
        let uses: Vec<String> = lines(db.detail().unwrap_or(db.message()));
        let remedies = vec![format!("run in each of these databases: DROP OWNED BY {role};")];
        PurgeProblem::RoleInUse { role: role.to_string(), uses, remedies }.into()
    } else if *db.code() == SqlState::INSUFFICIENT_PRIVILEGE {
        in_use_here(role, lines(db.message())).into()
    } else {
        failure.into()
    }
}
