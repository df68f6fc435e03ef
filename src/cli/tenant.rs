//! `tenant`: create, list, show; and how every verb names a tenant. The verbs that change a tenant are in
//! [`super::lifecycle`], those that converge in [`super::ensure`] and [`super::import`].

use clap::Args;
use time::OffsetDateTime;

use super::admin::NamedAdmin;
use super::control::{Named, RecordView, Target, TenantFilter, Uses, on_control};
use super::end::EndFlags;
use super::failure::Arguments;
use super::moment::point_in_time;
use super::{Exit, Failure, Output, output};
use crate::domain::names::{ExternalId, IDEMPOTENCY_KEY_MAX, Slug, TenantId, TenantName};
use crate::domain::rule::Rule;
use crate::domain::{AccountOrigin, TenantStatus};
use crate::service::provisioning::ProvisionTenant;
use crate::service::tenants::TenantRef;

const PASSWORD_HELP: &str = "\
The admin's password is never an argument, because every user of the machine can read command lines, and shells \
record them. It is read from stdin (--admin-password-stdin), else from ROWHOUSE_TENANT_ADMIN_PASSWORD or the file \
that ROWHOUSE_TENANT_ADMIN_PASSWORD_FILE names, else from a prompt if there is a terminal. If a user with the e-mail \
address exists, that user becomes the admin and keeps the password; a user whose address is not proven gets this \
password instead, and their sessions and tokens end.";

/// The tenant to create.
#[derive(Debug, Args)]
#[command(after_help = PASSWORD_HELP)]
pub(super) struct Create {
    /// The display name
    #[arg(long)]
    name: String,
    /// The unique name in URLs: lower-case letters, digits and hyphens
    #[arg(long)]
    slug: String,
    /// The admin's e-mail address, which is also the login
    #[arg(long, value_name = "EMAIL")]
    admin_email: String,
    /// The admin's given name
    #[arg(long, value_name = "NAME")]
    admin_first_name: String,
    /// The admin's family name
    #[arg(long, value_name = "NAME")]
    admin_last_name: String,
    /// Read the admin's password from the first line of stdin
    #[arg(long)]
    admin_password_stdin: bool,
    /// Makes a retry safe for 24 hours: the same key and values return the same tenant
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    end: EndFlags,
    #[command(flatten)]
    output: Output,
}

/// The tenant of a command.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// The slug or the id of the tenant
    tenant: Option<String>,
    /// The id of the tenant in your own system, instead of its slug or id
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
}

/// Which tenants to list.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only tenants with this status: active, suspended or deleting
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only the tenant with this slug
    #[arg(long)]
    slug: Option<String>,
    /// Only tenants with exactly this name
    #[arg(long)]
    name: Option<String>,
    /// Only tenants whose name or slug contains this text, ignoring case
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only tenants created since this time, such as 2026-11-21T12:00:00Z, or since this long ago, such as 24h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only tenants created before this time, or before this long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn create(target: &Target, command: Create) -> Result<Exit, Failure> {
    let output = command.output;
    let end = command.end.read()?;
    let command = read_command(command).await?;
    let view = on_control(target, Uses::NewTenants, async |control| {
        control.create_tenant(command, end).await
    })
    .await?;
    output::print(output, &view, || {
        let rows = [("id", &view.id), ("slug", &view.slug), ("name", &view.name)];
        let rows = rows.map(|(key, value)| vec![key.to_owned(), value.clone()]);
        let end = view.expires_at.map(|end| vec!["expires at".to_owned(), output::time(end)]);
        output::table(None, rows.into_iter().chain(end))
    })?;
    if view.admin.as_deref() == Some(AccountOrigin::Linked.as_str()) && !output.json {
        output::say("an account with this e-mail address existed and was linked");
    }
    if view.replayed && !output.json {
        output::say("created by an earlier call with the same idempotency key");
    }
    Ok(Exit::Done)
}

/// Parses the arguments and reports every invalid one before it reads a password.
async fn read_command(command: Create) -> Result<ProvisionTenant, Failure> {
    let mut arguments = Arguments::default();
    let name = arguments.read("--name", &command.name, TenantName::parse);
    let slug = arguments.read("--slug", &command.slug, Slug::parse);
    let admin = NamedAdmin::read(
        &mut arguments,
        Some(&command.admin_email),
        Some(&command.admin_first_name),
        Some(&command.admin_last_name),
    );
    if let Some(key) = &command.idempotency_key {
        arguments.read("--idempotency-key", key, idempotency_key);
    }
    let parts = || Some((name?, slug?, admin?));
    let (name, slug, admin) = arguments.finish(parts())?;
    let admin = admin.with_password(command.admin_password_stdin).await?;
    let idempotency_key = command.idempotency_key;
    Ok(ProvisionTenant { idempotency_key, ..ProvisionTenant::new(name, slug, admin) })
}

fn idempotency_key(given: &str) -> Result<(), Rule> {
    if given.is_empty() {
        Err(Rule::Required)
    } else if given.len() > IDEMPOTENCY_KEY_MAX {
        Err(Rule::TooLong(IDEMPOTENCY_KEY_MAX))
    } else if given.chars().any(char::is_control) {
        Err(Rule::ControlCharacter)
    } else {
        Ok(())
    }
}

pub(super) async fn list(target: &Target, command: List) -> Result<Exit, Failure> {
    let mut arguments = Arguments::default();
    let status = command.status.as_deref().map(|status| {
        arguments.read("--status", status, |text| {
            text.parse::<TenantStatus>().map_err(|_unknown| Rule::OneOf(TenantStatus::WORDS))
        })
    });
    let status = arguments.finish(status.map_or(Some(None), |status| status.map(Some)))?;
    for (flag, given) in [("--since", &command.since), ("--until", &command.until)] {
        if let Some(given) = given {
            point_in_time(flag, given, OffsetDateTime::UNIX_EPOCH)?;
        }
    }
    let views = on_control(target, Uses::ControlPlane, async |control| {
        let is_relative = command.since.is_some() || command.until.is_some();
        let now = if is_relative { control.now().await? } else { OffsetDateTime::UNIX_EPOCH };
        let time = |flag, given: &Option<String>| {
            given.as_deref().map(|given| point_in_time(flag, given, now)).transpose()
        };
        let filter = TenantFilter {
            status,
            slug: command.slug.clone(),
            name: command.name.clone(),
            created_after: time("--since", &command.since)?,
            created_before: time("--until", &command.until)?,
            q: command.search.clone(),
        };
        control.list_tenants(&filter).await
    })
    .await?;
    let row = |view: &RecordView| {
        vec![
            view.slug.clone(),
            view.id.to_string(),
            view.status.clone(),
            output::time(view.created_at),
            view.name.clone(),
        ]
    };
    let header = ["SLUG", "ID", "STATUS", "CREATED AT", "NAME"];
    output::print_list(command.output, &views, &header, row, "no tenants")?;
    Ok(Exit::Done)
}

pub(super) async fn show(target: &Target, which: &Which, output: Output) -> Result<Exit, Failure> {
    let named = which.read()?;
    let view =
        on_control(target, Uses::ControlPlane, async |control| control.find_tenant(&named).await)
            .await?;
    output::print(output, &view, || view.table())?;
    Ok(Exit::Done)
}

/// Parses a slug or an id. An id is tried first, because a UUID is also a valid slug.
pub(super) fn tenant_ref(given: &str) -> Result<TenantRef, Failure> {
    if let Ok(id) = given.parse() {
        return Ok(TenantRef::Id(TenantId::new(id)));
    }
    Slug::parse(given).map(TenantRef::Slug).map_err(|_rule| {
        Failure::usage(format!("{given:?} is neither the slug nor the id of a tenant"))
    })
}

impl Which {
    /// Parses the arguments, before anything is opened.
    pub(super) fn read(&self) -> Result<Named, Failure> {
        match (&self.tenant, &self.external_id) {
            (_, Some(id)) => {
                let mut arguments = Arguments::default();
                let id = arguments.read("--external-id", id, ExternalId::parse);
                Ok(Named::ExternalId(arguments.finish(id)?))
            }
            (Some(tenant), None) => {
                tenant_ref(tenant)?;
                Ok(Named::Tenant(tenant.clone()))
            }
            // The argument group requires one of them.
            (None, None) => Err(Failure::usage("pass a tenant")),
        }
    }
}
