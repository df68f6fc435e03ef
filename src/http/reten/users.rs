//! The users of a tenant: `/api/user/tenant-users` ("List Tenant Users").

use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::error::{Error, Result};
use crate::domain::rule::{FieldProblem, Rule};
use crate::domain::{Permission, Role};
use crate::http::Site;
use crate::http::native::responses::InTenant;
use crate::http::native::scoped::Scoped;
use crate::http::native::{ErrorBody, Problem};
use crate::http::responses::ViewUsers;
use crate::service::members::Member;

/// Default number of users on a page.
const LIMIT: u32 = 20;

/// Largest number of users on a page; a larger `limit` is refused and not reduced.
const LIMIT_MAX: u32 = 100;

/// The last page that can be requested.
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
    /// The role in this tenant and, if it is another one, the global role; highest first.
    roles: Vec<Role>,
}

/// The position of a page in the list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageMeta {
    page: u32,
    limit: u32,
    /// The number of users on all pages.
    total: i64,
    total_pages: i64,
}

/// Lists the users of the tenant, the earliest member first.
#[utoipa::path(tag = "users", operation_id = "listTenantUsers", security(("bearer" = [])),
    params(
        ("x-tenant-id" = Option<uuid::Uuid>, Header, description = "The tenant; default: the tenant of the API key or of the token"),
        ("page" = Option<u32>, Query, description = "The number of the page; default: 1", minimum = 1, maximum = 1_000_000),
        ("limit" = Option<u32>, Query, description = "Users on a page; default: 20", minimum = 1, maximum = 100),
    ),
    responses(
        (status = 200, description = "A page of users", body = UserPage),
        InTenant<ViewUsers>,
        (status = 400, description = "x-tenant-id is missing or not valid, or a parameter is not valid", body = ErrorBody),
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

/// Returns the number of pages; the last one may be incomplete.
fn pages(total: i64, limit: u32) -> i64 {
    let limit = i64::from(limit);
    total / limit + i64::from(total % limit > 0)
}

/// Reads `page` and `limit`; other parameters are ignored.
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
            // It would be unclear which of the two counts.
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
    fn the_last_page_may_be_incomplete_and_no_users_have_no_page() {
        for (total, limit, expected) in
            [(0, 20, 0), (1, 20, 1), (20, 20, 1), (21, 20, 2), (150, 20, 8), (3, 1, 3)]
        {
            assert_eq!(pages(total, limit), expected, "{total} by {limit}");
        }
    }
}
