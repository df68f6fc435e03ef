//! How a call names a person.

#![expect(dead_code, reason = "describes the bodies in the OpenAPI document")]

use utoipa::ToSchema;
use uuid::Uuid;

use super::fields::{key, phone};

/// The kind of an identity.
#[derive(ToSchema)]
#[schema(as = DatabunkerMode, rename_all = "lowercase")]
pub(crate) enum Mode {
    /// The record's token.
    Token,
    /// The log-in name.
    Login,
    /// The e-mail address.
    Email,
    /// The telephone number.
    Phone,
    /// A key of the application's own.
    Custom,
}

/// The kinds of keys that are compared as they are.
#[derive(ToSchema)]
#[schema(as = DatabunkerKeyMode, rename_all = "lowercase")]
enum KeyMode {
    Login,
    Email,
    Custom,
}

/// The mode of a telephone number.
#[derive(ToSchema)]
#[schema(as = DatabunkerPhoneMode, rename_all = "lowercase")]
enum PhoneMode {
    Phone,
}

/// The mode of a record's token.
#[derive(ToSchema)]
#[schema(as = DatabunkerTokenMode, rename_all = "lowercase")]
enum TokenMode {
    Token,
}

/// A person, identified by the record's token or by a key.
#[derive(ToSchema)]
#[schema(as = DatabunkerPerson)]
#[serde(untagged)]
pub(crate) enum Person {
    /// By the record's token.
    Token(PersonByToken),
    /// By a key.
    Key(PersonByKey),
    /// By the telephone number.
    Phone(PersonByPhone),
}

/// A person, identified by a key.
#[derive(ToSchema)]
#[schema(as = DatabunkerKeyedPerson)]
#[serde(untagged)]
pub(crate) enum KeyedPerson {
    /// By a key.
    Key(PersonByKey),
    /// By the telephone number.
    Phone(PersonByPhone),
}

/// A person, identified by the record's token.
#[derive(ToSchema)]
#[schema(as = DatabunkerPersonByToken)]
pub(crate) struct PersonByToken {
    mode: TokenMode,
    identity: Uuid,
}

/// A person, identified by a key.
#[derive(ToSchema)]
#[schema(as = DatabunkerPersonByKey)]
pub(crate) struct PersonByKey {
    mode: KeyMode,
    #[schema(schema_with = key)]
    identity: String,
}

/// A person, identified by the telephone number.
#[derive(ToSchema)]
#[schema(as = DatabunkerPersonByPhone)]
pub(crate) struct PersonByPhone {
    mode: PhoneMode,
    #[schema(schema_with = phone)]
    identity: String,
}
