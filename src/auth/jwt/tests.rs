//! Tokens that are accepted, and each reason for refusing one.

mod forge;
mod keys;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use time::macros::datetime;

use self::forge::{Forge, changed, ed25519, hs256, token};
use super::*;

const NOW: OffsetDateTime = datetime!(2031-02-03 04:05:06.789 UTC);
/// The end of a session that outlives every token here.
const LATER: OffsetDateTime = datetime!(9000-01-01 00:00 UTC);
const SESSION: Uuid = Uuid::from_u128(0x5e55);

fn user() -> UserId {
    UserId::new(Uuid::from_u128(0x1234))
}

/// The keys have always verified, and the first one signs.
fn issuer_with(settings: Settings, keys: Vec<SigningKey>) -> Issuer {
    let issuer = Issuer::new(settings);
    let age = |index: usize| time::Duration::days(i64::try_from(index).unwrap());
    let term = |index| Term {
        signs_from: datetime!(1970-01-09 0:00 UTC) - age(index),
        verifies_until: None,
    };
    issuer.set_keys(keys.into_iter().enumerate().map(|(index, key)| (key, term(index))).collect());
    issuer
}

fn issuer(keys: Vec<SigningKey>) -> Issuer {
    issuer_with(Settings::new("https://rowhouse.test", "rowhouse-api"), keys)
}

fn copy(key: &SigningKey) -> SigningKey {
    let stored = key.to_stored();
    SigningKey::from_stored(&stored.kid, stored.private.expose_secret()).unwrap()
}

fn problem(verdict: Result<AccessClaims>) -> AuthProblem {
    match verdict {
        Err(Error::Unauthenticated(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_names_its_user_and_its_times() {
    let issuer = issuer(vec![SigningKey::generate().unwrap()]);
    let token = issuer.issue(user(), SESSION, NOW, LATER).unwrap();
    assert_eq!(
        issuer.check(&token, NOW).unwrap(),
        AccessClaims {
            user: user(),
            session: SESSION,
            issued_at: datetime!(2031-02-03 04:05:06 UTC),
            expires_at: datetime!(2031-02-03 04:20:06 UTC),
        }
    );
    assert_eq!(issuer.access_lifetime(), Duration::from_mins(15));
    assert!(token.len() < 600, "{}", token.len());
}

#[test]
fn a_token_carries_these_members_and_no_others() {
    let key = SigningKey::generate().unwrap();
    let (kid, issuer) = (key.kid().to_owned(), issuer(vec![key]));
    let tokens: Vec<_> =
        (0..2).map(|_| issuer.issue(user(), SESSION, NOW, LATER).unwrap()).collect();
    let part = |token: &str, n: usize| -> Value {
        let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    assert_eq!(part(&tokens[0], 0), json!({"typ": "at+jwt", "alg": "EdDSA", "kid": kid}));
    let claims = part(&tokens[0], 1);
    let jti = claims["jti"].clone();
    assert_eq!(claims, changed(Forge::claims(), "jti", jti.clone()));
    assert_ne!(part(&tokens[1], 1)["jti"], jti, "each token has an id of its own");
}

/// jsonwebtoken panics at its first use if its features leave the choice of a backend open. An earlier test could have
/// made the choice in this process, so this runs in a new one.
#[test]
fn a_fresh_process_can_sign() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "auth::jwt::tests::a_token_names_its_user_and_its_times"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_token_made_by_hand_is_accepted_if_it_is_valid() {
    let forge = Forge::new();
    let token = forge.signed(&forge.header(), &Forge::claims());
    assert_eq!(forge.issuer.check(&token, NOW).unwrap().user, user());
    let more = forge.with_claim("note", json!("x"));
    assert!(forge.issuer.check(&more, NOW).is_ok(), "members that we do not know are passed over");
}

#[test]
fn no_algorithm_but_ours_is_accepted() {
    let forge = Forge::new();
    let claims = Forge::claims().to_string();
    let named = |alg: &str| changed(forge.header(), "alg", json!(alg)).to_string();
    let public = forge.public();
    let as_text = URL_SAFE_NO_PAD.encode(&public);
    let in_jwks = forge.issuer.jwks(NOW).unwrap()["keys"][0].to_string();
    for secret in [&public[..], as_text.as_bytes(), in_jwks.as_bytes(), b""] {
        let forged = token(&named("HS256"), &claims, |m| hs256(secret, m));
        assert_eq!(forge.problem(&forged), AuthProblem::Invalid);
    }
    for alg in ["none", "None", "NONE", "", "HS256", "ES256", "RS256", "eddsa", "Ed25519"] {
        let unsigned = token(&named(alg), &claims, |_| Vec::new());
        assert_eq!(forge.problem(&unsigned), AuthProblem::Invalid, "{alg}, unsigned");
        let signed = token(&named(alg), &claims, |m| ed25519(&forge.key, m));
        assert_eq!(forge.problem(&signed), AuthProblem::Invalid, "{alg}, signed");
    }
    let without = forge.with_header("alg", Value::Null);
    assert_eq!(forge.problem(&without), AuthProblem::Invalid);
}

#[test]
fn no_key_but_ours_is_accepted() {
    let forge = Forge::new();
    let foreign = SigningKey::generate().unwrap();
    let claims = Forge::claims().to_string();
    let by_foreign = |header: &Value| token(&header.to_string(), &claims, |m| ed25519(&foreign, m));

    let under_our_name = by_foreign(&forge.header());
    let under_its_own = by_foreign(&changed(forge.header(), "kid", json!(foreign.kid())));
    let brought_along = changed(forge.header(), "jwk", json!(foreign.public));
    let nameless = changed(brought_along.clone(), "kid", Value::Null);
    let elsewhere = changed(forge.header(), "jku", json!("https://evil.test/jwks.json"));
    for forged in [
        under_our_name,
        under_its_own,
        by_foreign(&brought_along),
        by_foreign(&nameless),
        by_foreign(&elsewhere),
        forge.with_header("kid", Value::Null),
        forge.with_header("kid", json!("")),
        forge.with_header("kid", json!(["a"])),
        forge.with_header("kid", json!(foreign.kid())),
    ] {
        assert_eq!(forge.problem(&forged), AuthProblem::Invalid, "{forged}");
    }
}

#[test]
fn a_token_of_another_type_or_with_critical_extensions_is_refused() {
    let forge = Forge::new();
    for (name, value) in [
        ("typ", json!("JWT")),
        ("typ", json!("AT+JWT")),
        ("typ", Value::Null),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
    ] {
        let forged = forge.with_header(name, value.clone());
        assert_eq!(forge.problem(&forged), AuthProblem::Invalid, "{name}: {value}");
    }
}

#[test]
fn every_claim_is_required_and_must_be_of_its_form() {
    let forge = Forge::new();
    let now = NOW.unix_timestamp();
    for name in ["iss", "aud", "sub", "sid", "iat", "nbf", "exp", "jti"] {
        let forged = forge.with_claim(name, Value::Null);
        assert_eq!(forge.problem(&forged), AuthProblem::Invalid, "without {name}");
        let forged = forge.with_claim(name, json!({}));
        assert_eq!(forge.problem(&forged), AuthProblem::Invalid, "{name}: {{}}");
    }
    for (name, value) in [
        ("iss", json!("https://evil.test")),
        ("iss", json!("https://rowhouse.test/")),
        ("iss", json!(["https://rowhouse.test"])),
        ("aud", json!("another-api")),
        ("aud", json!(["rowhouse-api", "another-api"])),
        ("aud", json!([])),
        ("sub", json!("admin")),
        ("sid", json!("")),
        ("exp", json!((now + 900).to_string())),
        ("exp", json!(-1)),
        ("exp", json!(i64::MAX)),
        ("exp", json!(1e300)),
        ("iat", json!(i64::MIN)),
        ("nbf", json!("now")),
    ] {
        let forged = forge.with_claim(name, value.clone());
        assert_eq!(forge.problem(&forged), AuthProblem::Invalid, "{name}: {value}");
    }
    let twice = Forge::claims().to_string().replacen('{', r#"{"exp":9999999999,"#, 1);
    let forged = token(&forge.header().to_string(), &twice, |m| ed25519(&forge.key, m));
    assert_eq!(forge.problem(&forged), AuthProblem::Invalid, "a claim twice");
}

#[test]
fn a_token_that_was_changed_is_refused() {
    let forge = Forge::new();
    let good = forge.issuer.issue(user(), SESSION, NOW, LATER).unwrap();
    let parts: Vec<_> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{good}") };
    let other = changed(Forge::claims(), "sub", json!(Uuid::from_u128(1))).to_string();
    let other = URL_SAFE_NO_PAD.encode(other);
    // 64 bytes leave the lowest 4 bits of the last character unused, and they must be 0.
    let (rest, last) = signature.split_at(85);
    let spare = char::from(last.as_bytes()[0] + 1);
    for forged in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}.{other}.{signature}"),
        format!("{header}.{claims}.{signature}."),
        format!("{header}.{claims}.{signature}.x"),
        format!("{header}.{claims}.{signature}="),
        format!("{header}.{claims}.{rest}{spare}"),
        format!("{header}.{claims}.{rest}"),
        format!(" {good}"),
        format!("{good}\n"),
        "é.é.é".to_owned(),
        "\0".to_owned(),
    ] {
        assert_eq!(forge.problem(&forged), AuthProblem::Invalid, "{forged:?}");
    }
    assert!(forge.issuer.check(&good, NOW).is_ok());
}

#[test]
fn a_token_that_is_too_long_is_not_parsed() {
    let forge = Forge::new();
    let sized = |filler: usize| forge.with_claim("note", json!("x".repeat(filler)));
    // Three more bytes of JSON are four bytes of base64.
    let longest = (2500..3000).map(sized).rfind(|token| token.len() <= TOKEN_MAX);
    let longest = longest.unwrap();
    assert!(longest.len() > TOKEN_MAX - 4, "{}", longest.len());
    assert!(forge.issuer.check(&longest, NOW).is_ok());
    let longer = sized(3000);
    assert!(longer.len() > TOKEN_MAX);
    assert_eq!(forge.problem(&longer), AuthProblem::Invalid);
}

#[test]
fn a_token_is_valid_between_its_times_plus_or_minus_the_leeway() {
    let forge = Forge::new();
    let token = forge.issuer.issue(user(), SESSION, NOW, LATER).unwrap();
    let verdict = |seconds: i64| {
        let then = NOW + time::Duration::seconds(seconds);
        forge.issuer.check(&token, then).map(|_| ()).map_err(|e| problem(Err(e)))
    };
    for (seconds, expected) in [
        (-31, Err(AuthProblem::Invalid)),
        (-30, Ok(())),
        (0, Ok(())),
        (900, Ok(())),
        (929, Ok(())),
        (930, Err(AuthProblem::Expired)),
        (1_000_000, Err(AuthProblem::Expired)),
    ] {
        assert_eq!(verdict(seconds), expected, "{seconds} s after the issue");
    }
}

#[test]
fn the_given_time_counts_and_not_the_machines() {
    let issuer = issuer(vec![SigningKey::generate().unwrap()]);
    for now in [datetime!(1999-12-31 23:59:59 UTC), datetime!(2999-12-31 23:59:59 UTC)] {
        let token = issuer.issue(user(), SESSION, now, LATER).unwrap();
        assert_eq!(issuer.check(&token, now).unwrap().issued_at, now);
    }
}

#[test]
fn a_token_does_not_outlive_its_session() {
    let issuer = issuer(vec![SigningKey::generate().unwrap()]);
    let end = NOW + time::Duration::minutes(2);
    let token = issuer.issue(user(), SESSION, NOW, end).unwrap();
    let claims = issuer.check(&token, NOW).unwrap();
    assert_eq!(claims.expires_at, end.replace_nanosecond(0).unwrap());
}

#[test]
fn only_a_token_of_ours_can_be_called_expired() {
    let forge = Forge::new();
    let past = json!(NOW.unix_timestamp() - 1000);
    let expired = changed(Forge::claims(), "exp", past);
    assert_eq!(forge.problem(&forge.signed(&forge.header(), &expired)), AuthProblem::Expired);
    for (name, value) in [("iss", "https://evil.test"), ("aud", "another-api")] {
        let foreign = changed(expired.clone(), name, json!(value));
        let foreign = forge.signed(&forge.header(), &foreign);
        assert_eq!(forge.problem(&foreign), AuthProblem::Invalid, "{name}");
    }
    let foreign = SigningKey::generate().unwrap();
    let header = forge.header().to_string();
    let forged = token(&header, &expired.to_string(), |m| ed25519(&foreign, m));
    assert_eq!(forge.problem(&forged), AuthProblem::Invalid);
}

#[test]
fn the_settings_determine_lifetime_and_leeway() {
    let mut settings = Settings::new("i", "a");
    settings.access_lifetime = Duration::from_secs(10);
    settings.leeway = Duration::ZERO;
    let issuer = issuer_with(settings, vec![SigningKey::generate().unwrap()]);
    let token = issuer.issue(user(), SESSION, NOW, LATER).unwrap();
    let after = |seconds| issuer.check(&token, NOW + time::Duration::seconds(seconds));
    assert!(after(9).is_ok());
    assert_eq!(problem(after(10)), AuthProblem::Expired);
    assert_eq!(problem(after(-1)), AuthProblem::Invalid);
}

#[test]
fn a_token_that_would_live_longer_than_ours_do_is_refused_though_our_key_signed_it() {
    let forge = Forge::new();
    let now = NOW.unix_timestamp();
    let check = |iat: i64, exp: i64| {
        let claims = changed(Forge::claims(), "iat", json!(iat));
        let forged = forge.signed(&forge.header(), &changed(claims, "exp", json!(exp)));
        forge.issuer.check(&forged, NOW).map(|_| ()).map_err(|e| problem(Err(e)))
    };
    let ten_years = 10 * 365 * 86_400;
    for (iat, exp, expected) in [
        (now, now + 900, Ok(())),
        (now - 899, now + 1, Ok(())),
        (now, now + 901, Err(AuthProblem::Invalid)),
        (now, now + ten_years, Err(AuthProblem::Invalid)),
        (now - ten_years, now + ten_years, Err(AuthProblem::Invalid)),
        (now - ten_years, now + 900, Err(AuthProblem::Invalid)),
        // Issued in the future, which would put off the end as well.
        (now + 30, now + 930, Ok(())),
        (now + 31, now + 931, Err(AuthProblem::Invalid)),
        (now + ten_years, now + ten_years + 900, Err(AuthProblem::Invalid)),
    ] {
        assert_eq!(check(iat, exp), expected, "issued at {}, expires at {}", iat - now, exp - now);
    }
}
