//! Holds answers against an `OpenAPI` document: a status, a media type or a form that it does not list is a mismatch.
//!
//! The check is stricter than the document: a member that a schema does not list is a mismatch too, so that every member
//! of every answer is documented. Paths that no template matches are not checked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::Validator;
use reqwest::Method;
use reqwest::header::{self, HeaderMap};
use serde_json::{Map, Value, json};

/// An `OpenAPI` document, against which answers are held.
pub struct Document {
    value: Value,
    /// The schemas compiled so far, by their JSON pointer in the document.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// An answer, as far as a document describes it.
#[derive(Clone, Copy)]
struct Answer<'a> {
    status: u16,
    headers: &'a HeaderMap,
    text: &'a str,
}

impl Answer<'_> {
    fn header(&self, name: &header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn is_empty(&self, otherwise: &str) -> Result<(), String> {
        if self.text.is_empty() { Ok(()) } else { Err(otherwise.to_owned()) }
    }
}

impl Document {
    /// Creates it from the JSON that `/openapi.json` serves.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self { value, validators: Mutex::default() }
    }

    /// Returns the document as JSON.
    #[must_use]
    pub fn as_value(&self) -> &Value {
        &self.value
    }

    /// Whether a template matches the path.
    #[must_use]
    pub fn describes(&self, path: &str) -> bool {
        !self.templates_of(path).is_empty()
    }

    /// Compares an answer with the document.
    ///
    /// # Errors
    /// How they differ.
    pub fn compare(
        &self,
        method: &Method,
        path: &str,
        status: u16,
        headers: &HeaderMap,
        text: &str,
    ) -> Result<(), String> {
        let answer = Answer { status, headers, text };
        let templates = self.templates_of(path);
        let Some(first) = templates.first() else { return Ok(()) };
        // `HEAD` is `GET` without the body.
        let listed_as = if method == Method::HEAD { Method::GET } else { method.clone() };
        let listed_as = listed_as.as_str().to_lowercase();
        let item = |template: &str| &self.value["paths"][template];
        let Some(template) =
            templates.iter().find(|template| item(template)[&listed_as].is_object())
        else {
            return self.undocumented_method(method, first, answer);
        };
        let Some(response) = item(template)[&listed_as]["responses"].get(status.to_string()) else {
            return Err(format!("{template} does not list {status}"));
        };
        if method == Method::HEAD {
            return answer.is_empty("a HEAD has no body");
        }
        let at = format!("/paths/{}/{listed_as}/responses/{status}", escaped(template));
        self.has_form(response, &at, answer)
    }

    /// Checks the answer to a method that the path does not have: 405 in the form of the path's other errors, or 204 to
    /// `OPTIONS`, both with `Allow`.
    fn undocumented_method(
        &self,
        method: &Method,
        template: &str,
        answer: Answer<'_>,
    ) -> Result<(), String> {
        if *method == Method::OPTIONS && is_preflight(answer) {
            return Ok(());
        }
        if answer.header(&header::ALLOW).is_none() {
            return Err(format!("{template} has no {method}, and the answer has no Allow"));
        }
        if *method == Method::OPTIONS {
            let otherwise = "OPTIONS is 204 without a body";
            return if answer.status == 204 {
                answer.is_empty(otherwise)
            } else {
                Err(otherwise.to_owned())
            };
        }
        if answer.status != 405 {
            return Err(format!("{template} has no {method}"));
        }
        if *method == Method::HEAD {
            return answer.is_empty("a HEAD has no body");
        }
        let item = self.value["paths"][template].as_object();
        let error = item
            .into_iter()
            .flatten()
            .find_map(|(other, operation)| Some((other, operation["responses"].get("500")?)));
        let Some((other, response)) = error else { return Ok(()) };
        let at = format!("/paths/{}/{other}/responses/500", escaped(template));
        self.has_form(response, &at, answer)
    }

    /// Checks that the body has a media type that the response lists and fits its schema.
    fn has_form(&self, response: &Value, at: &str, answer: Answer<'_>) -> Result<(), String> {
        let (response, at) = match response["$ref"].as_str().and_then(|to| to.strip_prefix('#')) {
            Some(pointer) => (self.value.pointer(pointer).unwrap_or(response), pointer),
            None => (response, at),
        };
        let Some(content) = response["content"].as_object() else {
            return answer.is_empty(&format!("{at} has no body"));
        };
        let given = answer.header(&header::CONTENT_TYPE).unwrap_or_default();
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
        let body: Value = crate::domain::json::Value::parse(answer.text.as_bytes())
            .map(|body| (&body).into())
            .map_err(|error| format!("the body is not the JSON that {at} requires: {error}"))?;
        let errors: Vec<String> = self
            .validator(&at, &form["schema"])?
            .iter_errors(&body)
            .map(|e| {
                format!("at {:?}: {e} ({at}, {})", e.instance_path().as_str(), e.schema_path())
            })
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    fn validator(&self, at: &str, schema: &Value) -> Result<Arc<Validator>, String> {
        let mut all = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = all.get(at) {
            return Ok(Arc::clone(compiled));
        }
        let mut schema = schema.clone();
        close(&mut schema, &self.value);
        // References point to `#/components/..` of the schema that is compiled. Those that it does not need would take
        // most of the time.
        let mut components = Map::new();
        self.add_components(&schema, &mut components);
        schema["components"] = json!({ "schemas": components });
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        let compiled =
            options.build(&schema).map_err(|error| format!("{at} is not a schema: {error}"))?;
        let compiled = Arc::new(compiled);
        all.insert(at.to_owned(), Arc::clone(&compiled));
        Ok(compiled)
    }

    /// Adds the schemas that a schema refers to, and those that they refer to, each closed by [`close`].
    fn add_components(&self, schema: &Value, components: &mut Map<String, Value>) {
        match schema {
            Value::Object(members) => {
                let reference = members.get("$ref").and_then(Value::as_str);
                let name = reference.and_then(|at| at.strip_prefix("#/components/schemas/"));
                if let Some(name) = name.filter(|name| !components.contains_key(*name)) {
                    let mut component = self.value["components"]["schemas"][name].clone();
                    close(&mut component, &self.value);
                    components.insert(name.to_owned(), component.clone());
                    self.add_components(&component, components);
                }
                for member in members.values() {
                    self.add_components(member, components);
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.add_components(item, components);
                }
            }
            _ => {}
        }
    }

    /// Returns the templates that a path matches, those with the fewest parameters first.
    fn templates_of(&self, path: &str) -> Vec<&str> {
        let paths = self.value["paths"].as_object();
        let mut found: Vec<&str> = paths
            .into_iter()
            .flatten()
            .map(|(template, _)| template.as_str())
            .filter(|template| matches(template, path))
            .collect();
        found.sort_by_key(|template| template.matches('{').count());
        found
    }
}

/// Whether this is the answer to a CORS preflight request, which `actix-cors` gives in its own form before any route
/// sees the request.
fn is_preflight(answer: Answer<'_>) -> bool {
    answer.header(&header::ACCESS_CONTROL_ALLOW_METHODS).is_some()
        || (answer.status == 400 && answer.header(&header::CONTENT_TYPE).is_none())
}

/// Forbids additional members in every object that lists its members and does not allow others.
fn close(schema: &mut Value, document: &Value) {
    match schema {
        Value::Object(members) => {
            join_parts(members, document);
            members.values_mut().for_each(|member| close(member, document));
            let lists = members.get("properties").is_some_and(Value::is_object);
            if lists && !members.contains_key("additionalProperties") {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| close(item, document)),
        _ => {}
    }
}

/// Merges the objects of an `allOf` into one, because each of them, once closed, would refuse the members of the others.
fn join_parts(members: &mut Map<String, Value>, document: &Value) {
    let Some(parts) = members.get("allOf").and_then(Value::as_array) else { return };
    let parts: Vec<&Value> = parts.iter().map(|part| resolved(part, document)).collect();
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
fn resolved<'a>(schema: &'a Value, document: &'a Value) -> &'a Value {
    let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(schema)
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
