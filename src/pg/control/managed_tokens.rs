//! Statements on those rows of `public.tokens` that a caller manages: sees, revokes and, with further conditions,
//! rotates.
//!
//! A caller manages what it could make itself and what is below it. The condition is in SQL, so that a page of a list is
//! full without reading what the caller must not see; the service decides what goes into it.

use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::{TenantId, TokenId, UserId};
use crate::domain::page::Window;
use crate::domain::{Permission, Role, TokenKind};
use crate::pg::Param;
use crate::pg::control::tokens::{ALL, COLUMNS, Token, from_row};
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// The condition that a token, in a row of the table `tokens` under the name `k`, is managed by the caller whom the
/// parameters `$1` to `$9` describe ([`Managed::params`]).
pub(in crate::pg) const IS_MANAGED: &str = "\
    (   $1
     OR (    (NOT $5 OR k.kind = 'api_key')
         AND ($9 OR EXISTS (SELECT FROM tenants t WHERE t.id = k.tenant_id AND t.status = 'active'))
         AND EXISTS (
             SELECT
               FROM unnest($6::uuid[], $7::text[], $8::text[]) AS held (tenant_id, permissions, roles_below)
              WHERE (held.tenant_id = '00000000-0000-0000-0000-000000000000' OR held.tenant_id = k.tenant_id)
                AND (   k.id = $2
                     OR k.parent_id = $2
                     OR ($4 AND k.user_id = $3)
                     OR (    CASE WHEN k.profile_id IS NULL THEN k.permissions ELSE ARRAY['WRITE_PROFILES'] END
                             <@ string_to_array(held.permissions, ',')
                         AND (   $3::uuid IS NULL
                              OR k.user_id = $3
                              OR (    k.user_id IS NOT NULL
                                  AND NOT EXISTS (
                                      SELECT
                                        FROM users u
                                        LEFT JOIN memberships m ON m.user_id = u.id AND m.tenant_id = k.tenant_id
                                       WHERE u.id = k.user_id
                                         AND (   u.platform_role <> ALL (string_to_array(held.roles_below, ','))
                                              OR m.role <> ALL (string_to_array(held.roles_below, ',')))))))))))";

/// A caller, as the condition for what it manages needs it.
#[derive(Debug, Clone)]
pub struct Managed {
    /// Whether the caller manages every token; then the rest does not matter.
    pub everything: bool,
    /// The credential with which it calls.
    pub credential: Option<TokenId>,
    /// The user that it is or works for.
    pub user: Option<UserId>,
    /// Whether it is that user in person: then it manages all that works for the user.
    pub is_user: bool,
    /// Whether it manages API keys alone.
    pub only_api_keys: bool,
    /// What it holds, in one tenant or everywhere. It manages tokens of these tenants alone, or of every tenant.
    held: Held,
}

/// What a caller holds, a place at each index.
#[derive(Debug, Clone)]
struct Held {
    /// The tenants; nil for everywhere.
    tenants: Vec<Uuid>,
    /// The names of the permissions, separated by commas.
    permissions: Vec<String>,
    /// The names of the roles that grant less, separated by commas.
    roles_below: Vec<String>,
    /// Whether everywhere is among the tenants.
    everywhere: bool,
}

/// What a caller holds in one tenant, or everywhere.
#[derive(Debug, Clone)]
pub struct HeldIn {
    /// The tenant; `None` for everywhere.
    pub tenant: Option<TenantId>,
    /// Permissions.
    pub permissions: Vec<Permission>,
    /// Roles that grant less.
    pub roles_below: Vec<Role>,
}

impl Managed {
    /// Describes a caller who holds permissions in these places.
    #[must_use]
    pub fn new(held: &[HeldIn]) -> Self {
        let mut all = Held {
            tenants: Vec::new(),
            permissions: Vec::new(),
            roles_below: Vec::new(),
            everywhere: false,
        };
        for place in held {
            let mut names: Vec<&str> = place.permissions.iter().map(|p| p.as_str()).collect();
            if place.permissions.len() == Permission::ALL.len() {
                names.push(ALL);
            }
            let roles: Vec<&str> = place.roles_below.iter().map(|role| role.as_str()).collect();
            all.tenants.push(place.tenant.map_or(Uuid::nil(), TenantId::uuid));
            all.permissions.push(names.join(","));
            all.roles_below.push(roles.join(","));
            all.everywhere |= place.tenant.is_none();
        }
        Self {
            everything: false,
            credential: None,
            user: None,
            is_user: false,
            only_api_keys: false,
            held: all,
        }
    }

    /// Returns the parameters `$1` to `$9` of [`IS_MANAGED`].
    pub(in crate::pg) fn params(&self) -> Vec<&dyn Param> {
        vec![
            &self.everything as &dyn Param,
            &self.credential,
            &self.user,
            &self.is_user,
            &self.only_api_keys,
            &self.held.tenants,
            &self.held.permissions,
            &self.held.roles_below,
            &self.held.everywhere,
        ]
    }
}

/// Which tokens to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those of this kind; `None` for all kinds but the own tokens of people, which are many and expire soon.
    pub kind: Option<TokenKind>,
    /// Only those that are bound to this tenant.
    pub tenant: Option<TenantId>,
    /// Only those in this state.
    pub state: Option<TokenState>,
    /// Only those with this text in the name, in any case.
    pub q: Option<String>,
}

/// The state of a token.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum TokenState {
    /// It works.
    Active,
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
}

impl TokenState {
    /// All words.
    pub const WORDS: &[&str] = <Self as strum::VariantNames>::VARIANTS;
}

/// Reads the tokens and API keys that the caller manages, oldest first, and one page where a window is given.
pub async fn list(
    tx: &PublicTx,
    managed: &Managed,
    filter: &Filter,
    window: Option<&Window>,
) -> Result<Vec<Token>> {
    let after = window.and_then(|window| window.after);
    let sql = format!(
        "SELECT {COLUMNS}
           FROM tokens k
          WHERE {IS_MANAGED}
            AND CASE
                    WHEN $10::text IS NULL THEN k.profile_id IS NULL
                    WHEN $10 = 'person' THEN k.profile_id IS NOT NULL
                    ELSE k.profile_id IS NULL AND k.kind = $10
                END
            AND ($11::uuid IS NULL OR k.tenant_id = $11)
            AND ($12::timestamptz IS NULL OR (k.created_at, k.id) > ($12, $13))
            AND CASE $15::text
                    WHEN 'active' THEN k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
                    WHEN 'revoked' THEN k.revoked_at IS NOT NULL
                    WHEN 'expired' THEN k.revoked_at IS NULL AND k.expires_at <= now()
                    ELSE true
                END
            AND ($16::text IS NULL OR strpos(lower(k.name), lower($16)) > 0)
          ORDER BY k.created_at, k.id
          LIMIT $14"
    );
    let kind = filter.kind.map(TokenKind::as_str);
    let (at, id) = (after.map(|cursor| cursor.at), after.map(|cursor| cursor.id));
    let limit = window.map(Window::rows_to_read);
    let mut params = managed.params();
    let state = filter.state.map(<&str>::from);
    params.extend([&kind as &dyn Param, &filter.tenant, &at, &id, &limit, &state, &filter.q]);
    let rows = tx.query(&sql, &params).await.during("list token rows")?;
    Ok(rows.iter().map(from_row).collect())
}

/// Reads a token or an API key that the caller manages.
pub async fn lookup(tx: &PublicTx, managed: &Managed, id: TokenId) -> Result<Option<Token>> {
    let sql = format!("SELECT {COLUMNS} FROM tokens k WHERE {IS_MANAGED} AND k.id = $10");
    let mut params = managed.params();
    params.push(&id);
    let row = tx.query_opt(&sql, &params).await.during("read token row")?;
    Ok(row.as_ref().map(from_row))
}
