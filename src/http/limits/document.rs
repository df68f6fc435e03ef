//! Says in the OpenAPI document which operations may answer 429.

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::{Header, OpenApi, RefOr, ResponseBuilder, Schema, schema};

/// Writes the 429 into the document, for every operation that takes a credential or tries a password:
/// those that can refuse a caller, in the form of their other refusals.
pub(in crate::http) fn describe(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let methods =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in methods.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            let refusal = ["401", "403"].into_iter().find_map(|status| responses.get(status));
            let Some(RefOr::T(refusal)) = refusal else { continue };
            let mut answer = ResponseBuilder::new()
                .description("Too many requests, or too many wrong credentials")
                .header("Retry-After", retry_after())
                .build();
            answer.content.clone_from(&refusal.content);
            responses.entry("429".to_owned()).or_insert(RefOr::T(answer));
        }
    }
}

fn retry_after() -> Header {
    let seconds = schema::ObjectBuilder::new().schema_type(schema::Type::Integer).build();
    HeaderBuilder::new()
        .schema(Some(Schema::Object(seconds)))
        .description(Some("Seconds to wait"))
        .build()
}
