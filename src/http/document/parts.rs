//! The document as JSON: whole, or the operations with one tag; in `OpenAPI` 3.1 or in 3.0, which some generators need.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// A version of the `OpenAPI` specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// 3.1, with JSON Schema as it is.
    #[default]
    V3_1,
    /// 3.0, with a dialect of JSON Schema of its own.
    V3_0,
}

/// The tag is none of the document's; holds those that are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no operation has this tag; there are {}", .0.join(", "))]
pub struct UnknownTag(pub Vec<String>);

/// Returns a document as JSON.
///
/// # Errors
/// [`UnknownTag`].
pub fn document(
    document: &OpenApi,
    tag: Option<&str>,
    version: Version,
) -> Result<Value, UnknownTag> {
    // It contains nothing that JSON cannot represent.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    open_objects(&mut document);
    list_words(&mut document);
    if let Some(tag) = tag {
        keep(&mut document, tag)?;
    }
    match version {
        Version::V3_1 => {}
        Version::V3_0 => {
            document["openapi"] = json!("3.0.3");
            in_3_0(&mut document);
        }
    }
    Ok(document)
}

/// Returns a document as text in one line.
///
/// # Errors
/// [`UnknownTag`].
pub fn in_one_line(
    of: &OpenApi,
    tag: Option<&str>,
    version: Version,
) -> Result<String, UnknownTag> {
    let document = document(of, tag, version)?;
    // As above.
    Ok(serde_json::to_string(&InOrder(&document)).unwrap_or_default())
}

/// Returns a document as text with a line for each member.
///
/// # Errors
/// [`UnknownTag`].
pub fn for_people(of: &OpenApi, tag: Option<&str>, version: Version) -> Result<String, UnknownTag> {
    let document = document(of, tag, version)?;
    // As above.
    Ok(serde_json::to_string_pretty(&InOrder(&document)).unwrap_or_default())
}

/// The members that come first, in this order; the others come behind them, by name. The credential that most operations
/// take is the first that a page offers.
const FIRST: [&str; 8] =
    ["openapi", "info", "servers", "tags", "bearer", "title", "name", "description"];

/// Writes JSON with the members of each object in an order for readers.
struct InOrder<'a>(&'a Value);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => {
                let rank = |name: &str| {
                    FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len())
                };
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(name, _)| (rank(name), name.as_str()));
                serializer
                    .collect_map(members.into_iter().map(|(name, value)| (name, InOrder(value))))
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(InOrder)),
            plain => plain.serialize(serializer),
        }
    }
}

/// Says of each object without listed members that it may have any: generators read it as one that has none otherwise.
fn open_objects(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(open_objects),
        Value::Object(members) => {
            members.values_mut().for_each(open_objects);
            let is_object = match members.get("type") {
                Some(Value::String(kind)) => kind == "object",
                Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
                _ => false,
            };
            let lists = ["properties", "additionalProperties", "oneOf", "anyOf", "allOf"];
            if is_object && !lists.iter().any(|word| members.contains_key(*word)) {
                members.insert("additionalProperties".to_owned(), json!(true));
            }
        }
        _ => {}
    }
}

/// Lists the words of a text whose pattern is a choice of words: generators make an enum of a list, and nothing of a pattern.
fn list_words(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(list_words),
        Value::Object(members) => {
            members.values_mut().for_each(list_words);
            let pattern = members.get("pattern").and_then(Value::as_str);
            let words = pattern.and_then(|text| text.strip_prefix("^(")?.strip_suffix(")$"));
            let is_word = |text: &str| {
                !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            };
            let Some(words) = words.filter(|words| words.split('|').all(is_word)) else { return };
            let mut listed: Vec<Value> = words.split('|').map(|word| json!(word)).collect();
            let kinds = members.get("type").and_then(Value::as_array);
            if kinds.is_some_and(|kinds| kinds.contains(&json!("null"))) {
                listed.push(Value::Null);
            }
            members.remove("pattern");
            members.insert("enum".to_owned(), Value::Array(listed));
        }
        _ => {}
    }
}

/// Keeps the operations with a tag, and the components that they refer to.
fn keep(document: &mut Value, tag: &str) -> Result<(), UnknownTag> {
    let names = |tags: &Value| -> Vec<String> {
        let tags = tags.as_array().into_iter().flatten();
        tags.filter_map(|tag| Some(tag["name"].as_str()?.to_owned())).collect()
    };
    let known = names(&document["tags"]);
    if !known.iter().any(|known| known == tag) {
        return Err(UnknownTag(known));
    }
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.retain(|one| one["name"] == tag);
    }
    if let Some(paths) = document["paths"].as_object_mut() {
        for item in paths.values_mut().filter_map(Value::as_object_mut) {
            item.retain(|_, operation| {
                let mut tags = operation["tags"].as_array().into_iter().flatten();
                tags.any(|one| one == tag)
            });
        }
        paths.retain(|_, item| item.as_object().is_some_and(|item| !item.is_empty()));
    }
    keep_reachable_schemas(document);
    keep_used_credentials(document);
    Ok(())
}

fn keep_reachable_schemas(document: &mut Value) {
    const PREFIX: &str = "#/components/schemas/";
    let mut reached = BTreeSet::new();
    let mut open = vec![&document["paths"]];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(members) => {
                let name = members.get("$ref").and_then(Value::as_str);
                if let Some(name) = name.and_then(|text| text.strip_prefix(PREFIX))
                    && reached.insert(name.to_owned())
                {
                    open.push(&document["components"]["schemas"][name]);
                }
                open.extend(members.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.retain(|name, _| reached.contains(name));
    }
}

fn keep_used_credentials(document: &mut Value) {
    let operations = document["paths"].as_object().into_iter().flat_map(Map::values);
    let operations = operations.filter_map(Value::as_object).flat_map(Map::values);
    let required = operations.filter_map(|operation| operation["security"].as_array()).flatten();
    let used: BTreeSet<String> =
        required.filter_map(Value::as_object).flat_map(|one| one.keys().cloned()).collect();
    if let Some(schemes) = document["components"]["securitySchemes"].as_object_mut() {
        schemes.retain(|name, _| used.contains(name));
    }
}

/// Rewrites the schemas below a value in the dialect of `OpenAPI` 3.0: `nullable` instead of the type null, `example` instead
/// of `examples`, nothing beside a reference.
fn in_3_0(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(in_3_0),
        Value::Object(members) => {
            members.values_mut().for_each(in_3_0);
            drop_null_type(members);
            drop_null_choice(members);
            if let Some(Value::Array(examples)) = members.get("examples") {
                let first = examples.first().cloned();
                members.remove("examples");
                members.extend(first.map(|example| ("example".to_owned(), example)));
            }
            if let Some(only) = members.remove("const") {
                members.insert("enum".to_owned(), json!([only]));
            }
            members.remove("propertyNames");
            for (bound, inclusive) in
                [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")]
            {
                if members.get(bound).is_some_and(Value::is_number)
                    && let Some(limit) = members.remove(bound)
                {
                    members.insert(inclusive.to_owned(), limit);
                    members.insert(bound.to_owned(), json!(true));
                }
            }
            if let Some(Value::Object(license)) = members.get_mut("license") {
                license.remove("identifier");
            }
            if members.len() > 1
                && members.get("$ref").is_some_and(Value::is_string)
                && let Some(reference) = members.remove("$ref")
            {
                members.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
            }
        }
        _ => {}
    }
}

/// Replaces the type null among others. A schema has one type in 3.0; one with several others has none.
fn drop_null_type(members: &mut Map<String, Value>) {
    if members.get("type").is_some_and(|kind| kind == "null") {
        members.remove("type");
        members.extend(null_alone().as_object().cloned().unwrap_or_default());
    }
    let Some(Value::Array(types)) = members.get("type") else { return };
    let others: Vec<Value> = types.iter().filter(|kind| *kind != "null").cloned().collect();
    let is_nullable = others.len() < types.len();
    match <[Value; 1]>::try_from(others) {
        Ok([only]) => {
            members.insert("type".to_owned(), only);
        }
        Err(_several) => {
            members.remove("type");
        }
    }
    if is_nullable {
        members.insert("nullable".to_owned(), json!(true));
        if let Some(Value::Array(words)) = members.get_mut("enum")
            && !words.contains(&Value::Null)
        {
            words.push(Value::Null);
        }
    }
}

/// Returns the older form of a schema that only null fits.
fn null_alone() -> Value {
    json!({ "nullable": true, "enum": [null] })
}

/// Replaces a choice of null and others by the others.
fn drop_null_choice(members: &mut Map<String, Value>) {
    for choice in ["oneOf", "anyOf"] {
        let Some(Value::Array(forms)) = members.get_mut(choice) else { continue };
        let count = forms.len();
        forms.retain(|form| *form != null_alone());
        forms.iter_mut().for_each(bare_reference);
        if forms.len() == count {
            continue;
        }
        if let [only] = forms.as_slice() {
            let only = only.clone();
            members.remove(choice);
            members.insert("allOf".to_owned(), json!([only]));
        }
        members.insert("nullable".to_owned(), json!(true));
    }
}

/// Takes the description from a reference, which generators would make a type of its own for.
fn bare_reference(form: &mut Value) {
    let Some(members) = form.as_object() else { return };
    let is_described = members.len() == 2 && members.contains_key("description");
    if is_described
        && let Some([only]) = members.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
    {
        *form = only.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::openapi;

    /// Calls this for each object below a value.
    fn each(value: &Value, look: &mut impl FnMut(&Map<String, Value>)) {
        match value {
            Value::Object(members) => {
                look(members);
                members.values().for_each(|member| each(member, look));
            }
            Value::Array(items) => items.iter().for_each(|item| each(item, look)),
            _ => {}
        }
    }

    #[test]
    fn the_credential_of_most_operations_and_the_control_api_come_first() {
        let text = in_one_line(&openapi(), None, Version::V3_1).unwrap();
        let (_, schemes) = text.split_once("\"securitySchemes\":{").unwrap();
        assert!(schemes.starts_with("\"bearer\":"), "{text}");
        let document = document(&openapi(), None, Version::V3_1).unwrap();
        let tags = document["tags"].as_array().unwrap();
        let names: Vec<_> = tags.iter().filter_map(|tag| tag["name"].as_str()).collect();
        assert_eq!(names[..3], ["control", "tenants", "auth"]);
        assert_eq!(names[5..], ["databunker", "webfluss", "operations"]);
        assert!(tags.iter().all(|tag| tag["description"].is_string()), "{tags:?}");
        assert!(document["servers"][0]["url"].is_string());
    }

    #[test]
    fn a_part_has_the_operations_with_its_tag_and_no_component_that_none_of_them_needs() {
        let part = document(&openapi(), Some("control"), Version::V3_1).unwrap();
        let paths = part["paths"].as_object().unwrap();
        assert!(paths.len() > 25, "{:?}", paths.keys());
        assert!(paths.keys().all(|path| path.starts_with("/control/v1/")), "{:?}", paths.keys());
        let text = part.to_string();
        for name in part["components"]["schemas"].as_object().unwrap().keys() {
            assert!(
                text.contains(&format!("\"#/components/schemas/{name}\"")),
                "{name} is not used"
            );
        }
        each(&part, &mut |members| {
            let name = members.get("$ref").and_then(Value::as_str);
            let pointer = name.and_then(|name| name.strip_prefix('#'));
            assert!(pointer.is_none_or(|at| part.pointer(at).is_some()), "{name:?} is missing");
        });
        let schemes = part["components"]["securitySchemes"].as_object().unwrap();
        assert_eq!(schemes.keys().collect::<Vec<_>>(), ["apiKey", "bearer"]);
        let unknown = document(&openapi(), Some("contro"), Version::V3_1).unwrap_err();
        assert!(unknown.to_string().contains("control, tenants, auth"), "{unknown}");
    }

    #[test]
    fn the_older_form_has_no_word_that_it_does_not_know() {
        let document = document(&openapi(), None, Version::V3_0).unwrap();
        assert_eq!(document["openapi"], "3.0.3");
        each(&document, &mut |members| {
            assert!(!members.get("type").is_some_and(Value::is_array), "{members:?}");
            assert!(members.get("type").is_none_or(|kind| kind != "null"), "{members:?}");
            let has_reference = members.get("$ref").is_some_and(Value::is_string);
            assert!(!has_reference || members.len() == 1, "{members:?}");
            for word in ["const", "propertyNames", "exclusiveMinimum"] {
                assert!(members.get(word).is_none_or(Value::is_boolean), "{members:?}");
            }
        });
        let tenant = &document["components"]["schemas"]["ControlTenant"]["properties"];
        let admin = &tenant["external_id"];
        assert_eq!((&admin["type"], &admin["nullable"]), (&json!("string"), &json!(true)));
        assert_eq!(tenant["settings"]["additionalProperties"], true);
    }

    #[test]
    fn operations_are_named_as_methods_are_and_each_once() {
        let document = document(&openapi(), None, Version::V3_1).unwrap();
        let mut names = BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                let name = operation["operationId"].as_str().unwrap();
                let is_camel = name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name.chars().all(|c| c.is_ascii_alphanumeric());
                assert!(is_camel, "{name}");
                assert!(names.insert(name.to_owned()), "{name} comes twice");
            }
        }
        for name in ["listTenants", "suspendTenant", "deleteTenant", "getTenant", "ensureTenant"] {
            assert!(names.contains(name), "{name} is not among {names:?}");
        }
    }

    #[test]
    fn a_status_is_one_of_the_words_that_the_document_lists() {
        let document = document(&openapi(), None, Version::V3_1).unwrap();
        let words = |name: &str| document["components"]["schemas"][name]["enum"].clone();
        for (name, domain) in [
            ("TenantStatus", crate::domain::TenantStatus::WORDS),
            ("MigrationState", crate::domain::operation::OperationState::WORDS),
            ("MigrationTenantState", crate::domain::operation::WorkState::WORDS),
            ("MigrationPauseReason", crate::domain::operation::PauseReason::WORDS),
            ("MigrationCanaryThen", crate::domain::operation::Then::WORDS),
            ("TokenKind", crate::domain::TokenKind::NAMES),
        ] {
            assert_eq!(words(name), json!(domain), "{name}");
        }
        let tenant = &document["components"]["schemas"]["ControlTenant"]["properties"];
        assert_eq!(tenant["admin"]["enum"], json!(["created", "linked", null]));
        let status = &tenant["status"];
        assert!(status.to_string().contains("#/components/schemas/TenantStatus"), "{status}");
    }
}
