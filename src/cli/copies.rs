//! `tenant clone` and `tenant swap`: what is in a tenant is copied to a new one, or exchanged with what is in another one.

use clap::Args;

use super::change::{refused, show};
use super::control::{Named, RecordView, Target, Uses, on_control};
use super::failure::Arguments;
use super::tenant::{Which, tenant_ref};
use super::{Exit, Failure, Output, confirm, output};
use crate::domain::names::{Slug, TenantName};
use crate::service::archives::CloneTenant;

pub(super) const CLONE_HELP: &str = "\
The rows are those of one moment, and the members are the same. The new tenant is there as a whole, or not at all. Through a \
server it takes at most http.request_timeout; a large tenant is cloned on the database.

Examples:
  rowhouse tenant clone acme --slug acme-staging
  rowhouse tenant clone acme --slug acme-staging --exclude-data profile_events --suspended";

/// Which tenant to clone, and how.
#[derive(Debug, Args)]
pub(super) struct Clone {
    #[command(flatten)]
    which: Which,
    /// The unique name of the new tenant in URLs
    #[arg(long)]
    slug: String,
    /// The display name of the new tenant; without it, that of the other one
    #[arg(long)]
    name: Option<String>,
    /// Copy no rows of this table; repeat it for more than one
    #[arg(long, value_name = "TABLE")]
    exclude_data: Vec<String>,
    /// Make the tenant suspended
    #[arg(long)]
    suspended: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn clone_tenant(target: &Target, flags: Clone) -> Result<Exit, Failure> {
    let named = flags.which.read()?;
    let mut arguments = Arguments::default();
    let slug = arguments.read("--slug", &flags.slug, Slug::parse);
    let name = flags.name.as_deref();
    let name = name.map(|name| arguments.read("--name", name, TenantName::parse));
    let read = || Some((slug?, name.map_or(Some(None), |name| name.map(Some))?));
    let (slug, name) = arguments.finish(read())?;
    let (exclude_data, suspended) = (flags.exclude_data, flags.suspended);
    let idempotency_key = None;
    let command = CloneTenant { slug, name, exclude_data, suspended, idempotency_key };
    let view = on_control(target, Uses::NewTenants, async |control| {
        let found = control.find_tenant(&named).await?;
        let cloned = control.clone_tenant(found.id, &command).await;
        cloned.map_err(|failure| refused(failure, named.as_str()))
    })
    .await?;
    show(flags.output, &view)
}

pub(super) const SWAP_HELP: &str = "\
Ids, slugs, members, tokens and settings stay where they are. Requests in both tenants are answered 503 for a moment; none is \
lost, and none works in both. The same command undoes it.

Examples:
  rowhouse tenant swap acme acme-restored
  rowhouse tenant swap acme acme-restored --yes --json";

/// Which tenants to swap.
#[derive(Debug, Args)]
pub(super) struct Swap {
    /// The slug or the id of one tenant
    tenant: String,
    /// The slug or the id of the other one
    with: String,
    /// Do not ask for a confirmation; required without a terminal
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn swap(target: &Target, flags: Swap) -> Result<Exit, Failure> {
    if !flags.yes {
        confirm::require_terminal("tenant swap")?;
    }
    for given in [&flags.tenant, &flags.with] {
        tenant_ref(given)?;
    }
    let view = on_control(target, Uses::ControlPlane, async |control| {
        let tenant = control.find_tenant(&Named::Tenant(flags.tenant.clone())).await?;
        let with = control.find_tenant(&Named::Tenant(flags.with.clone())).await?;
        if !flags.yes {
            confirm::ask(&question(&tenant, &with), &tenant.slug).await?;
        }
        let swapped = control.swap_tenants(&tenant, &with).await;
        swapped.map_err(|failure| refused(failure, &flags.tenant))
    })
    .await?;
    output::print(flags.output, &view, || {
        format!("what was in {} is in {}, and the reverse", view.tenant.slug, view.with.slug)
    })?;
    Ok(Exit::Done)
}

fn question(tenant: &RecordView, with: &RecordView) -> String {
    let (one, other) = (&tenant.slug, &with.slug);
    format!(
        "All rows of {one} ({:?}) and of {other} ({:?}) change places; requests in both are refused for a moment.",
        tenant.name, with.name
    )
}
