//! Names that are accepted, and those that are refused with their rule.

use super::*;

#[test]
fn slugs_are_url_friendly_or_refused_with_the_rule() {
    for good in ["a", "acme-corp", "page123", "test-site-1", "0x", &"a".repeat(63)] {
        assert_eq!(Slug::parse(good).map(|s| s.as_str().to_owned()), Ok(good.to_owned()));
    }
    for (bad, rule) in [
        ("", Rule::Required),
        ("a".repeat(64).as_str(), Rule::TooLong(63)),
        ("Acme", Rule::SlugFormat),
        ("my page", Rule::SlugFormat),
        ("-mypage", Rule::SlugFormat),
        ("mypage-", Rule::SlugFormat),
        ("my--page", Rule::SlugFormat),
        ("page.qrweb.mn", Rule::SlugFormat),
        ("аcme", Rule::SlugFormat), // the first letter is Cyrillic
        ("acme\0", Rule::SlugFormat),
        ("a'; DROP SCHEMA public; --", Rule::SlugFormat),
        ("public", Rule::Reserved),
        ("www", Rule::Reserved),
        ("api", Rule::Reserved),
        ("admin", Rule::Reserved),
        ("pg_toast", Rule::Reserved),
        ("pg-x", Rule::Reserved),
    ] {
        assert_eq!(Slug::parse(bad), Err(rule), "{bad:?}");
    }
}

#[test]
fn emails_are_compared_without_case_and_surrounding_space() {
    assert_eq!(Email::parse(" Admin@Acme.COM ").unwrap().as_str(), "admin@acme.com");
    for bad in ["admin", "@acme.com", "admin@", "a b@acme.com", "a\0@acme.com", "a@b@c.com"] {
        assert_eq!(Email::parse(bad), Err(Rule::EmailFormat), "{bad:?}");
    }
    // The k is a Kelvin sign, the i has no dot: neither is the address without.
    for alike in ["mi\u{212a}e@acme.com", "m\u{131}ke@acme.com"] {
        assert_eq!(Email::parse(alike), Err(Rule::EmailFormat), "{alike:?}");
    }
    assert_eq!(Email::parse(""), Err(Rule::Required));
    assert_eq!(Email::parse(&format!("a@{}.com", "b".repeat(260))), Err(Rule::TooLong(254)));
}

#[test]
fn names_in_any_script_are_kept_as_given() {
    for name in ["Acme Corp", "株式会社アクメ", "  padded  ", "O'Brien\"; --", "Ægir 🏠", "عقار"]
    {
        assert_eq!(TenantName::parse(name).unwrap().as_str(), name);
    }
    assert_eq!(PersonName::parse(" \t "), Err(Rule::Required));
    assert_eq!(PersonName::parse("a\0b"), Err(Rule::ControlCharacter));
    assert_eq!(TenantName::parse(&"é".repeat(256)), Err(Rule::TooLong(255)));
    assert!(TenantName::parse(&"é".repeat(255)).is_ok());
}

#[test]
fn a_schema_is_named_by_the_id_alone() {
    let id = TenantId::new(Uuid::from_u128(0x660e_8400_e29b_41d4_a716_4466_5544_0000));
    assert_eq!(SchemaName::of(id).as_str(), "tenant_660e8400e29b41d4a716446655440000");
}
