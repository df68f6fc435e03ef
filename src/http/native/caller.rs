//! Extractors for our own handlers and an application's: the caller, and a transaction in the caller's tenant.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use super::Problem;
use crate::auth::{CallContext, Principal};
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::http::extract::{context, identify, resolve, site};
use crate::service::tenants::TenantTx;

/// The caller, with the context that service methods take. A call without a credential is [`Principal::Anonymous`]; one
/// with a bad credential is refused here.
pub struct Caller(pub CallContext);

impl Caller {
    /// Returns the context if the caller holds the permission everywhere. Lets a handler refuse before it reads the body;
    /// the service checks again, and that check is the authoritative one.
    ///
    /// # Errors
    /// As [`CallContext::require`].
    pub fn with(&self, permission: Permission) -> Result<&CallContext> {
        self.0.require(permission)?;
        Ok(&self.0)
    }
}

/// The context of a route that needs no credential and ignores one that is sent.
pub struct PublicCall(pub CallContext);

type Extraction<T> = Pin<Box<dyn Future<Output = Result<T, actix_web::Error>>>>;

impl FromRequest for PublicCall {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Ok(Self(context(request, Principal::Anonymous))))
    }
}

impl FromRequest for Caller {
    type Error = actix_web::Error;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(identify(&request).await.map(Self).map_err(Problem)?) })
    }
}

/// A transaction inside the caller's tenant, through which an application's handlers reach its tables.
///
/// The tenant is the one in `x-tenant-id`, else the one that the caller's token or API key is bound to, else the one in
/// the host name. Without one the request fails: there is no default. A tenant that the caller does not belong to, a
/// suspended one and one that does not exist all answer 404.
///
/// ```no_run
/// use actix_web::{HttpResponse, get};
/// use rowhouse::{Problem, TenantTx};
///
/// #[get("/notes")]
/// async fn notes(tx: TenantTx) -> Result<HttpResponse, Problem> {
///     let rows = tx.query_and_commit("SELECT body FROM notes ORDER BY id", &[]).await?;
///     let notes: Vec<String> = rows.iter().map(|row| row.get("body")).collect();
///     Ok(HttpResponse::Ok().json(notes))
/// }
/// ```
impl FromRequest for TenantTx {
    type Error = actix_web::Error;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(open(&request).await.map_err(Problem)?) })
    }
}

async fn open(request: &HttpRequest) -> Result<TenantTx> {
    let ctx = identify(request).await?;
    ctx.require_authenticated()?;
    let site = site(request);
    let tenant = resolve(request, &ctx.principal)?;
    let (tenant, tx) = site.services.tenants.open(&ctx, &tenant).await?;
    // Counted only once the caller is known to have access, so that other callers cannot use up the tenant's limit.
    // Nothing has been sent on the transaction yet.
    site.limits.request_inside(&ctx.principal, tenant)?;
    Ok(tx)
}
