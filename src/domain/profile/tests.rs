//! Keys and documents: which are accepted, which are refused, and how far changes may grow a document.

use super::limits::{DEPTH_MAX, SIZE_MAX, VALUES_MAX};
use super::*;
use crate::domain::json::Value;

/// Makes a value as `serde_json::json!` does.
macro_rules! json {
    ($($value:tt)+) => {
        Value::from(serde_json::json!($($value)+))
    };
}

fn value(text: &str) -> Value {
    Value::parse(text.as_bytes()).unwrap()
}

fn document(value: Value) -> Document {
    Document::parse(value).unwrap()
}

#[test]
fn keys_are_normalised_the_same_way_stored_and_looked_for() {
    let keys = document(json!({
        "email": " Ada@Example.COM ", "login": " ada ", "phone": "+44 (0)20-7946.0000", "custom": 42
    }))
    .keys()
    .unwrap();
    assert_eq!(keys.email.as_deref(), Some("ada@example.com"));
    assert_eq!(keys.login.as_deref(), Some("ada"));
    assert_eq!(keys.phone.as_deref(), Some("+4402079460000"));
    assert_eq!(keys.custom.as_deref(), Some("42"));
    assert_eq!(
        Identity::parse("phone", "+44 (0)20 7946 0000"),
        Ok(Identity::Key(KeyKind::Phone, "+4402079460000".to_owned()))
    );
}

#[test]
fn a_look_alike_of_an_address_is_another_address() {
    let same =
        |one: &str, other: &str| KeyKind::Email.normalize(one) == KeyKind::Email.normalize(other);
    assert!(same("MIKE@example.com", "mike@EXAMPLE.com"));
    assert!(same("JOSÉ@example.com", "josé@example.com"));
    assert!(!same("mi\u{212a}e@example.com", "mike@example.com")); // the Kelvin sign
    assert!(!same("M\u{130}KE@example.com", "mike@example.com")); // an I with a dot
    assert!(!same("m\u{131}ke@example.com", "mike@example.com")); // an i without one
}

#[test]
fn keys_of_a_wrong_type_or_size_are_named() {
    for (value, field, rule) in [
        (json!({ "email": 5 }), "email", Rule::Type("string")),
        (json!({ "login": ["a"] }), "login", Rule::Type("string")),
        (json!({ "phone": true }), "phone", Rule::Type("string")),
        (json!({ "custom": "x".repeat(513) }), "custom", Rule::TooLong(512)),
    ] {
        assert_eq!(document(value).keys(), Err(FieldProblem::new(field, rule)));
    }
    let empty = document(json!({ "email": "", "login": null, "Email": "x" })).keys().unwrap();
    assert_eq!(empty, Keys::default());
}

#[test]
fn modes_and_identities_are_read_or_refused_with_the_field() {
    let problem = |mode: &str, identity: &str| Identity::parse(mode, identity).unwrap_err().field;
    assert_eq!(problem("Email", "a@b"), "mode");
    assert_eq!(problem("", "a@b"), "mode");
    assert_eq!(problem("token", "not a uuid"), "identity");
    assert_eq!(problem("email", "  "), "identity");
    assert_eq!(problem("email", "a\0b"), "identity");
    assert!(Identity::parse("login", "100%_'\"").is_ok());
}

#[test]
fn documents_are_kept_as_given() {
    let text = r#"{"z":1.0,"a":12345678901234567890.123,"e":1e400,"nested":{"b":[],"a":null}}"#;
    let document = document(value(text));
    assert_eq!(document.as_value().to_string(), text);
}

#[test]
fn a_document_that_cannot_be_stored_is_refused() {
    assert_eq!(Document::parse(json!([])), Err(Rule::Type("object")));
    assert_eq!(Document::parse(json!({ "a": ["x\0"] })), Err(Rule::ControlCharacter));
    assert_eq!(Document::parse(json!({ "a\0": 1 })), Err(Rule::ControlCharacter));
    let mut deep = json!(1);
    for _ in 0..=DEPTH_MAX {
        deep = json!([deep]);
    }
    assert_eq!(Document::parse(json!({ "a": deep })), Err(Rule::TooDeep));
}

#[test]
fn a_merge_removes_by_null_and_a_patch_applies_whole_or_not_at_all() {
    let before = document(json!({ "a": 1, "b": { "c": 2 } }));
    assert_eq!(
        before.merged(&json!({ "a": null, "b": { "d": 3 } })).unwrap().into_value(),
        json!({ "b": { "c": 2, "d": 3 } })
    );
    assert_eq!(before.merged(&json!(5)), Err(Rule::Type("object")));
    let good =
        json!([{ "op": "replace", "path": "/a", "value": 9 }, { "op": "remove", "path": "/b" }]);
    assert_eq!(before.patched(&good).unwrap().into_value(), json!({ "a": 9 }));
    let half = json!([{ "op": "replace", "path": "/a", "value": 9 }, { "op": "remove", "path": "/nowhere" }]);
    assert_eq!(before.patched(&half), Err(Rule::Patch));
    assert_eq!(before.patched(&json!({ "op": "add" })), Err(Rule::Patch));
    assert_eq!(
        before.patched(&json!([{ "op": "replace", "path": "", "value": 1 }])),
        Err(Rule::Type("object"))
    );
}

#[test]
fn numbers_in_a_patch_keep_their_digits() {
    let number = "[{\"op\":\"add\",\"path\":\"/n\",\"value\":12345678901234567890.1230}]";
    let patched = document(json!({ "a": 1 })).patched(&value(number));
    let text = patched.unwrap().as_value().to_string();
    assert_eq!(text, r#"{"a":1,"n":12345678901234567890.1230}"#);
}

#[test]
fn a_patch_cannot_exhaust_the_memory() {
    let small = document(json!({ "a": "x".repeat(1000), "list": [] }));
    let copies = |from: &str, path: &str, times: usize| {
        Value::Array(vec![json!({ "op": "copy", "from": from, "path": path }); times])
    };
    assert!(small.patched(&copies("/a", "/list/-", 100)).is_ok());
    // Each doubles the document.
    assert_eq!(small.patched(&copies("", "/list/-", 60)), Err(Rule::TooLong(SIZE_MAX)));
    assert_eq!(small.patched(&copies("/a", "/b", 1001)), Err(Rule::Patch));
    // Each nests it twice as deeply.
    let deeper: Vec<Value> = (0..12)
        .map(|power| {
            let path = format!("{}/n", "/n".repeat((1 << power) - 1));
            json!({ "op": "copy", "from": "", "path": path })
        })
        .collect();
    assert_eq!(document(json!({})).patched(&Value::Array(deeper)), Err(Rule::TooDeep));
}

#[test]
fn changes_do_not_grow_a_document_beyond_its_limit() {
    let half = "x".repeat(SIZE_MAX / 2);
    let one = document(json!({ "a": half }));
    assert_eq!(one.merged(&json!({ "b": half })), Err(Rule::TooLong(SIZE_MAX)));
    assert!(one.merged(&json!({ "a": null, "b": half })).is_ok());
    assert_eq!(
        Document::parse(json!({ "a": "é".repeat(SIZE_MAX / 2) })),
        Err(Rule::TooLong(SIZE_MAX))
    );
}

/// A number with this many digits.
fn number(digits: usize) -> Value {
    value(&"7".repeat(digits))
}

/// An object with this member.
fn within(name: &str, value: Value) -> Value {
    Value::Object([(name.to_owned(), value)].into_iter().collect())
}

#[test]
fn a_number_is_as_long_as_its_digits_and_has_a_limit() {
    assert!(Document::parse(within("n", number(1000))).is_ok());
    assert_eq!(
        Document::parse(within("n", Value::Array(vec![number(1001)]))),
        Err(Rule::LongNumber(1000))
    );
    let one = document(json!({ "a": 1 }));
    assert_eq!(one.merged(&within("n", number(900_000))), Err(Rule::LongNumber(1000)));
    // A document of before, with a number that is as long as a document may be.
    let stored = Document::stored(value(&format!("{{\"n\":{},\"list\":[]}}", "7".repeat(900_000))));
    let copies = vec![json!({ "op": "copy", "from": "/n", "path": "/list/-" }); 1000];
    assert_eq!(stored.patched(&Value::Array(copies)), Err(Rule::TooLong(SIZE_MAX)));
}

#[test]
fn a_patch_keeps_the_document_within_its_size_after_each_operation() {
    let half = json!({ "a": "x".repeat(SIZE_MAX / 2 + 2000), "list": [], "small": "x" });
    let patch = |operations: Value| document(half.clone()).patched(&operations);
    let too_long = Err(Rule::TooLong(SIZE_MAX));
    let remove = json!({ "op": "remove", "path": "/b" });
    for grow in [
        json!({ "op": "copy", "from": "/a", "path": "/b" }),
        json!({ "op": "add", "path": "/b", "value": "y".repeat(SIZE_MAX / 2) }),
        json!({ "op": "add", "path": "/list/0", "value": "y".repeat(SIZE_MAX / 2) }),
        json!({ "op": "replace", "path": "/small", "value": "y".repeat(SIZE_MAX / 2) }),
        json!({ "op": "add", "path": format!("/{}", "y".repeat(SIZE_MAX / 2)), "value": 1 }),
    ] {
        assert_eq!(patch(json!([grow.clone(), remove.clone()])), too_long);
    }
    // What makes room first fits, and so does what replaces.
    let again = "y".repeat(SIZE_MAX / 2 + 2000);
    for fits in [
        json!([{ "op": "remove", "path": "/a" }, { "op": "add", "path": "/b", "value": again }]),
        json!([{ "op": "replace", "path": "/a", "value": again }]),
        json!([{ "op": "add", "path": "/a", "value": again }]),
        json!([{ "op": "replace", "path": "", "value": { "b": again } }]),
        json!([{ "op": "move", "from": "/a", "path": "/list/0" }, { "op": "move", "from": "/list/0", "path": "/a" }]),
    ] {
        assert!(patch(fits.clone()).is_ok(), "{:.200}", fits.to_string());
    }
}

#[test]
fn a_patch_may_do_only_so_much_work() {
    let long: Vec<Value> = (0..100_000).map(|n| json!(n)).collect();
    let array = document(json!({ "list": long, "text": "x".repeat(100_000), "to": {} }));
    for (operations, from, to) in [
        (vec![json!({ "op": "add", "path": "/list/0", "value": 0 })], 40, 45),
        (vec![json!({ "op": "remove", "path": "/list/0" })], 40, 45),
        (vec![json!({ "op": "move", "from": "/list/99999", "path": "/list/0" })], 40, 45),
        (
            vec![
                json!({ "op": "move", "from": "/text", "path": "/to/text" }),
                json!({ "op": "move", "from": "/to/text", "path": "/text" }),
            ],
            20,
            22,
        ),
    ] {
        let times = |count: usize| {
            Value::Array(
                operations.iter().cloned().cycle().take(count * operations.len()).collect(),
            )
        };
        assert!(array.patched(&times(from)).is_ok(), "{operations:?}");
        assert_eq!(array.patched(&times(to)), Err(Rule::TooLong(SIZE_MAX)), "{operations:?}");
    }
    // At the end nothing moves.
    let appended = vec![json!({ "op": "add", "path": "/list/-", "value": 0 }); 1000];
    assert!(array.patched(&Value::Array(appended)).is_ok());
}

#[test]
fn a_document_has_a_limited_number_of_values_and_names() {
    let zeros = |count: usize| Document::parse(json!({ "a": vec![0; count] }));
    assert!(zeros(VALUES_MAX - 3).is_ok());
    assert_eq!(zeros(VALUES_MAX - 2), Err(Rule::TooManyValues(VALUES_MAX)));
}

#[test]
fn a_patch_cannot_make_a_name_that_is_read_back_as_a_number() {
    for operations in [
        json!([{ "op": "add", "path": "/a", "value": {} }, { "op": "add", "path": "/a/$serde_json::private::Number", "value": "1" }]),
        json!([{ "op": "move", "from": "/n", "path": "/$serde_json::private::Number" }]),
    ] {
        assert_eq!(document(json!({ "n": "1" })).patched(&operations), Err(Rule::Reserved));
    }
}
