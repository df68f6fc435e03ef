//! Adopts schemas that another tool made: each becomes a tenant, in one transaction.
//!
//! A first transaction renames the schema, reads what is in it and is rolled back; the version of the set that it equals
//! is then sought, newest first, with the reference schemas of the doctor. The second transaction does the same again and
//! more (the tenant's rows, the role, owners and rights, the history), checks that the outcome is what that version makes,
//! and commits; a dry run rolls it back. Owners and rights are not compared before: adoption sets them.

mod fit;

use std::collections::HashMap;

use self::fit::{Contents, References, compare_rights, kept_labels, structure};
use super::prepared::FIRST_REVISION;
use super::{Admin, Extras, PreparedSetup, ProvisionTenant, Provisioned, Provisioning, TRIES};
use crate::auth::CallContext;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::domain::{AuditAction, Permission};
use crate::migrations::MigrationSet;
use crate::pg::catalog::{self, Object};
use crate::pg::control::tenant_setup;
use crate::pg::control::vacancies::Pattern;
use crate::pg::schema::adopt::{self, Candidate};
use crate::pg::schema::reference::Reference;
use crate::pg::schema::repair;
use crate::pg::{During, Failure, PublicTx};
use crate::service::accounts::Unproven;
use crate::service::audit::{event, of_tenant};

const DURING: &str = "adopt a schema";

/// How often rights are compared and set: those of an object with another owner can be set only once it has the right one.
const ROUNDS: usize = 3;

/// The schemas that are never adopted, beside those that begin with `pg_` and those of tenants.
const RESERVED: [&str; 3] = ["public", "extensions", "information_schema"];

/// The command to make a tenant of a schema.
#[derive(Debug, Clone)]
pub struct AdoptSchema {
    /// The schema, as the catalog names it.
    pub schema: String,
    /// The tenant and its admin.
    pub tenant: ProvisionTenant,
    /// The version of the migrations that the schema equals; without it, the newest that it equals.
    pub stamp: Option<i32>,
    /// Whether objects that the migrations do not make stay, instead of being a reason to refuse.
    pub keep_extra: bool,
    /// Whether everything is rolled back at the end.
    pub dry_run: bool,
}

/// A schema that became a tenant, or would.
#[derive(Debug)]
pub struct Adopted {
    /// The tenant.
    pub tenant: Provisioned,
    /// The version of its migrations.
    pub version: i32,
    /// The files that are still to be applied.
    pub pending: Vec<String>,
    /// Whether it had a history of these migrations, which was kept.
    pub had_history: bool,
    /// The objects that no migration makes, and which stay.
    pub kept: Vec<String>,
    /// Texts that still name the schema by its old name.
    pub warnings: Vec<String>,
}

/// Why a schema is not adopted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NotAdopted {
    /// The schema is not what is asked for; the sentences say why.
    #[error("{}", .0.join("\n  "))]
    Refused(Vec<String>),
    /// A rule of set-ups, or the database.
    #[error("{}", .0.chain())]
    Failed(#[from] Error),
}

/// What receives the outcome of each schema.
pub type OnEach<'a> = &'a mut (dyn FnMut(&AdoptSchema, Result<Adopted, NotAdopted>) + Send);

impl Provisioning {
    /// Makes a tenant of each schema, each in a transaction of its own, and reports each outcome. Runs on the caller's
    /// runtime, which must be that of the pools.
    ///
    /// # Errors
    /// Those of the rights check. If the database cannot be reached, what was adopted stays adopted.
    pub async fn adopt(
        &self,
        ctx: &CallContext,
        commands: &[AdoptSchema],
        on_each: OnEach<'_>,
    ) -> Result<()> {
        ctx.require(Permission::CreateTenant)?;
        ctx.require(Permission::MigrateFleet)?;
        let mut references = HashMap::new();
        for command in commands {
            match self.adopt_one(ctx, command, &mut references).await {
                Err(NotAdopted::Failed(away)) if away.is_away() => return Err(away),
                outcome => on_each(command, outcome),
            }
        }
        Ok(())
    }

    async fn adopt_one(
        &self,
        ctx: &CallContext,
        command: &AdoptSchema,
        references: &mut References,
    ) -> Result<Adopted, NotAdopted> {
        refuse_name(&command.schema)?;
        self.slugs.require_not_reserved(&command.tenant.slug)?;
        let (contents, warnings) = self.read_contents(command).await?;
        let version = self.fitting_version(command, &contents, references, ctx.now).await?;
        let missing = || Error::internal(DURING, "the version is gone");
        let set = self.set.up_to(version).ok_or_else(missing)?;
        let reference = references.get(&version).and_then(|made| made.as_ref().ok());
        let reference = reference.ok_or_else(missing)?;
        let plan =
            Plan { set, reference, kept: kept_labels(&contents.objects, reference), warnings };
        let hash = match command.tenant.admin.password() {
            Some(password) => Some(self.hasher.for_client(ctx.client).hash(password).await?),
            None => None,
        };
        let mut unproven: Option<Unproven> = None;
        for attempt in 1.. {
            let prepared = PreparedSetup {
                expires_at: None,
                ctx,
                actor: ctx.principal.label(),
                command: &command.tenant,
                extras: &Extras::default(),
                hash: hash.as_ref(),
                lifetimes: self.lifetimes,
                unproven: unproven.as_ref(),
            };
            match self.carry_out(command, &prepared, &plan).await {
                Err(NotAdopted::Failed(error)) if error.is_lost_race() && attempt < TRIES => {
                    unproven = None;
                }
                Err(NotAdopted::Failed(Error::Conflict(Conflict::AdminUnproven)))
                    if attempt < TRIES =>
                {
                    unproven = self.examine_admin(ctx, &command.tenant).await?;
                }
                outcome => return outcome,
            }
        }
        Err(Error::Conflict(Conflict::Concurrent).into())
    }

    /// Reads what is in the schema as if it were a tenant's, and which texts name it. Changes nothing.
    async fn read_contents(
        &self,
        command: &AdoptSchema,
    ) -> Result<(Contents, Vec<String>), NotAdopted> {
        let tx = self.db.public().await.during(DURING)?;
        let found = adopt::inspect(&tx, &command.schema).await.during(DURING)?;
        refuse_candidate(command, &found)?;
        let schema = SchemaName::of(TenantId::generate());
        let contents = self.take(&tx, command, &schema).await?;
        Ok((contents, found.texts))
    }

    /// Takes the schema, and reads its objects and its history.
    async fn take(
        &self,
        tx: &PublicTx,
        command: &AdoptSchema,
        schema: &SchemaName,
    ) -> Result<Contents, NotAdopted> {
        let rules = self.db.rules();
        let has_history = adopt::take(tx, &command.schema, schema, rules, self.server_version);
        let has_history = has_history.await.during(DURING)?;
        let objects = self.objects(tx, schema).await?;
        let history = if has_history {
            adopt::history(tx, schema).await.map_err(unreadable)?
        } else {
            String::new()
        };
        Ok(Contents { objects, history })
    }

    async fn objects(&self, tx: &PublicTx, schema: &SchemaName) -> Result<Vec<Object>> {
        catalog::set_catalog_wide_limits(tx).await.during(DURING)?;
        let this = std::slice::from_ref(schema);
        let found = catalog::objects(tx, this, self.db.rules().isolation).await.during(DURING)?;
        Ok(found.into_values().next().unwrap_or_default())
    }

    /// Runs the transaction that makes the tenant.
    async fn carry_out(
        &self,
        command: &AdoptSchema,
        prepared: &PreparedSetup<'_>,
        plan: &Plan<'_>,
    ) -> Result<Adopted, NotAdopted> {
        let (ctx, set) = (prepared.ctx, &plan.set);
        let tx = self.db.public().await.during(DURING)?;
        refuse_candidate(command, &adopt::inspect(&tx, &command.schema).await.during(DURING)?)?;
        let id = TenantId::generate();
        let schema = SchemaName::of(id);
        let pattern = Pattern::of(set, self.db.rules().isolation);
        prepared.settle_account(&tx).await?;
        let mut rows = prepared.rows(Some(id), &pattern, self.slugs.rested(ctx.now));
        let details = plan.details(command);
        let (slug, external_id) = (&command.tenant.slug, prepared.extras.external_id.as_ref());
        let details = of_tenant(slug, external_id, FIRST_REVISION, details);
        rows.event = event(ctx, &prepared.actor, AuditAction::TenantAdopt, None, details);
        let assigned = tenant_setup::insert(&tx, &rows).await?;
        let assigned = assigned.ok_or_else(|| Error::internal(DURING, "no tenant was inserted"))?;
        let contents = self.take(&tx, command, &schema).await?;
        if contents.history.is_empty() {
            adopt::stamp(&tx, &schema, set, ctx.now).await.during(DURING)?;
        }
        self.set_rights(&tx, &schema, plan).await?;
        let tenant = Provisioned::new(&command.tenant, assigned);
        if !command.dry_run {
            tx.commit().await.during(DURING)?;
            tracing::info!(tenant.id = %id, tenant.slug = %tenant.slug, schema = command.schema, "adopted a schema");
        }
        Ok(Adopted {
            tenant,
            version: set.version(),
            pending: self.set.names_after(set.fingerprint()),
            had_history: !contents.history.is_empty(),
            kept: plan.kept.clone(),
            warnings: plan.warnings.clone(),
        })
    }

    /// Gives the schema the owners and rights of the reference, and checks that nothing is left to tell it from that.
    async fn set_rights(
        &self,
        tx: &PublicTx,
        schema: &SchemaName,
        plan: &Plan<'_>,
    ) -> Result<(), NotAdopted> {
        for round in 0..=ROUNDS {
            let objects = self.objects(tx, schema).await?;
            let changed = structure(&objects, plan.reference);
            if !changed.is_empty() {
                let what = "another session changed the schema meanwhile; adopt it again";
                return Err(NotAdopted::Refused(
                    [what.to_owned()].into_iter().chain(changed).collect(),
                ));
            }
            let (repairs, left) = compare_rights(&objects, plan.reference);
            if left.is_empty() {
                return Ok(());
            }
            if repairs.is_empty() || round == ROUNDS {
                let what = "the rights on the schema cannot be set as for other tenants:";
                return Err(NotAdopted::Refused(
                    [what.to_owned()].into_iter().chain(left).collect(),
                ));
            }
            let repairs = [(schema.clone(), repairs)];
            let rules = self.db.rules();
            repair::apply(tx, &repairs, rules, self.server_version).await.during(DURING)?;
        }
        Ok(())
    }
}

/// What an adoption will do.
struct Plan<'a> {
    /// The migrations that the schema has.
    set: MigrationSet,
    reference: &'a Reference,
    kept: Vec<String>,
    warnings: Vec<String>,
}

impl Plan<'_> {
    /// The details of the audit event.
    fn details(&self, command: &AdoptSchema) -> serde_json::Value {
        serde_json::json!({
            "name": command.tenant.name,
            "schema": command.schema,
            "version": self.set.version(),
            "kept": self.kept,
        })
    }
}

/// Tells a history that cannot be read from a database that is away.
fn unreadable(failure: Failure) -> NotAdopted {
    if failure.is_unavailable() || failure.is_retryable() {
        return failure.during(DURING).into();
    }
    let what = format!("its refinery_schema_history cannot be read: {}", failure.server_message());
    NotAdopted::Refused(vec![what])
}

/// Refuses a name that cannot be that of another tool's schema.
fn refuse_name(schema: &str) -> Result<(), NotAdopted> {
    let is_tenant_name = schema
        .strip_prefix("tenant_")
        .is_some_and(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    let reason = if RESERVED.contains(&schema) || schema.starts_with("pg_") {
        format!("{schema} belongs to the server or to Rowhouse itself")
    } else if is_tenant_name {
        format!("{schema} has the name of a tenant's schema")
    } else {
        return Ok(());
    };
    Err(NotAdopted::Refused(vec![reason]))
}

/// Refuses a schema that is not there, or that cannot be adopted without harm to others.
fn refuse_candidate(command: &AdoptSchema, found: &Candidate) -> Result<(), NotAdopted> {
    let schema = &command.schema;
    let mut reasons = Vec::new();
    if !found.exists {
        reasons.push(match &found.adopted_as {
            Some(slug) => format!("{schema} was adopted already, as tenant {slug}"),
            None => format!("there is no schema {schema}"),
        });
    }
    for owner in &found.foreign_owners {
        reasons.push(format!(
            "{owner} owns a part of it, and this login cannot act for {owner}; as a superuser: GRANT {owner} TO <this login>"
        ));
    }
    for object in &found.dependents {
        reasons.push(match object.strip_prefix("extension ") {
            Some(name) => {
                format!("extension {name} is in it: ALTER EXTENSION {name} SET SCHEMA extensions")
            }
            None => format!("{object}, outside of it, depends on it"),
        });
    }
    if reasons.is_empty() { Ok(()) } else { Err(NotAdopted::Refused(reasons)) }
}

impl AdoptSchema {
    /// Returns the command without an admin, for a schema that becomes a tenant under the given names.
    #[must_use]
    pub const fn new(schema: String, tenant: ProvisionTenant) -> Self {
        Self { schema, tenant, stamp: None, keep_extra: false, dry_run: false }
    }

    /// Whether the tenant gets an admin.
    #[must_use]
    pub const fn has_admin(&self) -> bool {
        !matches!(self.tenant.admin, Admin::None)
    }
}
