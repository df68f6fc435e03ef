//! The extractor of routes that work inside one tenant (Reten's pages "Authentication", "Getting Started").

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

/// The caller, and the tenant that `x-tenant-id` names. The host name does not count here, so that a client that omits
/// the header gets the same error under every host name.
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
    /// Returns the context and the tenant if the caller holds the permission there. The tenant is the named one, else the
    /// one that the credential is bound to. Lets a handler refuse before it reads the body; the service checks again,
    /// and that check is the authoritative one.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], [`Error::Forbidden`] if the caller does not hold the permission there,
    /// [`Error::Invalid`] if the tenant is not named, or not by a UUID.
    pub(crate) fn with(self, permission: Permission) -> Result<(CallContext, TenantId)> {
        self.ctx.reach(permission)?;
        let tenant = self.named?.or_else(|| self.ctx.principal.home());
        let tenant = tenant.ok_or_else(|| Error::invalid(TENANT_HEADER, Rule::Required))?;
        self.ctx.require_in(permission, tenant)?;
        Ok((self.ctx, tenant))
    }
}
