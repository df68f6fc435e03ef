//! Rotation: a token keeps its id and gets a new secret, and the old one stays good for an overlap.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::control::{assert_problem, events, pointers};
use crate::support::scoped::{get_in, make_key, plaintext};
use crate::support::tokens::{TOKENS, id_of, listed, made, make_token};
use crate::support::{Caller, Program, Snapshot, TestApp, TestDatabase};

const MEMBERS: &str = "/control/v1/tenants/acme/members";

fn text(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).expect("a time can be written")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_keeps_its_id_and_its_old_secret_is_good_for_the_overlap() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    let acme = app.set_up("acme").await;
    let root = app.root();
    let old = make_token(&app, &root, &["VIEW_USERS"], Some(acme.id)).await;
    assert_eq!(
        (&old.body["rotated_at"], &old.body["previous_until"]),
        (&json!(null), &json!(null))
    );
    let answer = root.post(&old.path("rotate"), &json!({ "overlap": "10m" })).await;
    let new = made(&app, &answer);
    assert_eq!((answer.status, new.id), (200, old.id));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_ne!(new.caller.token(), old.caller.token());
    for same in
        ["name", "kind", "permissions", "tenant_id", "created_by", "created_at", "expires_at"]
    {
        assert_eq!(new.body[same], old.body[same], "{same}");
    }
    assert!(
        new.caller.token().starts_with(new.body["hint"].as_str().unwrap().trim_end_matches('…'))
    );
    for token in [&old, &new] {
        for app in [&app, &second] {
            assert_eq!(app.bearer(token.caller.token()).get(MEMBERS).await.status, 200);
        }
    }
    // No list shows a secret, and the audit trail has none.
    let list = root.get(TOKENS).await.text;
    let row = "SELECT string_agg(e::text, '') || (SELECT string_agg(t::text, '') FROM tokens t) FROM audit_events e";
    let rows: String = app.sql().await.query_one(row, &[]).await.unwrap().get(0);
    for token in [&old, &new] {
        let secret = token.caller.token();
        assert!(!list.contains(secret) && !rows.contains(secret));
    }
    assert_eq!(events(&app, acme.id, "token.rotate").await, 1);
    app.clock.advance(time::Duration::minutes(10) + time::Duration::SECOND);
    assert_problem(&old.caller.get(MEMBERS).await, 401, "unauthenticated");
    assert_eq!(new.caller.get(MEMBERS).await.status, 200);
    // A revocation ends both.
    let newest = made(&app, &root.post(&new.path("rotate"), &json!({})).await);
    assert_eq!(new.caller.get(MEMBERS).await.status, 200);
    assert_eq!(root.post(&new.path("revoke"), &json!({})).await.status, 200);
    for token in [&new, &newest] {
        assert_problem(&token.caller.get(MEMBERS).await, 401, "unauthenticated");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overlap_is_the_settings_unless_the_request_names_one() {
    let app =
        TestApp::builder().with_stopped_clock().with("tokens.rotation_overlap", "2h").spawn().await;
    let acme = app.set_up("acme").await;
    let root = app.root();
    let first = make_token(&app, &root, &["VIEW_USERS"], Some(acme.id)).await;
    let before = app.clock.now();
    let second = made(&app, &root.post(&first.path("rotate"), &json!({})).await);
    let until = second.body["previous_until"].as_str().unwrap();
    let until = OffsetDateTime::parse(until, &Rfc3339).unwrap();
    assert!((until - before - time::Duration::hours(2)).abs() < time::Duration::SECOND, "{until}");
    // Only one old secret is kept: a second rotation ends the first one.
    let third = made(&app, &root.post(&first.path("rotate"), &json!({})).await);
    assert_problem(&first.caller.get(MEMBERS).await, 401, "unauthenticated");
    for token in [&second, &third] {
        assert_eq!(token.caller.get(MEMBERS).await.status, 200);
    }
    // After a leak the old one ends at once. No body is as good as an empty one.
    let fourth = made(&app, &root.post(&first.path("rotate"), &json!({ "overlap": "0s" })).await);
    assert_eq!(fourth.body["previous_until"], Value::Null);
    for token in [&second, &third] {
        assert_problem(&token.caller.get(MEMBERS).await, 401, "unauthenticated");
    }
    let request = root.request(reqwest::Method::POST, &first.path("rotate"));
    let fifth = made(&app, &crate::support::callers::send(request).await);
    for token in [&fourth, &fifth] {
        assert_eq!(token.caller.get(MEMBERS).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_rotation_is_refused_and_changes_nothing() {
    let app = TestApp::builder().with("tokens.max_lifetime", "90d").spawn().await;
    let acme = app.set_up("acme").await;
    let root = app.root();
    let token = make_token(&app, &root, &["VIEW_USERS"], Some(acme.id)).await;
    let revoked = make_token(&app, &root, &["VIEW_USERS"], Some(acme.id)).await;
    assert_eq!(root.post(&revoked.path("revoke"), &json!({})).await.status, 200);
    app.services.audit.seal(&app.operator()).await.expect("the operator may");
    let before = Snapshot::of(&app).await;
    let late = text(app.clock.now() + time::Duration::days(91));
    for (body, problems) in [
        (
            json!({ "overlap": "soon", "expires_at": "soon", "secret": "x" }),
            vec!["/overlap: lifetime", "/expires_at: timestamp", "/secret: unknown_field"],
        ),
        (json!({ "overlap": 5 }), vec!["/overlap: wrong_type"]),
        (json!({ "overlap": "-5s" }), vec!["/overlap: lifetime"]),
        (json!({ "overlap": "31d" }), vec!["/overlap: beyond_limit"]),
        (json!({ "overlap": "500000000000y" }), vec!["/overlap: beyond_limit"]),
        (json!({ "expires_at": "2001-01-01T00:00:00Z" }), vec!["/expires_at: in_the_past"]),
        (json!({ "expires_at": late }), vec!["/expires_at: beyond_limit"]),
    ] {
        let answer = root.post(&token.path("rotate"), &body).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), problems, "{body}");
    }
    assert_problem(&root.post(&revoked.path("rotate"), &json!({})).await, 409, "token_ended");
    for id in ["x", "660e8400-e29b-41d4-a716-446655440000"] {
        let answer = root.post(&format!("{TOKENS}/{id}/rotate"), &json!({})).await;
        assert_problem(&answer, 404, "token_not_found");
    }
    assert_eq!(Snapshot::of(&app).await, before);
    assert_eq!(token.caller.get(MEMBERS).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_extends_no_life_beyond_that_of_the_caller() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let end = (app.clock.now() + time::Duration::HOUR).replace_nanosecond(0).unwrap();
    let later = end + time::Duration::DAY;
    let body = json!({ "name": "x", "permissions": ["MANAGE_API_KEYS"], "tenant_id": acme.id, "expires_at": text(end) });
    let token = made(&app, &admin.post(TOKENS, &body).await);
    let child = make_token(&app, &token.caller, &["MANAGE_API_KEYS"], Some(acme.id)).await;
    let extension = json!({ "expires_at": text(later) });
    for (caller, which) in [(&token, &token), (&token, &child), (&child, &child)] {
        let refused = caller.caller.post(&which.path("rotate"), &extension).await;
        assert_problem(&refused, 400, "invalid");
        assert_eq!(pointers(&refused), ["/expires_at: beyond_parent"]);
    }
    // Without an end it keeps the one that it has.
    let same = made(&app, &token.caller.post(&token.path("rotate"), &json!({})).await);
    assert_eq!(same.body["expires_at"], token.body["expires_at"]);
    // Its user may extend it, and what it made no further than it.
    let refused = admin.post(&child.path("rotate"), &extension).await;
    assert_eq!(pointers(&refused), ["/expires_at: beyond_parent"]);
    let extended = made(&app, &admin.post(&token.path("rotate"), &extension).await);
    app.clock.advance(time::Duration::hours(2));
    assert_eq!(extended.caller.get(TOKENS).await.status, 200);
    assert_problem(&child.caller.get(TOKENS).await, 401, "unauthenticated");
    let ended = extended.caller.post(&child.path("rotate"), &extension).await;
    assert_problem(&ended, 409, "token_ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_is_rotated_by_the_control_api_in_its_own_form() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let key = make_key(&admin, acme.id, &["MANAGE_API_KEYS", "VIEW_USERS"]).await;
    let path = format!("{TOKENS}/{}/rotate", id_of(&key));
    let answer = admin.post(&path, &json!({})).await;
    let secret = made(&app, &answer).caller.token().to_owned();
    assert!(secret.starts_with("rtn_sk_") && secret.len() == "rtn_sk_".len() + 49, "{secret}");
    assert_eq!(answer.body["kind"], "api_key");
    for secret in [&plaintext(&key), &secret] {
        assert_eq!(app.keyed(secret).get("/api/user/tenant-users").await.status, 200);
    }
    let listed = get_in(&admin, acme.id, "/api/api-keys").await;
    assert_eq!(listed.body[0]["keyPrefix"], secret[..15]);
    assert_eq!(listed.body[0]["id"], key.body["id"]);
    // A key may replace its own secret, and makes no other credential.
    let own = app.keyed(&secret).post(&path, &json!({ "overlap": "0" })).await;
    let newest = made(&app, &own).caller.token().to_owned();
    app.keyed(&secret).get("/api/user/tenant-users").await.refusal(401);
    assert_eq!(app.keyed(&newest).get("/api/user/tenant-users").await.status, 200);
    assert_eq!(events(&app, acme.id, "api_key.rotate").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_xtokens_of_a_tenant_and_of_a_person_are_rotated_as_uuids() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "ada@example.com" })).await;
    let person = tenant.admin.about("XTokenCreateForUser", "email", "ada@example.com").await;
    let person = tenant.admin.with_token(person.ok()["xtoken"].as_str().unwrap());
    for (kind, old) in [("xtoken", &tenant.admin), ("person", &person)] {
        let ids = listed(&app.root(), &format!("&kind={kind}")).await;
        let path = format!("{TOKENS}/{}/rotate", ids[0]);
        let answer = app.root().post(&path, &json!({ "overlap": "1m" })).await;
        assert_eq!((answer.status, &answer.body["kind"]), (200, &json!(kind)), "{answer:?}");
        let secret = answer.body["token"].as_str().unwrap();
        assert!(uuid::Uuid::try_parse(secret).is_ok(), "{secret}");
        let new = old.with_token(secret);
        for caller in [old, &new] {
            caller.get("ada@example.com").await.ok();
        }
        app.clock.advance(time::Duration::minutes(1) + time::Duration::SECOND);
        assert_eq!(old.get("ada@example.com").await.error(403), "Access denied");
        new.get("ada@example.com").await.ok();
    }
}

/// Rotates tokens while two servers answer requests with them. Each client changes over to a new secret some time after
/// the rotation, well within the overlap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_on_two_servers_under_load_refuses_no_request() {
    let app = TestApp::spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let token = make_token(&app, &admin, &["VIEW_USERS"], Some(acme.id)).await;
    let key = make_key(&admin, acme.id, &["VIEW_USERS"]).await;
    let secrets = [token.caller.token().to_owned(), plaintext(&key)];
    let secrets = Arc::new(Mutex::new(secrets));
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for number in 0..6 {
        let kind = usize::from(number % 2 == 1);
        let address = if number % 3 == 0 { &app } else { &second }.address.clone();
        let (secrets, stop, answered) =
            (Arc::clone(&secrets), Arc::clone(&stop), Arc::clone(&answered));
        clients.push(tokio::spawn(async move {
            let mut refused = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let secret = secrets.lock().unwrap()[kind].clone();
                let caller = match kind {
                    0 => Caller::new(&address, Some(&secret)),
                    _ => Caller::keyed(&address, &secret),
                };
                // Several requests with one secret, so that it is in use while it is replaced.
                for _ in 0..5 {
                    let answer = caller.get("/api/tenant/mine").await;
                    if answer.status != 200 {
                        refused.push(format!("{}: {}", answer.status, answer.text));
                    }
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            }
            refused
        }));
    }
    for round in 0..8 {
        let (rotator, kind) = if round % 2 == 0 { (&app, 0) } else { (&second, 1) };
        let id = if kind == 0 { token.id } else { id_of(&key) };
        let path = format!("{TOKENS}/{id}/rotate");
        let answer = rotator.bearer(admin.token()).post(&path, &json!({ "overlap": "5m" })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let secret = answer.body["token"].as_str().expect("a new secret").to_owned();
        secrets.lock().unwrap()[kind] = secret;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        assert_eq!(client.await.expect("a client ends"), Vec::<String>::new());
    }
    assert!(answered.load(Ordering::SeqCst) > 50, "there was load");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistyped_token_is_refused_without_a_look_up() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let token = make_token(&app, &admin, &["VIEW_USERS"], Some(acme.id)).await;
    let key = plaintext(&make_key(&admin, acme.id, &["VIEW_USERS"]).await);
    // A request that looks into the table waits for this lock.
    let mut sql = app.sql().await;
    let held = sql.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let typo = |secret: &str| {
        let (start, last) = secret.split_at(secret.len() - 1);
        format!("{start}{}", if last == "x" { "y" } else { "x" })
    };
    let mistyped = app.bearer(&typo(token.caller.token())).get(MEMBERS).await;
    assert_problem(&mistyped, 401, "unauthenticated");
    assert_problem(&app.keyed(&typo(&key)).get(MEMBERS).await, 401, "unauthenticated");
    for caller in [&token.caller, &app.keyed(&key)] {
        let waits = tokio::time::timeout(Duration::from_millis(300), caller.get(MEMBERS)).await;
        assert!(waits.is_err(), "a right one is looked up: {waits:?}");
    }
    held.rollback().await.unwrap();
    assert_eq!(token.caller.get(MEMBERS).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_from_before_the_checksum_stays_good() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let sql = app.sql().await;
    for (kind, prefix) in [("token", "rh_"), ("api_key", "rtn_sk_")] {
        let secret = format!("{prefix}-_{}", "z".repeat(41));
        let digest = <sha2::Sha256 as sha2::Digest>::digest(secret.as_bytes()).to_vec();
        sql.execute(
            "INSERT INTO tokens (id, digest, hint, name, kind, permissions, tenant_id, created_by, created_at)
             VALUES ($1, $2, 'rh_-_…', 'old', $3, ARRAY['VIEW_USERS'], $4, 'root', now())",
            &[&uuid::Uuid::new_v4(), &digest, &kind, &acme.id],
        )
        .await
        .unwrap();
        let caller = if kind == "token" { app.bearer(&secret) } else { app.keyed(&secret) };
        assert_eq!(caller.get(MEMBERS).await.status, 200, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_rotates_a_token_and_prints_the_new_one_alone() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let create = ["token", "create", "--name", "ci", "--permission", "CREATE_TENANT", "--json"];
    let token = program.run(&create).expect(0).json();
    let id = token["id"].as_str().unwrap();
    let app = TestApp::builder().on(database.clone()).spawn().await;
    let ran = program.run(&["token", "rotate", id, "--overlap", "0", "--expires", "30d"]).expect(0);
    let secret = ran.stdout.strip_suffix('\n').unwrap();
    assert!(secret.starts_with("rh_") && !secret.contains('\n'), "{ran:?}");
    assert!(!ran.stderr.contains(secret) && ran.stderr.contains(id), "{ran:?}");
    let body = TestApp::setup_body("acme");
    let old = app.bearer(token["token"].as_str().unwrap());
    assert_eq!(old.post("/api/tenant/setup", &body).await.status, 401);
    assert_eq!(app.bearer(secret).post("/api/tenant/setup", &body).await.status, 201);
    let again = program.run(&["token", "rotate", id, "--json"]).expect(0).json();
    assert_eq!(again["id"], token["id"]);
    assert!(again["token"].is_string() && again["previous_until"].is_string(), "{again}");
    assert!(again["expires_at"].is_string(), "{again}");
    let list = program.run(&["token", "list", "--kind", "token", "--json"]).expect(0).json();
    assert!(list[0]["rotated_at"].is_string() && list[0]["token"].is_null(), "{list}");
    let none = program.run(&["token", "list", "--kind", "person", "--json"]).expect(0).json();
    assert_eq!(none, json!([]));
    program.run(&["token", "list", "--kind", "root"]).expect(2);
    let ran = program.run(&["token", "rotate", id, "--overlap", "31d"]).expect(2);
    assert!(ran.stderr.contains("--overlap must be at most 30 days"), "{ran:?}");
    program.run(&["token", "rotate", "660e8400-e29b-41d4-a716-446655440000"]).expect(4);
    program.run(&["token", "revoke", id]).expect(0);
    let ran = program.run(&["token", "rotate", id]).expect(5);
    assert!(ran.stderr.contains("the token has ended"), "{ran:?}");
}
