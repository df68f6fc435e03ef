//! Checks every answer of the suite against the OpenAPI document: [`send`](super::callers::send) hands each
//! to [`check`], which fails if the document does not list the status, the media type or the form.

use std::sync::LazyLock;

use reqwest::Method;
use rowhouse::http::document::parts::{Version, document};
use rowhouse::testing::Document;
use serde_json::Value;

use super::Answer;

static CHECKED: LazyLock<Document> = LazyLock::new(|| {
    let whole = document(&rowhouse::http::openapi(), None, Version::V3_1);
    Document::new(whole.expect("the whole has no tag"))
});

/// The document as the server serves it.
pub static DOCUMENT: LazyLock<&Value> = LazyLock::new(|| CHECKED.as_value());

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
fn compare(method: &Method, path: &str, answer: &Answer) -> Result<(), String> {
    CHECKED.compare(method, path, answer.status, &answer.headers, &answer.text)
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
