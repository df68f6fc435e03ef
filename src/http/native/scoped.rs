//! A call on a route that works inside of one tenant ("Authentication", "Getting Started").

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use super::Problem;
use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::{Error, Result};
use crate::domain::names::TenantId;
use crate::domain::rule::Rule;
use crate::http::extract::{TENANT_HEADER, identify, named_tenant};

/// Whoever calls, and the tenant that `x-tenant-id` names. The host names none here: a client that forgets
/// the header is told so, whatever the server is called.
pub(crate) struct Scoped {
    ctx: CallContext,
    named: Result<Option<TenantId>>,
}

impl FromRequest for Scoped {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let ctx = identify(&request).await.map_err(Problem)?;
            Ok(Self { ctx, named: named_tenant(&request) })
        })
    }
}

impl Scoped {
    /// The context and the tenant, for a caller who holds the permission there: the named one, else the one
    /// that the credential is bound to. Lets a handler refuse before it looks at the body; the service asks
    /// again, and that is the check that counts.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], [`Error::Forbidden`] where the caller holds it nowhere or not there,
    /// [`Error::Invalid`] where the tenant is not named or not by a UUID.
    pub(crate) fn with(self, permission: Permission) -> Result<(CallContext, TenantId)> {
        self.ctx.reach(permission)?;
        let tenant = self.named?.or_else(|| self.ctx.principal.home());
        let tenant = tenant.ok_or_else(|| Error::invalid(TENANT_HEADER, Rule::Required))?;
        self.ctx.require_in(permission, tenant)?;
        Ok((self.ctx, tenant))
    }
}
