//! `token`: create, list, rotate, revoke.

use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use super::failure::sentence;
use super::tenant::{not_found, tenant_ref};
use super::{CreateToken, Exit, Failure, Output, output};
use crate::auth::token::OpaqueToken;
use crate::cli::Program;
use crate::domain::error::{Error, Noun};
use crate::domain::names::TokenId;
use crate::domain::{FieldProblem, Permission, TokenKind};
use crate::service::tokens::{Filter, NewToken, Rotation, Token};

/// A token as programs read it; the secret itself only when it is created or rotated.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenView {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    kind: TokenKind,
    hint: String,
    name: String,
    permissions: Vec<Permission>,
    tenant_id: Option<String>,
    user_id: Option<String>,
    parent_id: Option<String>,
    created_by: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    rotated_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    previous_until: Option<OffsetDateTime>,
}

pub(super) async fn create(settings: &Program, command: CreateToken) -> Result<Exit, Failure> {
    let output = command.output;
    let which = command.tenant.as_deref().map(tenant_ref).transpose()?;
    let (token, secret) = output::on_control_plane(settings, async |backend| {
        let ctx = backend.operator();
        let tenant = match &which {
            Some(which) => {
                let found = backend.services.tenants.read(&ctx, which).await;
                let named = command.tenant.as_deref().unwrap_or_default();
                Some(found.map_err(|error| not_found(error, named))?.id)
            }
            None => None,
        };
        let new = NewToken {
            name: command.name,
            permissions: command.permissions,
            expires_at: command.expires.map(|lifetime| expiry(ctx.now, lifetime)).transpose()?,
            tenant,
        };
        backend.services.tokens.create(&ctx, new).await.map_err(invalid_flag)
    })
    .await?;
    print_secret(output, token, &secret)
}

/// Prints the secret of a token, which cannot be shown again.
fn print_secret(output: Output, token: Token, secret: &OpaqueToken) -> Result<Exit, Failure> {
    let mut view = TokenView::from(token);
    if output.json {
        view.token = Some(secret.expose().to_owned());
        return output::print(output, &view, String::new).map(|()| Exit::Done);
    }
    // The token alone, so that `TOKEN=$(rowhouse token create ..)` holds it and nothing else.
    output::data(secret.expose())?;
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
fn invalid_flag(error: Error) -> Failure {
    let Error::Invalid(problems) = &error else { return error.into() };
    let flag = |field: &str| match field {
        "expiresAt" => "--expires".to_owned(),
        "permissions" => "--permission".to_owned(),
        other => format!("--{other}"),
    };
    let line = |p: &FieldProblem| format!("{} {}", flag(&p.field), sentence(p.rule));
    Failure::Usage(problems.iter().map(line).collect())
}

/// Returns when a token created now expires.
fn expiry(now: OffsetDateTime, lifetime: std::time::Duration) -> Result<OffsetDateTime, Failure> {
    time::Duration::try_from(lifetime)
        .ok()
        .filter(|lifetime| lifetime.is_positive())
        .and_then(|lifetime| now.checked_add(lifetime))
        .ok_or_else(|| Failure::usage("--expires must be a duration, such as 12h, 30d or 1y"))
}

pub(super) async fn list(
    settings: &Program,
    kind: Option<TokenKind>,
    output: Output,
) -> Result<Exit, Failure> {
    let filter = Filter { kind, tenant: None };
    let tokens = output::on_control_plane(settings, async |backend| {
        Ok(backend.services.tokens.list_filtered(&backend.operator(), &filter).await?)
    })
    .await?;
    let views: Vec<TokenView> = tokens.into_iter().map(TokenView::from).collect();
    let row = |view: &TokenView| {
        let permissions = view.permissions.iter().map(|permission| permission.as_str());
        let or = |at: Option<OffsetDateTime>, never: &str| {
            at.map_or_else(|| never.to_owned(), output::time)
        };
        vec![
            view.id.clone(),
            view.hint.clone(),
            permissions.collect::<Vec<_>>().join(","),
            view.tenant_id.clone().unwrap_or_else(|| "all".to_owned()),
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

pub(super) async fn rotate(
    settings: &Program,
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
    let (token, secret) = output::on_control_plane(settings, async |backend| {
        let ctx = backend.operator();
        let expires_at = expires.map(|lifetime| expiry(ctx.now, lifetime)).transpose()?;
        let rotation = Rotation { overlap, expires_at };
        let rotated = backend.services.tokens.rotate(&ctx, TokenId::new(id), rotation).await;
        rotated.map_err(|error| match error {
            Error::NotFound(Noun::Token) => Failure::Other(format!("no such token: {id}")),
            other => invalid_flag(other),
        })
    })
    .await?;
    print_secret(output, token, &secret)
}

pub(super) async fn revoke(
    settings: &Program,
    id: uuid::Uuid,
    output: Output,
) -> Result<Exit, Failure> {
    output::on_control_plane(settings, async |backend| {
        match backend.services.tokens.revoke(&backend.operator(), TokenId::new(id)).await {
            Err(Error::NotFound(Noun::Token)) => {
                Err(Failure::Other(format!("no such token: {id}")))
            }
            revoked => Ok(revoked?),
        }
    })
    .await?;
    if output.json {
        output::print(output, &json!({ "id": id, "revoked": true }), String::new)?;
    } else {
        output::say(&format!("token {id} is revoked"));
    }
    Ok(Exit::Done)
}

impl From<Token> for TokenView {
    fn from(token: Token) -> Self {
        Self {
            id: token.id.to_string(),
            token: None,
            kind: token.kind,
            hint: token.hint,
            name: token.name,
            permissions: token.permissions,
            tenant_id: token.tenant.map(|tenant| tenant.to_string()),
            user_id: token.user.map(|user| user.to_string()),
            parent_id: token.parent.map(|parent| parent.to_string()),
            created_by: token.created_by,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            revoked_at: token.revoked_at,
            rotated_at: token.rotated_at,
            previous_until: token.previous_until,
        }
    }
}
