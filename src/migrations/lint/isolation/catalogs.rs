//! The catalogs with rows of every schema, and the columns that tie a row to one schema.

/// Schemas that are the same for every tenant.
const SHARED_SCHEMAS: [&str; 5] =
    ["pg_catalog", "information_schema", "extensions", "pg_temp", "pg_toast"];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// The name or the oid of a schema.
    Schema,
    /// The oid of an object, which is in one schema.
    Object,
}

/// A catalog, or a view of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Catalog {
    name: &'static str,
    /// Its columns of oids, and of names of schemas.
    columns: &'static [&'static str],
}

/// The catalogs of `pg_catalog`, each with the columns that tie a row to one schema.
const CATALOGS: &[(&str, &[&str])] = &[
    ("pg_aggregate", &["aggfnoid", "aggtransfn"]),
    ("pg_attrdef", &["oid", "adrelid"]),
    ("pg_attribute", &["attrelid", "atttypid"]),
    ("pg_class", &["oid", "relnamespace", "reltype", "reloftype"]),
    ("pg_collation", &["oid", "collnamespace"]),
    (
        "pg_constraint",
        &["oid", "connamespace", "conrelid", "contypid", "conindid", "confrelid", "conparentid"],
    ),
    ("pg_conversion", &["oid", "connamespace"]),
    ("pg_default_acl", &["oid", "defaclnamespace"]),
    ("pg_depend", &["objid", "refobjid"]),
    ("pg_description", &["objoid"]),
    ("pg_enum", &["oid", "enumtypid"]),
    ("pg_foreign_table", &["ftrelid"]),
    ("pg_index", &["indexrelid", "indrelid"]),
    ("pg_indexes", &["schemaname"]),
    ("pg_inherits", &["inhrelid", "inhparent"]),
    ("pg_matviews", &["schemaname"]),
    // Only ties others to a schema; a question for a schema is not one about what is in it.
    ("pg_namespace", &["oid", "nspname"]),
    ("pg_opclass", &["oid", "opcnamespace"]),
    ("pg_operator", &["oid", "oprnamespace"]),
    ("pg_opfamily", &["oid", "opfnamespace"]),
    ("pg_partitioned_table", &["partrelid"]),
    ("pg_policies", &["schemaname"]),
    ("pg_policy", &["oid", "polrelid"]),
    ("pg_proc", &["oid", "pronamespace"]),
    ("pg_publication_rel", &["prrelid"]),
    ("pg_publication_tables", &["schemaname"]),
    ("pg_range", &["rngtypid"]),
    ("pg_rewrite", &["oid", "ev_class"]),
    ("pg_rules", &["schemaname"]),
    ("pg_seclabels", &["objoid", "objnamespace"]),
    ("pg_sequence", &["seqrelid"]),
    ("pg_sequences", &["schemaname"]),
    ("pg_stat_all_indexes", &["relid", "indexrelid", "schemaname"]),
    ("pg_stat_all_tables", &["relid", "schemaname"]),
    ("pg_stat_user_functions", &["funcid", "schemaname"]),
    ("pg_stat_user_indexes", &["relid", "indexrelid", "schemaname"]),
    ("pg_stat_user_tables", &["relid", "schemaname"]),
    ("pg_statio_all_indexes", &["relid", "indexrelid", "schemaname"]),
    ("pg_statio_all_sequences", &["relid", "schemaname"]),
    ("pg_statio_all_tables", &["relid", "schemaname"]),
    ("pg_statio_user_indexes", &["relid", "indexrelid", "schemaname"]),
    ("pg_statio_user_sequences", &["relid", "schemaname"]),
    ("pg_statio_user_tables", &["relid", "schemaname"]),
    ("pg_statistic", &["starelid"]),
    ("pg_statistic_ext", &["oid", "stxnamespace", "stxrelid"]),
    ("pg_stats", &["schemaname"]),
    ("pg_stats_ext", &["schemaname", "statistics_schemaname"]),
    ("pg_tables", &["schemaname"]),
    ("pg_trigger", &["oid", "tgrelid", "tgfoid", "tgconstrrelid", "tgconstrindid", "tgconstraint"]),
    ("pg_ts_config", &["oid", "cfgnamespace"]),
    ("pg_ts_dict", &["oid", "dictnamespace"]),
    ("pg_ts_parser", &["oid", "prsnamespace"]),
    ("pg_ts_template", &["oid", "tmplnamespace"]),
    ("pg_type", &["oid", "typnamespace", "typrelid", "typelem", "typarray", "typbasetype"]),
    ("pg_views", &["schemaname"]),
];

/// Views of `information_schema` that list nothing of a schema.
const WITHOUT_SCHEMA: [&str; 10] = [
    "administrable_role_authorizations",
    "applicable_roles",
    "character_sets",
    "enabled_roles",
    "foreign_data_wrappers",
    "foreign_servers",
    "information_schema_catalog_name",
    "schemata",
    "sql_features",
    "sql_sizing",
];

/// Columns of the views of `information_schema` with the schema of what a row is about. `udt_schema` and the like have
/// that of something it only refers to.
const OF_ROW: [&str; 11] = [
    "constraint_schema",
    "event_object_schema",
    "foreign_table_schema",
    "object_schema",
    "routine_schema",
    "sequence_schema",
    "specific_schema",
    "table_schema",
    "trigger_schema",
    "unique_constraint_schema",
    "view_schema",
];

/// As [`OF_ROW`], for the views of domains and other types.
const OF_TYPE: [&str; 4] =
    ["domain_schema", "user_defined_type_schema", "udt_schema", "constraint_schema"];

/// Functions that are true for what an unqualified name finds.
pub(super) const IS_VISIBLE: [&str; 12] = [
    "pg_table_is_visible",
    "pg_type_is_visible",
    "pg_function_is_visible",
    "pg_operator_is_visible",
    "pg_opclass_is_visible",
    "pg_opfamily_is_visible",
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_statistics_obj_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible",
];

/// Functions that look a name up; without a schema they use the search path, as every statement does. That reaches the
/// schema `extensions` too, which is the same for every tenant.
pub(super) const LOOK_UPS: [&str; 7] = [
    "to_regclass",
    "to_regtype",
    "to_regproc",
    "to_regprocedure",
    "to_regoper",
    "to_regoperator",
    "to_regcollation",
];

impl Catalog {
    /// Returns the catalog with this name, which consists of a schema, if it has one, and a table, in lower case.
    pub(super) fn find(schema: Option<&str>, table: &str) -> Option<Self> {
        match schema {
            Some("information_schema") => {
                let is_of_types = ["domain", "udt_", "user_defined_type", "attributes"];
                let is_of_type = is_of_types.iter().any(|it| table.starts_with(it));
                let columns: &[&str] = if is_of_type { &OF_TYPE } else { &OF_ROW };
                let lists_nothing = WITHOUT_SCHEMA.contains(&table);
                (!lists_nothing).then_some(Self { name: "information_schema", columns })
            }
            None | Some("pg_catalog") => CATALOGS
                .iter()
                .find(|(name, _)| *name == table)
                .map(|(name, columns)| Self { name, columns }),
            Some(_) => None,
        }
    }

    /// Whether a query of it has to say the schema.
    pub(super) fn needs_schema(self) -> bool {
        self.name != "pg_namespace"
    }

    /// Returns what a column holds, if it ties a row to one schema.
    pub(super) fn holds(self, column: &str) -> Option<Holds> {
        let is_schema = ["pg_namespace", "information_schema"].contains(&self.name)
            || ["namespace", "schemaname"].iter().any(|end| column.ends_with(end));
        let holds = if is_schema { Holds::Schema } else { Holds::Object };
        self.columns.contains(&column).then_some(holds)
    }
}

/// Whether a text contains the name of a catalog or of a function that looks a name up, in any case.
pub(super) fn are_mentioned(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if !is_word(*byte) {
            at += 1;
            continue;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let len = rest.iter().take_while(|byte| is_word(**byte)).count();
        let word = rest.get(..len).unwrap_or_default();
        if matches!(word.first(), Some(b'p' | b'P' | b'i' | b'I' | b't' | b'T')) && is_name(word) {
            return true;
        }
        at += len;
    }
    false
}

fn is_name(word: &[u8]) -> bool {
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    is("information_schema")
        || LOOK_UPS.iter().any(|name| is(name))
        || CATALOGS.iter().any(|(name, _)| is(name))
}

/// Whether a schema is the same for every tenant.
pub(super) fn is_shared(schema: &str) -> bool {
    SHARED_SCHEMAS.contains(&schema)
}

/// Whether a name in a literal, such as `public.orders`, has a fixed schema that is not the same for every tenant.
pub(super) fn names_fixed_schema(literal: &str) -> bool {
    let mut is_quoted = false;
    for (at, c) in literal.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => return false,
            '.' if !is_quoted => {
                let schema = literal.get(..at).unwrap_or_default().trim();
                let folded = match schema.strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
                    Some(quoted) => quoted.to_owned(),
                    None => schema.to_lowercase(),
                };
                // What format() fills in is not fixed; neither is what comes before the literal.
                return !folded.is_empty() && !folded.contains('%') && !is_shared(&folded);
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_fixed_schema_if_it_is_written_out_and_not_shared() {
        for (name, fixed) in [
            ("orders", false),
            ("public.orders", true),
            ("PUBLIC.orders", true),
            ("\"a.b\"", false),
            ("\"Audit\".x", true),
            ("extensions.citext", false),
            ("pg_catalog.int4", false),
            ("%I.orders", false),
            (".orders", false),
            ("f(public.mood)", false),
            ("public.f(int)", true),
        ] {
            assert_eq!(names_fixed_schema(name), fixed, "{name}");
        }
    }

    #[test]
    fn a_catalog_is_mentioned_only_as_a_whole_word() {
        assert!(are_mentioned("select PG_Class"));
        assert!(are_mentioned("x=to_regclass('a')"));
        assert!(are_mentioned("\"information_schema\".tables"));
        assert!(!are_mentioned("my_pg_class pg_classes pg_catalog.now() pg_sleep(1)"));
    }
}
