//! `invite`: create, list, revoke.

use clap::{Args, Subcommand};
use serde_json::json;
use time::OffsetDateTime;

use super::control::{InvitationView, Target, Uses, not_found, on_control};
use super::failure::Arguments;
use super::member::roles;
use super::tenant::tenant_ref;
use super::{Exit, Failure, Output, output};
use crate::domain::Role;
use crate::domain::names::Email;

/// Examples for its help.
pub(super) const HELP: &str = "\
Examples:
  rowhouse invite create acme-corp ada@acme.com --role FDE
  rowhouse invite list acme-corp
  rowhouse invite revoke acme-corp 0195a5b2-5c1e-7d3f-8a4b-1c2d3e4f5a6b";

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create an invitation and print its token; the token cannot be shown again
    ///
    /// The invited person accepts it with POST /control/v1/invitations/accept within 7 days.
    Create(Create),
    /// List the invitations to a tenant, oldest first, without their tokens
    List {
        /// The slug or the id of the tenant
        tenant: String,
        #[command(flatten)]
        output: Output,
    },
    /// Revoke an invitation, with immediate effect; revoking it again changes nothing
    Revoke {
        /// The slug or the id of the tenant
        tenant: String,
        /// The id of the invitation, as listed; not its token
        id: uuid::Uuid,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The slug or the id of the tenant
    tenant: String,
    /// The e-mail address of the invited person
    email: String,
    /// ADMIN, FDE or VIEWER
    #[arg(long, ignore_case = true, hide_possible_values = true, value_parser = roles())]
    role: Role,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(target: &Target, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Create(command) => create(target, command).await,
        Verb::List { tenant, output } => list(target, &tenant, output).await,
        Verb::Revoke { tenant, id, output } => revoke(target, &tenant, id, output).await,
    }
}

async fn create(target: &Target, command: Create) -> Result<Exit, Failure> {
    let Create { tenant, email, role, output } = command;
    tenant_ref(&tenant)?;
    let mut arguments = Arguments::default();
    let email = arguments.read("the e-mail address", &email, Email::parse);
    let email = arguments.finish(email)?;
    let view = on_control(target, Uses::ControlPlane, async |control| {
        let made = control.invite(&tenant, email, role).await;
        made.map_err(|failure| not_found(failure, &tenant))
    })
    .await?;
    if output.json {
        return output::print(output, &view, String::new).map(|()| Exit::Done);
    }
    // The token alone, so that `TOKEN=$(rowhouse invite create ..)` holds it and nothing else.
    output::data(view.token.as_deref().unwrap_or_default())?;
    let until = output::time(view.expires_at);
    output::say(&format!(
        "invitation {} is valid until {until}; its token cannot be shown again",
        view.id
    ));
    Ok(Exit::Done)
}

async fn list(target: &Target, tenant: &str, output: Output) -> Result<Exit, Failure> {
    tenant_ref(tenant)?;
    let views = on_control(target, Uses::ControlPlane, async |control| {
        let listed = control.list_invitations(tenant).await;
        listed.map_err(|failure| not_found(failure, tenant))
    })
    .await?;
    let row = |view: &InvitationView| {
        let or = |at: Option<OffsetDateTime>| at.map_or_else(|| "no".to_owned(), output::time);
        vec![
            view.id.to_string(),
            view.email.clone(),
            view.role.clone(),
            output::time(view.expires_at),
            or(view.accepted_at),
            or(view.revoked_at),
            view.created_by.clone(),
        ]
    };
    let header = ["ID", "EMAIL", "ROLE", "EXPIRES AT", "ACCEPTED", "REVOKED", "CREATED BY"];
    output::print_list(output, &views, &header, row, "no invitations")?;
    Ok(Exit::Done)
}

async fn revoke(
    target: &Target,
    tenant: &str,
    id: uuid::Uuid,
    output: Output,
) -> Result<Exit, Failure> {
    tenant_ref(tenant)?;
    on_control(target, Uses::ControlPlane, async |control| {
        let revoked = control.revoke_invitation(tenant, id).await;
        revoked.map_err(|failure| match failure.code().as_str() {
            "invitation_not_found" => {
                failure.worded(format!("tenant {tenant} has no such invitation: {id}"))
            }
            "invitation_used" => failure.worded(format!("invitation {id} is used already")),
            _ => not_found(failure, tenant),
        })
    })
    .await?;
    if output.json {
        output::print(output, &json!({ "id": id, "revoked": true }), String::new)?;
    } else {
        output::say(&format!("invitation {id} is revoked"));
    }
    Ok(Exit::Done)
}
