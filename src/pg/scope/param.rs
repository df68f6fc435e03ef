//! Maps Rust values to typed SQL parameters.
//!
//! Statements are unnamed by default. That takes one round trip and works behind every pooler, but the type
//! of each parameter must be known up front. [`Param`] provides it, so that a query still reads
//! `tx.query(SQL, &[&id, &name])`.

use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::domain::names::{
    Email, ExternalId, InvitationId, PersonName, Slug, TenantId, TenantName, TokenId, UserId,
};
use crate::domain::profile::{Document, ProfileId};

/// A value that can be bound to a statement.
///
/// Implemented for the types that our tables hold. An application implements it for a type of its own by
/// naming the PostgreSQL type.
pub trait Param: Sync {
    /// Returns the value as tokio-postgres takes it.
    fn as_sql(&self) -> &(dyn ToSql + Sync);
    /// Returns the PostgreSQL type that the value is sent as.
    fn sql_type(&self) -> Type;
}

/// Implements [`Param`] for a type that tokio-postgres knows, and for `Option` of it.
macro_rules! params {
    ($($rust:ty => $pg:ident,)+) => {$(
        impl Param for $rust {
            fn as_sql(&self) -> &(dyn ToSql + Sync) {
                self
            }
            fn sql_type(&self) -> Type {
                Type::$pg
            }
        }

        impl Param for Option<$rust> {
            fn as_sql(&self) -> &(dyn ToSql + Sync) {
                self
            }
            fn sql_type(&self) -> Type {
                Type::$pg
            }
        }
    )+};
}

params! {
    bool => BOOL,
    i16 => INT2,
    i32 => INT4,
    i64 => INT8,
    f64 => FLOAT8,
    &str => TEXT,
    String => TEXT,
    &[u8] => BYTEA,
    Vec<u8> => BYTEA,
    Uuid => UUID,
    OffsetDateTime => TIMESTAMPTZ,
    Value => JSONB,
    Vec<String> => TEXT_ARRAY,
    Vec<&str> => TEXT_ARRAY,
    Vec<Uuid> => UUID_ARRAY,
    Vec<i32> => INT4_ARRAY,
    Vec<i64> => INT8_ARRAY,
    Vec<OffsetDateTime> => TIMESTAMPTZ_ARRAY,
    Vec<Vec<u8>> => BYTEA_ARRAY,
}

/// Implements [`Param`], and reading from a row, for our newtypes: each is sent as the type that it wraps.
macro_rules! newtypes {
    ($($newtype:ty, $inner:ty, $make:path, $pg:ident;)+) => {$(
        impl ToSql for $newtype {
            fn to_sql(
                &self,
                ty: &Type,
                out: &mut bytes::BytesMut,
            ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
                newtypes!(@inner self, $pg).to_sql(ty, out)
            }

            fn accepts(ty: &Type) -> bool {
                <$inner as ToSql>::accepts(ty)
            }

            tokio_postgres::types::to_sql_checked!();
        }

        impl<'a> tokio_postgres::types::FromSql<'a> for $newtype {
            fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                Ok($make(<$inner as tokio_postgres::types::FromSql>::from_sql(ty, raw)?))
            }

            fn accepts(ty: &Type) -> bool {
                <$inner as tokio_postgres::types::FromSql>::accepts(ty)
            }
        }

        params! { $newtype => $pg, }
    )+};
    (@inner $value:ident, UUID) => { $value.uuid() };
    (@inner $value:ident, TEXT) => { $value.as_str() };
}

newtypes! {
    TenantId, Uuid, TenantId::new, UUID;
    ProfileId, Uuid, ProfileId::new, UUID;
    UserId, Uuid, UserId::new, UUID;
    TokenId, Uuid, TokenId::new, UUID;
    InvitationId, Uuid, InvitationId::new, UUID;
    Slug, String, Slug::stored, TEXT;
    TenantName, String, TenantName::stored, TEXT;
    ExternalId, String, ExternalId::stored, TEXT;
    PersonName, String, PersonName::stored, TEXT;
    Email, String, Email::stored, TEXT;
}

/// A document is sent as text and returned unchanged, which `jsonb` would not do.
impl Param for Document {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        self.as_value()
    }

    fn sql_type(&self) -> Type {
        Type::JSON
    }
}

/// Returns parameters with their types, for an unnamed statement.
pub(super) fn typed<'a>(params: &[&'a dyn Param]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().map(|param| (param.as_sql(), param.sql_type())).collect()
}

/// Returns the types of parameters.
pub(super) fn types(params: &[&dyn Param]) -> Vec<Type> {
    params.iter().map(|param| param.sql_type()).collect()
}

/// Returns parameters without their types, for a prepared statement.
pub(super) fn values<'a>(params: &[&'a dyn Param]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| param.as_sql()).collect()
}
