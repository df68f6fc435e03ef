//! Owns what a tenant stores about a person: the document, the keys it is found by, how long it lives.
//!
//! In Databunker's words a profile's id is a "token"; here it is a [`ProfileId`], and a token is a
//! credential.

use std::fmt;

use json_patch::PatchOperation;
use md5::{Digest, Md5};
use serde::Serialize;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::error::{FieldProblem, Rule};

/// Longest key or identity, in characters: it must fit an index entry (a third of an 8 KiB page).
pub const KEY_MAX: usize = 512;

/// Deepest nesting of a document. PostgreSQL and serde stop not far beyond, each in its own way.
pub const DEPTH_MAX: usize = 64;

/// Largest document, in bytes of its text. A request body has a limit of its own; this one holds for what
/// changes add up to, since every version is kept.
pub const SIZE_MAX: usize = 1 << 20;

/// Most operations of a JSON patch.
const PATCH_MAX: usize = 1000;

/// Most that the operations of one JSON patch may copy and move about, in values and bytes of text. A
/// few dozen copies of a document into itself would otherwise fill the memory.
const PATCH_WEIGHT_MAX: usize = 4 * SIZE_MAX;

/// Names a profile within its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ProfileId(Uuid);

impl ProfileId {
    /// Wraps a UUID that came from our own tables or from a caller who asks for it.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// A fresh one, random: it must not tell when the person was stored.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// The UUID inside.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The keys that a person can be found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// E-mail address; compared in lower case.
    Email,
    /// Log-in name.
    Login,
    /// Telephone number; compared without spaces and punctuation.
    Phone,
    /// Whatever else the application knows the person by.
    Custom,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Email, Self::Login, Self::Phone, Self::Custom];

    /// The field of the document, the column, and the mode on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Login => "login",
            Self::Phone => "phone",
            Self::Custom => "custom",
        }
    }

    /// The form in which a key is stored and looked for.
    #[must_use]
    pub fn normalize(self, given: &str) -> String {
        match self {
            Self::Email => given.trim().chars().flat_map(fold).collect(),
            Self::Login | Self::Custom => given.trim().to_owned(),
            Self::Phone => {
                given.chars().filter(|c| !c.is_whitespace() && !"-().".contains(*c)).collect()
            }
        }
    }
}

/// How a request names a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// By the profile's own id.
    Id(ProfileId),
    /// By one of the keys, normalised.
    Key(KeyKind, String),
}

impl Identity {
    /// Reads a mode and an identity.
    ///
    /// # Errors
    /// The field and the rule that it breaks.
    pub fn parse(mode: &str, identity: &str) -> Result<Self, FieldProblem> {
        const MODES: &[&str] = &["token", "login", "email", "phone", "custom"];
        if mode == "token" {
            return Uuid::try_parse(identity)
                .map(|id| Self::Id(ProfileId::new(id)))
                .map_err(|_no_uuid| FieldProblem::new("identity", Rule::TokenUuid));
        }
        let kind = KeyKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == mode)
            .ok_or(FieldProblem::new("mode", Rule::OneOf(MODES)))?;
        let key =
            readable_key(kind, identity).map_err(|rule| FieldProblem::new("identity", rule))?;
        key.map(|key| Self::Key(kind, key)).ok_or(FieldProblem::new("identity", Rule::Required))
    }
}

/// A person's record: a JSON object, kept as it was given.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Document(Value);

impl Document {
    /// Takes an object that PostgreSQL can store.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(value: Value) -> Result<Self, Rule> {
        if !value.is_object() {
            return Err(Rule::Type("object"));
        }
        check(&value, 0)?;
        if size(&value) > SIZE_MAX {
            return Err(Rule::TooLong(SIZE_MAX));
        }
        Ok(Self(value))
    }

    /// Takes what our own tables hold.
    #[must_use]
    pub const fn stored(value: Value) -> Self {
        Self(value)
    }

    /// The JSON inside.
    #[must_use]
    pub const fn as_value(&self) -> &Value {
        &self.0
    }

    /// The JSON itself.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.0
    }

    /// The document with a merge patch applied (RFC 7396): null removes a field.
    ///
    /// # Errors
    /// The rule that the result breaks.
    pub fn merged(&self, patch: &Value) -> Result<Self, Rule> {
        let mut value = self.0.clone();
        json_patch::merge(&mut value, patch);
        Self::parse(value)
    }

    /// The document with a JSON patch applied (RFC 6902), all of it or nothing.
    ///
    /// # Errors
    /// [`Rule::Patch`] where it is none or does not apply, or the rule that the result breaks.
    pub fn patched(&self, patch: &Value) -> Result<Self, Rule> {
        let patch: json_patch::Patch =
            serde_json::from_value(patch.clone()).map_err(|_no_patch| Rule::Patch)?;
        if patch.len() > PATCH_MAX {
            return Err(Rule::Patch);
        }
        let (mut value, mut left) = (self.0.clone(), PATCH_WEIGHT_MAX);
        for operation in patch.iter() {
            bound(&value, operation, &mut left)?;
            // One at a time and on a copy: what fails half-way is thrown away.
            json_patch::patch_unsafe(&mut value, std::slice::from_ref(operation))
                .map_err(|_does_not_apply| Rule::Patch)?;
        }
        Self::parse(value)
    }

    /// The MD5 of its text, in hex; the contract asks for this digest.
    #[must_use]
    pub fn md5(&self) -> String {
        hex::encode(Md5::digest(self.0.to_string()))
    }

    /// The keys in it.
    ///
    /// # Errors
    /// The field and the rule that it breaks.
    pub fn keys(&self) -> Result<Keys, FieldProblem> {
        let key = |kind: KeyKind| {
            let read = match self.0.get(kind.as_str()) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => readable_key(kind, text),
                // Clients send telephone numbers as numbers.
                Some(Value::Number(number)) if kind != KeyKind::Email => {
                    readable_key(kind, &number.to_string())
                }
                Some(_) => Err(Rule::Type("string")),
            };
            read.map_err(|rule| FieldProblem::new(kind.as_str(), rule))
        };
        Ok(Keys {
            email: key(KeyKind::Email)?,
            login: key(KeyKind::Login)?,
            phone: key(KeyKind::Phone)?,
            custom: key(KeyKind::Custom)?,
        })
    }
}

/// The keys of one profile, normalised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    /// E-mail address.
    pub email: Option<String>,
    /// Log-in name.
    pub login: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// Anything else.
    pub custom: Option<String>,
}

impl Keys {
    /// The keys that there are.
    pub fn iter(&self) -> impl Iterator<Item = (KeyKind, String)> {
        let all = [
            (KeyKind::Email, &self.email),
            (KeyKind::Login, &self.login),
            (KeyKind::Phone, &self.phone),
            (KeyKind::Custom, &self.custom),
        ];
        all.into_iter().filter_map(|(kind, key)| Some((kind, key.clone()?)))
    }
}

/// How long a profile lives, in the caller's words and in ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lifetime {
    /// The end, as given.
    pub final_time: Option<String>,
    /// The time after the last use, as given.
    pub sliding_time: Option<String>,
    /// The end.
    pub final_at: Option<OffsetDateTime>,
    /// The time after the last use, in seconds.
    pub sliding_seconds: Option<i64>,
}

impl Lifetime {
    /// Reads both, `now` being when the profile is stored.
    ///
    /// # Errors
    /// The field and the rule that it breaks.
    pub fn parse(
        final_time: Option<String>,
        sliding_time: Option<String>,
        now: OffsetDateTime,
    ) -> Result<Self, FieldProblem> {
        let length = |field: &'static str, text: &Option<String>| {
            text.as_deref()
                .map(|text| {
                    parse_length(text, MonthOrMinute::Month)
                        .ok_or(FieldProblem::new(field, Rule::Lifetime))
                })
                .transpose()
        };
        let final_length = length("finaltime", &final_time)?;
        let sliding = length("slidingtime", &sliding_time)?;
        Ok(Self {
            final_at: final_length.and_then(|length| now.checked_add(length)),
            sliding_seconds: sliding.map(Duration::whole_seconds),
            final_time,
            sliding_time,
        })
    }

    /// When the profile ends if it is used now and never again.
    #[must_use]
    pub fn expires_at(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let sliding =
            self.sliding_seconds.and_then(|seconds| now.checked_add(Duration::seconds(seconds)));
        match (self.final_at, sliding) {
            (Some(end), Some(sliding)) => Some(end.min(sliding)),
            (end, sliding) => end.or(sliding),
        }
    }
}

/// What a bare `m` means. The documents use it for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonthOrMinute {
    /// Thirty days: for records, where too short a time would lose data.
    Month,
    /// Sixty seconds: for credentials, where too long a time would leave a door open.
    Minute,
}

/// Reads a length of time: `30d`, `1y`, `24h`, `2s`, `6w`, `3m`, or a bare number of seconds. Longer than
/// a hundred years is none.
#[must_use]
pub fn parse_length(text: &str, m: MonthOrMinute) -> Option<Duration> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits)?;
    let count: i64 = digits.parse().ok().filter(|count| *count > 0)?;
    let unit_seconds = match (unit, m) {
        ("" | "s", _) => 1,
        ("h", _) => 3600,
        ("d", _) => 86_400,
        ("w", _) => 7 * 86_400,
        ("m", MonthOrMinute::Month) => 30 * 86_400,
        ("m", MonthOrMinute::Minute) => 60,
        ("y", _) => 365 * 86_400,
        _ => return None,
    };
    let seconds = count.checked_mul(unit_seconds)?;
    (seconds <= 100 * 365 * 86_400).then(|| Duration::seconds(seconds))
}

/// A key in the form that it is stored in; nothing where nothing is left of it.
fn readable_key(kind: KeyKind, given: &str) -> Result<Option<String>, Rule> {
    if given.contains('\0') {
        return Err(Rule::ControlCharacter);
    }
    if given.chars().count() > KEY_MAX {
        return Err(Rule::TooLong(KEY_MAX));
    }
    let key = kind.normalize(given);
    Ok((!key.is_empty()).then_some(key))
}

/// A character of an address without its case. A letter outside of ASCII that would become one inside (the
/// Kelvin sign, a k) stays as it is: folded, a look-alike would be somebody else's address.
fn fold(c: char) -> impl Iterator<Item = char> {
    let crosses = !c.is_ascii() && c.to_lowercase().any(|lower| lower.is_ascii());
    let folded = (!crosses).then(|| c.to_lowercase());
    folded.into_iter().flatten().chain(crosses.then_some(c))
}

/// The length of a value's text, in bytes.
fn size(value: &Value) -> usize {
    struct Counter(usize);

    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).map_or(usize::MAX, |()| counter.0)
}

/// Refuses an operation that would nest the document too deeply, or copy and move more than is `left`.
fn bound(document: &Value, operation: &PatchOperation, left: &mut usize) -> Result<(), Rule> {
    let (placed, costs) = match operation {
        PatchOperation::Add(add) => (Some(&add.value), false),
        PatchOperation::Replace(replace) => (Some(&replace.value), false),
        PatchOperation::Copy(copy) => (document.pointer(copy.from.as_str()), true),
        PatchOperation::Move(moved) => (document.pointer(moved.from.as_str()), true),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => (None, false),
    };
    // Where there is nothing to place, applying the operation tells so.
    let Some(placed) = placed else { return Ok(()) };
    let mut plenty = usize::MAX;
    weigh(placed, operation.path().tokens().count(), if costs { left } else { &mut plenty })
}

/// Takes the weight of a value that stands so deep off what is left.
fn weigh(value: &Value, depth: usize, left: &mut usize) -> Result<(), Rule> {
    if depth > DEPTH_MAX {
        return Err(Rule::TooDeep);
    }
    let text = match value {
        Value::String(text) => text.len(),
        Value::Object(fields) => fields.keys().map(String::len).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => 0,
    };
    *left = left.checked_sub(1 + text).ok_or(Rule::TooLong(SIZE_MAX))?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| weigh(item, depth + 1, left)),
        Value::Object(fields) => fields.values().try_for_each(|item| weigh(item, depth + 1, left)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Refuses what PostgreSQL could not give back: NUL in a text, and nesting that it or we would choke on.
fn check(value: &Value, depth: usize) -> Result<(), Rule> {
    if depth > DEPTH_MAX {
        return Err(Rule::TooDeep);
    }
    match value {
        Value::String(text) if text.contains('\0') => Err(Rule::ControlCharacter),
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth + 1)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, item)| {
            if name.contains('\0') { Err(Rule::ControlCharacter) } else { check(item, depth + 1) }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
        let same = |one: &str, other: &str| {
            KeyKind::Email.normalize(one) == KeyKind::Email.normalize(other)
        };
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
        let problem =
            |mode: &str, identity: &str| Identity::parse(mode, identity).unwrap_err().field;
        assert_eq!(problem("Email", "a@b"), "mode");
        assert_eq!(problem("", "a@b"), "mode");
        assert_eq!(problem("token", "not a uuid"), "identity");
        assert_eq!(problem("email", "  "), "identity");
        assert_eq!(problem("email", "a\0b"), "identity");
        assert!(Identity::parse("login", "100%_'\"").is_ok());
    }

    #[test]
    fn documents_are_kept_as_given() {
        // An exponent gains its sign, and is otherwise as long as it was.
        let text =
            r#"{"z":1.0,"a":12345678901234567890.123,"e":1e+400,"nested":{"b":[],"a":null}}"#;
        let document = document(serde_json::from_str(text).unwrap());
        assert_eq!(document.as_value().to_string(), text);
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
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
        let good = json!([{ "op": "replace", "path": "/a", "value": 9 }, { "op": "remove", "path": "/b" }]);
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
        let patched = document(json!({ "a": 1 })).patched(&serde_json::from_str(number).unwrap());
        let text = patched.unwrap().as_value().to_string();
        assert_eq!(text, r#"{"a":1,"n":12345678901234567890.1230}"#);
    }

    #[test]
    fn a_patch_cannot_blow_a_document_up() {
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
    fn changes_do_not_add_up_to_more_than_a_document_may_hold() {
        let half = "x".repeat(SIZE_MAX / 2);
        let one = document(json!({ "a": half }));
        assert_eq!(one.merged(&json!({ "b": half })), Err(Rule::TooLong(SIZE_MAX)));
        assert!(one.merged(&json!({ "a": null, "b": half })).is_ok());
        assert_eq!(
            Document::parse(json!({ "a": "é".repeat(SIZE_MAX / 2) })),
            Err(Rule::TooLong(SIZE_MAX))
        );
    }

    #[test]
    fn lengths_of_time_are_read_in_the_documented_units() {
        for (text, seconds) in [
            ("30d", 2_592_000),
            ("1y", 31_536_000),
            ("24h", 86_400),
            ("2s", 2),
            ("15", 15),
            ("3m", 7_776_000),
        ] {
            assert_eq!(
                parse_length(text, MonthOrMinute::Month),
                Some(Duration::seconds(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_length("30m", MonthOrMinute::Minute), Some(Duration::minutes(30)));
        for bad in
            ["", "d", "0d", "-1d", "1.5h", "soon", "1x", "9999999999999999999d", "1000y", "1 d"]
        {
            assert_eq!(parse_length(bad, MonthOrMinute::Month), None, "{bad}");
        }
    }
}
