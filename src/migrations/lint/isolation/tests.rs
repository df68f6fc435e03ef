//! Queries that ask without a schema, in every place where a migration can have one, and those that do not.

use crate::migrations::lint::{Rule, check};

/// The lines in which a file asks without a schema.
fn lines(sql: &str) -> Vec<u64> {
    let report = check(&[("V1__x.sql".to_owned(), sql)], "");
    let found = report.findings.iter().filter(|found| found.rule == Rule::CatalogWithoutSchema);
    found.map(|found| found.line).collect()
}

/// A guard in a DO block around a condition.
fn guarded(condition: &str) -> String {
    format!(
        "DO $$ BEGIN\n  IF {condition} THEN\n    ALTER TABLE orders ADD COLUMN a int;\n  END IF;\nEND $$;"
    )
}

#[test]
fn a_guard_that_asks_by_name_alone_is_found_for_every_catalog() {
    for query in [
        "SELECT 1 FROM pg_constraint WHERE conname = 'orders_check'",
        "SELECT FROM pg_catalog.pg_constraint c WHERE c.conname = 'orders_check' AND c.contype = 'c'",
        "SELECT 1 FROM pg_class WHERE relname = 'orders' AND relkind = 'r'",
        "SELECT 1 FROM pg_class c WHERE c.relname LIKE 'orders%'",
        "SELECT 1 FROM pg_type WHERE typname = 'mood'",
        "SELECT 1 FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid WHERE t.typname = 'mood' AND e.enumlabel = 'x'",
        "SELECT 1 FROM pg_indexes WHERE tablename = 'orders' AND indexname = 'orders_idx'",
        "SELECT 1 FROM pg_tables WHERE tablename = 'orders'",
        "SELECT 1 FROM pg_views WHERE viewname = 'v'",
        "SELECT 1 FROM pg_matviews WHERE matviewname = 'v'",
        "SELECT 1 FROM pg_policies WHERE policyname = 'p'",
        "SELECT 1 FROM pg_policy WHERE polname = 'p'",
        "SELECT 1 FROM pg_trigger WHERE tgname = 'touch' AND NOT tgisinternal",
        "SELECT 1 FROM pg_proc WHERE proname = 'touch'",
        "SELECT 1 FROM pg_attribute WHERE attname = 'a' AND NOT attisdropped",
        "SELECT 1 FROM pg_sequences WHERE sequencename = 's'",
        "SELECT 1 FROM pg_rules WHERE rulename = 'r'",
        "SELECT 1 FROM pg_statistic_ext WHERE stxname = 's'",
        "SELECT 1 FROM pg_stat_user_tables WHERE relname = 'orders'",
        "SELECT 1 FROM information_schema.tables WHERE table_name = 'orders'",
        "SELECT 1 FROM information_schema.columns WHERE table_name = 'orders' AND column_name = 'a'",
        "SELECT 1 FROM information_schema.table_constraints WHERE constraint_name = 'orders_check'",
        "SELECT 1 FROM information_schema.routines WHERE routine_name = 'touch'",
        "SELECT 1 FROM information_schema.triggers WHERE trigger_name = 'touch'",
        "SELECT 1 FROM information_schema.columns WHERE table_name = 'o' AND table_catalog = current_database()",
        "SELECT 1 FROM information_schema.columns WHERE table_name = 'o' AND udt_schema = current_schema()",
    ] {
        assert_eq!(lines(&guarded(&format!("NOT EXISTS ({query})"))), [2], "{query}");
        assert_eq!(lines(&guarded(&format!("EXISTS ({query})"))), [2], "{query}");
    }
}

#[test]
fn a_condition_that_does_not_say_one_schema_is_found() {
    for condition in [
        "relnamespace <> 'pg_catalog'::regnamespace",
        "relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname = current_schema())",
        "(relnamespace = current_schema()::regnamespace OR relkind = 'r')",
        "NOT (relnamespace = current_schema()::regnamespace)",
        "relnamespace = 'public'::regnamespace",
        "relnamespace = 2200",
        "relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'tenant%')",
        "relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname = 'public')",
        "oid = to_regclass('public.orders')",
        "oid = 'public.orders'::regclass",
        "relowner = current_user::regrole",
    ] {
        let query =
            format!("EXISTS (SELECT 1 FROM pg_class WHERE relname = 'orders' AND {condition})");
        assert_eq!(lines(&guarded(&query)), [2], "{condition}");
    }
    for query in [
        "SELECT 1 FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
         WHERE c.relname = 'orders'",
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = 'orders'",
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'",
        "SELECT 1 FROM information_schema.tables WHERE table_schema = 'public' AND table_name = 'orders'",
        "SELECT 1 FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema')",
        "SELECT 1 FROM information_schema.tables WHERE table_schema IN ('public', current_schema())",
        "SELECT 1 FROM information_schema.table_constraints c
           JOIN information_schema.key_column_usage k ON k.constraint_name = c.constraint_name
          WHERE c.table_schema = current_schema()",
        "SELECT 1 FROM pg_constraint WHERE conname = 'a' UNION ALL
         SELECT 1 FROM pg_constraint WHERE conname = 'b' AND conrelid = 'orders'::regclass",
        "SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = 'orders_idx'",
    ] {
        assert_eq!(lines(&guarded(&format!("EXISTS ({query})"))).len(), 1, "{query}");
    }
}

/// What the rule's remedy says, and what people write beside it.
const WITH_SCHEMA: &[&str] = &[
    "SELECT 1 FROM pg_constraint WHERE conname = 'c' AND connamespace = current_schema()::regnamespace",
    "SELECT 1 FROM pg_constraint WHERE conname = 'c' AND conrelid = 'orders'::regclass",
    "SELECT 1 FROM pg_constraint WHERE conname = 'c' AND conrelid = to_regclass('orders')",
    "SELECT 1 FROM pg_constraint WHERE conname = 'c' AND conrelid = regclass 'orders'",
    "SELECT 1 FROM pg_constraint WHERE conname = 'c' AND conrelid::regclass::text = 'orders'",
    "SELECT 1 FROM pg_constraint WHERE (conname, conrelid) = ('c', 'orders'::regclass)",
    "SELECT 1 FROM pg_constraint WHERE 'orders'::regclass = conrelid",
    "SELECT 1 FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
      WHERE c.conname = 'c' AND r.relnamespace = current_schema()::regnamespace",
    "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relname = 'orders' AND n.nspname = current_schema()",
    "SELECT 1 FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relname = 'orders' AND n.nspname = current_schema",
    "SELECT 1 FROM pg_class c, pg_namespace n
      WHERE n.oid = c.relnamespace AND n.nspname = current_schema() AND c.relname = 'orders'",
    "SELECT 1 FROM pg_class c WHERE relname = 'orders'
        AND EXISTS (SELECT FROM pg_namespace n WHERE n.oid = c.relnamespace AND n.nspname = current_schema())",
    "SELECT 1 FROM pg_class WHERE relname = 'orders'
        AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())",
    "SELECT 1 FROM pg_class WHERE relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname = current_schema())",
    "SELECT 1 FROM pg_class WHERE relname = 'orders' AND pg_table_is_visible(oid)",
    "SELECT 1 FROM pg_class c WHERE relname = 'o' AND pg_catalog.pg_table_is_visible(c.oid)",
    "SELECT 1 FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'a'",
    "SELECT 1 FROM pg_index WHERE indrelid = 'orders'::regclass AND indisprimary",
    "SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
      WHERE i.indrelid = 'orders'::regclass AND c.relname = 'orders_idx'",
    "SELECT 1 FROM pg_trigger WHERE tgname = 'touch' AND tgrelid = 'orders'::regclass",
    "SELECT 1 FROM pg_proc WHERE proname = 'touch' AND pronamespace = current_schema()::regnamespace",
    "SELECT 1 FROM pg_proc WHERE oid = 'touch'::regproc",
    "SELECT 1 FROM pg_type WHERE typname = 'mood' AND typnamespace = current_schema()::regnamespace",
    "SELECT 1 FROM pg_type WHERE typname = 'citext' AND typnamespace = 'extensions'::regnamespace",
    "SELECT 1 FROM pg_enum WHERE enumtypid = 'mood'::regtype AND enumlabel = 'x'",
    "SELECT 1 FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
      WHERE t.oid = to_regtype('mood') AND e.enumlabel = 'x'",
    "SELECT 1 FROM pg_indexes WHERE schemaname = current_schema() AND indexname = 'i'",
    "SELECT 1 FROM pg_indexes WHERE schemaname = ANY (current_schemas(false)) AND indexname = 'i'",
    "SELECT 1 FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = 'o'",
    "SELECT 1 FROM information_schema.columns WHERE table_schema = CURRENT_SCHEMA AND table_name = 'o'",
    "SELECT 1 FROM information_schema.columns WHERE table_schema = $1 AND table_name = 'o'",
    "SELECT 1 FROM information_schema.columns WHERE table_schema = v_schema AND table_name = 'o'",
    "SELECT 1 FROM information_schema.domains WHERE domain_schema = current_schema() AND domain_name = 'd'",
    "SELECT 1 FROM information_schema.table_constraints c
       JOIN information_schema.key_column_usage k USING (constraint_schema, constraint_name)
      WHERE c.constraint_schema = current_schema()",
    "SELECT 1 FROM information_schema.table_constraints c
       JOIN information_schema.key_column_usage k
         ON k.constraint_name = c.constraint_name AND k.table_schema = c.table_schema
      WHERE c.table_schema = current_schema()",
    "SELECT 1 FROM pg_class WHERE relkind = 'r' AND (oid = 'a'::regclass OR oid = 'b'::regclass)",
    "SELECT 1 FROM pg_class WHERE oid IN ('a'::regclass, 'b'::regclass)",
    "SELECT 1 FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
        AND NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'x')",
    "SELECT 1 FROM pg_namespace WHERE nspname = 'audit'",
    "SELECT 1 FROM pg_roles WHERE rolname = 'reporting'",
    "SELECT 1 FROM pg_extension WHERE extname = 'pgcrypto'",
    "SELECT 1 FROM pg_settings WHERE name = 'x'",
    "SELECT 1 FROM my_pg_class WHERE relname = 'x'",
    "SELECT 1 FROM orders WHERE note = 'see pg_class'",
];

#[test]
fn a_query_that_names_its_schema_is_not_found() {
    for query in WITH_SCHEMA {
        assert_eq!(lines(&guarded(&format!("NOT EXISTS ({query})"))), [] as [u64; 0], "{query}");
    }
    for condition in ["to_regclass('orders') IS NULL", "to_regtype('extensions.citext') IS NULL"] {
        assert_eq!(lines(&guarded(condition)), [] as [u64; 0], "{condition}");
    }
}

#[test]
fn a_name_that_is_looked_up_in_a_fixed_schema_is_found() {
    for condition in [
        "to_regclass('public.orders') IS NULL",
        "to_regtype('public.mood') IS NULL",
        "to_regproc('app.touch') IS NULL",
        "pg_catalog.to_regprocedure('public.touch(int)') IS NULL",
    ] {
        assert_eq!(lines(&guarded(condition)), [2], "{condition}");
    }
    assert_eq!(lines("SELECT 1 WHERE to_regclass('public.orders') IS NULL"), [1]);
}

/// A guard by name alone, in every place where a query can be.
#[test]
fn a_query_is_found_wherever_it_stands() {
    const ASKS: &str = "SELECT 1 FROM pg_class WHERE relname = 'orders'";
    for (sql, line) in [
        (format!("INSERT INTO orders (id) SELECT 1 WHERE NOT EXISTS ({ASKS})"), 1),
        ("INSERT INTO orders (id)\nSELECT 1 FROM pg_class WHERE relname = 'x' ON CONFLICT DO NOTHING".to_owned(), 2),
        (format!("UPDATE orders SET a = CASE WHEN EXISTS (\n{ASKS}) THEN 1 ELSE 2 END"), 2),
        ("UPDATE orders SET a = c.reltuples\nFROM pg_class c WHERE c.relname = 'orders'".to_owned(), 2),
        ("DELETE FROM orders\nUSING pg_class c WHERE c.relname = 'orders'".to_owned(), 2),
        (format!("CREATE VIEW v AS\n{ASKS}"), 2),
        (format!("WITH c AS (\n{ASKS}) SELECT * FROM c"), 2),
        (format!("SELECT (\n{ASKS})"), 2),
        ("DO $$ BEGIN\nPERFORM 1 FROM pg_class WHERE relname = 'x';\nEND $$".to_owned(), 2),
        ("DO $$ DECLARE n int; BEGIN\nSELECT count(*) INTO STRICT n FROM pg_class WHERE relname = 'x';\nEND $$".to_owned(), 2),
        ("DO $$ BEGIN\nIF count(*) = 0 FROM pg_class WHERE relname = 'x' THEN NULL; END IF;\nEND $$".to_owned(), 2),
        ("DO $$ DECLARE r record; BEGIN\nFOR r IN SELECT * FROM pg_tables LOOP NULL; END LOOP;\nEND $$".to_owned(), 2),
        ("DO $$ BEGIN\nEXECUTE 'SELECT 1 FROM pg_class WHERE relname = ''x''';\nEND $$".to_owned(), 2),
        ("DO $$ BEGIN\nEXECUTE format('SELECT 1 FROM pg_class WHERE relname = %L', 'x');\nEND $$".to_owned(), 2),
        ("DO $$ BEGIN\nEXECUTE 'SELECT 1 FROM pg_class WHERE relname = ' || quote_literal('x');\nEND $$".to_owned(), 2),
        ("DO $a$ BEGIN EXECUTE $b$\nSELECT 1 FROM pg_class WHERE relname = 'x' $b$; END $a$".to_owned(), 2),
        (format!("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$\n{ASKS} $$"), 2),
        (format!("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql\nAS '{}'", ASKS.replace('\'', "''")), 2),
        (format!("CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC\n{ASKS}; END"), 2),
        (format!("CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (\n{ASKS}) THEN NULL; END IF; END $$"), 2),
        (format!("DO LANGUAGE plpython3u $$\nplpy.execute(\"{ASKS}\")\n$$"), 2),
        (format!("CREATE FUNCTION f() RETURNS int LANGUAGE plv8 AS $$ var it = \"don't\";\nplv8.execute(`{ASKS}`) $$"), 2),
        (format!("SELECT run('IF NOT EXISTS (\n{}) THEN')", ASKS.replace('\'', "''")), 2),
    ] {
        assert_eq!(lines(&sql), [line], "{sql}");
    }
}

/// Queries that the parser does not support are read by their words.
#[test]
fn a_query_that_is_read_by_its_words_is_found_only_without_a_schema() {
    let update = "UPDATE orders SET a = 1 FROM pg_class c";
    for (sql, count) in [
        (format!("{update} WHERE c.relname = 'orders'"), 1),
        (
            format!(
                "{update} WHERE c.relname = 'orders' AND c.relnamespace = current_schema()::regnamespace"
            ),
            0,
        ),
        (format!("{update} WHERE c.oid = 'orders'::regclass"), 0),
        (format!("{update} WHERE c.oid = 'public.orders'::regclass"), 1),
        (format!("{update} WHERE pg_table_is_visible(c.oid) AND relname = 'orders'"), 0),
        (
            format!(
                "{update} JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema()"
            ),
            0,
        ),
        (
            format!(
                "{update} JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'"
            ),
            1,
        ),
        (format!("{update} WHERE c.relname = 'a' OR c.oid = 'orders'::regclass"), 1),
    ] {
        assert_eq!(lines(&sql).len(), count, "{sql}");
    }
    let built = "DO $$ BEGIN EXECUTE 'SELECT 1 FROM pg_tables WHERE schemaname = ' || quote_literal(s); END $$";
    assert_eq!(lines(built), [] as [u64; 0]);
}

#[test]
fn text_that_is_data_is_not_read() {
    for sql in [
        "INSERT INTO orders (note) VALUES ('SELECT 1 FROM pg_class WHERE relname = 1')",
        "COMMENT ON TABLE orders IS 'see SELECT * FROM pg_class'",
        "-- SELECT 1 FROM pg_class\nSELECT 1",
        "SELECT pg_catalog.setval('s', 1)",
        "DO $$ BEGIN /* FROM pg_class */ NULL; -- FROM pg_class\nEND $$",
    ] {
        assert_eq!(lines(sql), [] as [u64; 0], "{sql}");
    }
}
