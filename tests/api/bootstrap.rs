//! What a start makes of a database, and which databases it refuses.
//!
//! Roles belong to a server, and most of these tests bend the one that all tests share. They run one
//! after another on a server of their own, over TCP, where a password decides (the shared one trusts its
//! socket).

use std::sync::OnceLock;

use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use rowhouse::domain::names::{Slug, TenantId, TenantName};
use rowhouse::embedded::{Durability, Server, Settings as ServerSettings};
use rowhouse::migrations::MigrationSet;
use rowhouse::pg::Db;
use rowhouse::pg::bootstrap::runtime_password;
use rowhouse::pg::db::Database;
use rowhouse::pg::rules::{Isolation, PoolSizes, RUNTIME_LOGIN, Rules, Statements, TimeLimits};
use rowhouse::service::provisioning::{Admin, ProvisionTenant};
use rowhouse::service::tenants::TenantRef;
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::isolation::house::{endpoint, schema};
use crate::support::postgres::connect;
use crate::support::{Program, TestDatabase, settings_for};

/// Opens a database as `serve` does.
async fn open(url: &str, more: &[(&'static str, &str)]) -> Result<Backend, String> {
    let mut values = settings_for(url);
    values.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let settings = Settings::from_values(&values).expect("the settings of a test are good");
    Backend::open(&settings, &Options::default()).await.map_err(|error| error.to_string())
}

/// Opens and closes again; what was found open.
async fn start(url: &str, more: &[(&'static str, &str)]) -> Result<Vec<String>, String> {
    let backend = open(url, more).await?;
    let open = backend.posture.open.clone();
    backend.close().await;
    Ok(open)
}

async fn provision(backend: &Backend, slug: &str) -> TenantId {
    let (name, slug) =
        (TenantName::parse(slug).expect("a good name"), Slug::parse(slug).expect("a good slug"));
    let wish = ProvisionTenant::new(name, slug, Admin::Nobody);
    let made = backend.services.provisioning.provision(&backend.operator(), wish).await;
    made.expect("a tenant is made").id
}

/// The door to a database, without the house around it.
fn door(url: &str, isolation: Isolation) -> Db {
    let rules = Rules::new(isolation, Statements::Unnamed, TimeLimits::default());
    Database::new(endpoint(url, None), endpoint(url, Some(RUNTIME_LOGIN)), rules)
        .pools(PoolSizes { control: 1, runtime: 1 })
        .expect("pools can be made")
}

/// The version of every row of the catalogs and of the control plane that a start could write.
async fn versions(client: &Client) -> String {
    let rows = client
        .query(
            "SELECT 'role', rolname::text, xmin::text FROM pg_authid WHERE rolname = 'rowhouse_runtime'
             UNION ALL SELECT 'database', datname, xmin::text FROM pg_database
                        WHERE datname = current_database()
             UNION ALL SELECT 'setting', setconfig::text, xmin::text FROM pg_db_role_setting
                        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
             UNION ALL SELECT 'schema', nspname, xmin::text FROM pg_namespace
             UNION ALL SELECT 'language', lanname, xmin::text FROM pg_language
             UNION ALL SELECT 'function', oid::text, xmin::text FROM pg_proc
             UNION ALL SELECT 'relation', relname, xmin::text FROM pg_class WHERE relkind IN ('r', 'i')
                        AND relnamespace IN ('public'::regnamespace, 'extensions'::regnamespace)
             UNION ALL SELECT 'default', oid::text, xmin::text FROM pg_default_acl
             UNION ALL SELECT 'migration', version::text, xmin::text FROM public.refinery_schema_history
             UNION ALL SELECT 'key', kid, xmin::text FROM public.signing_keys
             UNION ALL SELECT 'user', email, xmin::text FROM public.users
             ORDER BY 1, 2, 3",
            &[],
        )
        .await
        .expect("the catalogs can be read");
    let line = |row: &tokio_postgres::Row| {
        format!("{} {} {}\n", row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, &str>(2))
    };
    rows.iter().map(line).collect()
}

#[tokio::test]
async fn a_second_start_changes_nothing() {
    let database = TestDatabase::create_empty().await;
    start(&database.url(), &[]).await.expect("the first start");
    let client = database.connect().await;
    let before = versions(&client).await;
    assert!(before.contains("role rowhouse_runtime") && before.contains("migration 1"), "{before}");
    start(&database.url(), &[]).await.expect("the second start");
    assert_eq!(versions(&client).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_at_once_on_a_fresh_database_all_come_up() {
    let database = TestDatabase::create_empty().await;
    let url = database.url();
    let starts = (0..4).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { start(&url, &[]).await })
    });
    for started in starts.collect::<Vec<_>>() {
        started.await.expect("no panic").expect("every process starts");
    }
    let client = database.connect().await;
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM public.signing_keys),
                    (SELECT count(*) FROM public.refinery_schema_history)",
            &[],
        )
        .await
        .expect("the control plane is there");
    let files = MigrationSet::public().expect("the built-in set is good").files().len();
    assert_eq!((row.get(0), row.get::<_, i64>(1)), (1_i64, i64::try_from(files).unwrap()));
}

#[tokio::test]
async fn a_database_newer_than_the_program_is_refused_and_left_alone() {
    let database = TestDatabase::create().await;
    start(&database.url(), &[]).await.expect("it starts"); // a clone lacks the rights on the database
    let client = database.connect().await;
    client
        .batch_execute(
            "INSERT INTO public.refinery_schema_history (version, name, applied_on, checksum)
             VALUES (999, 'from_the_future', '2030-01-01T00:00:00Z', '1')",
        )
        .await
        .expect("a row of the future can be written");
    let before = versions(&client).await;
    let error = start(&database.url(), &[]).await.expect_err("it is newer");
    assert!(error.contains("version 999") && error.contains("start a newer one"), "{error}");
    assert_eq!(versions(&client).await, before);
}

#[tokio::test]
async fn a_database_that_is_away_is_told_by_its_address_and_without_the_password() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port can be had")
        .port();
    let url = format!("postgres://keeper:hunter22@127.0.0.1:{port}/nowhere?sslmode=disable");
    let error = start(&url, &[]).await.expect_err("nobody is there");
    assert!(error.contains(&format!("127.0.0.1:{port}, database nowhere")), "{error}");
    assert!(error.contains("refused") && !error.contains("hunter22"), "{error}");
}

#[tokio::test]
async fn the_runtime_login_can_read_no_table_of_the_control_plane_and_owns_nothing() {
    let database = TestDatabase::create().await;
    start(&database.url(), &[]).await.expect("it starts"); // a clone lacks the rights on the database
    let owner = database.connect().await;
    let raw = endpoint(&database.url(), Some(RUNTIME_LOGIN));
    let raw = rowhouse::pg::bootstrap::connect(&raw).await.expect("the runtime login may connect");
    let tables = owner
        .query("SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'", &[])
        .await
        .expect("tables can be listed");
    assert!(tables.len() > 8, "{}", tables.len());
    for row in tables {
        let table: String = row.get(0);
        let error = raw.batch_execute(&format!("SELECT FROM public.{table}")).await;
        let error = error.expect_err(&table);
        assert_eq!(error.code().map(SqlState::code), Some("42501"), "{table}: {error:?}");
    }
    let row = owner
        .query_one(
            "SELECT has_schema_privilege('rowhouse_runtime', 'public', 'USAGE'),
                    has_database_privilege('rowhouse_runtime', current_database(), 'TEMP'),
                    has_database_privilege('rowhouse_runtime', current_database(), 'CREATE'),
                    has_schema_privilege('rowhouse_runtime', 'extensions', 'CREATE'),
                    has_language_privilege('rowhouse_runtime', 'plpgsql', 'USAGE'),
                    has_function_privilege('rowhouse_runtime', 'set_config(text, text, boolean)', 'EXECUTE'),
                    has_function_privilege('rowhouse_runtime', 'pg_advisory_lock(bigint)', 'EXECUTE'),
                    has_function_privilege('rowhouse_runtime', 'lo_create(oid)', 'EXECUTE'),
                    has_function_privilege('rowhouse_runtime', 'pg_terminate_backend(int, bigint)', 'EXECUTE'),
                    EXISTS (SELECT FROM pg_shdepend WHERE refobjid = 'rowhouse_runtime'::regrole
                               AND deptype = 'o'),
                    EXISTS (SELECT FROM pg_roles WHERE rolname = 'rowhouse_runtime' AND (rolsuper OR
                               rolinherit OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication))",
            &[],
        )
        .await
        .expect("privileges can be read");
    for at in 0..row.len() {
        assert!(!row.get::<_, bool>(at), "question {at} was answered with yes");
    }
}

#[tokio::test]
async fn a_start_refuses_to_serve_where_the_runtime_login_reads_the_control_plane() {
    let database = TestDatabase::create().await;
    let owner = database.connect().await;
    let open_up = "GRANT USAGE ON SCHEMA public TO rowhouse_runtime;
                   GRANT SELECT ON public.users TO rowhouse_runtime";
    owner.batch_execute(open_up).await.expect("an operator may do so");
    let error = start(&database.url(), &[]).await.expect_err("the wall is open");
    assert!(error.contains("the walls do not hold: rowhouse_runtime"), "{error}");
    assert!(error.contains("public.users"), "{error}");
}

#[tokio::test]
async fn a_start_refuses_to_serve_where_one_tenant_reads_another() {
    let database = TestDatabase::create().await;
    let backend = open(&database.url(), &[]).await.expect("a house opens");
    let (one, other) = (provision(&backend, "acme").await, provision(&backend, "globex").await);
    backend.close().await;
    start(&database.url(), &[]).await.expect("the walls hold");
    let (one, other) = (schema(one), schema(other));
    let owner = database.connect().await;
    let open_up = format!(
        "GRANT USAGE ON SCHEMA {one} TO {other}; GRANT SELECT ON ALL TABLES IN SCHEMA {one} TO {other}"
    );
    owner.batch_execute(&open_up).await.expect("an operator may do so");
    let error = start(&database.url(), &[]).await.expect_err("the wall is open");
    assert!(error.contains(&format!("the walls do not hold: {other} could run")), "{error}");

    let open_up = format!(
        "REVOKE USAGE ON SCHEMA {one} FROM {other}; GRANT USAGE ON SCHEMA {one} TO rowhouse_runtime;
         GRANT SELECT ON ALL TABLES IN SCHEMA {one} TO rowhouse_runtime"
    );
    owner.batch_execute(&open_up).await.expect("an operator may do so");
    let error = start(&database.url(), &[]).await.expect_err("the wall is open");
    assert!(error.contains("the walls do not hold: rowhouse_runtime could run"), "{error}");
}

/// The three time limits in a fresh session of the runtime login, and inside of a tenant.
async fn limits(url: &str, backend: &Backend, tenant: TenantId) -> [String; 2] {
    const LIMITS: &str = "SELECT concat_ws(' ', current_setting('statement_timeout'),
        current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'))";
    let runtime = endpoint(url, Some(RUNTIME_LOGIN));
    let client = rowhouse::pg::bootstrap::connect(&runtime).await.expect("the login works");
    let alone = client.query_one(LIMITS, &[]).await.expect("a session has settings").get(0);
    let (ctx, which) = (backend.operator(), TenantRef::Id(tenant));
    let (_, tx) = backend.services.tenants.open(&ctx, &which).await.expect("the tenant is there");
    [alone, tx.query_one(LIMITS, &[]).await.expect("a query runs").get(0)]
}

#[tokio::test]
async fn the_runtime_login_has_the_time_limits_by_itself() {
    let database = TestDatabase::create().await;
    let backend = open(&database.url(), &[]).await.expect("it starts");
    let tenant = provision(&backend, "acme").await;
    assert_eq!(limits(&database.url(), &backend, tenant).await, ["30s 5s 30s", "30s 5s 30s"]);
    backend.close().await;
}

#[tokio::test]
async fn time_limits_that_somebody_chose_stay_and_each_transaction_sets_its_own() {
    let database = TestDatabase::create().await;
    let sql = format!(
        "ALTER ROLE {RUNTIME_LOGIN} IN DATABASE {} SET statement_timeout = '7s'",
        database.name()
    );
    database.connect().await.batch_execute(&sql).await.expect("the owner may");
    let backend = open(&database.url(), &[]).await.expect("it starts");
    let tenant = provision(&backend, "acme").await;
    assert_eq!(limits(&database.url(), &backend, tenant).await, ["7s 0 0", "30s 5s 30s"]);
    backend.close().await;
    // So it is between processes with different settings: the first one's are the login's.
    let other = open(&database.url(), &[("database.lock_timeout", "2s")]).await.expect("it starts");
    assert_eq!(limits(&database.url(), &other, tenant).await, ["7s 0 0", "30s 2s 30s"]);
    other.close().await;
}

#[tokio::test]
async fn tenants_made_without_roles_are_told_when_roles_are_wanted() {
    let database = TestDatabase::create().await;
    let by_path = [("database.isolation", "search_path")];
    let backend = open(&database.url(), &by_path).await.expect("a house opens");
    let one = provision(&backend, "acme").await;
    let other = provision(&backend, "globex").await;
    assert!(backend.posture.open.iter().any(|open| open.contains("isolation = search_path")));
    backend.close().await;
    // The shared login still reads what it was given, which is what the self-test finds first.
    let error = start(&database.url(), &[]).await.expect_err("the wall is open");
    assert!(error.contains("the walls do not hold: rowhouse_runtime"), "{error}");
    let owner = database.connect().await;
    for tenant in [one, other].map(schema) {
        let close = format!(
            "REVOKE ALL ON ALL TABLES IN SCHEMA {tenant} FROM rowhouse_runtime;
             REVOKE ALL ON SCHEMA {tenant} FROM rowhouse_runtime"
        );
        owner.batch_execute(&close).await.expect("an operator may do so");
    }
    let open = start(&database.url(), &[]).await.expect("nothing is open");
    assert!(open.iter().any(|open| open.contains(&other.to_string())), "{open:?}");
}

/// A server where passwords decide, for one test at a time.
struct Castle {
    server: &'static Server,
    admin: Client,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl Castle {
    async fn take() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        static SERVER: OnceLock<Server> = OnceLock::new();
        let turn = TURN.lock().await;
        let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(build_server)).await;
        let server = server.expect("a server whose logins we choose can be started");
        let admin = connect(&server.database_url("postgres")).await;
        let castle = Self { server, admin, _one_at_a_time: turn };
        castle.clean().await;
        castle
    }

    /// Removes what the test before left, so that a failing one does not take others with it.
    async fn clean(&self) {
        let databases = "SELECT datname::text FROM pg_database WHERE datname LIKE 'of_%'";
        for row in self.admin.query(databases, &[]).await.expect("databases can be listed") {
            let name: String = row.get(0);
            self.sql(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
        let roles =
            "SELECT rolname::text FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'rowhouse'";
        for row in self.admin.query(roles, &[]).await.expect("roles can be listed") {
            self.sql(&format!("DROP ROLE {}", row.get::<_, String>(0))).await;
        }
    }

    async fn sql(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// A database of the superuser's.
    async fn database(&self, name: &str) -> String {
        self.sql(&format!("CREATE DATABASE {name}")).await;
        self.server.database_url(name)
    }

    /// A login that is no superuser, and a database that it owns. The URL is over TCP.
    async fn keep(&self, login: &str, rights: &str, password: &str) -> String {
        self.sql(&format!("CREATE ROLE {login} LOGIN {rights} PASSWORD '{password}'")).await;
        self.sql(&format!("CREATE DATABASE of_{login} OWNER {login}")).await;
        self.url(login, password)
    }

    fn url(&self, login: &str, password: &str) -> String {
        let port = self.server.port();
        format!("postgres://{login}:{password}@127.0.0.1:{port}/of_{login}?sslmode=disable")
    }

    /// The superuser inside a login's database.
    async fn inside(&self, login: &str) -> Client {
        connect(&self.server.database_url(&format!("of_{login}"))).await
    }
}

fn build_server() -> Server {
    let home = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(home).expect("the folder for tests is there").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("castle-") else { continue };
        if !std::path::Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let settings = ServerSettings {
        data_dir: home.join(format!("castle-{}", std::process::id())),
        bin_dir: None,
        durability: Durability::None,
        listen_tcp: Some(0),
        max_connections: 60,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let started = runtime.block_on(Server::start(&settings));
    // It watches over the server for as long as the tests run.
    std::mem::forget(runtime);
    started.unwrap_or_else(|error| panic!("{error}"))
}

/// The SQLSTATE with which a login is refused; none where it is let in.
async fn refused(url: &str) -> Option<String> {
    let outcome = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
    outcome
        .err()
        .map(|error| error.code().map_or_else(|| error.to_string(), |c| c.code().to_owned()))
}

fn runtime_url(owner_url: &str, owner: &str, owners_password: &str) -> String {
    let derived = runtime_password(owners_password.as_bytes());
    owner_url
        .replace(&format!("{owner}:{owners_password}@"), &format!("{RUNTIME_LOGIN}:{derived}@"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_databases_of_one_fresh_server_come_up_at_the_same_time() {
    let castle = Castle::take().await;
    let (one, other) = (castle.database("of_one").await, castle.database("of_two").await);
    let starts = [one.clone(), one, other.clone(), other];
    let starts = starts.map(|url| tokio::spawn(async move { start(&url, &[]).await }));
    for started in starts {
        assert_eq!(started.await.expect("no panic").expect("it starts"), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_owner_who_is_no_superuser_makes_tenants_and_derives_the_runtime_password() {
    let castle = Castle::take().await;
    let url = castle.keep("keeper", "CREATEROLE", "one").await;
    let backend = open(&url, &[]).await.expect("CREATEROLE is enough");
    let tenant = provision(&backend, "acme").await;
    provision(&backend, "globex").await;
    backend.close().await;
    let tx = door(&url, Isolation::Role).tenant(tenant).await.expect("the runtime login gets in");
    let row = tx.query_one("SELECT count(*), current_user::text FROM profiles", &[]).await;
    assert_eq!(row.expect("a tenant reads its tables").get::<_, String>(1), schema(tenant));
    let login = runtime_url(&url, "keeper", "one");
    assert_eq!(refused(&login).await, None);
    assert_eq!(
        refused(&login.replace(":of", ":x").replace("runtime:", "runtime:x")).await.as_deref(),
        Some("28P01")
    );

    // The owner's password is changed, and the derived one follows at the next start.
    castle.sql("ALTER ROLE keeper PASSWORD 'two'").await;
    let url = castle.url("keeper", "two");
    let starts = [0, 1].map(|_| Box::pin(start(&url, &[])));
    let starts = futures_util::future::join_all(starts).await;
    for started in starts {
        started.expect("both processes start");
    }
    assert_eq!(refused(&runtime_url(&url, "keeper", "two")).await, None);
    assert_eq!(refused(&login).await.as_deref(), Some("28P01"));
    let tx = door(&url, Isolation::Role).tenant(tenant).await.expect("a connection");
    tx.query("SELECT FROM profiles", &[]).await.expect("the tenant is served as before");
}

#[tokio::test]
async fn two_owners_on_one_server_are_told_why_they_take_turns() {
    let castle = Castle::take().await;
    let one = castle.keep("keeper", "SUPERUSER", "one").await;
    let other = castle.keep("warden", "SUPERUSER", "two").await;
    let start =
        |url: &str| Program::embedded().with("DATABASE_URL", url).run(&["migrate"]).expect(0);
    let told = "give all of them one ROWHOUSE_DATABASE__RUNTIME_URL";
    assert!(!start(&one).stderr.contains(told), "nobody has made the login before");
    assert!(!start(&one).stderr.contains(told), "nothing has changed");
    for url in [&other, &one] {
        let ran = start(url);
        assert!(ran.stderr.contains(told), "{ran:?}");
    }
}

#[tokio::test]
async fn what_a_non_superuser_could_not_revoke_is_named_really_open_and_mended_as_told() {
    let castle = Castle::take().await;
    let url = castle.keep("keeper", "CREATEROLE", "one").await;
    let backend = open(&url, &[]).await.expect("CREATEROLE is enough");
    let (mine, other) = (provision(&backend, "acme").await, provision(&backend, "globex").await);
    let open_before = backend.posture.open.clone();
    backend.close().await;
    for what in ["set_config", "DO block", "large objects", "pg_advisory_lock", "pg_cancel_backend"]
    {
        assert!(open_before.iter().any(|open| open.contains(what)), "{what}: {open_before:?}");
    }
    // What the owner of a database may revoke, it has revoked.
    for what in ["temporary", "schema public"] {
        assert!(!open_before.iter().any(|open| open.contains(what)), "{what}: {open_before:?}");
    }
    let (role, table) = (schema(other), format!("{}.profiles", schema(other)));
    let escape = async || {
        let tx = door(&url, Isolation::Role).tenant(mine).await.expect("a tenant can be entered");
        let become_other = format!("SELECT set_config('role', '{role}', true)");
        let _ = tx.query(&become_other, &[]).await;
        tx.query(&format!("SELECT FROM {table}"), &[]).await.is_ok()
    };
    assert!(escape().await, "set_config is open, and so is the other tenant");

    let superuser = castle.inside("keeper").await;
    for open in &open_before {
        let (_, mend) = open.split_once("a superuser may: ").expect("it says what to do");
        superuser.batch_execute(mend).await.unwrap_or_else(|e| panic!("{mend}: {e:?}"));
    }
    assert_eq!(start(&url, &[]).await.expect("it starts"), Vec::<String>::new());
    assert!(!escape().await, "set_config is closed");
}

#[tokio::test]
async fn a_revoke_that_the_server_only_warns_about_is_not_taken_for_done() {
    let castle = Castle::take().await;
    let url = castle.keep("keeper", "CREATEROLE", "one").await;
    castle.sql("ALTER DATABASE of_keeper OWNER TO rowhouse").await;
    castle.sql("GRANT CREATE ON DATABASE of_keeper TO keeper").await;
    let superuser = castle.inside("keeper").await;
    superuser.batch_execute("GRANT ALL ON SCHEMA public TO keeper").await.expect("it may");
    let open = start(&url, &[]).await.expect("it starts");
    for what in ["temporary tables", "look into the schema public"] {
        assert!(open.iter().any(|open| open.contains(what)), "{what}: {open:?}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused_with_what_mends_it() {
    let database =
        TestDatabase::create_with("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").await;
    let error = start(&database.url(), &[]).await.expect_err("its encoding is refused");
    assert!(error.contains("keeps text as LATIN1"), "{error}");
    assert!(error.contains("ENCODING 'UTF8' TEMPLATE template0"), "{error}");
}

#[tokio::test]
async fn an_owner_who_may_not_create_roles_is_refused_with_what_mends_it() {
    let castle = Castle::take().await;
    let url = castle.keep("plain", "", "one").await;
    let error = start(&url, &[]).await.expect_err("it may not create roles");
    assert!(error.contains("ALTER ROLE plain CREATEROLE"), "{error}");
    assert!(error.contains("ROWHOUSE_DATABASE__ISOLATION=search_path"), "{error}");
    assert!(!error.contains(":one@"), "{error}");

    // By the path alone it needs no roles, but the runtime login.
    let by_path = [("database.isolation", "search_path")];
    let error = start(&url, &by_path).await.expect_err("there is no runtime login");
    assert!(error.contains("CREATE ROLE rowhouse_runtime LOGIN NOINHERIT"), "{error}");
    castle.sql("CREATE ROLE rowhouse_runtime LOGIN NOINHERIT PASSWORD 'set by hand'").await;
    let error = start(&url, &by_path).await.expect_err("it has another password");
    assert!(error.contains("ROWHOUSE_DATABASE__RUNTIME_URL"), "{error}");
    let runtime = url.replace("plain:one@", "rowhouse_runtime:set%20by%20hand@");
    let by_path = [("database.isolation", "search_path"), ("database.runtime_url", &runtime)];
    let backend = open(&url, &by_path).await.expect("now it has all it needs");
    provision(&backend, "acme").await;
    backend.close().await;

    castle.sql("ALTER ROLE plain CREATEROLE").await;
    let url_and_runtime = [("database.runtime_url", runtime.as_str())];
    let error = start(&url, &url_and_runtime).await.expect_err("that tenant is open to the login");
    assert!(error.contains("the walls do not hold"), "{error}");
    castle.sql("DROP DATABASE of_plain WITH (FORCE)").await;
    castle.sql("CREATE DATABASE of_plain OWNER plain").await;
    start(&url, &url_and_runtime).await.expect("mended as told, on a fresh database");
}

#[tokio::test]
async fn a_runtime_login_that_is_too_strong_is_mended_or_refused() {
    let castle = Castle::take().await;
    let keeper = castle.keep("keeper", "CREATEROLE", "one").await;
    let derived = runtime_password(b"one");
    castle.sql(&format!("CREATE ROLE rowhouse_runtime LOGIN SUPERUSER PASSWORD '{derived}'")).await;
    let error = start(&keeper, &[]).await.expect_err("it is a superuser");
    assert!(error.contains("SUPERUSER"), "{error}");
    let (_, mend) = error.split_once("let a superuser run: ").expect("it says what to do");
    castle.sql(mend).await;
    start(&keeper, &[]).await.expect("mended as told");

    // An INHERIT would make the login all tenants at once; the owner takes it away by itself.
    castle.sql("ALTER ROLE rowhouse_runtime INHERIT").await;
    start(&keeper, &[]).await.expect("mended without a word");
    let row = castle
        .admin
        .query_one("SELECT rolinherit FROM pg_roles WHERE rolname = 'rowhouse_runtime'", &[])
        .await
        .expect("roles can be read");
    assert!(!row.get::<_, bool>(0));

    castle.sql("GRANT pg_read_all_data TO rowhouse_runtime").await;
    let open = start(&keeper, &[]).await.expect("it starts");
    assert!(
        open.iter().any(|o| o.contains("REVOKE pg_read_all_data FROM rowhouse_runtime")),
        "{open:?}"
    );
}

#[tokio::test]
async fn a_runtime_url_of_another_login_is_refused() {
    let castle = Castle::take().await;
    let url = castle.keep("keeper", "CREATEROLE", "one").await;
    let error = start(&url, &[("database.runtime_url", &url)]).await.expect_err("it is the owner");
    assert!(error.contains("logs in as keeper") && error.contains("rowhouse_runtime"), "{error}");
}

#[tokio::test]
async fn the_runtime_login_is_let_in_where_not_everybody_may_connect() {
    let castle = Castle::take().await;
    let url = castle.keep("keeper", "CREATEROLE", "one").await;
    castle.sql("REVOKE CONNECT ON DATABASE of_keeper FROM PUBLIC").await;
    start(&url, &[]).await.expect("it lets its own login in");
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it() {
    let castle = Castle::take().await;
    castle.keep("keeper", "CREATEROLE", "one").await;
    let error = start(&castle.url("keeper", "hunter22"), &[]).await.expect_err("it is wrong");
    assert!(error.contains("password authentication failed"), "{error}");
    assert!(!error.contains("hunter22"), "{error}");
}
