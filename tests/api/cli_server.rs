//! The command line against a server: the same output as on a database, the exit codes, and answers that are none.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::control::{events, transition};
use crate::support::{Completed, Program, TestApp};

/// Returns a program that works on a server with a token.
fn remote(address: &str, token: &str) -> Program {
    Program::embedded().with("ROWHOUSE_SERVER", address).with("ROWHOUSE_TOKEN", token)
}

async fn fixture() -> (TestApp, Program, Program) {
    let app = TestApp::builder().with("tenants.purge_interval", "1h").spawn().await;
    let (local, remote) = (Program::on(&app.database), remote(&app.address, &app.root_token));
    (app, local, remote)
}

/// A listener that answers every connection with these bytes and closes it. Keeps the requests.
struct Fake {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn start(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&requests), answer.into());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).unwrap_or(0);
                let request = String::from_utf8_lossy(&buffer[..count]).into_owned();
                kept.lock().expect("no thread panics").push(request);
                let _ = stream.write_all(&answer);
            }
        });
        Self { address, requests }
    }

    fn http(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::start(format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ))
    }
}

/// Parses the failure that `--json` prints.
fn error_of(ran: &Completed) -> Value {
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    let error: Value = serde_json::from_str(&ran.stderr).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    assert!(error["error"]["message"].is_string() && ran.stdout.is_empty(), "{ran:?}");
    error["error"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_through_a_server_is_printed_as_from_a_database() {
    let (app, local, remote) = fixture().await;
    let acme = app.set_up("acme").await;
    for slug in ["other", "third"] {
        app.set_up(slug).await;
    }
    transition(&app.root(), "other", "delete").await;
    local.run(&["invite", "create", "acme", "bo@example.com", "--role", "FDE"]).expect(0);
    local.run(&["token", "create", "--name", "ci", "--permission", "VIEW_TENANTS"]).expect(0);
    local.run(&["audit", "verify"]).expect(0);
    let id = acme.id.to_string();
    for verb in [
        &["tenant", "list"][..],
        &["tenant", "list", "--status", "deleting"],
        &["tenant", "list", "--search", "ACME", "--since", "1h"],
        &["tenant", "list", "--slug", "none"],
        &["tenant", "show", "acme"],
        &["tenant", "show", &id],
        &["tenant", "settings", "acme"],
        &["member", "list", "acme"],
        &["invite", "list", "acme"],
        &["token", "list"],
        &["audit", "list", "--tenant", "acme"],
        &["audit", "list", "--limit", "2"],
        &["audit", "verify"],
        &["events", "list"],
        &["events", "list", "--type", "tenant.*", "--tenant", "other", "--limit", "1"],
        &["key", "list"],
        &["migrate", "--plan"],
        &["tenant", "ensure", "--external-id", "x", "--slug", "new", "--no-admin", "--dry-run"],
    ] {
        for json in [&[][..], &["--json"]] {
            let verb = [verb, json].concat();
            let (on, through) = (local.run(&verb).expect(0), remote.run(&verb).expect(0));
            assert_eq!(through.stdout, on.stdout, "{verb:?}");
            assert_eq!(through.stderr, on.stderr, "{verb:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_more_than_a_page_is_read_to_its_end() {
    let (app, local, remote) = fixture().await;
    let sql = app.sql().await;
    sql.batch_execute(
        "INSERT INTO tenants (id, number, slug, name, status, cluster, migrations_version,
                              migrations_fingerprint, created_at, updated_at)
         SELECT gen_random_uuid(), n, 'bulk-' || n, 'Bulk ' || n, 'active', 'default', 1, 'x',
                timestamptz '2020-01-01' + n * interval '1 minute', now()
           FROM generate_series(10, 259) n;",
    )
    .await
    .expect("it works");
    let (on, through) =
        (local.run(&["tenant", "list"]).expect(0), remote.run(&["tenant", "list"]).expect(0));
    assert_eq!((on.stdout.lines().count(), &through.stdout), (251, &on.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_lives_its_whole_life_through_a_server() {
    let (app, local, remote) = fixture().await;
    let create = [
        "tenant",
        "create",
        "--name",
        "Acme",
        "--slug",
        "acme",
        "--admin-email",
        "ada@acme.com",
        "--admin-first-name",
        "Ada",
        "--admin-last-name",
        "L",
        "--admin-password-stdin",
        "--json",
        "--idempotency-key",
        "k1",
        "--expires-in",
        "24h",
    ];
    let password = crate::support::PASSWORD;
    let made = remote.run_with_stdin(&create, password).expect(0).json();
    assert_eq!(
        (&made["slug"], &made["replayed"], &made["admin"]),
        (&json!("acme"), &json!(false), &json!("created"))
    );
    let again = remote.run_with_stdin(&create, password).expect(0).json();
    assert_eq!((&again["id"], &again["replayed"]), (&made["id"], &json!(true)));
    app.log_in("ada@acme.com").await;
    for verb in [
        &["rename", "acme", "--name", "Acme Ltd"][..],
        &["extend", "acme", "--expires-in", "48h"],
        &["suspend", "acme"],
        &["suspend", "acme"],
        &["resume", "acme"],
        &["delete", "acme", "--yes"],
        &["restore", "acme"],
        &["extend", "acme", "--never"],
    ] {
        let changed = remote.run(&[&["tenant"], verb, &["--json"]].concat()).expect(0).json();
        let shown = local.run(&["tenant", "show", "acme", "--json"]).expect(0).json();
        assert_eq!(changed, shown, "{verb:?}");
    }
    let patch = ["tenant", "settings", "acme", "--patch", "-"];
    let settings = remote.run_with_stdin(&patch, r#"{"plan": "pro"}"#).expect(0).json();
    assert_eq!(settings, json!({ "plan": "pro" }));

    let added = [
        "member",
        "add",
        "acme",
        "bo@x.test",
        "--role",
        "FDE",
        "--first-name",
        "Bo",
        "--last-name",
        "B",
        "--password-stdin",
        "--json",
    ];
    let added = remote.run_with_stdin(&added, password).expect(0).json();
    assert_eq!((&added["email"], &added["role"]), (&json!("bo@x.test"), &json!("FDE")));
    remote.run(&["member", "set-role", "acme", "bo@x.test", "VIEWER"]).expect(0);
    remote.run(&["member", "remove", "acme", "bo@x.test"]).expect(0);
    let invited = remote.run(&["invite", "create", "acme", "cy@x.test", "--role", "FDE", "--json"]);
    let invited = invited.expect(0).json();
    assert!(invited["token"].is_string(), "{invited}");
    let id = invited["id"].as_str().expect("it works");
    remote.run(&["invite", "revoke", "acme", id]).expect(0);

    let token = [
        "token",
        "create",
        "--name",
        "ci",
        "--permission",
        "VIEW_TENANTS",
        "--expires",
        "30d",
        "--json",
    ];
    let token = remote.run(&token).expect(0).json();
    assert!(token["expires_at"].is_string(), "{token}");
    let id = token["id"].as_str().expect("it works");
    let rotated =
        remote.run(&["token", "rotate", id, "--overlap", "12h", "--json"]).expect(0).json();
    assert_ne!(rotated["token"], token["token"]);
    remote.run(&["token", "revoke", id]).expect(0);

    remote.run(&["tenant", "delete", "acme", "--yes"]).expect(0);
    let purged = remote.run(&["tenant", "purge", "acme", "--yes", "--json"]).expect(0).json();
    assert_eq!(purged, json!({ "id": made["id"], "slug": "acme", "purged": true }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_has_the_same_code_and_words_through_a_server_as_on_a_database() {
    let (app, local, remote) = fixture().await;
    app.set_up("acme").await;
    app.set_up("gone").await;
    transition(&app.root(), "gone", "delete").await;
    let no_id = "0190d3a8-5c1e-7b60-9d4e-3f6a2b1c0d9e";
    for (verb, exit, code) in [
        (&["tenant", "show", "absent"][..], 4, "tenant_not_found"),
        (&["tenant", "show", "--external-id", "absent"], 4, "tenant_not_found"),
        (&["member", "list", "absent"], 4, "tenant_not_found"),
        (&["member", "remove", "acme", "no@x.test"], 4, "member_not_found"),
        (&["member", "add", "acme", "no@x.test", "--role", "FDE"], 4, "user_not_found"),
        (&["invite", "revoke", "acme", no_id], 4, "invitation_not_found"),
        (&["token", "revoke", no_id], 4, "token_not_found"),
        (&["tenant", "rename", "acme", "--slug", "gone"], 5, "slug_taken"),
        (&["tenant", "rename", "gone", "--name", "x"], 5, "tenant_not_active"),
        (
            &["tenant", "rename", "acme", "--name", "x", "--if-revision", "7"],
            5,
            "precondition_failed",
        ),
        (&["tenant", "suspend", "gone"], 5, "illegal_move"),
        (&["tenant", "purge", "acme", "--yes"], 5, "illegal_move"),
        (&["tenant", "extend", "acme", "--expires-in", "1h"], 5, "tenant_has_no_end"),
        (&["member", "remove", "acme", "admin@acme.example.com"], 5, "last_admin"),
        (&["tenant", "show", "Not A Slug"], 2, "usage"),
        (&["tenant", "extend", "acme", "--expires-in", "soon"], 2, "usage"),
        (&["tenant", "shov"], 2, "usage"),
        (&["migrate", "status"], 4, "operation_not_found"),
    ] {
        let (on, through) = (local.run(verb).expect(exit), remote.run(verb).expect(exit));
        if code != "illegal_move" {
            assert_eq!(through.stderr, on.stderr, "{verb:?}");
        }
        assert!(through.stderr.starts_with("rowhouse: ") || code == "usage", "{through:?}");
        let verb = [verb, &["--json"]].concat();
        for program in [&local, &remote] {
            let ran = program.run(&verb).expect(exit);
            assert_eq!(error_of(&ran)["code"], code, "{verb:?}");
        }
    }
    assert_eq!(app.root().get("/control/v1/tenants/acme").await.body["revision"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_without_the_right_is_told_which_one_it_lacks() {
    let (app, _, _) = fixture().await;
    app.set_up("acme").await;
    let secret = Program::on(&app.database)
        .run(&["token", "create", "--name", "x", "--permission", "VIEW_TENANTS"])
        .expect(0);
    let weak = remote(&app.address, secret.stdout.trim());
    weak.run(&["tenant", "list"]).expect(0);
    let refused = weak.run(&["tenant", "suspend", "acme"]).expect(6);
    assert_eq!(refused.stderr, "rowhouse: not permitted; missing UPDATE_TENANT\n");
    let refused = error_of(&weak.run(&["tenant", "suspend", "acme", "--json"]).expect(6));
    assert_eq!(
        (&refused["code"], &refused["missing"]),
        (&json!("forbidden"), &json!(["UPDATE_TENANT"]))
    );
    assert!(refused["request_id"].is_string(), "{refused}");
    let forger = remote(&app.address, "rh_nonsense");
    let refused = forger.run(&["tenant", "list"]).expect(6);
    assert!(!refused.stderr.contains("rh_nonsense"), "{refused:?}");
    std::fs::write(weak.folder().join("list.csv"), "slug\none\ntwo\n").expect("it works");
    let refused = weak.run(&["tenant", "import", "list.csv"]).expect(6);
    assert!(refused.stdout.contains("2 not tried"), "{refused:?}");
    assert_eq!(app.root().get("/control/v1/tenants/one").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_named_alone_and_with_a_token() {
    let (app, local, remote) = fixture().await;
    let address = app.address.as_str();
    let file = local.folder().join("token");
    std::fs::write(&file, format!("{}\n", app.root_token)).expect("it works");
    let file = file.display().to_string();
    Program::embedded()
        .run(&["tenant", "list", "--server", address, "--token-file", &file])
        .expect(0);
    let from_file = Program::embedded().with("ROWHOUSE_TOKEN_FILE", &file);
    from_file.run(&["--server", address, "tenant", "list"]).expect(0);
    let bare = Program::embedded();
    for (program, verb, words) in [
        (
            &local,
            &["tenant", "list", "--server", address, "--token-file", &file][..],
            "DATABASE_URL",
        ),
        (
            &remote,
            &["tenant", "list", "--database-url", "postgres://u:hunter22@h/d"],
            "--database-url",
        ),
        (&bare, &["tenant", "list", "--server", address], "--token-file"),
        (&bare, &["tenant", "list", "--server", address, "--token-file", "/none"], "/none"),
        (&bare, &["tenant", "list", "--token-file", &file], "--server"),
        (
            &bare,
            &["tenant", "list", "--server", "example.com", "--token-file", &file],
            "must be an address",
        ),
        (
            &bare,
            &["tenant", "list", "--server", "https://u:hunter22@x.test", "--token-file", &file],
            "must not hold a login",
        ),
        (&remote, &["doctor"], "works on a database"),
        (&remote, &["vacancies"], "works on a database"),
        (&remote, &["session", "list", "a@b.test"], "works on a database"),
        (&remote, &["key", "retire", "k", "--now"], "works on a database"),
        (&remote, &["migrate", "repair"], "works on a database"),
        (&bare, &["serve", "--server", address], "is a server"),
    ] {
        let refused = program.run(verb).expect(2);
        assert!(
            refused.stderr.contains(words) && refused.stdout.is_empty(),
            "{verb:?}: {refused:?}"
        );
        assert!(!refused.stderr.contains("hunter22"), "{refused:?}");
    }
    // A command without a target does not read them.
    remote.run(&["openapi"]).expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_answer_of_a_server_is_a_sentence_with_the_right_code() {
    let html = "content-type: text/html\r\n";
    let page = "<html><body>Sign in to Wi-Fi</body></html>";
    let other = json!({ "data": [{ "uuid": 7 }], "next_cursor": null }).to_string();
    let missing = json!({
        "type": "urn:rowhouse:problem:route_not_found", "title": "There is no such path", "status": 404,
        "detail": "x", "code": "route_not_found",
    });
    let json = "content-type: application/json\r\n";
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("it works");
        format!("http://{}", listener.local_addr().expect("it works"))
    };
    for (address, exit, words) in [
        (Fake::http("200 OK", html, page).address, 7, "text/html instead of JSON"),
        (Fake::http("502 Bad Gateway", html, page).address, 7, "502 Bad Gateway with text/html"),
        (Fake::http("404 Not Found", html, page).address, 7, "a proxy or another program"),
        (Fake::http("503 Service Unavailable", "", "").address, 7, "503 Service Unavailable"),
        (Fake::http("200 OK", json, &other).address, 1, "not as this program expects it"),
        (Fake::http("404 Not Found", json, &missing.to_string()).address, 1, "does not know this call"),
        (Fake::start(&b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\ncontent-type: application/json\r\n\r\n{\"data\""[..]).address, 7, "went away"),
        (Fake::start(&b""[..]).address, 7, "went away"),
        (Fake::start(&b"SSH-2.0-OpenSSH_9.6\r\n"[..]).address, 7, "went away"),
        (closed, 7, "cannot be reached"),
    ] {
        let program = remote(&address, "rh_secret_of_the_test");
        let ran = program.run(&["tenant", "list"]).expect(exit);
        assert!(ran.stderr.contains(words) && ran.stderr.contains(&address), "{words}: {ran:?}");
        assert_eq!((ran.stderr.lines().count(), ran.stdout.as_str()), (1, ""), "{ran:?}");
        assert!(!ran.stderr.contains("rh_secret") && !ran.stderr.contains("Wi-Fi"), "{ran:?}");
        let ran = program.run(&["tenant", "list", "--json"]).expect(exit);
        assert!(error_of(&ran)["code"].is_string(), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_is_not_sent_to_where_an_answer_leads() {
    let elsewhere = Fake::http("200 OK", "content-type: application/json\r\n", "{}");
    let to = format!("location: {}/control/v1/tenants\r\n", elsewhere.address);
    let first = Fake::http("307 Temporary Redirect", &to, "");
    let ran = remote(&first.address, "rh_secret_of_the_test").run(&["tenant", "list"]).expect(7);
    assert!(ran.stderr.contains("redirect"), "{ran:?}");
    assert!(first.requests.lock().expect("it works")[0].contains("rh_secret_of_the_test"));
    assert_eq!(elsewhere.requests.lock().expect("it works").len(), 0);
}

/// Answers one request after another over TLS with an empty list.
fn tls_server(certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> String {
    let chain = vec![certificate.cert.der().clone()];
    let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der())
        .expect("it works");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("it works")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("it works");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it works").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).expect("it works");
            let mut tls = rustls::Stream::new(&mut session, &mut stream);
            let mut buffer = [0; 4096];
            if tls.read(&mut buffer).is_ok() {
                let body = r#"{"data":[],"next_cursor":null}"#;
                let _ = write!(
                    tls,
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = tls.flush();
            }
        }
    });
    format!("https://localhost:{port}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_checked_against_the_platform_and_the_file() {
    let certificate =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("it works");
    let address = tls_server(&certificate);
    let program = remote(&address, "rh_x");
    let refused = program.run(&["tenant", "list"]).expect(7);
    assert!(refused.stderr.contains("certificate"), "{refused:?}");
    std::fs::write(program.folder().join("ca.pem"), certificate.cert.pem()).expect("it works");
    let listed = program.run(&["tenant", "list", "--ca-file", "ca.pem"]).expect(0);
    assert_eq!(listed.stderr, "no tenants\n");
    std::fs::write(program.folder().join("empty.pem"), "nothing").expect("it works");
    for bad in ["empty.pem", "absent.pem"] {
        let refused = program.run(&["tenant", "list", "--ca-file", bad]).expect(2);
        assert!(refused.stderr.contains(bad), "{refused:?}");
    }
}

// ---- ensure --------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ensure_makes_one_tenant_and_the_second_run_says_unchanged() {
    let (app, local, remote) = fixture().await;
    app.add_user("ada@acme.com", None).await;
    std::fs::write(local.folder().join("s.json"), r#"{"plan": "free"}"#).expect("it works");
    std::fs::write(remote.folder().join("s.json"), "\u{feff}{\"plan\": \"free\"}")
        .expect("it works");
    for (program, id) in [(&local, "pr-1"), (&remote, "pr-2")] {
        let verb = [
            "tenant",
            "ensure",
            "--external-id",
            id,
            "--slug",
            id,
            "--settings",
            "@s.json",
            "--admin-email",
            "ada@acme.com",
            "--expires-in",
            "24h",
        ];
        let dry = [&verb[..], &["--dry-run"]].concat();
        let would = program.run(&dry).expect(0).stdout;
        assert_eq!(would, format!("tenant {id} would be created; nothing was changed\n"));
        assert_eq!(app.root().get(&format!("/control/v1/tenants/{id}")).await.status, 404);
        let first = program.run(&verb).expect(0).stdout;
        assert!(first.contains(" is created, until "), "{first}");
        let second = program.run(&verb).expect(0).stdout;
        assert!(second.contains(" is unchanged"), "{second}");
        let json = program.run(&[&verb[..], &["--json"]].concat()).expect(0).json();
        assert_eq!(
            (&json["outcome"], &json["settings"]),
            (&json!("unchanged"), &json!({ "plan": "free" }))
        );
        assert!(program.run(&dry).expect(0).stdout.contains("would be unchanged"));

        let verb =
            ["tenant", "ensure", "--external-id", id, "--slug", id, "--name", "New", "--no-admin"];
        let dry = [&verb[..], &["--dry-run", "--json"]].concat();
        assert_eq!(program.run(&dry).expect(0).json()["changes"], json!(["name"]));
        assert!(program.run(&verb).expect(0).stdout.contains(" is changed"));
        let other = ["tenant", "ensure", "--external-id", id, "--slug", "other", "--no-admin"];
        for verb in [&other[..], &[&other[..], &["--dry-run"]].concat()] {
            let refused = program.run(verb).expect(5);
            assert!(refused.stderr.contains("slug"), "{refused:?}");
        }
        program.run(&["tenant", "delete", id, "--yes"]).expect(0);
        let verb = ["tenant", "ensure", "--external-id", id, "--slug", id, "--no-admin"];
        let refused = program.run(&verb).expect(5);
        assert!(refused.stderr.contains("--restore"), "{refused:?}");
        program.run(&[&verb[..], &["--restore"]].concat()).expect(0);
    }
    for bad in [
        &["--external-id", "x", "--slug", "X", "--no-admin"][..],
        &["--external-id", "", "--slug", "x", "--no-admin"],
        &["--external-id", "x", "--slug", "x"],
        &["--external-id", "x", "--slug", "x", "--no-admin", "--settings", "{}"],
        &["--external-id", "x", "--slug", "x", "--no-admin", "--settings", "@absent.json"],
        &["--external-id", "x", "--slug", "x", "--no-admin", "--expires-in", "0s"],
        &["--external-id", "x", "--slug", "x", "--no-admin", "--admin-email", "a@b.test"],
    ] {
        remote.run(&[&["tenant", "ensure"], bad].concat()).expect(2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ensure_twice_at_once_makes_one_tenant() {
    let (app, local, remote) = fixture().await;
    let verb =
        ["tenant", "ensure", "--external-id", "pr-77", "--slug", "pr-77", "--no-admin", "--json"];
    let binary = env!("CARGO_BIN_EXE_rowhouse");
    let start = |program: &Program| program.command(binary, &verb).spawn().expect("it starts");
    let children: Vec<Child> = [&local, &remote, &remote, &local].map(start).into();
    let mut outcomes = Vec::new();
    for child in children {
        let ran = child.wait_with_output().expect("it ends");
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        let view: Value = serde_json::from_slice(&ran.stdout).expect("it is JSON");
        outcomes.push(view["outcome"].as_str().unwrap_or_default().to_owned());
    }
    outcomes.sort();
    assert_eq!(outcomes, ["created", "unchanged", "unchanged", "unchanged"]);
    let row =
        app.sql().await.query_one("SELECT count(*) FROM tenants", &[]).await.expect("it works");
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_given_moved_and_removed_on_the_command_line() {
    let (app, local, _) = fixture().await;
    let acme = app.set_up("acme").await;
    local.run(&["tenant", "extend", "acme", "--expires-in", "1h"]).expect(5);
    let given = local.run(&[
        "tenant",
        "extend",
        "acme",
        "--expires-at",
        "2999-01-01T00:00:00Z",
        "--add-expiry",
        "--json",
    ]);
    assert_eq!(given.expect(0).json()["expires_at"], "2999-01-01T00:00:00Z");
    let past =
        local.run(&["tenant", "extend", "acme", "--expires-at", "2001-01-01T00:00:00Z"]).expect(2);
    assert!(past.stderr.contains("must be in the future"), "{past:?}");
    local.run(&["tenant", "extend", "acme", "--never"]).expect(0);
    for bad in [
        &[][..],
        &["--never", "--expires-in", "1h"],
        &["--expires-in", "1h", "--expires-at", "2999-01-01T00:00:00Z"],
    ] {
        local.run(&[&["tenant", "extend", "acme"], bad].concat()).expect(2);
    }
    assert_eq!(events(&app, acme.id, "tenant.update").await, 2);
}

// ---- wait and man --------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_ends_when_the_server_is_ready_and_not_later_than_its_time() {
    let (app, _, remote) = fixture().await;
    assert_eq!(remote.run(&["wait", "--timeout", "30s"]).expect(0).stdout, "ready\n");
    let by_listen = app.address.trim_start_matches("http://");
    Program::embedded().run(&["wait", "--listen", by_listen]).expect(0);
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("it works");
        listener.local_addr().expect("it works").to_string()
    };
    let late =
        Program::embedded().run(&["wait", "--timeout", "1s", "--listen", &address]).expect(7);
    assert!(
        late.stderr.contains("not ready after 1s") && late.took < Duration::from_secs(20),
        "{late:?}"
    );
    Program::embedded().run(&["wait", "--timeout", "soon"]).expect(2);
}

#[test]
fn man_prints_a_page_and_writes_one_for_each_command() {
    let program = Program::embedded().with("ROWHOUSE_LISTEN", "nowhere");
    let page = program.run(&["man"]).expect(0).stdout;
    assert!(page.contains(".TH rowhouse") && page.contains("tenant"), "{page}");
    program.run(&["man", "--dir", "pages"]).expect(0);
    let names: Vec<_> =
        std::fs::read_dir(program.folder().join("pages")).expect("it works").flatten().collect();
    let names: Vec<_> =
        names.iter().map(|file| file.file_name().into_string().expect("it works")).collect();
    for page in ["rowhouse.1", "rowhouse-tenant.1", "rowhouse-tenant-ensure.1"] {
        assert!(names.iter().any(|name| name == page), "{page}: {names:?}");
    }
}
