//! Databases that processes use together, where each test is a process of its own.
//!
//! A database of its own would take such a process longer than its test does. Its test has a tenant of its own instead,
//! as the tests of one process have among each other. After [`USES`] processes the next ones get another clone of the
//! template, so that they find vacancies, and the clones before are dropped.
//!
//! Promises: only on an embedded server, which ends with the last process: nothing is left, however the processes end.

use super::error::During;
use super::postgres::PREFIX;
use super::{TestDatabase, TestError, TestPostgres, runtime};

/// How many processes use a database. Each takes a few vacancies, and new ones are built when half of them are gone.
const USES: i32 = 10;
/// The use with which the next database is created, ahead of the process that needs it.
const AHEAD: i32 = 7;
/// How often a process looks for a database that another one is creating.
const ATTEMPTS: usize = 5;

impl TestPostgres {
    /// Returns a clone of the template that other processes use too.
    pub(super) async fn lend(&'static self, template: &str) -> Result<TestDatabase, TestError> {
        const DURING: &str = "take a database that other tests use";
        // One process at a time counts itself, and creates a database where it needs one.
        let (session, lock) = (self.session(), "SELECT pg_advisory_lock(hashtext($1))");
        session.execute(lock, &[&template]).await.during(DURING)?;
        let mut taken = self.take(template).await;
        for _ in 1..ATTEMPTS {
            // Another process has created it at this moment, ahead of its need.
            if taken.is_ok() {
                break;
            }
            taken = self.take(template).await;
        }
        let unlock = "SELECT pg_advisory_unlock(hashtext($1))";
        session.execute(unlock, &[&template]).await.during(DURING)?;
        taken
    }

    async fn take(&'static self, template: &str) -> Result<TestDatabase, TestError> {
        const DURING: &str = "look for a database that other tests use";
        let clones = Clones::of(template);
        let present = self.session().query_opt(&clones.present(), &[]).await.during(DURING)?;
        let (number, uses) = present.map_or((0, USES), |row| (row.get(0), row.get(1)));
        let (number, uses) = if uses < USES {
            (number, uses + 1)
        } else {
            self.create_clone(&clones, number + 1).await?;
            (number + 1, 1)
        };
        let name = clones.name(number);
        let count = format!("COMMENT ON DATABASE {name} IS '{uses}'");
        self.session().batch_execute(&count).await.during(DURING)?;
        if uses == AHEAD {
            // The server does it to the end, though this process may end before.
            runtime().spawn(async move {
                let created = self.create_clone(&clones, number + 1).await;
                if let Err(error) = created.and(self.drop_clones(&clones, number).await) {
                    tracing::debug!(%error, "cannot create a database ahead");
                }
            });
        }
        Ok(TestDatabase::lent(name))
    }

    async fn create_clone(&self, clones: &Clones, number: i32) -> Result<(), TestError> {
        let (name, options) = (clones.name(number), self.as_clone_of(&clones.template));
        let sql = format!("CREATE DATABASE {name} {options}");
        let admin = self.connect_to_server().await?;
        admin.batch_execute(&sql).await.during("create a database that other tests use")
    }

    /// Drops the clones before this one that no process uses.
    async fn drop_clones(&self, clones: &Clones, before: i32) -> Result<(), TestError> {
        const DURING: &str = "look for databases that tests have used";
        let unused = clones.unused();
        let names = self.session().query(&unused, &[&before]).await.during(DURING)?;
        for row in names {
            self.drop_database(row.get(0)).await?;
        }
        Ok(())
    }
}

/// The clones of a template that processes use together. The comment on each is the number of its uses.
struct Clones {
    template: String,
    prefix: String,
}

impl Clones {
    fn of(template: &str) -> Self {
        let key = template.rsplit('_').next().unwrap_or(template);
        Self { template: template.to_owned(), prefix: format!("{PREFIX}lent_{key}_") }
    }

    fn name(&self, number: i32) -> String {
        format!("{}{number}", self.prefix)
    }

    /// Selects the clones, each with its number. One that is being dropped has the limit -2.
    fn all(&self) -> String {
        let (prefix, behind) = (&self.prefix, self.prefix.len() + 1);
        format!(
            "SELECT datname::text AS name, substr(datname, {behind})::int4 AS number,
                    coalesce(shobj_description(oid, 'pg_database'), '0')::int4 AS uses, oid
               FROM pg_database
              WHERE datname ~ '^{prefix}[0-9]+$' AND datconnlimit <> -2"
        )
    }

    /// Selects the oldest that has uses left, or the newest.
    fn present(&self) -> String {
        let all = self.all();
        format!(
            "SELECT number, uses FROM ({all}) clones
              ORDER BY uses >= {USES}, CASE WHEN uses < {USES} THEN number ELSE -number END LIMIT 1"
        )
    }

    fn unused(&self) -> String {
        let all = self.all();
        format!(
            "SELECT name FROM ({all}) clones
              WHERE number < $1 AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE datid = oid)"
        )
    }
}
