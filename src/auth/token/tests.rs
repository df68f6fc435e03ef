//! The form of a token, its digest, and texts that are not tokens.

use std::collections::HashSet;

use super::*;

const ROOT: &str = "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f";

#[test]
fn a_token_is_its_prefix_43_random_characters_and_a_checksum() {
    for kind in [Kind::Api, Kind::ApiKey, Kind::Refresh, Kind::Invitation, Kind::Console] {
        let tokens: Vec<_> = (0..100).map(|_| OpaqueToken::generate(kind)).collect();
        let mut seen = HashSet::new();
        for token in &tokens {
            let rest = token.expose().strip_prefix(kind.prefix()).unwrap();
            let (random, sum) = rest.split_at(43);
            assert!(rest.bytes().all(|b| ALPHABET.contains(&b)), "{rest}");
            assert_eq!(sum.as_bytes(), checksum(random.as_bytes()));
            seen.extend(random.bytes());
        }
        assert_eq!(seen.len(), 62, "every digit occurs among 4,300");
        let different: HashSet<_> = tokens.iter().map(OpaqueToken::expose).collect();
        assert_eq!(different.len(), tokens.len());
    }
}

#[test]
fn the_checksum_is_that_of_githubs_tokens() {
    // From 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, an example that is published in many places.
    assert_eq!(&checksum(b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ"), b"0mLq17");
    // The CRC32 of nothing is 0.
    assert_eq!(&checksum(b""), b"000000");
}

#[test]
fn every_single_typo_in_a_token_is_recognised() {
    for kind in [Kind::Api, Kind::ApiKey] {
        let token = OpaqueToken::generate(kind);
        let text = token.expose();
        for (at, right) in text.char_indices().skip(kind.prefix().len()) {
            for wrong in ['0', 'A', 'z', '_'].into_iter().filter(|wrong| *wrong != right) {
                let mut typo = text.to_owned();
                typo.replace_range(at..=at, wrong.encode_utf8(&mut [0; 4]));
                assert_eq!(Presented::classify(&typo), Presented::Unknown, "{at}: {wrong}");
            }
        }
        assert_eq!(Presented::classify(&text.to_lowercase()), Presented::Unknown);
    }
}

#[test]
fn a_token_from_before_the_checksum_keeps_its_form() {
    for random in ["A".repeat(43), format!("-_{}", "z".repeat(41))] {
        assert_eq!(Presented::classify(&format!("rh_{random}")), Presented::Api);
        assert_eq!(Presented::classify(&format!("rtn_sk_{random}")), Presented::ApiKey);
    }
}

#[test]
fn a_digest_is_the_sha256_of_what_was_presented() {
    // FIPS 180-2, B.1
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hex::encode(TokenDigest::of("abc").as_bytes()), abc);
    let token = OpaqueToken::generate(Kind::Api);
    assert_eq!(token.digest(), TokenDigest::of(token.expose()));
}

#[test]
fn digests_are_equal_only_if_all_bytes_are() {
    let digest = TokenDigest::of("rh_x");
    let same: [u8; 32] = digest.as_bytes().try_into().unwrap();
    assert_eq!(digest, TokenDigest::stored(same));
    for position in 0..32 {
        let mut bytes = same;
        bytes[position] ^= 1;
        assert_ne!(digest, TokenDigest::stored(bytes), "byte {position}");
    }
}

#[test]
fn a_hint_shows_a_few_characters_of_the_secret_part() {
    for (kind, length) in [(Kind::Api, 7), (Kind::ApiKey, 15), (Kind::Refresh, 8)] {
        let token = OpaqueToken::generate(kind);
        let hint = token.hint();
        let shown = hint.strip_suffix('…').unwrap();
        assert_eq!(shown.len(), length);
        assert!(token.expose().starts_with(shown));
    }
}

#[test]
fn the_root_token_is_the_same_in_every_form_of_a_uuid_and_no_other() {
    let root = RootToken::parse(&ROOT.to_uppercase()).unwrap();
    assert_eq!(root.expose(), ROOT);
    for same in [ROOT.to_owned(), ROOT.to_uppercase(), ROOT.replace('-', "")] {
        assert!(root.matches(&same), "{same:?}");
    }
    for other in [
        "",
        "root",
        "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6e",
        "7f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f",
        &format!(" {ROOT}"),
        &format!("{ROOT}\n"),
        ROOT.strip_suffix('f').unwrap(),
        &hex::encode(TokenDigest::of(ROOT).as_bytes()),
    ] {
        assert!(!root.matches(other), "{other:?}");
    }
}

#[test]
fn a_root_token_is_a_uuid_and_not_a_placeholder() {
    for bad in [
        "",
        "secret",
        "DEMO",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        &format!("{ROOT} "),
    ] {
        assert_eq!(RootToken::parse(bad).err(), Some(Rule::UuidFormat), "{bad:?}");
    }
    let (one, two) = (RootToken::generate(), RootToken::generate());
    assert!(RootToken::parse(one.expose()).unwrap().matches(one.expose()));
    assert!(!one.matches(two.expose()));
}

#[test]
fn a_credential_is_classified_by_its_form() {
    let api = OpaqueToken::generate(Kind::Api);
    let key = OpaqueToken::generate(Kind::ApiKey);
    let refresh = OpaqueToken::generate(Kind::Refresh);
    let longer = format!("{}a", api.expose());
    let padded = format!("{} ", api.expose());
    let random = api.expose().replace("rh_", "");
    for (presented, form) in [
        (ROOT, Presented::Uuid),
        ("6F2C1F6E3A5B4D0C9B1E0A2B3C4D5E6F", Presented::Uuid),
        (api.expose(), Presented::Api),
        (key.expose(), Presented::ApiKey),
        ("eyJh.eyJz.c2ln", Presented::AccessToken),
        (refresh.expose(), Presented::Unknown),
        (&longer, Presented::Unknown),
        (&padded, Presented::Unknown),
        (&random, Presented::Unknown),
        ("rh_", Presented::Unknown),
        ("rh_ééééééééééééééééééééé1", Presented::Unknown),
        ("", Presented::Unknown),
        ("..", Presented::Unknown),
        ("a.b", Presented::Unknown),
        ("a.b.", Presented::Unknown),
        ("a..c", Presented::Unknown),
        ("a.b.c.d", Presented::Unknown),
        ("a.b.c.", Presented::Unknown),
        ("Bearer", Presented::Unknown),
    ] {
        assert_eq!(Presented::classify(presented), form, "{presented:?}");
    }
}

#[test]
fn no_credential_is_printed() {
    let token = OpaqueToken::generate(Kind::Api);
    let printed = format!("{token:?} {:?} {:?}", token.digest(), RootToken::parse(ROOT).unwrap());
    assert_eq!(printed, "OpaqueToken(redacted) TokenDigest(redacted) RootToken(redacted)");
}

#[test]
fn the_previous_root_token_is_good_beside_the_present_one_and_no_other_is() {
    let tokens: Vec<_> = (0..3).map(|_| RootToken::generate()).collect();
    let texts: Vec<_> = tokens.iter().map(|token| token.expose().to_owned()).collect();
    let [present, previous, other] = tokens.try_into().unwrap();
    let present = Arc::new(present);
    let alone = RootTokens::new(Arc::clone(&present), None);
    let both = RootTokens::new(present, Some(previous));
    let accepted = |tokens: &RootTokens| {
        texts.iter().map(|text| tokens.matches(&text.to_uppercase())).collect::<Vec<_>>()
    };
    assert_eq!(accepted(&alone), [true, false, false]);
    assert_eq!(accepted(&both), [true, true, false]);
    let printed = format!("{both:?}");
    assert!(!texts.iter().any(|text| printed.contains(text)), "{printed}");
    drop(other);
}
