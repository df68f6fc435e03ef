use secrecy::ExposeSecret;

use super::*;

const TEXT: &str = "0123456789abcdef0123456789abcdef";
const PRIVATE: &[u8] = b"the private half of a signing key";

fn secret() -> SecretKey {
    SecretKey::parse(TEXT).unwrap()
}

#[test]
fn a_wrapped_key_is_read_with_the_same_secret_and_the_same_id_only() {
    let wrapped = secret().wrap("kid", PRIVATE).unwrap();
    assert_eq!(secret().unwrap("kid", &wrapped).unwrap().expose_secret(), PRIVATE);
    assert!(secret().unwrap("another", &wrapped).is_none());
    let other = SecretKey::parse(&TEXT.replace('0', "1")).unwrap();
    assert!(other.unwrap("kid", &wrapped).is_none());
}

#[test]
fn a_wrapped_key_that_was_changed_anywhere_is_refused() {
    let wrapped = secret().wrap("kid", PRIVATE).unwrap();
    for at in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[at] ^= 1;
        assert!(secret().unwrap("kid", &changed).is_none(), "byte {at}");
        assert!(secret().unwrap("kid", &wrapped[..at]).is_none(), "cut at {at}");
    }
    assert!(secret().unwrap("kid", PRIVATE).is_none(), "a key in clear is not a wrapped one");
}

#[test]
fn the_same_key_is_never_wrapped_to_the_same_bytes_and_never_contains_itself() {
    let [one, two] = [(); 2].map(|()| secret().wrap("kid", PRIVATE).unwrap());
    assert_ne!(one, two);
    assert!(!one.windows(4).any(|part| PRIVATE.windows(4).any(|clear| clear == part)));
}

#[test]
fn a_secret_has_at_least_32_characters_and_a_generated_one_has_more() {
    let short = TEXT.strip_prefix('0').unwrap();
    assert_eq!(SecretKey::parse(short).unwrap_err(), Rule::TooShort(SECRET_MIN));
    assert_eq!(SecretKey::parse("").unwrap_err(), Rule::TooShort(SECRET_MIN));
    let [one, two] = [(); 2].map(|()| SecretKey::generate());
    assert_ne!(one.expose_secret(), two.expose_secret());
    assert_eq!(one.expose_secret().len(), 44);
    assert!(SecretKey::parse(one.expose_secret()).is_ok());
}

#[test]
fn the_fingerprint_tells_secrets_apart_and_nothing_else_is_printed() {
    let other = SecretKey::parse(&TEXT.replace('0', "1")).unwrap();
    assert_eq!(secret().fingerprint(), secret().fingerprint());
    assert_ne!(secret().fingerprint(), other.fingerprint());
    assert_eq!(secret().fingerprint().len(), 16);
    let printed = format!("{:?}", secret());
    let fingerprint = secret().fingerprint().to_owned();
    assert_eq!(printed, format!("SecretKey {{ fingerprint: {fingerprint:?}, .. }}"));
}
