//! Reads the statements of tenants while an exposure is open in the database, and refuses those that use it.
//!
//! PostgreSQL calls a function only where a statement names it: in a call, as a table, as an attribute (`x.f`), as an
//! operator's or an aggregate's own function, which only a migration can define. So no token of a statement may be the
//! name of a function that is open, however it is written (quoted, qualified, with escapes) and wherever it stands.
//! [`lexer`] splits a statement as the server does. A statement must also parse, as one that reads or writes rows, with
//! `sqlparser`; what it cannot parse is refused.
//!
//! The server's own grammar would be better than `sqlparser`, and accept all that the server accepts. The crates that
//! wrap it need libclang to build. What decides here is the lexical structure, which is small and stable.
//!
//! What a function or a view does that a migration has created is not seen: see `docs/isolation.md`.

mod lexer;

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{PoisonError, RwLock};

use sqlparser::ast::{SetExpr, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use self::lexer::Token;
use crate::pg::error::Failure;
use crate::pg::rules::exposure::{ExposureName, Exposures};

/// The most statements that a guard remembers as good.
const MAX_STATEMENTS: usize = 10_000;

/// The functions that run SQL from a text, in the server and in the extensions that come with it: with one of them a
/// statement could call what it must not name.
const RUN_SQL: &[&str] = &[
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "table_to_xml",
    "table_to_xmlschema",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xmlschema",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xmlschema",
    "database_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
    // dblink
    "dblink",
    "dblink_connect",
    "dblink_connect_u",
    "dblink_exec",
    "dblink_open",
    "dblink_send_query",
    // tablefunc
    "connectby",
    "crosstab",
    "crosstab2",
    "crosstab3",
    "crosstab4",
    "crosstabn",
    // xml2
    "xpath_table",
];

/// Returns the functions that an exposure leaves open.
///
/// Those without any need a statement that the guard refuses anyway: `DO`, `SET ROLE`, `CREATE`.
#[must_use]
pub(in crate::pg) fn functions(name: ExposureName) -> &'static [&'static str] {
    match name {
        ExposureName::SetConfig => &["set_config"],
        ExposureName::AdvisoryLocks => &[
            "pg_advisory_lock",
            "pg_advisory_lock_shared",
            "pg_try_advisory_lock",
            "pg_try_advisory_lock_shared",
        ],
        ExposureName::TableLocks => &["table_to_xmlschema"],
        ExposureName::LargeObjects => &["lo_creat", "lo_create", "lo_from_bytea", "lo_import"],
        ExposureName::Signals => &["pg_cancel_backend", "pg_terminate_backend"],
        ExposureName::Setseed => &["setseed"],
        ExposureName::RemoteCommands => &[
            "run_command_on_all_nodes",
            "run_command_on_workers",
            "run_command_on_coordinator",
            "run_command_on_placements",
            "run_command_on_shards",
            "run_command_on_colocated_placements",
            "master_run_on_worker",
            "alter_role_if_exists",
            "citus_run_local_command",
            "worker_apply_shard_ddl_command",
            "worker_apply_inter_shard_ddl_command",
            "worker_partition_query_result",
            "create_intermediate_result",
            "broadcast_intermediate_result",
            "citus_unmark_object_distributed",
            "citus_internal_delete_tenant_schema",
            "delete_tenant_schema",
            "column_name_to_column",
            "worker_change_sequence_dependency",
            "citus_check_connection_to_node",
            "citus_check_cluster_node_health",
        ],
        ExposureName::DoBlocks
        | ExposureName::TemporaryTables
        | ExposureName::SchemaPublic
        | ExposureName::SchemaExtensions
        | ExposureName::RuntimeRoles => &[],
    }
}

/// Reads statements and refuses those that use what is open.
pub(in crate::pg) struct Guard {
    /// The names that no token may be, in lower case.
    refused: HashSet<&'static str>,
    /// Whether a name in the schema `public` is refused.
    refuses_public: bool,
    /// The statements that were read and are good, by a digest of their text.
    good: RwLock<HashSet<u64>>,
    hasher: RandomState,
}

impl Guard {
    /// Returns the guard for these exposures; none if there are none.
    pub(in crate::pg) fn new(open: &Exposures) -> Option<Self> {
        (!open.is_empty()).then(|| Self {
            refused: open.iter().flat_map(functions).chain(RUN_SQL).copied().collect(),
            refuses_public: open.contains(ExposureName::SchemaPublic),
            good: RwLock::default(),
            hasher: RandomState::new(),
        })
    }

    /// Refuses a statement that uses what is open, or that cannot be read.
    ///
    /// # Errors
    /// [`Failure::Exposed`], [`Failure::Unreadable`].
    pub(in crate::pg) fn check(&self, sql: &str) -> Result<(), Failure> {
        let digest = self.hasher.hash_one(sql);
        if self.good.read().unwrap_or_else(PoisonError::into_inner).contains(&digest) {
            return Ok(());
        }
        self.read(sql)?;
        let mut good = self.good.write().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= MAX_STATEMENTS {
            good.clear();
        }
        good.insert(digest);
        Ok(())
    }

    fn read(&self, sql: &str) -> Result<(), Failure> {
        let unreadable = |reason: &str| Failure::Unreadable(reason.to_owned());
        let tokens = lexer::tokens(sql).map_err(unreadable)?;
        self.check_tokens(&tokens)?;
        let parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql);
        match parsed.map_err(|error| unreadable(&error.to_string()))?.as_slice() {
            [statement] if reads_or_writes_rows(statement) => Ok(()),
            [_] => Err(unreadable("it neither reads nor writes rows")),
            several => Err(unreadable(&format!("it is {} statements", several.len()))),
        }
    }

    fn check_tokens(&self, tokens: &[Token]) -> Result<(), Failure> {
        let exposed = |what: &str| Err(Failure::Exposed(what.to_owned()));
        let word = |at: usize| match tokens.get(at) {
            Some(Token::Word(word)) => word.as_str(),
            _ => "",
        };
        let updates = (0..tokens.len()).any(|at| matches!(word(at), "update" | "merge"));
        for (at, token) in tokens.iter().enumerate() {
            let (Token::Word(name) | Token::Quoted(name)) = token else { continue };
            match name.as_str() {
                name if self.refused.contains(name) => return exposed(name),
                // An update of this view calls set_config.
                "pg_settings" if updates => return exposed("an update of pg_settings"),
                "public"
                    if self.refuses_public && tokens.get(at + 1) == Some(&Token::Symbol('.')) =>
                {
                    return exposed("the schema public");
                }
                // SELECT .. INTO creates a table, which may be temporary.
                "into"
                    if matches!(token, Token::Word(_))
                        && !(at > 0 && matches!(word(at - 1), "insert" | "merge")) =>
                {
                    return exposed("SELECT INTO");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a statement is a query or changes rows.
fn reads_or_writes_rows(statement: &Statement) -> bool {
    match statement {
        Statement::Query(query) => has_rows(&query.body),
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_) => true,
        _ => false,
    }
}

fn has_rows(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::Query(query) => has_rows(&query.body),
        SetExpr::SetOperation { left, right, .. } => has_rows(left) && has_rows(right),
        SetExpr::Values(_) | SetExpr::Table(_) => true,
        SetExpr::Insert(statement)
        | SetExpr::Update(statement)
        | SetExpr::Delete(statement)
        | SetExpr::Merge(statement) => reads_or_writes_rows(statement),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        let all: Exposures = ExposureName::all().parse().expect("all names are known");
        Guard::new(&all).expect("there are some")
    }

    #[test]
    fn no_spelling_of_a_name_that_is_open_is_let_through() {
        let guard = guard();
        for sql in [
            "SELECT set_config('role', 'x', true)",
            "SELECT SET_CONFIG ('role', 'x', true)",
            "SELECT pg_catalog.set_config('role', 'x', true)",
            "SELECT pg_catalog /* x */ . \n \"set_config\" ('role', 'x', true)",
            r#"SELECT U&"set\005fconfig"('role', 'x', true)"#,
            r#"SELECT pg_catalog.u&"\0073et_\+000063onfig"('role', 'x', true)"#,
            "VALUES (set_config('role', 'x', true))",
            "SELECT 1 WHERE set_config('role', 'x', true) = ''",
            "SELECT a FROM t ORDER BY set_config('role', 'x', true)",
            "SELECT a FROM t LIMIT length(set_config('role', 'x', true))",
            "SELECT * FROM set_config('role', 'x', true)",
            "SELECT * FROM t, LATERAL set_config('role', a, true) s",
            "SELECT * FROM ROWS FROM (set_config('role', 'x', true)) s",
            "WITH x AS MATERIALIZED (SELECT set_config('role', 'x', true)) SELECT 1",
            "SELECT CASE WHEN true THEN set_config('role', 'x', true) END",
            "SELECT set_config('role', 'x', true)::text::varchar",
            "SELECT CAST(set_config('role', 'x', true) AS text)",
            "SELECT 'a' || set_config('role', 'x', true)",
            "SELECT 'a' OPERATOR(pg_catalog.||) set_config('role', 'x', true)",
            "SELECT ARRAY[set_config('role', 'x', true)]",
            "SELECT count(*) FILTER (WHERE set_config('role', 'x', true) = '') FROM t",
            "INSERT INTO t VALUES (set_config('role', 'x', true))",
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = set_config('role', 'x', true)",
            "INSERT INTO t VALUES (1) RETURNING set_config('role', 'x', true)",
            "UPDATE t SET a = set_config('role', 'x', true)",
            "DELETE FROM t WHERE set_config('role', 'x', true) = ''",
            "DELETE FROM t USING set_config('role', 'x', true) s",
            "MERGE INTO t USING (VALUES (1)) v ON set_config('role', 'x', true) = '' WHEN MATCHED THEN DELETE",
            "SELECT E'\\'' || set_config('role', 'x', true) || ''",
            "SELECT $a$ ' $a$ || set_config('role', 'x', true) || $a$ ' $a$",
            "SELECT '--' || set_config('role', 'x', true)",
            "SELECT 1 -- \r , set_config('role', 'x', true)",
            "SELECT (0.5::float8).setseed",
            "SELECT c.setseed FROM unnest(ARRAY[0.5::float8]) c",
            "SELECT c.\"pg_advisory_lock\" FROM generate_series(1::bigint, 1) c",
            "SELECT ('SELECT 1'::text).ts_stat",
            "SELECT query_to_xml('SELECT 1', true, false, '')",
            "SELECT lo_create(0)",
            "SELECT pg_terminate_backend(1)",
            "SELECT dblink('dbname=x', 'SELECT 1')",
            "UPDATE pg_settings SET setting = 'x' WHERE name = 'role'",
            "UPDATE pg_catalog.\"pg_settings\" AS s SET setting = 'x'",
            "WITH x AS (UPDATE pg_settings SET setting = 'x' RETURNING 1) SELECT 1",
            "SELECT a INTO TEMP x FROM t",
            "SELECT a INTO x FROM t",
            "WITH x AS (SELECT 1 AS a) SELECT a INTO x2 FROM x",
            "SELECT public.f()",
            "SELECT \"public\" . f()",
        ] {
            let outcome = guard.check(sql);
            assert!(matches!(outcome, Err(Failure::Exposed(_))), "{sql}: {outcome:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let guard = guard();
        for sql in [
            "SELECT 1 FROM",
            "SELECT 1; SELECT 2",
            "SELECT 'a\\' || 'b'",
            "SELECT 'a",
            "SELECT 1 +",
            "",
            "SET ROLE x",
            "DO $$ BEGIN END $$",
            "COPY t TO STDOUT",
            "CREATE TEMP TABLE t (a int)",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "CALL p()",
            "EXPLAIN ANALYZE SELECT 1",
        ] {
            let outcome = guard.check(sql);
            assert!(matches!(outcome, Err(Failure::Unreadable(_))), "{sql}: {outcome:?}");
        }
    }

    #[test]
    fn a_name_in_a_string_or_a_comment_is_no_call() {
        let guard = guard();
        for sql in [
            "SELECT 'set_config(''role'', ''x'', true)'",
            "SELECT $$ set_config('role', 'x', true) $$",
            "SELECT a FROM t WHERE body = $1 -- set_config",
            "/* set_config */ SELECT E'it\\'s setseed(1)'",
            "SELECT name FROM pg_settings WHERE setting = 'x'",
            "SELECT public FROM t WHERE t.public",
            "INSERT INTO t (a) SELECT a FROM u ON CONFLICT DO NOTHING RETURNING a",
            "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE",
            "SELECT a FROM t FOR UPDATE SKIP LOCKED",
            "WITH w AS (INSERT INTO t VALUES (1) RETURNING a) TABLE w",
            "SELECT json ->> 'a', count(*) FILTER (WHERE b) OVER () FROM t, LATERAL (SELECT 1) x",
            "SELECT set_configuration, setseeds FROM t",
        ] {
            let outcome = guard.check(sql);
            assert!(outcome.is_ok(), "{sql}: {outcome:?}");
        }
    }

    #[test]
    fn only_what_is_open_is_refused() {
        let one: Exposures = "setseed".parse().expect("it is known");
        let guard = Guard::new(&one).expect("there is one");
        assert!(guard.check("SELECT setseed(0.5)").is_err());
        assert!(guard.check("SELECT lo_create(0), public.f()").is_ok());
        assert!(Guard::new(&Exposures::default()).is_none());
    }

    #[test]
    fn a_statement_nested_too_deeply_is_refused_and_does_not_overflow_the_stack() {
        let sql = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(matches!(guard().check(&sql), Err(Failure::Unreadable(_))));
    }
}
