//! Connects to real servers with and without TLS, in every `sslmode`.
//!
//! The servers start once and stop with the test process. `localhost` is the right name of all of them;
//! `127.0.0.1` reaches the same servers under a wrong name.

#![cfg(test)]

#[path = "support/postgres_programs.rs"]
mod postgres_programs;

use std::error::Error as _;
use std::path::Path;

use fixture::{Server, Servers, servers};
use rowhouse::pg::connect::tls::{Connector, TlsError, TlsFiles};
use rowhouse::pg::connect::url::{DatabaseUrl, SslMode};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// A right and a wrong name for the same server.
const RIGHT: &str = "localhost";
const WRONG: &str = "127.0.0.1";

async fn open(url: &str) -> Result<Client, tokio_postgres::Error> {
    let url = DatabaseUrl::parse(url).expect("a URL that can be read");
    let connector = Connector::new(url.ssl()).expect("files that can be read");
    let (client, connection) = connector.connect(url.config()).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn connect(server: &Server, host: &str, query: &str) -> Result<Client, String> {
    let url = format!("postgres://owner@{host}:{}/postgres?{query}", server.port);
    open(&url).await.map_err(|error| in_full(&error))
}

/// Returns the error followed by its cause.
fn in_full(error: &tokio_postgres::Error) -> String {
    format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default())
}

/// Returns whether the server sees TLS on this connection.
async fn is_encrypted(client: &Client) -> bool {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    client.query_one(sql, &[]).await.expect("read pg_stat_ssl").get(0)
}

async fn assert_encrypted(server: &Server, host: &str, query: &str) {
    let client = connect(server, host, query).await;
    let client = client.unwrap_or_else(|error| panic!("{query} at {host}: {error}"));
    assert!(is_encrypted(&client).await, "{query} at {host}");
}

async fn assert_refused(server: &Server, host: &str, query: &str, why: &str) {
    match connect(server, host, query).await {
        Ok(_) => panic!("{query} at {host} was accepted"),
        Err(error) => assert!(error.contains(why), "{query} at {host}: {error}"),
    }
}

fn root(mode: &str, path: &Path) -> String {
    format!("sslmode={mode}&sslrootcert={}", path.display())
}

#[tokio::test]
async fn disable_never_uses_tls() {
    for server in [&servers().signed, &servers().plain] {
        let client = connect(server, RIGHT, "sslmode=disable").await.expect("connect");
        assert!(!is_encrypted(&client).await);
    }
}

#[tokio::test]
async fn prefer_uses_tls_where_the_server_has_it() {
    let Servers { signed, self_signed, plain, .. } = servers();
    for query in ["", "sslmode=prefer", "sslmode=allow"] {
        assert_encrypted(signed, WRONG, query).await;
        assert_encrypted(self_signed, WRONG, query).await;
        let client = connect(plain, RIGHT, query).await.expect("connect");
        assert!(!is_encrypted(&client).await);
    }
}

#[tokio::test]
async fn prefer_does_not_fall_back_when_a_certificate_fails_verification() {
    let query = root("prefer", &servers().others.pem);
    assert_refused(&servers().signed, RIGHT, &query, "UnknownIssuer").await;
}

#[tokio::test]
async fn require_and_stricter_modes_refuse_a_server_without_tls() {
    let Servers { plain, ours, .. } = servers();
    assert_refused(plain, RIGHT, "sslmode=require", "does not support TLS").await;
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_refused(plain, RIGHT, &root(mode, &ours.pem), "does not support TLS").await;
    }
}

#[tokio::test]
async fn require_accepts_any_certificate() {
    assert_encrypted(&servers().self_signed, WRONG, "sslmode=require").await;
    assert_encrypted(&servers().signed, WRONG, "sslmode=require").await;
}

#[tokio::test]
async fn require_with_a_root_certificate_is_verify_ca() {
    let Servers { signed, ours, others, .. } = servers();
    assert_encrypted(signed, WRONG, &root("require", &ours.pem)).await;
    assert_refused(signed, RIGHT, &root("require", &others.pem), "UnknownIssuer").await;
}

#[tokio::test]
async fn verify_ca_checks_the_authority_and_not_the_name() {
    let Servers { signed, self_signed, ours, others, .. } = servers();
    assert_encrypted(signed, RIGHT, &root("verify-ca", &ours.pem)).await;
    assert_encrypted(signed, WRONG, &root("verify-ca", &ours.pem)).await;
    assert_refused(signed, RIGHT, &root("verify-ca", &others.pem), "UnknownIssuer").await;
    assert_refused(self_signed, RIGHT, &root("verify-ca", &ours.pem), "invalid peer cert").await;
}

#[tokio::test]
async fn verify_full_checks_the_authority_and_the_name() {
    let Servers { signed, ours, others, .. } = servers();
    let query = root("verify-full", &ours.pem);
    assert_encrypted(signed, RIGHT, &query).await;
    assert_refused(signed, WRONG, &query, "not valid for name \"127.0.0.1\"").await;
    assert_refused(signed, RIGHT, &root("verify-full", &others.pem), "UnknownIssuer").await;
}

#[tokio::test]
async fn the_verified_name_is_the_host_and_not_its_address() {
    let Servers { signed, ours, .. } = servers();
    let query = root("verify-full", &ours.pem);
    assert_encrypted(signed, RIGHT, &format!("{query}&hostaddr=127.0.0.1")).await;
    let other = format!("{query}&hostaddr=127.0.0.1");
    assert_refused(signed, "elsewhere.example", &other, "not valid for name").await;
}

#[tokio::test]
async fn the_system_roots_do_not_include_a_private_authority() {
    for query in ["sslmode=verify-ca", "sslmode=verify-full", "sslrootcert=system"] {
        assert_refused(&servers().signed, RIGHT, query, "UnknownIssuer").await;
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_when_it_is_the_root_certificate() {
    let server = &servers().self_signed;
    let named = server.folder.join("server.crt");
    assert_encrypted(server, WRONG, &root("verify-ca", &named)).await;
    assert_encrypted(server, RIGHT, &root("verify-full", &named)).await;
    assert_refused(server, WRONG, &root("verify-full", &named), "not valid for name").await;
}

#[tokio::test]
async fn a_version_1_certificate_is_accepted_in_modes_that_do_not_verify() {
    let Some(server) = &servers().version_1 else {
        eprintln!("skipped: no openssl makes version 1 certificates here");
        return;
    };
    assert_encrypted(server, WRONG, "sslmode=prefer").await;
    assert_encrypted(server, WRONG, "sslmode=require").await;
    let named = server.folder.join("server.crt");
    assert_refused(server, RIGHT, &root("verify-ca", &named), "invalid peer cert").await;
}

#[tokio::test]
async fn a_client_certificate_authenticates_the_login_that_it_names() {
    let Servers { signed, ours, others, .. } = servers();
    let log_in = async |name: &str, files: &str| {
        let query = format!("{}{files}", root("verify-full", &ours.pem));
        let url = format!("postgres://{name}@localhost:{}/postgres?{query}", signed.port);
        open(&url).await
    };
    let client = log_in("certified", &servers().client(ours, "certified")).await.expect("log in");
    assert!(is_encrypted(&client).await);

    let without = log_in("certified", "").await.expect_err("the login needs a certificate");
    assert_eq!(without.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
    let name = log_in("certified", &servers().client(ours, "someone")).await;
    assert!(name.is_err(), "a certificate is valid only for the login that it names");
    let issuer = log_in("certified", &servers().client(others, "certified")).await;
    assert!(issuer.is_err(), "a certificate is valid only if the server trusts its issuer");
}

#[tokio::test]
async fn a_password_can_be_bound_to_the_channel() {
    let at = |server: &Server, password: &str, mode: SslMode| {
        let authority = format!("bound:{password}@localhost:{}", server.port);
        format!("postgres://{authority}/postgres?channel_binding=require&sslmode={mode}")
    };
    for server in [&servers().signed, &servers().self_signed] {
        let client = open(&at(server, "secret", SslMode::Require)).await.expect("log in");
        assert!(is_encrypted(&client).await);
        let wrong = open(&at(server, "wrong", SslMode::Require)).await.expect_err("wrong password");
        assert_eq!(wrong.code(), Some(&SqlState::INVALID_PASSWORD));
        assert!(
            open(&at(server, "secret", SslMode::Disable)).await.is_err(),
            "there is no channel to bind to"
        );
    }
}

#[tokio::test]
async fn certificates_are_read_again_for_new_connections_and_bad_ones_change_nothing() {
    let Servers { signed, ours, others, .. } = servers();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("root.pem");
    let copy = |from: &Path| std::fs::copy(from, &file).expect("a file can be copied");
    copy(&others.pem);
    let url =
        format!("postgres://owner@{RIGHT}:{}/postgres?{}", signed.port, root("verify-full", &file));
    let url = DatabaseUrl::parse(&url).expect("a URL that can be read");
    let files = TlsFiles::open(url.ssl()).expect("files that can be read");
    let tls = files.tls();
    let connect = async || match url.config().connect(tls.clone()).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            Ok(client)
        }
        Err(error) => Err(in_full(&error)),
    };
    let refused = connect().await.expect_err("the root is another's");
    assert!(refused.contains("UnknownIssuer"), "{refused}");

    copy(&ours.pem);
    files.replace(files.read().expect("files that can be read"));
    let client = connect().await.expect("connect");
    assert!(is_encrypted(&client).await);

    std::fs::write(&file, "no certificate").expect("a file can be written");
    assert!(files.read().is_err());
    assert!(is_encrypted(&client).await);
    connect().await.expect("the certificates that were read before stay in force");
}

#[tokio::test]
async fn a_socket_needs_no_tls_in_any_mode() {
    let server = &servers().signed;
    for mode in SslMode::ALL {
        let folder = server.folder.display();
        let url =
            format!("host={folder} port={} user=owner dbname=postgres sslmode={mode}", server.port);
        let client = open(&url).await.expect("connect");
        assert!(!is_encrypted(&client).await, "{mode}");
    }
}

#[tokio::test]
async fn a_query_can_be_cancelled_over_tls() {
    let Servers { signed, ours, .. } = servers();
    let query = root("verify-full", &ours.pem);
    let url = format!("postgres://owner@localhost:{}/postgres?{query}", signed.port);
    let connector = Connector::new(DatabaseUrl::parse(&url).unwrap().ssl()).expect("files");
    let client = open(&url).await.expect("connect");
    let token = client.cancel_token();
    let cancel = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        token.cancel_query(connector.make_tls()).await.expect("send the cancel request");
    };
    let (outcome, ()) = tokio::join!(client.simple_query("SELECT pg_sleep(30)"), cancel);
    assert_eq!(outcome.expect_err("cancelled").code(), Some(&SqlState::QUERY_CANCELED));
}

#[test]
fn a_missing_root_file_is_named_with_its_parameter() {
    let url = DatabaseUrl::parse("postgres://u@h/d?sslmode=verify-full&sslrootcert=/nowhere/r.pem");
    let error = Connector::new(url.unwrap().ssl()).err().expect("there is no such file");
    assert!(matches!(error, TlsError::Read { .. }));
    assert_eq!(error.to_string(), "failed to read `sslrootcert` from /nowhere/r.pem");
}

/// The servers of this file.
mod fixture {
    use std::fs::{self, Permissions};
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    };

    use crate::postgres_programs::{as_server, binaries, chown_to_server_user};

    /// All logins are trusted, except `certified`, which needs a certificate, and `bound`, which needs a password.
    const HBA: &str = "\
        local   all all       trust\n\
        hostssl all certified 127.0.0.1/32 cert\n\
        host    all bound     127.0.0.1/32 scram-sha-256\n\
        host    all owner     127.0.0.1/32 trust\n";

    const LOGINS: &str =
        "CREATE ROLE certified LOGIN;\nCREATE ROLE bound LOGIN PASSWORD 'secret';\n";

    /// Runs the servers while the test process holds the other end of its stdin, then stops them and removes
    /// their folder, also after a crash of the test process.
    const SUPERVISOR: &str = r#"
        trap '' INT
        bin=$1 folder=$2; shift 2
        for name; do
            "$bin/pg_ctl" start -w -D "$folder/$name" -l "$folder/$name/log" >"$folder/out" 2>&1 \
                || { cat "$folder/$name/log"; echo failed; }
        done
        echo ready
        read -r _
        for name; do "$bin/pg_ctl" stop -m immediate -D "$folder/$name" >"$folder/out" 2>&1; done
        cd / && rm -rf "$folder"
    "#;

    pub(crate) struct Server {
        pub(crate) port: u16,
        pub(crate) folder: PathBuf,
    }

    pub(crate) struct Authority {
        pub(crate) pem: PathBuf,
        issuer: Issuer<'static, KeyPair>,
    }

    struct Identity {
        certificate: String,
        key: String,
    }

    pub(crate) struct Servers {
        pub(crate) ours: Authority,
        pub(crate) others: Authority,
        /// Has a certificate for `localhost` signed by `ours`.
        pub(crate) signed: Server,
        /// Has a self-signed certificate for `localhost` that is marked as a CA.
        pub(crate) self_signed: Server,
        /// Has a version 1 certificate, which `openssl x509 -req` makes without extensions.
        pub(crate) version_1: Option<Server>,
        /// Has no TLS.
        pub(crate) plain: Server,
        folder: PathBuf,
        _supervisor: Child,
    }

    /// Returns the servers, which the first call starts.
    pub(crate) fn servers() -> &'static Servers {
        static SERVERS: OnceLock<Servers> = OnceLock::new();
        SERVERS.get_or_init(start)
    }

    fn start() -> Servers {
        // The supervisor removes the folder, because a static is never dropped.
        let folder = tempfile::Builder::new().prefix("rowhouse-tls-").tempdir().unwrap().keep();
        chown_to_server_user(&folder);
        let ours = authority(&folder, "ours");
        let others = authority(&folder, "others");
        make_template(&folder);

        let prepare = |name, identity| prepare(&folder, name, identity, &ours);
        let plain = prepare("plain", None);
        let signed = prepare("signed", Some(signed_by(&ours, "server")));
        let self_signed = prepare("self_signed", Some(self_signed_authority()));
        let version_1 = version_1(&folder).map(|identity| prepare("version_1", Some(identity)));
        let started = [Some(&plain), Some(&signed), Some(&self_signed), version_1.as_ref()];
        let supervisor = supervise(&folder, started.into_iter().flatten());
        Servers {
            ours,
            others,
            signed,
            self_signed,
            version_1,
            plain,
            folder,
            _supervisor: supervisor,
        }
    }

    impl Servers {
        /// Creates a client's certificate and key; returns the URL parameters that name them.
        pub(crate) fn client(&self, authority: &Authority, name: &str) -> String {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let certificate = self.folder.join(format!("client-{number}.crt"));
            let key = certificate.with_extension("key");
            let identity = signed_by(authority, name);
            fs::write(&certificate, identity.certificate).unwrap();
            fs::write(&key, identity.key).unwrap();
            format!("&sslcert={}&sslkey={}", certificate.display(), key.display())
        }
    }

    fn authority(folder: &Path, name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = folder.join(format!("{name}.pem"));
        fs::write(&pem, params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    fn signed_by(authority: &Authority, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn self_signed_authority() -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Creates a version 1 certificate with `openssl`, because `rcgen` makes only version 3.
    fn version_1(folder: &Path) -> Option<Identity> {
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            let output = command.args(arguments.split(' ')).current_dir(folder).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        openssl("req -new -newkey rsa:2048 -nodes -keyout v1.key -out v1.csr -subj /CN=localhost")?;
        openssl("x509 -req -in v1.csr -signkey v1.key -days 2 -out v1.crt")?;
        let is_version_1 = openssl("x509 -in v1.crt -noout -text")?.contains("Version: 1 ");
        let read = |name| fs::read_to_string(folder.join(name)).unwrap();
        is_version_1.then(|| Identity { certificate: read("v1.crt"), key: read("v1.key") })
    }

    fn make_template(folder: &Path) {
        let template = folder.join("template");
        let mut initdb = as_server(folder, &binaries().join("initdb"));
        initdb.args(["--no-sync", "-U", "owner", "-A", "trust", "-D"]).arg(&template);
        let output = initdb.output().expect("run initdb");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let mut single = as_server(folder, &binaries().join("postgres"));
        single.args(["--single", "-F", "-D"]).arg(&template).arg("postgres");
        let mut single = single
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        single.stdin.take().unwrap().write_all(LOGINS.as_bytes()).unwrap();
        assert!(single.wait().unwrap().success());
    }

    fn prepare(
        folder: &Path,
        name: &str,
        identity: Option<Identity>,
        trusted: &Authority,
    ) -> Server {
        let data = folder.join(name);
        let mut copy = as_server(folder, Path::new("cp"));
        assert!(copy.arg("-a").arg(folder.join("template")).arg(&data).status().unwrap().success());

        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let socket = data.display();
        let mut settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\n\
             unix_socket_directories = '{socket}'\nfsync = off\n"
        );
        if let Some(identity) = identity {
            let trusted = trusted.pem.display();
            settings = format!("{settings}ssl = on\nssl_ca_file = '{trusted}'\n");
            fs::write(data.join("server.crt"), identity.certificate).unwrap();
            fs::write(data.join("server.key"), identity.key).unwrap();
            fs::set_permissions(data.join("server.key"), Permissions::from_mode(0o600)).unwrap();
            chown_to_server_user(&data.join("server.key"));
        }
        fs::write(data.join("postgresql.conf"), settings).unwrap();
        fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        Server { port, folder: data }
    }

    fn supervise<'a>(folder: &Path, servers: impl Iterator<Item = &'a Server>) -> Child {
        let mut command = as_server(folder, Path::new("sh"));
        command.args(["-c", SUPERVISOR, "supervisor"]).arg(binaries()).arg(folder);
        command.args(servers.map(|server| server.folder.file_name().unwrap()));
        let mut supervisor = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(supervisor.stdout.take().unwrap()).lines().map(Result::unwrap);
        let errors: Vec<_> = lines.take_while(|line| line != "ready").collect();
        assert!(errors.is_empty(), "the servers did not start:\n{}", errors.join("\n"));
        supervisor
    }
}
