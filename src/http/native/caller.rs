//! Extractors for our own handlers and an application's: the caller, and a transaction in the caller's tenant.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use super::Problem;
use crate::auth::{CallContext, Principal};
use crate::domain::error::Result;
use crate::domain::{Access, Permission};
use crate::http::extract::{begin, context, identify};
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

/// A transaction inside the caller's tenant, through which an application's handlers read its tables.
///
/// It is read-only: the database refuses a statement that would write. A handler that writes asks for
/// [`Write<TenantTx>`](Write). The caller needs the permission `READ_PROFILES`, which every role has; a token or an API
/// key has it only if it was given.
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
        Box::pin(async move { Ok(begin(&request, Access::Read).await.map_err(Problem)?) })
    }
}

/// A transaction inside the caller's tenant that may write.
///
/// The caller needs the permission `WRITE_PROFILES`, which the roles `FDE` and above have; a token or an API key has it
/// only if it was given. Without it the answer is 403, and the handler does not run. The tenant is found as for a
/// [`TenantTx`].
///
/// ```no_run
/// use actix_web::{HttpResponse, post};
/// use rowhouse::{Problem, TenantTx, Write};
/// use uuid::Uuid;
///
/// #[post("/notes")]
/// async fn add(Write(tx): Write<TenantTx>, body: String) -> Result<HttpResponse, Problem> {
///     tx.execute("INSERT INTO notes (id, body) VALUES ($1, $2)", &[&Uuid::now_v7(), &body]).await?;
///     tx.commit().await?;
///     Ok(HttpResponse::Created().finish())
/// }
/// ```
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Write<T>(pub T);

impl FromRequest for Write<TenantTx> {
    type Error = actix_web::Error;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(
            async move { Ok(begin(&request, Access::Write).await.map(Self).map_err(Problem)?) },
        )
    }
}
