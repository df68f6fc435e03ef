//! Signatures beside what they sign: JSON web signatures without their payload (RFC 7515, appendix F), under Ed25519.
//!
//! Promises: one algorithm is accepted, whatever the header says, and only keys that the caller gives; a key or a key URL
//! inside a signature is ignored. The type in the header keeps an access token from being taken for one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::{Deserialize, Serialize};

use crate::domain::error::{Error, Result};

/// The type in the header.
const TYPE: &str = "rowhouse-archive+jws";

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    crit: Option<serde_json::Value>,
}

/// A signature, with what verifies it.
#[derive(Debug, Clone, PartialEq)]
pub struct Signed {
    /// The signature.
    pub jws: String,
    /// The id of the key.
    pub kid: String,
    /// The public half of the key, a JSON Web Key.
    pub public: serde_json::Value,
}

/// Signs a payload.
pub(super) fn sign(payload: &[u8], public: &Jwk, kid: &str, key: &EncodingKey) -> Result<Signed> {
    const DURING: &str = "sign an archive";
    let (alg, typ, kid) = ("EdDSA".to_owned(), TYPE.to_owned(), kid.to_owned());
    let header = Header { alg, typ, kid: kid.clone(), crit: None };
    let header = serde_json::to_vec(&header).map_err(|e| Error::internal(DURING, e))?;
    let header = URL_SAFE_NO_PAD.encode(header);
    let input = signing_input(&header, payload);
    let signature = crypto::sign(input.as_bytes(), key, Algorithm::EdDSA);
    let signature = signature.map_err(|e| Error::internal(DURING, e))?;
    let public = serde_json::to_value(public).map_err(|e| Error::internal(DURING, e))?;
    Ok(Signed { jws: format!("{header}..{signature}"), kid, public })
}

/// Returns the id of the key in the header of a signature; `None` if it is not one of ours.
#[must_use]
pub fn key_id(jws: &str) -> Option<String> {
    let (header, _) = jws.split_once("..")?;
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    (header.alg == "EdDSA" && header.typ == TYPE && header.crit.is_none()).then_some(header.kid)
}

/// Whether a key made the signature of this payload.
#[must_use]
pub fn verifies(jws: &str, payload: &[u8], key: &serde_json::Value) -> bool {
    let Some((header, signature)) = jws.split_once("..") else { return false };
    let Ok(key) = serde_json::from_value::<Jwk>(key.clone()) else { return false };
    let Ok(key) = DecodingKey::from_jwk(&key) else { return false };
    let input = signing_input(header, payload);
    crypto::verify(signature, input.as_bytes(), &key, Algorithm::EdDSA).unwrap_or(false)
}

/// Returns the key with this id in a JSON Web Key Set; `None` if there is none, or the text is not such a set.
#[must_use]
pub fn find_in_set(set: &str, kid: &str) -> Option<serde_json::Value> {
    let set: JwkSet = serde_json::from_str(set).ok()?;
    serde_json::to_value(set.find(kid)?).ok()
}

/// Whether a text is a JSON Web Key Set.
#[must_use]
pub fn is_key_set(set: &str) -> bool {
    serde_json::from_str::<JwkSet>(set).is_ok()
}

fn signing_input(header: &str, payload: &[u8]) -> String {
    format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload))
}
