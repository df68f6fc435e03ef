//! What the tables hold of a key, and the secret that is not in them.

use std::os::unix::fs::PermissionsExt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{EMAIL, JWKS, call, decrypt, kid_of, log_in, store_in_clear};
use crate::support::{Program, SECRET_KEY, TestApp, TestDatabase};

/// Returns all that the owner can read in the control plane's tables: the values of all binary columns, and each row
/// as a text.
async fn all_tables(sql: &tokio_postgres::Client) -> (Vec<Vec<u8>>, Vec<String>) {
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
    let (mut binary, mut text) = (Vec::new(), Vec::new());
    for table in sql.query(tables, &[]).await.expect("the tables can be read") {
        let table: String = table.get(0);
        let columns = format!(
            "SELECT column_name::text AS name FROM information_schema.columns
              WHERE table_schema = 'public' AND table_name = '{table}' AND data_type = 'bytea'"
        );
        for column in sql.query(&columns, &[]).await.expect("the tables can be read") {
            let column: String = column.get("name");
            let values = format!("SELECT {column} FROM public.{table} WHERE {column} IS NOT NULL");
            let rows = sql.query(&values, &[]).await.expect("the tables can be read");
            binary.extend(rows.iter().map(|row| row.get::<_, Vec<u8>>(0)));
        }
        let rows = format!("SELECT t::text AS row FROM public.{table} t");
        let rows = sql.query(&rows, &[]).await.expect("the tables can be read");
        text.extend(rows.iter().map(|row| row.get::<_, String>("row")));
    }
    (binary, text)
}

/// Returns whether any 32 bytes in a row are the seed of the key with this public half.
fn holds_the_seed_of(public: &[u8], bytes: &[u8]) -> bool {
    bytes.windows(32).any(|seed| {
        Ed25519KeyPair::from_seed_unchecked(seed)
            .is_ok_and(|pair| pair.public_key().as_ref() == public)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_all_tables_is_not_enough_to_sign() {
    let app = TestApp::spawn().await;
    let set = app.anonymous().get(JWKS).await;
    let public = URL_SAFE_NO_PAD.decode(set.body["keys"][0]["x"].as_str().unwrap()).unwrap();
    let sql = app.sql().await;
    let (binary, text) = all_tables(&sql).await;
    assert!(!binary.iter().any(|bytes| holds_the_seed_of(&public, bytes)));
    assert!(!text.iter().any(|row| row.contains(SECRET_KEY)));
    // The same search finds a key that is stored in clear, as earlier versions did.
    store_in_clear(&sql).await;
    let (binary, _) = all_tables(&sql).await;
    assert!(binary.iter().any(|bytes| holds_the_seed_of(&public, bytes)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_an_earlier_version_stored_in_clear_is_encrypted_at_start_and_keeps_signing() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let before = log_in(&app).await;
    let sql = app.sql().await;
    let (kid, private) = store_in_clear(&sql).await;
    let restarted = TestApp::builder().on(app.stop().await).spawn().await;
    assert_eq!(call(&restarted, before.token()).await.status, 200);
    assert_eq!(kid_of(log_in(&restarted).await.token()), kid);
    let row = sql.query_one("SELECT private_key, wrapped_by FROM signing_keys", &[]).await.unwrap();
    let stored: Vec<u8> = row.get("private_key");
    assert!(row.get::<_, Option<String>>("wrapped_by").is_some());
    assert!(!stored.windows(8).any(|part| private.windows(8).any(|clear| clear == part)));
    assert_eq!(secrecy::ExposeSecret::expose_secret(&decrypt(&kid, &stored).unwrap()), private);
    let events = "SELECT details::text FROM audit_events WHERE action = 'signing_key.wrap'";
    let events = sql.query(events, &[]).await.unwrap();
    assert_eq!(events.len(), 1);
    assert!(events[0].get::<_, String>(0).contains(&kid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_creates_the_secret_key_in_a_file_that_only_its_owner_can_read() {
    let database = TestDatabase::create_empty().await;
    let program = Program::embedded().with("DATABASE_URL", &database.url());
    let server = program.serve(&[]);
    let file = program.folder().join("secret-key");
    let secret = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let notice = server.stderr_with("curl");
    assert!(notice.contains("secret-key") && !notice.contains(secret.trim()), "{notice}");
    server.stop("TERM").expect(0);
    let again = program.serve(&[]).stop("TERM").expect(0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), secret);
    assert!(!again.stderr.contains("secret-key"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_the_secret_key_of_the_others_refuses_to_start_and_says_what_to_do() {
    let database = TestDatabase::create_empty().await;
    let first = Program::embedded().with("DATABASE_URL", &database.url());
    first.serve(&[]).stop("TERM").expect(0);
    let second = Program::embedded().with("DATABASE_URL", &database.url());
    let refused = second.run(&["serve"]).expect(1);
    let file = second.folder().join("secret-key");
    let place = file.display().to_string();
    for part in ["ROWHOUSE_SECRET_KEY", "ROWHOUSE_SECRET_KEY_FILE", &place, "rowhouse key retire"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    assert!(!file.exists(), "a secret key was created");
    // With the wrong one it says so.
    let wrong = "hunter22 hunter22 hunter22 hunter22";
    let other = second.with("ROWHOUSE_SECRET_KEY", wrong);
    let refused = other.run(&["serve"]).expect(1);
    assert!(refused.stderr.contains("another secret key"), "{refused:?}");
    assert!(!refused.stderr.contains("hunter22"), "{refused:?}");
    // Other commands need none.
    other.run(&["tenant", "list"]).expect(0);
    // With a copy of the file it starts.
    std::fs::copy(first.folder().join("secret-key"), &file).unwrap();
    let other = other.with("ROWHOUSE_SECRET_KEY", "");
    other.serve(&[]).stop("TERM").expect(0);
    std::fs::remove_file(&file).unwrap();
    let mounted = first.folder().join("secret-key").display().to_string();
    other.with("ROWHOUSE_SECRET_KEY_FILE", &mounted).serve(&[]).stop("TERM").expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_secret_key_costs_the_access_tokens_and_not_the_users() {
    let database = TestDatabase::create_empty().await;
    let program = Program::embedded().with("DATABASE_URL", &database.url());
    program.serve(&[]).stop("TERM").expect(0);
    std::fs::remove_file(program.folder().join("secret-key")).unwrap();
    program.run(&["serve"]).expect(1);
    let keys = program.run(&["key", "list", "--json"]).expect(0).json();
    let kid = keys[0]["kid"].as_str().unwrap();
    let said = program.run(&["key", "retire", kid, "--now"]).expect(0).stderr;
    assert!(said.contains("no key is left"), "{said}");
    program.serve(&[]).stop("TERM").expect(0);
    assert!(program.folder().join("secret-key").exists());
    let keys = program.run(&["key", "list", "--json"]).expect(0).json();
    let states: Vec<_> = keys.as_array().unwrap().iter().map(|key| &key["state"]).collect();
    assert_eq!(states, ["ended", "signing"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_changed_in_the_database_is_refused_at_start_by_its_id() {
    let app = TestApp::spawn().await;
    let sql = app.sql().await;
    let change = "UPDATE signing_keys SET private_key = set_byte(private_key, 20, get_byte(private_key, 20) # 1)
                   RETURNING kid";
    let kid: String = sql.query_one(change, &[]).await.unwrap().get("kid");
    let refused = Program::on(&app.database).run(&["serve"]).expect(1);
    assert!(refused.stderr.contains(&kid) && refused.stderr.contains("was changed"), "{refused:?}");
}
