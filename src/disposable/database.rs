//! Databases that are dropped with their last handle, and what dead processes left.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::During;
use super::postgres::PREFIX;
use super::{TestError, TestPostgres, exit, on_runtime, runtime};

/// How many databases are dropped at the same time.
static DROPPING: Semaphore = Semaphore::const_new(2);

/// How often a drop is tried, and the pause in between: a session that the login may not end ends by itself.
const ATTEMPTS: usize = 20;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

/// The tenants' roles that have rights in one database.
const ROLES: &str = r"SELECT DISTINCT r.rolname::text
  FROM pg_shdepend d
  JOIN pg_roles r ON d.refclassid = 'pg_authid'::regclass AND r.oid = d.refobjid
 WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = $1)
   AND r.rolname ~ '^tenant_[0-9a-f]{32}$'";

/// The roles of vacancies that have no schema yet, and so no rights.
const BUILDING: &str =
    "SELECT 'tenant_' || replace(id::text, '-', '') FROM public.vacancies WHERE state = 'building'";

/// A database that is dropped with its last handle.
#[derive(Debug, Clone)]
pub struct TestDatabase(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
}

impl TestDatabase {
    /// Creates a database with these options of `CREATE DATABASE`, such as `TEMPLATE name`.
    ///
    /// # Errors
    /// [`TestError`].
    pub async fn create(options: &str) -> Result<Self, TestError> {
        let options = options.to_owned();
        on_runtime(async move {
            let server = TestPostgres::get().await?;
            if server.stays() {
                exit::drop_databases_at_exit();
            }
            let name = server.unique_name();
            let admin = server.connect_to_server().await?;
            // Before it exists: a process that ends in between drops it.
            server.live().insert(name.clone());
            let created = admin.batch_execute(&format!("CREATE DATABASE {name} {options}")).await;
            let database = Self(Arc::new(Inner { name }));
            created.during("create a database")?;
            Ok(database)
        })
        .await
    }

    /// A database that stays when its last handle is dropped.
    pub(super) fn lent(name: String) -> Self {
        Self(Arc::new(Inner { name }))
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Drops it now and waits for it, though there may be other handles.
    ///
    /// # Errors
    /// [`TestError`]
    pub(crate) async fn drop_now(self) -> Result<(), TestError> {
        let name = self.name().to_owned();
        on_runtime(async move { TestPostgres::get().await?.drop_database(&name).await }).await
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let is_live = |server: &TestPostgres| server.live().contains(&self.name);
        if !TestPostgres::found().is_some_and(is_live) {
            return;
        }
        let name = self.name.clone();
        // Not on the runtime of the test, which may be ending.
        runtime().spawn(async move {
            let Some(server) = TestPostgres::found() else { return };
            let Ok(_permit) = DROPPING.acquire().await else { return };
            if let Err(error) = server.drop_database(&name).await {
                tracing::warn!(%error, name, "cannot drop a database of a test");
            }
        });
    }
}

impl TestPostgres {
    /// Drops a database and the roles of the tenants in it.
    pub(super) async fn drop_database(&self, name: &str) -> Result<(), TestError> {
        let admin = self.connect_to_server().await?;
        let mut roles = admin.query(ROLES, &[&name]).await.unwrap_or_default();
        if let Ok(inside) = self.connect(name).await {
            // A database that was never migrated has no such table.
            roles.extend(inside.query(BUILDING, &[]).await.unwrap_or_default());
        }
        let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        let mut attempt = 1;
        while let Err(error) = admin.batch_execute(&sql).await {
            if attempt == ATTEMPTS {
                return Err(error).during("drop a database");
            }
            attempt += 1;
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
        for row in roles {
            let role: String = row.get(0);
            // It fails for a role that another clone of the same template has too.
            let _ = admin.batch_execute(&format!("DROP ROLE IF EXISTS {role}")).await;
        }
        self.live().remove(name);
        Ok(())
    }

    /// Drops the databases of processes that no longer live, and templates that were not used for a day.
    pub(super) async fn drop_what_dead_processes_left(&self) -> Result<(), TestError> {
        const DURING: &str = "look for databases of earlier tests";
        let found = format!(
            r"SELECT d.datname::text
                FROM pg_database d
               WHERE (d.datname ~ '^{PREFIX}[0-9a-f]{{8}}_[0-9]+$'
                      AND NOT EXISTS (SELECT FROM pg_stat_activity a
                                       WHERE a.application_name = regexp_replace(d.datname, '_[0-9]+$', '')))
                  OR (d.datname ~ '^{PREFIX}template_'
                      AND shobj_description(d.oid, 'pg_database')::timestamptz < now() - interval '1 day')"
        );
        let rows = self.session().query(&found, &[]).await.during(DURING)?;
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        for name in names {
            // Another process may be dropping it at this moment.
            if let Err(error) = self.drop_database(&name).await {
                tracing::debug!(%error, name, "cannot drop a database of an earlier test");
            }
        }
        Ok(())
    }
}
