//! Reads a request of this dialect: the caller, the tenant, the parameters.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpRequest, web};
use serde_json::Value;
use time::Duration;
use uuid::Uuid;

use super::Problem;
use crate::auth::CallContext;
use crate::domain::error::{AuthProblem, Error, Malformed, Noun, Result};
use crate::domain::names::Slug;
use crate::domain::profile::{Document, Identity, KEY_MAX, Lifetime, MonthOrMinute, parse_length};
use crate::domain::rule::{FieldProblem, Rule};
use crate::domain::{Permission, Tenant, TenantStatus};
use crate::http::Site;
use crate::http::body::{Blank, Body, FieldPolicy, Policy, Top};
use crate::http::extract;
use crate::service::Services;
use crate::service::tenants::{MAIN_NUMBER, TenantRef};

/// How this dialect reads a body. An array is a JSON patch in v1, and refused elsewhere.
const BODY: Policy =
    Policy { blank: Blank::EmptyObject, top: Top::ObjectOrArray, fields: FieldPolicy::Lenient };

/// The header of the credential.
const TOKEN_HEADER: &str = "x-bunker-token";

/// The header that names the tenant.
const TENANT_HEADER: &str = "x-bunker-tenant";

/// Default number of rows on a page.
const PAGE: i64 = 10;

/// Largest number of rows on a page, and the value that replaces an invalid limit.
const PAGE_MAX: i64 = 100;

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
    /// By the host name, which may be unrelated to any tenant.
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
            let presented = header(request.headers(), TOKEN_HEADER).unwrap_or_default();
            let (principal, home) = match presented {
                "" => return Err(Problem(Error::Unauthenticated(AuthProblem::Missing))),
                token => {
                    let found = site.services.identity.of_xtoken(token, site.clock.now());
                    extract::recognise(&request, token, found).await?
                }
            };
            site.limits.request(&principal)?;
            let ctx = extract::context(&request, principal);
            // An empty header counts as none.
            let named = match header(request.headers(), TENANT_HEADER).unwrap_or("?") {
                "" => of_host(&request, &site),
                _ if !request.headers().contains_key(TENANT_HEADER) => of_host(&request, &site),
                name => Named::Header(find_by(name)),
            };
            let params = match body.read().await {
                Ok(bytes) => BODY.parse(&bytes).map(Params),
                Err(Error::Malformed(malformed)) => Err(malformed),
                Err(error) => return Err(Problem(error)),
            };
            Ok(Self { ctx, params, site, home, named })
        })
    }
}

fn of_host(request: &HttpRequest, site: &Site) -> Named {
    let base = site.settings.base_domain.as_deref();
    let slug = extract::slug_of_host(&extract::host(request), base);
    slug.map_or(Named::Nowhere, Named::Host)
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
            Ok(Params(Value::Array(_))) => Err(Error::Malformed(Malformed::NotAnObject)),
            Ok(params) => Ok(params),
            Err(why) => Err(Error::Malformed(*why)),
        }
    }

    /// Returns the tenant that the call works in.
    ///
    /// A bound credential never leaves its tenant: with another tenant's name it is refused, whether or not that tenant
    /// exists. The root works in the named tenant, or in the main one.
    pub(super) async fn tenant(&self) -> Result<Tenant> {
        let tenant = match &self.home {
            Some(home) => self.at_home(home).await?.clone(),
            None => self.anywhere().await?,
        };
        if tenant.status == TenantStatus::Active {
            Ok(tenant)
        } else {
            Err(Error::NotFound(Noun::Tenant))
        }
    }

    /// Returns the tenant of a bound credential, unless the request names another one.
    async fn at_home<'a>(&self, home: &'a Tenant) -> Result<&'a Tenant> {
        let another = match &self.named {
            Named::Nowhere => false,
            Named::Header(slug) => slug.as_ref() != Some(&home.slug),
            // Any host name will do unless it is another tenant's.
            Named::Host(slug) => slug != &home.slug && self.find(slug).await?.is_some(),
        };
        if another { Err(Error::Forbidden { missing: Vec::new() }) } else { Ok(home) }
    }

    /// Returns the named tenant, or the main one.
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
    pub(super) fn into_parts(self) -> (CallContext, Services, Result<Value>) {
        let params = self.params.map(|params| params.0).map_err(Error::Malformed);
        (self.ctx, self.site.services.clone(), params)
    }
}

/// The parameters of a call.
pub(super) struct Params(Value);

impl Params {
    /// Returns a parameter, unless it is absent or null.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Returns a text.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Error::invalid(name, Rule::Type("string"))),
        }
    }

    /// Returns a text that must be present and not empty.
    pub(super) fn required(&self, name: &'static str) -> Result<String> {
        self.text(name)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Error::invalid(name, Rule::Required))
    }

    /// Refuses if any of these parameters is missing, and names all that are.
    pub(super) fn require_all(&self, names: &[&'static str]) -> Result<()> {
        let missing: Vec<_> = names
            .iter()
            .filter(|name| self.value(name).is_none())
            .map(|name| FieldProblem::new(*name, Rule::Required))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::Invalid(missing)) }
    }

    /// Returns a whole number, which may be a text of digits.
    pub(super) fn integer(&self, name: &'static str) -> Result<Option<i64>> {
        let number = match self.value(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => whole(number),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| Error::invalid(name, Rule::Type("number")))
    }

    /// Returns an array that must be present and not empty.
    pub(super) fn list(&self, name: &'static str) -> Result<&Vec<Value>> {
        match self.value(name) {
            Some(Value::Array(items)) if !items.is_empty() => Ok(items),
            None | Some(Value::Array(_)) => Err(Error::invalid(name, Rule::Required)),
            Some(_) => Err(Error::invalid(name, Rule::Type("array"))),
        }
    }

    /// Returns the offset and the limit of a page: 10 rows by default, 100 if the limit is out of range.
    pub(super) fn page(&self) -> Result<(i64, i64)> {
        let offset = self.integer("offset")?.unwrap_or(0).max(0);
        let limit = self.integer("limit")?.unwrap_or(PAGE);
        Ok((offset, if (1..=PAGE_MAX).contains(&limit) { limit } else { PAGE_MAX }))
    }

    /// Returns the person that `mode` and `identity` name. A number counts as its text: some clients send telephone
    /// numbers so.
    pub(super) fn identity(&self) -> Result<Identity> {
        let mode = self.text("mode")?.ok_or_else(|| Error::invalid("mode", Rule::Required))?;
        let identity = match self.value("identity") {
            Some(Value::Number(number)) => number.to_string(),
            _ => {
                self.text("identity")?.ok_or_else(|| Error::invalid("identity", Rule::Required))?
            }
        };
        Identity::parse(&mode, &identity).map_err(|problem| Error::Invalid(vec![problem]))
    }

    /// Returns the document under a name.
    pub(super) fn document(&self, name: &'static str) -> Result<Document> {
        let value = self.value(name).ok_or_else(|| Error::invalid(name, Rule::Required))?;
        Document::parse(value.clone()).map_err(|rule| Error::invalid(name, rule))
    }

    /// Returns the requested lifetime of a record.
    pub(super) fn lifetime(&self, now: time::OffsetDateTime) -> Result<Lifetime> {
        let (final_time, sliding_time) = (self.length("finaltime")?, self.length("slidingtime")?);
        Lifetime::parse(final_time, sliding_time, now)
            .map_err(|problem| Error::Invalid(vec![problem]))
    }

    /// Returns the requested lifetime of a credential: its end or its sliding time, whichever is given.
    pub(super) fn credential_lifetime(&self) -> Result<Option<Duration>> {
        for name in ["finaltime", "slidingtime"] {
            if let Some(text) = self.length(name)? {
                let length = parse_length(&text, MonthOrMinute::Minute);
                return length.map(Some).ok_or_else(|| Error::invalid(name, Rule::Lifetime));
            }
        }
        Ok(None)
    }

    /// Returns a length of time as a text; a number counts as seconds, an empty text as absent.
    fn length(&self, name: &'static str) -> Result<Option<String>> {
        match self.value(name) {
            Some(Value::Number(number)) => Ok(Some(match whole(number) {
                Some(seconds) => seconds.to_string(),
                None => number.to_string(),
            })),
            _ => Ok(self.text(name)?.filter(|text| !text.trim().is_empty())),
        }
    }

    /// Returns a UUID that must be present.
    pub(super) fn uuid(&self, name: &'static str) -> Result<Uuid> {
        Uuid::try_parse(&self.required(name)?)
            .map_err(|_no_uuid| Error::invalid(name, Rule::TokenUuid))
    }

    /// Returns the unlock that a bulk call needs. A text that is not a UUID is answered like an invalid unlock.
    pub(super) fn unlock(&self) -> Option<&str> {
        self.value("unlockuuid").and_then(Value::as_str)
    }

    /// Returns the text of a fuzzy search.
    pub(super) fn searchable(&self) -> Result<String> {
        let text = self.required("identity")?;
        if text.chars().count() > KEY_MAX {
            return Err(Error::invalid("identity", Rule::TooLong(KEY_MAX)));
        }
        if text.contains('\0') {
            return Err(Error::invalid("identity", Rule::ControlCharacter));
        }
        match text.trim() {
            "" => Err(Error::invalid("identity", Rule::Required)),
            trimmed => Ok(trimmed.to_owned()),
        }
    }
}

/// Reads a whole number, which JavaScript may write as 53.0.
fn whole(number: &serde_json::Number) -> Option<i64> {
    /// From here on, a float does not represent every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT)?;
        format!("{float:.0}").parse().ok()
    })
}

/// Reads the person that an entry of a list names.
pub(super) fn identity_of(entry: &Value) -> Result<Identity> {
    match entry {
        Value::Object(_) => Params(entry.clone()).identity(),
        _ => Err(Error::Invalid(vec![FieldProblem::new("users", Rule::Type("object"))])),
    }
}
