//! A database with tenants, and the connections that the attacks use.

use std::path::PathBuf;

use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use rowhouse::domain::names::{Slug, TenantId, TenantName};
use rowhouse::pg::connect::tls::Connector;
use rowhouse::pg::connect::url::DatabaseUrl;
use rowhouse::pg::db::Database;
use rowhouse::pg::rules::{
    Endpoint, Isolation, PoolSizes, RUNTIME_LOGIN, Rules, Sharing, Statements, TimeLimits,
};
use rowhouse::pg::{Db, bootstrap};
use rowhouse::service::provisioning::{Admin, ProvisionTenant};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{TestDatabase, settings_for};

/// Both modes of `database.statements`.
pub const STATEMENT_MODES: [Statements; 2] = [Statements::Unnamed, Statements::Cached];

/// Returns the folder with the sample application's tenant migrations.
pub fn notes() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/notes")
}

/// Tenants of the sample application, each with three notes whose body is the tenant's [`secret`].
pub struct Fixture {
    pub database: TestDatabase,
    pub isolation: Isolation,
    pub tenants: Vec<TenantId>,
    pub owner: Client,
}

/// Returns the body of each note of a tenant.
pub fn secret(tenant: TenantId) -> String {
    format!("SECRET-{}", tenant.uuid().simple())
}

/// Returns the name of a tenant's schema and role.
pub fn schema(tenant: TenantId) -> String {
    format!("tenant_{}", tenant.uuid().simple())
}

/// Returns the endpoint of a login; `None` is the owner.
pub fn endpoint(url: &str, login: Option<&str>) -> Endpoint {
    let owner = DatabaseUrl::parse(url).expect("the URL of a test database is good");
    let url = match login {
        Some(login) => {
            let password = owner.config().get_password().map(bootstrap::runtime_password);
            owner.with_login(login, password.as_deref())
        }
        None => owner,
    };
    let tls = Connector::new(url.ssl()).expect("a connector can be made").make_tls();
    Endpoint { config: url.config().clone(), tls }
}

impl Fixture {
    pub async fn build(isolation: Isolation, tenants: usize) -> Self {
        let database = TestDatabase::create().await;
        let mut values = settings_for(&database.url());
        values.push(("tenant_migrations", notes().display().to_string()));
        if isolation == Isolation::SearchPath {
            values.push(("database.isolation", "search_path".to_owned()));
        }
        let settings = Settings::from_values(&values).expect("the settings of a test are good");
        let backend = Backend::open(&settings, &Options::default())
            .await
            .expect("the backend of a test opens");
        let owner = database.connect().await;
        let mut made = Vec::new();
        for number in 0..tenants {
            let name = TenantName::parse(&format!("Tenant {number}")).expect("a good name");
            let slug = Slug::parse(&format!("tenant-no-{number}")).expect("a good slug");
            let command = ProvisionTenant::new(name, slug, Admin::None);
            let provisioned =
                backend.services.provisioning.provision(&backend.operator(), command).await;
            made.push(provisioned.expect("a tenant is made").id);
        }
        backend.close().await;
        let fixture = Self { database, isolation, tenants: made, owner };
        for tenant in &fixture.tenants {
            fixture.seed(*tenant).await;
        }
        fixture
    }

    /// Resets a tenant's notes.
    pub async fn seed(&self, tenant: TenantId) {
        let (schema, secret) = (schema(tenant), secret(tenant));
        self.owner
            .batch_execute(&format!(
                "DELETE FROM {schema}.notes;
                 INSERT INTO {schema}.notes (id, body)
                     SELECT md5(n::text)::uuid, '{secret}' FROM generate_series(1, 3) n;
                 ANALYZE {schema}.notes"
            ))
            .await
            .expect("notes can be written");
    }

    pub fn rules(&self, statements: Statements) -> Rules {
        Rules::new(self.isolation, statements, TimeLimits::default())
    }

    /// Returns the guarded database with this many connections of the runtime login.
    pub fn db(&self, statements: Statements, connections: usize) -> Db {
        self.database_with(statements, Sharing::default())
            .pools(PoolSizes { control: 1, runtime: connections })
            .expect("pools can be made")
    }

    /// Returns the database with these rules for sharing connections between tenants.
    pub fn database_with(&self, statements: Statements, sharing: Sharing) -> Database {
        let url = self.database.url();
        let (owner, runtime) = (endpoint(&url, None), endpoint(&url, Some(RUNTIME_LOGIN)));
        Database::with_sharing(owner, runtime, self.rules(statements), sharing)
    }

    /// Returns an unguarded connection of the runtime login.
    pub async fn raw(&self) -> Client {
        let runtime = endpoint(&self.database.url(), Some(RUNTIME_LOGIN));
        rowhouse::pg::connect::open::connect(&runtime).await.expect("the runtime login may connect")
    }

    /// Returns the SQL with which the guard begins a tenant's transaction.
    pub fn enter_sql(&self, tenant: TenantId) -> String {
        let schema = schema(tenant);
        let role = match self.isolation {
            Isolation::Role => format!("SET LOCAL ROLE {schema}; "),
            Isolation::SearchPath => String::new(),
        };
        format!("BEGIN; {role}SET LOCAL search_path = {schema}, extensions, pg_temp")
    }

    /// Runs SQL as the owner and returns all values as text.
    pub async fn query_text(&self, sql: &str) -> String {
        text(&self.owner.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")))
    }
}

/// Returns all values of all rows as text, one a line.
pub fn text(messages: &[SimpleQueryMessage]) -> String {
    let mut all = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            for column in 0..row.len() {
                all.push(row.get(column).unwrap_or("NULL").to_owned());
            }
        }
    }
    all.join("\n")
}

/// Reads the state that a session keeps beyond a transaction. As a first message it also shows a transaction
/// that is still open, by its start time, or has failed, by an error.
const SESSION_STATE: &str = "SELECT current_user, session_user, current_setting('search_path'),
    now() = statement_timestamp() AS outside_of_a_transaction,
    (SELECT string_agg(name || '=' || setting, ', ' ORDER BY name) FROM pg_settings
      WHERE source IN ('session', 'override') AND name NOT IN ('transaction_isolation')) AS settings,
    (SELECT count(*) FROM pg_prepared_statements WHERE name !~ '^s[0-9]+$') AS strange_statements,
    (SELECT count(*) FROM pg_cursors) AS cursors,
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
    (SELECT count(*) FROM pg_listening_channels()) AS channels,
    pg_my_temp_schema() AS temporary";

/// The cheap part of [`SESSION_STATE`], for loops.
const BRIEF_SESSION_STATE: &str =
    "SELECT current_user, session_user, current_setting('search_path'),
    now() = statement_timestamp(), current_setting('role'), current_setting('statement_timeout'),
    current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')";

/// Checks a connection out and returns its session state.
pub async fn session_state(db: &Db) -> String {
    query_checked_out(db, SESSION_STATE).await
}

/// Checks a connection out and returns the cheap part of its session state.
pub async fn brief_session_state(db: &Db) -> String {
    query_checked_out(db, BRIEF_SESSION_STATE).await
}

async fn query_checked_out(db: &Db, sql: &str) -> String {
    let connection = db.unguarded_for_benchmarks().await.expect("a connection can be had");
    text(
        &connection
            .simple_query(sql)
            .await
            .unwrap_or_else(|e| panic!("the session is unusable: {e:?}")),
    )
}
