//! Which key signs and which verify at a time, what of them is published, and how they are stored.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Value, json};

use super::super::signing_key::READ_KEY;
use super::*;

fn at(minutes: i64) -> OffsetDateTime {
    NOW + time::Duration::minutes(minutes)
}

fn term(signs_from: i64, verifies_until: Option<i64>) -> Term {
    Term { signs_from: at(signs_from), verifies_until: verifies_until.map(at) }
}

#[test]
fn a_new_key_signs_from_its_time_and_the_old_one_verifies_until_its_end() {
    let (old, new) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let (old_kid, new_kid) = (old.kid().to_owned(), new.kid().to_owned());
    let issuer = issuer(Vec::new());
    issuer.set_keys(vec![(copy(&old), term(-99, Some(27))), (copy(&new), term(10, None))]);
    let signs = |minutes: i64| {
        let token = issuer.issue(user(), SESSION, at(minutes), LATER).unwrap();
        assert!(issuer.check(&token, at(minutes)).is_ok());
        jsonwebtoken::decode_header(&token).unwrap().kid.unwrap()
    };
    for (minutes, kid) in [(0, &old_kid), (9, &old_kid), (10, &new_kid), (500, &new_kid)] {
        assert_eq!(signs(minutes), *kid, "after {minutes} minutes");
    }
    let published = |minutes: i64| {
        let set = issuer.jwks(at(minutes)).unwrap();
        let keys = set["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let both = [old_kid, new_kid.clone()];
    assert_eq!((published(0), published(26)), (both.to_vec(), both.to_vec()));
    assert_eq!(published(27), [new_kid]);
    // The last token of the old key expires before the key ends, so only a forged one meets the end.
    let last = issuer.issue(user(), SESSION, at(9), LATER).unwrap();
    assert!(issuer.check(&last, at(24)).is_ok());
    issuer.set_keys(vec![(copy(&old), term(-99, Some(20))), (copy(&new), term(10, None))]);
    assert!(issuer.check(&last, at(19)).is_ok());
    assert_eq!(problem(issuer.check(&last, at(20))), AuthProblem::Invalid);
    assert!(!issuer.names_unknown_key(&last), "a key that has ended is no unknown one");
    issuer.set_keys(vec![(copy(&new), term(10, None))]);
    assert!(issuer.names_unknown_key(&last));
    assert!(!issuer.names_unknown_key("a.b.c"));
}

#[test]
fn the_key_that_signs_is_the_last_that_has_begun_and_does_not_end_before_the_token() {
    let lifetime = time::Duration::minutes(15);
    for (terms, expected) in [
        (vec![], None),
        (vec![term(0, None)], Some(0)),
        (vec![term(-2, None), term(-1, None)], Some(1)),
        (vec![term(-1, None), term(1, None)], Some(0)),
        // None has begun: the clock of the server that made the key is ahead.
        (vec![term(2, None), term(1, None)], Some(1)),
        // An ending key signs for as long as its tokens expire before it ends.
        (vec![term(-9, Some(15)), term(1, None)], Some(0)),
        (vec![term(-9, Some(14)), term(1, None)], Some(1)),
        (vec![term(-9, Some(14))], None),
        (vec![term(-9, Some(0)), term(-8, Some(20))], Some(1)),
    ] {
        let keys = terms.iter().map(|term| ("kid", *term));
        assert_eq!(signer(keys, lifetime, NOW), expected, "{terms:?}");
    }
    // Servers that read the keys in another order choose the same one.
    let same = term(-1, None);
    assert_eq!(signer([("a", same), ("b", same)].into_iter(), lifetime, NOW), Some(1));
    assert_eq!(signer([("b", same), ("a", same)].into_iter(), lifetime, NOW), Some(0));
}

#[test]
fn without_a_key_nothing_is_signed_and_nothing_accepted() {
    let none = issuer(Vec::new());
    assert!(matches!(none.issue(user(), SESSION, NOW, LATER), Err(Error::Internal { .. })));
    let token =
        issuer(vec![SigningKey::generate().unwrap()]).issue(user(), SESSION, NOW, LATER).unwrap();
    assert_eq!(problem(none.check(&token, NOW)), AuthProblem::Invalid);
    assert_eq!(none.jwks(NOW).unwrap(), json!({ "keys": [] }));
}

#[test]
fn another_service_can_check_a_token_with_the_published_keys() {
    let keys = vec![SigningKey::generate().unwrap(), SigningKey::generate().unwrap()];
    let issuer = issuer(keys);
    let token = issuer.issue(user(), SESSION, NOW, LATER).unwrap();
    let published: JwkSet = serde_json::from_value(issuer.jwks(NOW).unwrap()).unwrap();
    let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["rowhouse-api"]);
    validation.validate_exp = false;
    let read = |jwk: &Jwk| {
        let key = DecodingKey::from_jwk(jwk).unwrap();
        jsonwebtoken::decode::<Value>(&token, &key, &validation)
    };
    let claims = read(published.find(&kid).unwrap()).unwrap().claims;
    assert_eq!(claims["sub"], json!(user().uuid()));
    assert!(
        read(published.keys.iter().find(|k| k.common.key_id != Some(kid.clone())).unwrap())
            .is_err()
    );
}

#[test]
fn the_published_keys_hold_only_the_public_half() {
    let key = SigningKey::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(key.decoding.try_get_as_bytes().unwrap());
    let expected = json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": x, "kid": key.kid(), "use": "sig", "alg": "EdDSA",
    }]});
    assert_eq!(issuer(vec![key]).jwks(NOW).unwrap(), expected);
}

/// PKCS#8, version 1, around a seed of 32 bytes.
fn pkcs8(seed: &str) -> Vec<u8> {
    hex::decode(format!("302e020100300506032b657004220420{seed}")).unwrap()
}

const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

#[test]
fn a_key_is_named_by_its_thumbprint() {
    // RFC 8037, A.1 and A.3
    let kid = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
    assert_eq!(SigningKey::from_stored(kid, &pkcs8(SEED)).unwrap().kid(), kid);
    let wrong = SigningKey::from_stored("another", &pkcs8(SEED)).unwrap_err();
    assert!(matches!(wrong, Error::Internal { during: READ_KEY, .. }));
}

#[test]
fn a_key_survives_storage_in_either_version_of_its_form() {
    let key = SigningKey::generate().unwrap();
    let stored = key.to_stored();
    assert_eq!((stored.kid.as_str(), stored.private.expose_secret().len()), (key.kid(), 48));
    let pair = Ed25519KeyPair::from_pkcs8(stored.private.expose_secret()).unwrap();
    let version_2 = pair.to_pkcs8().unwrap();
    assert_ne!(version_2.as_ref(), stored.private.expose_secret());
    let original = issuer(vec![copy(&key)]);
    for form in [stored.private.expose_secret(), version_2.as_ref()] {
        let read = issuer(vec![SigningKey::from_stored(&stored.kid, form).unwrap()]);
        let token = read.issue(user(), SESSION, NOW, LATER).unwrap();
        assert!(original.check(&token, NOW).is_ok());
    }
    for broken in [&[][..], b"key", &stored.private.expose_secret()[..47]] {
        let error = SigningKey::from_stored(&stored.kid, broken).unwrap_err();
        assert!(matches!(error, Error::Internal { during: READ_KEY, .. }), "{error:?}");
    }
}

#[test]
fn nothing_of_a_private_key_is_printed() {
    let private = pkcs8(SEED);
    let kid = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
    let key = SigningKey::from_stored(kid, &private).unwrap();
    assert_eq!(format!("{key:?}"), format!("SigningKey {{ kid: {kid:?}, .. }}"));
    let printed = format!("{:?} {:?}", key.to_stored(), issuer(vec![copy(&key)]));
    for form in [
        SEED.to_owned(),
        URL_SAFE_NO_PAD.encode(&private),
        "157, 97".to_owned(), // the seed's first bytes, as a list prints
        "0x9d".to_owned(),
    ] {
        assert!(!printed.to_lowercase().contains(&form.to_lowercase()), "{printed}");
    }
    let broken = SigningKey::from_stored(kid, &private[..47]).unwrap_err();
    assert!(!format!("{broken:?}").contains("157, 97"));
}
