//! Reads a request of this dialect: the caller, the tenant, the body.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpRequest, web};

use super::Problem;
use super::params::Params;
use crate::auth::CallContext;
use crate::domain::error::{AuthProblem, Error, Malformed, Noun, Result};
use crate::domain::names::Slug;
use crate::domain::rule::Rule;
use crate::domain::{Permission, Tenant};
use crate::http::Site;
use crate::http::body::{Blank, Body, FieldPolicy, Policy, SMALL, Top};
use crate::http::{extract, refusals};
use crate::service::Services;
use crate::service::tenants::{MAIN_NUMBER, TenantRef};

/// How this dialect reads a body. An array is a JSON patch in v1, and refused elsewhere.
const BODY: Policy =
    Policy { blank: Blank::EmptyObject, top: Top::ObjectOrArray, fields: FieldPolicy::Lenient };

/// The header of the credential.
const TOKEN_HEADER: &str = "x-bunker-token";

/// The header that names the tenant.
const TENANT_HEADER: &str = "x-bunker-tenant";

/// A request with a recognised credential. The parameters are checked after the caller: authorization precedes
/// validation, whatever the body holds.
pub(super) struct Call {
    pub(super) ctx: CallContext,
    params: Result<Params, Malformed>,
    site: web::Data<Site>,
    /// The tenant that the credential is bound to.
    home: Option<Tenant>,
    /// The tenant that the request names.
    named: Named,
}

/// How a request names its tenant.
enum Named {
    /// By the header. `None` is a name that no tenant can have.
    Header(Option<Slug>),
    /// By the host name, below the base domain.
    Host(Slug),
    /// It does not.
    Nowhere,
}

impl FromRequest for Call {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let body = Body::of(&request, payload);
        Box::pin(async move {
            let site = extract::site(&request).clone();
            if request.headers().get_all(TOKEN_HEADER).nth(1).is_some() {
                return Err(Problem(Error::Unauthenticated(AuthProblem::Several)));
            }
            let presented = header(request.headers(), TOKEN_HEADER).unwrap_or_default();
            let (principal, home) = match presented {
                "" => return Err(Problem(Error::Unauthenticated(AuthProblem::Missing))),
                token => {
                    site.limits.still_refused(token, &extract::shared(&request))?;
                    let found = site.services.identity.of_xtoken(token, site.clock.now());
                    extract::recognise(&request, token, found).await?
                }
            };
            refusals::remember(&request, &principal);
            site.limits.request(presented, &principal, &extract::shared(&request))?;
            let ctx = extract::context(&request, principal);
            let named = named(&request)?;
            let params = match body.read().await {
                Ok(bytes) => {
                    let is_large = bytes.len() > SMALL;
                    BODY.read(bytes).await.map(|value| Params::new(value, is_large))
                }
                Err(Error::Malformed(malformed)) => Err(malformed),
                Err(error) => return Err(Problem(error)),
            };
            Ok(Self { ctx, params, site, home, named })
        })
    }
}

/// Returns how a request names its tenant. An empty header counts as none. A header that is not text names no tenant.
fn named(request: &HttpRequest) -> Result<Named> {
    match request.headers().get(TENANT_HEADER).map(|value| value.to_str().map(str::trim)) {
        Some(Ok(name)) if !name.is_empty() => Ok(Named::Header(find_by(name))),
        Some(Err(_no_text)) => Ok(Named::Header(None)),
        Some(Ok(_)) | None => {
            Ok(extract::tenant_of_host(request)?.map_or(Named::Nowhere, Named::Host))
        }
    }
}

/// Returns the slug for a name; `None` if no tenant can have it. The main tenant's is a reserved word, which our own
/// answers give as its name.
fn find_by(name: &str) -> Option<Slug> {
    match Slug::parse(name) {
        Ok(slug) => Some(slug),
        Err(Rule::Reserved) => Some(Slug::stored(name.to_owned())),
        Err(_) => None,
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

impl Call {
    pub(super) fn services(&self) -> &Services {
        &self.site.services
    }

    /// Returns the parameters.
    pub(super) fn params(&self) -> Result<&Params> {
        match &self.params {
            // Only some v1 handlers accept an array; they call `into_parts`.
            Ok(params) if params.is_array() => Err(Error::Malformed(Malformed::NotAnObject)),
            Ok(params) => Ok(params),
            Err(why) => Err(Error::Malformed(*why)),
        }
    }

    /// Returns the tenant that the call works in.
    ///
    /// A bound credential never leaves its tenant. With another tenant's name in the header it is refused, whether or
    /// not that tenant exists; the host does not matter to it. The root works in the named tenant; with a host that
    /// can be no tenant's, in the main one.
    pub(super) async fn tenant(&self) -> Result<Tenant> {
        let tenant = match &self.home {
            Some(home) => self.at_home(home)?.clone(),
            None => self.anywhere().await?,
        };
        tenant.require_answering()?;
        Ok(tenant)
    }

    /// Returns the tenant of a bound credential, unless the header names another one.
    fn at_home<'a>(&self, home: &'a Tenant) -> Result<&'a Tenant> {
        match &self.named {
            Named::Header(slug) if slug.as_ref() != Some(&home.slug) => {
                Err(Error::Forbidden { missing: Vec::new() })
            }
            Named::Header(_) | Named::Host(_) | Named::Nowhere => Ok(home),
        }
    }

    /// Returns the named tenant, or the main one. A tenant that is named and does not exist is not replaced by the main
    /// one: after a rename, what is meant for the tenant would be written there.
    async fn anywhere(&self) -> Result<Tenant> {
        let found = match &self.named {
            Named::Nowhere => return self.main_tenant().await,
            Named::Header(None) => None,
            Named::Header(Some(slug)) | Named::Host(slug) => self.find(slug).await?,
        };
        found.ok_or(Error::NotFound(Noun::Tenant))
    }

    async fn find(&self, slug: &Slug) -> Result<Option<Tenant>> {
        self.services().tenants.find_unauthorized(&TenantRef::Slug(slug.clone())).await
    }

    /// Returns the tenant that the call works in, if the caller holds the permission there. The service checks again,
    /// and that check is the authoritative one.
    pub(super) async fn tenant_for(&self, permission: Permission) -> Result<Tenant> {
        self.ctx.reach(permission)?;
        let tenant = self.tenant().await?;
        if self.ctx.principal.may_in(permission, tenant.id) {
            Ok(tenant)
        } else {
            Err(Error::missing(permission))
        }
    }

    async fn main_tenant(&self) -> Result<Tenant> {
        match self.services().tenants.find_unauthorized(&TenantRef::Number(MAIN_NUMBER)).await? {
            Some(tenant) => Ok(tenant),
            None => self.services().provisioning.main_tenant(&self.ctx).await,
        }
    }

    /// Returns the tenant that the parameters name by `tenantid` or `tenantname`, if they do.
    pub(super) async fn tenant_param(&self) -> Result<Option<Tenant>> {
        let params = self.params()?;
        let which = match (params.integer("tenantid")?, params.text("tenantname")?) {
            (Some(number), _) => TenantRef::Number(number),
            (None, Some(name)) => {
                TenantRef::Slug(find_by(&name).ok_or(Error::NotFound(Noun::Tenant))?)
            }
            (None, None) => return Ok(None),
        };
        self.services()
            .tenants
            .find_unauthorized(&which)
            .await?
            .ok_or(Error::NotFound(Noun::Tenant))
            .map(Some)
    }

    /// Returns whether a header or the host names a tenant.
    pub(super) const fn names_a_tenant(&self) -> bool {
        !matches!(self.named, Named::Nowhere)
    }

    /// Refuses a caller without the permission for bulk calls, then a missing or invalid unlock.
    pub(super) async fn unlocked(&self) -> Result<()> {
        let unlock = self.params.as_ref().ok().and_then(Params::unlock);
        self.services().system.check_unlock(&self.ctx, unlock).await
    }

    /// Splits the call, for handlers whose body as a whole is a document.
    pub(super) fn into_parts(self) -> (CallContext, Services, Result<Params>) {
        (self.ctx, self.site.services.clone(), self.params.map_err(Error::Malformed))
    }
}
