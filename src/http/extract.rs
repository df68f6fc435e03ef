//! Determines the caller and the tenant of a request before its handler runs.
//!
//! Plain functions that return a [`domain::Error`](crate::domain::Error); the extractors of each dialect call them
//! and answer in the dialect's own form. A handler with several extractors has one caller and one tenant: both are
//! determined and counted once a request.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest, web};
use percent_encoding::percent_decode_str;
use tokio::sync::OnceCell;

use super::middleware::RequestId;
use super::{Site, host, refusals};
use crate::auth::{CallContext, Principal};
use crate::domain::error::{AuthProblem, Error, Noun, Result};
use crate::domain::names::{Slug, TenantId};
use crate::domain::percent::is_well_formed;
use crate::domain::rule::Rule;
use crate::domain::{Access, UserAgent};
use crate::service::tenants::{Entered, SharedTx, TenantRef, TenantTx};

pub use super::host::TENANT_HEADER;

/// The header of an API key, which replaces a bearer token.
pub const API_KEY_HEADER: &str = "x-api-key";

/// The caller of a request, once it was looked for.
#[derive(Clone, Default)]
struct Identified(Rc<OnceCell<Caller>>);

/// The outcome of the search for a caller. A fault of the server is none: the next extractor tries again.
enum Caller {
    Known(CallContext),
    Refused(AuthProblem),
    Limited(Duration),
}

/// The tenant of a request, once it was entered.
#[derive(Clone, Default)]
struct Inside(Rc<InsideState>);

#[derive(Default)]
struct InsideState {
    entered: OnceCell<Entered>,
    /// Whether the request was counted for the tenant.
    is_counted: Cell<bool>,
}

/// Recognises the caller of a request and counts the request, both once.
///
/// # Errors
/// [`Error::Unauthenticated`] for a bad credential and for two of them, [`Error::TooMany`].
pub(super) async fn identify(request: &HttpRequest) -> Result<CallContext> {
    let Identified(found) = shared(request);
    let caller = found.get_or_try_init(|| async {
        match recognise_caller(request).await {
            Ok(ctx) => Ok(Caller::Known(ctx)),
            Err(Error::Unauthenticated(problem)) => Ok(Caller::Refused(problem)),
            Err(Error::TooMany { retry_after }) => Ok(Caller::Limited(retry_after)),
            Err(error) => Err(error),
        }
    });
    match caller.await? {
        Caller::Known(ctx) => Ok(ctx.clone()),
        Caller::Refused(problem) => Err(Error::Unauthenticated(*problem)),
        Caller::Limited(wait) => Err(Error::TooMany { retry_after: *wait }),
    }
}

async fn recognise_caller(request: &HttpRequest) -> Result<CallContext> {
    let (presented, principal) = find_caller(request).await?;
    refusals::remember(request, &principal);
    site(request).limits.request(presented, &principal, &shared(request))?;
    Ok(context(request, principal))
}

/// Recognises the caller of a request once more, after it has waited: the rights may have ended. The request was counted
/// before.
///
/// # Errors
/// As [`identify`].
pub(super) async fn recognise_again(request: &HttpRequest) -> Result<CallContext> {
    let (_, principal) = find_caller(request).await?;
    Ok(context(request, principal))
}

/// Returns the credential of a request, and whose it is.
async fn find_caller(request: &HttpRequest) -> Result<(&str, Principal)> {
    let site = site(request);
    let (identity, now) = (&site.services.identity, site.clock.now());
    Ok(match (bearer(request)?, api_key(request)?) {
        (None, None) => ("", Principal::Anonymous),
        (Some(token), None) => {
            site.limits.still_refused(token, &shared(request))?;
            (token, recognise(request, token, identity.of_bearer(token, now)).await?)
        }
        (None, Some(key)) => {
            site.limits.still_refused(key, &shared(request))?;
            (key, recognise(request, key, identity.of_api_key(key, now)).await?)
        }
        // It would be unclear which of the two is the caller.
        (Some(_), Some(_)) => return Err(Error::Unauthenticated(AuthProblem::Several)),
    })
}

/// Begins a transaction in the tenant of a request, for reading or for writing.
///
/// The tenant is resolved, and the request counted for it, once. It is counted only once the caller is known to have
/// access, so that other callers cannot use up the tenant's limit, and before a connection is taken.
///
/// # Errors
/// [`Error::NotFound`] also for a tenant that the caller may not enter; [`Error::Forbidden`] for a caller who may not
/// read, or not write, in it.
pub(super) async fn begin(request: &HttpRequest, access: Access) -> Result<TenantTx> {
    let ctx = identify(request).await?;
    ctx.require_authenticated()?;
    let (site, Inside(inside)) = (site(request), shared(request));
    let count = |tenant| {
        if !inside.is_counted.get() {
            site.limits.request_inside(&ctx.principal, tenant, &shared(request))?;
            inside.is_counted.set(true);
        }
        Ok::<_, Error>(())
    };
    let entered = inside.entered.get_or_try_init(|| async {
        let which = resolve(request, &ctx.principal)?;
        // The rights are those of the credential: they tell without a query whether the request counts.
        if let TenantRef::Id(id) = &which
            && ctx.require_in(access.permission(), *id).is_ok()
        {
            count(*id)?;
        }
        site.services.tenants.enter(&ctx, &which).await
    });
    let entered = entered.await?;
    ctx.require_in(access.permission(), entered.id())?;
    count(entered.id())?;
    site.services.tenants.begin(&ctx, entered, access).await
}

/// Begins a transaction on the tables that all tenants of an application share.
///
/// # Errors
/// Those of the database.
pub(super) async fn begin_shared(request: &HttpRequest, access: Access) -> Result<SharedTx> {
    site(request).services.tenants.shared_unauthorized(access).await
}

/// Returns the value that all extractors of a request share.
pub(super) fn shared<T: Clone + Default + 'static>(request: &HttpRequest) -> T {
    let mut extensions = request.extensions_mut();
    if let Some(value) = extensions.get::<T>() {
        return value.clone();
    }
    let value = T::default();
    extensions.insert(value.clone());
    value
}

/// Looks a credential up, unless its address has sent too many wrong ones.
pub(super) async fn recognise<T>(
    request: &HttpRequest,
    presented: &str,
    look_up: impl Future<Output = Result<T>>,
) -> Result<T> {
    let attempt = site(request).limits.credential(presented, client(request)).await?;
    // Boxed, because the future of each caller would hold it twice.
    let found = Box::pin(look_up).await;
    attempt.settle(&found);
    found
}

/// Returns the client's address; the proxy's if no proxy is trusted.
pub(super) fn client(request: &HttpRequest) -> Option<IpAddr> {
    site(request).settings.proxies.client_of(request.head())
}

/// Returns the user agent; empty if the client sends none.
pub(super) fn user_agent(request: &HttpRequest) -> UserAgent {
    let header = request.headers().get(header::USER_AGENT);
    header.map(|value| UserAgent::read(value.as_bytes())).unwrap_or_default()
}

/// Returns the decoded part of the path that `{name}` stands for.
pub(super) fn path(request: &HttpRequest, name: &str) -> Result<String> {
    let missing = || Error::NotFound(Noun::Route);
    let raw = request.match_info().get(name).ok_or_else(missing)?;
    if !is_well_formed(raw) {
        return Err(missing());
    }
    percent_decode_str(raw).decode_utf8().map(Cow::into_owned).map_err(|_not_text| missing())
}

/// Returns the parameters of the query, in their order.
pub(super) fn parameters(request: &HttpRequest) -> Result<Vec<(String, String)>> {
    web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map(web::Query::into_inner)
        .map_err(|_unreadable| Error::invalid("?", Rule::Unknown))
}

/// Returns the site of a request.
pub(super) fn site(request: &HttpRequest) -> &web::Data<Site> {
    request.app_data().expect("the site is mounted with the routes")
}

/// Returns the context that service methods take.
pub(super) fn context(request: &HttpRequest, principal: Principal) -> CallContext {
    let request_id =
        request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    CallContext { principal, request_id, client: client(request), now: site(request).clock.now() }
}

/// Returns the token of an `Authorization: Bearer` header; more than one is refused. Another scheme is an unknown
/// credential.
pub(super) fn bearer(request: &HttpRequest) -> Result<Option<&str>> {
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::Unauthenticated(AuthProblem::Several));
    }
    let refused = || Error::Unauthenticated(AuthProblem::Invalid);
    let (scheme, token) =
        value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(refused)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(refused()) }
}

/// Returns the API key; more than one is refused.
fn api_key(request: &HttpRequest) -> Result<Option<&str>> {
    let mut values = request.headers().get_all(API_KEY_HEADER);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::Unauthenticated(AuthProblem::Several));
    }
    let text = value.to_str().map_err(|_no_text| Error::Unauthenticated(AuthProblem::Invalid))?;
    Ok(Some(text.trim()))
}

/// Returns the tenant that the header names, if it is present. It is present once at most:
/// [`refuse_ambiguous`](host::refuse_ambiguous).
pub(super) fn named_tenant(request: &HttpRequest) -> Result<Option<TenantId>> {
    let Some(value) = request.headers().get(TENANT_HEADER) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    let id = id.ok_or_else(|| Error::invalid(TENANT_HEADER, Rule::UuidFormat))?;
    Ok(Some(TenantId::new(id)))
}

/// Determines the tenant of a request: the one in the header, else the one of the credential, else the one of the
/// host name. A credential that is bound to a tenant ignores the host.
fn resolve(request: &HttpRequest, principal: &Principal) -> Result<TenantRef> {
    if let Some(tenant) = named_tenant(request)?.or_else(|| principal.home()) {
        return Ok(TenantRef::Id(tenant));
    }
    tenant_of_host(request)?
        .map(TenantRef::Slug)
        .ok_or_else(|| Error::invalid(TENANT_HEADER, Rule::Required))
}

/// Returns the tenant that the host of a request names, if it names one.
pub(super) fn tenant_of_host(request: &HttpRequest) -> Result<Option<Slug>> {
    Ok(site(request).settings.hosts.slug_of(&requested_host(request)?))
}

/// Returns the host that the client requested, with its port if it has one.
pub(super) fn requested_host(request: &HttpRequest) -> Result<String> {
    let proxies = &site(request).settings.proxies;
    host::requested(request.head(), proxies).map_err(Error::Malformed)
}
