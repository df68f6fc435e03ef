//! Tests of how database URLs are parsed and which are refused.

use crate::pg::connect::url::*;

fn parse(text: &str) -> DatabaseUrl {
    DatabaseUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refuse(text: &str) -> String {
    match DatabaseUrl::parse(text) {
        Ok(url) => panic!("{text} was accepted as {url:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn both_forms_mean_the_same() {
    let cases = [
        ("postgres://u:p@h:6543/d", "host=h port=6543 user=u password=p dbname=d"),
        ("postgresql://u@h/d", " host = h  user='u' dbname=d "),
        ("postgres://u@h", "host=h user=u"),
        ("postgres://h/d", "host=h dbname=d"),
        ("postgres://u:%40%2F%3a%25@h/d", "host=h user=u dbname=d password=@/:%"),
        ("postgres://u:it's%20%5C@h/d", r"host=h user=u dbname=d password='it\'s \\'"),
        ("postgres://u:a?b@h/d", "host=h user=u dbname=d password=a?b"),
        ("postgres://h/d?user=u&password=p@ss", "host=h user=u password=p@ss dbname=d"),
        ("postgres://u@[::1]:1/d", "host=::1 port=1 user=u dbname=d"),
        ("postgres://u@a:1,b/d", "host=a,b port=1, user=u dbname=d"),
        ("postgres://u@%2Frun%2Fpg/d", "host=/run/pg user=u dbname=d"),
        ("postgres://u@/d?host=/run/pg&port=7", "host=/run/pg port=7 user=u dbname=d"),
        ("postgres://u@localhost/d?host=/run/pg", "host=/run/pg user=u dbname=d"),
        ("postgres://u@h/d?ssl=true", "host=h user=u dbname=d sslmode=require"),
        ("postgres://u@h/d?sslmode=&connect_timeout=", "host=h user=u dbname=d"),
        ("postgres://u@h/d?keepalives_count=3", "host=h user=u dbname=d keepalives_retries=3"),
        ("postgres://u@/d?hostaddr=127.0.0.1", "host=127.0.0.1 user=u dbname=d"),
    ];
    for (url, pairs) in cases {
        let (url, pairs) = (parse(url), parse(pairs));
        let named = |url: &DatabaseUrl| {
            let ports = (0..url.config.get_hosts().len()).map(|n| url.port_of(n));
            (ports.collect::<Vec<_>>(), url.redacted(), url.ssl.clone())
        };
        assert_eq!(named(&url), named(&pairs));
        assert_eq!(url.config.get_password(), pairs.config.get_password());
        assert_eq!(url.config.get_keepalives_retries(), pairs.config.get_keepalives_retries());
    }
}

#[test]
fn a_refusal_names_the_parameter() {
    let cases = [
        ("postgres://u@h/d?pgbouncer=true", "`pgbouncer`"),
        ("host=h user=u sslcrl=/x", "`sslcrl`"),
        ("postgres://u@h/d?options=-csearch_path%3Dx", "`options`"),
        ("host=h user=u options='-c statement_timeout=5s'", "statement_timeout"),
        ("postgres://u@h/d?sslmode=verify", "`sslmode` must be disable, allow"),
        ("postgres://u@h/d?sslmode=require&sslrootcert=system", "`sslmode` is require"),
        ("postgres://u@h/d?sslmode=verify-ca&sslrootcert=system", "`sslmode` is verify-ca"),
        ("postgres://u@h/d?sslnegotiation=direct", "sslnegotiation=direct: use require"),
        ("postgres://u@h/d?sslcert=/x", "no `sslkey`"),
        ("postgres://u@h/d?sslkey=/x", "no `sslcert`"),
        ("postgres://u@h:x/d", "`port` must be port numbers"),
        ("postgres://u@h:70000/d", "`port` must be port numbers"),
        ("postgres://u@h/d?connect_timeout=soon", "`connect_timeout` must be a number"),
        ("postgres://u@h/d?tcp_user_timeout=-1", "`tcp_user_timeout` must be a number"),
        ("postgres://u@h/d?hostaddr=h", "`hostaddr` must be IP addresses"),
        ("postgres://u@a,,b/d", "`host` must be host names"),
        ("postgres://u@a,b/d?hostaddr=::1", "`hostaddr` must have one entry"),
        ("postgres://u@a,b,c/d?port=1,2", "`port` must have one entry"),
        ("postgres:///d", "no `host`"),
        ("postgres://h", "no `dbname`"),
        ("", "no `host`"),
        ("mysql://u@h/d", "must begin with postgres://"),
        ("localhost", "neither a postgres:// URL nor"),
        ("postgres://u@::1/d", "in brackets"),
        ("postgres://u@[::1/d", "no `]`"),
        ("postgres://u@h/d?sslmode", "no `=`"),
        ("host=h user='u", "no end"),
        ("postgres://u:100%@h/d", "%25"),
        ("postgres://u:%ff@h/d", "UTF-8"),
    ];
    for (text, part) in cases {
        let message = refuse(text);
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn no_refusal_repeats_a_password() {
    let cases = [
        "postgres://u:hunter2@h:x/d",
        "postgres://u:x@hunter2@h/d",
        "postgres://u:x/hunter2@h/d",
        "postgres://u:5432/hunter2@h/d",
        "postgres://u:5432/a/hunter2@h/d?sslmode=require",
        "postgres://u:%hunter2@h/d",
        "postgres://h?password=hunter2@x",
        "postgres://u@h/d?password=hunter2&hunter2=x",
        "postgres://u@h/d?password=x&hunter2=x",
        "host=h user=u password=hunter2 options=x",
        "host=h user=u password=x hunter2",
        "host=h user=u password=x hunter2=x",
        "host=h user=u password='hunter2",
        "hunter2",
        "mysql://u:hunter2@h/d",
    ];
    for text in cases {
        let message = refuse(text);
        assert!(!message.contains("hunter2"), "{text}: {message}");
    }
}

#[test]
fn a_redacted_url_has_no_password() {
    let cases = [
        ("postgres://u:hunter2@h/d", "postgres://u@h:5432/d?sslmode=prefer"),
        ("host=h user=u password=hunter2", "postgres://u@h:5432/u?sslmode=prefer"),
        ("postgres://u:hunter2@[::1]:1,b:2/d", "postgres://u@[::1]:1,b:2/d?sslmode=prefer"),
        (
            "postgres://u%20v:hunter2@/d%2Fe?host=/run/pg&sslmode=require",
            "postgres://u%20v@/d%2Fe?host=/run/pg&port=5432&sslmode=require",
        ),
        ("postgres://h/d?password=hunter2", "postgres://h:5432/d?sslmode=prefer"),
    ];
    for (text, shown) in cases {
        let url = parse(text);
        assert_eq!(url.redacted(), shown);
        assert_eq!(format!("{url:?}"), format!("DatabaseUrl({shown:?})"));
        assert_eq!(url.config.get_password(), Some(b"hunter2".as_slice()));
        assert_eq!(parse(shown).redacted(), shown, "a redacted URL can be parsed again");
    }
}

#[test]
fn the_mode_decides_the_tls_and_the_check_of_the_certificate() {
    use crate::pg::connect::url::tests::config::SslMode as Wire;
    use SslMode::{Allow, Disable, Prefer, Require, VerifyCa, VerifyFull};
    use Verification::{Chain, ChainAndName, Possession};

    let file = || Some(Roots::File("/r".into()));
    let system = || Some(Roots::System);
    let cases = [
        ("", Prefer, Wire::Prefer, None, Possession),
        ("sslmode=disable", Disable, Wire::Disable, None, Possession),
        ("sslmode=disable&sslrootcert=/r", Disable, Wire::Disable, None, Possession),
        ("sslmode=allow", Allow, Wire::Prefer, None, Possession),
        ("sslmode=prefer", Prefer, Wire::Prefer, None, Possession),
        ("sslmode=prefer&sslrootcert=/r", Prefer, Wire::Prefer, file(), Chain),
        ("sslmode=require", Require, Wire::Require, None, Possession),
        ("sslmode=require&sslrootcert=/r", Require, Wire::Require, file(), Chain),
        ("sslmode=verify-ca", VerifyCa, Wire::Require, system(), Chain),
        ("sslmode=verify-ca&sslrootcert=/r", VerifyCa, Wire::Require, file(), Chain),
        ("sslmode=verify-full", VerifyFull, Wire::Require, system(), ChainAndName),
        ("sslmode=verify-full&sslrootcert=/r", VerifyFull, Wire::Require, file(), ChainAndName),
        ("sslrootcert=system", VerifyFull, Wire::Require, system(), ChainAndName),
    ];
    for (query, mode, wire, roots, verification) in cases {
        let url = parse(&format!("postgres://u@h/d?{query}"));
        assert_eq!(url.ssl.mode(), mode, "{query}");
        assert_eq!(url.config.get_ssl_mode(), wire, "{query}");
        assert_eq!(url.ssl.roots(), roots.as_ref(), "{query}");
        assert_eq!(url.ssl.verification(), verification, "{query}");
    }
}

#[test]
fn a_socket_has_no_tls_whatever_the_mode() {
    for mode in SslMode::ALL {
        let url = parse(&format!("host=/run/pg user=u sslmode={mode}"));
        assert_eq!(url.config.get_ssl_mode(), config::SslMode::Disable, "{mode}");
    }
}

#[test]
fn a_client_certificate_consists_of_two_files() {
    let url = parse("postgres://u@h/d?sslmode=require&sslcert=/c&sslkey=/k");
    let files = ClientFiles { certificate: "/c".into(), key: "/k".into() };
    assert_eq!(url.ssl.client(), Some(&files));
}

#[test]
fn another_login_keeps_the_server_the_database_and_the_tls() {
    let url = parse("postgres://u:p@h:1/?sslmode=require");
    let other = url.with_login("v", None);
    assert_eq!(other.redacted(), "postgres://v@h:1/u?sslmode=require");
    assert_eq!(
        other.config.get_password(),
        None,
        "the owner's password is not used for another login"
    );
    assert_eq!(other.config.get_ssl_mode(), config::SslMode::Require);
    assert_eq!(other.ssl(), url.ssl());
    let with_password = url.with_login("v", Some("q"));
    assert_eq!(with_password.config.get_password(), Some(b"q".as_slice()));
}

#[test]
fn another_database_keeps_the_login() {
    let other = parse("postgres://u:p@h/d").with_database("e");
    assert_eq!(other.redacted(), "postgres://u@h:5432/e?sslmode=prefer");
    assert_eq!(other.config.get_password(), Some(b"p".as_slice()));
    assert_eq!(other.with_login("v", None).config.get_dbname(), Some("e"));
}

#[test]
fn other_parameters_are_passed_to_the_driver() {
    let url = parse(
        "host=h user=u connect_timeout=3 tcp_user_timeout=1500 application_name='a b' \
         channel_binding=require target_session_attrs=read-write keepalives=0",
    );
    let config = url.config();
    assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(1500)));
    assert_eq!(config.get_application_name(), Some("a b"));
    assert_eq!(config.get_channel_binding(), config::ChannelBinding::Require);
    assert_eq!(config.get_target_session_attrs(), config::TargetSessionAttrs::ReadWrite);
    assert!(!config.get_keepalives());
}

#[test]
fn a_network_that_drops_connections_is_noticed_in_seconds_unless_the_url_says_otherwise() {
    let seconds = Duration::from_secs;
    let network = |text: &str| {
        let url = parse(text);
        let config = url.with_login("other", None).config().clone();
        assert!(config.get_keepalives());
        (
            config.get_keepalives_idle(),
            config.get_keepalives_interval(),
            config.get_keepalives_retries(),
            config.get_tcp_user_timeout().copied(),
        )
    };
    assert_eq!(
        network("postgres://u@h/d"),
        (seconds(10), Some(seconds(3)), Some(3), Some(seconds(10)))
    );
    let given = "postgres://u@h/d?keepalives_idle=60&keepalives_interval=7&keepalives_count=2&tcp_user_timeout=0";
    assert_eq!(network(given), (seconds(60), Some(seconds(7)), Some(2), Some(Duration::ZERO)));
}
