//! Reads request bodies for every dialect: the bytes up to the limit, the JSON, and its fields one by one.
//!
//! A dialect states in a [`Policy`] how it reads; there is no other reader. JSON is read whatever the
//! `Content-Type` says: curl labels a body as a form by default.
//!
//! Must not know: what a field means.

mod fields;
mod policy;
mod read;

pub(crate) use fields::{FieldPolicy, Fields, word};
pub(crate) use policy::{Blank, Policy, SMALL, Top};
pub(crate) use read::{Body, WholeBody};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::{Error, Malformed};
    use crate::domain::json::{Excess, Value};
    use crate::domain::rule::Rule;

    const STRICT: Policy =
        Policy { blank: Blank::Malformed, top: Top::Object, fields: FieldPolicy::Strict };
    const LENIENT: Policy =
        Policy { blank: Blank::EmptyObject, top: Top::ObjectOrArray, fields: FieldPolicy::Lenient };

    const BODY: &[u8] =
        br#"{"name": 5, "a/b": 1, "list": [1], "admin": {"email": "x", "extra": true}}"#;

    fn problems(policy: Policy) -> Vec<(String, &'static str)> {
        let mut fields = policy.fields(BODY).unwrap();
        let _ = fields.required("name", |text| Ok(text.to_owned()));
        let _ = fields.required("slug", |text| Ok(text.to_owned()));
        assert_eq!(fields.array("list").map(|items| items.len()), Some(1));
        fields.refuse_element("list", 0, Rule::Permission);
        let mut admin = fields.object("admin").unwrap();
        let _ = admin.required("email", |_| Err::<(), _>(Rule::EmailFormat));
        fields.merge(admin);
        let Err(Error::Invalid(problems)) = fields.finish(Some(())) else {
            panic!("it is not valid")
        };
        problems.iter().map(|p| (p.field.to_string(), p.rule.code())).collect()
    }

    #[test]
    fn every_problem_of_a_strict_body_is_named_by_its_pointer() {
        let expected = [
            ("/name", "wrong_type"),
            ("/slug", "required"),
            ("/list/0", "unknown_permission"),
            ("/admin/email", "email_format"),
            ("/admin/extra", "unknown_field"),
            ("/a~1b", "unknown_field"),
        ];
        assert_eq!(problems(STRICT), expected.map(|(field, code)| (field.to_owned(), code)));
    }

    #[test]
    fn every_problem_of_a_lenient_body_is_named_as_in_the_body() {
        let expected = [
            ("name", "wrong_type"),
            ("slug", "required"),
            ("list.0", "unknown_permission"),
            ("admin.email", "email_format"),
        ];
        assert_eq!(problems(LENIENT), expected.map(|(field, code)| (field.to_owned(), code)));
    }

    #[test]
    fn a_policy_decides_about_blank_bodies_and_arrays() {
        assert!(matches!(STRICT.parse(b" "), Err(Malformed::Json { .. })));
        assert_eq!(STRICT.parse(b"[]"), Err(Malformed::NotAnObject));
        assert_eq!(LENIENT.parse(b" \n"), Ok(Value::object()));
        assert_eq!(LENIENT.parse(b"[]"), Ok(Value::Array(Vec::new())));
        for policy in [STRICT, LENIENT] {
            assert_eq!(policy.parse(b"5"), Err(Malformed::NotAnObject));
            assert!(matches!(policy.fields(b"[]"), Err(Error::Malformed(Malformed::NotAnObject))));
        }
    }

    #[test]
    fn an_answer_lists_a_bounded_number_of_problems_with_names_of_a_bounded_length() {
        let long = "é".repeat(500);
        let names: Vec<String> = (0..5000).map(|number| format!("\"{long}{number}\":1")).collect();
        let fields = STRICT.fields(format!("{{{}}}", names.join(",")).as_bytes()).unwrap();
        let Err(Error::Invalid(problems)) = fields.finish(Some(())) else {
            panic!("it is not valid")
        };
        assert_eq!(problems.len(), 50);
        assert!(
            problems.iter().all(|problem| problem.field.chars().count() == 130),
            "{problems:?}"
        );
        // The same for a query, which can name a parameter many times.
        let pairs = vec![("a".to_owned(), String::new()); 5000];
        let Err(Error::Invalid(problems)) = Fields::of_query(pairs).finish(Some(())) else {
            panic!("it is not valid")
        };
        assert_eq!(problems.len(), 50);
    }

    #[test]
    fn a_policy_refuses_what_exceeds_a_limit_for_json() {
        let number = format!("{{\"n\":{}}}", "1".repeat(5000));
        for policy in [STRICT, LENIENT] {
            let refused = policy.parse(number.as_bytes());
            assert_eq!(refused, Err(Malformed::Excess(Excess::LongNumber)));
            let refused = policy.parse(br#"{"$serde_json::private::Number":"1"}"#);
            assert_eq!(refused, Err(Malformed::Excess(Excess::ReservedName)));
        }
    }
}
