//! `tenant ensure`: creates the tenant with an external id, or makes it as the command says.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::admin::NewAdminFlags;
use super::control::{Control, MemberView, Named, RecordView, Target, Uses, on_control};
use super::end::EndFlags;
use super::failure::{Arguments, sentence};
use super::files;
use super::{Exit, Failure, Output, output};
use crate::domain::Document;
use crate::domain::json::Value;
use crate::domain::names::{ExternalId, Slug, TenantName};
use crate::service::provisioning::ProvisionTenant;
use crate::service::tenants::registry::SETTINGS_MAX;
use crate::service::tenants::upsert::Upsert;

pub(super) const HELP: &str = "\
Safe to repeat: a second run finds the tenant as it is to be and says `unchanged`. The name, the settings (all of them, \
where they are given), the end and a missing admin are applied; another slug, or an end for a tenant that was made \
without one, is refused with exit code 5 and changes nothing.

Examples:
  rowhouse tenant ensure --external-id pr-77 --slug pr-77 --no-admin --expires-in 24h
  rowhouse tenant ensure --external-id crm-4711 --slug acme --name 'Acme Corp' --settings @acme.json --admin-email ada@acme.com
  rowhouse tenant ensure --external-id crm-4711 --slug acme --admin-email ada@acme.com --dry-run";

#[derive(Debug, Args)]
pub(super) struct Ensure {
    /// The id of the tenant in your own system
    #[arg(long, value_name = "ID")]
    external_id: String,
    /// The unique name in URLs: lower-case letters, digits and hyphens
    #[arg(long)]
    slug: String,
    /// The display name; without it, the slug
    #[arg(long)]
    name: Option<String>,
    /// All settings, from a JSON file (@FILE) or from stdin (@-); without it, those that the tenant has
    #[arg(long, value_name = "@FILE")]
    settings: Option<String>,
    /// The admin's e-mail address; an account must have it, unless the names of a new one are given
    #[arg(long, value_name = "EMAIL", required_unless_present = "no_admin")]
    admin_email: Option<String>,
    /// Name no admin; those that the tenant has stay
    #[arg(long, conflicts_with_all = ["admin_email", "admin_first_name"])]
    no_admin: bool,
    #[command(flatten)]
    new_admin: NewAdminFlags,
    #[command(flatten)]
    end: EndFlags,
    /// Restore the tenant if it is being deleted
    #[arg(long)]
    restore: bool,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

/// What an upsert would do.
#[derive(Debug, Serialize)]
pub(super) struct PlanView {
    /// `created`, `changed` or `unchanged`.
    pub(super) outcome: &'static str,
    external_id: String,
    slug: String,
    /// The fields that would be changed.
    pub(super) changes: Vec<&'static str>,
    dry_run: bool,
}

pub(super) async fn run(target: &Target, command: Ensure) -> Result<Exit, Failure> {
    let (output, dry_run) = (command.output, command.dry_run);
    let upsert = read(command).await?;
    let uses = if dry_run { Uses::ControlPlane } else { Uses::NewTenants };
    if dry_run {
        let view = on_control(target, uses, async |control| plan(control, &upsert).await).await?;
        output::print(output, &view, || {
            let (slug, outcome, changes) =
                (&view.slug, view.outcome, in_parentheses(&view.changes));
            format!("tenant {slug} would be {outcome}{changes}; nothing was changed")
        })?;
        return Ok(Exit::Done);
    }
    let view = on_control(target, uses, async |control| {
        control.ensure_tenant(upsert).await.map_err(in_words)
    })
    .await?;
    output::print(output, &view, || line(&view))?;
    Ok(Exit::Done)
}

/// The outcome in one line.
pub(super) fn line(view: &RecordView) -> String {
    let outcome = view.outcome.as_deref().unwrap_or("there");
    let end = view.expires_at.map(|end| format!(", until {}", output::time(end)));
    format!("tenant {} ({}) is {outcome}{}", view.slug, view.id, end.unwrap_or_default())
}

/// Names the flags of invalid fields.
pub(super) fn in_words(failure: Failure) -> Failure {
    match failure {
        Failure::Service(crate::domain::Error::Invalid(problems)) => {
            let flag = |field: &str| field.replace(['_', '/'], "-");
            let line = |p: crate::domain::FieldProblem| {
                format!("--{} {}", flag(p.field.trim_start_matches('/')), sentence(p.rule))
            };
            Failure::Usage(problems.into_iter().map(line).collect())
        }
        failure if failure.code() == "tenant_deleting" => {
            failure.worded("the tenant is being deleted; pass --restore, or purge it first")
        }
        failure => failure,
    }
}

/// The fields that would be changed, behind the outcome.
pub(super) fn in_parentheses(changes: &[&str]) -> String {
    if changes.is_empty() { String::new() } else { format!(" ({})", changes.join(", ")) }
}

/// Compares a tenant with what it is to be; reads only. What only the database finds when it makes a tenant is not found:
/// that no account has the admin's address, that a slug rests after a purge.
pub(super) async fn plan(control: &Control, upsert: &Upsert) -> Result<PlanView, Failure> {
    let command = &upsert.command;
    let view = |outcome, changes| PlanView {
        outcome,
        external_id: upsert.external_id.to_string(),
        slug: command.slug.to_string(),
        changes,
        dry_run: true,
    };
    let found = match control.find_tenant(&Named::ExternalId(upsert.external_id.clone())).await {
        Ok(found) => found,
        Err(failure) if failure.exit() == Exit::NotFound => {
            let named = Named::Tenant(command.slug.to_string());
            return match control.find_tenant(&named).await {
                Ok(_) => Err(conflict("slug_taken", "the slug is taken".to_owned())),
                Err(failure) if failure.exit() == Exit::NotFound => Ok(view("created", Vec::new())),
                Err(failure) => Err(failure),
            };
        }
        Err(failure) => return Err(failure),
    };
    if found.status == "deleting" && !upsert.restore {
        return Err(conflict(
            "tenant_deleting",
            "the tenant is being deleted; pass --restore, or purge it first".to_owned(),
        ));
    }
    let mut differing = Vec::new();
    if found.slug != command.slug.as_str() {
        differing.push("slug");
    }
    if upsert.end.is_some() && found.expires_at.is_none() {
        differing.push("expires_at");
    }
    if !differing.is_empty() {
        let fields = differing.join(", ");
        let what = format!("the tenant with this external id differs in {fields}");
        return Err(conflict("external_id_differs", what));
    }
    let changes = changes(control, upsert, &found).await?;
    Ok(view(if changes.is_empty() { "unchanged" } else { "changed" }, changes))
}

async fn changes(
    control: &Control,
    upsert: &Upsert,
    found: &RecordView,
) -> Result<Vec<&'static str>, Failure> {
    let mut changes = Vec::new();
    if found.status == "deleting" {
        changes.push("status");
    }
    if found.name != upsert.command.name.as_str() {
        changes.push("name");
    }
    if upsert.settings.as_ref().is_some_and(|given| *given.as_value() != found.settings) {
        changes.push("settings");
    }
    if let (Some(end), Some(present)) = (upsert.end, found.expires_at) {
        let now = control.now().await?;
        if !end.is_met_by(present, now) {
            changes.push("expires_at");
        }
    }
    if let Some(email) = upsert.command.admin.email() {
        let members = control.list_members(&found.id.to_string()).await?;
        let is_admin =
            |member: &MemberView| member.email == email.as_str() && member.role == "ADMIN";
        if !members.iter().any(is_admin) {
            changes.push("admin");
        }
    }
    Ok(changes)
}

fn conflict(code: &str, message: String) -> Failure {
    Failure::Worded { exit: Exit::Conflict, code: code.to_owned(), message }
}

/// Parses the arguments and reports every invalid one before it reads a password.
async fn read(command: Ensure) -> Result<Upsert, Failure> {
    let end = command.end.read()?;
    let mut arguments = Arguments::default();
    let external_id = arguments.read("--external-id", &command.external_id, ExternalId::parse);
    let slug = arguments.read("--slug", &command.slug, Slug::parse);
    let name = command.name.as_ref().unwrap_or(&command.slug);
    let name = arguments.read("--name", name, TenantName::parse);
    let admin = command.new_admin.read(&mut arguments, command.admin_email.as_deref());
    let parts = || Some((external_id?, slug?, name?, admin?));
    let (external_id, slug, name, admin) = arguments.finish(parts())?;
    let settings = command.settings.as_deref().map(read_settings).transpose()?;
    let admin = admin.with_password(command.new_admin.admin_password_stdin).await?;
    let command_of = ProvisionTenant::new(name, slug, admin);
    Ok(Upsert { external_id, command: command_of, settings, end, restore: command.restore })
}

/// Reads settings from the file behind the `@`.
fn read_settings(given: &str) -> Result<Document, Failure> {
    let Some(file) = given.strip_prefix('@').filter(|file| !file.is_empty()) else {
        return Err(Failure::usage(
            "--settings must be @FILE, a file of JSON; not JSON itself, because every user of the machine can read command lines",
        ));
    };
    let value = files::read_json("--settings", Path::new(file), 2 * SETTINGS_MAX)?;
    parse_settings(value).map_err(|rule| Failure::usage(format!("--settings {rule}")))
}

/// Parses settings, and words what is wrong with them.
pub(super) fn parse_settings(value: Value) -> Result<Document, String> {
    Document::parse(value).map_err(sentence)
}
