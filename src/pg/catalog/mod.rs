//! Reads the catalogs about many tenants' schemas at once: what is in each, told so that two of them can be
//! compared ([`objects`]), and a digest of it ([`fingerprints`]); which schemas and roles there are, and
//! whose they are ([`houses`]); what was migrated where ([`history`]); what a schema should look like
//! ([`reference`](mod@reference)).
//!
//! One statement reads a whole crowd of schemas; nothing here is asked schema by schema. A backend keeps for
//! ever what it has cached of each schema that it looked at (some 40 KiB for one of four tables), so a crowd
//! is [`CROWD`] and its connection is given up afterwards ([`PublicTx::discard`]).
//!
//! Promises: changes nothing. Must not know: what a difference means, and who should hear of it.

pub mod history;
pub mod inventory;

use std::collections::HashMap;

use super::error::Failure;
use super::scope::PublicTx;
use crate::domain::names::SchemaName;
use crate::pg::db::Db;

/// Schemas that one statement looks at, and one connection. At 1,000 the statement's own fixed cost, a walk
/// over the catalogs of all other tenants, no longer counts, and the backend stays below 100 MiB.
pub const CROWD: usize = 1_000;

/// The rows of `objects.sql`.
const OBJECTS: &str = include_str!("objects.sql");

/// Parts the properties of an object.
const BETWEEN_PROPERTIES: char = '\u{1f}';

/// Parts the rights in [`Kind::Grant`] and [`Kind::DefaultGrant`].
pub const BETWEEN_RIGHTS: char = '\u{1e}';

/// What stands for the tenant's schema, and for its role, in all that is read here.
pub const TENANT: &str = "{tenant}";

/// Declares the kinds of objects once: variant, word in SQL, what its properties are called.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal [$($property:literal),*];)+) => {
        /// What an object of a schema is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $variant,)+ }

        impl Kind {
            /// The word for people and in SQL.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What the properties of such an object are called, in the order in which they come.
            #[must_use]
            pub const fn properties(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($property),*],)+ }
            }

            fn parse(word: &str) -> Option<Self> {
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
    /// Who may become the tenant's role.
    Member = "member" ["options"];
    /// What the tenant's role may become.
    Membership = "membership" [];
    /// A table, also a partitioned and a foreign one.
    Table = "table" ["owner", "form", "parents", "row security", "order of columns"];
    /// A column of a table.
    Column = "column" ["type", "nullability", "default", "identity", "collation"];
    /// A constraint of a table, with the index that it made.
    Constraint = "constraint" ["definition"];
    /// An index that no constraint made.
    Index = "index" ["definition", "validity"];
    /// A trigger.
    Trigger = "trigger" ["definition", "state"];
    /// A rule.
    Rule = "rule" ["definition"];
    /// A policy of row security.
    Policy = "policy" ["definition"];
    /// Extended statistics.
    Statistics = "statistics" ["definition"];
    /// A view.
    View = "view" ["owner", "definition", "options"];
    /// A materialized view.
    MaterializedView = "materialized view" ["owner", "definition", "options"];
    /// A sequence.
    Sequence = "sequence" ["owner", "definition"];
    /// A function, a procedure, an aggregate; the name holds the types of its arguments.
    Routine = "routine" ["owner", "definition"];
    /// An enum, a domain, a composite type, a range.
    Type = "type" ["owner", "definition"];
    /// Whatever else lies in a schema; the name says what it is.
    Other = "other object" [];
    /// The rights of one role on one object; the name is the role, the parent the object.
    Grant = "grant" ["rights"];
    /// The rights that a role gets on what will be made; the parent says of what.
    DefaultGrant = "default grant" ["rights"];
}

/// One thing in a schema. Names are quoted as SQL needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// What it belongs to, as [`Object::label`] says it; empty where it stands by itself.
    pub parent: String,
    /// What it is called.
    pub name: String,
    /// As [`Kind::properties`] calls them; an empty text where there is none.
    pub properties: Vec<String>,
}

impl Object {
    /// What and which in a few words, such as `table profiles`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.name).trim_end().to_owned()
    }
}

/// A digest of all objects of a schema. Two schemas with one fingerprint are alike; it does not depend on an
/// order, so the server need not sort.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    objects: i64,
    sum: String,
}

/// Lets a transaction that looks at a crowd take its time; one that is compiled first takes longer.
///
/// # Errors
/// [`Failure`].
pub async fn unhurried(tx: &PublicTx) -> Result<(), Failure> {
    tx.batch("SET LOCAL statement_timeout = 0; SET LOCAL jit = off").await
}

/// The fingerprint of each schema that there is of these. `with_roles` tells whether each has a role of its
/// own, which then counts as a part of it.
///
/// # Errors
/// [`Failure`].
pub async fn fingerprints(
    tx: &PublicTx,
    schemas: &[SchemaName],
    with_roles: bool,
) -> Result<HashMap<String, Fingerprint>, Failure> {
    let sql = digests(OBJECTS);
    let rows = tx.query(&sql, &[&names(schemas), &with_roles]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            (row.get("house"), Fingerprint { objects: row.get("objects"), sum: row.get("sum") })
        })
        .collect())
}

/// A query that digests the rows of another, schema by schema.
fn digests(objects: &str) -> String {
    format!(
        "SELECT house, count(*) AS objects, sum(hashtextextended(
                    concat_ws(chr(31), kind, parent, name, properties) COLLATE \"C\", 0))::text AS sum
           FROM ({objects}) objects
          GROUP BY house"
    )
}

/// The fingerprints of one crowd, by a connection that is given up afterwards.
///
/// # Errors
/// [`Failure`].
pub async fn scan(
    db: &Db,
    crowd: &[SchemaName],
    with_roles: bool,
) -> Result<HashMap<String, Fingerprint>, Failure> {
    let tx = db.public().await?;
    unhurried(&tx).await?;
    let found = fingerprints(&tx, crowd, with_roles).await;
    tx.discard();
    found
}

/// All objects of each schema that there is of these.
///
/// # Errors
/// [`Failure`].
pub async fn objects(
    tx: &PublicTx,
    schemas: &[SchemaName],
    with_roles: bool,
) -> Result<HashMap<String, Vec<Object>>, Failure> {
    let rows = tx.query(OBJECTS, &[&names(schemas), &with_roles]).await?;
    let mut all: HashMap<String, Vec<Object>> = HashMap::new();
    for row in &rows {
        let kind = Kind::parse(row.get("kind")).ok_or(Failure::RowCount)?;
        let properties: &str = row.get("properties");
        let object = Object {
            kind,
            parent: row.get("parent"),
            name: row.get("name"),
            properties: properties.split(BETWEEN_PROPERTIES).map(str::to_owned).collect(),
        };
        all.entry(row.get("house")).or_default().push(object);
    }
    Ok(all)
}

fn names(schemas: &[SchemaName]) -> Vec<String> {
    schemas.iter().map(SchemaName::to_string).collect()
}

/// The statement behind [`fingerprints`] over all tenants, as the floor that the benchmark measures the whole
/// examination against.
#[doc(hidden)]
#[must_use]
pub fn bare_pass_for_benchmarks() -> String {
    let everybody = "(SELECT array_agg(nspname::text) FROM pg_catalog.pg_namespace \
                       WHERE nspname ~ '^tenant_[0-9a-f]{32}$')::text[]";
    let objects = OBJECTS.replace("$1", everybody).replace("$2", "true");
    digests(&objects)
}
