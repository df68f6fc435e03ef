//! What the server reports about itself, the database and the owner, and what of it keeps a server from starting.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::{BootstrapError, step};
use crate::pg::rules::RUNTIME_LOGIN;

/// What the server reports about itself, the database and the owner.
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
pub(super) struct Facts {
    pub(super) version: u32,
    pub(super) version_text: String,
    pub(super) encoding: String,
    pub(super) owner: String,
    /// Whether it follows another server.
    pub(super) is_standby: bool,
    pub(super) is_read_only: bool,
    pub(super) may_create_roles: bool,
    /// Whether it has the rights of the roles that are granted to it.
    pub(super) inherits: bool,
    /// Whether it may create schemas in the database.
    pub(super) may_create_schemas: bool,
    /// Whether it may use the schema `public` and create objects in it; true if there is no such schema.
    pub(super) may_fill_public: bool,
    pub(super) database: String,
    pub(super) runtime_exists: bool,
    pub(super) is_superuser: bool,
    /// The version of the extension Citus; `None` without it.
    pub(super) citus_version: Option<String>,
}

impl Facts {
    pub(super) async fn read(client: &Client) -> Result<Self, BootstrapError> {
        let row = client
            .query_typed_one(
                "SELECT current_setting('server_version_num')::int4 AS version,
                        current_setting('server_version') AS version_text,
                        quote_ident(current_user) AS owner,
                        pg_is_in_recovery() AS is_standby,
                        current_setting('transaction_read_only') = 'on' AS is_read_only,
                        rolsuper OR rolcreaterole AS may_create_roles,
                        rolsuper OR rolinherit AS inherits,
                        has_database_privilege(current_database(), 'CREATE') AS may_create_schemas,
                        (SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE')
                           FROM pg_catalog.pg_namespace WHERE nspname = 'public') IS NOT FALSE AS may_fill_public,
                        quote_ident(current_database()) AS database,
                        EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1) AS runtime_exists,
                        current_setting('server_encoding') AS encoding, rolsuper AS is_superuser,
                        (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'citus') AS citus_version
                   FROM pg_catalog.pg_roles
                  WHERE rolname = current_user",
                &[(&RUNTIME_LOGIN, Type::TEXT)],
            )
            .await
            .map_err(step("read the properties of the server"))?;
        Ok(Self {
            version: u32::try_from(row.get::<_, i32>("version")).unwrap_or(0),
            version_text: row.get("version_text"),
            owner: row.get("owner"),
            is_standby: row.get("is_standby"),
            is_read_only: row.get("is_read_only"),
            may_create_roles: row.get("may_create_roles"),
            inherits: row.get("inherits"),
            may_create_schemas: row.get("may_create_schemas"),
            may_fill_public: row.get("may_fill_public"),
            database: row.get("database"),
            runtime_exists: row.get("runtime_exists"),
            encoding: row.get("encoding"),
            is_superuser: row.get("is_superuser"),
            citus_version: row.get("citus_version"),
        })
    }

    /// Refuses a database that accepts no changes, with the cause.
    pub(super) fn require_writable(&self, at: &str) -> Result<(), BootstrapError> {
        let database = &self.database;
        let why = match (self.is_standby, self.is_read_only) {
            (true, _) => {
                "its server is a standby, or still recovers; connect to the primary".to_owned()
            }
            (false, true) => format!(
                "default_transaction_read_only is on; switch it off where it is set, for example: \
                 ALTER DATABASE {database} RESET default_transaction_read_only"
            ),
            (false, false) => return Ok(()),
        };
        Err(BootstrapError::ReadOnly { at: at.to_owned(), why })
    }

    /// Refuses an owner that could not create the control plane or a tenant's schema.
    pub(super) fn require_privileges(&self) -> Result<(), BootstrapError> {
        let (owner, database) = (&self.owner, &self.database);
        let grants = [
            (
                self.inherits,
                "use the rights of roles that are granted to it",
                format!("ALTER ROLE {owner} INHERIT"),
            ),
            (
                self.may_create_schemas,
                "create schemas in the database",
                format!("GRANT CREATE ON DATABASE {database} TO {owner}"),
            ),
            (
                self.may_fill_public,
                "create tables in the schema public",
                format!("GRANT USAGE, CREATE ON SCHEMA public TO {owner}"),
            ),
        ];
        let missing: Vec<_> = grants.into_iter().filter(|(may, ..)| !may).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (what, statements): (Vec<_>, Vec<_>) =
            missing.into_iter().map(|(_, what, statement)| (what, statement)).unzip();
        Err(BootstrapError::MayNotCreate {
            owner: owner.clone(),
            what: what.join(", or "),
            statements: statements.join("; "),
        })
    }
}
