//! The tables and sequences of a schema.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::names::SchemaName;
use crate::migrations::HISTORY_TABLE;
use crate::pg::Row;
use crate::pg::error::Failure;
use crate::pg::scope::PublicTx;

/// A table that has rows of its own: also a partition, and not a partitioned table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The identity in the catalog.
    pub oid: i64,
    /// The name.
    pub name: String,
    /// The name as SQL needs it, with the schema.
    pub quoted: String,
    /// The columns that hold values of their own, in their order.
    pub columns: Vec<Column>,
    /// How many rows it has, as the server estimates.
    pub estimate: i64,
    /// The partitioned table at the top, or itself.
    root: i64,
    /// The name of that table.
    pub root_name: String,
}

/// A column that is not generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The name as SQL needs it.
    pub quoted: String,
    /// The type. One of the schema's own has no schema in front, as the search path holds it.
    pub kind: String,
}

/// A sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The name.
    pub name: String,
    /// The name as SQL needs it, with the schema.
    pub quoted: String,
}

/// The tables of a schema, with their columns. Temporary ones and the history of migrations are left out.
const TABLES: &str = "
    SELECT c.oid::bigint AS oid, c.relname::text AS name, format('%I.%I', n.nspname, c.relname) AS quoted,
           greatest(c.reltuples::bigint, CASE WHEN c.reltuples < 0 THEN pg_relation_size(c.oid) / 100 ELSE 0 END) AS estimate,
           coalesce(pg_partition_root(c.oid), c.oid)::oid::bigint AS root,
           (SELECT r.relname::text FROM pg_catalog.pg_class r
             WHERE r.oid = coalesce(pg_partition_root(c.oid), c.oid)) AS root_name,
           ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                  ORDER BY a.attnum) AS column_names,
           ARRAY(SELECT quote_ident(a.attname) FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                  ORDER BY a.attnum) AS column_quoted,
           ARRAY(SELECT format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                  ORDER BY a.attnum) AS column_types
      FROM pg_catalog.pg_namespace n
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
       AND d.classid = 'pg_catalog.pg_class'::regclass
      JOIN pg_catalog.pg_class c ON c.oid = d.objid
     WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname <> $2
     ORDER BY c.relname";

/// The foreign keys between tables of a schema, as pairs of the tables at the top.
const REFERENCES: &str = "
    SELECT DISTINCT coalesce(pg_partition_root(k.conrelid), k.conrelid)::oid::bigint AS from_root,
           coalesce(pg_partition_root(k.confrelid), k.confrelid)::oid::bigint AS to_root
      FROM pg_catalog.pg_namespace n
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
       AND d.classid = 'pg_catalog.pg_class'::regclass
      JOIN pg_catalog.pg_constraint k ON k.conrelid = d.objid AND k.contype = 'f'
     WHERE n.nspname = $1";

const SEQUENCES: &str = "
    SELECT c.relname::text AS name, format('%I.%I', n.nspname, c.relname) AS quoted
      FROM pg_catalog.pg_namespace n
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
       AND d.classid = 'pg_catalog.pg_class'::regclass
      JOIN pg_catalog.pg_class c ON c.oid = d.objid
     WHERE n.nspname = $1 AND c.relkind = 'S'
     ORDER BY c.relname";

/// Returns the tables of a schema, each after those that it references; a circle is broken somewhere.
///
/// # Errors
/// [`Failure`].
pub async fn tables(tx: &PublicTx, schema: &SchemaName) -> Result<Vec<Table>, Failure> {
    let rows = tx.query(TABLES, &[&schema.as_str(), &HISTORY_TABLE]).await?;
    let mut tables: Vec<Table> = rows.iter().map(table).collect();
    let places = places(tx, schema, &tables).await?;
    // Stable: tables of the same place stay in the order of their names.
    tables.sort_by_key(|table| places.get(&table.root).copied());
    Ok(tables)
}

fn table(row: &Row) -> Table {
    let names: Vec<String> = row.get("column_names");
    let quoted: Vec<String> = row.get("column_quoted");
    let kinds: Vec<String> = row.get("column_types");
    let columns = names.into_iter().zip(quoted).zip(kinds);
    Table {
        oid: row.get("oid"),
        name: row.get("name"),
        quoted: row.get("quoted"),
        estimate: row.get("estimate"),
        root: row.get("root"),
        root_name: row.get("root_name"),
        columns: columns.map(|((name, quoted), kind)| Column { name, quoted, kind }).collect(),
    }
}

/// Returns for each table at the top its place in the order.
async fn places(
    tx: &PublicTx,
    schema: &SchemaName,
    tables: &[Table],
) -> Result<BTreeMap<i64, usize>, Failure> {
    let mut references: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for row in tx.query(REFERENCES, &[&schema.as_str()]).await? {
        references.entry(row.get("from_root")).or_default().push(row.get("to_root"));
    }
    let mut places = BTreeMap::new();
    let mut begun = BTreeSet::new();
    for table in tables {
        place(table.root, &references, &mut begun, &mut places);
    }
    Ok(places)
}

/// Gives a table its place, behind those that it references. Keeps its own stack, as a chain may be long.
fn place(
    root: i64,
    references: &BTreeMap<i64, Vec<i64>>,
    begun: &mut BTreeSet<i64>,
    places: &mut BTreeMap<i64, usize>,
) {
    let mut open = vec![(root, false)];
    while let Some((table, are_references_placed)) = open.pop() {
        if are_references_placed {
            let next = places.len();
            places.entry(table).or_insert(next);
        } else if begun.insert(table) {
            open.push((table, true));
            let to = references.get(&table).into_iter().flatten();
            open.extend(to.map(|to| (*to, false)));
        }
    }
}

/// Returns the sequences of a schema.
///
/// # Errors
/// [`Failure`].
pub async fn sequences(tx: &PublicTx, schema: &SchemaName) -> Result<Vec<Sequence>, Failure> {
    let rows = tx.query(SEQUENCES, &[&schema.as_str()]).await?;
    let sequence = |row: &Row| Sequence { name: row.get("name"), quoted: row.get("quoted") };
    Ok(rows.iter().map(sequence).collect())
}

impl Table {
    /// Returns the columns in parentheses; nothing for a table without columns, which SQL cannot list.
    pub(super) fn list(&self) -> String {
        if self.columns.is_empty() {
            return String::new();
        }
        let columns: Vec<&str> = self.columns.iter().map(|column| column.quoted.as_str()).collect();
        format!(" ({})", columns.join(", "))
    }

    /// Returns the statement that reads the rows; the first line has the names of the columns.
    #[must_use]
    pub fn copy_out(&self) -> String {
        format!("COPY {}{} TO STDOUT (FORMAT csv, HEADER)", self.quoted, self.list())
    }

    /// Returns the statement that writes rows; the server refuses a first line with other names.
    #[must_use]
    pub fn copy_in(&self) -> String {
        format!("COPY {}{} FROM STDIN (FORMAT csv, HEADER match)", self.quoted, self.list())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_behind_those_that_it_references_and_a_circle_ends() {
        let references =
            BTreeMap::from([(1, vec![2, 1]), (2, vec![3]), (4, vec![5]), (5, vec![4])]);
        let (mut begun, mut places) = (BTreeSet::new(), BTreeMap::new());
        for table in [1, 2, 3, 4, 5] {
            place(table, &references, &mut begun, &mut places);
        }
        assert!(places[&3] < places[&2] && places[&2] < places[&1], "{places:?}");
        assert_eq!(places.len(), 5);
    }
}
