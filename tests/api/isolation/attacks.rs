//! The table of attacks.
//!
//! Each is tried (a) through [`TenantTx`](rowhouse::TenantTx) and (b) raw, on a connection in the state of
//! a tenant's transaction, where several statements may stack in one message: what the database alone
//! is worth. `role` and `path` say whether it stops the attack under `isolation = role` and under
//! `isolation = search_path`; `door` whether the door does. What nobody stops is asserted to work, so that
//! this file cannot claim too much or too little.

use rowhouse::Row;
use rowhouse::domain::names::TenantId;
use rowhouse::pg::rules::{Isolation, Statements};
use rowhouse::pg::{Db, Failure};
use tokio_postgres::Client;
use tokio_postgres::types::{FromSql, Type};

use super::house::{House, next_borrower_finds, schema, secret, text};

/// What the attacker is after.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    /// To see a text that is none of the tenant's business.
    Read,
    /// To change what is none of the tenant's business.
    Write,
    /// To have the last statement run at all.
    Run,
}

use Goal::{Read, Run, Write};

/// One way to try. In the statements, `{other}` is another tenant's schema and role, `{mine}` the
/// attacker's own, `{owner}` the owner's login, `{pid}` a session of the other tenant, `{lo}` a large object.
struct Attack {
    sql: &'static [&'static str],
    goal: Goal,
    /// Whether the database stops it under `isolation = role`.
    role: bool,
    /// The same under `isolation = search_path`.
    path: bool,
    /// Whether the door stops it.
    door: bool,
}

const fn attack(goal: Goal, [role, path, door]: [bool; 3], sql: &'static [&'static str]) -> Attack {
    Attack { sql, goal, role, path, door }
}

const ROLE_ONLY: [bool; 3] = [true, false, false];
const ROLE_AND_DOOR: [bool; 3] = [true, false, true];
const DATABASE: [bool; 3] = [true, true, false];
const BOTH: [bool; 3] = [true, true, true];
const DOOR: [bool; 3] = [false, false, true];
/// There is no tenant's role to become where tenants have none; what the attacker wants is then had by a
/// qualified name.
const DOOR_AND_NO_ROLES: [bool; 3] = [false, true, true];
const OPEN: [bool; 3] = [false, false, false];

const ATTACKS: &[Attack] = &[
    // Another tenant by its name.
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
        &["MERGE INTO {other}.notes USING (VALUES (1)) v ON true WHEN MATCHED THEN DELETE"],
    ),
    attack(Write, BOTH, &["TRUNCATE {other}.notes"]),
    attack(Run, ROLE_AND_DOOR, &["LOCK TABLE {other}.notes"]),
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
    // The path.
    attack(Read, ROLE_AND_DOOR, &["SET search_path = {other}", "SELECT body FROM notes"]),
    attack(Read, ROLE_AND_DOOR, &["SET LOCAL search_path = {other}", "SELECT body FROM notes"]),
    attack(Read, ROLE_AND_DOOR, &["SET SCHEMA '{other}'", "SELECT body FROM notes"]),
    attack(Read, BOTH, &["SET search_path = public", "SELECT email FROM users"]),
    attack(Read, BOTH, &["RESET search_path", "SELECT email FROM users"]),
    attack(Read, DATABASE, &["SELECT set_config('search_path', '{other}', true)", "SELECT body FROM notes"]),
    attack(
        Read,
        DATABASE,
        &["UPDATE pg_settings SET setting = '{other}' WHERE name = 'search_path'", "SELECT body FROM notes"],
    ),
    attack(Run, DOOR, &["SET LOCAL search_path = pg_temp, {mine}"]),
    attack(Run, DOOR, &["SET LOCAL statement_timeout = 0"]),
    attack(Run, DOOR, &["SET SESSION statement_timeout = 0"]),
    attack(Run, BOTH, &["ALTER SYSTEM SET work_mem = '1MB'"]),
    // The role, by a function.
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
    // The role, by a statement.
    attack(Read, DOOR_AND_NO_ROLES, &["SET ROLE {other}", "SELECT body FROM {other}.notes"]),
    attack(Read, DOOR_AND_NO_ROLES, &["SET LOCAL ROLE {other}", "SELECT body FROM {other}.notes"]),
    attack(Read, DOOR_AND_NO_ROLES, &["SET role TO '{other}'", "SELECT body FROM {other}.notes"]),
    attack(Write, DOOR_AND_NO_ROLES, &["SET ROLE {other}", "UPDATE {other}.notes SET body = 'x'"]),
    attack(Read, ROLE_AND_DOOR, &["RESET ROLE", "SELECT body FROM {other}.notes"]),
    attack(Read, ROLE_AND_DOOR, &["SET ROLE NONE", "SELECT body FROM {other}.notes"]),
    attack(Read, BOTH, &["RESET ROLE", "SELECT email FROM public.users"]),
    attack(Read, BOTH, &["SET ROLE {owner}", "SELECT email FROM public.users"]),
    attack(Read, BOTH, &["SET SESSION AUTHORIZATION {owner}", "SELECT email FROM public.users"]),
    attack(Read, BOTH, &["SET SESSION AUTHORIZATION {other}", "TABLE {other}.notes"]),
    attack(Read, BOTH, &["RESET SESSION AUTHORIZATION", "SELECT email FROM public.users"]),
    attack(Read, BOTH, &["DO $$ BEGIN EXECUTE 'SET ROLE {other}'; END $$", "TABLE {other}.notes"]),
    attack(Run, BOTH, &["DO $$ BEGIN END $$"]),
    // Words that look like others.
    attack(Read, DOOR_AND_NO_ROLES, &["--\rSET ROLE {other} /*\nSELECT 1 */", "TABLE {other}.notes"]),
    attack(Read, DOOR_AND_NO_ROLES, &[";SET ROLE {other}", "TABLE {other}.notes"]),
    attack(Read, DOOR_AND_NO_ROLES, &["/*/*/ SELECT */*/SET ROLE {other}", "TABLE {other}.notes"]),
    attack(Read, DOOR_AND_NO_ROLES, &["/* SELECT */ -- SELECT\n SET ROLE {other}", "TABLE {other}.notes"]),
    // Several in one message.
    attack(Read, DOOR_AND_NO_ROLES, &["SELECT 1; SET ROLE {other}; SELECT body FROM {other}.notes"]),
    attack(Read, ROLE_AND_DOOR, &["SELECT 1; RESET ROLE; SELECT body FROM {other}.notes"]),
    attack(Read, DOOR_AND_NO_ROLES, &["SELECT 1; COMMIT; SET ROLE {other}; SELECT body FROM {other}.notes"]),
    attack(Read, DOOR_AND_NO_ROLES, &["WITH x AS (SELECT 1) TABLE x; SET ROLE {other}; TABLE {other}.notes"]),
    // The transaction.
    attack(Run, DOOR, &["COMMIT"]),
    attack(Run, DOOR, &["ROLLBACK"]),
    attack(Run, DOOR, &["SAVEPOINT x"]),
    attack(Read, DOOR_AND_NO_ROLES, &["COMMIT", "SET ROLE {other}", "TABLE {other}.notes"]),
    attack(Run, BOTH, &["DISCARD ALL"]),
    // Prepared, as a cursor, copied.
    attack(Read, ROLE_AND_DOOR, &["PREPARE p AS SELECT body FROM {other}.notes", "EXECUTE p"]),
    attack(
        Read,
        ROLE_AND_DOOR,
        &["DECLARE c CURSOR FOR SELECT body FROM {other}.notes", "FETCH ALL FROM c"],
    ),
    attack(Run, DOOR, &["DEALLOCATE ALL"]),
    attack(Run, ROLE_AND_DOOR, &["COPY {other}.notes TO STDOUT"]),
    attack(Run, ROLE_AND_DOOR, &["COPY (SELECT body FROM {other}.notes) TO STDOUT"]),
    attack(Run, BOTH, &["COPY public.users TO STDOUT"]),
    attack(Run, BOTH, &["COPY public.users FROM STDIN"]),
    attack(Run, BOTH, &["COPY notes TO '/tmp/rowhouse-stolen'"]),
    attack(Run, BOTH, &["COPY notes TO PROGRAM 'cat'"]),
    attack(Run, BOTH, &["COPY notes FROM PROGRAM 'id'"]),
    // Objects of the attacker's own.
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
    // Rights.
    attack(Write, BOTH, &["GRANT SELECT ON notes TO PUBLIC"]),
    attack(Write, BOTH, &["GRANT USAGE ON SCHEMA {mine} TO PUBLIC"]),
    attack(Run, BOTH, &["GRANT {owner} TO {mine}"]),
    attack(Run, BOTH, &["GRANT {other} TO {mine}"]),
    attack(Run, BOTH, &["ALTER TABLE notes ADD COLUMN trap int"]),
    attack(Run, BOTH, &["ALTER TABLE notes OWNER TO {mine}"]),
    attack(Run, BOTH, &["ALTER ROLE {mine} CREATEROLE"]),
    attack(Run, BOTH, &["CREATE ROLE trap"]),
    // One's own password is one's own to change, and the shared login is one's own there.
    attack(Run, ROLE_AND_DOOR, &["ALTER ROLE rowhouse_runtime PASSWORD 'x'"]),
    attack(Run, DOOR, &["DROP OWNED BY CURRENT_USER"]),
    attack(Run, BOTH, &["DROP TABLE notes"]),
    attack(Run, BOTH, &["TRUNCATE notes"]),
    attack(Run, BOTH, &["CREATE RULE trap AS ON SELECT TO notes DO INSTEAD SELECT 1"]),
    attack(Run, BOTH, &["COMMENT ON TABLE {other}.notes IS 'x'"]),
    // The history of migrations.
    attack(Run, DATABASE, &["SELECT version FROM refinery_schema_history"]),
    attack(Write, DATABASE, &["DELETE FROM refinery_schema_history"]),
    attack(Write, DATABASE, &["UPDATE refinery_schema_history SET version = 99"]),
    // The server and the others' sessions.
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
    attack(Run, DOOR, &["LISTEN rowhouse"]),
    attack(Run, DOOR, &["NOTIFY rowhouse"]),
    // What stays open.
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

/// What the owner wrote where no tenant may look.
const PUBLIC_SECRET: &str = "SECRET-of-the-control-plane@example.com";

/// Everything an attack needs around it.
struct Siege {
    house: House,
    mine: TenantId,
    other: TenantId,
    /// A session of the other tenant, with a secret in the text of its query.
    bystander: Client,
    bystander_pid: i32,
    large_object: u32,
    owner: String,
    before: String,
}

impl Siege {
    async fn begin(isolation: Isolation) -> Self {
        let house = House::build(isolation, 2).await;
        let (mine, other) = (house.tenants[0], house.tenants[1]);
        house
            .owner
            .execute(
                "INSERT INTO public.users (id, email, first_name, last_name, created_at, updated_at)
                 VALUES (gen_random_uuid(), $1, 'Ada', 'Admin', now(), now())",
                &[&PUBLIC_SECRET],
            )
            .await
            .expect("a user can be written");
        let large_object = house
            .owner
            .query_one("SELECT lo_from_bytea(0, convert_to($1, 'UTF8'))", &[&PUBLIC_SECRET])
            .await
            .expect("the owner may make a large object")
            .get(0);
        let bystander = house.raw().await;
        let bystander_pid =
            bystander.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
        let sql = format!("{}; SELECT 1 /* {} */", house.entrance(other), secret(other));
        bystander.batch_execute(&sql).await.expect("the other tenant works");
        let owner = house.ask("SELECT quote_ident(current_user)").await;
        let mut siege = Self {
            house,
            mine,
            other,
            bystander,
            bystander_pid,
            large_object,
            owner,
            before: String::new(),
        };
        siege.before = siege.state().await;
        siege
    }

    fn fill_in(&self, sql: &str) -> String {
        sql.replace("{other}", &schema(self.other))
            .replace("{mine}", &schema(self.mine))
            .replace("{owner}", &self.owner)
            .replace("{pid}", &self.bystander_pid.to_string())
            .replace("{lo}", &self.large_object.to_string())
    }

    /// All rows and rights that an attacker must not change.
    async fn state(&self) -> String {
        let (mine, other) = (schema(self.mine), schema(self.other));
        self.house
            .ask(&format!(
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

    /// Whether a text holds what the attacker must not see.
    fn gives_away(&self, seen: &str) -> bool {
        seen.contains(&secret(self.other)) || seen.contains(PUBLIC_SECRET)
    }

    /// As if the door had a hole: every statement in a message of its own, by the simple protocol.
    async fn succeeds_raw(&self, raw: &Client, attack: &Attack) -> bool {
        raw.batch_execute(&self.house.entrance(self.mine)).await.expect("a tenant can be entered");
        let (mut seen, mut all_ran) = (String::new(), true);
        for sql in attack.sql {
            match raw.simple_query(&self.fill_in(sql)).await {
                Ok(messages) => seen.push_str(&text(&messages)),
                // A COPY that began: the client does not expect its messages, the server had no objection.
                Err(error) if error.as_db_error().is_none() && sql.starts_with("COPY") => {}
                Err(error) if error.as_db_error().is_some() => {
                    all_ran = false;
                    break;
                }
                Err(error) => panic!("{sql}: {error:?}"),
            }
        }
        // What merely runs is not made to last: some of it would hurt the tests beside this one.
        let end = if attack.goal == Write { "COMMIT" } else { "ROLLBACK" };
        raw.batch_execute(end).await.expect("a transaction can end");
        raw.batch_execute("DISCARD ALL").await.expect("a session can be cleaned");
        self.judge(attack, &seen, all_ran).await
    }

    async fn judge(&self, attack: &Attack, seen: &str, all_ran: bool) -> bool {
        match attack.goal {
            Read => self.gives_away(seen),
            Run => all_ran,
            Write => {
                let has_changed = self.state().await != self.before;
                if has_changed {
                    self.house.seed(self.other).await;
                }
                has_changed
            }
        }
    }

    /// Through the door, as an application would. Tells whether it worked and whether the door said no.
    async fn succeeds_through_the_door(&self, db: &Db, attack: &Attack) -> (bool, bool) {
        let tx = db.tenant(self.mine).await.expect("a tenant can be entered");
        let (mut seen, mut all_ran, mut refused) = (String::new(), true, false);
        for sql in attack.sql {
            match tx.query(&self.fill_in(sql), &[]).await {
                Ok(rows) => rows.iter().for_each(|row| seen.push_str(&everything(row))),
                Err(failure) => {
                    all_ran = false;
                    refused |= says_no(&failure);
                    // Under the path alone the rest would be another line of the table: a qualified name.
                    if self.house.isolation == Isolation::SearchPath {
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
        (self.judge(attack, &seen, all_ran).await, refused)
    }
}

/// Whether it is the door that refuses: by the first word, or because one message holds one statement.
fn says_no(failure: &Failure) -> bool {
    let several = failure.sqlstate().is_some_and(|state| state.code() == "42601")
        && format!("{failure:?}").contains("cannot insert multiple commands");
    matches!(failure, Failure::NotAllowed(_)) || several
}

/// The bytes of all columns, as text.
fn everything(row: &Row) -> String {
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

/// Tries the whole table and lists every line that is not as it says.
async fn besiege(isolation: Isolation) {
    let siege = Siege::begin(isolation).await;
    let raw = siege.house.raw().await;
    let mut wrong = Vec::new();
    for attack in ATTACKS {
        let stops = match isolation {
            Isolation::Role => attack.role,
            Isolation::SearchPath => attack.path,
        };
        if siege.succeeds_raw(&raw, attack).await == stops {
            let but = if stops { "does not stop" } else { "stops" };
            wrong.push(format!("the database {but}: {:?}", attack.sql));
        }
    }
    for statements in [Statements::Unnamed, Statements::Cached] {
        let db = siege.house.door(statements, 1);
        let clean = next_borrower_finds(&db).await;
        for attack in ATTACKS {
            let stops = match isolation {
                Isolation::Role => attack.role,
                Isolation::SearchPath => attack.path,
            };
            let (worked, refused) = siege.succeeds_through_the_door(&db, attack).await;
            if refused != attack.door {
                let but = if attack.door { "lets pass" } else { "refuses" };
                wrong.push(format!("the door {but} ({statements:?}): {:?}", attack.sql));
            }
            if worked == (stops || attack.door) {
                let but = if worked { "worked" } else { "did not work" };
                wrong.push(format!("through the door it {but} ({statements:?}): {:?}", attack.sql));
            }
            let found = next_borrower_finds(&db).await;
            if found != clean {
                wrong.push(format!("left behind ({statements:?}): {:?}: {found}", attack.sql));
            }
        }
    }
    assert_eq!(siege.state().await, siege.before);
    siege.bystander.batch_execute("COMMIT").await.expect("the bystander was not harmed");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_attack_is_stopped_by_what_the_table_says_under_a_role_for_each_tenant() {
    besiege(Isolation::Role).await;
}

#[tokio::test]
async fn every_attack_is_stopped_by_what_the_table_says_under_the_search_path_alone() {
    besiege(Isolation::SearchPath).await;
}

/// A table for README's section on security has one line for what stays open; this is the list.
#[test]
fn what_nothing_stops_is_what_the_readme_says() {
    let open = ATTACKS.iter().filter(|a| !a.role && !a.door);
    for attack in open {
        let sql = attack.sql.join(" ");
        let is_known =
            ["pg_notify", "pg_advisory_xact_lock", "pg_namespace", "pg_roles", "pg_locks"];
        assert!(is_known.iter().any(|word| sql.contains(word)), "{sql}");
    }
}
