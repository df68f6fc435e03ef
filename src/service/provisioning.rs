//! Makes tenants: row, admin, schema, role, tables, membership, audit event, idempotency record, all in
//! one transaction. There is no state in between to clean up: killed at any point, the database holds a
//! whole tenant or none.
//!
//! The password is hashed before a connection is taken, since it costs more time than all the rest.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::Duration;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::Instrument;

use crate::auth::CallContext;
use crate::auth::password::{Hasher, PasswordHash};
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{
    Email, Password, PersonName, SchemaName, Slug, TenantId, TenantName, UserId,
};
use crate::domain::{Permission, Role, Tenant, TenantStatus, User};
use crate::pg::audit_events::Event;
use crate::pg::migrations::MigrationSet;
use crate::pg::{
    Db, During, PublicTx, audit_events, idempotency, memberships, schemas, tenants, users,
};

/// How long an idempotency key is remembered.
const KEY_LIFETIME: Duration = Duration::hours(24);

/// How often a transaction is sent again that lost a race against another.
const TRIES: u32 = 3;

/// Makes tenants. Runs on the main runtime with pools of its own, so that a burst of set-ups does not
/// hold up the workers' own queries.
#[derive(Clone)]
pub struct Provisioning {
    runtime: Handle,
    db: Db,
    hasher: Hasher,
    set: Arc<MigrationSet>,
    server_version: u32,
}

/// The wish for a tenant, the same from every dialect.
#[derive(Debug, Clone)]
pub struct ProvisionTenant {
    /// The name people read.
    pub name: TenantName,
    /// The unique url-friendly name.
    pub slug: Slug,
    /// Who will run it; none where the caller's own credential does.
    pub admin: Option<NewAdmin>,
    /// The caller's key for safe retries.
    pub idempotency_key: Option<String>,
}

/// The person who will run the tenant. Where the address has a user already, that user is linked as it
/// is, password and names untouched.
#[derive(Debug, Clone)]
pub struct NewAdmin {
    /// Address, which is how they log in.
    pub email: Email,
    /// Password for a new user.
    pub password: Password,
    /// Given name of a new user.
    pub first_name: PersonName,
    /// Family name of a new user.
    pub last_name: PersonName,
}

/// What was made, or had been made under the same key before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// The tenant's id.
    pub id: TenantId,
    /// Its name at the time.
    pub name: TenantName,
    /// Its slug at the time.
    pub slug: Slug,
    /// Whether this is the stored answer to an earlier request.
    pub replayed: bool,
}

impl Provisioning {
    /// Makes tenants through `db`, whose pools belong to `runtime`.
    #[must_use]
    pub fn new(
        runtime: Handle,
        db: Db,
        hasher: Hasher,
        set: Arc<MigrationSet>,
        server_version: u32,
    ) -> Self {
        Self { runtime, db, hasher, set, server_version }
    }

    /// Makes a tenant, whole or not at all.
    ///
    /// # Errors
    /// [`Conflict::SlugTaken`]; [`Conflict::StillRunning`] and [`Conflict::KeyReused`] where an
    /// idempotency key came along.
    pub async fn provision(&self, ctx: &CallContext, wish: ProvisionTenant) -> Result<Provisioned> {
        ctx.require(Permission::CreateTenant)?;
        let (this, ctx) = (self.clone(), ctx.clone());
        let work = async move { this.run(&ctx, &wish).await };
        let task = self.runtime.spawn(work.in_current_span());
        let _end = EndWithCaller(task.abort_handle());
        task.await.map_err(|panicked| Error::internal("provision a tenant", panicked))?
    }

    async fn run(&self, ctx: &CallContext, wish: &ProvisionTenant) -> Result<Provisioned> {
        if let Some(answer) = self.answered_before(ctx, wish).await? {
            return Ok(answer);
        }
        let hash = match &wish.admin {
            Some(admin) => Some(self.hasher.hash(&admin.password).await?),
            None => None,
        };
        let mut attempt = 1;
        loop {
            match self.make(ctx, wish, hash.as_ref()).await {
                Err(Error::Conflict(Conflict::Concurrent)) if attempt < TRIES => attempt += 1,
                // The same request got there first, and its answer is ours.
                Ok(None) => {
                    let answer = self.answered_before(ctx, wish).await?;
                    return answer.ok_or(Error::Conflict(Conflict::StillRunning));
                }
                Ok(Some(made)) => return Ok(made),
                Err(error) => return Err(error),
            }
        }
    }

    /// The transaction. `None` where the idempotency key turns out to be answered.
    async fn make(
        &self,
        ctx: &CallContext,
        wish: &ProvisionTenant,
        hash: Option<&PasswordHash>,
    ) -> Result<Option<Provisioned>> {
        let tx = self.db.public().await.during("begin provisioning")?;
        let actor = ctx.principal.label();
        if let Some(key) = &wish.idempotency_key {
            if !idempotency::try_lock(&tx, &actor, key).await? {
                return Err(Error::Conflict(Conflict::StillRunning));
            }
            if idempotency::find(&tx, &actor, key, ctx.now).await?.is_some() {
                return Ok(None);
            }
        }
        let tenant = Tenant {
            id: TenantId::generate(),
            slug: wish.slug.clone(),
            name: wish.name.clone(),
            status: TenantStatus::Active,
            created_at: ctx.now,
        };
        tenants::insert(&tx, &tenant, &self.set).await?;
        self.make_schema(&tx, tenant.id).await?;
        if let Some(admin) = &wish.admin {
            let user = create_or_link(&tx, ctx, admin, hash).await?;
            memberships::insert(&tx, tenant.id, user, Role::Admin, ctx.now).await?;
        }
        let event = Event {
            at: ctx.now,
            actor: &actor,
            action: "tenant.create",
            tenant: Some(tenant.id),
            request_id: &ctx.request_id,
            details: json!({ "slug": tenant.slug, "name": tenant.name }),
        };
        audit_events::insert(&tx, &event).await?;
        let made =
            Provisioned { id: tenant.id, name: tenant.name, slug: tenant.slug, replayed: false };
        if let Some(key) = &wish.idempotency_key {
            let record = idempotency::Record {
                principal: actor,
                key: key.clone(),
                request_digest: wish.digest(),
                secret_hash: hash.map(|hash| hash.as_str().to_owned()),
                outcome: made.to_json(),
            };
            idempotency::insert(&tx, &record, ctx.now, ctx.now + KEY_LIFETIME).await?;
        }
        tx.commit().await.during("commit provisioning")?;
        tracing::info!(tenant.id = %made.id, tenant.slug = %made.slug, principal = %ctx.principal.label(), "made a tenant");
        Ok(Some(made))
    }

    /// Makes the schema, its role and its tables.
    async fn make_schema(&self, tx: &PublicTx, tenant: TenantId) -> Result<()> {
        let schema = SchemaName::of(tenant);
        let rules = self.db.rules();
        schemas::create(tx, &schema, rules, self.server_version)
            .await
            .during("create tenant schema")?;
        schemas::migrate(tx, &schema, &self.set, rules)
            .await
            .map_err(|error| super::fleet::to_error("migrate new tenant schema", error))?;
        Ok(())
    }

    /// What was answered to the same key before, if anything was.
    async fn answered_before(
        &self,
        ctx: &CallContext,
        wish: &ProvisionTenant,
    ) -> Result<Option<Provisioned>> {
        let Some(key) = &wish.idempotency_key else { return Ok(None) };
        let tx = self.db.public().await.during("look for an earlier answer")?;
        let found = idempotency::find(&tx, &ctx.principal.label(), key, ctx.now).await?;
        drop(tx); // a read needs no commit, and the hash below no connection
        let Some(record) = found else { return Ok(None) };
        let same_secret = match (&wish.admin, record.secret_hash) {
            (Some(admin), Some(hash)) => {
                self.hasher.verify(&admin.password, Some(&PasswordHash::stored(hash))).await?
            }
            (None, None) => true,
            _ => false,
        };
        if record.request_digest != wish.digest() || !same_secret {
            return Err(Error::Conflict(Conflict::KeyReused));
        }
        Provisioned::from_json(&record.outcome).map(Some)
    }
}

/// Ends the work with the call that waits for it. A caller who was told that it took too long may try
/// again with the same slug, so that nothing may be made behind their back.
struct EndWithCaller(AbortHandle);

impl Drop for EndWithCaller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Creates the admin, or finds the user that has the address.
async fn create_or_link(
    tx: &PublicTx,
    ctx: &CallContext,
    admin: &NewAdmin,
    hash: Option<&PasswordHash>,
) -> Result<UserId> {
    let user = User {
        id: UserId::generate(),
        email: admin.email.clone(),
        first_name: admin.first_name.clone(),
        last_name: admin.last_name.clone(),
        platform_role: None,
    };
    if users::insert_if_absent(tx, &user, hash.map(PasswordHash::as_str), ctx.now).await? {
        return Ok(user.id);
    }
    users::find_id_by_email(tx, &admin.email)
        .await?
        // Removed between the two statements: whoever asked may ask again.
        .ok_or(Error::Conflict(Conflict::Concurrent))
}

impl ProvisionTenant {
    /// A digest of all that was asked, except the password: a fast digest of that must not be kept.
    fn digest(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        };
        add(self.name.as_str());
        add(self.slug.as_str());
        if let Some(admin) = &self.admin {
            add(admin.email.as_str());
            add(admin.first_name.as_str());
            add(admin.last_name.as_str());
        }
        hash.finalize().to_vec()
    }
}

impl Provisioned {
    fn to_json(&self) -> Value {
        json!({ "id": self.id, "name": self.name, "slug": self.slug })
    }

    fn from_json(value: &Value) -> Result<Self> {
        let text = |key: &str| {
            value.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| {
                Error::internal("read an earlier answer", format!("the stored answer has no {key}"))
            })
        };
        let id = text("id")?
            .parse()
            .map_err(|error| Error::internal("read an earlier answer", error))?;
        Ok(Self {
            id: TenantId::new(id),
            name: TenantName::stored(text("name")?),
            slug: Slug::stored(text("slug")?),
            replayed: true,
        })
    }
}
