//! Processes without a listener and background jobs, so that a test decides what is done to the stock and when;
//! and queries of the catalogs.

use rowhouse::app::{Backend, Options};
use rowhouse::auth::CallContext;
use rowhouse::config::Settings;
use rowhouse::domain::Clock;
use rowhouse::domain::error::Error;
use rowhouse::domain::names::TenantId;
use rowhouse::service::provisioning::Provisioned;
use rowhouse::service::vacancies::{StockStatus, TendOutcome};
use tokio_postgres::Client;
use uuid::Uuid;

pub use crate::support::provision_command;
use crate::support::{TestClock, TestDatabase, settings_for};

/// A backend that is a separate process to the database, which other processes may use too.
pub struct Process {
    pub backend: Backend,
    pub clock: TestClock,
    _folder: Option<tempfile::TempDir>,
}

impl Process {
    /// Starts a process that wants this many vacancies.
    pub async fn on(database: &TestDatabase, wanted: usize) -> Self {
        Self::start(database, wanted, None, &[]).await
    }

    /// Starts a process with its own tenant migrations.
    pub async fn with_migrations(
        database: &TestDatabase,
        wanted: usize,
        files: &[(&str, &str)],
    ) -> Self {
        Self::start(database, wanted, Some(files), &[]).await
    }

    pub async fn start(
        database: &TestDatabase,
        wanted: usize,
        files: Option<&[(&str, &str)]>,
        values: &[(&'static str, &str)],
    ) -> Self {
        let mut all = settings_for(&database.url());
        all.push(("tenants.vacancies", wanted.to_string()));
        all.extend(values.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let folder = files.map(|files| {
            let folder = tempfile::tempdir().expect("there is room for a folder");
            for (name, sql) in files {
                std::fs::write(folder.path().join(name), sql).expect("there is room for a file");
            }
            folder
        });
        if let Some(folder) = &folder {
            all.push(("tenant_migrations", folder.path().display().to_string()));
        }
        let settings = Settings::from_values(&all).expect("the settings of a test are good");
        let clock = TestClock::default();
        let test_clock = clock.clone();
        let clock_of_test = Clock::from_fn(move || test_clock.now());
        let options = Options { clock: Some(clock_of_test), ..Options::default() };
        let backend =
            Backend::open(&settings, &options).await.expect("the backend of a test opens");
        Self { backend, clock, _folder: folder }
    }

    pub fn operator(&self) -> CallContext {
        self.backend.operator()
    }

    pub async fn stock(&self) -> StockStatus {
        let stock = self.backend.services.vacancies.status(&self.operator()).await;
        stock.expect("the stock can be read")
    }

    /// Builds vacancies until there are as many as wanted.
    pub async fn fill(&self) {
        let filled = self.backend.services.vacancies.fill(&self.operator()).await;
        filled.expect("the stock can be filled");
    }

    /// Runs one step of the server's background job.
    pub async fn replenish_once(&self) -> TendOutcome {
        let outcome = self.backend.services.vacancies.tend(&self.operator()).await;
        outcome.expect("the stock can be replenished")
    }

    /// Runs steps until nothing is left to do.
    pub async fn replenish_fully(&self) {
        for _ in 0..1000 {
            if self.replenish_once().await == TendOutcome::Done {
                return;
            }
        }
        panic!("the replenishing does not end: {:?}", self.stock().await);
    }

    pub async fn try_to_set_up(&self, slug: &str) -> Result<Provisioned, Error> {
        let provisioning = &self.backend.services.provisioning;
        provisioning.provision(&self.operator(), provision_command(slug)).await
    }

    pub async fn set_up(&self, slug: &str) -> Uuid {
        self.try_to_set_up(slug).await.expect("a tenant is made").id.uuid()
    }

    pub async fn close(self) {
        self.backend.close().await;
    }
}

/// Returns the vacancies in a state, oldest first.
pub async fn vacancies(sql: &Client, state: &str) -> Vec<Uuid> {
    let query = "SELECT id FROM vacancies WHERE state = $1 ORDER BY created_at, id";
    let rows = sql.query(query, &[&state]).await.expect("vacancies can be listed");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Returns the number of schemas of tenants and vacancies.
pub async fn schemas(sql: &Client) -> i64 {
    let query = r"SELECT count(*) FROM pg_namespace WHERE nspname ~ '^tenant_[0-9a-f]{32}$'";
    sql.query_one(query, &[]).await.expect("schemas can be counted").get(0)
}

pub fn schema(id: Uuid) -> String {
    rowhouse::domain::SchemaName::of(TenantId::new(id)).to_string()
}

/// Returns whether the tenant's role exists.
pub async fn has_role(sql: &Client, id: Uuid) -> bool {
    let query = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)";
    sql.query_one(query, &[&schema(id)]).await.expect("roles can be listed").get(0)
}

/// Returns what the catalogs contain about a schema and its role, one entry a line, without the schema's name,
/// OIDs and times, which differ between equal schemas.
pub async fn catalog(sql: &Client, id: Uuid) -> Vec<String> {
    let name = schema(id);
    let mut lines = Vec::new();
    for query in CATALOG {
        let rows = sql.query(query, &[&name]).await.unwrap_or_else(|e| panic!("{query}: {e:?}"));
        let mut found: Vec<String> =
            rows.iter().map(|row| row.get::<_, String>(0).replace(&name, "TENANT")).collect();
        found.sort();
        lines.extend(found);
    }
    let history = format!(
        "SELECT concat_ws(' ', 'history', version, name, checksum) FROM {name}.refinery_schema_history"
    );
    let rows = sql.query(&history, &[]).await.expect("the history can be read");
    lines.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    lines
}

const CATALOG: [&str; 9] = [
    "SELECT concat_ws(' ', 'schema', pg_get_userbyid(nspowner), nspacl, obj_description(oid))
       FROM pg_namespace WHERE nspname = $1",
    "SELECT concat_ws(' ', 'relation', c.relname, c.relkind, c.relpersistence, pg_get_userbyid(c.relowner),
                      c.relacl, c.relrowsecurity, c.relreplident, c.reloptions, pg_get_viewdef(c.oid))
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1",
    "SELECT concat_ws(' ', 'column', c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
                      a.attnotnull, a.attidentity, a.attgenerated, a.attacl, pg_get_expr(d.adbin, d.adrelid))
       FROM pg_attribute a
       JOIN pg_class c ON c.oid = a.attrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      WHERE n.nspname = $1 AND a.attnum > 0",
    "SELECT concat_ws(' ', 'constraint', conname, conrelid::regclass, pg_get_constraintdef(o.oid))
       FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace WHERE n.nspname = $1",
    "SELECT concat_ws(' ', 'index', indexdef) FROM pg_indexes WHERE schemaname = $1",
    "SELECT concat_ws(' ', 'routine', p.proname, pg_get_userbyid(p.proowner), p.proacl, pg_get_functiondef(p.oid))
       FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1",
    "SELECT concat_ws(' ', 'type', t.typname, t.typtype, pg_get_userbyid(t.typowner), t.typacl,
                      (SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
       FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = $1",
    "SELECT concat_ws(' ', 'default rights', pg_get_userbyid(d.defaclrole), d.defaclobjtype, d.defaclacl)
       FROM pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace WHERE n.nspname = $1",
    "SELECT concat_ws(' ', 'role', r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin,
                      r.rolreplication, r.rolbypassrls, r.rolconnlimit, r.rolconfig,
                      (SELECT array_agg(m.member::regrole::text || m.admin_option) FROM pg_auth_members m
                        WHERE m.roleid = r.oid))
       FROM pg_roles r WHERE r.rolname = $1",
];
