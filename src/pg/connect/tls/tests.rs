//! Tests of unusable files and untrusted certificates.

use std::error::Error as _;
use std::time::Duration;

use crate::pg::connect::tls::*;
use crate::pg::connect::url::DatabaseUrl;

fn connector(url: &str) -> Result<Connector, TlsError> {
    Connector::new(DatabaseUrl::parse(url).unwrap().ssl())
}

#[test]
fn a_missing_file_is_named_with_its_parameter() {
    let both = "sslcert=/nowhere/c.pem&sslkey=/nowhere/k.pem";
    let cases = [
        ("sslmode=verify-full&sslrootcert=/nowhere/r.pem", "sslrootcert", "/nowhere/r.pem"),
        ("sslmode=prefer&sslrootcert=/nowhere/r.pem", "sslrootcert", "/nowhere/r.pem"),
        (both, "sslcert", "/nowhere/c.pem"),
    ];
    for (query, parameter, path) in cases {
        let error = connector(&format!("postgres://u@h/d?{query}")).err().unwrap();
        assert_eq!(error.to_string(), format!("failed to read `{parameter}` from {path}"));
        assert!(error.source().unwrap().to_string().contains("No such file"), "{error:?}");
    }
}

#[test]
fn a_file_without_a_certificate_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display();
    let error = connector(&format!("postgres://u@h/d?sslmode=require&sslrootcert={path}"));
    assert!(matches!(
        error.err().unwrap(),
        TlsError::Read { parameter: "sslrootcert", source: pem::Error::NoItemsFound, .. }
    ));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str| folder.path().join(name);
    let mine = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    std::fs::write(of("c.pem"), mine.cert.pem()).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    std::fs::write(of("k.pem"), other.serialize_pem()).unwrap();

    let (cert, key) = (of("c.pem"), of("k.pem"));
    let query = format!("sslcert={}&sslkey={}", cert.display(), key.display());
    let error = connector(&format!("postgres://u@h/d?{query}")).err().unwrap();
    assert!(matches!(error, TlsError::Client { .. }), "{error:?}");
}

#[test]
fn without_tls_no_file_is_read() {
    let query = "sslmode=disable&sslrootcert=/nowhere&sslcert=/nowhere&sslkey=/nowhere";
    assert!(connector(&format!("postgres://u@h/d?{query}")).is_ok());
}

#[test]
fn a_der_length_has_the_shortest_form() {
    for (length, head) in [
        (1, vec![0x30, 1]),
        (127, vec![0x30, 127]),
        (128, vec![0x30, 0x81, 128]),
        (294, vec![0x30, 0x82, 1, 38]),
    ] {
        let der = der_sequence(&vec![7; length]);
        assert_eq!(der.len(), head.len() + length);
        assert!(der.starts_with(&head), "{length}");
    }
}

#[test]
fn a_named_certificate_is_trusted_no_longer_than_it_is_valid() {
    const DAY: u64 = 24 * 60 * 60;
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 3);
    let named = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let mut store = RootCertStore::empty();
    store.add(named.der().clone()).unwrap();
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let roots = TrustedRoots { store, named: vec![named.der().clone()] };
    let check = ServerCheck { roots: Some(roots), checks_name: true, algorithms };

    let verdict = |day: u64, name: &'static str| {
        let start = u64::try_from(rcgen::date_time_ymd(2020, 1, 1).unix_timestamp()).unwrap();
        let now = Duration::from_secs(start + day * DAY + 1);
        let name = ServerName::try_from(name).unwrap();
        let now = UnixTime::since_unix_epoch(now);
        check.verify_server_cert(named.der(), &[], &name, &[], now)
    };
    assert!(verdict(1, "localhost").is_ok());
    for (day, name) in [(5, "localhost"), (1, "elsewhere")] {
        assert!(verdict(day, name).is_err(), "{name} on day {day}");
    }
}

/// What `deadpool_postgres::Manager::from_config` asks of its TLS.
#[test]
fn the_pool_takes_it() {
    fn poolable<T>(_: &T)
    where
        T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
        T::Stream: Sync + Send,
        T::TlsConnect: Sync + Send,
        <T::TlsConnect as tokio_postgres::tls::TlsConnect<Socket>>::Future: Send,
    {
    }
    fn spawnable<T: Future + Send + 'static>() {}
    poolable(&connector("postgres://u@h/d").unwrap().make_tls());
    spawnable::<Connection>();
}
