//! The OpenAPI document: what the handlers describe, and the errors that many operations share.
//!
//! A handler documents the responses that are its own. A missing credential, a body that is too large or compressed, too many
//! requests, an unavailable database and an internal error can be the answer of any operation, in the form of its
//! dialect; they are added here, so that no handler can forget them.
//!
//! [`parts`] makes smaller documents of it, and one in the older form that some generators need.

pub mod parts;

use std::borrow::Cow;

use actix_web::http::header::RETRY_AFTER;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{OpenApi, ToSchema};

use super::limits::{RATE_LIMIT, RATE_LIMIT_POLICY};
use super::{
    Form, Mount, Served, Surface, control, databunker, extract, form, native, reten, webfluss,
};

/// The document without its operations, which are collected as the routes are mounted.
#[derive(OpenApi)]
#[openapi(
    info(title = "Rowhouse"),
    servers((url = "/", description = "The server that this document comes from")),
    // In the order in which they are shown.
    tags(
        (name = "control", description = "Tenants, members, tokens, events and migrations, for dashboards and pipelines: strict bodies, errors as RFC 9457, lists with cursors, changes that can be repeated. Begin here"),
        (name = "tenants", description = "Tenants as clients of Reten know them: set-up with an admin and a password, and lists"),
        (name = "auth", description = "Log-in, refresh and log-out of users, and passwords"),
        (name = "users", description = "The users of a tenant, as clients of Reten know them"),
        (name = "api-keys", description = "API keys, each for one tenant"),
        (name = "databunker", description = "For clients of Databunker Pro: profiles, tenants, bulk calls, and calls across tenants"),
        (name = "webfluss", description = "For clients of WebFluss: creating and reading tenants"),
        (name = "operations", description = "For operators and their tools: health, metrics, public keys, this document"),
    ),
    // Most operations refer to these through `IntoResponses`, which does not add the schema.
    components(schemas(
        native::ErrorBody, control::ProblemBody, databunker::ErrorBody, webfluss::ErrorBody,
    )),
    modifiers(&Credentials),
)]
struct ApiDoc;

/// What a reader of the document sees first: which operation makes a tenant for whom, and with which credential.
const DESCRIPTION: &str = "\
A schema-per-tenant SaaS backend for PostgreSQL. A tenant is created completely or not at all.

### Which way to make a tenant

| For | Operation | Credential |
| --- | --- | --- |
| a pipeline, a test run, infrastructure as code | `PUT /control/v1/tenants/by-external-id/{external_id}` (`ensureTenant`): under your own id, as often as you like: it makes the tenant, or what differs of it, as the body says | `bearer`: an API token |
| a dashboard, a sign-up of your own | `POST /control/v1/tenants` (`createTenant`): with or without an admin, whom you can also invite later | `bearer`: an access token or an API token |
| a client of Reten | `POST /api/tenant/setup` (`setUpTenant`): with an admin and a password | `bearer`: the same |
| a client of WebFluss | `POST /api/tenants` (`createWebflussTenant`) | `bearer`: the same |
| a client of Databunker Pro | `POST /v2/TenantCreate` (`tenantCreate`), or `POST /v1/tenant` | `xtoken`: the root token |

Each of them makes the same tenant. If you are in doubt, take the first.

### Credentials

`bearer` works everywhere but in Databunker's dialect: an API token (`rh_..`, made by `POST /control/v1/tokens` or `rowhouse \
token create`), the access token of a user (`POST /api/auth/login`), or the root token, which a first start prints. An API \
key works in one tenant. Generators: `GET /control/v1/openapi.json`, or `rowhouse openapi --tag control --openapi 3.0`, has \
the operations under `/control/v1` alone.";

/// Adds the description, and the kinds of credentials.
struct Credentials;

impl utoipa::Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme,
        };
        document.info.description = Some(DESCRIPTION.to_owned());
        let components = document.components.get_or_insert_with(Default::default);
        let mut bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        bearer.description =
            Some("An access token, an API token (`rh_..`) or the root token.".to_owned());
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let key = ApiKeyValue::with_description(
            extract::API_KEY_HEADER,
            "An API key (`rtn_sk_..`), which works in one tenant; accepted where an operation lists it. It has no permission that its creator lacks there.",
        );
        components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(key)));
        let xtoken = ApiKeyValue::new("X-Bunker-Token");
        components.add_security_scheme("xtoken", SecurityScheme::ApiKey(ApiKey::Header(xtoken)));
        let cookie = ApiKeyValue::new(reten::auth::REFRESH_COOKIE);
        components.add_security_scheme("refresh", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// The operations that refuse an API key: a key creates no other credential, and a session belongs to a user who has
/// logged in.
const NO_API_KEY: [&str; 7] = [
    "createToken",
    "createApiKey",
    "logOut",
    "listOwnSessions",
    "endOwnSession",
    "endOtherSessions",
    "changeOwnPassword",
];

/// The routes that a document describes.
#[derive(Clone)]
pub struct Offer {
    /// The routes of ours.
    pub served: Served,
    /// The documents of an application's own routes.
    pub own: Vec<utoipa::openapi::OpenApi>,
}

impl Default for Offer {
    fn default() -> Self {
        Self { served: Served::all(), own: Vec::new() }
    }
}

/// Returns the OpenAPI document of all routes of ours.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi_of(Surface::All, &Offer::default())
}

/// Returns the OpenAPI document of the routes of one listener. An application's own routes are among those for clients.
#[must_use]
pub fn openapi_of(surface: Surface, offer: &Offer) -> utoipa::openapi::OpenApi {
    let mut document = ApiDoc::openapi();
    super::mount(&mut Mount::Document(&mut document), surface, offer.served);
    if surface != Surface::Management {
        add_own(&mut document, offer);
    }
    complete_all(&mut document, offer.served);
    document
}

/// Returns the part of the OpenAPI document that describes the routes of an application, which is a small part of the
/// whole and takes as little of the time to make it.
#[cfg(feature = "testing")]
#[must_use]
pub fn openapi_of_application(offer: &Offer) -> utoipa::openapi::OpenApi {
    let mut document = ApiDoc::openapi();
    add_own(&mut document, offer);
    complete_all(&mut document, offer.served);
    document
}

fn add_own(document: &mut utoipa::openapi::OpenApi, offer: &Offer) {
    for own in &offer.own {
        document.merge(with_errors(offer.served, own.clone()));
    }
}

fn complete_all(document: &mut utoipa::openapi::OpenApi, served: Served) {
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            complete(served, path, operation);
        }
    }
}

/// Returns an application's document with what its operations can answer without a line of theirs: 403, where the role of
/// the caller is too low, and a body in each error that is described in words alone.
fn with_errors(served: Served, mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            let answers = &mut operation.responses.responses;
            if operation.security.is_some() {
                let refused = || RefOr::T(Response::new("The caller may not do this"));
                answers.entry("403".to_owned()).or_insert_with(refused);
            }
            for (status, answer) in answers {
                if let RefOr::T(described) = answer
                    && status.starts_with(['4', '5'])
                    && described.content.is_empty()
                {
                    let form = error(error_form(served, path), &described.description);
                    described.content = form.content;
                }
            }
        }
    }
    document
}

/// Returns the schema and the media type of the errors of the dialect that a path belongs to, as
/// [`refuse`](super::refuse) answers them.
fn error_form(served: Served, path: &str) -> (Cow<'static, str>, &'static str) {
    match form(served, path) {
        Form::Control => (control::ProblemBody::name(), control::PROBLEM_JSON),
        Form::Databunker => (databunker::ErrorBody::name(), "application/json"),
        Form::Webfluss => (webfluss::ErrorBody::name(), "application/json"),
        Form::Native => (native::ErrorBody::name(), "application/json"),
        #[cfg(feature = "console")]
        Form::Console => (native::ErrorBody::name(), "text/html"),
    }
}

/// Adds what an operation shares with others of its dialect. What its handler describes itself stays.
fn complete(served: Served, path: &str, operation: &mut Operation) {
    let is_databunker = form(served, path) == Form::Databunker;
    for (status, description) in shared_errors(is_databunker, operation) {
        let response = || RefOr::T(error(error_form(served, path), description));
        operation.responses.responses.entry(status.to_owned()).or_insert_with(response);
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if matches!(status.as_str(), "429" | "503") {
            response.headers.insert(RETRY_AFTER.to_string(), RefOr::T(seconds()));
        }
        if status == "429" {
            for (name, description) in [
                (RATE_LIMIT, "What is left of each limit, and when it is full again"),
                (RATE_LIMIT_POLICY, "The limits that the request was counted by"),
            ] {
                response.headers.insert(name.to_string(), RefOr::T(text(description)));
            }
        }
    }
    if is_databunker && operation.security.is_some() {
        operation.parameters.get_or_insert_with(Vec::new).push(RefOr::T(tenant_header()));
    }
    accept_api_key(operation);
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            not_null(parameter);
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.content.values_mut().for_each(only_form);
    }
}

/// Returns the status and the description of each error that an operation shares with others of its dialect.
fn shared_errors(is_databunker: bool, operation: &Operation) -> Vec<(&'static str, &'static str)> {
    let takes_body = operation.request_body.is_some();
    let takes_credential = operation.security.is_some();
    let mut errors = vec![
        // Also where no body is expected: one that is compressed is refused before the operation is looked for.
        ("415", "The body is compressed; only identity is accepted as Content-Encoding"),
        ("400", "A header that chooses the tenant is given twice or cannot be read"),
        (
            "429",
            "Too many requests, or the tenant's own requests hold its database connections; Retry-After says when to try again",
        ),
        ("500", "Internal server error; X-Request-Id identifies the request in the log"),
        ("503", "Temporarily unavailable; Retry-After says when to try again"),
    ];
    if is_databunker {
        // This dialect answers 400 where the others answer 408 and 413, and 403 where they answer 401.
        let invalid = if takes_body {
            "A parameter is missing or has an incorrect format, or the body is too large"
        } else {
            "A parameter is missing or has an incorrect format"
        };
        if takes_credential {
            errors.retain(|(status, _)| *status != "400");
            errors.extend([("400", invalid), ("403", "Access denied"), ("404", "No such tenant")]);
        }
        return errors;
    }
    if takes_body {
        errors.push(("408", "The body was not received in time"));
        errors.push(("413", "The body is larger than the server accepts"));
    }
    if takes_credential {
        errors.push(("401", "No valid credential"));
    }
    errors
}

/// Documents that an operation that takes a bearer token takes an API key instead: all routes read both with
/// [`identify`](extract::identify). Those in [`NO_API_KEY`] take none.
fn accept_api_key(operation: &mut Operation) {
    let none = || std::iter::empty::<String>();
    let bearer = SecurityRequirement::new("bearer", none());
    let takes_none = operation.operation_id.as_deref().is_some_and(|id| NO_API_KEY.contains(&id));
    if let Some(security) = &mut operation.security
        && security.contains(&bearer)
        && !takes_none
    {
        security.push(SecurityRequirement::new("apiKey", none()));
    }
}

fn error((schema, media): (Cow<'static, str>, &'static str), description: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    ResponseBuilder::new().description(description).content(media, content).build()
}

/// Removes null from the types of an optional parameter: a query string and a header cannot carry it.
fn not_null(parameter: &mut Parameter) {
    if let Some(schema) = &mut parameter.schema {
        without_null(schema);
    }
    if let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
        && let SchemaType::Array(types) = &mut schema.schema_type
    {
        types.retain(|kind| *kind != Type::Null);
        if let [only] = types.as_slice() {
            schema.schema_type = SchemaType::Type(only.clone());
        }
    }
}

/// Removes null from the forms of an optional body, which is absent instead.
fn only_form(content: &mut RefOr<Content>) {
    if let RefOr::T(Content { schema: Some(schema), .. }) = content {
        without_null(schema);
    }
}

/// Replaces a choice of null and one named form by the form.
fn without_null(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::OneOf(any)) = schema
        && any.items.len() == 2
        && let Some(form) = any.items.iter().find(|item| matches!(item, RefOr::Ref(_))).cloned()
    {
        *schema = form;
    }
}

/// Returns the header that names the tenant of a call in Databunker's dialect.
fn tenant_header() -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    ParameterBuilder::new()
        .name("X-Bunker-Tenant")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The name of the tenant; default: the credential's own tenant"))
        .schema(Some(text))
        .build()
}

fn text(description: &str) -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    HeaderBuilder::new().schema(Some(text)).description(Some(description)).build()
}

fn seconds() -> Header {
    let whole = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1_i64)).build();
    HeaderBuilder::new().schema(Some(whole)).description(Some("Seconds to wait")).build()
}

/// Returns the operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch]
        .into_iter()
        .flatten()
}
