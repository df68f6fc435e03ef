//! Checks every answer of the suite against the OpenAPI document: [`send`](super::callers::send) hands each
//! to [`check`], which fails if the document does not list the status, the media type or the form.
//!
//! The check is stricter than the document: a member that a schema does not list is an error too, so that
//! every member of every answer is documented. Paths that no template matches belong to an application or
//! do not exist; they are not checked.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Answer;

/// The document as the server serves it.
pub static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(rowhouse::http::openapi()).expect("it is JSON"));

/// The schemas of the document, closed by [`close`].
static COMPONENTS: LazyLock<Value> = LazyLock::new(|| {
    let mut components = DOCUMENT["components"].clone();
    close(&mut components);
    components
});

/// The schemas compiled so far, by their JSON pointer in the document.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// An operation of the document.
pub struct Operation {
    pub method: String,
    pub template: String,
}

impl Operation {
    /// Returns the operation object of the document.
    pub fn described(&self) -> &'static Value {
        &DOCUMENT["paths"][&self.template][self.method.to_lowercase()]
    }
}

/// Returns all operations of the document.
pub fn operations() -> Vec<Operation> {
    let paths = DOCUMENT["paths"].as_object().expect("the document has paths");
    let of = |(template, item): (&String, &Value)| -> Vec<Operation> {
        let methods = item.as_object().expect("a path has methods").keys();
        methods
            .map(|method| Operation { method: method.to_uppercase(), template: template.clone() })
            .collect()
    };
    paths.iter().flat_map(of).collect()
}

/// Fails unless the document allows this answer to this request.
#[track_caller]
pub fn check(method: &Method, path: &str, answer: &Answer) {
    if let Err(why) = compare(method, path, answer) {
        panic!(
            "{method} {path} answers {}, which differs from the document: {why}\n{answer:?}",
            answer.status
        );
    }
}

/// Compares an answer with the document; the error says how they differ.
pub fn compare(method: &Method, path: &str, answer: &Answer) -> Result<(), String> {
    let templates = templates_of(path);
    if templates.is_empty() {
        return Ok(());
    }
    // `HEAD` is `GET` without the body.
    let listed_as =
        if method == Method::HEAD { "get".to_owned() } else { method.as_str().to_lowercase() };
    let found =
        templates.iter().find(|template| DOCUMENT["paths"][template][&listed_as].is_object());
    let Some(template) = found else { return undocumented_method(method, &templates[0], answer) };
    let responses = &DOCUMENT["paths"][template][&listed_as]["responses"];
    let status = answer.status.to_string();
    let Some(response) = responses.get(&status) else {
        return Err(format!("{template} does not list {status}"));
    };
    if method == Method::HEAD {
        return if answer.text.is_empty() { Ok(()) } else { Err("a HEAD has no body".to_owned()) };
    }
    let at = format!("/paths/{}/{listed_as}/responses/{status}", escaped(template));
    has_form(response, &at, answer)
}

/// Returns whether this is the answer to a CORS preflight request, which `actix-cors` gives in its own form
/// before any dialect sees the request.
fn is_preflight(answer: &Answer) -> bool {
    answer.header("access-control-allow-methods").is_some()
        || (answer.status == 400 && answer.header("content-type").is_none())
}

/// Checks the answer to a method that the path does not have: 405 in the dialect's form, or 204 to
/// `OPTIONS`, both with `Allow`.
fn undocumented_method(method: &Method, template: &str, answer: &Answer) -> Result<(), String> {
    if *method == Method::OPTIONS && is_preflight(answer) {
        return Ok(());
    }
    if answer.header("allow").is_none() {
        return Err(format!("{template} has no {method}, and the answer has no Allow"));
    }
    if method == Method::OPTIONS {
        let is_empty = answer.status == 204 && answer.text.is_empty();
        return if is_empty { Ok(()) } else { Err("OPTIONS is 204 without a body".to_owned()) };
    }
    if answer.status != 405 {
        return Err(format!("{template} has no {method}"));
    }
    if method == Method::HEAD {
        return if answer.text.is_empty() { Ok(()) } else { Err("a HEAD has no body".to_owned()) };
    }
    // The body has the form of the dialect's other errors.
    let item = DOCUMENT["paths"][template].as_object().expect("a path has methods");
    let (other, operation) = item.iter().next().expect("a path has a method");
    let at = format!("/paths/{}/{other}/responses/500", escaped(template));
    has_form(&operation["responses"]["500"], &at, answer)
}

/// Checks that the body has a media type that the response lists and fits its schema.
fn has_form(response: &Value, at: &str, answer: &Answer) -> Result<(), String> {
    let Some(content) = response["content"].as_object() else {
        return if answer.text.is_empty() { Ok(()) } else { Err(format!("{at} has no body")) };
    };
    let given = answer.header("content-type").unwrap_or_default();
    let media = given.split(';').next().unwrap_or_default().trim();
    let Some(form) = content.get(media) else {
        return Err(format!("{at} has no {given:?}"));
    };
    if form["schema"].is_null() {
        let is_json = media.ends_with("json");
        return if is_json { Err(format!("{at} has no schema")) } else { Ok(()) };
    }
    if !media.ends_with("json") {
        return Ok(());
    }
    let at = format!("{at}/content/{}/schema", escaped(media));
    // Parsed by us, since an answer may hold a number that no float is as large as.
    let body: Value = rowhouse::domain::json::Value::parse(answer.text.as_bytes())
        .map(|body| (&body).into())
        .map_err(|error| format!("the body is not the JSON that {at} requires: {error}"))?;
    let errors: Vec<String> = validator(&at, &form["schema"])
        .iter_errors(&body)
        .map(|e| format!("at {:?}: {e} ({at}, {})", e.instance_path().as_str(), e.schema_path()))
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

fn validator(at: &str, schema: &Value) -> Arc<Validator> {
    let mut all = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let compiled = all.entry(at.to_owned()).or_insert_with(|| {
        let mut schema = schema.clone();
        close(&mut schema);
        // References point to `#/components/..` of the schema that is compiled.
        schema["components"] = COMPONENTS.clone();
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        let validator = options.build(&schema);
        Arc::new(validator.unwrap_or_else(|error| panic!("{at} is not a schema: {error}")))
    });
    Arc::clone(compiled)
}

/// Forbids additional members in every object that lists its members and does not allow others.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            join_parts(members);
            members.values_mut().for_each(close);
            let lists = members.get("properties").is_some_and(Value::is_object);
            if lists && !members.contains_key("additionalProperties") {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Merges the objects of an `allOf` into one, because each of them, once closed, would refuse the members of
/// the others.
fn join_parts(members: &mut Map<String, Value>) {
    let Some(parts) = members.get("allOf").and_then(Value::as_array) else { return };
    let parts: Vec<&Value> = parts.iter().map(resolved).collect();
    if !parts.iter().all(|part| part["properties"].is_object()) {
        return;
    }
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for part in parts {
        properties.extend(part["properties"].as_object().into_iter().flatten().map(pair));
        required.extend(part["required"].as_array().into_iter().flatten().cloned());
    }
    members.remove("allOf");
    members.insert("properties".to_owned(), Value::Object(properties));
    members.insert("required".to_owned(), Value::Array(required));
}

fn pair((name, schema): (&String, &Value)) -> (String, Value) {
    (name.clone(), schema.clone())
}

/// Resolves a reference; a schema without one is returned as it is.
fn resolved(schema: &Value) -> &Value {
    let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| DOCUMENT.pointer(pointer)).unwrap_or(schema)
}

/// Returns the templates that a path matches, those with the fewest parameters first.
fn templates_of(path: &str) -> Vec<String> {
    let paths: &Map<String, Value> = DOCUMENT["paths"].as_object().expect("there are paths");
    let mut found: Vec<&String> = paths.keys().filter(|template| matches(template, path)).collect();
    found.sort_by_key(|template| template.matches('{').count());
    found.into_iter().cloned().collect()
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(pattern, part)| {
            if pattern.starts_with('{') { !part.is_empty() } else { pattern == part }
        })
}

/// Escapes a member's name as a token of a JSON pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue};

    use super::*;

    fn answer(status: u16, media: &'static str, text: &str) -> Answer {
        let mut headers = HeaderMap::new();
        if !media.is_empty() {
            headers.insert("content-type", HeaderValue::from_static(media));
        }
        let body = serde_json::from_str(text).unwrap_or_default();
        Answer { status, headers, text: text.to_owned(), body }
    }

    #[test]
    fn an_undocumented_answer_is_detected() {
        let (get, post) = (Method::GET, Method::POST);
        let refused = r#"{"statusCode":401,"message":"no","error":"Unauthorized"}"#;
        let json = "application/json";
        let cases = [
            (&get, "/api/tenant", answer(200, json, "[]"), None),
            (&get, "/undocumented/path", answer(200, json, "[1]"), None),
            (&get, "/api/tenant", answer(401, json, refused), None),
            (&get, "/api/tenant", answer(418, json, refused), Some("does not list 418")),
            (&get, "/api/tenant", answer(401, "text/html", refused), Some("has no \"text/html\"")),
            (&get, "/api/tenant", answer(401, "", ""), Some("has no \"\"")),
            (&get, "/api/tenant", answer(200, json, "{}"), Some("is not of type \"array\"")),
            (&get, "/api/tenant", answer(200, json, "[{}]"), Some("is a required property")),
            (
                &get,
                "/api/tenant",
                answer(401, json, &refused.replace('}', r#","x":1}"#)),
                Some("'x' was unexpected"),
            ),
            (
                &get,
                "/api/tenant",
                answer(
                    200,
                    json,
                    r#"[{"id":"7","name":"A","slug":"a","createdAt":"2025-01-31T12:00:00Z"}]"#,
                ),
                Some("is not a \"uuid\""),
            ),
            (&post, "/api/tenant", answer(405, json, refused), Some("no Allow")),
            (
                &post,
                "/control/v1/tenants/x/purge",
                answer(204, "text/plain", "gone"),
                Some("has no body"),
            ),
        ];
        for (method, path, answer, why) in cases {
            match (compare(method, path, &answer), why) {
                (Ok(()), None) => {}
                (Err(error), Some(why)) => assert!(error.contains(why), "{error}"),
                (outcome, _) => panic!("{method} {path}: {outcome:?}: {answer:?}"),
            }
        }
    }
}
