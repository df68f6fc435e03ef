//! Owns the migration files: reading them, refusing what would break our promise, running them by
//! refinery inside a transaction of ours.
//!
//! refinery's own driver commits after each file; ours does not, because a tenant is made whole or not
//! at all. A file that ended the transaction itself would commit half a tenant and write its next tables
//! into `public`, so such a file is refused when it is loaded ([`check`]), and after each file the runner
//! asks the server whether it is still in the same transaction and the same schema.
//!
//! To add a file: `V<next number>__<verb>_<object>.sql` in `public_migrations/` or `tenant_migrations/`,
//! one purpose a file, never edited once merged: its checksum is remembered in every schema.

use std::path::{Path, PathBuf};

use futures_util::future::join;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use refinery_core::{Migration, Runner};
use sha2::{Digest, Sha256};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::Failure;
use super::scope::PublicTx;

mod public_set {
    refinery::embed_migrations!("public_migrations");
}

mod tenant_set {
    refinery::embed_migrations!("tenant_migrations");
}

/// refinery's history table, one in each schema.
pub const HISTORY_TABLE: &str = "refinery_schema_history";

/// A set of migrations, read and found fit to run inside a transaction.
#[derive(Debug, Clone)]
pub struct MigrationSet {
    migrations: Vec<Migration>,
    fingerprint: String,
}

/// Why a set cannot be used, or could not be run.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The folder cannot be read.
    #[error("cannot read the migrations in {folder}: {source}")]
    Unreadable {
        /// Which folder.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file's name does not say its version.
    #[error("{file}: a migration is named V<number>__<what_it_does>.sql; rename it")]
    Name {
        /// Which file.
        file: String,
    },
    /// Two files have one version.
    #[error("{first} and {second} have the same version; renumber one of them")]
    Repeated {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// A statement that must not stand in a migration.
    #[error("{file}, line {line}: {statement} is not allowed in a migration: {reason}")]
    Refused {
        /// Which file.
        file: String,
        /// Where in it, from 1.
        line: u64,
        /// The statement's first words.
        statement: String,
        /// Why not.
        reason: &'static str,
    },
    /// The text is no SQL.
    #[error("{file}: {reason}")]
    Syntax {
        /// Which file.
        file: String,
        /// What the lexer said.
        reason: String,
    },
    /// The database was migrated by a newer program.
    #[error(
        "the schema is at version {found}, this program knows up to {known}; start a newer one"
    )]
    Ahead {
        /// Version in the schema.
        found: i32,
        /// Highest version in the set.
        known: i32,
    },
    /// A statement of a file failed; everything was rolled back.
    #[error("{file}{}: {message}", .line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Failed {
        /// Which file.
        file: String,
        /// Where in it, from 1, where the server says.
        line: Option<usize>,
        /// What the server said.
        message: String,
    },
    /// The server went away, or did not give a lock, while a file ran: the file is not to blame.
    #[error("{file}: {}", describe(.failure))]
    Interrupted {
        /// Which file.
        file: String,
        /// What happened.
        failure: Failure,
    },
    /// Applied and known migrations differ.
    #[error("{0}")]
    Diverged(String),
    /// The database failed around the migrations.
    #[error(transparent)]
    Database(#[from] Failure),
}

impl MigrationSet {
    /// The control plane's own migrations.
    ///
    /// # Errors
    /// None in a program that passed its tests; the set is checked like any other.
    pub fn public() -> Result<Self, MigrationError> {
        Self::new(public_set::migrations::runner().get_migrations().clone())
    }

    /// The tenant migrations that are built in.
    ///
    /// # Errors
    /// As [`MigrationSet::public`].
    pub fn tenant() -> Result<Self, MigrationError> {
        Self::new(tenant_set::migrations::runner().get_migrations().clone())
    }

    /// The migrations in a folder, which replace the built-in tenant set.
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn load(folder: &Path) -> Result<Self, MigrationError> {
        let unreadable = |source| MigrationError::Unreadable { folder: folder.to_owned(), source };
        let mut migrations = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let file =
                path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            // Notes and dot files may lie beside the migrations; an SQL file that is none may not.
            if path.extension().is_none_or(|extension| extension != "sql") {
                continue;
            }
            let sql = std::fs::read_to_string(&path).map_err(unreadable)?;
            let stem = file.trim_end_matches(".sql");
            let migration = Migration::unapplied(stem, &sql)
                .map_err(|_unnamed| MigrationError::Name { file: file.clone() })?;
            if *migration.prefix().to_string() != *"V" {
                return Err(MigrationError::Name { file });
            }
            migrations.push(migration);
        }
        Self::new(migrations)
    }

    fn new(mut migrations: Vec<Migration>) -> Result<Self, MigrationError> {
        migrations.sort();
        for pair in migrations.windows(2) {
            if pair[0].version() == pair[1].version() {
                return Err(MigrationError::Repeated {
                    first: pair[0].to_string(),
                    second: pair[1].to_string(),
                });
            }
        }
        let mut hash = Sha256::new();
        for migration in &migrations {
            check(&file_name(migration), migration.sql().unwrap_or_default())?;
            hash.update(migration.version().to_be_bytes());
            hash.update(migration.checksum().to_be_bytes());
        }
        let digest = hash.finalize();
        Ok(Self { migrations, fingerprint: hex::encode(digest.get(..16).unwrap_or_default()) })
    }

    /// The highest version in the set; 0 for an empty set.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.migrations.last().map_or(0, Migration::version)
    }

    /// A digest of the whole set; two schemas with one fingerprint were made by the same files.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The files, lowest version first.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.migrations.iter().map(file_name).collect()
    }

    /// The files with their texts, lowest version first.
    #[must_use]
    pub fn texts(&self) -> Vec<(String, &str)> {
        let text =
            |migration| (file_name(migration), Migration::sql(migration).unwrap_or_default());
        self.migrations.iter().map(text).collect()
    }

    /// The first files of the set, up to this version: what a schema that stands there was made by. None
    /// where no file has that version; version 0 stands before the first.
    #[must_use]
    pub fn up_to(&self, version: i32) -> Option<Self> {
        let count = self.migrations.iter().filter(|file| file.version() <= version).count();
        let migrations = self.migrations.get(..count)?.to_vec();
        let found = migrations.last().map_or(0, Migration::version);
        (found == version).then_some(())?;
        // A part of a set that was found good is good.
        Self::new(migrations).ok()
    }

    /// The history that the files leave in a schema when all are applied, one line a file: `version name
    /// checksum`, lowest version first.
    #[must_use]
    pub fn trail(&self) -> String {
        let lines = self
            .migrations
            .iter()
            .map(|file| format!("{} {} {}", file.version(), file.name(), file.checksum()));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The same files as one script, as the floor that the benchmark measures provisioning against.
    #[doc(hidden)]
    #[must_use]
    pub fn script_for_benchmarks(&self) -> String {
        self.migrations.iter().filter_map(Migration::sql).collect::<Vec<_>>().join("\n;\n")
    }

    /// Brings the schema that `tx` points at up to date, and tells which files were applied. Nothing is
    /// committed.
    ///
    /// # Errors
    /// The file that failed, or how the schema differs from the set; the transaction is then lost.
    pub(super) async fn apply(&self, tx: &PublicTx) -> Result<Vec<String>, MigrationError> {
        let mut inside = Inside { tx, here: None, interrupted: None };
        let outcome = Runner::new(&self.migrations).run_async(&mut inside).await;
        let report = outcome.map_err(|error| match inside.interrupted.take() {
            Some(failure) => self.interrupted(&error, failure),
            None => self.explain(&error),
        })?;
        Ok(report.applied_migrations().iter().map(file_name).collect())
    }

    /// The file that refinery was applying when `what` happened, if it was applying one.
    fn applying(&self, what: &str) -> Option<&Migration> {
        let applying =
            |migration: &&Migration| what == format!("error applying migration {migration}");
        self.migrations.iter().find(applying)
    }

    fn interrupted(&self, error: &refinery_core::Error, failure: Failure) -> MigrationError {
        use refinery_core::error::Kind;
        let applying = match error.kind() {
            Kind::Connection(what, _) => self.applying(what),
            _ => None,
        };
        match applying {
            Some(migration) => MigrationError::Interrupted { file: file_name(migration), failure },
            None => failure.into(),
        }
    }

    fn explain(&self, error: &refinery_core::Error) -> MigrationError {
        use refinery_core::error::Kind;
        match error.kind() {
            Kind::Connection(what, source) => {
                let postgres = source.downcast_ref::<Refused>();
                match (self.applying(what), postgres) {
                    (Some(migration), Some(refused)) => MigrationError::Failed {
                        file: file_name(migration),
                        line: refused.line_in(migration.sql().unwrap_or_default()),
                        message: refused.to_string(),
                    },
                    (_, Some(refused)) => MigrationError::Diverged(refused.to_string()),
                    _ => MigrationError::Diverged(format!("{what}: {source}")),
                }
            }
            Kind::MissingVersion(found) if found.version() > self.version() => {
                MigrationError::Ahead { found: found.version(), known: self.version() }
            }
            Kind::MissingVersion(missing) => MigrationError::Diverged(format!(
                "{} was applied and is not among the files, or is new and has a lower number than one that was applied",
                file_name(missing)
            )),
            Kind::DivergentVersion(applied, file) => MigrationError::Diverged(format!(
                "{} was applied with another text than {} has now; a migration is never edited once applied",
                file_name(applied),
                file_name(file)
            )),
            other => MigrationError::Diverged(other.to_string()),
        }
    }
}

fn file_name(migration: &Migration) -> String {
    format!("{migration}.sql")
}

/// refinery's view of a transaction of ours.
struct Inside<'a> {
    tx: &'a PublicTx,
    /// Transaction id and path at the start, which each file must leave as they were.
    here: Option<String>,
    /// Kept beside the error, because refinery lets out a reference alone.
    interrupted: Option<Failure>,
}

/// What the server said about a batch.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{}", describe(.0))]
    Failed(#[from] Failure),
    #[error("the database went away or did not give a lock")]
    Interrupted,
    #[error("the file ended the transaction or changed the schema that it runs in")]
    Escaped,
}

impl Refused {
    /// The line in the file, where the server gave a position inside it.
    fn line_in(&self, sql: &str) -> Option<usize> {
        let Self::Failed(Failure::Postgres(error)) = self else { return None };
        let Some(tokio_postgres::error::ErrorPosition::Original(at)) =
            error.as_db_error()?.position()
        else {
            return None;
        };
        let at = usize::try_from(*at).ok()?;
        (at <= sql.chars().count())
            .then(|| 1 + sql.chars().take(at.saturating_sub(1)).filter(|c| *c == '\n').count())
    }
}

/// The server's words, which tokio-postgres hides behind "db error".
fn describe(failure: &Failure) -> String {
    match failure {
        Failure::Postgres(error) => error.as_db_error().map_or_else(
            || error.to_string(),
            |db| format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        ),
        other => other.to_string(),
    }
}

/// The transaction and the path in one value.
const HERE: &str = "SELECT pg_current_xact_id()::text || ' ' || current_setting('search_path') || ' ' || current_user";

impl AsyncTransaction for Inside<'_> {
    type Error = Refused;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, Self::Error> {
        let statements: Vec<&str> = queries.collect();
        // A line of its own for each, so that a comment at the end of one does not swallow the next.
        let batch = statements.join("\n;\n");
        let here = async {
            // Sent together, answered in this order: a batch that failed is told before.
            let (ran, here) = join(self.tx.batch(&batch), self.tx.query_one(HERE, &[])).await;
            ran?;
            Ok::<String, Failure>(here?.get(0))
        };
        let here = match here.await {
            Err(failure) if failure.is_away() || failure.is_retryable() => {
                self.interrupted = Some(failure);
                return Err(Refused::Interrupted);
            }
            other => other?,
        };
        match &self.here {
            Some(before) if *before != here => Err(Refused::Escaped),
            _ => {
                self.here = Some(here);
                Ok(statements.len())
            }
        }
    }
}

impl AsyncQuery<Vec<Migration>> for Inside<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Self::Error> {
        let rows = self.tx.query(query, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| {
                let applied_on = OffsetDateTime::parse(row.get(2), &Rfc3339)
                    .unwrap_or(OffsetDateTime::UNIX_EPOCH);
                // A checksum that is no number cannot equal one: refinery then reports the divergence.
                let checksum = row.get::<_, &str>(3).parse().unwrap_or(0);
                Migration::applied(row.get(0), row.get(1), applied_on, checksum)
            })
            .collect())
    }
}

impl AsyncMigrate for Inside<'_> {}

const ENDS: &str = "migrations run inside one transaction with the rest of the tenant";
const SCOPE: &str = "it would change the schema or the role that the next statements run in";
const LEAKS: &str = "it would outlive the transaction; write SET LOCAL";

/// Refuses a file with a statement that would leave its transaction, its schema or its role.
///
/// # Errors
/// The first such statement, with its line.
pub fn check(file: &str, sql: &str) -> Result<(), MigrationError> {
    let tokens =
        Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().map_err(|error| {
            MigrationError::Syntax { file: file.to_owned(), reason: error.to_string() }
        })?;
    let mut words: Vec<String> = Vec::new();
    let mut line = 0;
    let mut body = 0_usize; // depth inside a BEGIN ATOMIC body, whose semicolons end nothing
    for token in tokens {
        match token.token {
            Token::Whitespace(_) => {}
            Token::SemiColon if body == 0 => words.clear(),
            Token::Word(word) if word.quote_style.is_none() => {
                if words.is_empty() {
                    line = token.span.start.line;
                }
                let word = word.value.to_ascii_uppercase();
                body = match (body, word.as_str(), words.last().map(String::as_str)) {
                    (0, "ATOMIC", Some("BEGIN")) => 1,
                    (0, ..) => 0,
                    (depth, "CASE", _) => depth + 1,
                    (depth, "END", _) => depth - 1,
                    (depth, ..) => depth,
                };
                words.push(word);
                if words.len() <= 4
                    && let Some(reason) = refuse(&words)
                {
                    return Err(MigrationError::Refused {
                        file: file.to_owned(),
                        line,
                        statement: words.join(" "),
                        reason,
                    });
                }
            }
            // Anything else keeps its place, so that a later word is not taken for a first one.
            _ => words.push(String::new()),
        }
    }
    Ok(())
}

/// Why a statement that starts with these words is refused.
fn refuse(words: &[String]) -> Option<&'static str> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT"]
        | ["PREPARE", "TRANSACTION"] => Some(ENDS),
        [
            "SET",
            "LOCAL" | "SESSION",
            "SEARCH_PATH" | "ROLE" | "SCHEMA" | "AUTHORIZATION" | "SESSION",
        ]
        | ["SET", "SEARCH_PATH" | "ROLE" | "SCHEMA"]
        | ["RESET", "SEARCH_PATH" | "ROLE" | "ALL" | "SESSION"]
        | ["DISCARD"] => Some(SCOPE),
        ["SET", "LOCAL" | "CONSTRAINTS" | "SESSION"] => None,
        ["SET", _] => Some(LEAKS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_would_end_the_transaction_is_refused_with_its_line() {
        for (sql, line) in [
            ("COMMIT", 1),
            ("CREATE TABLE t (a int);\n\ncommit;", 3),
            ("SELECT 1; -- fine\n/* x */ ROLLBACK", 2),
            ("BEGIN; SELECT 1", 1),
            ("START TRANSACTION", 1),
            ("END;", 1),
            ("ABORT", 1),
            ("PREPARE TRANSACTION 'x'", 1),
            ("SET search_path = public", 1),
            ("SET LOCAL search_path TO public", 1),
            ("set session search_path = x", 1),
            ("SET ROLE postgres", 1),
            ("SET LOCAL ROLE postgres", 1),
            ("RESET ROLE", 1),
            ("SET SESSION AUTHORIZATION postgres", 1),
            ("DISCARD ALL", 1),
            ("SET statement_timeout = 0", 1),
        ] {
            match check("V1__x.sql", sql) {
                Err(MigrationError::Refused { line: found, .. }) => {
                    assert_eq!(found, line, "{sql}");
                }
                other => panic!("{sql}: {other:?}"),
            }
        }
    }

    #[test]
    fn words_inside_of_texts_bodies_and_names_do_no_harm() {
        for sql in [
            "INSERT INTO t VALUES ('COMMIT; ROLLBACK;')",
            "INSERT INTO t VALUES (E'it\\'s; COMMIT;')",
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN; COMMIT; END $$",
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $body$ BEGIN RETURN 1; END; $body$;",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 1",
            "-- COMMIT;\nSELECT 1",
            "/* COMMIT; /* nested */ ROLLBACK; */ SELECT 1",
            "CREATE TABLE \"commit\" (\"begin\" int)",
            "SAVEPOINT x; RELEASE x",
            "SET LOCAL work_mem = '64MB'",
            "SET CONSTRAINTS ALL DEFERRED",
            "SELECT case when a then b end FROM t",
            "",
        ] {
            assert!(check("V1__x.sql", sql).is_ok(), "{sql}: {:?}", check("V1__x.sql", sql));
        }
    }

    #[test]
    fn the_sets_that_are_built_in_are_fit_to_run() {
        assert!(MigrationSet::public().unwrap().version() > 0);
        assert!(MigrationSet::tenant().unwrap().version() > 0);
    }

    #[test]
    fn a_folder_is_read_or_refused_by_the_name_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, sql: &str| std::fs::write(folder.path().join(name), sql).unwrap();
        write("V1__create_notes.sql", "CREATE TABLE notes (id uuid PRIMARY KEY)");
        write("README.md", "notes");
        assert_eq!(MigrationSet::load(folder.path()).unwrap().files(), ["V1__create_notes.sql"]);

        write("create_tags.sql", "SELECT 1");
        let error = MigrationSet::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("create_tags.sql") && error.contains("V<number>"), "{error}");
        std::fs::remove_file(folder.path().join("create_tags.sql")).unwrap();

        write("V1__create_tags.sql", "SELECT 1");
        let error = MigrationSet::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("same version"), "{error}");

        let missing = folder.path().join("nowhere");
        assert!(MigrationSet::load(&missing).unwrap_err().to_string().contains("nowhere"));
    }
}
