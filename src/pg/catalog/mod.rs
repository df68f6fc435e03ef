//! Reads the system catalogs for many tenants' schemas at once: their objects in a comparable form ([`objects`]) and
//! a digest of them ([`fingerprints`]); the existing schemas and roles with their owners ([`inventory`]); and the
//! migration histories ([`history`]).
//!
//! One statement reads a batch of schemas; there is no query per schema. A backend caches catalog entries of
//! each schema that it has read until it ends (about 40 KiB for a schema of four tables), so a batch has
//! [`BATCH_SIZE`] schemas and its connection is closed afterwards ([`PublicTx::discard`]).
//!
//! Promises: changes nothing. Must not know: what a difference means and where it is reported.

pub mod cluster;
pub mod history;
pub mod inventory;
pub mod unreachable;

use std::collections::HashMap;

use tokio_postgres::Row;

use super::error::Failure;
use super::scope::PublicTx;
use crate::domain::names::SchemaName;
use crate::pg::db::Db;
use crate::pg::rules::Isolation;

/// How many schemas one statement and one connection read. At 1,000 the fixed cost of a statement is negligible, and the
/// backend stays below 100 MiB.
pub const BATCH_SIZE: usize = 1_000;

/// How often a batch is read while other processes drop what is in it.
const SCAN_ATTEMPTS: u32 = 20;

/// The query for all objects of some schemas.
const OBJECTS: &str = include_str!("objects.sql");

/// Separates the properties of an object.
const BETWEEN_PROPERTIES: char = '\u{1f}';

/// Separates the privileges in [`Kind::Grant`] and [`Kind::DefaultGrant`].
pub const BETWEEN_RIGHTS: char = '\u{1e}';

/// The placeholder for the tenant's schema and role in everything that is read here.
pub const TENANT: &str = "{tenant}";

/// Declares the kinds of objects once: variant, SQL word, names of its properties.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal [$($property:literal),*];)+) => {
        /// The kind of an object in a schema.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $variant,)+ }

        impl Kind {
            /// The word in SQL and in messages.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The names of the properties of such an object, in their order.
            #[must_use]
            pub const fn properties(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($property),*],)+ }
            }

            /// Returns the kind with this word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

kinds! {
    /// The schema itself.
    Schema = "schema" ["owner"];
    /// The tenant's role; its parent and its name are empty.
    Role = "role" ["attributes"];
    /// A member of the tenant's role.
    Member = "member" ["options"];
    /// A role that the tenant's role is a member of.
    Membership = "membership" [];
    /// A table, also a partitioned or foreign one.
    Table = "table" ["owner", "form", "parents", "row security", "order of columns"];
    /// A column of a table.
    Column = "column" ["type", "nullability", "default", "identity", "collation"];
    /// A constraint of a table, with its index.
    Constraint = "constraint" ["definition"];
    /// An index that does not belong to a constraint.
    Index = "index" ["definition", "validity"];
    /// A trigger.
    Trigger = "trigger" ["definition", "state"];
    /// A rule.
    Rule = "rule" ["definition"];
    /// A row security policy.
    Policy = "policy" ["definition"];
    /// Extended statistics.
    Statistics = "statistics" ["definition"];
    /// A view.
    View = "view" ["owner", "definition", "options"];
    /// A materialized view.
    MaterializedView = "materialized view" ["owner", "definition", "options"];
    /// A sequence.
    Sequence = "sequence" ["owner", "definition"];
    /// A function, procedure or aggregate; the name includes the argument types.
    Routine = "routine" ["owner", "definition"];
    /// An enum, domain, composite or range type.
    Type = "type" ["owner", "definition"];
    /// Any other object; the name says its kind.
    Other = "other object" [];
    /// The privileges of one role on one object; the name is the role, the parent the object.
    Grant = "grant" ["rights"];
    /// The default privileges of a role on future objects; the parent is the kind of object.
    DefaultGrant = "default grant" ["rights"];
}

/// One object of a schema. Names are quoted as SQL needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// The object that it belongs to, in the form of [`Object::label`]; empty if there is none.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// In the order of [`Kind::properties`]; empty if a property is absent.
    pub properties: Vec<String>,
}

impl Object {
    /// The kind and name, such as `table profiles`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.name).trim_end().to_owned()
    }
}

/// A digest of all objects of a schema. Schemas with equal fingerprints have equal objects. It does not depend on
/// their order, so the server need not sort.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    objects: i64,
    sum: String,
}

/// Disables `statement_timeout` and JIT for the catalog-wide queries of a transaction. JIT compilation takes longer
/// than it saves there.
///
/// # Errors
/// [`Failure`].
pub async fn set_catalog_wide_limits(tx: &PublicTx) -> Result<(), Failure> {
    tx.may_take_long();
    tx.batch("SET LOCAL statement_timeout = 0; SET LOCAL jit = off").await
}

/// Returns the fingerprint of each of these schemas that exists. Under [`Isolation::Role`] it includes the schema's
/// role.
///
/// # Errors
/// [`Failure`].
pub async fn fingerprints(
    tx: &PublicTx,
    schemas: &[SchemaName],
    isolation: Isolation,
) -> Result<HashMap<String, Fingerprint>, Failure> {
    let sql = digests(OBJECTS);
    let rows = tx.query(&sql, &[&names(schemas), &(isolation == Isolation::Role)]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            (row.get("schema"), Fingerprint { objects: row.get("objects"), sum: row.get("sum") })
        })
        .collect())
}

/// Builds a query that digests the rows of `objects` by schema.
fn digests(objects: &str) -> String {
    format!(
        "SELECT schema, count(*) AS objects, sum(hashtextextended(
                    concat_ws(chr(31), kind, parent, name, properties) COLLATE \"C\", 0))::text AS sum
           FROM ({objects}) objects
          GROUP BY schema"
    )
}

/// Returns the fingerprints of one batch of schemas, read on a connection that is closed afterwards. Starts again where an
/// object was dropped between the statement's snapshot and the moment that it is described.
///
/// # Errors
/// [`Failure`].
pub async fn scan(
    db: &Db,
    batch: &[SchemaName],
    isolation: Isolation,
) -> Result<HashMap<String, Fingerprint>, Failure> {
    let mut attempts = 1;
    loop {
        match scan_once(db, batch, isolation).await {
            Err(failure) if failure.is_lost_race() && attempts < SCAN_ATTEMPTS => attempts += 1,
            scanned => return scanned,
        }
    }
}

async fn scan_once(
    db: &Db,
    batch: &[SchemaName],
    isolation: Isolation,
) -> Result<HashMap<String, Fingerprint>, Failure> {
    let tx = db.public().await?;
    set_catalog_wide_limits(&tx).await?;
    let found = fingerprints(&tx, batch, isolation).await;
    tx.discard();
    found
}

/// Returns all objects of each of these schemas that exists.
///
/// # Errors
/// [`Failure`].
pub async fn objects(
    tx: &PublicTx,
    schemas: &[SchemaName],
    isolation: Isolation,
) -> Result<HashMap<String, Vec<Object>>, Failure> {
    let with_roles = isolation == Isolation::Role;
    let rows = tx.query(OBJECTS, &[&names(schemas), &with_roles]).await?;
    let mut all: HashMap<String, Vec<Object>> = HashMap::new();
    for row in &rows {
        all.entry(row.get("schema")).or_default().push(object(row)?);
    }
    Ok(all)
}

/// Returns all objects of a schema that may have any name, without roles. Only names that are qualified with it have
/// the placeholder. No search path of the transaction may reach the schema ([`leave_schemas`](super::scope::leave_schemas)).
///
/// # Errors
/// [`Failure`].
pub async fn objects_of(tx: &PublicTx, schema: &str) -> Result<Vec<Object>, Failure> {
    // The name of a tenant's schema is in no other word; that of another may be.
    let qualified = OBJECTS.replace("n.name, '{tenant}'", "n.name || '.', '{tenant}.'");
    let rows = tx.query(&qualified, &[&vec![schema.to_owned()], &false]).await?;
    rows.iter().map(object).collect()
}

fn object(row: &Row) -> Result<Object, Failure> {
    let properties: &str = row.get("properties");
    Ok(Object {
        kind: Kind::from_word(row.get("kind")).ok_or(Failure::RowCount)?,
        parent: row.get("parent"),
        name: row.get("name"),
        properties: properties.split(BETWEEN_PROPERTIES).map(str::to_owned).collect(),
    })
}

fn names(schemas: &[SchemaName]) -> Vec<String> {
    schemas.iter().map(SchemaName::to_string).collect()
}

/// The statement behind [`fingerprints`] over all tenants: the lower bound that the doctor benchmark compares with.
#[doc(hidden)]
#[must_use]
pub fn bare_pass_for_benchmarks() -> String {
    let all_tenants = "(SELECT array_agg(nspname::text) FROM pg_catalog.pg_namespace \
                       WHERE nspname ~ '^tenant_[0-9a-f]{32}$')::text[]";
    let objects = OBJECTS.replace("$1", all_tenants).replace("$2", "true");
    digests(&objects)
}
