//! Makes tenants: row, admin, schema, role, tables, membership, audit event and idempotency record, all in one
//! transaction. There is no state in between to clean up: if the process is killed at any point, the database holds
//! a whole tenant or none.
//!
//! The schema is a vacancy ([`super::vacancies`]) if one fits. Then one statement does everything, in one round
//! trip, and set-ups that wait at the same moment share it ([`group_commit`]). Otherwise the schema is built in the same transaction.
//!
//! A set-up ends with its caller: one whose caller has gone before the commit was sent makes no tenant.
//!
//! [`adopt`] makes tenants of schemas that another tool made.
//!
//! The password is hashed before a connection is taken, because hashing takes longer than everything else.

pub mod adopt;
mod command;
mod group_commit;
mod hooks;
mod main_tenant;
mod new_schema;
mod prepared;
mod replay;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::join;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::Instrument;

use self::group_commit::GroupCommit;
use self::new_schema::told_to;
use super::accounts::Unproven;
use super::tenants::slugs::{SlugRules, why_taken};
use super::vacancies::Vacancies;
use crate::auth::CallContext;
use crate::auth::password::{Hasher, PasswordHash};
use crate::domain::Permission;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::pg::control::{idempotency, memberships, tenant_setup, users};
use crate::pg::schema::placement;
use crate::pg::scope::Commits;
use crate::pg::{Db, During};
pub use crate::service::provisioning::command::{Admin, Extras, NewAdmin, ProvisionTenant};
pub use crate::service::provisioning::hooks::{Hook, RunHook};
use crate::service::provisioning::prepared::PreparedSetup;
pub use crate::service::provisioning::replay::Provisioned;
use crate::service::tokens::Lifetimes;
use crate::telemetry::note_tenant;

/// How often a transaction that lost a race against another is tried.
const TRIES: u32 = 3;

/// How many nodes a set-up passes over that are away.
const NODES_AWAY_AT_MOST: u32 = 64;

/// How long after its begin a set-up is tried again that did not get a lock in time: the caller waits for all of it.
const LOCKS_AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// Makes tenants. Runs on the main runtime with pools of its own, so that a burst of set-ups does not delay the
/// workers' own queries.
#[derive(Clone)]
pub struct Provisioning {
    runtime: Handle,
    db: Db,
    hasher: Hasher,
    set: Arc<MigrationSet>,
    server_version: u32,
    vacancies: Vacancies,
    lifetimes: Lifetimes,
    slugs: SlugRules,
    group_commit: GroupCommit,
    /// What the application does in each new tenant.
    hooks: Arc<[Hook]>,
}

impl Provisioning {
    /// Makes tenants through `db`, whose pools belong to `runtime`, and takes `vacancies` while there are any.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, given once")]
    pub fn new(
        runtime: Handle,
        db: Db,
        hasher: Hasher,
        set: Arc<MigrationSet>,
        server_version: u32,
        vacancies: Vacancies,
        lifetimes: Lifetimes,
        slugs: SlugRules,
        hooks: Vec<Hook>,
    ) -> Self {
        let pattern = vacancies.pattern().clone();
        let group_commit = GroupCommit::start(&runtime, db.clone(), pattern);
        let hooks = hooks.into();
        Self {
            runtime,
            db,
            hasher,
            set,
            server_version,
            vacancies,
            lifetimes,
            slugs,
            group_commit,
            hooks,
        }
    }

    /// Makes a tenant, whole or not at all.
    ///
    /// # Errors
    /// [`Conflict::SlugTaken`], [`Conflict::SlugResting`]; [`Rule::Reserved`](crate::domain::Rule::Reserved) for the
    /// slug; [`Conflict::AdminUnproven`] if the admin's account may not be linked; [`Conflict::StillRunning`] and
    /// [`Conflict::KeyReused`] if the command has an idempotency key.
    pub async fn provision(
        &self,
        ctx: &CallContext,
        command: ProvisionTenant,
    ) -> Result<Provisioned> {
        ctx.require(Permission::CreateTenant)?;
        self.provision_with(ctx, command, Extras::default()).await
    }

    /// Makes a tenant with the fields that only the control plane sets.
    ///
    /// # Errors
    /// As [`Provisioning::provision`]; [`Conflict::ExternalIdTaken`].
    pub async fn provision_with(
        &self,
        ctx: &CallContext,
        command: ProvisionTenant,
        extras: Extras,
    ) -> Result<Provisioned> {
        ctx.require(Permission::CreateTenant)?;
        let (this, ctx) = (self.clone(), ctx.clone());
        let commits = Commits::of_present_work();
        let work = async move { commits.watch(Box::pin(this.run(&ctx, &command, &extras))).await };
        let task = self.runtime.spawn(work.in_current_span());
        let _abort = AbortWithCaller(task.abort_handle());
        let made =
            task.await.map_err(|panicked| Error::internal("provision a tenant", panicked))??;
        note_tenant(made.id);
        Ok(made)
    }

    async fn run(
        &self,
        ctx: &CallContext,
        command: &ProvisionTenant,
        extras: &Extras,
    ) -> Result<Provisioned> {
        if let Some(answer) = self.find_replay(ctx, command, extras).await? {
            return Ok(answer);
        }
        self.slugs.require_not_reserved(&command.slug)?;
        let end = extras
            .end
            .map(|end| end.resolve(ctx.now).map_err(|rule| Error::invalid(end.field(), rule)));
        let expires_at = end.transpose()?;
        let hash = match command.admin.password() {
            Some(password) => Some(self.hasher.for_client(ctx.client).hash(password).await?),
            None => None,
        };
        let began_at = Instant::now();
        let is_lost = |error: &Error| {
            error.is_lost_race()
                || (error.is_lock_timeout() && began_at.elapsed() < LOCKS_AGAIN_WITHIN)
        };
        let mut unproven = None;
        let mut attempt = 1;
        loop {
            let prepared = PreparedSetup {
                ctx,
                actor: ctx.principal.label(),
                command,
                extras,
                expires_at,
                hash: hash.as_ref(),
                lifetimes: self.lifetimes,
                unproven: unproven.as_ref(),
            };
            match self.make(&prepared).await {
                Err(error) if is_lost(&error) && attempt < TRIES => unproven = None,
                Err(Error::Conflict(Conflict::AdminUnproven)) if attempt < TRIES => {
                    unproven = self.examine_admin(ctx, command).await?;
                }
                // The same request ran elsewhere and finished first; its answer is the answer here.
                Ok(None) => {
                    let answer = self.find_replay(ctx, command, extras).await?;
                    return answer.ok_or(Error::Conflict(Conflict::StillRunning));
                }
                Ok(Some(made)) => {
                    if prepared.needs_consent(made.admin) {
                        self.confirm_by_password(ctx, command, made.id).await;
                    }
                    return Ok(made);
                }
                Err(Error::Conflict(Conflict::SlugTaken)) => {
                    let tx = self.db.public().await.during("read a slug")?;
                    return Err(why_taken(&tx, &command.slug).await?);
                }
                Err(error) => return Err(told_to(ctx, error)),
            }
            attempt += 1;
        }
    }

    /// Decides how the admin's account, whose address is not proven, may be linked.
    ///
    /// # Errors
    /// [`Conflict::AdminUnproven`] if it may not.
    async fn examine_admin(
        &self,
        ctx: &CallContext,
        command: &ProvisionTenant,
    ) -> Result<Option<Unproven>> {
        let Some(email) = command.admin.email() else { return Ok(None) };
        let tries = command.tries_password || ctx.principal.vouches();
        let password = command.admin.password().filter(|_| tries);
        let tx = self.db.public().await.during("read user row")?;
        let account = users::find_account(&tx, email).await?;
        drop(tx); // the comparison needs no connection
        match account {
            Some(account) => Unproven::examine(ctx, &self.hasher, account, password).await,
            None => Ok(None),
        }
    }

    /// Records that an admin whose proven account was linked agrees to the membership, if the command has the
    /// account's own password. The caller does not learn whether it has, so this is no guess. A failure is logged: the
    /// tenant is made, and the admin can agree later.
    async fn confirm_by_password(
        &self,
        ctx: &CallContext,
        command: &ProvisionTenant,
        tenant: TenantId,
    ) {
        let confirmed = async {
            let (Some(email), Some(password)) = (command.admin.email(), command.admin.password())
            else {
                return Ok(());
            };
            let tx = self.db.public().await.during("read user row")?;
            let account = users::find_account(&tx, email).await?;
            drop(tx); // the comparison needs no connection
            let Some((id, hash)) =
                account.and_then(|found| found.password_hash.map(|h| (found.id, h)))
            else {
                return Ok(());
            };
            let hash = PasswordHash::stored(hash);
            if !self.hasher.for_client(ctx.client).verify(password, Some(&hash)).await? {
                return Ok(());
            }
            let tx = self.db.public().await.during("accept a membership")?;
            memberships::accept_by_password(&tx, tenant, id, hash.as_str(), ctx.now).await?;
            tx.commit().await.during("accept a membership")
        };
        if let Err(error) = confirmed.await {
            tracing::warn!(tenant.id = %tenant, error = %error.chain(), "could not record that an admin agrees");
        }
    }

    /// The stored answer to an earlier request with the same idempotency key.
    async fn find_replay(
        &self,
        ctx: &CallContext,
        command: &ProvisionTenant,
        extras: &Extras,
    ) -> Result<Option<Provisioned>> {
        let Some(key) = &command.idempotency_key else { return Ok(None) };
        let tx = self.db.public().await.during("look for an earlier answer")?;
        let found = idempotency::find(&tx, &ctx.principal.label(), key, ctx.now).await?;
        let Some(record) = found else { return Ok(None) };
        let replay = Provisioned::from_json(&record.outcome)?;
        let admin = tenant_setup::find_admin_origin(&tx, replay.id).await?;
        drop(tx); // a read needs no commit, and the hash below needs no connection
        let same_secret = match (command.admin.password(), record.secret_hash) {
            (Some(password), Some(hash)) => {
                let hasher = self.hasher.for_client(ctx.client);
                hasher.verify(password, Some(&PasswordHash::stored(hash))).await?
            }
            (None, None) => true,
            _ => false,
        };
        if record.request_digest != command.digest(extras) || !same_secret {
            return Err(Error::Conflict(Conflict::KeyReused));
        }
        Ok(Some(Provisioned { admin, ..replay }))
    }

    /// Makes the tenant with a vacancy, or builds its schema if no vacancy fits. Returns `None` if the idempotency
    /// key turns out to have an answer.
    async fn make(&self, prepared: &PreparedSetup<'_>) -> Result<Option<Provisioned>> {
        let new_tenants = self.vacancies.new_tenants();
        new_tenants.require_fit(prepared.ctx.now).await?;
        let mut outcome = SetupOutcome::NoVacancy;
        if self.vacancies.are_kept() {
            outcome = self.take_vacancy(prepared).await?;
        }
        for _ in 0..NODES_AWAY_AT_MOST {
            let SetupOutcome::NodeAway(vacancy) = outcome else { break };
            self.vacancies.set_node_aside(vacancy, prepared.ctx.now).await?;
            outcome = self.set_up(prepared, Schema::OfVacancy).await?;
        }
        let was_vacancy = !matches!(outcome, SetupOutcome::NoVacancy);
        if !was_vacancy && !self.builds_in_steps() {
            outcome = self.set_up(prepared, Schema::New).await?;
        }
        if matches!(outcome, SetupOutcome::NoVacancy) {
            outcome = self.set_up_in_steps(prepared).await?;
        }
        let made = match outcome {
            SetupOutcome::Made(made) => made,
            SetupOutcome::NodeAway(vacancy) => {
                let reason = format!("the node of the vacancy {vacancy} is away");
                return Err(Error::unavailable("take a vacancy", reason));
            }
            SetupOutcome::AlreadyAnswered | SetupOutcome::NoVacancy => return Ok(None),
        };
        self.vacancies.note_set_up(was_vacancy);
        tracing::info!(tenant.id = %made.id, tenant.slug = %made.slug, principal = %prepared.actor, "made a tenant");
        Ok(Some(made))
    }

    /// Whether a schema is built in transactions before that of the set-up: the set needs it, or hooks on a cluster, where a
    /// node lets no second role use what the transaction has made.
    fn builds_in_steps(&self) -> bool {
        let second_role = self.db.rules().engine.is_citus() && !self.hooks.is_empty();
        second_role || self.vacancies.new_tenants().in_steps()
    }

    /// Builds a schema in several transactions, as a vacancy, and takes it. Another set-up may take it first.
    async fn set_up_in_steps(&self, prepared: &PreparedSetup<'_>) -> Result<SetupOutcome> {
        for _ in 0..TRIES {
            self.vacancies.make_one(prepared.ctx.now).await?;
            match self.set_up(prepared, Schema::OfVacancy).await? {
                SetupOutcome::NoVacancy => {}
                outcome => return Ok(outcome),
            }
        }
        Err(Error::Conflict(Conflict::Concurrent))
    }

    /// Takes a vacancy, together with other set-ups where that is possible.
    async fn take_vacancy(&self, prepared: &PreparedSetup<'_>) -> Result<SetupOutcome> {
        let rested = self.slugs.rested(prepared.ctx.now);
        if self.hooks.is_empty()
            && !self.asks_node()
            && let Some(setup) = prepared.shared(rested)
            && let Some(assigned) = self.group_commit.make(setup).await?
        {
            return Ok(SetupOutcome::Made(Provisioned::new(prepared.command, assigned)));
        }
        self.set_up(prepared, Schema::OfVacancy).await
    }

    /// Whether a set-up asks the node of its vacancy before it commits: on a cluster that may be away while the coordinator
    /// is not.
    fn asks_node(&self) -> bool {
        self.db.rules().engine.is_citus()
    }

    /// Runs the transaction of a set-up: builds a schema, or takes a vacancy. With a vacancy it is
    /// one statement in one round trip, unless a token or an idempotency record needs what that statement returns.
    async fn set_up(&self, prepared: &PreparedSetup<'_>, schema: Schema) -> Result<SetupOutcome> {
        let tx = self.db.public().await.during("begin provisioning")?;
        let (pattern, rested) = (self.vacancies.pattern(), self.slugs.rested(prepared.ctx.now));
        if schema == Schema::OfVacancy
            && self.hooks.is_empty()
            && !self.asks_node()
            && prepared.is_one_statement()
        {
            let rows = prepared.rows(None, pattern, rested);
            let assigned = tenant_setup::insert_and_commit(tx, &rows).await?;
            let made = assigned.map(|assigned| Provisioned::new(prepared.command, assigned));
            return Ok(made.map_or(SetupOutcome::NoVacancy, SetupOutcome::Made));
        }
        if !prepared.claim_key(&tx, &self.db.rules().limits).await? {
            return Ok(SetupOutcome::AlreadyAnswered);
        }
        prepared.settle_account(&tx).await?;
        let new = match schema {
            Schema::OfVacancy => None,
            Schema::New => Some(self.begin_schema(&tx).await?),
        };
        let rows = prepared.rows(new.map(|(id, _)| id), pattern, rested);
        // Before the schema, so that a taken slug or a missing admin is refused without the cost of building one.
        let Some(assigned) = tenant_setup::insert(&tx, &rows).await? else {
            return Ok(SetupOutcome::NoVacancy);
        };
        if new.is_none() && self.asks_node() {
            let name = SchemaName::of(assigned.id);
            if !placement::answers(&tx, &name).await.during("ask the node of a vacancy")? {
                return Ok(SetupOutcome::NodeAway(assigned.id));
            }
        }
        if let Some((id, role)) = new
            && !self.make_schema(&tx, id, role, prepared.ctx.now).await?
        {
            return Ok(SetupOutcome::NoVacancy);
        }
        let tx = self.run_hooks(tx, prepared, assigned).await?;
        let made = Provisioned::new(prepared.command, assigned);
        let (token, recorded, committed) = join!(
            prepared.make_token(&tx, assigned.id),
            prepared.record_answer(&tx, &made),
            tx.commit_behind()
        );
        let token = token?;
        recorded?;
        committed.during("commit provisioning")?;
        Ok(SetupOutcome::Made(Provisioned { token, ..made }))
    }
}

/// Where the schema of a new tenant comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schema {
    /// It is that of a vacancy.
    OfVacancy,
    /// The set-up builds it.
    New,
}

/// How the transaction of a set-up ended.
enum SetupOutcome {
    Made(Provisioned),
    /// The idempotency key already has an answer.
    AlreadyAnswered,
    /// No vacancy fits, and nothing was done.
    NoVacancy,
    /// The node of this vacancy is away, and nothing was done.
    NodeAway(TenantId),
}

/// Aborts the work when the call that waits for it is dropped. A caller who was told that it took too long may try
/// again with the same slug, so nothing may be made after that.
struct AbortWithCaller(AbortHandle);

impl Drop for AbortWithCaller {
    fn drop(&mut self) {
        self.0.abort();
    }
}
