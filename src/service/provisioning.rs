//! Makes tenants: row, admin, schema, role, tables, membership, audit event, idempotency record, all in
//! one transaction. There is no state in between to clean up: killed at any point, the database holds a
//! whole tenant or none.
//!
//! The schema is a vacancy ([`super::vacancies`]) where there is one that fits: then all of it is plain DML
//! in two round trips. Where there is none it is built in the same transaction.
//!
//! The password is hashed before a connection is taken, since it costs more time than all the rest.

use std::sync::Arc;

use futures_util::join;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::Instrument;

use super::audit::note;
use super::vacancies::Vacancies;
use crate::auth::CallContext;
use crate::auth::password::{Hasher, PasswordHash};
use crate::auth::token::{Kind, OpaqueToken};
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{
    Email, ExternalId, Password, PersonName, SchemaName, Slug, TenantId, TenantName, TokenId,
    UserId,
};
use crate::domain::{Document, Permission, Role, Tenant, TenantStatus, User};
use crate::pg::migrations::MigrationSet;
use crate::pg::tokens::Token;
use crate::pg::{
    Db, During, PublicTx, idempotency, memberships, schemas, tenant_records, tenants, tokens, users,
};

/// How long an idempotency key is remembered.
const KEY_LIFETIME: Duration = Duration::hours(24);

/// Slug and name of the main tenant; a reserved word, so that nobody else can have it.
const MAIN: &str = "main";

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
    vacancies: Vacancies,
}

/// The wish for a tenant, the same from every dialect.
#[derive(Debug, Clone)]
pub struct ProvisionTenant {
    /// The name people read.
    pub name: TenantName,
    /// The unique url-friendly name.
    pub slug: Slug,
    /// Who will run it.
    pub admin: Admin,
    /// The organisation behind it, where the dialect asks for one.
    pub org: Option<String>,
    /// How to reach that organisation.
    pub contact: Option<Email>,
    /// Whether the answer carries a token that may do everything in the tenant.
    pub with_token: bool,
    /// The caller's key for safe retries.
    pub idempotency_key: Option<String>,
}

/// Who will run a tenant.
#[derive(Debug, Clone)]
pub enum Admin {
    /// No user; a credential of its own does.
    Nobody,
    /// The user who has this address already.
    Existing(Email),
    /// The user who has this address, or a new one.
    NewOrExisting(NewAdmin),
}

impl Admin {
    /// The password of whoever may be new.
    const fn password(&self) -> Option<&Password> {
        match self {
            Self::NewOrExisting(admin) => Some(&admin.password),
            Self::Nobody | Self::Existing(_) => None,
        }
    }
}

/// A person who will run a tenant. Where the address has a user already, that user is linked as it is,
/// password and names untouched.
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

/// What the control plane alone gives a new tenant.
#[derive(Debug, Clone)]
pub struct Extras {
    /// What its maker's own system calls it.
    pub external_id: Option<ExternalId>,
    /// Its first settings.
    pub settings: Document,
}

impl Default for Extras {
    fn default() -> Self {
        let settings = Document::stored(json!({}));
        Self { external_id: None, settings }
    }
}

/// What was made, or had been made under the same key before.
#[derive(Debug)]
pub struct Provisioned {
    /// The tenant's id.
    pub id: TenantId,
    /// The tenant's number.
    pub number: i64,
    /// The tenant's own token, to be shown once; a replayed answer has none.
    pub token: Option<OpaqueToken>,
    /// Its name at the time.
    pub name: TenantName,
    /// Its slug at the time.
    pub slug: Slug,
    /// Whether this is the stored answer to an earlier request.
    pub replayed: bool,
}

impl Provisioning {
    /// Makes tenants through `db`, whose pools belong to `runtime`, in `vacancies` while there are any.
    #[must_use]
    pub fn new(
        runtime: Handle,
        db: Db,
        hasher: Hasher,
        set: Arc<MigrationSet>,
        server_version: u32,
        vacancies: Vacancies,
    ) -> Self {
        Self { runtime, db, hasher, set, server_version, vacancies }
    }

    /// Makes a tenant, whole or not at all.
    ///
    /// # Errors
    /// [`Conflict::SlugTaken`]; [`Conflict::StillRunning`] and [`Conflict::KeyReused`] where an
    /// idempotency key came along.
    pub async fn provision(&self, ctx: &CallContext, wish: ProvisionTenant) -> Result<Provisioned> {
        ctx.require(Permission::CreateTenant)?;
        self.provision_with(ctx, wish, Extras::default()).await
    }

    /// Makes a tenant with what only the control plane gives it.
    ///
    /// # Errors
    /// As [`Provisioning::provision`]; [`Conflict::ExternalIdTaken`].
    pub async fn provision_with(
        &self,
        ctx: &CallContext,
        wish: ProvisionTenant,
        extras: Extras,
    ) -> Result<Provisioned> {
        ctx.require(Permission::CreateTenant)?;
        let (this, ctx) = (self.clone(), ctx.clone());
        let work = async move { this.run(&ctx, &wish, &extras).await };
        let task = self.runtime.spawn(work.in_current_span());
        let _end = EndWithCaller(task.abort_handle());
        task.await.map_err(|panicked| Error::internal("provision a tenant", panicked))?
    }

    async fn run(
        &self,
        ctx: &CallContext,
        wish: &ProvisionTenant,
        extras: &Extras,
    ) -> Result<Provisioned> {
        if let Some(answer) = self.answered_before(ctx, wish, extras).await? {
            return Ok(answer);
        }
        let hash = match wish.admin.password() {
            Some(password) => Some(self.hasher.hash(password).await?),
            None => None,
        };
        let hash = hash.as_ref();
        let order = Order { ctx, actor: ctx.principal.label(), wish, extras, hash };
        let mut attempt = 1;
        loop {
            match self.make(&order).await {
                Err(Error::Conflict(Conflict::Concurrent)) if attempt < TRIES => attempt += 1,
                // The same request got there first, and its answer is ours.
                Ok(None) => {
                    let answer = self.answered_before(ctx, wish, extras).await?;
                    return answer.ok_or(Error::Conflict(Conflict::StillRunning));
                }
                Ok(Some(made)) => return Ok(made),
                Err(error) => return Err(error),
            }
        }
    }

    /// The transaction. `None` where the idempotency key turns out to be answered. Statements that are
    /// joined share a round trip; the server takes them in the order in which they stand.
    async fn make(&self, order: &Order<'_>) -> Result<Option<Provisioned>> {
        let tx = self.db.public().await.during("begin provisioning")?;
        let Order { ctx, wish, hash, .. } = order;
        if let Some(key) = &wish.idempotency_key {
            let (free, answered) = join!(
                idempotency::try_lock(&tx, &order.actor, key),
                idempotency::find(&tx, &order.actor, key, ctx.now)
            );
            if !free? {
                return Err(Error::Conflict(Conflict::StillRunning));
            }
            if answered?.is_some() {
                return Ok(None);
            }
        }
        // An owner who is not there must cost nothing, so they are asked for before a schema is made.
        let (vacancy, number, owner) = join!(
            self.vacancies.claim(&tx),
            tenants::next_number(&tx),
            find_or_create(&tx, ctx, &wish.admin, *hash)
        );
        let (vacancy, number, owner) = (vacancy?, number?, owner?);
        let tenant = Tenant {
            id: vacancy.unwrap_or_else(TenantId::generate),
            number,
            slug: wish.slug.clone(),
            name: wish.name.clone(),
            org: wish.org.clone(),
            status: TenantStatus::Active,
            created_at: ctx.now,
        };
        if vacancy.is_none() {
            // Before the schema, again: a slug that is taken must cost nothing.
            tenants::insert(&tx, &tenant, wish.contact.as_ref(), &self.set).await?;
            self.make_schema(&tx, tenant.id).await?;
        }
        // Seven statements at once are too much for the stack of every caller.
        let made = Box::pin(self.finish(&tx, order, tenant, owner, vacancy.is_none())).await?;
        drop(tx); // committed: the connection is free again before anything is told
        self.vacancies.note_set_up(vacancy.is_some());
        tracing::info!(tenant.id = %made.id, tenant.slug = %made.slug, principal = %order.actor, "made a tenant");
        Ok(Some(made))
    }

    /// Writes what is left to write of a tenant that has its house, and commits, all in one round trip.
    async fn finish(
        &self,
        tx: &PublicTx,
        order: &Order<'_>,
        tenant: Tenant,
        owner: Option<UserId>,
        has_row: bool,
    ) -> Result<Provisioned> {
        let Order { ctx, wish, extras, .. } = order;
        let made = Provisioned::of(&tenant);
        let inserting = async {
            if has_row {
                return Ok(());
            }
            tenants::insert(tx, &tenant, wish.contact.as_ref(), &self.set).await
        };
        let linking = async {
            let Some(user) = owner else { return Ok(()) };
            memberships::insert(tx, tenant.id, user, Role::Admin, ctx.now).await
        };
        let giving_token = async {
            if wish.with_token { make_token(tx, ctx, tenant.id).await.map(Some) } else { Ok(None) }
        };
        let (inserted, linked, given, noted, token, kept, committed) = join!(
            inserting,
            linking,
            extras.give(tx, tenant.id),
            order.note(tx, &tenant),
            giving_token,
            order.keep_answer(tx, &made),
            tx.commit_behind()
        );
        // The first that failed is the cause; behind it everything fails.
        inserted.and(linked).and(given).and(noted)?;
        let token = token?;
        kept?;
        committed.during("commit provisioning")?;
        Ok(Provisioned { token, ..made })
    }

    /// The main tenant, where Databunker's clients work when they name none. It is made when it is first
    /// needed, so that a house that never speaks that dialect has none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn main_tenant(&self, ctx: &CallContext) -> Result<Tenant> {
        ctx.require_authenticated()?;
        let (this, now) = (self.clone(), ctx.now);
        self.runtime
            .spawn(async move { this.find_or_make_main(now).await })
            .await
            .map_err(|panicked| Error::internal("make the main tenant", panicked))?
    }

    async fn find_or_make_main(&self, now: OffsetDateTime) -> Result<Tenant> {
        let mut attempt = 1;
        loop {
            if let Some(tenant) = self.find_main().await? {
                return Ok(tenant);
            }
            match self.make_main(now).await {
                // Another request was first, or is at it.
                Err(Error::Conflict(Conflict::SlugTaken | Conflict::Concurrent))
                    if attempt < TRIES =>
                {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn make_main(&self, now: OffsetDateTime) -> Result<Tenant> {
        let tenant = Tenant {
            id: TenantId::generate(),
            number: tenants::MAIN_NUMBER,
            slug: Slug::stored(MAIN.to_owned()),
            name: TenantName::stored(MAIN.to_owned()),
            org: None,
            status: TenantStatus::Active,
            created_at: now,
        };
        let tx = self.db.public().await.during("make the main tenant")?;
        tenants::insert(&tx, &tenant, None, &self.set).await?;
        self.make_schema(&tx, tenant.id).await?;
        tx.commit().await.during("make the main tenant")?;
        Ok(tenant)
    }

    async fn find_main(&self) -> Result<Option<Tenant>> {
        let tx = self.db.public().await.during("read the main tenant")?;
        tenants::find_by_number(&tx, tenants::MAIN_NUMBER).await
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
        extras: &Extras,
    ) -> Result<Option<Provisioned>> {
        let Some(key) = &wish.idempotency_key else { return Ok(None) };
        let tx = self.db.public().await.during("look for an earlier answer")?;
        let found = idempotency::find(&tx, &ctx.principal.label(), key, ctx.now).await?;
        drop(tx); // a read needs no commit, and the hash below no connection
        let Some(record) = found else { return Ok(None) };
        let same_secret = match (wish.admin.password(), record.secret_hash) {
            (Some(password), Some(hash)) => {
                self.hasher.verify(password, Some(&PasswordHash::stored(hash))).await?
            }
            (None, None) => true,
            _ => false,
        };
        if record.request_digest != wish.digest(extras) || !same_secret {
            return Err(Error::Conflict(Conflict::KeyReused));
        }
        Provisioned::from_json(&record.outcome).map(Some)
    }
}

/// What a set-up goes by.
struct Order<'a> {
    ctx: &'a CallContext,
    /// Who asks, as the audit trail and the idempotency keys say it.
    actor: String,
    wish: &'a ProvisionTenant,
    extras: &'a Extras,
    /// The password of whoever may be new.
    hash: Option<&'a PasswordHash>,
}

impl Order<'_> {
    async fn note(&self, tx: &PublicTx, tenant: &Tenant) -> Result<()> {
        let details = json!({ "slug": tenant.slug, "name": tenant.name });
        note(tx, self.ctx, "tenant.create", tenant.id, details).await
    }

    /// Writes the answer down, where a key says that it may be asked for again.
    async fn keep_answer(&self, tx: &PublicTx, made: &Provisioned) -> Result<()> {
        let Some(key) = &self.wish.idempotency_key else { return Ok(()) };
        let now = self.ctx.now;
        let record = idempotency::Record {
            principal: self.actor.clone(),
            key: key.clone(),
            request_digest: self.wish.digest(self.extras),
            secret_hash: self.hash.map(|hash| hash.as_str().to_owned()),
            outcome: made.to_json(),
        };
        idempotency::insert(tx, &record, now, now + KEY_LIFETIME).await
    }
}

/// Makes the token that may do everything in the tenant and nothing outside of it. It never expires.
async fn make_token(tx: &PublicTx, ctx: &CallContext, tenant: TenantId) -> Result<OpaqueToken> {
    let secret = OpaqueToken::generate(Kind::Uuid);
    let token = Token {
        id: TokenId::generate(),
        hint: secret.hint(),
        name: "the tenant's own".to_owned(),
        permissions: Permission::ALL.to_vec(),
        tenant: Some(tenant),
        profile: None,
        // It is the tenant's, and stays when whoever set it up leaves.
        user: None,
        created_by: ctx.principal.label(),
        created_at: ctx.now,
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
    };
    tokens::insert(tx, &token, secret.digest().as_bytes()).await?;
    Ok(secret)
}

/// The user who will run the tenant, if a user will.
async fn find_or_create(
    tx: &PublicTx,
    ctx: &CallContext,
    admin: &Admin,
    hash: Option<&PasswordHash>,
) -> Result<Option<UserId>> {
    match admin {
        Admin::Nobody => Ok(None),
        Admin::Existing(email) => {
            let found = users::find_id_by_email(tx, email).await?;
            found.map(Some).ok_or(Error::NotFound(Noun::User))
        }
        Admin::NewOrExisting(admin) => create_or_link(tx, ctx, admin, hash).await.map(Some),
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
    let (is_new, found) = join!(
        users::insert_if_absent(tx, &user, hash.map(PasswordHash::as_str), ctx.now),
        users::find_id_by_email(tx, &admin.email)
    );
    if is_new? {
        return Ok(user.id);
    }
    found?
        // Removed between the two statements: whoever asked may ask again.
        .ok_or(Error::Conflict(Conflict::Concurrent))
}

impl Extras {
    fn is_empty(&self) -> bool {
        let no_settings =
            self.settings.as_value().as_object().is_none_or(serde_json::Map::is_empty);
        self.external_id.is_none() && no_settings
    }

    /// Writes them beside a tenant that was made in this transaction.
    async fn give(&self, tx: &PublicTx, tenant: TenantId) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        tenant_records::complete(tx, tenant, self.external_id.as_ref(), &self.settings).await
    }
}

impl ProvisionTenant {
    /// The least that makes a tenant; what else a dialect asks for is set on it.
    #[must_use]
    pub const fn new(name: TenantName, slug: Slug, admin: Admin) -> Self {
        Self {
            name,
            slug,
            admin,
            org: None,
            contact: None,
            with_token: false,
            idempotency_key: None,
        }
    }

    /// A digest of all that was asked, except the password: a fast digest of that must not be kept.
    fn digest(&self, extras: &Extras) -> Vec<u8> {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        };
        add(self.name.as_str());
        add(self.slug.as_str());
        match &self.admin {
            Admin::Nobody => {}
            Admin::Existing(email) => add(email.as_str()),
            Admin::NewOrExisting(admin) => {
                add(admin.email.as_str());
                add(admin.first_name.as_str());
                add(admin.last_name.as_str());
            }
        }
        if !extras.is_empty() {
            add(extras.external_id.as_ref().map_or("", ExternalId::as_str));
            add(&extras.settings.as_value().to_string());
        }
        hash.finalize().to_vec()
    }
}

impl Provisioned {
    fn of(tenant: &Tenant) -> Self {
        Self {
            id: tenant.id,
            number: tenant.number,
            token: None,
            name: tenant.name.clone(),
            slug: tenant.slug.clone(),
            replayed: false,
        }
    }

    fn to_json(&self) -> Value {
        json!({ "id": self.id, "number": self.number, "name": self.name, "slug": self.slug })
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
            number: value.get("number").and_then(Value::as_i64).unwrap_or_default(),
            token: None,
            name: TenantName::stored(text("name")?),
            slug: Slug::stored(text("slug")?),
            replayed: true,
        })
    }
}
