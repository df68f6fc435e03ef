//! `token`: create, list, rotate, revoke.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde_json::json;
use time::OffsetDateTime;

use super::control::{Named, NewTokenView, Target, TokenView, Uses, on_control};
use super::failure::sentence;
use super::tenant::tenant_ref;
use super::{Exit, Failure, Output, output};
use crate::domain::error::Error;
use crate::domain::{FieldProblem, Permission, TokenKind};

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create a token and print it; it cannot be shown again
    Create(Create),
    /// List all tokens and API keys, oldest first, without their secrets
    List {
        /// Only those of this kind; the own tokens of people are listed with their kind alone
        #[arg(long, value_name = "KIND", value_parser = token_kinds())]
        kind: Option<TokenKind>,
        #[command(flatten)]
        output: Output,
    },
    /// Give a token or an API key a new secret and print it; the id stays, and the old secret is good for a while
    Rotate {
        /// The id of the token, as listed; not the token itself
        id: uuid::Uuid,
        /// How long the old secret stays good, such as 12h, at most 30d; 0 ends it at once; by default as the settings say
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        overlap: Option<std::time::Duration>,
        /// How long the token is valid from now on, such as 30d; without it, it expires when it did before
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        expires: Option<std::time::Duration>,
        #[command(flatten)]
        output: Output,
    },
    /// Revoke a token and all that it made, with immediate effect; revoking it again changes nothing
    Revoke {
        /// The id of the token, as listed; not the token itself
        id: uuid::Uuid,
        #[command(flatten)]
        output: Output,
    },
}

/// The token to create.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The purpose of the token, for people
    #[arg(long)]
    name: String,
    /// A permission of the token; repeat it for more than one
    #[arg(long = "permission", value_name = "NAME", required = true, ignore_case = true, value_parser = permissions())]
    permissions: Vec<Permission>,
    /// How long the token is valid, such as 30d or 12h; without it, as long as the settings say, else for ever
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<std::time::Duration>,
    /// The only tenant that the token works in, by slug or id
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    output: Output,
}

fn permissions() -> impl TypedValueParser<Value = Permission> {
    PossibleValuesParser::new(Permission::ALL.iter().map(|permission| permission.as_str()))
        .try_map(|name| name.parse())
}

fn token_kinds() -> impl TypedValueParser<Value = TokenKind> {
    PossibleValuesParser::new(TokenKind::NAMES.iter().copied()).try_map(|name| name.parse())
}

pub(super) async fn run(target: &Target, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Create(command) => create(target, command).await,
        Verb::List { kind, output } => list(target, kind, output).await,
        Verb::Rotate { id, overlap, expires, output } => {
            rotate(target, id, overlap, expires, output).await
        }
        Verb::Revoke { id, output } => revoke(target, id, output).await,
    }
}

async fn create(target: &Target, command: Create) -> Result<Exit, Failure> {
    let output = command.output;
    command.tenant.as_deref().map(tenant_ref).transpose()?;
    let view = on_control(target, Uses::ControlPlane, async |control| {
        // Looked up also if it is an id: a token for a tenant that does not exist would never work.
        let tenant = match command.tenant.as_deref() {
            Some(named) => {
                let named = Named::Tenant(named.to_owned());
                Some(crate::domain::TenantId::new(control.find_tenant(&named).await?.id))
            }
            None => None,
        };
        let expires_at = match command.expires {
            Some(lifetime) => Some(expiry(control.now().await?, lifetime)?),
            None => None,
        };
        let (name, permissions) = (command.name, command.permissions);
        let new = NewTokenView { name, permissions, expires_at, tenant };
        control.create_token(new).await.map_err(invalid_flag)
    })
    .await?;
    print_secret(output, &view)
}

/// Prints the secret of a token, which cannot be shown again.
fn print_secret(output: Output, view: &TokenView) -> Result<Exit, Failure> {
    if output.json {
        return output::print(output, view, String::new).map(|()| Exit::Done);
    }
    // The token alone, so that `TOKEN=$(rowhouse token create ..)` holds it and nothing else.
    output::data(view.token.as_deref().unwrap_or_default())?;
    let until = view
        .expires_at
        .map_or_else(|| "without expiry".to_owned(), |end| format!("until {}", output::time(end)));
    let previous = view.previous_until.map_or_else(String::new, |end| {
        format!("; the old one is valid until {}", output::time(end))
    });
    let id = &view.id;
    output::say(&format!("token {id} is valid {until}; it cannot be shown again{previous}"));
    Ok(Exit::Done)
}

/// Names the flag of an invalid value, and the limit that it exceeds.
fn invalid_flag(failure: Failure) -> Failure {
    let flag = |field: &str| match field {
        "expiresAt" | "expires_at" => "--expires".to_owned(),
        "permissions" => "--permission".to_owned(),
        other => format!("--{other}"),
    };
    match &failure {
        Failure::Service(Error::Invalid(problems)) => {
            let line = |p: &FieldProblem| format!("{} {}", flag(&p.field), sentence(p.rule));
            Failure::Usage(problems.iter().map(line).collect())
        }
        Failure::Refused(refusal) if refusal.code == "invalid" => {
            let fields = refusal.fields.iter();
            Failure::Usage(fields.map(|f| format!("{} {}", flag(&f.field), f.message)).collect())
        }
        _ => failure,
    }
}

/// Returns when a token created now expires.
fn expiry(now: OffsetDateTime, lifetime: std::time::Duration) -> Result<OffsetDateTime, Failure> {
    time::Duration::try_from(lifetime)
        .ok()
        .filter(|lifetime| lifetime.is_positive())
        .and_then(|lifetime| now.checked_add(lifetime))
        .ok_or_else(|| Failure::usage("--expires must be a duration, such as 12h, 30d or 1y"))
}

async fn list(target: &Target, kind: Option<TokenKind>, output: Output) -> Result<Exit, Failure> {
    let views =
        on_control(target, Uses::ControlPlane, async |control| control.list_tokens(kind).await)
            .await?;
    let row = |view: &TokenView| {
        let or = |at: Option<OffsetDateTime>, never: &str| {
            at.map_or_else(|| never.to_owned(), output::time)
        };
        vec![
            view.id.to_string(),
            view.hint.clone(),
            view.permissions.join(","),
            view.tenant_id.map_or_else(|| "all".to_owned(), |id| id.to_string()),
            or(view.expires_at, "never"),
            or(view.last_used_at, "never"),
            or(view.revoked_at, "no"),
            view.name.clone(),
        ]
    };
    let header =
        ["ID", "TOKEN", "PERMISSIONS", "TENANT", "EXPIRES AT", "LAST USED AT", "REVOKED", "NAME"];
    output::print_list(output, &views, &header, row, "no tokens")?;
    Ok(Exit::Done)
}

async fn rotate(
    target: &Target,
    id: uuid::Uuid,
    overlap: Option<std::time::Duration>,
    expires: Option<std::time::Duration>,
    output: Output,
) -> Result<Exit, Failure> {
    let overlap = match overlap {
        Some(given) => Some(
            time::Duration::try_from(given)
                .map_err(|_too_long| Failure::usage("--overlap must be a duration, such as 12h"))?,
        ),
        None => None,
    };
    let view = on_control(target, Uses::ControlPlane, async |control| {
        let expires_at = match expires {
            Some(lifetime) => Some(expiry(control.now().await?, lifetime)?),
            None => None,
        };
        let rotated = control.rotate_token(id, overlap, expires_at).await;
        rotated.map_err(|failure| invalid_flag(not_found(failure, id)))
    })
    .await?;
    print_secret(output, &view)
}

async fn revoke(target: &Target, id: uuid::Uuid, output: Output) -> Result<Exit, Failure> {
    on_control(target, Uses::ControlPlane, async |control| {
        control.revoke_token(id).await.map_err(|failure| not_found(failure, id))
    })
    .await?;
    if output.json {
        output::print(output, &json!({ "id": id, "revoked": true }), String::new)?;
    } else {
        output::say(&format!("token {id} is revoked"));
    }
    Ok(Exit::Done)
}

/// Names the token in a "not found" failure.
fn not_found(failure: Failure, id: uuid::Uuid) -> Failure {
    if failure.code() == "token_not_found" {
        return failure.worded(format!("no such token: {id}"));
    }
    failure
}
