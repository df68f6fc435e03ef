//! The scope of the tables that all tenants of an application share.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio_postgres::Row;

use super::guard::Guard;
use super::tx::{REACH_NODES, READ_ONLY, Tx};
use super::{Beside, BuiltinTypes, Place, PublicTx, RaiseAtEnd, TenantTx, write_reset, write_seed};
use crate::domain::Access;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::error::Failure;
use crate::pg::pool::affinity::CheckedOut;
use crate::pg::rules::{Isolation, RUNTIME_LOGIN, Rules, Statements, write_limits};
use crate::pg::scope::param::Param;

/// A transaction on the tables that all tenants of an application share: it sees their schema and nothing else, neither a
/// tenant nor the control plane. One that was begun for reading is `READ ONLY`.
///
/// Dropped without [`commit`](SharedTx::commit), it rolls back.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct SharedTx(TenantTx);

impl SharedTx {
    pub(in crate::pg) fn new(
        connection: CheckedOut,
        access: Access,
        rules: &Rules,
        beside: Beside,
        builtin_types: Arc<BuiltinTypes>,
        guard: Option<Arc<Guard>>,
    ) -> Self {
        let schema = SchemaName::shared();
        Self(TenantTx::inside(
            connection,
            schema,
            None,
            access,
            rules,
            beside,
            builtin_types,
            guard,
        ))
    }

    /// Runs a query and returns its rows.
    ///
    /// # Errors
    /// [`Failure`]; after it the transaction can only be dropped.
    pub async fn query(&self, sql: &str, params: &[&dyn Param]) -> Result<Vec<Row>, Failure> {
        self.0.query(sql, params).await
    }

    /// Runs a query that returns exactly one row.
    ///
    /// # Errors
    /// As [`SharedTx::query`], and [`Failure::RowCount`].
    pub async fn query_one(&self, sql: &str, params: &[&dyn Param]) -> Result<Row, Failure> {
        self.0.query_one(sql, params).await
    }

    /// Runs a query that returns at most one row.
    ///
    /// # Errors
    /// As [`SharedTx::query`], and [`Failure::RowCount`].
    pub async fn query_opt(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Option<Row>, Failure> {
        self.0.query_opt(sql, params).await
    }

    /// Runs a statement and returns the number of rows that it affected.
    ///
    /// # Errors
    /// As [`SharedTx::query`].
    pub async fn execute(&self, sql: &str, params: &[&dyn Param]) -> Result<u64, Failure> {
        self.0.execute(sql, params).await
    }

    /// Commits.
    ///
    /// # Errors
    /// If an earlier statement had failed; the transaction was rolled back.
    pub async fn commit(self) -> Result<(), Failure> {
        self.0.commit().await
    }
}

impl TenantTx {
    /// Begins inside a schema, with its role.
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, given once")]
    pub(super) fn inside(
        connection: CheckedOut,
        schema: SchemaName,
        tenant: Option<TenantId>,
        access: Access,
        rules: &Rules,
        beside: Beside,
        builtin_types: Arc<BuiltinTypes>,
        guard: Option<Arc<Guard>>,
    ) -> Self {
        let mut preamble = String::with_capacity(256);
        // A mode of the transaction and no setting: the server refuses to change it back once a query has run, and
        // the statement that could do so before is not allowed.
        preamble.push_str(match access {
            Access::Read => READ_ONLY,
            Access::Write => "BEGIN",
        });
        if guard.is_some() {
            write_reset(&mut preamble, access);
        }
        if rules.sets_must_reach_nodes() {
            preamble.push_str(REACH_NODES);
        }
        if guard.is_some() || connection.served_another() {
            write_seed(&mut preamble);
        }
        if rules.isolation == Isolation::Role {
            let _ = write!(preamble, "; SET LOCAL ROLE {schema}");
        }
        let _ = write!(preamble, "; SET LOCAL search_path = {schema}, extensions, pg_temp");
        if !rules.login_has_limits {
            write_limits(&mut preamble, &rules.limits);
        }
        let lock_timeout = rules.limits.lock;
        let answer_within = Some(rules.limits.answer());
        let place = Place { schema: Some(schema), lock_timeout, answer_within, beside };
        let (statements, wait_timeout) = (rules.statements, rules.limits.connect);
        let types = Some(builtin_types);
        let tx = Tx::new(connection, preamble, statements, wait_timeout, place, types);
        let mut tx = tx.sent_to(rules.engine, rules.direct.runtime);
        if let Some(tenant) = tenant {
            tx = tx.inside(tenant);
        }
        Self { tx, guard }
    }
}

/// What a transaction of the owner is, after it has left the tenant that it had entered.
pub(crate) struct Left {
    statements: Statements,
    raise: RaiseAtEnd,
    /// The statement that takes the tenant's role from the owner again, if it was granted.
    revoke: String,
}

impl PublicTx {
    /// Continues the transaction as a tenant that it has made: with the tenant's role and path, until
    /// [`leave_tenant`](Self::leave_tenant).
    pub(in crate::pg) async fn enter_tenant(
        self,
        tenant: TenantId,
        rules: &Rules,
        guard: Option<Arc<Guard>>,
    ) -> Result<(TenantTx, Left), Failure> {
        let schema = SchemaName::of(tenant);
        let role = match rules.isolation {
            Isolation::Role => schema.as_str(),
            Isolation::SearchPath => RUNTIME_LOGIN,
        };
        // Who has created a role may give it to itself; a superuser is every role.
        let may_become =
            "SELECT pg_has_role($1, CASE WHEN current_setting('server_version_num')::int4 < 160000
                                                      THEN 'MEMBER' ELSE 'SET' END) AS yes";
        let mut revoke = String::new();
        let row = self.query_one(may_become, &[&role]).await?;
        if !row.get::<_, bool>("yes") {
            self.batch(&format!("GRANT {role} TO CURRENT_USER")).await?;
            revoke = format!("; REVOKE {role} FROM CURRENT_USER");
        }
        self.batch(&format!(
            "SET LOCAL ROLE {role}; SET LOCAL search_path = {schema}, extensions, pg_temp"
        ))
        .await?;
        let Self(tx, statements, raise) = self;
        Ok((TenantTx { tx: tx.inside(tenant), guard }, Left { statements, raise, revoke }))
    }

    /// Continues the transaction as the owner, on the control plane.
    pub(in crate::pg) async fn leave_tenant(inside: TenantTx, left: Left) -> Result<Self, Failure> {
        let mut tx = inside.tx;
        let revoke = &left.revoke;
        tx.batch(&format!(
            "SET LOCAL ROLE NONE; SET LOCAL search_path = public, extensions, pg_temp{revoke}"
        ))
        .await?;
        tx = tx.inside_none();
        Ok(Self(tx, left.statements, left.raise))
    }
}
