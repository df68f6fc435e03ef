//! The users of a tenant: `/api/user/tenant-users` ("List Tenant Users").

use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::error::{Error, FieldProblem, Result, Rule};
use crate::domain::{Permission, Role};
use crate::http::Site;
use crate::http::native::scoped::Scoped;
use crate::http::native::{ErrorBody, Problem};
use crate::service::members::Member;

/// Users on a page where nobody says.
const LIMIT: u32 = 20;

/// Most users on a page; a larger wish is refused and not cut.
const LIMIT_MAX: u32 = 100;

/// The last page that can be asked for.
const PAGE_MAX: u32 = 1_000_000;

/// A page of users.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserPage {
    data: Vec<TenantUser>,
    meta: PageMeta,
}

/// A user of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantUser {
    id: uuid::Uuid,
    email: String,
    first_name: String,
    last_name: String,
    /// The role in this tenant, and the one everywhere where there is another; highest first.
    roles: Vec<Role>,
}

/// Where a page is among all.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageMeta {
    page: u32,
    limit: u32,
    /// Users on all pages together.
    total: i64,
    total_pages: i64,
}

/// A page of the tenant's users, those of longest standing first.
#[utoipa::path(tag = "users", operation_id = "RetenListTenantUsers", security(("bearer" = [])),
    params(
        ("x-tenant-id" = Option<uuid::Uuid>, Header, description = "The tenant; an API key has its own"),
        ("page" = Option<u32>, Query, description = "Which page; the first where it is not said", minimum = 1, maximum = 1_000_000),
        ("limit" = Option<u32>, Query, description = "Users on a page; 20 where it is not said", minimum = 1, maximum = 100),
    ),
    responses(
        (status = 200, description = "Users", body = UserPage),
        (status = 400, description = "The tenant is not named, or a parameter is not valid", body = ErrorBody),
        (status = 401, description = "No valid credential", body = ErrorBody),
        (status = 403, description = "VIEW_USERS is missing in this tenant", body = ErrorBody),
        (status = 404, description = "No such tenant, or it does not answer", body = ErrorBody),
        (status = 503, description = "Not available right now; Retry-After says when to come back", body = ErrorBody),
    )
)]
#[get("/api/user/tenant-users")]
pub(super) async fn tenant_users(
    site: web::Data<Site>,
    call: Scoped,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (ctx, tenant) = call.with(Permission::ViewUsers)?;
    let (page, limit) = page_and_limit(&request)?;
    let (total, members) = site.services.members.page(&ctx, tenant, page, limit).await?;
    Ok(HttpResponse::Ok().json(UserPage {
        data: members.into_iter().map(TenantUser::from).collect(),
        meta: PageMeta { page, limit, total, total_pages: pages(total, limit) },
    }))
}

/// How many pages there are; the last one may be short.
fn pages(total: i64, limit: u32) -> i64 {
    let limit = i64::from(limit);
    total / limit + i64::from(total % limit > 0)
}

/// Reads `page` and `limit`; other parameters mean nothing here.
fn page_and_limit(request: &HttpRequest) -> Result<(u32, u32)> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|_unreadable| Error::invalid("query", Rule::Unknown))?;
    let mut problems = Vec::new();
    let mut number = |name: &'static str, default: u32, max: u32| {
        let mut given = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
        let value = match (given.next(), given.next()) {
            (None, _) => Ok(default),
            (Some(text), None) => {
                let in_range = text.parse().ok().filter(|number| (1..=max).contains(number));
                in_range.ok_or(Rule::Range(1, i64::from(max)))
            }
            // Of two nobody could tell which one counts.
            (Some(_), Some(_)) => Err(Rule::Unknown),
        };
        value.map_err(|rule| problems.push(FieldProblem::new(name, rule))).ok()
    };
    match (number("page", 1, PAGE_MAX), number("limit", LIMIT, LIMIT_MAX)) {
        (Some(page), Some(limit)) => Ok((page, limit)),
        _ => Err(Error::Invalid(problems)),
    }
}

impl From<(Member, Option<Role>)> for TenantUser {
    fn from((member, everywhere): (Member, Option<Role>)) -> Self {
        let mut roles: Vec<Role> = everywhere.into_iter().chain([member.role]).collect();
        roles.sort_unstable_by(|one, other| other.cmp(one));
        roles.dedup();
        Self {
            id: member.user.uuid(),
            email: member.email.to_string(),
            first_name: member.first_name.to_string(),
            last_name: member.last_name.to_string(),
            roles,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_may_be_short_and_nobody_fills_none() {
        for (total, limit, expected) in
            [(0, 20, 0), (1, 20, 1), (20, 20, 1), (21, 20, 2), (150, 20, 8), (3, 1, 3)]
        {
            assert_eq!(pages(total, limit), expected, "{total} by {limit}");
        }
    }
}
