//! Maps Rust values to typed SQL parameters.
//!
//! Statements are unnamed by default. That takes one round trip and works behind every pooler, but the type
//! of each parameter must be known up front. [`Param`] provides it, so that a query still reads
//! `tx.query(SQL, &[&id, &name])`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::SystemTime;

use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};
use tokio_postgres::types::{Json, PgLsn, ToSql, Type};
use uuid::Uuid;

use crate::domain::json;
use crate::domain::names::{
    Email, ExternalId, InvitationId, PersonName, Slug, TenantId, TenantName, TokenId, UserId,
};
use crate::domain::profile::{Document, ProfileId};

/// A value that can be bound to a statement.
///
/// Implemented for the types that `tokio-postgres` maps, for `Option` of each and for lists of most; with the feature
/// `decimal` also for `rust_decimal::Decimal`. An application implements it for a type of its own by naming the PostgreSQL
/// type, of those in [`rowhouse::types`](crate::types).
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
    i8 => CHAR,
    i16 => INT2,
    i32 => INT4,
    i64 => INT8,
    u32 => OID,
    f32 => FLOAT4,
    f64 => FLOAT8,
    &str => TEXT,
    String => TEXT,
    Box<str> => TEXT,
    Cow<'_, str> => TEXT,
    &[u8] => BYTEA,
    Vec<u8> => BYTEA,
    Uuid => UUID,
    OffsetDateTime => TIMESTAMPTZ,
    SystemTime => TIMESTAMPTZ,
    PrimitiveDateTime => TIMESTAMP,
    Date => DATE,
    Time => TIME,
    IpAddr => INET,
    PgLsn => PG_LSN,
    serde_json::Value => JSONB,
    json::Value => JSONB,
    Vec<bool> => BOOL_ARRAY,
    Vec<String> => TEXT_ARRAY,
    Vec<&str> => TEXT_ARRAY,
    Vec<Option<String>> => TEXT_ARRAY,
    Vec<Uuid> => UUID_ARRAY,
    Vec<i16> => INT2_ARRAY,
    Vec<i32> => INT4_ARRAY,
    Vec<i64> => INT8_ARRAY,
    Vec<f32> => FLOAT4_ARRAY,
    Vec<f64> => FLOAT8_ARRAY,
    Vec<OffsetDateTime> => TIMESTAMPTZ_ARRAY,
    Vec<PrimitiveDateTime> => TIMESTAMP_ARRAY,
    Vec<Date> => DATE_ARRAY,
    Vec<Time> => TIME_ARRAY,
    Vec<IpAddr> => INET_ARRAY,
    Vec<Vec<u8>> => BYTEA_ARRAY,
    Vec<serde_json::Value> => JSONB_ARRAY,
}

#[cfg(feature = "decimal")]
params! {
    rust_decimal::Decimal => NUMERIC,
    Vec<rust_decimal::Decimal> => NUMERIC_ARRAY,
}

/// A value that serde writes as JSON, bound to `jsonb`.
impl<T: serde::Serialize + std::fmt::Debug + Sync> Param for Json<T> {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        self
    }

    fn sql_type(&self) -> Type {
        Type::JSONB
    }
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

/// JSON keeps its text on the way, as far as the column keeps it.
impl ToSql for json::Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        if *ty == Type::JSONB {
            out.extend_from_slice(&[JSONB_VERSION]);
        }
        out.extend_from_slice(&serde_json::to_vec(self)?);
        Ok(tokio_postgres::types::IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        [Type::JSON, Type::JSONB].contains(ty)
    }

    tokio_postgres::types::to_sql_checked!();
}

impl<'a> tokio_postgres::types::FromSql<'a> for json::Value {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let text = match raw.split_first() {
            Some((&JSONB_VERSION, text)) if *ty == Type::JSONB => text,
            _ => raw,
        };
        Ok(Self::parse(text)?)
    }

    fn accepts(ty: &Type) -> bool {
        <Self as ToSql>::accepts(ty)
    }
}

/// What the binary form of `jsonb` begins with.
const JSONB_VERSION: u8 = 1;

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
