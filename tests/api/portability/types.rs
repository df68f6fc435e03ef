//! All types and all kinds of objects come back as they were.

use serde_json::json;

use super::fixture::{csv, digests, manifest, members, program_on, run, schema_of, unpack, value};
use crate::support::TestDatabase;

pub const FILES: [(&str, &str); 2] = [
    (
        "V1__create_everything.sql",
        r#"CREATE TYPE mood AS ENUM ('good', 'so so', 'bad "quoted"');
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE TYPE place AS (name text, spot point);
        CREATE TYPE floats AS RANGE (subtype = float8, subtype_diff = float8mi);
        CREATE TABLE everything (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT everything_pkey PRIMARY KEY,
            number serial, doubled int GENERATED ALWAYS AS (i * 2) STORED,
            b boolean, s smallint, i int, n numeric, n2 numeric(10, 2), r real, d double precision, m money,
            t text, v varchar(20), c char(5), one "char", na name, by bytea,
            ts timestamp, tz timestamptz, da date, ti time, tiz timetz, iv interval,
            u uuid, j json, jb jsonb, x xml, ip inet, ne cidr, ma macaddr, ma8 macaddr8, bi bit(4), vb bit varying,
            po point, ln line, ls lseg, bx box, pa path, pg polygon, ci circle, tv tsvector, tq tsquery, jp jsonpath,
            ir int4range, nr numrange, tr tstzrange, dr daterange, mr int4multirange,
            a int[], ta text[][], mo mood, moa mood[], dom positive, pl place, pla place[], fr floats, "odd ""name" text
        );"#,
    ),
    (
        "V2__create_the_rest.sql",
        "CREATE TABLE empty_columns ();
        CREATE TABLE parents (id int CONSTRAINT parents_pkey PRIMARY KEY, above int, first_child int);
        ALTER TABLE parents ADD CONSTRAINT parents_above_fkey FOREIGN KEY (above) REFERENCES parents (id);
        CREATE TABLE children (id int CONSTRAINT children_pkey PRIMARY KEY, parent int NOT NULL,
            CONSTRAINT children_parent_fkey FOREIGN KEY (parent) REFERENCES parents (id));
        ALTER TABLE parents ADD CONSTRAINT parents_first_child_fkey FOREIGN KEY (first_child) REFERENCES children (id);
        CREATE TABLE large (id int CONSTRAINT large_pkey PRIMARY KEY, word text, n int CONSTRAINT large_n_check CHECK (n >= 0));
        CREATE INDEX large_word ON large (word, (n % 5));
        COMMENT ON INDEX large_word IS 'it''s kept';
        COMMENT ON CONSTRAINT large_pkey ON large IS 'kept too';
        ALTER TABLE large CLUSTER ON large_word;
        CREATE TABLE of_large (large_id int CONSTRAINT of_large_fkey REFERENCES large (id) ON DELETE CASCADE);
        CREATE TABLE events (at date NOT NULL, what text, CONSTRAINT events_pkey PRIMARY KEY (at, what)) PARTITION BY RANGE (at);
        CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE MATERIALIZED VIEW counts AS SELECT what, count(*) AS count FROM events GROUP BY what;
        CREATE TABLE log (line text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO log VALUES ('it ran'); NEW.what := NEW.what || '!'; RETURN NEW; END $$;
        CREATE TABLE watched (what text);
        CREATE TRIGGER note BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION note();
        CREATE TRIGGER off BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION note();
        ALTER TABLE watched DISABLE TRIGGER off;
        CREATE TABLE ruled (what text);
        CREATE RULE note AS ON INSERT TO ruled DO ALSO INSERT INTO log VALUES ('it ran too');",
    ),
];

/// Rows with values that are written in more than one way, or that look like something else.
pub const ROWS: &str = r#"
    INSERT INTO everything (i, b, s, n, n2, r, d, m, t, v, c, one, na, by, ts, tz, da, ti, tiz, iv, u, j, jb, x, ip, ne, ma, ma8,
        bi, vb, po, ln, ls, bx, pa, pg, ci, tv, tq, jp, ir, nr, tr, dr, mr, a, ta, mo, moa, dom, pl, pla, fr, "odd ""name")
    VALUES
    (1, true, -32768, 'NaN', 1.10, 1.1, 0.1::float8 + 0.2, 12.34, '\.', 'a,b', 'x', 'c', 'na me', '\xdeadbeef', '2024-05-03 01:02:03.000001',
     '2024-05-03 01:02:03+02', '2024-05-03', '23:59:59.999999', '12:00+05:30', '1 year -2 days 03:04:05.5', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
     '{"b":1,  "a":[1,2.50]}', '{"b":1,"a":[1,2.50]}', '<a>b</a>', '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
     B'1010', B'101', '(1,2.5)', '{1,2,3}', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1)]', '((0,0),(1,1),(2,0))', '<(0,0),1>',
     'a:1 fat:2A', 'fat & (rat | cat)', '$.a[*] ? (@ > 1)', '[1,5)', '(1.5,)', '[2024-01-01 00:00+00,)', 'empty', '{[1,3),[5,7)}',
     '{1,NULL,3}', '{{"a","b,c"},{"\"","NULL"}}', 'bad "quoted"', '{good,"so so"}', 7, ROW('x "y"', '(1,2)'), ARRAY[ROW('a,b', NULL)::place], '[1.5,2.5]', E'line\nbreak'),
    (2, false, 0, 'Infinity', -0.01, 'NaN', '-Infinity', -1, '', '\N', '', ' ', '', '', '-infinity', 'infinity', '4713-01-01 BC', '00:00', '00:00+00', '0',
     '00000000-0000-0000-0000-000000000000', 'null', 'null', '', '::1', '::/0', '00:00:00:00:00:00', '00:00:00:00:00:00:00:00', B'0000', B'',
     '(0,0)', '{0,1,0}', '[(0,0),(0,0)]', '(0,0),(0,0)', '((0,0),(1,1))', '((0,0))', '<(0,0),0>', '', 'a', '$', '(,)', 'empty', '(,)', '(,)', '{}',
     '{}', '{}', 'good', '{}', 1, ROW(NULL, NULL), '{}', 'empty', '=1+1');
    INSERT INTO everything (t, "odd ""name") VALUES (E'\r\n"tab"\t', '''; DROP SCHEMA public CASCADE; --'), (NULL, NULL), ('\.', '"');
    INSERT INTO everything (t) VALUES ('é 🙂 ' || chr(1));
    DELETE FROM everything WHERE id = 4;
    INSERT INTO empty_columns DEFAULT VALUES; INSERT INTO empty_columns DEFAULT VALUES;
    INSERT INTO parents VALUES (1, 2, NULL), (2, 1, NULL); INSERT INTO children VALUES (10, 1), (11, 2);
    UPDATE parents SET first_child = 9 + id;
    INSERT INTO large SELECT n, 'word ' || n % 7, n FROM generate_series(1, 12000) n; INSERT INTO of_large VALUES (1), (12000);
    INSERT INTO events VALUES ('2025-05-05', 'a'), ('2026-01-01', 'a'), ('2026-02-01', 'b');
    ALTER TABLE watched DISABLE TRIGGER note; INSERT INTO watched VALUES ('as it was'); ALTER TABLE watched ENABLE TRIGGER note;
    ALTER TABLE ruled DISABLE RULE note; INSERT INTO ruled VALUES ('as it was'); ALTER TABLE ruled ENABLE RULE note;
    REFRESH MATERIALIZED VIEW counts; ANALYZE large"#;

#[tokio::test]
async fn every_type_and_every_kind_of_object_comes_back_as_it_was() {
    let database = TestDatabase::create().await;
    let program = program_on(&database, &FILES);
    let sql = database.connect().await;
    program.create_tenant("acme").expect(0);
    let schema = schema_of(&sql, "acme").await;
    run(&sql, &format!("SET search_path = {schema}, extensions; {ROWS}; RESET search_path")).await;

    let exported = program.run(&["tenant", "export", "acme", "--json"]).expect(0).json();
    assert_eq!(exported["file"], "acme.rowhouse.tar");
    let dry = ["tenant", "import", "acme.rowhouse.tar", "--slug", "copy", "--json", "--dry-run"];
    let would = program.run(&dry).expect(0).json();
    assert_eq!((&would["dry_run"], &would["id"]), (&json!(true), &json!(null)));
    assert_eq!(value(&sql, "SELECT count(*)::text FROM tenants WHERE slug = 'copy'").await, "0");
    let made = program.run(&dry[..6]).expect(0).json();
    assert_eq!(
        (&made["rows"], &made["version"], &made["members"]),
        (&exported["rows"], &json!(2), &json!(1))
    );
    program.run(&["tenant", "export", "copy", "-o", "again.tar"]).expect(0);
    let read = |name: &str| std::fs::read(program.folder().join(name)).unwrap();
    let (first, second) = (read("acme.rowhouse.tar"), read("again.tar"));
    assert_eq!(digests(&first), digests(&second));
    assert_eq!(manifest(&first)["sequences"], manifest(&second)["sequences"]);
    program.run(&["tenant", "clone", "acme", "--slug", "clone"]).expect(0);
    program.run(&["tenant", "export", "clone", "-o", "clone.tar"]).expect(0);
    let cloned = read("clone.tar");
    assert_eq!(digests(&first), digests(&cloned));
    assert_eq!(manifest(&first)["sequences"], manifest(&cloned)["sequences"]);
    assert!(!program.folder().join("again.tar.part").exists());

    // A clone is the same, without an archive.
    let clone = ["tenant", "clone", "acme", "--slug", "twin", "--json"];
    assert_eq!(program.run(&clone).expect(0).json()["status"], "active");
    program.run(&["tenant", "export", "twin", "-o", "twin.tar"]).expect(0);
    let twin = read("twin.tar");
    assert_eq!(digests(&first), digests(&twin));
    assert_eq!(manifest(&first)["sequences"], manifest(&twin)["sequences"]);
    let without = ["--exclude-data", "events", "--exclude-data", "of_large", "--suspended"];
    let clone = ["tenant", "clone", "acme", "--slug", "less", "--json"];
    let less = program.run(&[&clone[..], &without[..]].concat()).expect(0).json();
    assert_eq!(less["status"], "suspended");
    let schema = schema_of(&sql, "less").await;
    let counts = format!(
        "SELECT concat_ws(' ', (SELECT count(*) FROM {schema}.events), (SELECT count(*) FROM {schema}.of_large),
                (SELECT count(*) FROM {schema}.counts), (SELECT count(*) FROM {schema}.large))"
    );
    assert_eq!(value(&sql, &counts).await, "0 0 0 12000");
    // What is excluded must not be referred to.
    let refused = ["tenant", "clone", "acme", "--slug", "bad", "--exclude-data", "large", "--json"];
    let refused = program.run(&refused).expect(1).stderr;
    assert!(refused.contains(r#""code":"archive_rows_refused""#), "{refused}");
    program.run(&["doctor", "--tenant", "twin", "less"]).expect(0);

    // What a person sees who opens it without us.
    let everything = csv(&first, "everything");
    let names = everything.lines().next().unwrap();
    assert!(
        names.starts_with("id,number,b,s,i,") && names.ends_with(r#","odd ""name""#),
        "{names}"
    );
    assert!(!names.contains("doubled"), "a generated column has no value of its own");
    assert!(
        everything.contains("'; DROP SCHEMA public CASCADE; --") && everything.contains("=1+1")
    );
    let audit = unpack(&members(&first)["audit/000000.csv.zst"]);
    assert!(audit.contains("tenant.create"), "{audit}");

    // The next values, triggers, partitions, views and keys are as they were.
    let copy = schema_of(&sql, "copy").await;
    let ask = |query: &str| query.replace("{copy}", &copy);
    run(&sql, &ask("INSERT INTO {copy}.everything (t) VALUES ('next')")).await;
    let next = ask(
        "SELECT concat_ws(' ', id, number, doubled IS NULL) FROM {copy}.everything WHERE t = 'next'",
    );
    assert_eq!(value(&sql, &next).await, "7 7 t");
    assert_eq!(
        value(&sql, &ask("SELECT doubled::text FROM {copy}.everything WHERE id = 2")).await,
        "4"
    );
    assert_eq!(
        value(&sql, &ask("SELECT string_agg(what, ' ') FROM {copy}.watched")).await,
        "as it was"
    );
    for schema in [&copy, &schema_of(&sql, "twin").await] {
        let log = format!("SELECT count(*)::text FROM {schema}.log");
        assert_eq!(value(&sql, &log).await, "0", "triggers and rules did not run");
    }
    run(
        &sql,
        &ask("SET search_path = {copy}; INSERT INTO watched VALUES ('new'); RESET search_path"),
    )
    .await;
    assert_eq!(
        value(&sql, &ask("SELECT count(*)::text FROM {copy}.log")).await,
        "1",
        "one trigger is on, one is off"
    );
    assert_eq!(value(&sql, &ask("SELECT sum(count)::text FROM {copy}.counts")).await, "3");
    assert_eq!(value(&sql, &ask("SELECT count(*)::text FROM {copy}.events_2026")).await, "2");
    let kept = ask(
        "SELECT concat_ws(' ', obj_description('{copy}.large_word'::regclass, 'pg_class'), i.indisclustered,
                (SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 'large_pkey' AND conrelid = i.indrelid))
           FROM pg_index i WHERE i.indexrelid = '{copy}.large_word'::regclass",
    );
    assert_eq!(value(&sql, &kept).await, "it's kept t kept too");
    program.run(&["doctor", "--tenant", "copy"]).expect(0);
    program.run(&["tenant", "delete", "copy", "--yes"]).expect(0);
    program.run(&["tenant", "purge", "copy", "--yes"]).expect(0);
}

#[tokio::test]
async fn settings_of_the_server_change_no_byte_of_the_data() {
    let database = TestDatabase::create().await;
    let program = program_on(&database, &FILES);
    let sql = database.connect().await;
    program.create_tenant("acme").expect(0);
    let schema = schema_of(&sql, "acme").await;
    run(&sql, &format!("SET search_path = {schema}, extensions; {ROWS}; RESET search_path")).await;
    let export = |file: &str| {
        program.run(&["tenant", "export", "acme", "-o", file]).expect(0);
        members(&std::fs::read(program.folder().join(file)).unwrap())
    };
    let before = export("before.tar");
    let name = value(&sql, "SELECT current_database()::text").await;
    for setting in [
        "DateStyle = 'SQL, DMY'",
        "TimeZone = 'Pacific/Chatham'",
        "extra_float_digits = 0",
        "IntervalStyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "xmloption = 'document'",
    ] {
        run(&sql, &format!("ALTER DATABASE \"{name}\" SET {setting}")).await;
    }
    let after = export("after.tar");
    let data = |files: &std::collections::BTreeMap<String, Vec<u8>>| {
        let files = files.iter().filter(|(name, _)| name.starts_with("data/"));
        files.map(|(name, content)| (name.clone(), content.clone())).collect::<Vec<_>>()
    };
    assert!(data(&before).len() >= 10);
    assert_eq!(data(&before), data(&after));
    // The same settings where it comes in.
    program.run(&["tenant", "import", "before.tar", "--slug", "copy"]).expect(0);
    let copy = schema_of(&sql, "copy").await;
    let day = format!("SELECT to_char(da, 'YYYY-MM-DD') FROM {copy}.everything WHERE id = 1");
    assert_eq!(value(&sql, &day).await, "2024-05-03");
}
