//! A transaction inside a tenant that knows where it is: the tenant, the caller and the time.

use std::ops::Deref;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::auth::{CallContext, Principal};
use crate::domain::error::{Error, Result};
use crate::domain::json::Value;
use crate::domain::names::{TenantId, TokenId, UserId};
use crate::domain::{Permission, Role, Tenant};
use crate::pg::{self, Failure, Param, Row};

/// The permissions of an application, each with the lowest role that holds it.
pub type Grants = Arc<[(&'static str, Role)]>;

/// The tenant in which a request works.
#[derive(Debug, Clone, PartialEq)]
pub struct Entered {
    tenant: Arc<Tenant>,
    settings: Arc<Value>,
}

impl Entered {
    pub(in crate::service) fn new(tenant: Tenant, settings: Value) -> Self {
        Self { tenant: Arc::new(tenant), settings: Arc::new(settings) }
    }

    /// Returns the tenant's id.
    #[must_use]
    pub fn id(&self) -> TenantId {
        self.tenant.id
    }

    /// Returns the unique name in URLs, which can change.
    #[must_use]
    pub fn slug(&self) -> &str {
        self.tenant.slug.as_str()
    }

    /// Returns the display name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.tenant.name.as_str()
    }

    /// Reads the settings that the control plane keeps for the tenant, and that mean nothing to it.
    ///
    /// # Errors
    /// If they do not have this form.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.settings.to_string())
            .map_err(|error| Error::internal("read the settings of a tenant", error))
    }
}

/// The caller of a handler, in the tenant in which the request works.
#[derive(Debug, Clone)]
pub struct Caller {
    principal: Principal,
    tenant: TenantId,
    grants: Grants,
}

impl Caller {
    pub(in crate::service) fn new(ctx: &CallContext, tenant: TenantId, grants: Grants) -> Self {
        Self { principal: ctx.principal.clone(), tenant, grants }
    }

    /// Returns the user who calls, or for whom a token calls; none for the root and for a token that no user made.
    #[must_use]
    pub fn user(&self) -> Option<Uuid> {
        self.principal.user().map(UserId::uuid)
    }

    /// Returns the API token or key with which the call is made, if it is one.
    #[must_use]
    pub fn token(&self) -> Option<Uuid> {
        self.principal.credential().map(TokenId::uuid)
    }

    /// Returns the role in the tenant of a user who calls in person.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        match &self.principal {
            Principal::User { platform_role, memberships, .. } => {
                let member = memberships.iter().find(|m| m.tenant == self.tenant).map(|m| m.role);
                (*platform_role).max(member)
            }
            _ => None,
        }
    }

    /// Whether the caller holds a permission in the tenant: one of the application, or one of ours such as
    /// `MANAGE_MEMBERS`.
    ///
    /// A permission of the application is held from the role on that the settings name (`[permissions]`), by default
    /// `ADMIN`; by a token that has all permissions of that role.
    #[must_use]
    pub fn may(&self, permission: &str) -> bool {
        let holds = |permission| self.principal.may_in(permission, self.tenant);
        let own = self.grants.iter().find(|(name, _)| *name == permission);
        match own {
            Some((_, role)) => {
                let mut needed = Permission::ALL.iter().filter(|needed| role.grants(**needed));
                needed.all(|needed| holds(*needed))
            }
            None => permission.parse().is_ok_and(holds),
        }
    }

    /// Refuses unless the caller holds a permission.
    ///
    /// # Errors
    /// [`Error::Lacks`].
    pub fn require(&self, permission: &'static str) -> Result<()> {
        if self.may(permission) { Ok(()) } else { Err(Error::Lacks(permission)) }
    }

    /// Returns the kind of caller and its id, such as `user:0190..`, as the audit events name it.
    #[must_use]
    pub fn label(&self) -> String {
        self.principal.label()
    }
}

/// A transaction inside the caller's tenant: it has the tenant's role and sees the tenant's schema only.
///
/// As an extractor it is read-only: the database refuses a statement that would write. A handler that writes asks for
/// `Write`. The caller needs the permission `READ_PROFILES`, which every role has; a token or an API
/// key has it only if it was given.
///
/// The tenant is the one in `x-tenant-id`, else the one that the caller's token or API key is bound to, else the one in
/// the host name. Without one the request fails: there is no default. A tenant that the caller does not belong to, a
/// suspended one and one that does not exist all answer 404.
///
/// Dropped without [`commit`](TenantTx::commit), it rolls back.
///
/// ```no_run
/// use actix_web::{HttpResponse, get};
/// use rowhouse::{Problem, TenantTx};
///
/// #[get("/notes")]
/// async fn notes(tx: TenantTx) -> Result<HttpResponse, Problem> {
///     let rows = tx.query_and_commit("SELECT body FROM notes ORDER BY id", &[]).await?;
///     let notes: Vec<String> = rows.iter().map(|row| row.get("body")).collect();
///     Ok(HttpResponse::Ok().json(notes))
/// }
/// ```
#[must_use = "a transaction that is dropped is rolled back"]
pub struct TenantTx {
    tx: pg::TenantTx,
    entered: Entered,
    caller: Caller,
    now: OffsetDateTime,
}

impl TenantTx {
    pub(in crate::service) const fn new(
        tx: pg::TenantTx,
        entered: Entered,
        caller: Caller,
        now: OffsetDateTime,
    ) -> Self {
        Self { tx, entered, caller, now }
    }

    /// Returns the transaction without what it knows.
    pub(in crate::service) fn into_inner(self) -> pg::TenantTx {
        self.tx
    }

    /// Returns the tenant.
    #[must_use]
    pub const fn tenant(&self) -> &Entered {
        &self.entered
    }

    /// Returns the caller.
    #[must_use]
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns the time of the call, by the clock of the database.
    #[must_use]
    pub const fn now(&self) -> OffsetDateTime {
        self.now
    }

    /// Runs one last query and commits, in a single round trip. As a transaction's only query it is the
    /// cheapest way to read or write inside a tenant.
    ///
    /// # Errors
    /// As [`query`](pg::TenantTx::query); then nothing is committed. If the connection broke
    /// ([`Failure::sqlstate`] is none), the outcome is unknown, as with every commit.
    pub async fn query_and_commit(
        self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        self.tx.query_and_commit(sql, params).await
    }

    /// Commits.
    ///
    /// # Errors
    /// If an earlier statement had failed; the transaction was rolled back.
    pub async fn commit(self) -> Result<(), Failure> {
        self.tx.commit().await
    }
}

/// The statements: `query`, `execute`, `savepoint`, `portal` ..
impl Deref for TenantTx {
    type Target = pg::TenantTx;

    fn deref(&self) -> &pg::TenantTx {
        &self.tx
    }
}
