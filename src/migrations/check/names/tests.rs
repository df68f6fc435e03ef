use super::*;

fn found(sql: &str) -> Vec<(String, &'static str)> {
    check(sql, Whose::Tenants).into_iter().map(|found| (found.what, found.reason)).collect()
}

const TENANT: &str = "tenant_0123456789abcdef0123456789abcdef";

#[test]
fn another_schema_is_found_wherever_it_is_named() {
    for sql in [
        "DROP TABLE IF EXISTS public.users CASCADE",
        "SELECT * FROM \"public\" . users",
        "CREATE TABLE Public.users (id int)",
        "CREATE VIEW v AS SELECT a FROM PUBLIC.users",
        "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES public.users",
        "GRANT USAGE ON SCHEMA public TO app",
        "CREATE EXTENSION x SCHEMA \"public\"",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = pg_catalog, public AS 'SELECT 1'",
        "ALTER FUNCTION f() SET search_path TO 'public'",
        "DO $$ BEGIN DELETE FROM public.users; END $$",
        "DO $$ BEGIN EXECUTE 'DELETE FROM public.users'; END $$",
        "DO 'BEGIN EXECUTE ''DELETE FROM public.users''; END'",
        "DO E'BEGIN EXECUTE \\'DELETE FROM public.users\\'; END'",
        "DO $$ BEGIN EXECUTE format('DELETE FROM public.%I', x); END $$",
        "DO $a$ BEGIN EXECUTE $$ DELETE FROM \"public\".users $$; END $a$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT a FROM public.users $$",
        "CREATE OR REPLACE PROCEDURE f() AS $$ BEGIN DELETE FROM public.users; END $$ LANGUAGE plpgsql",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT a FROM public.users; END",
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpython3u AS $$ plpy.execute('select public.f()') $$",
        "SELECT setval('public.notes_id_seq', 1)",
        "ALTER TABLE t ALTER COLUMN a SET DEFAULT nextval('public.s'::regclass)",
        "SELECT 'public.users'::regclass, regclass 'x'",
        "SELECT CAST('public.users' AS regclass)",
    ] {
        assert!(found(sql).iter().any(|(_, reason)| *reason == PUBLIC), "{sql}: {:?}", found(sql));
    }
    for sql in [
        format!("SELECT a FROM {TENANT}.notes"),
        format!("SELECT a FROM \"{TENANT}\".notes"),
        format!("DO $$ BEGIN EXECUTE 'DELETE FROM {TENANT}.notes'; END $$"),
    ] {
        assert_eq!(found(&sql), [(TENANT.to_owned(), OTHER_TENANT)], "{sql}");
    }
}

#[test]
fn other_names_and_texts_are_left_alone() {
    for sql in [
        "INSERT INTO texts VALUES ('The garden is public. Come in!', 'public.key')",
        "INSERT INTO texts VALUES ($$ DELETE FROM public.users $$)",
        "CREATE TABLE t (public boolean, tenant_id uuid)",
        "SELECT t.public FROM t WHERE t.public.x = 1",
        "GRANT SELECT ON notes TO PUBLIC",
        "SELECT a FROM notpublic.x, public_x.y, tenant_a.z",
        "DO $$ BEGIN RAISE NOTICE 'see www.public.example or a@public.example'; END $$",
        "DO $$ BEGIN UPDATE members SET role = 'x'; END $$",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('a.b', 'c', false); END $$",
        "COMMENT ON TABLE notes IS 'was public.notes'",
        "SELECT pg_catalog.set_config('a.b', 'c', true)",
        "SELECT set_config",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT 1'",
    ] {
        assert_eq!(found(sql), [], "{sql}");
    }
}

#[test]
fn what_a_file_must_not_do_its_bodies_must_not_do_either() {
    for (sql, words) in [
        ("SELECT pg_catalog.set_config('search_path', '', false)", "set_config('search_path', ..)"),
        ("SELECT set_config('search_path', 'x', true)", "set_config('search_path', ..)"),
        ("SELECT set_config('a.b', upper('c'), false)", "set_config('a.b', ..)"),
        ("SELECT set_config('a.b', 'c', 'f')", "set_config('a.b', ..)"),
        ("DO $$ BEGIN PERFORM set_config('a.b', 'c', false); END $$", "set_config('a.b', ..)"),
        ("DO $$ BEGIN SET ROLE postgres; END $$", "SET ROLE"),
        ("DO $$ BEGIN IF true THEN RESET ROLE; END IF; END $$", "RESET ROLE"),
        ("DO $$ BEGIN EXECUTE 'SET ROLE postgres'; END $$", "SET ROLE"),
        ("DO $$ BEGIN EXECUTE format('SET LOCAL ROLE %I', x); END $$", "SET LOCAL ROLE"),
        ("DO $$ BEGIN SET statement_timeout = 0; END $$", "SET STATEMENT_TIMEOUT"),
        ("DO $$ BEGIN SET LOCAL search_path = x; END $$", "SET LOCAL SEARCH_PATH"),
        (
            "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET SESSION AUTHORIZATION x; END $$",
            "SET SESSION AUTHORIZATION",
        ),
        (
            "DO $$ BEGIN IF NOT EXISTS (SELECT 1) THEN CREATE ROLE app LOGIN; END IF; END $$",
            "CREATE ROLE",
        ),
        (
            "DO $$ BEGIN CREATE EXTENSION IF NOT EXISTS x SCHEMA extensions; END $$",
            "CREATE EXTENSION",
        ),
        ("DO $$ BEGIN ALTER TABLE notes OWNER TO app; END $$", "ALTER TABLE .. OWNER TO"),
        ("DO $$ BEGIN EXECUTE 'SELECT 1; DROP SCHEMA x'; END $$", "DROP SCHEMA"),
    ] {
        let found = found(sql);
        assert_eq!(found.first().map(|(what, _)| what.as_str()), Some(words), "{sql}: {found:?}");
    }
}

#[test]
fn the_control_plane_names_its_own_schema() {
    let sql = "DO $$ BEGIN DELETE FROM public.users; END $$";
    assert_eq!(check(sql, Whose::ControlPlane), []);
}
