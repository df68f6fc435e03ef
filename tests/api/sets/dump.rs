//! What is in a schema: its objects as `doctor` reads them, and its objects and rows as `pg_dump` writes them.

use std::collections::BTreeMap;

use rowhouse::pg::catalog::{Kind, TENANT};
use tokio_postgres::Client;

use super::psql;

/// The query of `doctor` for all objects.
const OBJECTS: &str = include_str!("../../../src/pg/catalog/objects.sql");

const HISTORY: &str = "refinery_schema_history";

/// The objects of a schema and the rows of its tables, by name; the name of the schema is replaced.
#[derive(Debug, Default)]
pub(super) struct Contents(BTreeMap<String, Vec<String>>);

impl Contents {
    pub(super) async fn of(sql: &Client, url: &str, schema: &str) -> Self {
        let mut contents = Self::default();
        contents.add_objects(sql, schema).await;
        contents.add_materialized_rows(sql, schema).await;
        if let Some(dump) = psql::dump(url, schema) {
            contents.add_dump(&dump.replace(schema, TENANT));
        }
        assert!(!contents.0.is_empty(), "{schema} is empty");
        contents
    }

    /// Returns what differs between the two.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let missing = other.0.keys().filter(|name| !self.0.contains_key(*name));
        let missing = missing.map(|name| format!("{name} is missing"));
        let differs = self.0.iter().filter(|(name, is)| other.0.get(*name) != Some(*is));
        differs
            .map(|(name, is)| format!("{name}\n  is {is:#?}\n  should be {:#?}", other.0.get(name)))
            .chain(missing)
            .collect()
    }

    /// Adds the objects of the catalogs, without owners and privileges.
    async fn add_objects(&mut self, sql: &Client, schema: &str) {
        let rows = sql.query(OBJECTS, &[&vec![schema.to_owned()], &false]).await;
        for row in rows.expect("the objects can be read") {
            let (kind, parent, name): (&str, &str, &str) =
                (row.get("kind"), row.get("parent"), row.get("name"));
            let is_history = [parent, name].iter().any(|text| text.contains(HISTORY));
            let kind = Kind::from_word(kind).expect("the kind is known");
            if is_history || matches!(kind, Kind::Grant | Kind::DefaultGrant) {
                continue;
            }
            let properties = row.get::<_, &str>("properties").replace(schema, TENANT);
            let of_owner = usize::from(kind.properties().first() == Some(&"owner"));
            let properties = properties.split('\u{1f}').skip(of_owner).map(str::to_owned);
            let label = format!("{parent} {} {name}", kind.as_str()).replace(schema, TENANT);
            self.0.insert(label, properties.collect());
        }
    }

    /// Adds the rows of materialized views, which a dump does not hold.
    async fn add_materialized_rows(&mut self, sql: &Client, schema: &str) {
        let views = "SELECT matviewname::text, ispopulated FROM pg_matviews WHERE schemaname = $1";
        for view in sql.query(views, &[&schema]).await.expect("views can be listed") {
            let (name, is_populated): (&str, bool) = (view.get(0), view.get(1));
            let mut rows = vec![format!("populated: {is_populated}")];
            if is_populated {
                let read = format!("SELECT v::text FROM {schema}.\"{name}\" v ORDER BY 1");
                let read = sql.query(&read, &[]).await.expect("a view can be read");
                rows.extend(read.iter().map(|row| row.get(0)));
            }
            self.0.insert(format!("rows of materialized view {name}"), rows);
        }
    }

    /// Adds the entries of a dump: the lines below each comment that names an object, or the sorted rows of a table.
    fn add_dump(&mut self, dump: &str) {
        let (mut entry, mut is_in_rows) = ("the beginning", false);
        let mut entries: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for line in dump.lines() {
            if line.starts_with("-- Name: ") || line.starts_with("-- Data for Name: ") {
                (entry, is_in_rows) = (line, line.starts_with("-- Data"));
            } else if !matches!(line, "" | "--")
                && !line.starts_with("\\restrict")
                && !line.starts_with("\\unrestrict")
            {
                entries.entry(entry).or_default().push(line.to_owned());
            }
            // Rows have no order; the statement before them sorts among them.
            if is_in_rows && line == "\\." {
                entries.entry(entry).or_default().sort();
            }
        }
        let named = entries.into_iter().map(|(entry, lines)| (format!("pg_dump: {entry}"), lines));
        self.0.extend(named);
    }
}
