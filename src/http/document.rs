//! The OpenAPI document: what the handlers say of themselves, and what every route may answer besides.
//!
//! A handler documents the answers that are its own. That a body is too large, that somebody comes too
//! often, that the database is away or that we are at fault may happen on every route, in the form of the
//! dialect; it is written in here, so that no handler can forget it.

use actix_web::http::header::RETRY_AFTER;
use utoipa::OpenApi;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, Ref, RefOr, Required, Response, ResponseBuilder};

use super::{Mount, control, databunker, extract, reten, webfluss};

/// The document that describes all routes; the routes themselves are collected as they are mounted.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rowhouse",
        description = "A schema-per-tenant SaaS backend for PostgreSQL. Tenants are made whole or not at all."
    ),
    modifiers(&Credentials),
)]
struct ApiDoc;

/// The ways to say who is calling.
struct Credentials;

impl utoipa::Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme,
        };
        let components = document.components.get_or_insert_with(Default::default);
        let mut bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        bearer.description =
            Some("An access token, an API token (`rh_..`) or the root token.".to_owned());
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let key = ApiKeyValue::with_description(
            extract::API_KEY_HEADER,
            "An API key (`rtn_sk_..`), which works in one tenant; good wherever an operation names it, with what its maker may do in that tenant.",
        );
        components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(key)));
        let xtoken = ApiKeyValue::new("X-Bunker-Token");
        components.add_security_scheme("xtoken", SecurityScheme::ApiKey(ApiKey::Header(xtoken)));
        let cookie = ApiKeyValue::new(reten::auth::REFRESH_COOKIE);
        components.add_security_scheme("refresh", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// The operations that refuse an API key: what one made would stay when it is revoked.
const MAKE_CREDENTIALS: [&str; 2] = ["ControlCreateToken", "RetenCreateApiKey"];

/// The OpenAPI document of all routes.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = ApiDoc::openapi();
    super::mount(&mut Mount::Document(&mut document));
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            complete(path, operation);
        }
    }
    document
}

/// The schema and the media type of the errors of the dialect that a path belongs to, as
/// [`refuse`](super::refuse) answers them.
fn error_form(path: &str) -> (&'static str, &'static str) {
    if control::owns(path) {
        ("ProblemBody", "application/problem+json")
    } else if databunker::owns(path) {
        ("DatabunkerError", "application/json")
    } else if webfluss::owns(path) {
        ("WebflussError", "application/json")
    } else {
        ("ErrorBody", "application/json")
    }
}

/// Writes in what every route may answer, unless its handler says it in its own words.
fn complete(path: &str, operation: &mut Operation) {
    let too_large = if databunker::owns(path) { "400" } else { "413" };
    let mut common = vec![
        ("429", "Too many requests; Retry-After says when to come back"),
        ("500", "Our fault; X-Request-Id leads to the cause in the log"),
        ("503", "Not available right now; Retry-After says when to come back"),
    ];
    if operation.request_body.is_some() {
        if !databunker::owns(path) {
            common.push(("408", "The body did not come in time"));
        }
        common.push((too_large, "The body is larger than the server reads"));
    }
    if databunker::owns(path) && operation.security.is_some() {
        common.extend([
            ("400", "A parameter is missing or has an incorrect format"),
            ("403", "Access denied"),
            ("404", "There is no such tenant"),
        ]);
        operation.parameters.get_or_insert_with(Vec::new).push(RefOr::T(tenant_header()));
    }
    also_by_api_key(operation);
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            not_null(parameter);
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.content.values_mut().for_each(only_form);
    }
    for (status, description) in common {
        let response = || {
            let mut response = error(path, description);
            if matches!(status, "429" | "503") {
                response.headers.insert(RETRY_AFTER.to_string(), RefOr::T(seconds()));
            }
            RefOr::T(response)
        };
        operation.responses.responses.entry(status.to_owned()).or_insert_with(response);
    }
}

/// Whoever may show a bearer token may show an API key instead, since all routes read both by the same
/// [`identify`](extract::identify); but not where a credential is made.
fn also_by_api_key(operation: &mut Operation) {
    let none = || std::iter::empty::<String>();
    let bearer = SecurityRequirement::new("bearer", none());
    let makes_credential =
        operation.operation_id.as_deref().is_some_and(|id| MAKE_CREDENTIALS.contains(&id));
    if let Some(security) = &mut operation.security
        && security.contains(&bearer)
        && !makes_credential
    {
        security.push(SecurityRequirement::new("apiKey", none()));
    }
}

fn error(path: &str, description: &str) -> Response {
    let (schema, media) = error_form(path);
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    ResponseBuilder::new().description(description).content(media, content).build()
}

/// A parameter that may be left out is never null: there is no way to write it.
fn not_null(parameter: &mut Parameter) {
    if let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
        && let SchemaType::Array(types) = &mut schema.schema_type
    {
        types.retain(|kind| *kind != Type::Null);
        if let [only] = types.as_slice() {
            schema.schema_type = SchemaType::Type(only.clone());
        }
    }
}

/// A body that may be left out is never null either.
fn only_form(content: &mut RefOr<Content>) {
    if let RefOr::T(Content { schema: Some(schema), .. }) = content
        && let RefOr::T(Schema::OneOf(any)) = schema
        && any.items.len() == 2
        && let Some(form) = any.items.iter().find(|item| matches!(item, RefOr::Ref(_))).cloned()
    {
        *schema = form;
    }
}

/// Names the tenant that a call of Databunker's dialect works in.
fn tenant_header() -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    ParameterBuilder::new()
        .name("X-Bunker-Tenant")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The tenant, by name; the credential's own where none is said"))
        .schema(Some(text))
        .build()
}

fn seconds() -> Header {
    let whole = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1_i64)).build();
    HeaderBuilder::new().schema(Some(whole)).description(Some("Seconds")).build()
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch]
        .into_iter()
        .flatten()
}
