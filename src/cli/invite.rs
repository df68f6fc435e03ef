//! `invite`: create, list, revoke.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use super::failure::Arguments;
use super::member::roles;
use super::tenant::{not_found, tenant_ref};
use super::{Exit, Failure, Output, output};
use crate::cli::Program;
use crate::domain::Role;
use crate::domain::error::{Error, InvitationProblem, Noun};
use crate::domain::names::{Email, InvitationId};
use crate::domain::page::Window;
use crate::service::invitations::Invitation;

/// The number of rows of one query.
const ROWS_AT_ONCE: u16 = 1000;

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

/// An invitation as programs read it; the names are those of the HTTP API. The token only when it is created.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InvitationView {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    tenant_id: String,
    email: String,
    role: Role,
    created_by: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    accepted_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
}

pub(super) async fn run(settings: &Program, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Create(command) => create(settings, command).await,
        Verb::List { tenant, output } => list(settings, &tenant, output).await,
        Verb::Revoke { tenant, id, output } => revoke(settings, &tenant, id, output).await,
    }
}

async fn create(settings: &Program, command: Create) -> Result<Exit, Failure> {
    let Create { tenant, email, role, output } = command;
    tenant_ref(&tenant)?;
    let mut arguments = Arguments::default();
    let email = arguments.read("the e-mail address", &email, Email::parse);
    let email = arguments.finish(email)?;
    let (invitation, secret) = output::on_control_plane(settings, async |backend| {
        let invitations = &backend.services.invitations;
        let made = invitations.create(&backend.operator(), &tenant, email, role).await;
        made.map_err(|error| not_found(error, &tenant))
    })
    .await?;
    let mut view = InvitationView::from(invitation);
    if output.json {
        view.token = Some(secret.expose().to_owned());
        return output::print(output, &view, String::new).map(|()| Exit::Done);
    }
    // The token alone, so that `TOKEN=$(rowhouse invite create ..)` holds it and nothing else.
    output::data(secret.expose())?;
    let until = output::time(view.expires_at);
    output::say(&format!(
        "invitation {} is valid until {until}; its token cannot be shown again",
        view.id
    ));
    Ok(Exit::Done)
}

async fn list(settings: &Program, tenant: &str, output: Output) -> Result<Exit, Failure> {
    tenant_ref(tenant)?;
    let invitations = output::on_control_plane(settings, async |backend| {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let window = Window { after, limit: ROWS_AT_ONCE };
            let page =
                backend.services.invitations.list(&backend.operator(), tenant, &window).await;
            let page = page.map_err(|error| not_found(error, tenant))?;
            all.extend(page.rows);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    })
    .await?;
    let views: Vec<InvitationView> = invitations.into_iter().map(InvitationView::from).collect();
    let row = |view: &InvitationView| {
        let or = |at: Option<OffsetDateTime>| at.map_or_else(|| "no".to_owned(), output::time);
        vec![
            view.id.clone(),
            view.email.clone(),
            view.role.to_string(),
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
    settings: &Program,
    tenant: &str,
    id: uuid::Uuid,
    output: Output,
) -> Result<Exit, Failure> {
    tenant_ref(tenant)?;
    output::on_control_plane(settings, async |backend| {
        let invitations = &backend.services.invitations;
        let revoked = invitations.revoke(&backend.operator(), tenant, InvitationId::new(id)).await;
        revoked.map_err(|error| match error {
            Error::NotFound(Noun::Invitation) => {
                Failure::Other(format!("tenant {tenant} has no such invitation: {id}"))
            }
            Error::Invitation(InvitationProblem::Used) => {
                Failure::Other(format!("invitation {id} is used already"))
            }
            error => not_found(error, tenant),
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

impl From<Invitation> for InvitationView {
    fn from(invitation: Invitation) -> Self {
        Self {
            id: invitation.id.to_string(),
            token: None,
            tenant_id: invitation.tenant.to_string(),
            email: invitation.email.to_string(),
            role: invitation.role,
            created_by: invitation.created_by,
            created_at: invitation.created_at,
            expires_at: invitation.expires_at,
            accepted_at: invitation.accepted_at,
            revoked_at: invitation.revoked_at,
        }
    }
}
