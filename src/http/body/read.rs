//! Reads the bytes of a body, up to a limit and as they were sent: no body is decompressed.

use std::cell::RefCell;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;

use super::fields::Fields;
use super::policy::{Policy, SMALL, is_blank};
use crate::domain::error::{Error, Malformed, Result};
use crate::domain::json::{self, Value};
use crate::http::extract::site;

/// Largest body of a call that needs no credential, in bytes.
const WITHOUT_CREDENTIAL_MAX: usize = 1 << 18;

/// Most values and names in the body of such a call. A log-in has five.
const WITHOUT_CREDENTIAL_VALUES_MAX: usize = 1000;

/// A request body that is not read yet: nothing of it is buffered for a caller who is refused.
pub(crate) struct Body {
    payload: Payload,
    /// The size that the client announced.
    announced: Option<usize>,
    limit: usize,
    /// Most values and names of its JSON, where that is fewer than usual.
    values_max: Option<usize>,
}

impl FromRequest for Body {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        std::future::ready(Ok(Self::of(request, payload)))
    }
}

impl Body {
    /// Returns the body of a request.
    pub(crate) fn of(request: &HttpRequest, payload: &mut Payload) -> Self {
        let limit = site(request).settings.max_body_bytes;
        let announced = announced(request.headers());
        Self { payload: payload.take(), announced, limit, values_max: None }
    }

    /// Lowers the limits to those of calls without a credential, since the number of these has no limit.
    pub(crate) fn without_credential(self) -> Self {
        // A body over the general limit is refused with that limit.
        let limit = match self.announced {
            Some(announced) if announced > self.limit => self.limit,
            _ => self.limit.min(WITHOUT_CREDENTIAL_MAX),
        };
        Self { limit, values_max: Some(WITHOUT_CREDENTIAL_VALUES_MAX), ..self }
    }

    /// Reads the bytes, up to the limit.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`], without reading if the client announces it; [`Malformed::Body`] if it ends early.
    pub(crate) async fn read(mut self) -> Result<Bytes> {
        let too_large = || Error::Malformed(Malformed::TooLarge { limit: self.limit });
        if self.announced.is_some_and(|announced| announced > self.limit) {
            return Err(too_large());
        }
        // The announcement alone reserves no memory.
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.payload.next().await {
            let chunk = chunk.map_err(|error| match error {
                PayloadError::Overflow => too_large(),
                _ => Error::Malformed(Malformed::Body),
            })?;
            if bytes.len() + chunk.len() > self.limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Reads an object, for reading it field by field.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`Policy::fields`].
    pub(crate) async fn fields(self, policy: Policy) -> Result<Fields> {
        self.whole(policy).await?.fields()
    }

    /// Reads the bytes, and parses a large body at once, so that its fields can be read without waiting.
    ///
    /// # Errors
    /// As [`read`](Self::read). What is wrong with the JSON is reported when its fields are read.
    pub(crate) async fn whole(self, policy: Policy) -> Result<WholeBody> {
        let values_max = self.values_max;
        let bytes = self.read().await?;
        let checked = values_max.map_or(Ok(()), |max| json::check_within(&bytes, max));
        let parsed = match (checked, bytes.len()) {
            (Err(excess), _) => Some(Err(Malformed::Excess(excess))),
            (Ok(()), 0..=SMALL) => None,
            (Ok(()), _) => Some(policy.read(bytes.clone()).await),
        };
        Ok(WholeBody { bytes, policy, parsed: RefCell::new(parsed) })
    }
}

/// A body that was read.
pub(crate) struct WholeBody {
    bytes: Bytes,
    policy: Policy,
    /// A large body, parsed; taken out by the first reader.
    parsed: RefCell<Option<Result<Value, Malformed>>>,
}

impl WholeBody {
    /// Returns whether it is empty or white space.
    pub(crate) fn is_blank(&self) -> bool {
        is_blank(&self.bytes)
    }

    /// Returns its fields.
    ///
    /// # Errors
    /// As [`Policy::fields`].
    pub(crate) fn fields(&self) -> Result<Fields> {
        match self.parsed.take() {
            Some(parsed) => self.policy.fields_of(parsed),
            None => self.policy.fields(&self.bytes),
        }
    }
}

/// Returns the size that a client announces. actix refuses a header that is not a number.
fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
