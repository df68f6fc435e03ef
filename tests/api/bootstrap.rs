//! The bootstrap of a database at start, and the databases that a start refuses.
//!
//! Roles belong to a server, and most of these tests change roles that all databases of it share. They run
//! one after another on a separate server, over TCP with passwords (the shared server trusts its socket).

use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use rowhouse::domain::names::{Slug, TenantId, TenantName};
use rowhouse::migrations::MigrationSet;
use rowhouse::pg::Db;
use rowhouse::pg::bootstrap::runtime_password;
use rowhouse::pg::db::Database;
use rowhouse::pg::rules::{Isolation, PoolSizes, RUNTIME_LOGIN, Rules, Statements, TimeLimits};
use rowhouse::service::provisioning::{Admin, ProvisionTenant};
use rowhouse::service::tenants::TenantRef;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::isolation::fixture::{endpoint, schema};
use crate::support::dedicated::{ACCEPTED, DedicatedServer};
use crate::support::{Program, TestDatabase, is_behind_a_pooler, settings_for};

/// Opens a backend as `serve` does.
pub async fn open(url: &str, more: &[(&'static str, &str)]) -> Result<Backend, String> {
    let mut values = settings_for(url);
    values.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let settings = Settings::from_values(&values).expect("the settings of a test are good");
    Backend::open(&settings, &Options::default()).await.map_err(|error| error.to_string())
}

/// Opens and closes a backend; returns what it would warn of.
pub async fn start(url: &str, more: &[(&'static str, &str)]) -> Result<Vec<String>, String> {
    let backend = open(url, more).await?;
    let open = backend.posture.sentences();
    backend.close().await;
    Ok(open)
}

pub async fn provision(backend: &Backend, slug: &str) -> TenantId {
    let (name, slug) =
        (TenantName::parse(slug).expect("a good name"), Slug::parse(slug).expect("a good slug"));
    let command = ProvisionTenant::new(name, slug, Admin::None);
    let made = backend.services.provisioning.provision(&backend.operator(), command).await;
    made.expect("a tenant is made").id
}

/// Opens the pools of a database without a backend.
fn open_db(url: &str, isolation: Isolation) -> Db {
    let rules = Rules::new(isolation, Statements::Unnamed, TimeLimits::default());
    Database::new(endpoint(url, None), endpoint(url, Some(RUNTIME_LOGIN)), rules)
        .pools(PoolSizes { control: 1, runtime: 1 })
        .expect("pools can be made")
}

/// Lists every row that a start could write, in the catalogs and the control plane, with its `xmin`.
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
    let client = database.connect_as_superuser().await;
    let before = versions(&client).await;
    assert!(before.contains("role rowhouse_runtime") && before.contains("migration 1"), "{before}");
    start(&database.url(), &[]).await.expect("the second start");
    assert_eq!(versions(&client).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_at_once_on_a_fresh_database_all_succeed() {
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
        .expect("the control plane exists");
    let files = MigrationSet::public().expect("the built-in set is good").files().len();
    assert_eq!((row.get(0), row.get::<_, i64>(1)), (1_i64, i64::try_from(files).unwrap()));
}

#[tokio::test]
async fn a_database_newer_than_the_program_is_refused_and_not_changed() {
    let database = TestDatabase::create().await;
    start(&database.url(), &[]).await.expect("it starts"); // a clone does not copy privileges on the database
    let client = database.connect_as_superuser().await;
    client
        .batch_execute(
            "INSERT INTO public.refinery_schema_history (version, name, applied_on, checksum)
             VALUES (999, 'from_the_future', '2030-01-01T00:00:00Z', '1')",
        )
        .await
        .expect("a row of a newer version can be written");
    let before = versions(&client).await;
    let error = start(&database.url(), &[]).await.expect_err("it is newer");
    assert!(error.contains("version 999") && error.contains("start a newer one"), "{error}");
    assert_eq!(versions(&client).await, before);
}

#[tokio::test]
async fn the_error_for_an_unreachable_database_names_its_address_and_not_the_password() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port can be found")
        .port();
    let url = format!("postgres://owner_one:hunter22@127.0.0.1:{port}/nowhere?sslmode=disable");
    let nowhere = [("database.url", url.as_str())];
    let error = start(&url, &nowhere).await.expect_err("no server listens there");
    assert!(error.contains(&format!("127.0.0.1:{port}, database nowhere")), "{error}");
    assert!(error.contains("refused") && !error.contains("hunter22"), "{error}");
}

#[tokio::test]
async fn the_runtime_login_can_read_no_table_of_the_control_plane_and_owns_nothing() {
    let database = TestDatabase::create().await;
    start(&database.url(), &[]).await.expect("it starts"); // a clone does not copy privileges on the database
    let owner = database.connect().await;
    let raw = endpoint(&database.url(), Some(RUNTIME_LOGIN));
    let raw =
        rowhouse::pg::connect::open::connect(&raw).await.expect("the runtime login may connect");
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
        assert!(!row.get::<_, bool>(at), "condition {at} of the query is true");
    }
}

#[tokio::test]
async fn a_start_is_refused_if_the_runtime_login_can_read_the_control_plane() {
    let database = TestDatabase::create().await;
    let owner = database.connect().await;
    let grant = "GRANT USAGE ON SCHEMA public TO rowhouse_runtime;
                   GRANT SELECT ON public.users TO rowhouse_runtime";
    owner.batch_execute(grant).await.expect("the owner may do this");
    let error = start(&database.url(), &[]).await.expect_err("a privilege is open");
    assert!(error.contains("isolation is broken: rowhouse_runtime"), "{error}");
    assert!(error.contains("public.users"), "{error}");
}

#[tokio::test]
async fn a_start_is_refused_if_a_tenant_can_read_another() {
    let database = TestDatabase::create().await;
    let backend = open(&database.url(), &[]).await.expect("a backend opens");
    let (one, other) = (provision(&backend, "acme").await, provision(&backend, "globex").await);
    backend.close().await;
    start(&database.url(), &[]).await.expect("tenants are isolated");
    let (one, other) = (schema(one), schema(other));
    let owner = database.connect().await;
    let grant = format!(
        "GRANT USAGE ON SCHEMA {one} TO {other}; GRANT SELECT ON ALL TABLES IN SCHEMA {one} TO {other}"
    );
    owner.batch_execute(&grant).await.expect("the owner may do this");
    let error = start(&database.url(), &[]).await.expect_err("a privilege is open");
    assert!(error.contains(&format!("isolation is broken: {other} could run")), "{error}");

    let grant = format!(
        "REVOKE USAGE ON SCHEMA {one} FROM {other}; GRANT USAGE ON SCHEMA {one} TO rowhouse_runtime;
         GRANT SELECT ON ALL TABLES IN SCHEMA {one} TO rowhouse_runtime"
    );
    owner.batch_execute(&grant).await.expect("the owner may do this");
    let error = start(&database.url(), &[]).await.expect_err("a privilege is open");
    assert!(error.contains("isolation is broken: rowhouse_runtime could run"), "{error}");
}

#[tokio::test]
async fn a_start_is_refused_if_any_table_of_the_control_plane_can_be_read_or_changed() {
    for (role, privilege, table) in [
        ("rowhouse_runtime", "SELECT", "tokens"),
        ("rowhouse_runtime", "DELETE", "audit_events"),
        ("rowhouse_runtime", "SELECT (kid)", "signing_keys"),
        ("{other}", "INSERT", "memberships"),
        ("PUBLIC", "UPDATE (role)", "memberships"),
    ] {
        let database = TestDatabase::create().await;
        let backend = open(&database.url(), &[]).await.expect("a backend opens");
        provision(&backend, "acme").await;
        let other = provision(&backend, "globex").await;
        backend.close().await;
        let role = role.replace("{other}", &schema(other));
        let user = if role == "PUBLIC" { "rowhouse_runtime" } else { &role };
        let grant = format!(
            "GRANT USAGE ON SCHEMA public TO {user}; GRANT {privilege} ON public.{table} TO {role}"
        );
        database.connect().await.batch_execute(&grant).await.expect("the owner may do this");
        let error = start(&database.url(), &[]).await.expect_err("a privilege is open");
        let broken = format!("isolation is broken: {user} could run a statement on public.{table}");
        assert!(error.contains(&broken), "{grant}: {error}");
    }
}

/// Returns the three time limits in a new session of the runtime login and in a tenant transaction.
async fn limits(url: &str, backend: &Backend, tenant: TenantId) -> [String; 2] {
    const LIMITS: &str = "SELECT concat_ws(' ', current_setting('statement_timeout'),
        current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'))";
    let runtime = endpoint(url, Some(RUNTIME_LOGIN));
    let client = rowhouse::pg::connect::open::connect(&runtime).await.expect("the login works");
    let session = client.query_one(LIMITS, &[]).await.expect("a session has settings").get(0);
    let (ctx, which) = (backend.operator(), TenantRef::Id(tenant));
    let (_, tx) = backend.services.tenants.open(&ctx, &which).await.expect("the tenant exists");
    [session, tx.query_one(LIMITS, &[]).await.expect("a query runs").get(0)]
}

#[tokio::test]
async fn the_runtime_login_has_the_time_limits_by_default() {
    let database = TestDatabase::create().await;
    let backend = open(&database.url(), &[]).await.expect("it starts");
    let tenant = provision(&backend, "acme").await;
    // A pooler's sessions may be older, so that behind one each transaction sets them.
    let of_login = if is_behind_a_pooler() { "0 0 0" } else { "30s 5s 30s" };
    assert_eq!(limits(&database.url(), &backend, tenant).await, [of_login, "30s 5s 30s"]);
    backend.close().await;
}

#[tokio::test]
async fn time_limits_set_on_the_login_stay_and_each_transaction_sets_its_own() {
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
    // With different settings in two processes, the login keeps the first one's defaults.
    let other = open(&database.url(), &[("database.lock_timeout", "2s")]).await.expect("it starts");
    assert_eq!(limits(&database.url(), &other, tenant).await, ["7s 0 0", "30s 2s 30s"]);
    other.close().await;
}

#[tokio::test]
async fn tenants_without_roles_are_reported_when_the_isolation_is_by_role() {
    let database = TestDatabase::create().await;
    let by_path = [("database.isolation", "search_path")];
    let backend = open(&database.url(), &by_path).await.expect("a backend opens");
    let one = provision(&backend, "acme").await;
    let other = provision(&backend, "globex").await;
    let warnings = backend.posture.sentences();
    assert!(warnings.iter().any(|open| open.contains("isolation = search_path")), "{warnings:?}");
    backend.close().await;
    // The shared login still has its privileges on these schemas, which the self-test finds first.
    let error = start(&database.url(), &[]).await.expect_err("a privilege is open");
    assert!(error.contains("isolation is broken: rowhouse_runtime"), "{error}");
    let owner = database.connect().await;
    for tenant in [one, other].map(schema) {
        let revoke = format!(
            "REVOKE ALL ON ALL TABLES IN SCHEMA {tenant} FROM rowhouse_runtime;
             REVOKE ALL ON SCHEMA {tenant} FROM rowhouse_runtime"
        );
        owner.batch_execute(&revoke).await.expect("the owner may do this");
    }
    let open = start(&database.url(), &[]).await.expect("nothing is open");
    assert!(open.iter().any(|open| open.contains(&other.to_string())), "{open:?}");
}

/// Returns the SQLSTATE with which a login is refused, or `None` if it succeeds.
async fn refusal(url: &str) -> Option<String> {
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
async fn two_databases_of_a_fresh_server_can_be_started_at_the_same_time() {
    let server = DedicatedServer::acquire().await;
    let (one, other) = (server.database("of_one").await, server.database("of_two").await);
    let starts = [one.clone(), one, other.clone(), other];
    let starts = starts.map(|url| tokio::spawn(async move { start(&url, &[]).await }));
    for started in starts {
        assert_eq!(started.await.expect("no panic").expect("it starts"), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_owner_that_is_not_a_superuser_creates_tenants_and_derives_the_runtime_password() {
    let server = DedicatedServer::acquire().await;
    let url = server.create_owner("owner_one", "CREATEROLE", "one").await;
    let backend = open(&url, &[ACCEPTED]).await.expect("CREATEROLE is enough");
    let tenant = provision(&backend, "acme").await;
    provision(&backend, "globex").await;
    backend.close().await;
    let tx =
        open_db(&url, Isolation::Role).tenant(tenant).await.expect("the runtime login connects");
    let row = tx.query_one("SELECT count(*), current_user::text FROM profiles", &[]).await;
    assert_eq!(row.expect("a tenant reads its tables").get::<_, String>(1), schema(tenant));
    let login = runtime_url(&url, "owner_one", "one");
    assert_eq!(refusal(&login).await, None);
    assert_eq!(
        refusal(&login.replace(":of", ":x").replace("runtime:", "runtime:x")).await.as_deref(),
        Some("28P01")
    );

    // After a change of the owner's password, the next start changes the derived one.
    server.sql("ALTER ROLE owner_one PASSWORD 'two'").await;
    let url = server.url("owner_one", "two");
    let starts = [0, 1].map(|_| Box::pin(start(&url, &[ACCEPTED])));
    let starts = futures_util::future::join_all(starts).await;
    for started in starts {
        started.expect("both processes start");
    }
    assert_eq!(refusal(&runtime_url(&url, "owner_one", "two")).await, None);
    assert_eq!(refusal(&login).await.as_deref(), Some("28P01"));
    let tx = open_db(&url, Isolation::Role).tenant(tenant).await.expect("a connection");
    tx.query("SELECT FROM profiles", &[]).await.expect("the tenant is still served");
}

#[tokio::test]
async fn two_owners_on_one_server_are_warned_that_each_changes_the_runtime_password() {
    let server = DedicatedServer::acquire().await;
    let one = server.create_owner("owner_one", "SUPERUSER", "one").await;
    let other = server.create_owner("owner_two", "SUPERUSER", "two").await;
    let start =
        |url: &str| Program::embedded().with("DATABASE_URL", url).run(&["migrate"]).expect(0);
    let warning = "give all of them the same ROWHOUSE_DATABASE__RUNTIME_URL";
    assert!(!start(&one).stderr.contains(warning), "the login did not exist before");
    assert!(!start(&one).stderr.contains(warning), "nothing has changed");
    for url in [&other, &one] {
        let ran = start(url);
        assert!(ran.stderr.contains(warning), "{ran:?}");
    }
}

#[tokio::test]
async fn a_database_with_another_encoding_than_utf8_is_refused_with_a_remedy() {
    let database =
        TestDatabase::create_with("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").await;
    let error = start(&database.url(), &[]).await.expect_err("its encoding is refused");
    assert!(error.contains("encoding of the database is LATIN1"), "{error}");
    assert!(error.contains("ENCODING 'UTF8' TEMPLATE template0"), "{error}");
}

#[tokio::test]
async fn an_owner_that_may_not_create_roles_is_refused_with_a_remedy() {
    let server = DedicatedServer::acquire().await;
    let url = server.create_owner("plain", "", "one").await;
    let error = start(&url, &[]).await.expect_err("it may not create roles");
    assert!(error.contains("ALTER ROLE plain CREATEROLE"), "{error}");
    assert!(error.contains("ROWHOUSE_DATABASE__ISOLATION=search_path"), "{error}");
    assert!(!error.contains(":one@"), "{error}");

    // With isolation by search path it needs no roles except the runtime login.
    let by_path = [("database.isolation", "search_path"), ACCEPTED];
    let error = start(&url, &by_path).await.expect_err("there is no runtime login");
    assert!(error.contains("CREATE ROLE rowhouse_runtime LOGIN NOINHERIT"), "{error}");
    server.sql("CREATE ROLE rowhouse_runtime LOGIN NOINHERIT PASSWORD 'set by hand'").await;
    let error = start(&url, &by_path).await.expect_err("it has another password");
    assert!(error.contains("ROWHOUSE_DATABASE__RUNTIME_URL"), "{error}");
    let runtime = url.replace("plain:one@", "rowhouse_runtime:set%20by%20hand@");
    let by_path =
        [("database.isolation", "search_path"), ("database.runtime_url", &runtime), ACCEPTED];
    let error = start(&url, &by_path).await.expect_err("there is no role for migrations");
    assert!(error.contains("CREATE ROLE rowhouse_migrator NOLOGIN NOINHERIT"), "{error}");
    server.sql("CREATE ROLE rowhouse_migrator NOLOGIN NOINHERIT").await;
    let error = start(&url, &by_path).await.expect_err("it cannot become that role");
    assert!(error.contains("GRANT rowhouse_migrator TO plain"), "{error}");
    server.sql("GRANT rowhouse_migrator TO plain").await;
    let backend = open(&url, &by_path).await.expect("both roles exist and the URL is given");
    provision(&backend, "acme").await;
    backend.close().await;

    server.sql("ALTER ROLE plain CREATEROLE").await;
    let url_and_runtime = [("database.runtime_url", runtime.as_str()), ACCEPTED];
    let error = start(&url, &url_and_runtime).await.expect_err("the login can read that tenant");
    assert!(error.contains("isolation is broken"), "{error}");
    server.sql("DROP DATABASE of_plain WITH (FORCE)").await;
    server.sql("CREATE DATABASE of_plain OWNER plain").await;
    start(&url, &url_and_runtime).await.expect("the remedy works on a fresh database");
}

#[tokio::test]
async fn a_runtime_login_with_too_many_rights_is_repaired_or_refused() {
    let server = DedicatedServer::acquire().await;
    let owner_one = server.create_owner("owner_one", "CREATEROLE", "one").await;
    let derived = runtime_password(b"one");
    server.sql(&format!("CREATE ROLE rowhouse_runtime LOGIN SUPERUSER PASSWORD '{derived}'")).await;
    let error = start(&owner_one, &[ACCEPTED]).await.expect_err("it is a superuser");
    assert!(error.contains("SUPERUSER"), "{error}");
    let (_, repair) = error.split_once("let a superuser run: ").expect("it names the statement");
    server.sql(repair).await;
    start(&owner_one, &[ACCEPTED]).await.expect("the remedy works");

    // With INHERIT the login would have the privileges of all tenants at once; the owner removes it at start.
    server.sql("ALTER ROLE rowhouse_runtime INHERIT").await;
    start(&owner_one, &[ACCEPTED]).await.expect("the start removes INHERIT");
    let row = server
        .admin
        .query_one("SELECT rolinherit FROM pg_roles WHERE rolname = 'rowhouse_runtime'", &[])
        .await
        .expect("roles can be read");
    assert!(!row.get::<_, bool>(0));

    server.sql("GRANT pg_read_all_data TO rowhouse_runtime").await;
    let error = start(&owner_one, &[ACCEPTED]).await.expect_err("it can become another role");
    assert!(error.contains("runtime_roles: the login rowhouse_runtime can become"), "{error}");
    assert!(error.contains("REVOKE pg_read_all_data FROM rowhouse_runtime;"), "{error}");
    server.sql("REVOKE pg_read_all_data FROM rowhouse_runtime").await;
    start(&owner_one, &[ACCEPTED]).await.expect("the remedy works");
}

#[tokio::test]
async fn a_runtime_url_of_another_login_is_refused() {
    let server = DedicatedServer::acquire().await;
    let url = server.create_owner("owner_one", "CREATEROLE", "one").await;
    let error = start(&url, &[("database.runtime_url", &url)]).await.expect_err("it is the owner");
    assert!(
        error.contains("logs in as owner_one") && error.contains("rowhouse_runtime"),
        "{error}"
    );
}

#[tokio::test]
async fn a_start_grants_connect_to_the_runtime_login_if_public_does_not_have_it() {
    let server = DedicatedServer::acquire().await;
    let url = server.create_owner("owner_one", "CREATEROLE", "one").await;
    server.sql("REVOKE CONNECT ON DATABASE of_owner_one FROM PUBLIC").await;
    start(&url, &[ACCEPTED]).await.expect("it grants CONNECT to its own login");
}

#[tokio::test]
async fn the_error_for_a_wrong_password_does_not_contain_it() {
    let server = DedicatedServer::acquire().await;
    server.create_owner("owner_one", "CREATEROLE", "one").await;
    let error = start(&server.url("owner_one", "hunter22"), &[]).await.expect_err("it is wrong");
    assert!(error.contains("password authentication failed"), "{error}");
    assert!(!error.contains("hunter22"), "{error}");
}
