//! Reads a request of this dialect: who calls, in which tenant, with which parameters.

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
use crate::domain::error::{AuthProblem, Error, FieldProblem, Malformed, Noun, Result, Rule};
use crate::domain::names::Slug;
use crate::domain::profile::{Document, Identity, Lifetime, MonthOrMinute, parse_length};
use crate::domain::{Tenant, TenantId, TenantStatus};
use crate::http::Site;
use crate::http::extract::{self, Body};
use crate::service::Services;
use crate::service::tenants::TenantRef;

/// The credential.
const TOKEN_HEADER: &str = "x-bunker-token";

/// The tenant, by name.
const TENANT_HEADER: &str = "x-bunker-tenant";

/// Rows on a page where nobody says.
const PAGE: i64 = 10;

/// Most rows on a page, and what a limit that makes no sense becomes.
const PAGE_MAX: i64 = 100;

/// A request with a credential that was recognised.
pub(super) struct Call {
    pub(super) ctx: CallContext,
    pub(super) params: Params,
    site: web::Data<Site>,
    /// The tenant that the request names, by header or host.
    named: Option<Result<Slug, Rule>>,
    /// Whether the header names it, which is meant; a host may be called anything.
    by_header: bool,
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
            let principal = match presented {
                "" => return Err(Problem(Error::Unauthenticated(AuthProblem::Missing))),
                token => site.services.identity.of_xtoken(token, site.clock.now()).await?,
            };
            let ctx = extract::context(&request, principal);
            let by_header = request.headers().contains_key(TENANT_HEADER);
            let named = if by_header {
                Some(Slug::parse(header(request.headers(), TENANT_HEADER).unwrap_or_default()))
            } else {
                let base = site.settings.base_domain.as_deref();
                extract::slug_of_host(request.connection_info().host(), base).map(Ok)
            };
            let bytes = body.read().await?;
            Ok(Self { ctx, params: Params::read(&bytes)?, site, named, by_header })
        })
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

impl Call {
    pub(super) fn services(&self) -> &Services {
        &self.site.services
    }

    /// The tenant that the call works in.
    ///
    /// A bound credential never leaves its tenant: beside another tenant's name it is refused, whether or
    /// not there is such a tenant. The root works in the tenant that is named, or in the main one.
    pub(super) async fn tenant(&self) -> Result<Tenant> {
        let named = match &self.named {
            // An empty header is as good as none; a name that can be nobody's is nobody's.
            None | Some(Err(Rule::Required)) => None,
            Some(Err(_)) => Some(None),
            Some(Ok(slug)) => {
                Some(self.services().tenants.find(&TenantRef::Slug(slug.clone())).await?)
            }
        };
        let tenant = match (self.ctx.principal.home(), named) {
            (Some(home), Some(Some(named))) if named.id == home => named,
            // The host may be called anything; a header means what it says.
            (Some(home), None) => self.by_id(home).await?,
            (Some(home), Some(None)) if !self.by_header => self.by_id(home).await?,
            (Some(_), _) => return Err(Error::Forbidden { missing: Vec::new() }),
            (None, Some(named)) => named.ok_or(Error::NotFound(Noun::Tenant))?,
            (None, None) => self.services().provisioning.main_tenant(&self.ctx).await?,
        };
        if tenant.status == TenantStatus::Active {
            Ok(tenant)
        } else {
            Err(Error::NotFound(Noun::Tenant))
        }
    }

    async fn by_id(&self, id: TenantId) -> Result<Tenant> {
        let found = self.services().tenants.find(&TenantRef::Id(id)).await?;
        found.ok_or(Error::Unauthenticated(AuthProblem::Invalid))
    }

    /// The tenant that the parameters name by `tenantid` or `tenantname`, if they do.
    pub(super) async fn tenant_param(&self) -> Result<Option<Tenant>> {
        let which = match (self.params.integer("tenantid")?, self.params.text("tenantname")?) {
            (Some(number), _) => TenantRef::Number(number),
            (None, Some(name)) => match Slug::parse(&name) {
                Ok(slug) => TenantRef::Slug(slug),
                Err(rule) => return Err(Error::invalid("tenantname", rule)),
            },
            (None, None) => return Ok(None),
        };
        self.services().tenants.find(&which).await?.ok_or(Error::NotFound(Noun::Tenant)).map(Some)
    }

    /// Whether a header or the host names a tenant.
    pub(super) const fn names_a_tenant(&self) -> bool {
        self.named.is_some()
    }
}

/// The parameters of a call.
pub(super) struct Params(Value);

impl Params {
    /// Reads a body; none at all is an empty object.
    fn read(body: &[u8]) -> Result<Self> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Value::Object(serde_json::Map::new())));
        }
        match serde_json::from_slice(body) {
            // A list is a JSON patch in v1; anywhere else every parameter is missing from it.
            Ok(params @ (Value::Object(_) | Value::Array(_))) => Ok(Self(params)),
            Ok(_) => Err(Error::Malformed(Malformed::NotAnObject)),
            Err(error) => Err(Error::Malformed(Malformed::Json {
                line: error.line(),
                column: error.column(),
            })),
        }
    }

    /// All of them; v1 sends the profile itself.
    pub(super) fn into_value(self) -> Value {
        self.0
    }

    /// A parameter, unless it is absent or null.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Error::invalid(name, Rule::Type("string"))),
        }
    }

    /// A text that must be there.
    pub(super) fn required(&self, name: &'static str) -> Result<String> {
        self.text(name)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Error::invalid(name, Rule::Required))
    }

    /// Names every parameter that is missing, at once.
    pub(super) fn require_all(&self, names: &[&'static str]) -> Result<()> {
        let missing: Vec<_> = names
            .iter()
            .filter(|name| self.value(name).is_none())
            .map(|name| FieldProblem::new(*name, Rule::Required))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::Invalid(missing)) }
    }

    /// A whole number, also as a text of digits.
    pub(super) fn integer(&self, name: &'static str) -> Result<Option<i64>> {
        let number = match self.value(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| Error::invalid(name, Rule::Type("number")))
    }

    /// A list that must be there and hold something.
    pub(super) fn list(&self, name: &'static str) -> Result<&Vec<Value>> {
        match self.value(name) {
            Some(Value::Array(items)) if !items.is_empty() => Ok(items),
            None | Some(Value::Array(_)) => Err(Error::invalid(name, Rule::Required)),
            Some(_) => Err(Error::invalid(name, Rule::Type("array"))),
        }
    }

    /// Where a page begins and how long it is: 10 rows by default, 100 where the limit makes no sense.
    pub(super) fn page(&self) -> Result<(i64, i64)> {
        let offset = self.integer("offset")?.unwrap_or(0).max(0);
        let limit = self.integer("limit")?.unwrap_or(PAGE);
        Ok((offset, if (1..=PAGE_MAX).contains(&limit) { limit } else { PAGE_MAX }))
    }

    /// The person that `mode` and `identity` name. A number is as good as its text: that is how some
    /// clients send telephone numbers.
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

    /// The document under a name.
    pub(super) fn document(&self, name: &'static str) -> Result<Document> {
        let value = self.value(name).ok_or_else(|| Error::invalid(name, Rule::Required))?;
        Document::parse(value.clone()).map_err(|rule| Error::invalid(name, rule))
    }

    /// How long a record is to live.
    pub(super) fn lifetime(&self, now: time::OffsetDateTime) -> Result<Lifetime> {
        let (final_time, sliding_time) = (self.length("finaltime")?, self.length("slidingtime")?);
        Lifetime::parse(final_time, sliding_time, now)
            .map_err(|problem| Error::Invalid(vec![problem]))
    }

    /// How long a credential is to live: its end or its sliding time, whichever is given.
    pub(super) fn credential_lifetime(&self) -> Result<Option<Duration>> {
        for name in ["finaltime", "slidingtime"] {
            if let Some(text) = self.length(name)? {
                let length = parse_length(&text, MonthOrMinute::Minute);
                return length.map(Some).ok_or_else(|| Error::invalid(name, Rule::Lifetime));
            }
        }
        Ok(None)
    }

    /// A length of time as a text; a number is one of seconds, an empty text is none.
    fn length(&self, name: &'static str) -> Result<Option<String>> {
        match self.value(name) {
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            _ => Ok(self.text(name)?.filter(|text| !text.trim().is_empty())),
        }
    }

    /// A UUID that must be there.
    pub(super) fn uuid(&self, name: &'static str) -> Result<Uuid> {
        Uuid::try_parse(&self.required(name)?)
            .map_err(|_no_uuid| Error::invalid(name, Rule::TokenUuid))
    }

    /// The unlock that a bulk call must carry. What is no UUID at all is answered like one that is not
    /// good: it opens nothing.
    pub(super) fn unlock(&self) -> Result<String> {
        self.required("unlockuuid")
    }
}

/// The person that an entry of a list names.
pub(super) fn identity_of(entry: &Value) -> Result<Identity> {
    match entry {
        Value::Object(_) => Params(entry.clone()).identity(),
        _ => Err(Error::Invalid(vec![FieldProblem::new("users", Rule::Type("object"))])),
    }
}
