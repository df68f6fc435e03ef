//! Extractors for our own handlers and an application's: the caller, and a transaction in the caller's tenant.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use super::Problem;
use crate::auth::{CallContext, Principal};
use crate::domain::error::Result;
use crate::domain::{Access, Permission};
use crate::http::extract::{begin, begin_shared, context, identify};
use crate::service::tenants::{SharedTx, TenantTx};

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

impl FromRequest for TenantTx {
    type Error = actix_web::Error;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(begin(&request, Access::Read).await.map_err(Problem)?) })
    }
}

/// A transaction that reads only: in the caller's tenant, or on the shared tables with `Read<SharedTx>`.
///
/// It is what a [`TenantTx`] is by itself, said by the type.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Read<T = TenantTx>(pub T);

/// A transaction that may write: in the caller's tenant, or on the shared tables with `Write<SharedTx>`.
///
/// In a tenant the caller needs the permission `WRITE_PROFILES`, which the roles `FDE` and above have; a token or an API
/// key has it only if it was given. Without it the answer is 403, and the handler does not run. The tenant is found as
/// for a [`TenantTx`]. What is not committed is rolled back; a handler that answers well and has not committed what it wrote
/// is named in the log.
///
/// ```no_run
/// use actix_web::{HttpResponse, post};
/// use rowhouse::{Problem, Write};
/// use uuid::Uuid;
///
/// #[post("/notes")]
/// async fn add(Write(tx): Write, body: String) -> Result<HttpResponse, Problem> {
///     tx.execute("INSERT INTO notes (id, body) VALUES ($1, $2)", &[&Uuid::now_v7(), &body]).await?;
///     tx.commit().await?;
///     Ok(HttpResponse::Created().finish())
/// }
/// ```
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Write<T = TenantTx>(pub T);

/// Declares the extractor of a transaction for reading or writing.
macro_rules! extractor {
    ($($access:ident($tx:ident) = $begin:expr;)+) => {$(
        impl FromRequest for $access<$tx> {
            type Error = actix_web::Error;
            type Future = Extraction<Self>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                let request = request.clone();
                Box::pin(async move {
                    let tx = $begin(&request, Access::$access).await;
                    Ok(tx.map(Self).map_err(Problem)?)
                })
            }
        }

        impl Deref for $access<$tx> {
            type Target = $tx;

            fn deref(&self) -> &$tx {
                &self.0
            }
        }
    )+};
}

extractor! {
    Read(TenantTx) = begin;
    Write(TenantTx) = begin;
    Read(SharedTx) = begin_shared;
    Write(SharedTx) = begin_shared;
}
