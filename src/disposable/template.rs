//! Databases that are migrated once and cloned by every process.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};

use super::error::During;
use super::postgres::PREFIX;
use super::{TestDatabase, TestError, TestPostgres, on_runtime};

/// How often a template is renamed that a session is still in, and the pause in between.
const ATTEMPTS: usize = 50;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

impl TestDatabase {
    /// Creates a database as a clone of the template with this key, which is all that the template depends on. If no
    /// process has built that template yet, it is created with `options` of `CREATE DATABASE` and built by `build`, which
    /// gets the name of the database.
    ///
    /// # Errors
    /// [`TestError`], also that of `build`.
    pub async fn clone_of(
        key: &str,
        options: &str,
        build: impl FnOnce(String) -> BoxFuture<'static, Result<(), TestError>> + Send + 'static,
    ) -> Result<Self, TestError> {
        let (key, options) = (key.to_owned(), options.to_owned());
        on_runtime(async move {
            let server = TestPostgres::get().await?;
            let template = server.template(&key, &options, build).await?;
            Self::create(&format!("{} {options}", server.as_clone_of(&template))).await
        })
        .await
    }

    /// As [`clone_of`](Self::clone_of), but a database that other processes use too.
    pub(super) async fn lent_clone_of(
        key: &str,
        build: impl FnOnce(String) -> BoxFuture<'static, Result<(), TestError>> + Send + 'static,
    ) -> Result<Self, TestError> {
        let key = key.to_owned();
        on_runtime(async move {
            let server = TestPostgres::get().await?;
            let template = server.template(&key, "", build).await?;
            server.lend(&template).await
        })
        .await
    }
}

impl TestPostgres {
    async fn template(
        &self,
        key: &str,
        options: &str,
        build: impl FnOnce(String) -> BoxFuture<'static, Result<(), TestError>> + Send,
    ) -> Result<String, TestError> {
        const LOOK: &str = "look for a template";
        let digest = Sha256::digest(key);
        let name = hex::encode(digest);
        let name = format!("{PREFIX}template_{}", name.get(..16).unwrap_or(&name));
        let exists = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";
        if self.session().query_one(exists, &[&name]).await.during(LOOK)?.get(0) {
            if self.stays() {
                // It fails if another process does the same at this moment.
                let _ = self.note_use(&name).await;
            }
            return Ok(name);
        }
        // One process builds it, the others wait. The lock ends with this connection.
        let admin = self.connect_to_server().await?;
        let lock = i64::from_be_bytes(digest.as_slice().first_chunk().copied().unwrap_or_default());
        let sql = "SELECT pg_advisory_lock($1)";
        admin.execute(sql, &[&lock]).await.during("wait for a template")?;
        if admin.query_one(exists, &[&name]).await.during(LOOK)?.get(0) {
            return Ok(name);
        }
        let building = TestDatabase::create(options).await?;
        build(building.name().to_owned()).await?;
        let finish = format!(
            "ALTER DATABASE {building} ALLOW_CONNECTIONS false;
             ALTER DATABASE {building} RENAME TO {name}",
            building = building.name()
        );
        let mut attempt = 1;
        while let Err(error) = admin.batch_execute(&finish).await {
            if attempt == ATTEMPTS {
                return Err(error).during("rename a template");
            }
            attempt += 1;
            // A session ends a moment after its client has closed the connection.
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
        self.note_use(&name).await?;
        Ok(name)
    }

    /// Returns the options of `CREATE DATABASE` for a clone of a template.
    pub(super) fn as_clone_of(&self, template: &str) -> String {
        // Copying files takes half of the time of writing the blocks to the log, but waits for checkpoints, which are slow
        // on a server with durability.
        let strategy = if self.stays() { "" } else { "STRATEGY file_copy" };
        format!("TEMPLATE {template} {strategy}")
    }

    /// Records when a template was used: what was not used for a day is dropped.
    async fn note_use(&self, template: &str) -> Result<(), TestError> {
        const DURING: &str = "record the use of a template";
        let admin = self.session();
        let now: String = admin.query_one("SELECT now()::text", &[]).await.during(DURING)?.get(0);
        let comment = format!("COMMENT ON DATABASE {template} IS '{now}'");
        admin.batch_execute(&comment).await.during(DURING)
    }
}
