//! The table of attacks.
//!
//! Each attack is tried (a) through the guard, [`TenantTx`](rowhouse::TenantTx), and (b) directly, on a
//! connection in the state of a tenant's transaction, where one message may hold several statements: this
//! shows what the database alone stops. `role` and `path` say whether the database stops the attack under
//! `isolation = role` and under `isolation = search_path`, `guard` whether the guard refuses it. An attack
//! that nothing stops is asserted to succeed, so that this file claims neither too much nor too little.

use rowhouse::Row;
use rowhouse::domain::names::TenantId;
use rowhouse::pg::rules::{Isolation, Statements};
use rowhouse::pg::{Db, Failure};
use tokio_postgres::Client;
use tokio_postgres::types::{FromSql, Type};

use super::fixture::{Fixture, schema, secret, session_state, text};
use crate::support::TestEngine;

/// The goal of an attack.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    /// To read a text that the tenant must not see.
    Read,
    /// To change data or privileges that the tenant must not change.
    Write,
    /// To run the last statement without an error.
    Run,
}

use Goal::{Read, Run, Write};

/// One attack. In the statements, `{other}` is another tenant's schema and role, `{mine}` the
/// attacker's, `{owner}` the owner's login, `{pid}` a session of the other tenant, `{lo}` a large object.
struct Attack {
    sql: &'static [&'static str],
    goal: Goal,
    /// Whether the database stops it under `isolation = role`.
    role: bool,
    /// The same under `isolation = search_path`.
    path: bool,
    /// Whether the guard refuses it.
    guard: bool,
}

impl Attack {
    fn is_stopped_by_the_database(&self, isolation: Isolation) -> bool {
        // The nodes of a cluster keep the statistics of their tables, under the names of shards; and a role is changed on
        // them by a function that is revoked.
        let on_cluster = TestEngine::of_run() == TestEngine::Citus
            && ["FROM pg_stats ", "ALTER ROLE rowhouse_runtime PASSWORD"]
                .iter()
                .any(|part| self.sql.iter().any(|sql| sql.contains(part)));
        on_cluster
            || match isolation {
                Isolation::Role => self.role,
                Isolation::SearchPath => self.path,
            }
    }
}

const fn attack(
    goal: Goal,
    [role, path, guard]: [bool; 3],
    sql: &'static [&'static str],
) -> Attack {
    Attack { sql, goal, role, path, guard }
}

const ROLE_ONLY: [bool; 3] = [true, false, false];
const ROLE_AND_GUARD: [bool; 3] = [true, false, true];
const DATABASE: [bool; 3] = [true, true, false];
const BOTH: [bool; 3] = [true, true, true];
const GUARD: [bool; 3] = [false, false, true];
/// Under `isolation = search_path` tenants have no roles to switch to; the attacker would use a qualified name
/// instead.
const GUARD_AND_NO_ROLES: [bool; 3] = [false, true, true];
const OPEN: [bool; 3] = [false, false, false];

const ATTACKS: &[Attack] = &[
    // Another tenant, by qualified name.
    attack(Read, ROLE_ONLY, &["SELECT body FROM {other}.notes"]),
    attack(Read, ROLE_ONLY, &["TABLE {other}.notes"]),
    attack(Read, ROLE_ONLY, &["SELECT body FROM {other}.bodies"]),
    attack(Read, ROLE_ONLY, &["SELECT body FROM notes UNION SELECT body FROM {other}.notes"]),
    attack(Read, ROLE_ONLY, &["WITH x AS (SELECT body FROM {other}.notes) SELECT body FROM x"]),
    attack(Read, ROLE_ONLY, &["SELECT body FROM {other}.notes FOR UPDATE"]),
    attack(Read, ROLE_ONLY, &["SELECT query_to_xml('SELECT body FROM {other}.notes', true, false, '')::text"]),
    attack(Read, ROLE_ONLY, &["SELECT table_to_xml('{other}.notes', true, false, '')::text"]),
    attack(Read, ROLE_ONLY, &["SELECT schema_to_xml('{other}', true, false, '')::text"]),
    attack(Read, ROLE_ONLY, &["SELECT word FROM ts_stat('SELECT body::tsvector FROM {other}.notes')"]),
    attack(Write, ROLE_ONLY, &["INSERT INTO {other}.notes (id, body) VALUES (gen_random_uuid(), 'x')"]),
    attack(Write, ROLE_ONLY, &["UPDATE {other}.notes SET body = 'x'"]),
    attack(Write, ROLE_ONLY, &["DELETE FROM {other}.notes"]),
    attack(Write, ROLE_ONLY, &["WITH x AS (DELETE FROM {other}.notes RETURNING 1) SELECT count(*) FROM x"]),
    attack(
        Write,
        ROLE_ONLY,
        &["MERGE INTO {other}.notes n USING {other}.notes v ON n.id = v.id WHEN MATCHED THEN DELETE"],
    ),
    attack(Write, BOTH, &["TRUNCATE {other}.notes"]),
    attack(Run, ROLE_AND_GUARD, &["LOCK TABLE {other}.notes"]),
    // The control plane.
    attack(Read, DATABASE, &["SELECT email FROM public.users"]),
    attack(Read, DATABASE, &["SELECT email FROM users"]),
    attack(Read, DATABASE, &["SELECT query_to_xml('SELECT email FROM public.users', true, false, '')::text"]),
    attack(Run, DATABASE, &["SELECT private_key FROM public.signing_keys"]),
    attack(Write, DATABASE, &["UPDATE public.users SET platform_role = 'SUPER_ADMIN'"]),
    attack(Write, DATABASE, &["DELETE FROM public.users"]),
    attack(
        Write,
        DATABASE,
        &["WITH x AS (UPDATE public.users SET platform_role = 'SUPER_ADMIN' RETURNING 1) SELECT 1 FROM x"],
    ),
    attack(Run, BOTH, &["CREATE TABLE public.mine (a int)"]),
    // The search path.
    attack(Read, ROLE_AND_GUARD, &["SET search_path = {other}", "SELECT body FROM notes"]),
    attack(Read, ROLE_AND_GUARD, &["SET LOCAL search_path = {other}", "SELECT body FROM notes"]),
    attack(Read, ROLE_AND_GUARD, &["SET SCHEMA '{other}'", "SELECT body FROM notes"]),
    attack(Read, BOTH, &["SET search_path = public", "SELECT email FROM users"]),
    attack(Read, BOTH, &["RESET search_path", "SELECT email FROM users"]),
    attack(Read, DATABASE, &["SELECT set_config('search_path', '{other}', true)", "SELECT body FROM notes"]),
    attack(
        Read,
        DATABASE,
        &["UPDATE pg_settings SET setting = '{other}' WHERE name = 'search_path'", "SELECT body FROM notes"],
    ),
    attack(Run, GUARD, &["SET LOCAL search_path = pg_temp, {mine}"]),
    attack(Run, GUARD, &["SET LOCAL statement_timeout = 0"]),
    attack(Run, GUARD, &["SET SESSION statement_timeout = 0"]),
    attack(Run, BOTH, &["ALTER SYSTEM SET work_mem = '1MB'"]),
    // Switching the role with a function.
    attack(Read, DATABASE, &["SELECT set_config('role', '{other}', true)", "SELECT body FROM {other}.notes"]),
    attack(Read, DATABASE, &["VALUES (set_config('role', '{other}', true))", "SELECT body FROM {other}.notes"]),
    attack(
        Read,
        DATABASE,
        &["SELECT body FROM notes WHERE set_config('role', '{other}', true) = ''", "TABLE {other}.notes"],
    ),
    attack(
        Read,
        DATABASE,
        &["WITH x AS MATERIALIZED (SELECT set_config('role', '{other}', true) AS r)
           SELECT query_to_xml('SELECT body FROM {other}.notes' || left(r, 0), true, false, '')::text FROM x"],
    ),
    attack(
        Read,
        DATABASE,
        &["UPDATE pg_settings SET setting = '{other}' WHERE name = 'role'", "TABLE {other}.notes"],
    ),
    attack(
        Read,
        DATABASE,
        &["UPDATE notes SET body = body WHERE set_config('role', '{other}', true) = ''", "TABLE {other}.notes"],
    ),
    attack(Read, BOTH, &["EXPLAIN ANALYZE SELECT set_config('role', '{other}', true)", "TABLE {other}.notes"]),
    attack(
        Read,
        BOTH,
        &["CREATE FUNCTION {mine}.f(a text DEFAULT set_config('role', '{other}', true)) RETURNS text
           LANGUAGE sql AS 'SELECT a'", "SELECT {mine}.f()", "TABLE {other}.notes"],
    ),
    attack(Run, DATABASE, &["SELECT query_to_xml('SET ROLE {other}', true, false, '')"]),
    // Switching the role with a statement.
    attack(Read, GUARD_AND_NO_ROLES, &["SET ROLE {other}", "SELECT body FROM {other}.notes"]),
    attack(Read, GUARD_AND_NO_ROLES, &["SET LOCAL ROLE {other}", "SELECT body FROM {other}.notes"]),
    attack(Read, GUARD_AND_NO_ROLES, &["SET role TO '{other}'", "SELECT body FROM {other}.notes"]),
    attack(Write, GUARD_AND_NO_ROLES, &["SET ROLE {other}", "UPDATE {other}.notes SET body = 'x'"]),
    attack(Read, ROLE_AND_GUARD, &["RESET ROLE", "SELECT body FROM {other}.notes"]),
    attack(Read, ROLE_AND_GUARD, &["SET ROLE NONE", "SELECT body FROM {other}.notes"]),
    attack(Read, BOTH, &["RESET ROLE", "SELECT email FROM public.users"]),
    attack(Read, BOTH, &["SET ROLE {owner}", "SELECT email FROM public.users"]),
    attack(Read, BOTH, &["SET SESSION AUTHORIZATION {owner}", "SELECT email FROM public.users"]),
    attack(Read, BOTH, &["SET SESSION AUTHORIZATION {other}", "TABLE {other}.notes"]),
    attack(Read, BOTH, &["RESET SESSION AUTHORIZATION", "SELECT email FROM public.users"]),
    attack(Read, BOTH, &["DO $$ BEGIN EXECUTE 'SET ROLE {other}'; END $$", "TABLE {other}.notes"]),
    attack(Run, BOTH, &["DO $$ BEGIN END $$"]),
    // Comments and separators before the first word.
    attack(Read, GUARD_AND_NO_ROLES, &["--\rSET ROLE {other} /*\nSELECT 1 */", "TABLE {other}.notes"]),
    attack(Read, GUARD_AND_NO_ROLES, &[";SET ROLE {other}", "TABLE {other}.notes"]),
    attack(Read, GUARD_AND_NO_ROLES, &["/*/*/ SELECT */*/SET ROLE {other}", "TABLE {other}.notes"]),
    attack(Read, GUARD_AND_NO_ROLES, &["/* SELECT */ -- SELECT\n SET ROLE {other}", "TABLE {other}.notes"]),
    // Several statements in one message.
    attack(Read, GUARD_AND_NO_ROLES, &["SELECT 1; SET ROLE {other}; SELECT body FROM {other}.notes"]),
    attack(Read, ROLE_AND_GUARD, &["SELECT 1; RESET ROLE; SELECT body FROM {other}.notes"]),
    attack(Read, GUARD_AND_NO_ROLES, &["SELECT 1; COMMIT; SET ROLE {other}; SELECT body FROM {other}.notes"]),
    attack(Read, GUARD_AND_NO_ROLES, &["WITH x AS (SELECT 1) TABLE x; SET ROLE {other}; TABLE {other}.notes"]),
    // Transaction control.
    attack(Run, GUARD, &["COMMIT"]),
    attack(Run, GUARD, &["ROLLBACK"]),
    attack(Run, GUARD, &["SAVEPOINT x"]),
    attack(Read, GUARD_AND_NO_ROLES, &["COMMIT", "SET ROLE {other}", "TABLE {other}.notes"]),
    attack(Run, BOTH, &["DISCARD ALL"]),
    // Prepared statements, cursors, COPY.
    attack(Read, ROLE_AND_GUARD, &["PREPARE p AS SELECT body FROM {other}.notes", "EXECUTE p"]),
    attack(
        Read,
        ROLE_AND_GUARD,
        &["DECLARE c CURSOR FOR SELECT body FROM {other}.notes", "FETCH ALL FROM c"],
    ),
    attack(Run, GUARD, &["DEALLOCATE ALL"]),
    attack(Run, ROLE_AND_GUARD, &["COPY {other}.notes TO STDOUT"]),
    attack(Run, ROLE_AND_GUARD, &["COPY (SELECT body FROM {other}.notes) TO STDOUT"]),
    attack(Run, BOTH, &["COPY public.users TO STDOUT"]),
    attack(Run, BOTH, &["COPY public.users FROM STDIN"]),
    attack(Run, BOTH, &["COPY notes TO '/tmp/rowhouse-stolen'"]),
    attack(Run, BOTH, &["COPY notes TO PROGRAM 'cat'"]),
    attack(Run, BOTH, &["COPY notes FROM PROGRAM 'id'"]),
    // Objects created by the attacker.
    attack(Run, BOTH, &["CREATE TABLE trap (a int)"]),
    attack(Run, DATABASE, &["SELECT body INTO stolen FROM notes"]),
    attack(Run, BOTH, &["CREATE VIEW trap AS SELECT 1"]),
    attack(Read, BOTH, &["CREATE VIEW trap AS SELECT * FROM {other}.notes", "TABLE trap"]),
    attack(Run, BOTH, &["CREATE FUNCTION trap() RETURNS int LANGUAGE sql AS 'SELECT 1'"]),
    attack(Run, BOTH, &["CREATE FUNCTION pg_temp.trap() RETURNS int LANGUAGE sql AS 'SELECT 1'"]),
    attack(Run, BOTH, &["CREATE FUNCTION extensions.trap() RETURNS int LANGUAGE sql AS 'SELECT 1'"]),
    attack(Run, BOTH, &["CREATE TEMP TABLE notes (body text)"]),
    attack(Run, DATABASE, &["SELECT 'trap' AS body INTO TEMP notes"]),
    attack(Run, BOTH, &["CREATE SCHEMA trap"]),
    attack(Run, BOTH, &["CREATE EXTENSION dblink"]),
    attack(Run, BOTH, &["CREATE EXTENSION citext SCHEMA extensions"]),
    attack(Run, DATABASE, &["SELECT dblink('dbname=postgres', 'SELECT 1')"]),
    attack(Run, BOTH, &["LOAD 'auto_explain'"]),
    attack(Run, DATABASE, &["SELECT lo_create(0)"]),
    attack(Run, DATABASE, &["SELECT lo_from_bytea(0, 'x')"]),
    attack(Run, DATABASE, &["SELECT lo_import('/etc/passwd')"]),
    attack(Read, DATABASE, &["SELECT convert_from(lo_get({lo}), 'UTF8')"]),
    // Privileges and ownership.
    attack(Write, BOTH, &["GRANT SELECT ON notes TO PUBLIC"]),
    attack(Write, BOTH, &["GRANT USAGE ON SCHEMA {mine} TO PUBLIC"]),
    attack(Run, BOTH, &["GRANT {owner} TO {mine}"]),
    attack(Run, BOTH, &["GRANT {other} TO {mine}"]),
    attack(Run, BOTH, &["ALTER TABLE notes ADD COLUMN trap int"]),
    attack(Run, BOTH, &["ALTER TABLE notes OWNER TO {mine}"]),
    attack(Run, BOTH, &["ALTER ROLE {mine} CREATEROLE"]),
    attack(Run, BOTH, &["CREATE ROLE trap"]),
    // A login may change its own password; under `search_path` all tenants share one login.
    attack(Run, ROLE_AND_GUARD, &["ALTER ROLE rowhouse_runtime PASSWORD 'x'"]),
    attack(Run, GUARD, &["DROP OWNED BY CURRENT_USER"]),
    attack(Run, BOTH, &["DROP TABLE notes"]),
    attack(Run, BOTH, &["TRUNCATE notes"]),
    attack(Run, BOTH, &["CREATE RULE trap AS ON SELECT TO notes DO INSTEAD SELECT 1"]),
    attack(Run, BOTH, &["COMMENT ON TABLE {other}.notes IS 'x'"]),
    // The migration history.
    attack(Run, DATABASE, &["SELECT version FROM refinery_schema_history"]),
    attack(Write, DATABASE, &["DELETE FROM refinery_schema_history"]),
    attack(Write, DATABASE, &["UPDATE refinery_schema_history SET version = 99"]),
    // The server and other sessions.
    attack(Run, DATABASE, &["SELECT pg_read_file('/etc/passwd')"]),
    attack(Run, DATABASE, &["SELECT pg_ls_dir('.')"]),
    attack(Run, DATABASE, &["SELECT rolpassword FROM pg_authid"]),
    attack(Run, DATABASE, &["SELECT pg_reload_conf()"]),
    attack(Run, DATABASE, &["SELECT pg_stat_reset()"]),
    attack(Run, DATABASE, &["SELECT pg_terminate_backend({pid})"]),
    attack(Run, DATABASE, &["SELECT pg_cancel_backend({pid})"]),
    attack(Read, ROLE_ONLY, &["SELECT query FROM pg_stat_activity"]),
    attack(Read, ROLE_ONLY, &["SELECT pg_stat_get_backend_activity(id) FROM pg_stat_get_backend_idset() id"]),
    attack(Read, ROLE_ONLY, &["SELECT most_common_vals::text FROM pg_stats WHERE schemaname = '{other}'"]),
    attack(Run, DATABASE, &["SELECT stavalues1 FROM pg_statistic"]),
    attack(Run, DATABASE, &["SELECT pg_advisory_lock(1)"]),
    attack(Run, DATABASE, &["SELECT pg_try_advisory_lock(1)"]),
    attack(Run, DATABASE, &["SELECT pg_try_advisory_lock_shared(1, 2)"]),
    // Would keep a lock on a table of the control plane until the transaction ends.
    attack(
        Run,
        DATABASE,
        &["SELECT table_to_xmlschema(oid::regclass, true, true, '') FROM pg_class WHERE relname = 'users'"],
    ),
    attack(Run, DATABASE, &["SELECT setseed(0.5)"]),
    attack(Run, DATABASE, &["SELECT (0.5::float8).setseed"]),
    attack(Run, GUARD, &["SET seed = 0.5"]),
    attack(Run, GUARD, &["LISTEN rowhouse"]),
    attack(Run, GUARD, &["NOTIFY rowhouse"]),
    // Attacks that nothing stops.
    attack(Run, OPEN, &["SELECT pg_notify('rowhouse', 'x')"]),
    attack(Run, OPEN, &["SELECT pg_advisory_xact_lock(1)"]),
    attack(Run, OPEN, &["SELECT 1 FROM pg_namespace WHERE nspname = '{other}' HAVING count(*) = 1"]),
    attack(Run, OPEN, &["SELECT 1 FROM pg_roles WHERE rolname = 'rowhouse_runtime' HAVING count(*) = 1"]),
    attack(
        Run,
        OPEN,
        &["SELECT pg_relation_size(c.oid), reltuples FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE nspname = '{other}' AND relname = 'notes'"],
    ),
    attack(Run, OPEN, &["SELECT prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
                          WHERE nspname = '{other}'"]),
    attack(Run, OPEN, &["SELECT count(*) FROM pg_locks"]),
];

/// A secret of the control plane, which no tenant may read.
const PUBLIC_SECRET: &str = "SECRET-of-the-control-plane@example.com";

/// The fixture of an attack: an attacker, a victim, and their secrets.
struct AttackFixture {
    fixture: Fixture,
    mine: TenantId,
    other: TenantId,
    /// A session of the other tenant, with a secret in the text of its last query.
    other_session: Client,
    other_pid: i32,
    large_object: u32,
    owner: String,
    before: String,
}

impl AttackFixture {
    async fn prepare(isolation: Isolation) -> Self {
        let fixture = Fixture::build(isolation, 2).await;
        let (mine, other) = (fixture.tenants[0], fixture.tenants[1]);
        fixture
            .owner
            .execute(
                "INSERT INTO public.users (id, email, first_name, last_name, created_at, updated_at)
                 VALUES (gen_random_uuid(), $1, 'Ada', 'Admin', now(), now())",
                &[&PUBLIC_SECRET],
            )
            .await
            .expect("a user can be written");
        let large_object = fixture
            .owner
            .query_one("SELECT lo_from_bytea(0, convert_to($1, 'UTF8'))", &[&PUBLIC_SECRET])
            .await
            .expect("the owner may make a large object")
            .get(0);
        let other_session = fixture.raw().await;
        let other_pid =
            other_session.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
        let sql = format!("{}; SELECT 1 /* {} */", fixture.enter_sql(other), secret(other));
        other_session.batch_execute(&sql).await.expect("the other tenant works");
        let owner = fixture.query_text("SELECT quote_ident(current_user)").await;
        let mut attacked = Self {
            fixture,
            mine,
            other,
            other_session,
            other_pid,
            large_object,
            owner,
            before: String::new(),
        };
        attacked.before = attacked.state().await;
        attacked
    }

    fn fill_in(&self, sql: &str) -> String {
        sql.replace("{other}", &schema(self.other))
            .replace("{mine}", &schema(self.mine))
            .replace("{owner}", &self.owner)
            .replace("{pid}", &self.other_pid.to_string())
            .replace("{lo}", &self.large_object.to_string())
    }

    /// Returns all rows and privileges that an attacker must not change.
    async fn state(&self) -> String {
        let (mine, other) = (schema(self.mine), schema(self.other));
        self.fixture
            .query_text(&format!(
                "SELECT (SELECT string_agg(n::text, ';' ORDER BY id) FROM {other}.notes n),
                        (SELECT string_agg(u::text, ';' ORDER BY id) FROM public.users u),
                        (SELECT string_agg(t::text, ';' ORDER BY id) FROM public.tenants t),
                        (SELECT string_agg(h::text, ';' ORDER BY version)
                           FROM {mine}.refinery_schema_history h),
                        (SELECT string_agg(c.oid::regclass || coalesce(relacl::text, ''), ';' ORDER BY c.oid)
                           FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                          WHERE nspname IN ('{mine}', '{other}', 'public')),
                        (SELECT string_agg(nspname || coalesce(nspacl::text, ''), ';' ORDER BY oid)
                           FROM pg_namespace WHERE nspname !~ '^pg_'),
                        (SELECT count(*) FROM pg_proc WHERE proname = 'trap'),
                        (SELECT count(*) FROM pg_largeobject_metadata)"
            ))
            .await
    }

    /// Returns whether a text contains a secret that the attacker must not see.
    fn exposes_secret(&self, seen: &str) -> bool {
        seen.contains(&secret(self.other)) || seen.contains(PUBLIC_SECRET)
    }

    /// Runs the attack without the guard, each statement in its own message of the simple query protocol.
    /// Returns whether it succeeded.
    async fn succeeds_directly(&self, raw: &Client, attack: &Attack) -> bool {
        raw.batch_execute(&self.fixture.enter_sql(self.mine))
            .await
            .expect("a tenant can be entered");
        let (mut seen, mut all_ran) = (String::new(), true);
        for sql in attack.sql {
            match raw.simple_query(&self.fill_in(sql)).await {
                Ok(messages) => seen.push_str(&text(&messages)),
                // The server accepted a COPY, whose messages the client does not expect.
                Err(error) if error.as_db_error().is_none() && sql.starts_with("COPY") => {}
                Err(error) if error.as_db_error().is_some() => {
                    all_ran = false;
                    break;
                }
                Err(error) => panic!("{sql}: {error:?}"),
            }
        }
        // Attacks that only run are rolled back, because some would affect other tests.
        let end = if attack.goal == Write { "COMMIT" } else { "ROLLBACK" };
        raw.batch_execute(end).await.expect("the transaction can end");
        raw.batch_execute("DISCARD ALL").await.expect("the session can be reset");
        self.has_succeeded(attack, &seen, all_ran).await
    }

    /// Returns whether the attack reached its goal, and restores what it changed.
    async fn has_succeeded(&self, attack: &Attack, seen: &str, all_ran: bool) -> bool {
        match attack.goal {
            Read => self.exposes_secret(seen),
            Run => all_ran,
            Write => {
                let has_changed = self.state().await != self.before;
                if has_changed {
                    self.fixture.seed(self.other).await;
                }
                has_changed
            }
        }
    }

    /// Runs the attack through the guard, as an application would. Returns whether it succeeded and whether the
    /// guard refused it.
    async fn succeeds_through_guard(&self, db: &Db, attack: &Attack) -> (bool, bool) {
        let tx = db.tenant(self.mine).await.expect("a tenant can be entered");
        let (mut seen, mut all_ran, mut refused) = (String::new(), true, false);
        for sql in attack.sql {
            match tx.query(&self.fill_in(sql), &[]).await {
                Ok(rows) => rows.iter().for_each(|row| seen.push_str(&columns_as_text(row))),
                Err(failure) => {
                    all_ran = false;
                    refused |= is_refusal(&failure);
                    // Under `search_path` the remaining statements would be another line of the table.
                    if self.fixture.isolation == Isolation::SearchPath {
                        break;
                    }
                }
            }
        }
        if attack.goal == Write {
            let _ = tx.commit().await;
        } else {
            drop(tx);
        }
        (self.has_succeeded(attack, &seen, all_ran).await, refused)
    }
}

/// Returns whether the guard refused: by the first keyword, or because a message holds several statements.
fn is_refusal(failure: &Failure) -> bool {
    let several = failure.sqlstate().is_some_and(|state| state.code() == "42601")
        && format!("{failure:?}").contains("cannot insert multiple commands");
    matches!(failure, Failure::NotAllowed(_)) || several
}

/// Returns the bytes of all columns as text.
fn columns_as_text(row: &Row) -> String {
    struct Raw(String);
    impl<'a> FromSql<'a> for Raw {
        fn from_sql(
            _: &Type,
            raw: &'a [u8],
        ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
            Ok(Self(String::from_utf8_lossy(raw).into_owned()))
        }
        fn accepts(_: &Type) -> bool {
            true
        }
    }
    (0..row.len()).filter_map(|at| row.get::<_, Option<Raw>>(at)).map(|raw| raw.0).collect()
}

/// Tries every attack of the table and fails with the list of those whose result differs from the table.
async fn try_all_attacks(isolation: Isolation) {
    let attacked = AttackFixture::prepare(isolation).await;
    let raw = attacked.fixture.raw().await;
    let mut wrong = Vec::new();
    for attack in ATTACKS {
        let stops = attack.is_stopped_by_the_database(isolation);
        if attacked.succeeds_directly(&raw, attack).await == stops {
            let but = if stops { "does not stop" } else { "stops" };
            wrong.push(format!("the database {but}: {:?}", attack.sql));
        }
    }
    for statements in [Statements::Unnamed, Statements::Cached] {
        let db = attacked.fixture.db(statements, 1);
        let clean = session_state(&db).await;
        for attack in ATTACKS {
            let stops = attack.is_stopped_by_the_database(isolation);
            let (worked, refused) = attacked.succeeds_through_guard(&db, attack).await;
            if refused != attack.guard {
                let but = if attack.guard { "accepts" } else { "refuses" };
                wrong.push(format!("the guard {but} ({statements:?}): {:?}", attack.sql));
            }
            if worked == (stops || attack.guard) {
                let but = if worked { "worked" } else { "did not work" };
                wrong
                    .push(format!("through the guard it {but} ({statements:?}): {:?}", attack.sql));
            }
            let found = session_state(&db).await;
            if found != clean {
                wrong.push(format!(
                    "session state left ({statements:?}): {:?}: {found}",
                    attack.sql
                ));
            }
        }
    }
    assert_eq!(attacked.state().await, attacked.before);
    attacked.other_session.batch_execute("COMMIT").await.expect("the other session still works");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn each_attack_is_stopped_as_the_table_says_with_a_role_for_each_tenant() {
    try_all_attacks(Isolation::Role).await;
}

#[tokio::test]
async fn each_attack_is_stopped_as_the_table_says_with_the_search_path_alone() {
    try_all_attacks(Isolation::SearchPath).await;
}

/// The section "What nothing stops" of `docs/isolation.md` has one line for each of these.
#[test]
fn attacks_that_nothing_stops_are_those_listed_in_the_book() {
    let open = ATTACKS.iter().filter(|a| !a.role && !a.guard);
    for attack in open {
        let sql = attack.sql.join(" ");
        let is_known =
            ["pg_notify", "pg_advisory_xact_lock", "pg_namespace", "pg_roles", "pg_locks"];
        assert!(is_known.iter().any(|word| sql.contains(word)), "{sql}");
    }
}
