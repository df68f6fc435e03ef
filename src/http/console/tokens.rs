//! API tokens: the list, a new one whose secret is shown once, revocation.

use actix_web::HttpResponse;
use askama::Template;
use uuid::Uuid;

use super::Answer;
use super::call::{Call, ROWS, window};
use super::form::Form;
use super::frame::Area;
use super::list::{Chip, List, Pages, link};
use super::problem::Problem;
use super::text::{When, day};
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{TenantId, TokenId};
use crate::domain::rule::Rule;
use crate::domain::{Permission, TokenKind};
use crate::service::tenants::TenantRef;
use crate::service::tokens::{Filter, NewToken, Token, TokenState};

const HERE: &str = "/console/tokens";

/// A token in the list.
struct Row {
    token: Token,
    state: &'static str,
}

#[derive(Template)]
#[template(path = "tokens.html")]
struct TokensPage {
    rows: Vec<Row>,
    chips: Vec<Chip>,
    q: String,
    status: String,
    tenant: String,
    is_filtered: bool,
    pages: Pages,
    /// A secret that was made just now.
    secret: Option<String>,
}

#[derive(Template)]
#[template(path = "new_token.html")]
struct NewTokenPage<'a> {
    form: &'a Form,
    groups: Vec<(&'static str, Vec<Permission>)>,
    /// Whether the token must be bound to a tenant: the caller's rights are those in some tenants.
    must_be_bound: bool,
    key: String,
}

#[derive(Template)]
#[template(path = "revoke_token.html")]
struct RevokePage {
    id: Uuid,
}

/// Lists the tokens that the caller manages, oldest first.
pub(super) async fn list(call: &Call) -> Answer {
    let mut query = call.query()?;
    let window = window(&mut query);
    let tenant = query.optional("tenant_id", |text| Ok(text.to_owned()));
    let mut filter = Filter {
        kind: query.optional("kind", |text| {
            text.parse().map_err(|_unknown| Rule::OneOf(TokenKind::NAMES))
        }),
        tenant: None,
        state: query.optional("status", |text| {
            text.parse().map_err(|_unknown| Rule::OneOf(TokenState::WORDS))
        }),
        q: query.optional("q", |text| Ok(text.to_owned())),
    };
    let window = query.finish(Some(window))?;
    if let Some(named) = tenant {
        filter.tenant = Some(match named.parse() {
            Ok(id) => TenantId::new(id),
            Err(_no_id) => named_tenant(call, &named).await?,
        });
    }
    let page = call.services().tokens.page(&call.ctx, &filter, &window).await?;
    let list = List::of(call, HERE, &["q", "kind", "tenant_id", "status"]);
    let now = call.ctx.now;
    let row = |token: Token| {
        let state = match (token.revoked_at, token.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now => "expired",
            (None, _) => "active",
        };
        Row { token, state }
    };
    let content = TokensPage {
        chips: list.chips("status", TokenState::WORDS),
        is_filtered: list.is_filtered(),
        pages: list.pages(&window, page.next),
        rows: page.rows.into_iter().map(row).collect(),
        q: call.parameter("q"),
        status: call.parameter("status"),
        tenant: call.parameter("tenant_id"),
        secret: call.new_secret(),
    };
    let limit = ("limit", Some(ROWS.to_string()));
    let tenant = ("tenant_id", filter.tenant.map(|tenant| tenant.to_string()));
    let given = ["q", "kind", "status", "cursor"].map(|name| (name, Some(call.parameter(name))));
    let alternate = link("/control/v1/tokens", [limit, tenant].into_iter().chain(given));
    call.page(Area::Tokens, "Tokens").api(alternate).show(&content)
}

/// Shows the form for a new token.
pub(super) async fn ask(call: &Call) -> Answer {
    let form = Form::showing([("tenant", call.parameter("tenant"))]);
    let content = form_page(call, &form)?;
    call.page(Area::Tokens, "New token").api("/control/v1/tokens").show(&content)
}

fn form_page<'a>(call: &Call, form: &'a Form) -> Result<NewTokenPage<'a>> {
    call.ctx.reach(Permission::ManageApiKeys)?;
    let groups = GROUPS.iter().map(|(name, permissions)| {
        let held = permissions.iter().copied().filter(|permission| call.may(*permission));
        (*name, held.collect::<Vec<_>>())
    });
    Ok(NewTokenPage {
        form,
        groups: groups.filter(|(_, held)| !held.is_empty()).collect(),
        must_be_bound: !call.may_everywhere(Permission::ManageApiKeys),
        key: Uuid::now_v7().to_string(),
    })
}

/// The permissions by what they are about.
const GROUPS: &[(&str, &[Permission])] = &[
    (
        "Tenants",
        &[
            Permission::ViewTenants,
            Permission::CreateTenant,
            Permission::UpdateTenant,
            Permission::DeleteTenant,
            Permission::ExportTenant,
            Permission::ImportTenant,
            Permission::ManageArchives,
        ],
    ),
    (
        "People and credentials",
        &[
            Permission::ViewUsers,
            Permission::ManageMembers,
            Permission::ResetUserPassword,
            Permission::ManageApiKeys,
            Permission::ManageSigningKeys,
        ],
    ),
    (
        "Operations",
        &[
            Permission::ViewFleet,
            Permission::MigrateFleet,
            Permission::ViewSettings,
            Permission::ViewAudit,
        ],
    ),
    (
        "Data",
        &[
            Permission::ReadProfiles,
            Permission::WriteProfiles,
            Permission::BulkProfiles,
            Permission::CrossTenant,
        ],
    ),
];

/// Creates a token, and shows its secret once on the page that follows.
pub(super) async fn create(call: &Call) -> Answer {
    let reach = call.ctx.reach(Permission::ManageApiKeys)?;
    let form = &call.form;
    let name = form.required("name", |text| Ok(text.to_owned()));
    let permissions = permissions(form);
    let expires_at = form.optional("expires_at", day);
    let tenant = match form.text("tenant") {
        "" => None,
        named => match named_tenant(call, named).await {
            Ok(tenant) if reach.covers(tenant) => Some(tenant),
            Ok(_) | Err(Error::NotFound(_)) => {
                form.refuse("tenant", Rule::UnknownTenant);
                None
            }
            Err(error) => return Err(error),
        },
    };
    let error = match name.filter(|_| form.is_good()) {
        None => Error::Invalid(Vec::new()),
        Some(_) if !call.take_form().await? => {
            return call.done(HERE, "This form was sent before, and made one token.");
        }
        Some(name) => {
            let new = NewToken { name, permissions, expires_at, tenant };
            match call.services().tokens.create(&call.ctx, new).await {
                Ok((_, secret)) => {
                    let sentence =
                        "The token is created. Keep its secret now: it is not shown again.";
                    return call.done_with_secret(HERE, sentence, secret.expose());
                }
                Err(error) => form.take(error.with_field("expiresAt", "expires_at"))?,
            }
        }
    };
    let content = form_page(call, form)?;
    let html = call.page(Area::Tokens, "New token").api("/control/v1/tokens").html(&content)?;
    Ok(HttpResponse::from_error(Problem::shown(error, html)))
}

async fn named_tenant(call: &Call, named: &str) -> Result<TenantId> {
    let which = TenantRef::IdOrSlug(named.to_owned());
    Ok(call.services().tenants.read(&call.ctx, &which).await?.id)
}

fn permissions(form: &Form) -> Vec<Permission> {
    let given = form.all("permissions");
    let parsed: Vec<_> = given.iter().filter_map(|name| name.parse().ok()).collect();
    if parsed.len() != given.len() {
        form.refuse("permissions", Rule::Permission);
    } else if parsed.is_empty() {
        form.refuse("permissions", Rule::Required);
    }
    parsed
}

/// Asks before a token is revoked.
pub(super) async fn ask_to_revoke(call: &Call) -> Answer {
    call.ctx.reach(Permission::ManageApiKeys)?;
    let content = RevokePage { id: call.id(Noun::Token)? };
    call.page(Area::Tokens, "Revoke a token").api("/control/v1/tokens").show(&content)
}

/// Revokes a token and all that it made.
pub(super) async fn revoke(call: &Call) -> Answer {
    let id = TokenId::new(call.id(Noun::Token)?);
    call.services().tokens.revoke(&call.ctx, id).await?;
    call.done(HERE, "The token is revoked, and all that it made.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_is_in_one_group() {
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, all)| all.iter().copied()).collect();
        grouped.sort();
        assert_eq!(grouped, Permission::ALL);
    }
}
