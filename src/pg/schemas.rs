//! Owns the DDL of tenants: making a schema with its role, migrating it.
//!
//! Every identifier here comes from a [`SchemaName`] and so from an id of ours. What runs here runs as
//! the owner, inside the caller's transaction: nothing is committed, so that a schema is there if and
//! only if its tenant is, or the vacancy ([`super::vacancies`]) that will be a tenant.

pub mod at_once;
pub mod mend;
pub mod rehearse;

use std::fmt::Write as _;

use futures_util::future::join;
use time::OffsetDateTime;
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

use super::bootstrap::RUNTIME_LOGIN;
use super::error::Failure;
use super::migrations::{Applied, HISTORY_TABLE, MigrationError, MigrationSet, PLACE, Pending};
use super::pool::{Db, Isolation, Rules};
use super::scope::{self, Entry, PublicTx};
use crate::domain::names::SchemaName;

/// Makes the schema, and under [`Isolation::Role`] the role of the same name, with rights on what the
/// migrations will create in it and on nothing else.
///
/// # Errors
/// [`Failure`], and the transaction is lost.
pub async fn create(
    tx: &PublicTx,
    schema: &SchemaName,
    rules: &Rules,
    server_version: u32,
) -> Result<(), Failure> {
    let role = role_ddl(schema, rules.isolation, server_version);
    tx.batch(&format!("{role}{}", schema_ddl(schema, rules.isolation))).await
}

/// Makes the roles of several schemas that [`create_without_role`] makes later. Each transaction that
/// makes a role costs every backend its knowledge of who may become whom, so roles are made together.
///
/// # Errors
/// [`Failure`], and the transaction is lost.
pub async fn create_roles(
    tx: &PublicTx,
    schemas: &[SchemaName],
    rules: &Rules,
    server_version: u32,
) -> Result<(), Failure> {
    let ddl = schemas.iter().map(|schema| role_ddl(schema, rules.isolation, server_version));
    tx.batch(&ddl.collect::<String>()).await
}

/// Makes the rest of what [`create`] makes, where the role is there.
///
/// # Errors
/// [`Failure`], and the transaction is lost.
pub async fn create_without_role(
    tx: &PublicTx,
    schema: &SchemaName,
    rules: &Rules,
) -> Result<(), Failure> {
    tx.batch(&schema_ddl(schema, rules.isolation)).await
}

fn role_ddl(schema: &SchemaName, isolation: Isolation, server_version: u32) -> String {
    match isolation {
        Isolation::Role => {
            format!("CREATE ROLE {schema} NOLOGIN NOINHERIT; {};", let_in(schema, server_version))
        }
        Isolation::SearchPath => String::new(),
    }
}

fn schema_ddl(schema: &SchemaName, isolation: Isolation) -> String {
    let entrant = entrant(schema, isolation);
    format!(
        "CREATE SCHEMA {schema};
         GRANT USAGE ON SCHEMA {schema} TO {entrant};
         ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}
             GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {entrant};
         ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}
             GRANT USAGE, SELECT ON SEQUENCES TO {entrant};"
    )
}

/// The statement that lets the runtime login become the tenant's role. From PostgreSQL 16 on a grant says
/// whether it is for SET ROLE or for inheritance; before, the login's own NOINHERIT says so.
fn let_in(schema: &SchemaName, server_version: u32) -> String {
    let how = if server_version >= 160_000 { " WITH INHERIT FALSE, SET TRUE" } else { "" };
    format!("GRANT {schema} TO {RUNTIME_LOGIN}{how}")
}

/// Brings a tenant's schema up to date with the set and tells which files were applied.
///
/// Two runners on one schema wait for each other, since refinery takes no lock of its own.
///
/// # Errors
/// The file that failed, or how the schema differs from the set; the transaction is then lost.
pub async fn migrate(
    tx: &PublicTx,
    schema: &SchemaName,
    set: &MigrationSet,
    rules: &Rules,
) -> Result<Vec<String>, MigrationError> {
    // Statements that are joined share a round trip. The server takes them in this order, and refuses the
    // second where the first has failed.
    let entering = scope::enter_schema(tx, schema, &rules.limits);
    let (entered, locked) = join(entering, lock(tx, schema.as_str())).await;
    entered.and(locked)?;
    let applied = set.apply(tx).await?;
    let leaving = scope::leave_schema(tx, &rules.limits);
    // The default privileges cover refinery's table too, and its history is not the tenant's to edit. It
    // is there even after a set without files.
    let entrant = entrant(schema, rules.isolation);
    if applied.is_empty() {
        let is_open = format!("SELECT {}", history_is_open(schema, entrant));
        if !tx.query_one(&is_open, &[]).await?.get::<_, bool>(0) {
            leaving.await?;
            return Ok(applied);
        }
    }
    let revoke = format!("REVOKE ALL ON {schema}.{HISTORY_TABLE} FROM {entrant}");
    let (revoked, left) = join(tx.batch(&revoke), leaving).await;
    revoked.and(left)?;
    Ok(applied)
}

/// A schema that a migration has entered.
pub struct Entered {
    /// The transaction, which sees the schema; the control plane's tables by their full names alone.
    pub tx: PublicTx,
    /// What was applied to it before.
    pub applied: Vec<Applied>,
    /// Whether the tenant could edit its history.
    history_is_open: bool,
}

/// Enters a schema that is in use, for [`catch_up`], and reads its history, in one round trip. Two that enter
/// one schema wait for each other, as long as a lock may be waited for.
///
/// # Errors
/// [`MigrationError::Diverged`] where it has no history; [`Failure::Late`].
pub async fn enter(db: &Db, schema: &SchemaName, entry: Entry) -> Result<Entered, MigrationError> {
    let tx = db.inside(schema, entry).await?;
    // Read by a query that begins after the lock is had. A history without a file is a row all the same.
    let about = format!(
        "SELECT {}, version, name, checksum
           FROM (VALUES (1)) AS one LEFT JOIN {schema}.{HISTORY_TABLE} ON true",
        history_is_open(schema, entrant(schema, db.rules().isolation))
    );
    let none =
        [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME, &SqlState::UNDEFINED_OBJECT];
    let rows = tx.begin_with(&about).await.map_err(|failure| match failure.sqlstate() {
        Some(state) if none.contains(&state) => MigrationError::Diverged(
            "the schema, its role or its history of migrations is not there".to_owned(),
        ),
        _ if scope::is_late(&failure) => Failure::Late.into(),
        _ => failure.into(),
    })?;
    let first = rows.first().ok_or(Failure::RowCount)?;
    let history_is_open = first.get(0) == Some("t");
    let file = |row: &SimpleQueryRow| {
        let version = row.get(1)?.parse().ok()?;
        let text = |at| row.get(at).unwrap_or_default().to_owned();
        Some(Applied { version, name: text(2), checksum: text(3) })
    };
    let applied = rows.iter().filter_map(file).collect();
    Ok(Entered { tx, applied, history_is_open })
}

/// What follows when the files have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing: whoever tries drops the transaction.
    Nothing,
    /// The commit.
    Commit,
}

/// Runs files in the schema that was entered, and what is to follow in the same round trip. Nothing is committed
/// where a file has moved the transaction to another place.
///
/// # Errors
/// The file that failed; the transaction is then lost.
pub async fn catch_up(
    entered: &Entered,
    schema: &SchemaName,
    set: &MigrationSet,
    files: &Pending,
    rules: &Rules,
    now: OffsetDateTime,
    then: Then,
) -> Result<(), MigrationError> {
    let mut ending = stay();
    if entered.history_is_open {
        let entrant = entrant(schema, rules.isolation);
        let _ = write!(ending, ";\nREVOKE ALL ON {schema}.{HISTORY_TABLE} FROM {entrant}");
    }
    let ran = set.run(&entered.tx, schema, files, &ending, then == Then::Commit, now).await;
    ran.map_err(|(at, failure)| {
        if failure.quotes(MOVED) {
            return MigrationError::Failed {
                file: set.names(files).join(", "),
                line: None,
                message: "a file ended the transaction or changed the schema that it runs in"
                    .to_owned(),
            };
        }
        match at {
            Some(at) => set.failed(at, failure),
            None => failure.into(),
        }
    })
}

/// What the server says where [`stay`] fails; it quotes these words whatever its language.
const MOVED: &str = "rowhouse: now at ";

/// A statement that fails unless the transaction still stands where it was entered: it gives no row where it
/// does, and where it does not, a number is made of what is none.
fn stay() -> String {
    format!("SELECT ('{MOVED}' || ({PLACE}))::bigint WHERE ({}) IS NOT TRUE", scope::stands())
}

/// How many tables (or types, or routines) one transaction drops. A drop locks whatever it touches until
/// the transaction ends, a dozen or two locks a table with its indexes, constraints and TOAST table, and
/// the lock table is shared by the whole server: `max_locks_per_transaction`, 64 by default, times the
/// number of connections.
const DROPPED_AT_ONCE: i64 = 20;

/// The statements that drop some relations of a schema. Partitions go before what they are a part of, or
/// one `DROP` would take them all; sequences of columns go with their tables.
const DROP_RELATIONS: &str = "
    SELECT format('DROP %s IF EXISTS %s CASCADE',
                  CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                                 WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                  c.oid::regclass)
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
     ORDER BY CASE WHEN c.relkind IN ('v', 'm') THEN 0
                   WHEN c.relispartition AND c.relkind <> 'p' THEN 1
                   WHEN c.relispartition THEN 2
                   WHEN c.relkind = 'S' THEN 4
                   ELSE 3 END,
              c.oid
     LIMIT $2";

/// The statements that drop some types of a schema: those that are no table's row and no other's array.
const DROP_TYPES: &str = "
    SELECT format('DROP TYPE IF EXISTS %s CASCADE', t.oid::regtype)
      FROM pg_type t
      JOIN pg_namespace n ON n.oid = t.typnamespace
      LEFT JOIN pg_class c ON c.oid = t.typrelid
     WHERE n.nspname = $1 AND (t.typtype IN ('d', 'e', 'r') OR (t.typtype = 'c' AND c.relkind = 'c'))
     ORDER BY t.oid
     LIMIT $2";

/// The statements that drop some routines of a schema.
const DROP_ROUTINES: &str = "
    SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure)
      FROM pg_proc p
      JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname = $1
     ORDER BY p.oid
     LIMIT $2";

/// Drops a part of what is in the schema, few enough things for one transaction's locks; tells whether
/// there was anything to drop. Called, each time in a transaction of its own, until there is nothing; then
/// [`drop`] has little left to do. Migrations of the same schema wait.
///
/// # Errors
/// [`Failure`], and the transaction is lost.
pub async fn drop_some(tx: &PublicTx, schema: &SchemaName) -> Result<bool, Failure> {
    lock(tx, schema.as_str()).await?;
    for find in [DROP_RELATIONS, DROP_TYPES, DROP_ROUTINES] {
        let rows = tx.query(find, &[&schema.as_str(), &DROPPED_AT_ONCE]).await?;
        if !rows.is_empty() {
            let statements: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
            tx.batch(&statements.join("; ")).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Drops the schema and all in it, and the role.
///
/// # Errors
/// [`Failure`], and the transaction is lost.
pub async fn drop(tx: &PublicTx, schema: &SchemaName, rules: &Rules) -> Result<(), Failure> {
    let role = drop_role_ddl(schema, rules.isolation);
    tx.batch(&format!("DROP SCHEMA {schema} CASCADE; {role}")).await
}

/// As [`drop`], for a schema that may not have been made yet, and whatever isolation it was made for.
///
/// # Errors
/// [`Failure`], and the transaction is lost.
pub async fn drop_unfinished(
    tx: &PublicTx,
    schema: &SchemaName,
    isolation: Isolation,
) -> Result<(), Failure> {
    let role = drop_role_ddl(schema, isolation);
    tx.batch(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE; {role}")).await
}

fn drop_role_ddl(schema: &SchemaName, isolation: Isolation) -> String {
    match isolation {
        // What the role was given elsewhere, a large object of its own say, goes with it.
        Isolation::Role => format!("DROP OWNED BY {schema} CASCADE; DROP ROLE {schema};"),
        Isolation::SearchPath => String::new(),
    }
}

/// The expression that tells whether whoever works in the schema was given the right to edit its history.
///
/// Read off the table's grants: to ask for a role's privilege, PostgreSQL looks its memberships up in a list of
/// all roles that the connection has ever asked about.
fn history_is_open(schema: &SchemaName, entrant: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_class, aclexplode(relacl)
                  WHERE pg_class.oid = '{schema}.{HISTORY_TABLE}'::regclass
                    AND grantee = '{entrant}'::regrole AND privilege_type = 'INSERT')"
    )
}

/// Holds everyone else who wants the same lock until the transaction ends.
pub async fn lock(tx: &PublicTx, name: &str) -> Result<(), Failure> {
    tx.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&name]).await?;
    Ok(())
}

/// Takes a lock for the rest of the transaction if nobody holds it.
///
/// # Errors
/// [`Failure`].
pub async fn try_lock(tx: &PublicTx, name: &str) -> Result<bool, Failure> {
    let row =
        tx.query_one("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", &[&name]).await?;
    Ok(row.get(0))
}

/// As [`try_lock`] for many; tells of each whether it was had.
///
/// # Errors
/// [`Failure`].
pub async fn try_locks(tx: &PublicTx, schemas: &[SchemaName]) -> Result<Vec<bool>, Failure> {
    let names: Vec<String> = schemas.iter().map(SchemaName::to_string).collect();
    let rows = tx
        .query(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(name, 0))
               FROM unnest($1) WITH ORDINALITY AS schemas (name, place)
              ORDER BY place",
            &[&names],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Who works in the schema: the tenant's role, or the shared login.
fn entrant(schema: &SchemaName, isolation: Isolation) -> &str {
    match isolation {
        Isolation::Role => schema.as_str(),
        Isolation::SearchPath => RUNTIME_LOGIN,
    }
}
