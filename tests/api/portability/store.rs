//! Exports that the server keeps: made in the background, fetched from the store, removed when they are not needed.

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use uuid::Uuid;

use super::fixture::{SMALL, command, csv, import, run, value};
use crate::support::control::assert_problem;
use crate::support::scoped::add_member;
use crate::support::{Answer, Caller, TestApp, TestAppBuilder};

const ARCHIVES: &str = "/control/v1/archives";

const EXPORTS: &str = "/control/v1/tenants/acme/archives";

/// Returns a server with a store of its own, which is not started yet.
pub fn with_store(files: &TempDir, more: &[(&'static str, &str)]) -> TestAppBuilder {
    let text = |path: &Path| path.display().to_string();
    let mut builder = TestApp::builder()
        .with("tenant_migrations", text(&files.path().join("migrations")))
        .with("archives.store", text(&files.path().join("archives")));
    for (key, value) in more {
        builder = builder.with(key, *value);
    }
    builder
}

/// Returns a folder with migrations.
pub fn files() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    super::fixture::write(&folder.path().join("migrations"), &SMALL);
    folder
}

/// Returns the names of the files in the store.
pub fn stored(files: &TempDir) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(files.path().join("archives")) else { return Vec::new() };
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect()
}

/// Waits until an archive or an import runs no longer, and returns it.
pub async fn ended(caller: &Caller, path: &str) -> Value {
    loop {
        let found = caller.get(path).await;
        assert_eq!(found.status, 200, "{found:?}");
        if found.body["state"] != "running" {
            return found.body;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn path_of(answer: &Answer) -> String {
    format!("{ARCHIVES}/{}", answer.body["id"].as_str().expect("an id"))
}

/// Exports a tenant to the store, and returns the path of its archive and the archive.
pub async fn exported(caller: &Caller) -> (String, Value) {
    let begun = caller.post(EXPORTS, &json!({})).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let path = path_of(&begun);
    assert_eq!(begun.header("location"), Some(path.as_str()));
    let archive = ended(caller, &path).await;
    assert_eq!(archive["state"], "ready", "{archive}");
    (path, archive)
}

pub async fn fetch(caller: &Caller, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = caller.request(Method::GET, &format!("{path}/content"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("it answers")
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn an_export_is_made_in_the_background_and_fetched_whole_or_in_ranges() {
    let files = files();
    let app = with_store(&files, &[]).spawn().await;
    app.set_up("acme").await;
    let root = app.root();
    let again = || root.request(Method::POST, EXPORTS).header("idempotency-key", "k").send();
    let first: Value = again().await.unwrap().json().await.unwrap();
    let path = format!("{ARCHIVES}/{}", first["id"].as_str().unwrap());
    let archive = ended(&root, &path).await;
    let second = again().await.unwrap();
    assert_eq!(header(&second, "idempotent-replayed"), "true");
    assert_eq!(second.json::<Value>().await.unwrap()["id"], first["id"]);
    assert_eq!((&archive["state"], &archive["kind"]), (&json!("ready"), &json!("export")));
    assert_eq!((&archive["slug"], &archive["trusted"]), (&json!("acme"), &json!(true)));
    assert_eq!(
        (&archive["progress"]["tables"], &archive["progress"]["rows"]),
        (&json!(1), &json!(1))
    );
    assert!(archive["keep_until"].is_string(), "{archive}");
    // The whole, also to a client that would take it compressed.
    let whole = fetch(&root, &path, &[("accept-encoding", "gzip")]).await;
    let sha256 = archive["sha256"].as_str().unwrap();
    let tag = format!("\"{sha256}\"");
    assert_eq!((whole.status().as_u16(), header(&whole, "etag")), (200, tag.as_str()));
    assert_eq!(header(&whole, "content-type"), "application/x-tar");
    assert_eq!(header(&whole, "content-length"), archive["bytes"].to_string());
    assert_eq!(header(&whole, "content-disposition"), "attachment; filename=\"acme.rowhouse.tar\"");
    use base64::Engine as _;
    let digest = base64::engine::general_purpose::STANDARD.encode(hex::decode(sha256).unwrap());
    assert_eq!(header(&whole, "repr-digest"), format!("sha-256=:{digest}:"));
    let bytes = whole.bytes().await.unwrap();
    use sha2::Digest as _;
    assert_eq!(hex::encode(sha2::Sha256::digest(&bytes)), sha256);
    // Ranges, as a download asks for them that goes on.
    let rest = fetch(&root, &path, &[("range", "bytes=700-"), ("if-range", &tag)]).await;
    assert_eq!((rest.status().as_u16(), header(&rest, "etag")), (206, tag.as_str()));
    let range = format!("bytes 700-{}/{}", bytes.len() - 1, bytes.len());
    assert_eq!(header(&rest, "content-range"), range);
    assert_eq!(rest.bytes().await.unwrap(), bytes[700..]);
    let other = fetch(&root, &path, &[("range", "bytes=700-"), ("if-range", "\"other\"")]).await;
    assert_eq!((other.status().as_u16(), other.bytes().await.unwrap()), (200, bytes.clone()));
    let behind = fetch(&root, &path, &[("range", "bytes=99999999-")]).await;
    assert_eq!(behind.status(), 416);
    assert_eq!(header(&behind, "content-range"), format!("bytes */{}", bytes.len()));
    let known = fetch(&root, &path, &[("if-none-match", &tag)]).await;
    assert_eq!(known.status(), 304);
    // It is an archive like any other.
    assert!(csv(&bytes, "notes").contains("a seed"));
    import(&app, &command("copy"), &bytes).await.expect("it is imported");
    // The disk has one file, under its final name, and the audit trail has every step.
    assert_eq!(stored(&files), [format!("{}.rowhouse.tar", first["id"].as_str().unwrap())]);
    let deleted = crate::support::callers::send(root.request(Method::DELETE, &path)).await;
    assert_eq!(deleted.status, 204, "{deleted:?}");
    assert_problem(&root.get(&path).await, 404, "archive_not_found");
    assert_eq!(stored(&files), Vec::<String>::new());
    let sql = app.sql().await;
    let steps = "SELECT string_agg(action, ' ' ORDER BY write_order) FROM audit_events
                  WHERE details->>'manifest_sha256' IS NOT NULL AND tenant_id IS NOT NULL AND action <> 'tenant.import'";
    let fetches = "archive.fetch archive.fetch archive.fetch";
    assert_eq!(value(&sql, steps).await, format!("tenant.export {fetches} archive.delete"));
}

#[tokio::test]
async fn an_admin_sees_the_exports_of_the_own_tenant_and_nothing_else() {
    let files = files();
    let app = with_store(&files, &[]).spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let (root, admin) = (app.root(), app.log_in(&acme.admin_email).await);
    let stranger = app.log_in(&other.admin_email).await;
    let (path, archive) = exported(&admin).await;
    assert_problem(&stranger.post(EXPORTS, &json!({})).await, 404, "tenant_not_found");
    assert_eq!(fetch(&admin, &path, &[]).await.status(), 200);
    for wrong in [path.clone(), format!("{path}/content")] {
        assert_problem(&stranger.get(&wrong).await, 404, "archive_not_found");
    }
    // What is no export of theirs is not there for them, whatever tenant it says.
    let upload = fetch(&root, &path, &[]).await.bytes().await.unwrap();
    let uploaded = root.request(Method::POST, ARCHIVES).body(upload).send().await.unwrap();
    assert_eq!(uploaded.status(), 201);
    let listed = |answer: Answer| answer.body["data"].as_array().expect("a list").len();
    assert_eq!(listed(root.get(ARCHIVES).await), 2);
    assert_eq!(
        listed(root.get(&format!("{ARCHIVES}?kind=export&state=ready&tenant=acme")).await),
        1
    );
    assert_eq!(listed(root.get(&format!("{ARCHIVES}?state=failed")).await), 0);
    let own = admin.get(ARCHIVES).await;
    assert_eq!(own.body["data"], json!([archive]), "{own:?}");
    assert_eq!(listed(stranger.get(ARCHIVES).await), 0);
    let upload: Value = uploaded.json().await.unwrap();
    let upload = format!("{ARCHIVES}/{}", upload["id"].as_str().unwrap());
    assert_problem(&admin.get(&upload).await, 404, "archive_not_found");
    assert_problem(&admin.post(&format!("{path}/cancel"), &json!({})).await, 403, "forbidden");
    assert_problem(&admin.post(ARCHIVES, &json!({})).await, 403, "forbidden");
    add_member(&app, &acme, "bo@example.com", "FDE").await;
    let member = app.log_in("bo@example.com").await;
    for wrong in [ARCHIVES, &path, &format!("{path}/content")] {
        assert_problem(&member.get(wrong).await, 403, "forbidden");
    }
    let rights = format!(
        "SELECT concat_ws(' ', has_table_privilege('rowhouse_runtime', 'archives', 'SELECT'),
                has_table_privilege('{}', 'archives', 'SELECT'))",
        acme.schema()
    );
    assert_eq!(value(&app.sql().await, &rights).await, "f f");
}

#[tokio::test]
async fn a_slow_reader_of_an_archive_holds_no_snapshot() {
    let files = files();
    let app = with_store(&files, &[]).spawn().await;
    let acme = app.set_up("acme").await;
    let sql = app.sql().await;
    // Twice as much as the sockets take, and it does not compress well.
    let rows = "SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 25000) n, generate_series(1, 30) row GROUP BY row";
    run(&sql, &format!("INSERT INTO {}.notes (body) {rows}", acme.schema())).await;
    let root = app.root();
    let (path, archive) = exported(&root).await;
    let size = archive["bytes"].as_u64().unwrap();
    assert!(size > 10 << 20, "{size}");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = app.address.strip_prefix("http://").unwrap().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let (host, token) = (&app.address["http://".len()..], root.token());
    let request = format!(
        "GET {path}/content HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 1024];
    stream.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&first));
    // No session of the server has a snapshot, nor a transaction, while the answer is on its way.
    let open = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database()
                   AND pid <> pg_backend_pid() AND (backend_xmin IS NOT NULL OR state LIKE 'idle in%')";
    while value(&sql, open).await != "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(first.len() as u64 + rest.len() as u64 > size, "the answer broke off");
}

#[tokio::test]
async fn an_export_that_is_cancelled_or_whose_server_stops_or_is_gone_leaves_nothing() {
    let files = files();
    let app = with_store(&files, &[("database.lock_timeout", "30s")]).spawn().await;
    let acme = app.set_up("acme").await;
    let (root, mut sql) = (app.root(), app.sql().await);
    // One whose server was killed: its draft, and a file that has its name and no archive that is ready.
    let gone = Uuid::now_v7();
    sql.execute(
        "INSERT INTO archives (id, kind, state, tenant_id, slug, actor, request_id, lease_until, created_at)
         VALUES ($1, 'export', 'running', $2, 'acme', 'root', 'x', now(), now())",
        &[&gone, &acme.id],
    )
    .await
    .unwrap();
    let folder = files.path().join("archives");
    std::fs::create_dir_all(&folder).unwrap();
    let of_another_database = format!("{}.rowhouse.tar", Uuid::now_v7());
    for name in [
        format!("{gone}.rowhouse.tar"),
        format!("{gone}.rowhouse.tar.part"),
        of_another_database.clone(),
    ] {
        std::fs::write(folder.join(name), "half").unwrap();
    }
    let path = format!("{ARCHIVES}/{gone}");
    let archive = root.get(&path).await.body;
    assert_eq!(
        (&archive["state"], &archive["error"]["code"]),
        (&json!("failed"), &json!("server_gone"))
    );
    assert_problem(&root.get(&format!("{path}/content")).await, 409, "archive_not_ready");
    let operator = app.operator();
    assert_eq!(app.services.stored_archives.sweep(&operator).await.unwrap(), 1);
    assert_eq!(stored(&files), std::slice::from_ref(&of_another_database));
    // One that waits for a lock, and is cancelled.
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute(&format!("LOCK TABLE {}.notes IN ACCESS EXCLUSIVE MODE", acme.schema()))
        .await
        .unwrap();
    let begun = root.post(EXPORTS, &json!({})).await;
    assert_eq!((begun.status, &begun.body["state"]), (202, &json!("running")), "{begun:?}");
    assert_problem(&root.post(EXPORTS, &json!({})).await, 409, "export_running");
    let running =
        crate::support::callers::send(root.request(Method::DELETE, &path_of(&begun))).await;
    assert_problem(&running, 409, "archive_not_ready");
    let cancelled = root.post(&format!("{}/cancel", path_of(&begun)), &json!({})).await;
    assert_eq!((cancelled.status, &cancelled.body["state"]), (200, &json!("cancelled")));
    // Another one can begin, and its server stops.
    let begun = root.post(EXPORTS, &json!({})).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let database = app.stop().await;
    lock.rollback().await.unwrap();
    let id: Uuid = begun.body["id"].as_str().unwrap().parse().unwrap();
    let states = "SELECT string_agg(state || coalesce(' ' || error_code, ''), ', ' ORDER BY created_at) FROM archives";
    let expected = "failed server_gone, cancelled, failed server_stopped";
    assert_eq!(value(&database.connect().await, states).await, expected, "{id}");
    assert_eq!(stored(&files), [of_another_database]);
}

#[tokio::test]
async fn an_archive_that_does_not_fit_leaves_nothing_and_an_old_export_is_removed() {
    let files = files();
    let app =
        with_store(&files, &[("archives.total_bytes", "20000")]).with_stopped_clock().spawn().await;
    app.set_up("acme").await;
    let (root, sql) = (app.root(), app.sql().await);
    let (path, _) = exported(&root).await;
    // What is stored leaves less than an archive takes.
    sql.execute("UPDATE archives SET bytes = 19000", &[]).await.unwrap();
    let begun = root.post(EXPORTS, &json!({})).await;
    let archive = ended(&root, &path_of(&begun)).await;
    assert_eq!(
        (&archive["state"], &archive["error"]["code"]),
        (&json!("failed"), &json!("insufficient_storage"))
    );
    assert_eq!(stored(&files).len(), 1);
    // It leaves nothing at all.
    sql.execute("UPDATE archives SET bytes = 20000 WHERE state = 'ready'", &[]).await.unwrap();
    assert_problem(&root.post(EXPORTS, &json!({})).await, 507, "insufficient_storage");
    assert_eq!(stored(&files).len(), 1);
    app.clock.advance(time::Duration::days(8));
    app.services.stored_archives.sweep(&app.operator()).await.unwrap();
    assert_problem(&root.get(&path).await, 404, "archive_not_found");
    assert_eq!(stored(&files), Vec::<String>::new());
    exported(&root).await;
}

#[tokio::test]
async fn the_exports_that_a_tenant_starts_itself_are_limited() {
    let files = files();
    let limit = [("limits.exports_tenant", "1/2")];
    let app = with_store(&files, &limit).with_stopped_clock().spawn().await;
    let acme = app.set_up("acme").await;
    let (root, admin) = (app.root(), app.log_in(&acme.admin_email).await);
    exported(&admin).await;
    let keyed = || {
        let request = admin.request(Method::POST, EXPORTS).header("idempotency-key", "k");
        crate::support::callers::send(request)
    };
    let second = keyed().await;
    assert_eq!(second.status, 202, "{second:?}");
    ended(&admin, &path_of(&second)).await;
    // The same answer again is no export.
    assert_eq!(keyed().await.status, 202);
    let refused = admin.post(EXPORTS, &json!({})).await;
    assert_problem(&refused, 429, "too_many");
    assert_eq!(refused.header("retry-after"), Some("60"));
    assert_eq!(app.sql().await.query("SELECT FROM archives", &[]).await.unwrap().len(), 2);
    // The platform is not limited, and time passes.
    exported(&root).await;
    app.clock.advance(time::Duration::seconds(60));
    exported(&admin).await;
}
