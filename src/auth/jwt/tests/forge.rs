//! Makes tokens by hand, good and bad ones.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

/// Creates arbitrary tokens by hand, and has the issuer that must refuse the bad ones.
pub(super) struct Forge {
    pub(super) key: SigningKey,
    pub(super) issuer: Issuer,
}

impl Forge {
    pub(super) fn new() -> Self {
        let key = SigningKey::generate().unwrap();
        Self { issuer: issuer(vec![copy(&key)]), key }
    }

    pub(super) fn header(&self) -> Value {
        json!({"typ": "at+jwt", "alg": "EdDSA", "kid": self.key.kid()})
    }

    pub(super) fn claims() -> Value {
        let now = NOW.unix_timestamp();
        json!({
            "iss": "https://rowhouse.test", "aud": "rowhouse-api",
            "sub": user().uuid(), "sid": SESSION, "jti": Uuid::from_u128(7),
            "iat": now, "nbf": now, "exp": now + 900,
        })
    }

    pub(super) fn public(&self) -> Vec<u8> {
        self.key.decoding.try_get_as_bytes().unwrap().to_vec()
    }

    pub(super) fn signed(&self, header: &Value, claims: &Value) -> String {
        token(&header.to_string(), &claims.to_string(), |m| ed25519(&self.key, m))
    }

    pub(super) fn with_header(&self, name: &str, value: Value) -> String {
        self.signed(&changed(self.header(), name, value), &Self::claims())
    }

    pub(super) fn with_claim(&self, name: &str, value: Value) -> String {
        self.signed(&self.header(), &changed(Self::claims(), name, value))
    }

    pub(super) fn problem(&self, token: &str) -> AuthProblem {
        problem(self.issuer.check(token, NOW))
    }
}

/// Returns the object with one member set, or removed if the value is null.
pub(super) fn changed(mut object: Value, name: &str, value: Value) -> Value {
    let members = object.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name).expect("it was there");
    } else {
        members.insert(name.to_owned(), value);
    }
    object
}

pub(super) fn token(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let signature = encode(&sign(message.as_bytes()));
    format!("{message}.{signature}")
}

pub(super) fn ed25519(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    let pair = Ed25519KeyPair::from_pkcs8(key.encoding.as_bytes()).unwrap();
    pair.sign(message).as_ref().to_vec()
}

pub(super) fn hs256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}
